"""Relevance through Keras' recurrent layers: against a textbook that shares no code, and invariants."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import pytest
from suite_engine import state

import chronocam as cc
from chronocam.errors import InputError, ModelError

L, ops = keras.layers, keras.ops
BACKEND = keras.backend.backend()
CLOSE = 1e-10 if BACKEND == "tensorflow" else 2e-6
"""On JAX and PyTorch some of Keras' own operations (tanh, matmul) compute float64 in float32."""
T, IN, H, CLASSES = 5, 4, 3, 3


@pytest.fixture(scope="module", autouse=True)
def float64() -> Iterator[None]:
    if BACKEND == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    if BACKEND == "jax":
        jax.config.update("jax_enable_x64", False)


def drawn(model: Any, seed: int = 0, scale: float = 1.0) -> Any:
    """Give a model weights that bend its gates."""
    rng = np.random.default_rng(seed)
    model.set_weights([scale * rng.normal(size=w.shape) for w in model.get_weights()])
    return model


def features(batch: int = 2, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(batch, T, IN))


def stepwise(*layers: Any) -> Any:
    return drawn(keras.Sequential([keras.Input((T, IN)), *layers, L.Dense(CLASSES)]))


def at_end(kind: str = "LSTM", **options: Any) -> Any:
    return stepwise(getattr(L, kind)(H, **options))


# A textbook: relevance pushed back unit by unit, with loops


def sign(z: float) -> float:
    return -1.0 if z < 0 else 1.0


def shared(
    parts: Sequence[tuple[Any, np.ndarray]], z: np.ndarray, relevance: np.ndarray, eps: float
) -> list[Any]:
    """R_i = Σ_j w_ij x_i / (z_j + ε s_j) R_j for inputs x with weights w, `(in, out)`."""
    found = []
    for x, w in parts:
        r = np.zeros(len(x))
        for i in range(len(x)):
            for j in range(len(z)):
                r[i] += w[i, j] * x[i] / (z[j] + eps * sign(z[j])) * relevance[j]
        found.append(r)
    return found


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def by_the_book(
    kind: str, weights: list[np.ndarray], x: np.ndarray, step: int, target: int, eps: float
) -> np.ndarray:
    """Relevance of x `(time, feature)` for one logit after one step of an LSTM or GRU with a linear head."""
    w, u, b, head, bias = weights
    zero, steps = np.zeros(H), []
    h, c = zero, zero
    for t in range(step + 1):
        if kind == "LSTM":
            i, f, g, o = np.split(x[t] @ w + h @ u + b, 4)
            i, f, o = sigmoid(i), sigmoid(f), sigmoid(o)
            new = f * c + i * np.tanh(g)
            steps.append((x[t], h, c, i, f, g, new))
            h, c = o * np.tanh(new), new
        else:
            xz, xr, xn = np.split(x[t] @ w + b[0], 3)
            hz, hr, hn = np.split(h @ u + b[1], 3)
            z, r = sigmoid(xz + hz), sigmoid(xr + hr)
            y = xn + r * hn
            new = (1 - z) * np.tanh(y) + z * h
            steps.append((x[t], h, z, r, y, new))
            h = new
    logit = h @ head + bias
    (rh,) = shared([(h, head[:, [target]])], logit[[target]], logit[[target]], eps)
    relevance, rc = np.zeros_like(x), zero
    for t in reversed(range(step + 1)):
        if kind == "LSTM":
            xt, before, old, i, f, g, new = steps[t]
            rc = rc + rh
            held = new + eps * np.array([sign(v) for v in new])
            rg, rc = i * np.tanh(g) / held * rc, f * old / held * rc
            cut = slice(2 * H, 3 * H)
            relevance[t], rh = shared([(xt, w[:, cut]), (before, u[:, cut])], g, rg, eps)
        else:
            xt, before, z, r, y, new = steps[t]
            held = new + eps * np.array([sign(v) for v in new])
            rn, keep = (1 - z) * np.tanh(y) / held * rh, z * before / held * rh
            cut = slice(2 * H, 3 * H)
            relevance[t], rh = shared([(xt, w[:, cut]), (before, u[:, cut] * r)], y, rn, eps)
            rh = rh + keep
    return relevance


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("eps", [0.0, 0.01])
def test_relevance_is_the_textbooks(kind: str, eps: float) -> None:
    model, x = at_end(kind, return_sequences=True), features()
    found = cc.sequence.LRP(model, epsilon=eps).explain(x, [cc.targets.Step(3, 2), cc.targets.Step(4, 0)])
    for n in range(2):
        for k, (step, target) in enumerate([(3, 2), (4, 0)]):
            expected = by_the_book(kind, model.get_weights(), x[n], step, target, eps)
            np.testing.assert_allclose(
                found.relevance[n, k], expected, rtol=0, atol=CLOSE * np.abs(expected).max()
            )


# Parity with PyTorch


def in_torch(kind: str, weights: list[np.ndarray]) -> Any:
    """Return the PyTorch network of the same weights: gates i, f, g, o, or r, z, n, as rows."""
    import torch
    from torch import nn

    w, u, b, head, bias = weights

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = getattr(nn, kind)(IN, H, batch_first=True), nn.Linear(H, CLASSES)

        def forward(self, x: Any) -> Any:
            return self.head(self.rnn(x)[0])

    def rows(weight: np.ndarray) -> Any:
        parts = np.split(weight, 4 if kind == "LSTM" else 3, axis=-1)
        ordered = parts if kind == "LSTM" else [parts[1], parts[0], parts[2]]
        return torch.from_numpy(np.concatenate(ordered, axis=-1).T.copy())

    net = Net().double().eval()
    with torch.no_grad():
        net.rnn.weight_ih_l0.copy_(rows(w))
        net.rnn.weight_hh_l0.copy_(rows(u))
        net.rnn.bias_ih_l0.copy_(rows(b if kind == "LSTM" else b[0]))
        net.rnn.bias_hh_l0.copy_(rows(0 * b if kind == "LSTM" else b[1]))
        net.head.weight.copy_(torch.from_numpy(head.T.copy()))
        net.head.bias.copy_(torch.from_numpy(bias))
    return net


METHODS = {
    "lrp": cc.sequence.LRP,
    "gradient": cc.sequence.Gradient,
    "gradientxinput": cc.sequence.GradientXInput,
    "integratedgradients": lambda model: cc.sequence.IntegratedGradients(
        model, baselines=["zero", "mean"], steps=5
    ),
    "smoothgrad": lambda model: cc.sequence.SmoothGrad(model, samples=3),
}


@pytest.mark.skipif(
    BACKEND == "tensorflow", reason="PyTorch is not loaded beside TensorFlow; the textbook decides"
)
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_agrees_with_pytorch(kind: str, method: str) -> None:
    model, x = at_end(kind, return_sequences=True), features()
    found = METHODS[method](model).explain(x, cc.targets.EveryStep(1))
    expected = METHODS[method](in_torch(kind, model.get_weights())).explain(x, cc.targets.EveryStep(1))
    scale = np.abs(expected.relevance).max()
    np.testing.assert_allclose(found.relevance, expected.relevance, rtol=0, atol=CLOSE * scale)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=CLOSE, atol=CLOSE)
    assert found.ledger.keys() == expected.ledger.keys()
    for name, terms in found.ledger.items():
        np.testing.assert_allclose(terms, expected.ledger[name], rtol=0, atol=10 * CLOSE * scale)


# What must always hold


def attention_pooling() -> Any:
    x = keras.Input((T, IN))
    h = L.LSTM(H, return_sequences=True)(x)
    weights = L.Softmax(axis=1)(L.Dense(1)(h))
    pooled = ops.sum(L.Multiply()([h, weights]), axis=1)
    return drawn(keras.Model(x, L.Dense(CLASSES)(pooled)))


def gated() -> Any:
    """Gates of every kind before the end: fused in Dense, and as a layer of their own."""
    x = keras.Input((T, IN))
    h = L.LSTM(H, return_sequences=True)(x)
    weights = L.Activation("softmax")(L.Permute((2, 1))(L.Dense(1)(h)))
    kept = L.Multiply()([L.Dense(H, activation="sigmoid")(h), h])
    return drawn(keras.Model(x, L.Dense(CLASSES)(L.Flatten()(L.Dot(axes=(2, 1))([weights, kept])))))


def dot_attention() -> Any:
    x = keras.Input((T, IN))
    h = L.GRU(H, return_sequences=True)(x)
    return drawn(keras.Model(x, L.Dense(CLASSES)(L.GlobalAveragePooling1D()(L.Attention()([h, h])))))


class Subclassed(keras.Model):
    """A model whose call is code."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = L.LSTM(H), L.Dense(CLASSES)

    def call(self, x: Any) -> Any:
        return self.head(self.rnn(x))


def subclassed() -> Any:
    model = Subclassed()
    model(ops.convert_to_tensor(features()))
    return drawn(model)


def everything() -> Any:
    """Convolution, normalisations, activations, a residual, dropout, a layer at every step."""
    x = keras.Input((T, IN))
    y = L.Conv1D(IN, 3, padding="same", activation="relu")(x)
    y = L.LayerNormalization()(L.Add()([x, y]) + 0.5)
    y = L.BatchNormalization()(L.TimeDistributed(L.Dense(4, activation="tanh"))(y))
    y = L.Dropout(0.5)(L.GRU(H, reset_after=False, return_sequences=True)(y))
    y = L.Concatenate()([L.Flatten()(y), L.LSTM(2)(y)])
    model = drawn(
        keras.Model(x, L.Dense(CLASSES, activation="softmax")(L.LeakyReLU()(L.Dense(5)(y)))), scale=0.5
    )
    norm = next(layer for layer in model.layers if isinstance(layer, L.BatchNormalization))
    norm.moving_variance.assign(np.linspace(0.5, 2, 4))
    return model


MODELS = {
    "lstm": at_end,
    "gru": lambda: at_end("GRU"),
    "gru, reset before": lambda: at_end("GRU", reset_after=False),
    "without bias": lambda: stepwise(L.LSTM(H, use_bias=False)),
    "backwards": lambda: at_end("LSTM", go_backwards=True),
    "stacked": lambda: stepwise(L.LSTM(H, return_sequences=True), L.GRU(H)),
    "bidirectional": lambda: stepwise(L.Bidirectional(L.LSTM(H))),
    "cells": lambda: stepwise(L.RNN([L.LSTMCell(H), L.GRUCell(2)])),
    "masked": lambda: stepwise(L.Masking(), L.LSTM(H)),
    "masked, every step": lambda: stepwise(L.Masking(), L.LSTM(H, return_sequences=True), L.Flatten()),
    "attention pooling": attention_pooling,
    "gated": gated,
    "dot-product attention": dot_attention,
    "subclassed": subclassed,
    "everything": everything,
}
EACH = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


@EACH
def test_the_ledger_closes_on_the_models_own_logits(make: Any) -> None:
    model, x = make(), features()
    x[:, 1] = 0  # a step that masks skip
    before = state(model)
    found = cc.sequence.LRP(model).explain(x, np.array([[0, 2]] * 2))
    assert state(model) == before
    total = sum(found.ledger.values())
    mass = np.abs(found.relevance).sum(axis=(2, 3)) + sum(np.abs(v) for v in found.ledger.values())
    assert (np.abs(total - found.scores) <= max(1e-12, CLOSE) * mass).all()
    outputs = np.asarray(ops.convert_to_numpy(model(ops.convert_to_tensor(x))))
    if "softmax" in str(model.layers[-1].get_config().get("activation", "")):
        assert found.diagnostics == ("scores are logits, read before the model's final softmax",)
        outputs = np.log(outputs)  # logits up to a constant of each sample
        np.testing.assert_allclose(np.diff(found.scores), outputs[:, [2]] - outputs[:, [0]], atol=1e-6)
    else:
        np.testing.assert_allclose(found.scores, outputs[:, [0, 2]], rtol=1e-6, atol=1e-9)
    assert np.abs(found.relevance).max() > 1e-4
    again = cc.sequence.LRP(model).explain(x, np.array([[0, 2]] * 2))
    np.testing.assert_array_equal(again.relevance, found.relevance)


@EACH
def test_gradients_are_the_slopes_and_integrated_gradients_are_complete(make: Any) -> None:
    model, x = make(), features(1)
    found = cc.sequence.Gradient(model).explain(x, 1).relevance[0, 0]

    def score(values: np.ndarray) -> float:
        return float(cc.sequence.GradientXInput(model).explain(values, 1).scores[0, 0])

    rng = np.random.default_rng(0)
    step = 1e-4 if CLOSE < 1e-6 else 1e-2
    along = rng.normal(size=x.shape[1:])
    slope = (score(x + step * along) - score(x - step * along)) / (2 * step)
    np.testing.assert_allclose((found * along).sum(), slope, rtol=1e-3, atol=1e-3)
    whole = cc.sequence.IntegratedGradients(model, steps=60).explain(x, 1)
    start = score(np.zeros_like(x))
    if "masked" not in next(
        name for name, made in MODELS.items() if made is make
    ):  # zeros are masked: the path from them jumps
        np.testing.assert_allclose(whole.relevance.sum(), whole.scores[0, 0] - start, rtol=0.02, atol=5e-3)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_nothing_of_the_future_counts(kind: str) -> None:
    found = cc.sequence.LRP(at_end(kind, return_sequences=True)).explain(features(), cc.targets.EveryStep(0))
    for t in range(T):
        assert not found.relevance[:, t, t + 1 :].any()
        assert found.relevance[:, t, t].any()


def test_votes_and_steps_are_those_of_the_logits() -> None:
    model, x = at_end(return_sequences=True), features()
    logits = ops.convert_to_numpy(model(ops.convert_to_tensor(x)))
    found = cc.sequence.LRP(model).explain(x)
    np.testing.assert_array_equal(found.votes, logits.argmax(axis=2))
    np.testing.assert_allclose(found.scores, logits.max(axis=2), rtol=1e-6)
    vote = cc.sequence.LRP(model).explain(x, cc.targets.MajorityVote())
    winner = np.bincount(logits[0].argmax(axis=1)).argmax()
    np.testing.assert_allclose(vote.scores[0, 0], logits[0, :, winner].mean(), rtol=1e-6)


def test_the_epsilon_moves_relevance_into_the_stabiliser() -> None:
    model, x = at_end(), features()
    sums = [
        np.abs(cc.sequence.LRP(model, epsilon=e).explain(x, 0).ledger["stabiliser"]).max()
        for e in (0, 0.001, 0.1)
    ]
    assert sums[0] == 0 < sums[1] < sums[2]


def test_a_remembered_state_has_its_own_entry() -> None:
    rnn = L.LSTM(H, stateful=True)
    model = drawn(keras.Sequential([keras.Input((T, IN), batch_size=1), rnn, L.Dense(CLASSES)]))
    for variable in rnn.states:
        variable.assign(np.full((1, H), 0.7))
    found = cc.sequence.LRP(model).explain(features(1), np.array([[0, 1]]))
    slopes = cc.sequence.Gradient(model).explain(features(1), np.array([[0, 1]])).relevance
    assert all(slope.any() for slope in slopes[0])
    for variable in rnn.states:
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), 0.7)
    assert abs(found.ledger["initial_state"][0, 0]) > 1e-4
    np.testing.assert_allclose(sum(found.ledger.values()), found.scores, rtol=1e-5)


def test_other_inputs_are_among_the_biases() -> None:
    x, start = keras.Input((T, IN)), keras.Input((H,))
    model = drawn(keras.Model([x, start], L.Dense(CLASSES)(L.GRU(H)(x, initial_state=start))))
    given = features(), np.random.default_rng(2).normal(size=(2, H))
    found = cc.sequence.LRP(model, epsilon=0).explain(given, 1)
    np.testing.assert_allclose(sum(found.ledger.values()), found.scores, rtol=1e-5)
    outputs = ops.convert_to_numpy(model([ops.convert_to_tensor(one) for one in given]))
    np.testing.assert_allclose(found.scores[:, 0], outputs[:, 1], rtol=1e-6)


def test_a_sigmoid_at_the_end_is_read_before() -> None:
    model = drawn(keras.Sequential([keras.Input((T, IN)), L.LSTM(H), L.Dense(1, activation="sigmoid")]))
    found, x = cc.sequence.LRP(model).explain(features(), 1), features()
    probability = ops.convert_to_numpy(model(ops.convert_to_tensor(x)))
    np.testing.assert_allclose(1 / (1 + np.exp(-found.scores)), probability, rtol=1e-6)
    assert found.diagnostics == ("scores are logits, read before the model's final sigmoid",)


# To the frames


def outputs(model: Any, x: np.ndarray) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(model(ops.convert_to_tensor(x))), float)


def eyes() -> tuple[Any, Any]:
    """A CNN whose features are the mean of its last layer, and one that returns that layer's grid."""
    image = keras.Input((8, 10, 3))
    grid = L.Conv2D(IN, 3, strides=2, activation="relu", name="last")(L.Conv2D(5, 3, name="first")(image))
    return drawn(keras.Model(image, L.GlobalAveragePooling2D()(grid))), keras.Model(image, grid)


def test_relevance_is_carried_to_the_frames() -> None:
    model, (cnn, grid) = at_end(return_sequences=True), eyes()
    frames = np.random.default_rng(5).normal(size=(2, T, 8, 10, 3))
    x = outputs(cnn, frames.reshape(-1, 8, 10, 3)).reshape(2, T, IN)
    found = cc.sequence.LRP(model).explain(x, [cc.targets.Step(-1, 0), cc.targets.Step(2, 1)])
    maps = found.to_frames(cnn, frames)
    a = outputs(grid, frames.reshape(-1, 8, 10, 3)).reshape(2, T, 2, 3, IN)
    total = a.sum(axis=(2, 3), keepdims=True)
    shares = np.where(total == 0, 1 / 6, a / np.where(total == 0, 1, total))
    assert maps.layer == "last"
    assert maps.input_size == (T, 8, 10)
    scale = np.abs(maps.maps).max()
    expected = np.einsum("bkti,bthwi->bkthw", found.relevance, shares)
    np.testing.assert_allclose(maps.maps, expected, rtol=0, atol=1e-6 * scale)
    by_grid = found.to_frames(grid, frames)
    assert by_grid.layer == "output"
    np.testing.assert_allclose(by_grid.maps, maps.maps, rtol=0, atol=1e-6 * scale)
    cam = found.to_frames(cnn, frames, how="gradcam", layer="last")
    expected = np.einsum("bkti,bthwi->bkthw", found.relevance, a) / 6
    np.testing.assert_allclose(cam.maps, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    guided = found.to_frames(cnn, frames, how="guided").maps
    # Back from the ReLU the way is linear: what a change by 1 of all pixels does to what is positive there.
    grid.layers[-1].activation = keras.activations.linear
    zero, one = (outputs(grid, np.full((1, 8, 10, 3), value)) for value in (0.0, 1.0))
    through = (
        np.einsum("bkti,bthwi,hwi->bkt", found.relevance.clip(min=0), (a > 0).astype(float), (one - zero)[0])
        / 6
    )
    np.testing.assert_allclose(guided.sum(axis=(3, 4)), through, rtol=0, atol=1e-5 * np.abs(through).max())
    with pytest.raises(InputError, match=r"expected \(2, 5, height, width, channel\)"):
        found.to_frames(cnn, frames[:1])


# What is refused


class Squared(L.Layer):
    """A layer through which relevance does not add up."""

    def call(self, x: Any) -> Any:
        return x * x


class Own(L.Layer):
    """A cell that nobody knows."""

    state_size = H

    def call(self, x: Any, states: Any) -> Any:
        return x[:, :H] + states[0], [x[:, :H] + states[0]]

    def get_initial_state(self, batch_size: Any = None) -> Any:
        return ops.zeros((batch_size, H))


def test_what_has_no_rule_is_named() -> None:
    squared = stepwise(L.LSTM(H), Squared(name="squared"))
    with pytest.raises(ModelError, match=r"does not add up.*no rule for `squared`: use IntegratedGradients"):
        cc.sequence.LRP(squared).explain(features(), 0)
    assert cc.sequence.IntegratedGradients(squared).explain(features(), 0).relevance.any()
    bent = stepwise(L.LSTM(H, activation="sigmoid", name="bent"))
    with pytest.raises(ModelError, match="no rule for a LSTMCell with the activation sigmoid"):
        cc.sequence.LRP(bent).explain(features(), 0)
    own = keras.Sequential([keras.Input((T, IN)), L.RNN(Own()), L.Dense(CLASSES)])
    with pytest.raises(ModelError, match="no rule for a Own"):
        cc.sequence.LRP(own).explain(features(), 0)


# Rules that users add, and passes that are compiled


class Shifted(L.Layer):
    """x² + 0.3: a layer through which relevance does not add up without a rule."""

    def call(self, x: Any) -> Any:
        return x * x + 0.3


def squared(ledger: Any, layer: Any, call: Any, x: Any) -> Any:
    product = x * ledger.held(x)
    return ledger.share(product + ledger.bias(0.3 + 0 * product, product))


@pytest.mark.parametrize("name", [Shifted, "Shifted"], ids=["by class", "by name"])
def test_a_layer_with_a_registered_rule_is_explained(name: Any) -> None:
    model, x = stepwise(L.LSTM(H), Shifted(name="shifted")), features()
    with pytest.raises(ModelError, match=r"no rule for `shifted`"):
        cc.sequence.LRP(model).explain(x, 0)
    with cc.sequence.register_rule(name, squared):
        found = cc.sequence.LRP(model).explain(x, 0)
    mass = np.abs(found.relevance).sum(axis=(2, 3)) + sum(np.abs(v) for v in found.ledger.values())
    assert (np.abs(sum(found.ledger.values()) - found.scores) <= CLOSE * mass).all()
    np.testing.assert_allclose(found.scores, outputs(model, x)[:, :1], rtol=1e-6)
    assert found.relevance.any()
    with pytest.raises(
        ModelError, match=r"no rule for `shifted`"
    ):  # the compiled pass is not that with the rule
        cc.sequence.LRP(model).explain(x, 0)


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch runs as it is")
def test_a_pass_is_compiled_once_and_kept_as_long_as_the_model() -> None:
    import gc

    from chronocam.engines.keras.compiled import _COMPILED
    from chronocam.sequence.keras.forward import SequencePass

    class Counting(L.Layer):
        calls = 0

        def call(self, x: Any) -> Any:
            Counting.calls += 1
            return 2 * x

    gc.collect()
    before = len(_COMPILED)
    model, x = (
        drawn(keras.Sequential([keras.Input((T, IN)), L.LSTM(H), Counting(), L.Dense(CLASSES)])),
        features(1),
    )
    first = cc.sequence.LRP(model).explain(x, 0)
    traced = Counting.calls
    again = cc.sequence.LRP(model).explain(2 * x, 1)
    assert Counting.calls == traced
    np.testing.assert_allclose(again.scores, outputs(model, 2 * x)[:, 1:2], rtol=1e-6)
    passes = [one for one in _COMPILED[model].values() if isinstance(one, SequencePass)]
    assert len(passes) == 2  # as it is, and by the rules
    assert all(one.traceable for one in passes)
    # Weights are read at every call, another ε is another pass.
    drawn(model, seed=3)
    assert not np.allclose(cc.sequence.LRP(model).explain(x, 0).scores, first.scores)
    assert not np.allclose(
        cc.sequence.LRP(model, epsilon=0.5).explain(x, 0).relevance,
        cc.sequence.LRP(model).explain(x, 0).relevance,
    )
    del model, passes
    gc.collect()
    assert len(_COMPILED) == before


class Deciding(keras.Model):
    """A model whose call decides by values: it cannot be compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = L.LSTM(H), L.Dense(CLASSES)

    def call(self, x: Any) -> Any:
        h = self.rnn(x)
        return self.head(h if float(ops.convert_to_numpy(ops.stop_gradient(ops.sum(x * x)))) > 0 else -h)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX gives no values while it differentiates")
def test_a_model_that_decides_by_values_is_run_as_it_is() -> None:
    model, x = Deciding(), features()
    model(ops.convert_to_tensor(x))
    drawn(model)
    found = cc.sequence.LRP(model).explain(x, 1)
    np.testing.assert_allclose(found.scores, outputs(model, x)[:, 1:2], rtol=1e-6)
    mass = np.abs(found.relevance).sum(axis=(2, 3)) + sum(np.abs(v) for v in found.ledger.values())
    assert (np.abs(sum(found.ledger.values()) - found.scores) <= CLOSE * mass).all()


def test_a_model_is_left_as_found_after_an_exception() -> None:
    model = at_end()
    before = state(model)

    def fails(outputs: Any) -> Any:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        cc.sequence.LRP(model).explain(features(), fails)
    assert state(model) == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((T, IN)), r"expected \(batch, time, feature\): give features\[None\]"),
        (np.zeros((2, T, IN + 1)), r"inputs have shape \(2, 5, 5\); expected \(batch, 5, 4\)"),
        (np.full((1, T, IN), np.nan), "hold 20 NaN or infinite values"),
        ("abc", "cannot explain a str"),
    ],
)
def test_bad_features_are_refused(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cc.sequence.LRP(at_end()).explain(given, 0)


def test_scores_without_the_features_are_refused() -> None:
    x = keras.Input((T, IN))
    h = L.LSTM(H)(x)
    model = drawn(keras.Model(x, L.Dense(CLASSES)(ops.stop_gradient(h) * 0 + 1)))
    for method in (cc.sequence.LRP, cc.sequence.GradientXInput):
        with pytest.raises(ModelError, match="do not depend on the features"):
            method(model).explain(features(), 0)
    with pytest.raises(InputError, match="batch_first=False is for PyTorch"):
        cc.sequence.LRP(at_end(), batch_first=False).explain(features(), 0)
