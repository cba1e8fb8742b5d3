"""Every option of `chronocam explain` against every kind of input: it fits and is used, or it is refused."""

from __future__ import annotations

import sys
from dataclasses import MISSING, fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chronocam.errors import InputError
from chronocam.lab.data.drives import export
from chronocam.media import write_clip
from chronocam.runs.options import KINDS, OPTIONS, Options
from chronocam.runs.plan import plan

FACTORY = """
import torch
from torch import nn
from chronocam.lab.models.odometry import Odometry
from chronocam.media import ClipPreprocess, Preprocess
from chronocam.models import CNNLSTM, Loaded
from chronocam.models.prompts import Prompted

FRAME = Preprocess((32, 32), None, (0.5,) * 3, (0.5,) * 3)

def pictures():
    body = nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    model = nn.Sequential(*body, *head).eval()
    model.prompted = Prompted(None, None)
    return model, FRAME, ("a", "b", "c")

def clips():
    cnn = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = CNNLSTM(cnn, 6, 3, per_step=True).eval()
    model.labels = ("a", "b", "c")
    return Loaded(model, ClipPreprocess(FRAME, 4, "time channel"), model.labels, "clips")

def features():
    loaded = clips()
    return Loaded(loaded.model, None, loaded.labels, "features")

def signals():
    head = nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3)
    model = nn.Sequential(nn.Conv1d(4, 5, 3, 2), nn.ReLU(), nn.Conv1d(5, 6, 3), *head).eval()
    model.labels = ("a", "b", "c")
    return model

def drives():
    return Odometry(0.125, 0.25).eval(), Preprocess((64, 96), None, (0.5,) * 3, (0.5,) * 3), None
"""

MODELS = {kind: "clips" if kind == "clip features" else kind for kind in KINDS}
METHODS = {"features": ("lrp", "integratedgradients"), "clip features": ("lrp", "integratedgradients")}
LAYERS = {"pictures": "0", "clips": "backbone.0", "clip features": "backbone.0", "signals": "0"}
LAYERS["drives"] = "pose.conv4"
VALUES = {
    "align": "receptive_field",
    "frames": 3,
    "start": 1.0,
    "end": 2.0,
    "pool": "frame",
    "fuse": "product",
    "views": "flip",
    "until": 0.3,
    "budget": 60,
    "passes": 7,
    "seed": 5,
    "steps": (1,),
    "epsilon": 0.5,
    "baseline": "mean",
    "intrinsics": (50.0, 50.0, 30.0, 20.0),
    "batch_size": 2,
    "min_score": 0.2,
    "prompt": "What is this?",
    "pictures": False,
    "fast": True,
    "precision": "bf16",
}

OF_METHODS = {name: {"methods": ("rise",)} for name in ("until", "budget", "seed")}
OF_METHODS["passes"] = {"methods": ("blurig",)}
OF_METHODS["prompt"] = {"targets": ("b",)}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("options")
    (folder / "option_factory.py").write_text(FACTORY)
    sys.path.insert(0, str(folder))
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / "a.png")
    np.save(folder / "a.npy", rng.normal(size=(6, 4)).astype(np.float32))
    write_clip(folder / "a.mp4", rng.integers(0, 256, (6, 32, 48, 3), dtype=np.uint8), 8)
    drive = export(folder / "kitti", 1, frames=4, size=(48, 72)) / "sequences" / "00"
    yield {
        "pictures": folder / "a.png",
        "clips": folder / "a.mp4",
        "features": folder / "a.npy",
        "clip features": folder / "a.mp4",
        "signals": folder / "a.npy",
        "drives": drive,
    }
    sys.path.remove(str(folder))
    sys.modules.pop("option_factory", None)


def planned(kind: str, path: Path, **options):
    options = {"methods": METHODS.get(kind, ()), **options}
    return plan(
        f"python:option_factory:{MODELS[kind]}", False, [str(path)], Options(out=Path("out"), **options)
    )


def value_of(name: str, kind: str):
    if name == "layers":
        return (LAYERS.get(kind, "lstm"),)
    if name == "targets":
        return ("ry",) if kind == "drives" else ("b",)
    if name == "methods":
        return ("gradientxinput",) if kind in METHODS else ("layercam",)
    return VALUES[name]


def settings(job):
    """Return everything that a job was told, as text; models differ from one loading to the next."""
    own = {field.name: getattr(job, field.name) for field in fields(job)}
    inner = own.pop("sequences", None)
    for name in ("loaded", "networks"):
        own.pop(name, None)
    return repr(own) + (settings(inner) if inner is not None else "")


def test_the_table_holds_every_option():
    assert set(OPTIONS) == {field.name for field in fields(Options)} - {"out"}
    assert all(field.default is not MISSING for field in fields(Options) if field.name != "out")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_an_option_changes_the_job_or_is_refused(inputs, kind, name):
    option, given = OPTIONS[name], {name: value_of(name, kind)}
    if kind in option.kinds:
        others = {"layers": (LAYERS[kind],) * 2} if name == "fuse" else OF_METHODS.get(name, {})
        without = planned(kind, inputs[kind], **others)
        assert settings(planned(kind, inputs[kind], **given, **others)) != settings(without)
        return
    with pytest.raises(InputError) as caught:
        planned(kind, inputs[kind], **given)
    message = str(caught.value)
    assert message.startswith(f"{option.flag} is for {option.purpose}, but ")
    assert message.endswith(f"drop {option.flag}")


def test_layers_to_fuse_are_explained_as_one(inputs):
    job = planned("pictures", inputs["pictures"], layers=("0", "2"), fuse="mean", views="flip")
    assert job.layers == [["0", "2"]]
    method = job.methods[0](job.loaded.model)
    assert (method.fuse, method.views) == ("mean", "flip")
    with pytest.raises(InputError, match="--fuse makes one map of several layers; give --layer for each"):
        planned("pictures", inputs["pictures"], layers=("0",), fuse="mean")


def test_what_the_inputs_alone_refuse_is_refused_before_the_model_is_loaded(inputs):
    with pytest.raises(InputError, match="--frames is for clips and drives"):
        plan(
            "python:option_factory:nothing",
            False,
            [str(inputs["features"])],
            Options(out=Path("o"), frames=2),
        )
    with pytest.raises(InputError, match="--epsilon is for lrp"):
        plan(
            "python:option_factory:nothing",
            False,
            [str(inputs["pictures"])],
            Options(out=Path("o"), epsilon=1),
        )
