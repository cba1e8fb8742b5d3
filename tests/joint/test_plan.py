"""What a call works out from shapes serves the next call alike; what hangs on values is done each time."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from explained import Net, X, seeded
from nets import Transformer
from torch import Tensor, nn

import chronocam as cc
from chronocam.joint.plan import Plan
from chronocam.joint.session import explain_all


def same(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-6)
    for name in ("targets", "layer", "centers", "windows", "frame_spans", "findings", "input_size", "axes"):
        assert getattr(found, name) == getattr(expected, name), name


def plans_of(method: Any) -> list[Plan]:
    return [one for one in method.session.subject.own._facts.values() if isinstance(one, Plan)]


OPTIONS: dict[str, Any] = {
    "conv_layer": "conv1",
    "labels": list("abcde"),
    "signed": True,
    "align": "receptive_field",
    "output_layer": "fc",
    "operator": lambda model, inputs, targets: model(inputs)[:, 2],
    "fast": True,
    "layout": "channels_first",
    "views": "flip",
    "batch_size": 3,
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_that_is_set_later_counts_from_the_next_call_on(name: str) -> None:
    net = seeded()
    bound = cc.GradCAM(net, "conv2")
    for _ in range(2):
        bound.explain(X, 1)
    setattr(bound, name, OPTIONS[name])
    for _ in range(2):
        same(
            bound.explain(X, 1), cc.GradCAM(net, **{"conv_layer": "conv2", name: OPTIONS[name]}).explain(X, 1)
        )


def test_an_option_that_does_not_fit_is_refused_and_the_method_stays_as_it_was() -> None:
    bound = cc.GradCAM(seeded(), "conv2")
    expected = bound.explain(X, 1)
    with pytest.raises(cc.errors.LayerError, match="no layer `conv9`"):
        bound.conv_layer = "conv9"
    assert bound.conv_layer == "conv2"
    same(bound.explain(X, 1), expected)


def test_a_model_that_is_set_later_brings_its_own_labels() -> None:
    loaded = cc.models.load("chronocam:digits")
    bound = cc.GradCAM(seeded(), labels=list("abcde"))
    bound.model = loaded
    assert bound.labels == loaded.labels
    x = torch.rand(1, 3, 96, 96)
    same(bound.explain(x, 3), cc.GradCAM(loaded).explain(x, 3))


def test_calls_alike_share_a_plan_and_others_have_their_own() -> None:
    bound = cc.GradCAM(seeded())
    for x in (X, X + 1, X.clone()):
        bound.explain(x, 1)
    assert len(plans_of(bound)) == 1
    for x, target in ((X[:2], 1), (X, None), (X, cc.targets.Contrast(1, 2)), (X[..., :12], 1)):
        bound.explain(x, target)
    assert len(plans_of(bound)) == 5
    for classes in ([0, 1, 2, 3, 4, 0, 1], [4, 4, 4, 0, 0, 0, 0]):
        bound.explain(X, np.array(classes))
    assert len(plans_of(bound)) == 6


def test_a_plan_holds_no_inputs() -> None:
    bound, x = cc.GradCAM(seeded()), X.clone()
    bound.explain(x, 1)
    gone = weakref.ref(x)
    del x
    gc.collect()
    assert len(plans_of(bound)) == 1
    assert gone() is None


class Clips(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv3d(3, 4, 3, 2, 1), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3, 4)))


class Signals(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv1d(3, 4, 3, 2, 1), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().mean(2))


class Two(Net):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return super().forward(x) + super().forward(y)


KINDS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "pictures": (Net, X),
    "clips": (Clips, torch.randn(2, 3, 6, 12, 12)),
    "signals": (Signals, torch.randn(2, 3, 24)),
    "tokens": (Transformer, X[:2]),
    "several": (Two, (X[:2], X[2:4])),
}
METHODS = ("gradcam", "layercam", "inputxgradient", "guidedgradcam", "reciprocam")


@pytest.mark.parametrize("target", [1, None, [cc.targets.Class(0), cc.targets.Contrast(1, 2)]])
@pytest.mark.parametrize("kind", KINDS)
def test_the_next_calls_explain_as_the_first(kind: str, target: Any) -> None:
    make, inputs = KINDS[kind]
    net = seeded(make)
    bound = [cc.methods.METHODS[name](net) for name in METHODS]
    first = explain_all(bound, inputs, target)
    for _ in range(2):
        for found, expected in zip(explain_all(bound, inputs, target), first, strict=True):
            same(found, expected)


def test_what_hangs_on_values_is_looked_at_in_every_call() -> None:
    net = seeded()
    bound = cc.GradCAM(net)
    broken = X.clone()
    broken[2, 0, 3, 3] = np.nan
    kinds = []
    for x in (X, X * 0, broken, X.abs() * 60, X):
        found = bound.explain(x, 1)
        same(found, cc.GradCAM(net).explain(x, 1))
        kinds.append({finding.kind for finding in found.findings})
    assert "not finite" in kinds[2]
    assert any("divide by 255" in text for text in bound.explain(X.abs() * 60, 1).diagnostics)
    assert kinds[0] == kinds[4] != kinds[2]


def hook(net: Any) -> None:
    net.conv2.register_forward_hook(lambda module, args, output: -output)


def finer(net: Any) -> None:
    net.conv2 = nn.Conv2d(6, 8, 3, padding=1)


CHANGES: dict[str, Callable[[Any], object]] = {
    "weights": lambda net: net.fc.weight.data.mul_(-2),
    "head": lambda net: setattr(net, "fc", nn.Linear(8, 5)),
    "hook": hook,
    "mode": lambda net: net.train(),
    "labels": lambda net: setattr(net, "labels", list("abcde")),
    "setting": lambda net: setattr(net.conv2, "stride", (1, 1)),
    "layer": finer,
    "precision": lambda net: net.double(),
    "forward": lambda net: setattr(net, "forward", lambda x: net.fc(net.conv2(net.conv1(x)).mean((2, 3)))),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_model_that_changed_is_met_by_the_next_call(name: str) -> None:
    net = seeded()
    bound = cc.GradCAM(net, "conv2")
    for _ in range(3):
        before = bound.explain(X, 1)
    CHANGES[name](net)
    found = bound.explain(X, 1)
    same(found, cc.GradCAM(net, "conv2").explain(X, 1))
    assert name in ("mode", "precision") or found.targets != before.targets or not _alike(found, before)


def _alike(one: Any, other: Any) -> bool:
    return one.maps.shape == other.maps.shape and np.allclose(one.maps, other.maps)
