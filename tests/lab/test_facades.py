"""The lab under its public names: `chronocam.data` and `chronocam.train`."""

import subprocess
import sys

import chronocam as cc


def printed(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_data_is_one_module_under_both_names() -> None:
    code = """
import sys
import chronocam.data.drives
from chronocam.data import gestures
from chronocam.data.digits import scenes
import chronocam as cc, chronocam.lab.data as lab
print(chronocam.data.drives is lab.drives, gestures is lab.gestures, scenes is lab.digits.scenes)
print(cc.data.drives.read_drive is lab.drives.read_drive, {"torch", "skimage", "sklearn"} & set(sys.modules))
"""
    assert printed(code) == "True True True\nTrue set()"


def test_training_is_there_without_a_framework() -> None:
    code = """
import sys
import chronocam.train
from chronocam.train import ImageSettings, OdometrySettings, VideoSettings
print({"torch", "lightning", "keras"} & set(sys.modules))
from chronocam.train import train_video
print(train_video.__module__)
"""
    first, second = printed(code).splitlines()
    assert first == "set()"
    assert second.startswith("chronocam.lab.train")


def test_networks_of_torch_are_reached_by_name() -> None:
    assert {name: getattr(cc.models, name).__name__ for name in cc.models.__all__} == {
        name: name for name in cc.models.__all__
    }
