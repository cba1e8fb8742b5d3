"""A service calls the same things a thousand times: nothing is left behind, and what is deleted goes."""

import gc
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectors import Spots, two_spots
from engines.test_torch_threads import Encoder, clip_network
from explained import explanation, seeded
from helpers import does_not_grow
from torch import nn

import chronocam as cc
from chronocam.methods._base import METHODS

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


def detected(folder: Path) -> Callable[[], object]:
    net, photos = Spots().eval(), two_spots()
    return lambda: cc.ODAM(net).explain(photos, cc.targets.Boxes(cc.detect(net, photos)))


def masked(folder: Path) -> Callable[[], object]:
    net = seeded()
    return lambda: [cc.RISE(net, budget=8).explain(X, 1), cc.ScoreCAM(net).explain(X, 1)]


def attended(folder: Path) -> Callable[[], object]:
    net = Encoder().eval()
    return lambda: [cc.LeGrad(net).explain(X, 1), cc.AttentionRelevance(net).explain(X, 1)]


def copied(folder: Path) -> Callable[[], object]:
    net = seeded()

    def call() -> None:
        with torch.no_grad():
            net.conv1.weight.add_(1e-6)  # so that it is copied anew
        cc.GradCAM(net, fast=True).explain(X, 1)

    return call


def opened(folder: Path) -> Callable[[], object]:
    cc.media.write_image(folder / "in/a.png", np.full((96, 96), 9, np.uint8))
    cc.runs.run(str(folder / "in"), "chronocam:digits", str(folder / "out"), targets=3)

    def call() -> None:
        table = cc.runs.open(folder / "out")
        assert table[0].maps.shape[:2] == (1, 1)
        assert len(table.where("score > -1e9")) == len(table.to_pandas())

    return call


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts open files and memory as Linux does")
@pytest.mark.parametrize(
    "make", [page, picture, clip, saved, damaged, explained, detected, masked, attended, copied, opened]
)
def test_a_thousand_calls_leave_nothing_behind(
    make: Callable[[Path], Callable[[], object]], tmp_path: Path
) -> None:
    does_not_grow(make(tmp_path))


OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {"budget": 16} for name in ("rise", "lime", "kernelshap", "drise")},
    "expectedgradients": {"baseline": X},
    "extremalperturbation": {"steps": 2},
}
ATTENTION = {"rollout", "legrad", "attentionrelevance", "gradeclip", "gradientxattention"}
CLIPS = np.random.default_rng(0).random((1, 3, 6, 10, 10), np.float32)


def pooled() -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)


def network_for(name: str) -> tuple[nn.Module, Any, Any]:
    """Return what a method can explain: a network, inputs and a target."""
    if name == "temporalmask":
        return clip_network().eval(), CLIPS, 1
    if name in ("odam", "drise"):
        net, photos = Spots().eval(), two_spots()
        return net, photos, cc.targets.Boxes(cc.detect(net, photos)[:1])
    if name == "cam":
        return seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), *pooled())), X, 1
    return (Encoder().eval() if name in ATTENTION else seeded()), X, 1


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_deleted_model_is_collected_though_its_explanation_is_kept(name: str) -> None:
    net, inputs, target = network_for(name)
    kept = METHODS[name](net, **OPTIONS.get(name, {})).explain(inputs, target)
    gone = weakref.ref(net)
    del net, target
    gc.collect()
    assert gone() is None
    assert np.isfinite(kept.maps).any()


def test_a_deleted_model_is_collected_though_it_was_copied_and_judged() -> None:
    net = seeded()
    fast = cc.explain(net, X, 1, fast=True)
    result = cc.evaluate(net, X, 1, methods=["gradcam"], measures=["drop", "randomisation"])
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None
    assert fast
    assert result.lines


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
