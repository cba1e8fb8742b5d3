"""A Keras model run from a layer on gives what the whole model gives; scores run forward only."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from networks import L, cnn, conv3d, drawn, frames_lstm, samples, transfer

from chronocam.engines import Result, Resumed
from chronocam.engines.keras.engine import KerasEngine
from chronocam.errors import InputError, LayerError

BACKEND = keras.backend.backend()
CHANGES = 4


class Stepped(keras.Model):
    """A CNN that is called once per frame, beside the mean of the raw frames."""

    def __init__(self) -> None:
        super().__init__()
        self.eye = keras.Sequential(
            [L.Conv2D(4, 3, activation="relu", name="conv1"), L.Conv2D(5, 3, name="conv2")], name="eye"
        )
        self.pool, self.lstm, self.head = L.GlobalAveragePooling2D(), L.LSTM(6), L.Dense(3, name="head")

    def call(self, x: Any) -> Any:
        steps = [self.pool(self.eye(x[:, t])) for t in range(3)]
        raw = keras.ops.mean(x, axis=(1, 2, 3))
        return self.head(keras.ops.concatenate([self.lstm(keras.ops.stack(steps, 1)), raw], 1))


def stepped() -> Any:
    model = Stepped()
    model(np.zeros((1, 3, 9, 9, 3), np.float32))
    return drawn(model)


def transformer() -> Any:
    """Patches with positions from a table, attention with residual adds."""
    x = image = keras.Input((16, 16, 3))
    x = L.Reshape((16, 8))(L.Conv2D(8, 4, 4, name="patches")(x))
    x = x + Table(name="places")(x)
    for i in range(2):
        y = L.LayerNormalization(name=f"norm{i}")(x)
        x = L.Add(name=f"add{i}")([x, L.MultiHeadAttention(2, 4, name=f"attention{i}")(y, y)])
        x = x + L.Dense(8, activation="gelu", name=f"mlp{i}")(x)
    return drawn(keras.Model(image, L.Dense(3, name="head")(L.GlobalAveragePooling1D()(x))))


class Table(L.Layer):
    """The same positions for any number of samples: 16 rows."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.rows = L.Embedding(16, 8)

    def build(self, shape: Any) -> None:
        self.rows.build((16,))
        self.built = True

    def call(self, x: Any) -> Any:
        return self.rows(keras.ops.arange(16))


def branched() -> Any:
    """Two branches, one layer in both, two inputs."""
    left, right = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    shared = L.Conv2D(4, 3, name="shared")
    x = L.Concatenate()([shared(left), L.ReLU()(shared(right))])
    x = L.Conv2D(4, 1, name="mix")(x)
    return drawn(keras.Model([left, right], L.Dense(3, name="head")(L.GlobalAveragePooling2D()(x))))


def pair(shape: tuple[int, ...], count: int) -> tuple[Any, Any]:
    return samples(shape, count), samples(shape, count)[::-1].copy()


NETWORKS: dict[str, tuple[Callable[[], Any], Callable[[int], Any], str]] = {
    "plain, ends in a softmax": (cnn, lambda n: samples((16, 16, 3), n), "conv2"),
    "a residual add within a backbone": (transfer, lambda n: samples((16, 16, 3), n), "backbone/branch"),
    "a nested model": (transfer, lambda n: samples((16, 16, 3), n), "backbone"),
    "volumes": (conv3d, lambda n: samples((6, 12, 12, 3), n), "conv2"),
    "folded frames": (frames_lstm, lambda n: samples((4, 12, 12, 3), n), "frames/cnn/conv1"),
    "frame by frame": (stepped, lambda n: samples((3, 9, 9, 3), n), "eye/conv1"),
    "one of the frames": (stepped, lambda n: samples((3, 9, 9, 3), n), "eye/conv2#1"),
    "transformer": (transformer, lambda n: samples((16, 16, 3), n), "add0"),
    "attention": (transformer, lambda n: samples((16, 16, 3), n), "attention1"),
    "two inputs": (branched, lambda n: pair((8, 8, 3), n), "mix"),
    "the second call": (branched, lambda n: pair((8, 8, 3), n), "shared#1"),
}


def two(result: Result) -> Any:
    return result.logits()[:, :2]


def by_hand(model: Any, x: Any, layer: str, changed: Any, change: int) -> np.ndarray:
    """The output of the whole model where the layer returns one of the changes."""
    path, _, number = layer.partition("#")
    node, calls = KerasEngine(model).nodes[path], iter(range(99))
    original = node.call

    def call(*args: Any, **kwargs: Any) -> Any:
        output, at = original(*args, **kwargs), next(calls)
        if number and at != int(number):
            return output
        new = changed[0] if number or len(changed) == 1 else changed[at]
        rows = len(new) // CHANGES
        new = new[change * rows : (change + 1) * rows]
        if rows > output.shape[0]:  # Keras goes through the frames one by one, the engine through all at once
            new = new.reshape(output.shape[0], -1, *new.shape[1:])[:, at]
        return keras.ops.convert_to_tensor(new)

    node.__dict__["call"] = call
    given = (
        [keras.ops.convert_to_tensor(a) for a in x]
        if isinstance(x, tuple)
        else keras.ops.convert_to_tensor(x)
    )
    try:
        output = keras.ops.convert_to_numpy(model(given, training=False))
    finally:
        del node.__dict__["call"]
    return np.asarray(np.log(output) if model.name == "cnn" else output)


def numpy(x: Any) -> np.ndarray:
    return np.asarray(x.detach().cpu() if hasattr(x, "detach") else x)


def changes(resumed: Resumed) -> list[Any]:
    calls = [numpy(x) for x in resumed.activations]
    return [np.concatenate([x * (k / 2) + k for k in range(CHANGES)]).astype(np.float32) for x in calls]


@pytest.mark.parametrize(("make", "inputs", "layer"), NETWORKS.values(), ids=list(NETWORKS))
def test_the_rest_of_a_model_gives_what_the_whole_gives(make: Any, inputs: Any, layer: str) -> None:
    model, x = make(), inputs(2)
    engine = KerasEngine(model)
    before = [node.__dict__.get("call") for node in engine.nodes.values()]
    x = engine.adapt(x)
    resumed = engine.resume(x, layer)
    changed = changes(resumed)
    scores = numpy(resumed(changed, two))
    assert scores.shape == (CHANGES * 2, 2)
    assert np.ptp(scores[::2, 0]) > 1e-3  # the changes matter
    for change in range(CHANGES):
        rows = slice(2 * change, 2 * change + 2)
        expected = by_hand(model, x, layer, changed, change)[:, :2]
        if model.name == "cnn":  # logits up to a constant
            expected = expected - expected[:, :1] + scores[rows, :1]
        np.testing.assert_allclose(scores[rows], expected, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(numpy(resumed(changed, two)), scores, rtol=1e-6, atol=1e-7)
    assert [node.__dict__.get("call") for node in engine.nodes.values()] == before


def test_the_model_is_left_as_found_after_an_exception() -> None:
    model = transfer()
    engine = KerasEngine(model)
    x = engine.adapt(samples((16, 16, 3)))
    resumed = engine.resume(x, "backbone/branch")

    def fails(result: Result) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        resumed(changes(resumed), fails)
    for wrong in ([resumed.activations[0]] * 2, resumed.activations[0][:1]):
        with pytest.raises(InputError, match="layer `backbone/branch`"):
            resumed(wrong, two)
    with pytest.raises(LayerError, match="input"):
        engine.resume(x, "input")
    assert not any("call" in node.__dict__ for node in engine.nodes.values())


def test_scores_alone_and_what_they_read() -> None:
    model = transfer()
    engine = KerasEngine(model)
    x = engine.adapt(samples((16, 16, 3)))

    def score(result: Result) -> Any:
        read = result.outputs["add"][0]
        return keras.ops.stack([result.logits()[:, 0], keras.ops.mean(read, (1, 2, 3))], 1)

    expected = keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(x)))
    for _ in range(2):
        scores = numpy(engine.scores(x, score, reads=["add"]))
        np.testing.assert_allclose(scores[:, 0], expected[:, 0], rtol=1e-5)
    inside = keras.Model(model.layers[1].inputs, model.layers[1].output)(keras.ops.convert_to_tensor(x))
    np.testing.assert_allclose(scores[:, 1], numpy(keras.ops.mean(inside, (1, 2, 3))), rtol=1e-4)
    resumed = engine.resume(x, "backbone/branch", reads=["add"])
    np.testing.assert_allclose(numpy(resumed(resumed.activations, score)), scores, rtol=1e-4)
    tripled = engine.scores(x, lambda result: result.raw[:, :1], call=lambda model, x: 3 * model(x))
    np.testing.assert_allclose(numpy(tripled), 3 * expected[:, :1], rtol=1e-5)
