"""`chronocam doctor`: what is found out about a model, and that a fault is a line and no trace."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import run
from PIL import Image

import chronocam as cc

CODE = """
import torch
from torch import nn
def net(classes=3):
    torch.manual_seed(0)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), *head)
def sick():
    model = net()
    model[0].weight.data[0, 0] = float("nan")
    return model
class Boom(nn.Module):
    def forward(self, x): raise KeyError("mask")
def boom(): return Boom()
def ecg(): return nn.Sequential(nn.Conv1d(12, 4, 7), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2))
def dense(): return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 2, 3))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ill_nets.py").write_text(CODE)
    model = cc.models.load("python:ill_nets:net").model
    torch.save(model.state_dict(), "net.pth")


def found(*words: str) -> dict[str, str]:
    result = run("doctor", *words, "--json")
    return {check["what"]: check["text"] for check in json.loads(result.stdout)}


def test_a_healthy_model_is_described() -> None:
    Image.effect_noise((50, 40), 90).convert("RGB").save("photo.png")
    Path("labels.txt").write_text("ant\nbee\ncat\n")
    Path("chronocam.json").write_text('{"size": 32, "range": "-1..1", "labels": "labels.txt"}')
    spec = "net.pth@python:ill_nets:net"
    checks = found(spec, "photo.png")
    assert checks["model"] == "Sequential on torch, 127 parameters"
    assert checks["input"].startswith("resized to 37, of which (32, 32) in the centre, rgb")
    assert "guess" not in checks
    assert checks["labels"] == "3: ant, bee, cat"
    assert "(1, 3, 32, 32), values " in checks["forward"]
    assert "→ (1, 3) in " in checks["forward"]
    loaded = cc.models.load(spec)
    x = torch.from_numpy(loaded.preprocess("photo.png"))[None]
    with torch.no_grad():
        logits = loaded.model(x)[0]
    best = int(logits.argmax())
    assert checks["photo.png"].startswith(f"{loaded.labels[best]} {float(logits[best]):.3g}")
    assert checks["default"] == "1, ReLU, 30 × 30"
    assert f"gradcam of {loaded.labels[best]} (" in checks["map"]
    assert found(spec, "photo.png", "--range=0..1")["input"].endswith("mean -0, -0, -0) / std 1, 1, 1")


def test_a_guess_and_missing_labels_are_said() -> None:
    checks = found("net.pth@python:ill_nets:net")
    assert "a guess" in checks["guess"]
    assert checks["labels"].startswith("none: give --labels FILE")


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("net.pth",), "holds weights alone, 4 tensors"),
        (("gone.onnx",), "there is no file"),
        (("python:ill_nets:sick",), "not all finite"),
        (("python:ill_nets:boom",), "KeyError: 'mask'"),
        (("net.pth@python:ill_nets:net", "gone.png"), "gone.png"),
        (("net.pth@python:ill_nets:net", "--labels", "two.txt"), "2 labels for 3 outputs"),
    ],
)
def test_a_fault_is_a_line(words: tuple[str, ...], fault: str) -> None:
    Path("two.txt").write_text("a\nb\n")
    result = run("doctor", *words)
    assert result.exit_code == 1
    lines = [line for line in result.stdout.splitlines() if line.startswith("!")]
    assert any(fault in line for line in lines)
    assert "Traceback" not in result.stdout + result.stderr


def test_outputs_without_classes_ask_for_a_target() -> None:
    result = run("doctor", "python:ill_nets:dense")
    assert result.exit_code == 0
    assert "needs a target" in result.stdout


def test_a_black_box_is_said_to_be_one() -> None:
    torch.jit.trace(cc.models.load("python:ill_nets:net").model, torch.rand(1, 3, 32, 32)).save("net.pt")
    result = run("doctor", "net.pt", "--trust")
    assert "a black box: TorchScript hides its layers" in result.stdout
    assert "choose occlusion" in result.stdout
    assert result.exit_code == 0


def test_clips_and_arrays() -> None:
    np.save("x.npy", np.random.default_rng(0).random((1, 3, 24, 24), np.float32))
    assert "(1, 3, 24, 24)" in found("net.pth@python:ill_nets:net", "x.npy")["forward"]
    checks = found("chronocam:gestures-3d")
    assert checks["input"].startswith("clips of 16 frames, axes channel time; frames resized")


def test_a_network_of_signals_is_said_to_take_signals() -> None:
    np.save("ecg.npy", np.random.default_rng(0).random((12, 60), np.float32))
    checks = found("python:ill_nets:ecg", "ecg.npy")
    assert checks["input"] == "signals (channel, time) or (time, channel), in .npy or .csv files"
    assert "guess" not in checks
