"""The layers of the house hold, and registries are the one place that knows what there is."""

import subprocess
import sys
from pathlib import Path

from chronocam.methods import METHODS

ROOT = Path(__file__).resolve().parents[1]


def test_modules_import_only_from_lower_layers():
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "2 kept, 0 broken" in done.stdout


def test_every_method_file_registers_and_is_public():
    import chronocam as cc

    for name, method in METHODS.items():
        assert getattr(cc, method.__name__) is method
        assert name == name.lower()
        assert "Source:" in method.__doc__, f"{name} does not state its source"
