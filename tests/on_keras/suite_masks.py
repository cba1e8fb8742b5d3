"""What needs biases, input gradients or scores alone, on Keras models of every backend."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from networks import L, cnn, conv1d, conv3d, drawn, frames_lstm, samples, transfer

import chronocam as cc
from chronocam.maps.arrays import to_numpy
from chronocam.types import View


class Terms(cc.FullGrad):
    """Keeps what was added up."""

    def maps(self, view: View) -> Any:
        (capture,) = view.captures
        self.terms = [capture.gradients * capture.activations[:, None], *capture.biases]
        return super().maps(view)


def scaled() -> Any:
    """Inputs scaled by the model itself, ReLU6 in a layer and as a layer, frames of a picture."""
    return drawn(
        keras.Sequential(
            [
                keras.Input((12, 12, 3)),
                L.Rescaling(4.0, offset=[-1.0, 0.5, 0.3]),
                L.SeparableConv2D(6, 3, activation="relu6", name="conv1"),
                L.DepthwiseConv2D(3, name="conv2"),
                L.BatchNormalization(name="bn"),
                L.ReLU(max_value=0.8, name="capped"),
                L.Flatten(),
                L.Dense(3, name="head"),
            ]
        )
    )


NETWORKS: list[tuple[Callable[[], Any], tuple[int, ...]]] = [
    (cnn, (16, 16, 3)),
    (transfer, (16, 16, 3)),
    (scaled, (12, 12, 3)),
    (conv1d, (32, 4)),
    (conv3d, (6, 12, 12, 3)),
]


@pytest.mark.parametrize(("make", "shape"), NETWORKS)
def test_what_fullgrad_adds_up_is_the_score(make: Callable[[], Any], shape: tuple[int, ...]) -> None:
    method = Terms(make())
    explanation = method.explain(samples(shape), np.array([[0, 1, 2]] * 2))
    total = sum(to_numpy(term).reshape(*term.shape[:2], -1).sum(2) for term in method.terms)
    np.testing.assert_allclose(total, explanation.scores, rtol=1e-4, atol=1e-5)
    assert explanation.maps.shape == (2, 3, *shape[:-1])
    assert not [finding for finding in explanation.findings if "adds up" in finding.text]


def test_masks_of_a_linear_score_are_what_each_region_adds() -> None:
    model = drawn(keras.Sequential([keras.Input((14, 14, 3)), L.Flatten(), L.Dense(4)]))
    x = samples((14, 14, 3))
    weights = np.asarray(model.get_weights()[0])[:, 2].reshape(14, 14, 3)
    sums = (weights * x).sum(3).reshape(2, 7, 2, 7, 2).sum((2, 4)).repeat(2, 1).repeat(2, 2)
    for method in (cc.RISE, cc.LIME, cc.KernelSHAP):
        found = method(model, regions="cells", baseline="zero", signed=True).explain(x, 2)
        np.testing.assert_allclose(found.maps[:, 0], sums, atol=1e-4)
    windows = cc.Occlusion(model, window=2, stride=2, baseline="zero", signed=True).explain(x, 2)
    np.testing.assert_allclose(windows.maps[:, 0], sums, atol=1e-4)


def test_frames_of_clips_are_masked() -> None:
    found = cc.KernelSHAP(frames_lstm(), regions="frames", baseline="mean", signed=True).explain(
        samples((4, 12, 12, 3)), 1
    )
    assert found.maps.shape == (2, 1, 4, 12, 12)
    assert found.maps.std(axis=(3, 4)).max() < 1e-6
    assert found.maps.std(axis=2).max() > 1e-3


def test_views_are_moved_back() -> None:
    x = samples((16, 16, 3))
    plain, mirrored = (cc.GradCAM(cnn(), views=views).explain(x, 1).maps for views in (None, "flip"))
    other = cc.GradCAM(cnn()).explain(np.ascontiguousarray(x[:, :, ::-1]), 1).maps[..., ::-1]
    np.testing.assert_allclose(mirrored, (plain + other) / 2, atol=1e-5 * plain.max())


def test_the_learned_mask_shows_the_part_that_counts() -> None:
    """The score is how much the values of one quarter differ from their neighbours."""
    x = image = keras.Input((24, 24, 3))
    edges = keras.ops.absolute(x[:, :12, 1:12] - x[:, :12, :11])
    model = keras.Model(image, L.Dense(1, use_bias=False)(L.GlobalAveragePooling2D()(edges)))
    model.set_weights([np.ones((3, 1), np.float32)])
    x = np.random.default_rng(0).standard_normal((1, 24, 24, 3)).astype(np.float32)
    maps = (
        cc.ExtremalPerturbation(model, area=0.2, steps=30, sigma=3.0)
        .explain(x, cc.targets.Regression(0))
        .maps
    )
    inside = maps[0, 0, : maps.shape[2] // 2, : maps.shape[3] // 2]
    assert inside.sum() > 0.9 * maps.sum()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_sequence_is_masked_by_step_and_feature(bidirectional: bool) -> None:
    rnn = L.Bidirectional(L.GRU(5)) if bidirectional else L.LSTM(5)
    model = drawn(keras.Sequential([keras.Input((6, 4)), rnn, L.Dense(3)]))
    x = np.random.default_rng(0).random((2, 6, 4), np.float32)
    found = cc.KernelSHAP(model, regions="features", baseline="zero", signed=True).explain(x, 1)
    assert found.dims == ("batch", "target", "time", "feature")
    fall = model.predict(x, verbose=0)[:, 1] - model.predict(0 * x, verbose=0)[:, 1]
    np.testing.assert_allclose(found.maps[:, 0, 0].sum(-1), fall, atol=1e-5)
    assert cc.Saliency(model).explain(x, 1).maps.shape == (2, 1, 6, 4)


def test_a_keras_predict_is_a_black_box() -> None:
    layers = [keras.Input((16, 16, 3)), L.Conv2D(4, 3, activation="tanh"), L.GlobalMaxPooling2D(), L.Dense(3)]
    model = drawn(keras.Sequential(layers))
    x = samples((16, 16, 3))
    served = cc.blackbox(lambda batch: model.predict(batch, verbose=0))
    options = {"budget": 60, "until": None, "signed": True}
    found = cc.RISE(served, **options).explain(x, 1)
    np.testing.assert_allclose(found.maps, cc.RISE(model, **options).explain(x, 1).maps, atol=1e-5)
