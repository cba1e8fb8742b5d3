"""What a bare network of a Python factory is given: what it takes without an error."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import run
from PIL import Image

import chronocam as cc
from chronocam.errors import ModelError
from chronocam.media.preprocess import imagenet
from chronocam.models.recipes import clip_recipe

CODE = """
import torch
from torch import nn

class Frames(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.rnn = nn.Conv2d(3, 4, 3, 4), nn.LSTM(4, 8, batch_first=True)
        self.head = nn.Linear(8, 3)
    def forward(self, x):
        n, t = x.shape[:2]
        return self.head(self.rnn(self.conv(x.flatten(0, 1)).mean((2, 3)).view(n, t, -1))[0][:, -1])

def frames(): return Frames().train()
def solid(): return nn.Sequential(nn.Conv3d(3, 4, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2))
def eight():
    return nn.Sequential(nn.Conv3d(3, 4, (8, 3, 3), stride=8), nn.Flatten(), nn.Linear(4 * 64, 2))
def odd(): return nn.Sequential(nn.Conv3d(3, 4, 3), nn.Flatten(), nn.Linear(7, 2))
def fixed(): return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Flatten(), nn.Linear(4 * 32 * 32, 5))
def none(): return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Flatten(), nn.Linear(7, 5))
class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.rnn = nn.Conv1d(12, 6, 3, 1, 1), nn.LSTM(6, 6, batch_first=True)
        self.head = nn.Linear(6, 3)
    def forward(self, x):
        return self.head(self.conv(x.transpose(1, 2)).mean(2))
class Sequence(Steps):
    def __init__(self):
        super().__init__()
        self.conv = None
    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])

class Spectrum(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 6, 3, 1, 1), nn.Linear(6, 3)
    def forward(self, x):
        z = torch.stft(x, 64, 32, window=torch.hann_window(64), return_complex=True).abs()
        return self.head(self.conv(z[:, None]).relu().mean((2, 3)))

def spectrum(): return Spectrum()
def steps(): return Steps()
def sequence(): return Sequence()
def ecg():
    pooled = nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3)
    return nn.Sequential(nn.Conv1d(12, 6, 7, 2, 3), nn.ReLU(), *pooled)
def named(): return ecg(), None, ["sinus", "flutter"]
def whole():
    import chronocam as cc
    return cc.models.Loaded(ecg(), None, ("sinus", "flutter"))
def free(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bare_networks.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)


def recipe(name: str) -> Any:
    return cc.models.load(f"python:bare_networks:{name}").preprocess


def test_networks_of_clips_get_clips() -> None:
    solid, frames, eight = recipe("solid"), recipe("frames"), recipe("eight")
    assert (solid.frames, solid.axes, solid.frame.crop) == (16, "channel time", (112, 112))
    assert (frames.frames, frames.axes, frames.frame.crop) == (16, "time channel", (112, 112))
    assert clip_recipe(cc.models.load("python:bare_networks:frames").model) == frames
    assert (eight.frames, eight.axes, eight.frame.crop) == (8, "channel time", (64, 64))


def test_an_animation_is_a_clip_where_a_network_takes_no_picture() -> None:
    pictures = [Image.new("RGB", (40, 30), (8 * i, 0, 0)) for i in range(20)]
    pictures[0].save("moving.gif", save_all=True, append_images=pictures[1:])
    result = run("explain", "moving.gif", "--model", "python:bare_networks:frames", "--frames", "4", "--json")
    assert result.exit_code == 0
    assert [len(one["frames"]) for one in json.loads(result.stdout)["inputs"]] == [4]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("ecg", r"\* 1 +ReLU +\(1, 6, 256\) +256"),
        ("steps", r"conv +Conv1d +\(1, 6, 512\) +512"),
        ("sequence", r"rnn +LSTM +\(1, 16, 6\) +-"),  # its steps are no places
    ],
)
def test_layers_of_signals_and_sequences_are_listed(name: str, row: str) -> None:
    result = run("layers", f"python:bare_networks:{name}")
    assert result.exit_code == 0, result.stderr
    assert re.search(row, result.stdout), result.stdout


def test_a_factory_may_say_that_no_picture_is_prepared() -> None:
    loaded = cc.models.load("python:bare_networks:named")
    assert (loaded.preprocess, loaded.labels) == (None, ("sinus", "flutter"))
    assert cc.models.load("python:bare_networks:whole").labels == loaded.labels
    assert (
        run("layers", "python:bare_networks:named").stdout == run("layers", "python:bare_networks:ecg").stdout
    )


def test_a_module_without_a_function_is_told_how_to_name_one() -> None:
    with pytest.raises(
        ModelError, match=r"names a module; name the function .* python:bare_networks:FACTORY"
    ):
        cc.models.load("python:bare_networks")


def test_networks_of_pictures_get_the_size_they_take() -> None:
    assert recipe("free") == imagenet()
    assert recipe("fixed") == imagenet(64, 64)


def test_a_network_that_takes_no_usual_size_is_told_what_to_return() -> None:
    Image.new("RGB", (50, 40), "teal").save("photo.png")
    result = run("explain", "photo.png", "--model", "python:bare_networks:none")
    (line, *_) = result.stderr.splitlines()
    assert result.exit_code == 1
    assert "the model fails on inputs float32 (…, 3, 224, 224) (RuntimeError: mat1 and mat2" in line
    assert "is assumed: give --size, --axes or --channels, or return (model, Preprocess, labels)" in line


def test_what_takes_no_clip_is_told_what_to_return() -> None:
    with pytest.raises(
        ModelError, match=r"return \(model, Preprocess, labels\), of clips \(model, ClipPreprocess, labels\)"
    ):
        recipe("odd")


def test_what_takes_no_usual_clip_gets_the_size_that_is_said() -> None:
    wants = {"size": 48, "frames": 10, "axes": "cthw"}
    found = cc.models.load("python:bare_networks:odd", preprocess=wants).preprocess
    assert (found.frames, found.axes, found.frame.crop) == (10, "channel time", (48, 48))


def test_a_waveform_of_which_a_model_makes_a_spectrum_is_a_signal(tmp_path: Path) -> None:
    np.save(tmp_path / "tone.npy", np.random.default_rng(0).standard_normal(2000, np.float32))
    result = run(
        "explain",
        str(tmp_path / "tone.npy"),
        "--model",
        "python:bare_networks:spectrum",
        "--out",
        str(tmp_path),
    )
    assert result.exit_code == 0, result.stderr
    assert "has bands beside its steps" in result.stderr
    np.save(tmp_path / "volume.npy", np.zeros((1, 4, 8, 8), np.float32))
    result = run(
        "explain",
        str(tmp_path / "volume.npy"),
        "--model",
        "python:bare_networks:spectrum",
        "--out",
        str(tmp_path),
    )
    assert "explain volumes and arrays of clips in Python" in result.stderr
