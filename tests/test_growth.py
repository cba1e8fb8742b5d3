"""A service calls the same things a thousand times: nothing is left behind, and what is deleted goes."""

import gc
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from explained import explanation, seeded
from helpers import does_not_grow
from torch import nn

import chronocam as cc

X = np.random.default_rng(0).random((1, 3, 16, 16), np.float32)
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)


def page(folder: Path) -> Callable[[], object]:
    one = explanation(np.ones((1, 1, 4, 4)))
    return lambda: one.save(folder / "a.html", PIXELS[:1])


def picture(folder: Path) -> Callable[[], object]:
    one = explanation(np.ones((1, 1, 4, 4)))

    def call() -> None:
        cc.media.write_image(folder / "a.png", one.overlay(PIXELS[:1])[0][0])
        cc.media.read_image(folder / "a.png")

    return call


def clip(folder: Path) -> Callable[[], object]:
    cc.media.write_clip(folder / "a.gif", PIXELS, fps=10)
    one = explanation(np.ones((1, 1, 4, 4, 4)))
    return lambda: one.overlay([cc.media.read_clip(folder / "a.gif", 16)])


def saved(folder: Path) -> Callable[[], object]:
    one = explanation(np.ones((1, 1, 4, 4))).with_pictures(PIXELS[:1])
    return lambda: cc.load(one.save(folder / "a.npz"))


def damaged(folder: Path) -> Callable[[], object]:
    (folder / "a.npz").write_bytes(
        explanation(np.ones((1, 1, 4, 4))).save(folder / "b.npz").read_bytes()[:-99]
    )

    def call() -> None:
        with pytest.raises(cc.errors.MediaError):
            cc.load(folder / "a.npz")

    return call


def explained(folder: Path) -> Callable[[], object]:
    net = seeded()
    return lambda: cc.GradCAM(net, "conv2").explain(X, 1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts open files and memory as Linux does")
@pytest.mark.parametrize("make", [page, picture, clip, saved, damaged, explained])
def test_a_thousand_calls_leave_nothing_behind(
    make: Callable[[Path], Callable[[], object]], tmp_path: Path
) -> None:
    does_not_grow(make(tmp_path))


@pytest.mark.parametrize("name", ["gradcam", "layercam", "eigencam", "saliency", "smoothgrad", "shapleycam"])
def test_a_deleted_model_is_collected_though_its_explanation_is_kept(name: str) -> None:
    net = seeded()
    kept = cc.explain(net, X, 1, methods=(name,))[name]
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None
    assert np.isfinite(kept.maps).all()


def test_a_deleted_model_of_sequences_is_collected_though_its_explanation_is_kept() -> None:
    torch.manual_seed(0)
    net = nn.LSTM(4, 3, batch_first=True)
    kept = cc.sequence.LRP(net).explain(torch.rand(1, 5, 4), 0)
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None
    with pytest.raises(cc.errors.InputError):
        kept.deletion()
