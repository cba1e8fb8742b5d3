"""Scores of changed inputs and activations as a method sees them; targets that read layers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from networks import L, conv1d, conv3d, drawn, frames_lstm, outputs, samples, transfer

import chronocam as cc
from chronocam.maps.arrays import namespace, to_numpy
from chronocam.methods._base import _METHODS, CAMMethod
from chronocam.types import Outputs, Scored, Target, TargetInfo, View


@dataclass(kw_only=True, eq=False)
class Looking(CAMMethod):
    """Hands the view to a function."""

    look: Any = None
    name: ClassVar[str] = "looking"

    def maps(self, view: View) -> Any:
        self.look(view)
        a = view.captures[0].activations
        xp = namespace(a)
        return xp.stack([xp.sum(a, axis=1)] * view.targets, axis=1)


_METHODS.pop("looking")


def scores_of(model: Any, x: Any, targets: Any, verb: str, changes: Any, **options: Any) -> np.ndarray:
    found: list[Any] = []
    look = lambda view: found.append(to_numpy(getattr(view, verb)(changes)))  # noqa: E731
    Looking(model, look=look, **options).explain(x, targets)
    return np.concatenate(found, axis=1)


def scaled(factors: list[float]) -> Any:
    """A change of activations `(batch, channel, *grid)`: a factor for each channel."""

    def change(a: Any) -> Any:
        shape = (1, -1, *[1] * (a.ndim - 2))
        weights = np.resize(np.asarray(factors, np.float32), a.shape[1]).reshape(shape)
        return a * keras.ops.convert_to_tensor(weights) if keras.backend.backend() == "torch" else a * weights

    return change


@contextmanager
def channels_scaled(model: Any, layer: str, factors: list[float]) -> Iterator[None]:
    """Let a layer itself return its channels, which are last, times factors."""
    node = model
    for name in layer.split("/"):
        node = node.layer if isinstance(node, keras.layers.TimeDistributed) else node.get_layer(name)
    call, weights = node.call, np.resize(np.asarray(factors, np.float32), int(node.filters))
    vars(node)["call"] = lambda *args, **kwargs: keras.ops.multiply(call(*args, **kwargs), weights)
    try:
        yield
    finally:
        del vars(node)["call"]


NETWORKS = [
    (transfer, "backbone/stem", (16, 16, 3)),
    (transfer, "backbone/branch", (16, 16, 3)),
    (conv1d, "conv1", (32, 4)),
    (conv3d, "conv1", (6, 12, 12, 3)),
    (frames_lstm, "frames/cnn/conv1", (4, 12, 12, 3)),
]


@pytest.mark.parametrize(("make", "layer", "shape"), NETWORKS)
def test_scores_from_a_layer_on_are_those_of_the_whole_network(make: Any, layer: str, shape: Any) -> None:
    model, x = make(), samples(shape)
    factors = [[1.0], [0.0, 1.0], [2.0, -1.0, 0.5]]
    targets = [cc.targets.Class(0), cc.targets.Counter(2)]
    changes = [scaled(one) for one in factors]
    scores = scores_of(model, x, targets, "resume", changes, conv_layer=layer, batch_size=4)
    assert scores.shape == (3, 2, 2)
    for one, found in zip(factors, scores, strict=True):
        with channels_scaled(model, layer, one):
            expected = outputs(model, x)
        both = np.stack([expected[:, 0], -expected[:, 2]], 1)
        np.testing.assert_allclose(found, both, rtol=2e-5, atol=1e-5)


def test_changed_inputs_are_scored_as_the_network_scores_them() -> None:
    model, x = transfer(), samples((16, 16, 3), 3)
    targets = np.array([3, 0, 1])
    for batch_size in (3, 8, None):
        changes = [lambda x, f=f: x * f for f in (0.0, 1.0, 2.0)]
        scores = scores_of(model, x, targets, "scores", changes, batch_size=batch_size)
        for f, one in zip((0.0, 1.0, 2.0), scores, strict=True):
            expected = outputs(model, x * f)[np.arange(3), targets]
            np.testing.assert_allclose(one[:, 0], expected, rtol=2e-5, atol=1e-5)


@dataclass(frozen=True)
class Hidden(Target):
    """The mean of what a layer returns."""

    reads: tuple[str, ...] = ("hidden",)

    def __call__(self, outputs: Outputs) -> Scored:
        values = outputs.read[self.reads[0]]
        mean = namespace(values).mean(namespace(values).reshape(values, (values.shape[0], -1)), axis=1)
        return Scored(mean[:, None], ((TargetInfo("hidden"),),) * outputs.batch)


def test_a_target_reads_what_a_layer_returned_in_every_verb() -> None:
    model, x = transfer(), samples((16, 16, 3))
    until = keras.Model(model.inputs, model.get_layer("hidden").output)
    expected = outputs(until, x).mean(1)
    found = cc.GradCAM(model, "backbone/add").explain(x, Hidden())
    np.testing.assert_allclose(found.scores[:, 0], expected, rtol=1e-5)
    assert found.maps.any()
    both = [cc.targets.Class(1), Hidden()]
    for verb in ("scores", "resume"):
        scores = scores_of(model, x, both, verb, [lambda a: a] * 2, conv_layer="backbone/add")
        np.testing.assert_allclose(scores[..., 1], [expected] * 2, rtol=1e-5)
    both = [cc.targets.Class(1), Hidden(("backbone/stem",))]
    stem = scores_of(model, x, both, "resume", [scaled([0.0])], conv_layer="backbone/add")
    backbone = model.get_layer("backbone")
    first = outputs(keras.Model(backbone.inputs, backbone.get_layer("stem").output), x)
    np.testing.assert_allclose(stem[0, :, 1], first.reshape(2, -1).mean(1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 2])
def test_ablation_is_the_rest_of_the_layers_without_each_channel(rank: int) -> None:
    conv, pool = [(L.Conv1D, L.GlobalMaxPooling1D), (L.Conv2D, L.GlobalMaxPooling2D)][rank - 1]
    first, *rest = [
        conv(5, 3, activation="tanh", name="first"),
        conv(4, 3, activation="gelu"),
        pool(),
        L.Dense(3),
    ]
    model = drawn(keras.Sequential([keras.Input((9,) * rank + (3,)), first, *rest]))
    x = samples((9,) * rank + (3,))
    a = np.asarray(to_numpy(first(x)))

    def scored(values: np.ndarray) -> np.ndarray:
        for layer in rest:
            values = layer(values)
        return np.asarray(to_numpy(values))[:, 1]

    whole, expected = scored(a), 0.0
    for channel in range(5):
        without = scored(np.where(np.arange(5) == channel, 0, a).astype(np.float32))
        fall = (whole - without) / np.abs(whole)
        expected = expected + fall.reshape(-1, *[1] * rank) * a[..., channel]
    found = cc.AblationCAM(model, "first", signed=True).explain(x, 1)
    np.testing.assert_allclose(found.maps[:, 0], expected, atol=1e-5 * np.abs(expected).max())
