"""Records are told in a line or two, whatever they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from report_samples import of_sequence

import chronocam as cc


def clip():
    return cc.media.Clip(
        np.zeros((4, 30, 40, 3), np.uint8), np.arange(4) / 8, 8.0, np.arange(4), Path("a clip.mp4")
    )


MADE = {
    "clip": clip,
    "stills": lambda: cc.media.stills(clip()),
    "detections": lambda: cc.Detections(
        (cc.Detection(0, (0.0, 0.0, 9.0, 9.0), "dog", 1, 0.5, row=7),) * 300, 2
    ),
    "loaded": lambda: cc.models.load("chronocam:digits"),
    "scenes": lambda: cc.data.digits.scenes(2, seed=0),
    "gestures": lambda: cc.data.gestures.clips(1, seed=0),
    "drive": lambda: cc.data.drives.drive(0, frames=2, size=(48, 64)),
    "settling": lambda: of_sequence().settling(),
    "horizon": lambda: of_sequence().memory_horizon(),
    "method": lambda: cc.GradCAM(cc.models.load("chronocam:digits")),
    "sequence method": lambda: cc.sequence.LRP(cc.models.CNNLSTM("resnet18", hidden=4, classes=2)),
}


@pytest.mark.parametrize("name", MADE)
def test_representations_are_short(name):
    text = repr(MADE[name]())
    assert len(text) < 500, text
    assert "\n" not in text
    assert "array(" not in text


def test_a_representation_tells_shapes_numbers_and_names():
    assert repr(clip()) == (
        "Clip(pixels=uint8 (4, 30, 40, 3), seconds=float64 (4,), rate=8.0, indices=int64 (4,), "
        "path=PosixPath('a clip.mp4'))"
    )
