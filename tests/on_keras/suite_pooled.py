"""Gradients in closed form: where the graph proves that only a layer's mean counts, and nowhere else."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from networks import L, drawn, samples

import chronocam as cc
from chronocam.engines.keras import compiled
from chronocam.engines.keras.pooled import Head

pytestmark = pytest.mark.skipif(keras.backend.backend() == "torch", reason="its graph begins at the layer")

Body = Callable[[Any], Any]


class Doubled(L.GlobalAveragePooling2D):
    def call(self, x: Any) -> Any:
        return 2 * super().call(x)


class Squared(L.Dense):
    def call(self, x: Any, training: Any = None) -> Any:
        return super().call(x) ** 2


def gap(x: Any) -> Any:
    return L.GlobalAveragePooling2D()(x)


def replaced(x: Any) -> Any:
    pooling = L.GlobalAveragePooling2D()
    mean = pooling.call
    y = L.Dense(5)(pooling(x))
    pooling.call = lambda x: 2 * mean(x)
    return y


CLOSED: dict[str, Body] = {
    "plain": lambda x: L.Dense(5)(gap(x)),
    "no bias": lambda x: L.Dense(5, use_bias=False)(gap(x)),
    "fused softmax": lambda x: L.Dense(5, activation="softmax")(gap(x)),
    "softmax": lambda x: keras.ops.softmax(L.Dense(5)(gap(x))),
    "sigmoid": lambda x: L.Activation("sigmoid")(L.Dense(5)(gap(x))),
    "in float32": lambda x: L.Activation("linear", dtype="float32")(L.Dense(5, activation="softmax")(gap(x))),
    "dropout": lambda x: L.Dense(5)(L.Dropout(0.5)(gap(L.GaussianNoise(1.0)(x)))),
    "kept axes": lambda x: L.Dense(5)(L.Flatten()(L.GlobalAveragePooling2D(keepdims=True)(x))),
}
OTHERS: dict[str, Body] = {
    "class of one's own": lambda x: L.Dense(5)(Doubled()(x)),
    "squared": lambda x: Squared(5)(gap(x)),
    "replaced call": replaced,
    "ReLU between": lambda x: L.Dense(5)(gap(L.ReLU(0.5)(x))),
    "ReLU after": lambda x: L.ReLU()(L.Dense(5)(gap(x))),
    "maximum": lambda x: L.Dense(5)(L.GlobalMaxPooling2D()(x)),
    "second branch": lambda x: L.Add()([L.Dense(5)(gap(x)), L.Dense(5)(L.Flatten()(x))]),
    "two softmaxes": lambda x: L.Softmax()(L.Dense(5, activation="softmax")(gap(x))),
    "norm after": lambda x: L.UnitNormalization()(L.Dense(5)(gap(x))),
    "hidden layer": lambda x: L.Dense(5)(L.Dense(7, activation="relu")(gap(x))),
}


class Differentiated(cc.targets.Class):
    picks = False


def net(body: Body) -> Any:
    inputs = keras.Input((9, 7, 3))
    return drawn(keras.Model(inputs, body(L.Conv2D(4, 3, activation="relu", name="conv")(inputs))))


def nested() -> Any:
    """Return a Sequential that ends in a head around two models, one within the other."""
    inner = net(lambda x: L.Dropout(0.1)(x))
    middle = keras.Sequential([keras.Input((9, 7, 3)), L.Rescaling(2.0), inner, L.GlobalAveragePooling2D()])
    return drawn(keras.Sequential([keras.Input((9, 7, 3)), middle, L.Dense(5, activation="softmax")]))


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each pass that has a head had gradients in closed form."""
    seen, gradients = list[bool](), Head.gradients

    def noted(head: Head, *arrays: Any) -> Any:
        found = gradients(head, *arrays)
        seen.append(found is not None)
        return found

    monkeypatch.setattr(Head, "gradients", noted)
    monkeypatch.setattr(compiled, "MANY", 0)
    return seen


@pytest.mark.parametrize("name", [*CLOSED, "nested", *OTHERS])
def test_gradients_are_those_of_a_backward_pass(name: str, closed: list[bool]) -> None:
    model = nested() if name == "nested" else net({**CLOSED, **OTHERS}[name])
    x = samples((9, 7, 3))
    method = cc.HiResCAM(model, "conv", signed=True)
    found = method.explain(x, 1)
    assert closed == [True] * (name not in OTHERS)
    expected = method.explain(x, Differentiated(1))
    scale = np.abs(expected.maps).max()
    assert scale > 0
    np.testing.assert_allclose(found.maps, expected.maps, atol=1e-5 * scale)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    assert found.diagnostics == expected.diagnostics


def test_each_sample_has_its_own_classes_and_weights_count_as_they_are(closed: list[bool]) -> None:
    model, x = net(CLOSED["fused softmax"]), samples((9, 7, 3), 3)
    classes = np.array([[4, 0], [1, 1], [2, 3]])
    gradcam = cc.GradCAM(model, "conv", signed=True)
    found = gradcam.explain(x, classes)
    every = np.concatenate([gradcam.explain(x, Differentiated(c)).maps for c in range(5)], axis=1)
    np.testing.assert_allclose(found.maps, every[np.arange(3)[:, None], classes], rtol=1e-4, atol=1e-6)
    model.layers[-1].set_weights([-2 * w for w in model.layers[-1].get_weights()])
    np.testing.assert_allclose(gradcam.explain(x, classes).maps, -2 * found.maps, rtol=1e-5)
    assert closed == [True, True]


def test_a_closed_form_is_for_many_classes(closed: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "MANY", 3)
    gradcam, x = cc.GradCAM(net(CLOSED["plain"]), "conv"), samples((9, 7, 3))
    for classes, expected in ((1, 0), ([[0, 1, 2]] * 2, 0), ([[2, 3, 4]] * 2, 1)):
        gradcam.explain(x, np.array(classes))
        assert len(closed) == expected


def test_logits_that_the_mean_does_not_give_have_no_closed_form() -> None:
    dense = L.Dense(3)
    dense.build((None, 4))
    activations, classes = samples((5, 5, 4)), np.array([[0], [2]])
    logits = activations.mean((1, 2)) @ keras.ops.convert_to_numpy(dense.kernel)
    scores = np.take_along_axis(logits, classes, 1)
    head, largest = Head(dense, (1, 2)), float(np.abs(logits).max())
    assert head.gradients(classes, scores, activations, largest) is not None
    assert head.gradients(classes, scores + 0.01 * largest, activations, largest) is None
    assert head.gradients(classes, np.full_like(scores, np.nan), activations, largest) is None
