"""Importing the package imports no framework, and each public name is there."""

import json
import subprocess
import sys
from typing import Any

import pytest

FRAMEWORKS = ["torch", "tensorflow", "jax", "keras"]
HEAVY = ["torchvision", "sklearn", "skimage", "transformers", "timm", "matplotlib", "safetensors", "xarray"]
LATER = [  # what takes longest to import of what is always there, and worlds that few render
    "scipy",
    "chronocam.lab.data",
    "chronocam.lab.demo",
    "chronocam.odometry",
    "chronocam.report",
    "chronocam.sequence",
]

USED = """
import chronocam as cc
try:
    cc.GradCAM(object())
except cc.errors.ModelError as error:
    assert "cannot explain an object" in str(error)
else:
    raise AssertionError("an object is no model")
explanation = cc.Explanation(
    np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1), np.float32), (), "gradcam", "layer", (4, 4)
)
explanation.upsample(), explanation.normalize(), explanation.boxes()
assert cc.targets.Contrast(0, 1).a == 0
"""

EXPLAINED = """
import chronocam as cc
from torch import nn
net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
cc.explain(net, torch.ones(1, 1, 4, 4), methods=["gradcam", "saliency"])
"""

HELP = """
from chronocam.cli import main
try:
    main(["--help"])
except SystemExit as done:
    assert not done.code
"""


def loaded_after(code: str) -> dict[str, Any]:
    """Run `code` in a fresh process; return the names of the modules loaded and the seconds of computing."""
    program = f"import json, sys, time\nstart = time.process_time()\n{code}\n"
    program += "seconds = time.process_time() - start\n"
    program += "print(json.dumps({'modules': sorted(sys.modules), 'seconds': seconds}))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import chronocam", FRAMEWORKS + HEAVY + LATER),
        ("import chronocam.metrics", FRAMEWORKS + HEAVY),
        ("import chronocam.callbacks", [*FRAMEWORKS, *HEAVY, "lightning", "tensorboard"]),
        ("import chronocam.cli", FRAMEWORKS + HEAVY + LATER),
        (HELP, FRAMEWORKS + HEAVY + [*LATER[:3], "scipy.stats", "scipy.ndimage"]),
        ("import numpy as np" + USED, FRAMEWORKS + HEAVY),
        ("import torch" + EXPLAINED, [*FRAMEWORKS[1:], *HEAVY]),
    ],
    ids=["import", "metrics", "callbacks", "command line", "help", "use without a model", "explain"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str, unwanted: list[str]) -> None:
    found = loaded_after(code)
    assert "chronocam" in found["modules"]
    assert not set(unwanted) & set(found["modules"])


def test_importing_is_quick() -> None:
    assert loaded_after("import chronocam")["seconds"] < 1.0  # of the processor; a framework takes longer
