"""What targets mean for Keras models: one logit, a final sigmoid however it is written, several outputs."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L

import chronocam as cc
from chronocam.errors import ModelError, TargetError

X = np.random.default_rng(0).random((3, 16, 16, 3), dtype=np.float32)


def features() -> tuple[Any, Any]:
    inputs = keras.Input((16, 16, 3))
    convolved = L.Conv2D(6, 3, 2, "same", activation="relu", name="conv")(inputs)
    return inputs, L.GlobalAveragePooling2D(name="pool")(convolved)


def model(end: Callable[[Any, int], Any], outputs: int, bias: float) -> tuple[Any, np.ndarray]:
    """Return a model that ends so, and its logits."""
    keras.utils.set_random_seed(3)
    inputs, x = features()
    net = keras.Model(inputs, end(x, outputs))
    dense = next(layer for layer in net.layers if isinstance(layer, L.Dense))
    kernel, old = dense.get_weights()
    dense.set_weights([kernel, old + bias])
    x = keras.ops.convert_to_numpy(keras.Model(inputs, net.get_layer("pool").output)(X))
    return net, x @ kernel + bias


ENDS: dict[str, Callable[[Any, int], Any]] = {
    "fused": lambda x, n: L.Dense(n, activation="sigmoid")(x),
    "Activation": lambda x, n: L.Activation("sigmoid")(L.Dense(n)(x)),
    "ops": lambda x, n: keras.ops.sigmoid(L.Dense(n)(x)),
    "in float32": lambda x, n: L.Activation("linear", dtype="float32")(L.Dense(n, activation="sigmoid")(x)),
    "reshaped": lambda x, n: L.Reshape((n,))(L.Dense(n, activation="sigmoid")(x)),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("outputs", [1, 5])
def test_a_final_sigmoid_is_stepped_over(end: Any, outputs: int) -> None:
    net, y = model(end, outputs, 20.0)
    index = 1 if outputs == 1 else 2
    expected = y[:, 0] if outputs == 1 else y[:, 2]
    found = cc.GradCAM(net, "conv").explain(X, index)
    np.testing.assert_allclose(found.scores[:, 0], expected, rtol=1e-4)
    assert found.maps.max() > 1e-5
    assert any("before the model's final sigmoid" in finding for finding in found.diagnostics)
    np.testing.assert_allclose(found.confidences[:, 0], 1 / (1 + np.exp(-expected)), rtol=1e-4)
    default = cc.GradCAM(net).explain(X, index)
    np.testing.assert_allclose(default.maps, found.maps, atol=1e-6)
    quantity = cc.GradCAM(net, "conv").explain(X, cc.targets.Deviation(0.0, index % outputs))
    p = keras.ops.convert_to_numpy(net(X))[:, index % outputs]
    np.testing.assert_allclose(quantity.scores[:, 0], p, rtol=1e-4)


@pytest.mark.parametrize(("bias", "name", "sign"), [(3.0, "dog", 1), (-3.0, "cat", -1)])
def test_one_logit_is_two_classes(bias: float, name: str, sign: int) -> None:
    for end in (ENDS["fused"], lambda x, n: L.Dense(n)(x)):
        net, y = model(end, 1, bias)
        net.labels = ["cat", "dog"]
        found = cc.GradCAM(net).explain(X)
        assert str(found.targets[0][0]) == name
        np.testing.assert_allclose(found.scores, sign * y, rtol=1e-4)
        np.testing.assert_allclose(found.confidences, 1 / (1 + np.exp(-sign * y)), rtol=1e-4)
        each = cc.GradCAM(net).explain(X, np.array([[1.0], [0.0], [1.0]]))
        np.testing.assert_allclose(each.scores[:, 0], y[:, 0] * [1, -1, 1], rtol=1e-4)
    net, y = model(lambda x, n: L.Dense(n)(x), 1, bias)
    found = cc.GradCAM(net).explain(X)
    np.testing.assert_allclose(found.scores, y, rtol=1e-4)
    assert any("cc.targets.Regression()" in finding for finding in found.diagnostics)


def test_multi_hot_rows_and_probabilities_of_a_softmax() -> None:
    net, y = model(lambda x, n: L.Dense(n, activation="softmax")(x), 4, 0.0)
    marked = np.array([[0, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]])
    np.testing.assert_allclose(
        cc.GradCAM(net).explain(X, marked).scores[:, 0], (y * marked).sum(1), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        cc.GradCAM(net).explain(X, 2).confidences[:, 0], keras.ops.convert_to_numpy(net(X))[:, 2], rtol=1e-4
    )


def test_features_before_logits_are_refused_and_a_loss_gets_all() -> None:
    keras.utils.set_random_seed(3)
    inputs, x = features()
    net = keras.Model(inputs, [x, L.Dense(3, name="head")(x)])
    with pytest.raises(ModelError, match=r"first is not shaped like scores.*output_layer="):
        cc.GradCAM(net, "conv").explain(X, 1)
    logits = keras.ops.convert_to_numpy(net(X)[1])
    found = cc.GradCAM(net, "conv").explain(X, lambda outputs: outputs[1][:, 1])
    np.testing.assert_allclose(found.scores[:, 0], logits[:, 1], rtol=1e-4)
    loss = cc.targets.NegativeLoss(
        lambda outputs, y: keras.ops.mean((outputs[1] - keras.ops.convert_to_tensor(y)) ** 2),
        np.zeros((3, 3), np.float32),
    )
    found = cc.GradCAM(net, "conv").explain(X, loss)
    np.testing.assert_allclose(found.scores[:, 0], -(logits**2).mean(1), rtol=1e-4)


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        (keras.losses.BinaryCrossentropy(from_logits=True), np.array([[0.9, 0.2, 0.4]] * 3, np.float32)),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), np.array([2, 0, 1])),
        (keras.losses.poisson, np.array([[1, 2, 3]] * 3, np.float32)),
        (lambda y_true, y_pred: keras.ops.mean(y_true * y_pred**2), np.ones((3, 3), np.float32)),
    ],
)
def test_losses_get_what_is_true_first_where_they_say_so(loss: Any, y: np.ndarray) -> None:
    keras.utils.set_random_seed(3)
    inputs, x = features()
    net = keras.Model(inputs, L.Dense(3, bias_initializer="ones")(x))
    rows = keras.ops.convert_to_tensor(y)
    expected = [-loss(rows[i : i + 1], net(X[i : i + 1])) for i in range(3)]
    expected = [np.mean(keras.ops.convert_to_numpy(one)) for one in expected]
    scores = cc.GradCAM(net).explain(X, cc.targets.NegativeLoss(loss, y)).scores[:, 0]
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_squeezed_outputs_and_rows_that_are_no_samples() -> None:
    inputs, x = features()
    net = keras.Model(inputs, keras.ops.squeeze(L.Dense(1)(x), -1))
    full = keras.ops.convert_to_numpy(net(X))
    found = cc.GradCAM(net, "conv", batch_size=2).explain(X, cc.targets.Regression())
    np.testing.assert_allclose(found.scores[:, 0], full, rtol=1e-4)
    moved = keras.Model(inputs, keras.ops.repeat(L.Dense(4)(x), 2, axis=0))
    with pytest.raises(TargetError, match="6 rows for 3 samples"):
        cc.GradCAM(moved, "conv").explain(X, 1)


def test_masks_of_dense_outputs() -> None:
    inputs = keras.Input((16, 16, 3))
    x = L.Conv2D(4, 3, 2, "same", activation="relu", name="conv")(inputs)
    net = keras.Model(inputs, L.Conv2D(2, 1)(x))
    net.labels = ["road", "person"]
    y = keras.ops.convert_to_numpy(net(X))
    masks = np.zeros((3, 8, 8), bool)
    masks[0, :2], masks[1, 3:], masks[2, 4, 4] = True, True, True
    expected = [row[mask, 1].mean() for row, mask in zip(y, masks, strict=True)]
    for where in (masks, masks.repeat(2, 1).repeat(2, 2)):
        found = cc.GradCAM(net, "conv").explain(X, cc.targets.Region(where, "person"))
        np.testing.assert_allclose(found.scores[:, 0], expected, rtol=1e-4)


@pytest.mark.parametrize("end", ["fused", "transposed", "ops"])
def test_a_final_sigmoid_of_a_dense_output_is_stepped_over(end: str) -> None:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((16, 16, 3))
    x = L.Conv2D(4, 3, 2, "same", activation="relu", name="conv")(inputs)
    kind = L.Conv2DTranspose if end == "transposed" else L.Conv2D
    head = kind(1, 1, activation=None if end == "ops" else "sigmoid", bias_initializer="ones")
    y = keras.ops.sigmoid(head(x)) if end == "ops" else head(x)
    net = keras.Model(inputs, y)
    mask = np.zeros((8, 8), bool)
    mask[2:5, 3:] = True
    p = keras.ops.convert_to_numpy(net(X))[..., 0]
    found = cc.GradCAM(net, "conv").explain(X, cc.targets.Region(mask))
    np.testing.assert_allclose(found.scores[:, 0], np.log(p / (1 - p))[:, mask].mean(1), rtol=1e-4)
    assert any("before the model's final sigmoid" in finding for finding in found.diagnostics)
    quantity = cc.GradCAM(net, "conv").explain(X, cc.targets.Norm())
    np.testing.assert_allclose(quantity.scores[:, 0], np.sqrt((p**2).sum((1, 2))), rtol=1e-4)


def test_raw_pixels_are_a_finding_unless_the_model_rescales() -> None:
    net, _ = model(ENDS["fused"], 5, 0.0)
    assert any("inputs reach" in note for note in cc.GradCAM(net, "conv").explain(X * 255, 0).diagnostics)
    scaled = keras.Sequential([keras.Input((16, 16, 3)), L.Rescaling(1 / 255), *net.layers[1:]])
    found = cc.GradCAM(scaled, "conv").explain(X * 255, 0)
    assert not any("inputs reach" in note for note in found.diagnostics)
