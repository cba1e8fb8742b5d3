"""Parity with xplique and tf-keras-vis on TensorFlow where they are right, else with a closed form.

Raw maps are compared, before the scaling and resizing that every library does differently.
"""

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from networks import L, cnn, conv1d, conv3d, drawn, outputs, samples, transfer

import chronocam as cc

if keras.backend.backend() != "tensorflow":
    pytest.skip("xplique and tf-keras-vis run on TensorFlow only", allow_module_level=True)

CLASSES = [1, 3]
AT = pytest.mark.parametrize("layer", ["relu", "conv1"])


def importable(name: str) -> Any:
    """Return a peer's module; skip with the reason where it or something that it needs is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        pytest.skip(f"{name.partition('.')[0]} cannot be imported: {error}")


@pytest.fixture
def xplique() -> Any:
    return importable("xplique.attributions")


@pytest.fixture
def vis() -> Any:
    names = ("gradcam", "gradcam_plus_plus", "layercam", "saliency", "utils.scores")
    modules = {name.rpartition(".")[2]: importable(f"tf_keras_vis.{name}") for name in names}
    scores = modules.pop("scores")
    return SimpleNamespace(**modules, score=scores.CategoricalScore)


def logits_net() -> Any:
    """The network of `cnn`, without its softmax: the peers explain what a model returns."""
    model = cnn()
    model.get_layer("head").activation = keras.activations.linear
    return model


def hot(classes: list[int], count: int) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[classes]


def raw(method: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return an xplique CAM before it is resized."""
    import tensorflow as tf

    activations, gradients = method._gradient(tf.constant(x), tf.constant(y))
    return np.asarray(method._apply_weights(method._compute_weights(gradients, activations), activations))


def unscaled(vis_method: Any, score: Any, x: np.ndarray, layer: str) -> np.ndarray:
    """Return a tf-keras-vis CAM as it is on the layer's grid."""
    plain = {"expand_cam": False, "normalize_cam": False, "seek_penultimate_conv_layer": False}
    return np.asarray(vis_method(score, x, penultimate_layer=layer, **plain))


def agree(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    scale = np.abs(expected).max()
    assert scale > 0
    assert np.abs(found - expected).max() < tolerance * scale


def differ(found: Any, expected: Any) -> None:
    """Check that maps are different by more than a factor per sample."""
    found, expected = (np.asarray(v) / np.abs(v).max(axis=(1, 2), keepdims=True) for v in (found, expected))
    assert np.abs(found - expected).max() > 1e-3


def at_the_layer(model: Any, layer: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return activations and gradients, `(batch, height, width, channel)`, by plain TensorFlow."""
    import tensorflow as tf

    inner = keras.Model(model.inputs, [model.get_layer(layer).output, *model.outputs])
    with tf.GradientTape() as tape:
        a, scores = inner(tf.constant(x), training=False)
        chosen = tf.reduce_sum(scores * hot(CLASSES, scores.shape[1]))
    return np.asarray(a, np.float64), np.asarray(tape.gradient(chosen, a), np.float64)


def plus_plus(a: np.ndarray, g: np.ndarray, pooled: Any = np.sum, normalised: bool = False) -> np.ndarray:
    """Grad-CAM++ with `pooled` activations in the denominator; `normalised` divides alpha by its sum."""
    below = 2 * g**2 + pooled(a, axis=(1, 2), keepdims=True) * g**3
    alpha = np.divide(g**2, below, out=np.zeros_like(g), where=below != 0)
    if normalised:
        total = alpha.sum((1, 2), keepdims=True)
        alpha = np.divide(alpha, total, out=alpha, where=total != 0)
    weights = (alpha * np.maximum(g, 0)).sum((1, 2), keepdims=True)
    return np.maximum((weights * a).sum(-1), 0)


# xplique


@AT
def test_xplique_gradcam(xplique: Any, layer: str) -> None:
    model, x = logits_net(), samples((16, 16, 3))
    agree(
        cc.GradCAM(model, layer).explain(x, CLASSES).maps[:, 0],
        raw(xplique.GradCAM(model, conv_layer=layer), x, hot(CLASSES, 5)),
    )


def test_xplique_gradcam_of_probabilities(xplique: Any) -> None:
    model, x = cnn(), samples((16, 16, 3))
    theirs = raw(xplique.GradCAM(model, conv_layer="relu"), x, hot(CLASSES, 5))
    agree(cc.GradCAM(model, "relu", output_layer="head").explain(x, CLASSES).maps[:, 0], theirs)
    of_logits = cc.GradCAM(model, "relu").explain(x, CLASSES).maps[:, 0]
    assert np.abs(of_logits - theirs).max() > 0.1 * np.abs(of_logits).max()


@AT
def test_xplique_gradcam_plus_plus_has_a_mean_for_the_sum(xplique: Any, layer: str) -> None:
    model, x = logits_net(), samples((16, 16, 3))
    a, g = at_the_layer(model, layer, x)
    theirs = raw(xplique.GradCAMPP(model, conv_layer=layer), x, hot(CLASSES, 5))
    agree(theirs, plus_plus(a, g, np.mean) / a[0, ..., 0].size, 1e-4)
    ours = cc.GradCAMPlusPlus(model, layer).explain(x, CLASSES).maps[:, 0]
    agree(ours, plus_plus(a, g))
    differ(ours, theirs)


def test_xplique_leaves_the_layer_changed(xplique: Any) -> None:
    model, x = logits_net(), samples((16, 16, 3))
    layer = model.get_layer("relu")
    cc.GradCAM(model, "relu").explain(x, CLASSES)
    assert "call" not in vars(layer)
    xplique.GradCAM(model, conv_layer="relu").explain(x, hot(CLASSES, 5))
    assert "call" in vars(layer)


def test_xplique_gradients(xplique: Any) -> None:
    model, x, y = logits_net(), samples((16, 16, 3)), hot(CLASSES, 5)
    of_ours: dict[str, Any] = {
        "Saliency": (cc.Saliency(model), {}),
        "GradientInput": (cc.InputXGradient(model), {"reducer": "sum"}),
        "GuidedBackprop": (cc.GuidedBackprop(model, reduce="sum"), {"reducer": "sum"}),
        "SmoothGrad": (cc.SmoothGrad(model, reduce="sum", noise=0.0), {"reducer": "sum", "noise": 0.0}),
    }
    for name, (ours, options) in of_ours.items():
        theirs = np.asarray(getattr(xplique, name)(model, **options).explain(x, y))[..., 0]
        agree(ours.explain(x, CLASSES).maps[:, 0], theirs)


def test_xplique_resizes_with_a_softer_kernel(xplique: Any) -> None:
    model, x = logits_net(), samples((16, 16, 3))
    theirs = np.asarray(xplique.GradCAM(model, conv_layer="relu").explain(x, hot(CLASSES, 5)))[..., 0]
    ours = np.asarray(cc.GradCAM(model, "relu").explain(x, CLASSES))
    agree(ours, theirs, 0.2)
    assert theirs.min() < 0 <= ours.min()  # theirs overshoots below the raw map


def test_xplique_ignores_output_layer_and_operator(xplique: Any) -> None:
    model, x, y = logits_net(), samples((16, 16, 3)), hot(CLASSES, 5)

    def thrice(model: Any, inputs: Any, targets: Any) -> Any:
        return -3 * keras.ops.sum(model(inputs) * targets, axis=-1)

    plain = np.asarray(xplique.GradCAM(model, conv_layer="relu").explain(x, y))
    for options in ({"operator": thrice}, {"output_layer": "gap"}):
        np.testing.assert_array_equal(
            xplique.GradCAM(model, conv_layer="relu", **options).explain(x, y), plain
        )
    pixels = np.asarray(xplique.Saliency(model).explain(x, y))
    np.testing.assert_array_equal(xplique.Saliency(model, output_layer="gap").explain(x, y), pixels)
    signed = {"conv_layer": "relu", "signed": True}
    ours = cc.GradCAM(model, **signed).explain(x, y).maps
    agree(cc.GradCAM(model, operator=thrice, **signed).explain(x, y).maps, -3 * ours)
    a, _ = at_the_layer(model, "relu", x)
    pooled = cc.GradCAM(model, output_layer="gap", **signed).explain(x, 6).maps[:, 0]
    agree(pooled, a[..., 6] / a[0, ..., 0].size)


def test_xplique_tasks(xplique: Any) -> None:
    """Where xplique honours `operator`, at pixels, its tasks and ours are the same scores."""
    rng, x = np.random.default_rng(2), samples((8, 8, 2))
    inputs = keras.Input((8, 8, 2))
    hidden = L.Conv2D(3, 3, padding="same", activation="tanh")(inputs)
    dense = drawn(keras.Model(inputs, L.Conv2D(3, 1)(hidden)))
    mask = rng.integers(-1, 2, (2, 8, 8, 3)).astype(np.float32)
    corners, rest = L.Dense(6 * 4)(L.Flatten()(hidden)), L.Dense(6 * 4)(L.Flatten()(hidden))
    corners = L.Rescaling(0.03, [0.1, 0.2, 0.7, 0.9])(L.Reshape((6, 4))(corners))  # all boxes overlap
    boxes = L.Concatenate()([corners, L.Activation("sigmoid")(L.Reshape((6, 4))(rest))])
    detector = drawn(keras.Model(inputs, boxes))
    references = outputs(detector, samples((8, 8, 2), 4)[2:])[:, :3]
    numbers = drawn(keras.Model(inputs, L.Dense(4)(L.GlobalAveragePooling2D()(hidden))))
    for model, task, targets in (
        (dense, "semantic segmentation", mask),
        (detector, "object detection", references),
        (detector, "object detection", references[:, 0]),
        (numbers, "regression", rng.standard_normal((2, 4)).astype(np.float32)),
        (numbers, "classification", hot([1, 2], 4)),
    ):
        theirs = np.asarray(xplique.Saliency(model, operator=task).explain(x, targets))[..., 0]
        tolerance = 2e-3 if task == "object detection" else 1e-5  # xplique adds 1e-4 to the area of the union
        agree(cc.Saliency(model, operator=task).explain(x, targets).maps[:, 0], theirs, tolerance)


def test_xplique_takes_pictures_and_top_level_layers_only(xplique: Any) -> None:
    for model, x in ((conv1d(), samples((32, 4))), (conv3d(), samples((6, 12, 12, 3)))):
        with pytest.raises(ValueError, match="resize"):
            xplique.GradCAM(model, conv_layer="relu").explain(x, hot([1, 2], 3))
        assert np.asarray(cc.GradCAM(model, "relu").explain(x, [1, 2])).shape == x.shape[:-1]
    model, x = transfer(), samples((16, 16, 3))
    with pytest.raises(ValueError, match="No such layer"):
        xplique.GradCAM(model, conv_layer="add")
    with pytest.raises(StopIteration):
        xplique.GradCAM(model)
    theirs = raw(xplique.GradCAM(model, conv_layer="backbone"), x, hot(CLASSES, 4))
    agree(cc.GradCAM(model, "backbone/add").explain(x, CLASSES).maps[:, 0], theirs)


# tf-keras-vis


@AT
@pytest.mark.parametrize(
    ("ours", "theirs"), [("gradcam", "gradcam.Gradcam"), ("layercam", "layercam.Layercam")]
)
def test_tf_keras_vis_cams(vis: Any, layer: str, ours: str, theirs: str) -> None:
    model, x = logits_net(), samples((16, 16, 3))
    module, _, name = theirs.partition(".")
    peer = getattr(getattr(vis, module), name)(model)
    expected = unscaled(peer, vis.score(CLASSES), x, layer)
    agree(cc.methods.METHODS[ours](model, layer).explain(x, CLASSES).maps[:, 0], expected)


@pytest.mark.parametrize("make", [conv1d, conv3d])
def test_tf_keras_vis_gradcam_of_any_rank(vis: Any, make: Any) -> None:
    model = make()
    x = samples(tuple(model.input_shape[1:]))
    expected = unscaled(vis.gradcam.Gradcam(model), vis.score([1, 2]), x, "relu")
    agree(cc.GradCAM(model, "relu").explain(x, [1, 2]).maps[:, 0], expected)


@AT
def test_tf_keras_vis_gradcam_plus_plus_normalises_alpha(vis: Any, layer: str) -> None:
    model, x = logits_net(), samples((16, 16, 3))
    a, g = at_the_layer(model, layer, x)
    theirs = unscaled(vis.gradcam_plus_plus.GradcamPlusPlus(model), vis.score(CLASSES), x, layer)
    scores = outputs(model, x)[np.arange(2), CLASSES]
    agree(theirs, np.exp(scores)[:, None, None] * plus_plus(a, g, normalised=True), 1e-4)
    differ(theirs, cc.GradCAMPlusPlus(model, layer).explain(x, CLASSES).maps[:, 0])


def test_tf_keras_vis_saliency(vis: Any) -> None:
    model, x = logits_net(), samples((16, 16, 3))
    theirs = vis.saliency.Saliency(model)(vis.score(CLASSES), x, normalize_map=False)
    agree(cc.Saliency(model).explain(x, CLASSES).maps[:, 0], theirs)


def test_tf_keras_vis_takes_top_level_layers_only(vis: Any) -> None:
    model, x = transfer(), samples((16, 16, 3))
    for layer in ("add", "backbone"):
        with pytest.raises(ValueError, match="not connected"):
            unscaled(vis.gradcam.Gradcam(model), vis.score(CLASSES), x, layer)
