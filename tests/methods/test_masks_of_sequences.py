"""Masks on sequences `(batch, time, feature)`: over steps, over features, and over both."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import InputError, ModelError

TIME, FEATURES = 6, 4
X = torch.rand(2, TIME, FEATURES, generator=torch.Generator().manual_seed(0)) + 0.5
WHOLE = {"cells": (TIME, FEATURES), "frames": None, "features": None}


class LinearSequence(nn.Module):
    """An RNN that passes on what is positive, and a weight for each step and feature."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.RNN(FEATURES, FEATURES, nonlinearity="relu", batch_first=True, bias=False)
        self.fc = nn.Linear(TIME * FEATURES, 3)
        with torch.no_grad():
            self.rnn.weight_ih_l0.copy_(torch.eye(FEATURES))
            self.rnn.weight_hh_l0.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[0].flatten(1))


def shares(net: LinearSequence, start: Tensor | float) -> np.ndarray:
    """What each step's feature adds to the score of class 1 over that of a baseline."""
    return (net.fc.weight[1].detach().view(TIME, FEATURES) * (X - start)).numpy()


def over(regions: str, values: np.ndarray) -> np.ndarray:
    """Sum over what is hidden together."""
    axis = {"frames": 2, "features": 1}.get(regions)
    return values if axis is None else np.broadcast_to(values.sum(axis, keepdims=True), values.shape)


@pytest.mark.parametrize("regions", WHOLE)
@pytest.mark.parametrize("baseline", ["zero", "mean"])
@pytest.mark.parametrize("method", [cc.RISE, cc.LIME, cc.KernelSHAP])
def test_a_linear_score_is_split_over_steps_and_features(method: Any, baseline: str, regions: str) -> None:
    net = LinearSequence().eval()
    found = method(net, regions=regions, cells=WHOLE[regions], baseline=baseline, signed=True).explain(X, 1)
    start = 0.0 if baseline == "zero" else X.mean(1, keepdim=True)  # of each feature over its steps
    assert found.dims == ("batch", "target", "time", "feature")
    np.testing.assert_allclose(found.maps[:, 0], over(regions, shares(net, start)), atol=1e-4)


def test_windows_hide_a_feature_of_a_step() -> None:
    net = LinearSequence().eval()
    found = cc.Occlusion(net, window=1, stride=1, baseline="zero", signed=True).explain(X, 1)
    np.testing.assert_allclose(found.maps[:, 0], shares(net, 0), atol=1e-5)
    steps = cc.Occlusion(net, window=(1, FEATURES), stride=(1, FEATURES), baseline="zero", signed=True)
    np.testing.assert_allclose(steps.explain(X, 1).maps[:, 0], over("frames", shares(net, 0)), atol=1e-5)


def test_a_feature_is_blurred_and_frozen_in_time_alone() -> None:
    net = LinearSequence().eval()
    level = X[:, :1].expand(-1, TIME, -1) * torch.tensor([1.0, 5.0, 1.0, 9.0])
    for baseline in ("blur", "freeze", "mean"):
        found = cc.KernelSHAP(net, regions="features", baseline=baseline, signed=True).explain(level, 1)
        np.testing.assert_allclose(found.maps, 0, atol=1e-4)  # nothing changes, so nothing goes away
    frozen = cc.KernelSHAP(net, regions="frames", baseline="freeze", signed=True).explain(X, 1)
    whole = (net(X) - net(X[:, :1].expand_as(X)))[:, 1].detach().numpy()
    np.testing.assert_allclose(frozen.maps[:, 0, :, 0].sum(1), whole, atol=1e-4)


@pytest.mark.parametrize("method", [cc.BlurIG, cc.IntegratedGradients])
def test_blurred_starts_leave_each_feature_to_itself(method: Any) -> None:
    net = LinearSequence().eval()
    level = X[:, :1].expand(-1, TIME, -1) * torch.tensor([1.0, 5.0, 1.0, 9.0])
    options = {} if method is cc.BlurIG else {"baseline": "blur"}
    np.testing.assert_allclose(method(net, **options).explain(level, 1).maps, 0, atol=1e-4)
    found = method(net, steps=60, **options).explain(X, 1)
    assert np.abs(found.maps).max() > 0.01
    assert not found.findings  # what is attributed adds up to the rise of the score


def test_attention_without_a_convolution_reads_features_of_steps() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(FEATURES, 2, 8, batch_first=True)
    net = nn.Sequential(layer, nn.Flatten(), nn.Linear(TIME * FEATURES, 3)).eval()
    found = cc.KernelSHAP(net, regions="frames", baseline="zero", signed=True).explain(X, 1)
    fall = (net(X) - net(0 * X))[:, 1].detach().numpy()
    np.testing.assert_allclose(found.maps[:, 0, :, 0].sum(1), fall, atol=1e-4)


def test_a_served_model_of_sequences_is_told_by_its_regions() -> None:
    net = LinearSequence().eval()
    box = cc.blackbox(lambda x: net(torch.from_numpy(x)).detach().numpy())
    found = cc.KernelSHAP(box, regions="features", baseline="zero", signed=True).explain(X.numpy(), 1)
    np.testing.assert_allclose(found.maps[:, 0], over("features", shares(net, 0)), atol=1e-4)


def test_a_function_says_what_the_axes_of_its_inputs_are() -> None:
    net = LinearSequence().eval()

    def served(x: Any) -> Any:
        return net(torch.from_numpy(np.ascontiguousarray(x))).detach().numpy()

    options: dict[str, Any] = {"window": 1, "stride": 1, "baseline": "zero", "signed": True}
    with pytest.raises(InputError, match=r"shape \(6, 4\), which may be steps .* axes=\"tf\""):
        cc.Occlusion(cc.blackbox(served), **options).explain(X.numpy(), 1)
    found = cc.Occlusion(cc.blackbox(served, axes="tf"), **options).explain(X.numpy(), 1)
    assert found.dims == ("batch", "target", "time", "feature")
    np.testing.assert_allclose(found.maps[:, 0], shares(net, 0), atol=1e-5)
    signal = cc.Occlusion(cc.blackbox(served, axes="tc"), **options).explain(X.numpy(), 1)
    np.testing.assert_allclose(signal.maps[:, 0], shares(net, 0).sum(2), atol=1e-5)
    turned = cc.blackbox(lambda x: served(x.swapaxes(1, 2)), axes="ct")
    signal = cc.Occlusion(turned, **options).explain(X.mT.numpy(), 1)
    np.testing.assert_allclose(signal.maps[:, 0], shares(net, 0).sum(2), atol=1e-5)
    frames = cc.KernelSHAP(cc.blackbox(served, axes="tf"), regions="frames", baseline="zero", signed=True)
    np.testing.assert_allclose(
        frames.explain(X.numpy(), 1).maps[:, 0], over("frames", shares(net, 0)), atol=1e-4
    )


@pytest.mark.parametrize(
    ("axes", "shape"),
    [("hwc", (3, 4, 5)), ("hw", (3, 4)), ("thw", (2, 3, 4)), ("dhwc", (2, 3, 4, 2)), ("tchw", (3, 3, 2, 2))],
)
def test_axes_that_no_number_of_channels_tells(axes: str, shape: tuple[int, ...]) -> None:
    x, weights = np.random.default_rng(0).random((2, 2, *shape)).astype(np.float32)
    box = cc.blackbox(lambda a: (a * weights[0]).reshape(len(a), -1).sum(1)[:, None] * [0, 1], axes=axes)
    found = cc.Occlusion(box, window=1, stride=1, baseline="zero", signed=True).explain(x, 1)
    share = x * weights[:1]
    expected = share.sum(1 + axes.index("c")) if "c" in axes else share
    np.testing.assert_allclose(found.maps[:, 0], expected, atol=1e-5)
    with pytest.raises(InputError, match=f"expected {len(axes)} axes"):
        cc.Occlusion(box).explain(x[..., None], 1)


def test_an_unknown_order_of_axes_is_refused() -> None:
    with pytest.raises(ModelError, match="axes='time' is not an order of axes"):
        cc.blackbox(lambda x: x, axes="time")


def test_gradients_at_a_sequence_are_of_each_feature(tmp_path: Any) -> None:
    net = LinearSequence().eval()
    found = cc.InputXGradient(net).explain(X, 1)
    np.testing.assert_allclose(found.maps[:, 0], shares(net, 0), atol=1e-5)
    assert cc.load(found.save(tmp_path / "x.npz")).dims == found.dims


def test_features_of_a_picture_and_superpixels_of_a_sequence_are_refused() -> None:
    picture = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
    with pytest.raises(InputError, match=r"regions=\"features\" is for sequences"):
        cc.RISE(picture, regions="features").explain(torch.rand(1, 1, 8, 8), 1)
    with pytest.raises(InputError, match="superpixels are of pictures"):
        cc.LIME(LinearSequence().eval(), regions="superpixels").explain(X, 1)
    signal = nn.Sequential(nn.Conv1d(2, 3, 3), nn.Flatten(), nn.Linear(18, 2)).eval()
    with pytest.raises(InputError, match=r"regions=\"features\" is for sequences"):
        cc.RISE(signal, regions="features").explain(torch.rand(1, 2, 8), 1)
    with pytest.raises(InputError, match="smooth in space"):
        cc.ExtremalPerturbation(LinearSequence().eval(), steps=2).explain(X, 1)


def test_batches_of_sequences_are_joined() -> None:
    net = LinearSequence().eval()
    options: dict[str, Any] = {"regions": "features", "baseline": "zero", "signed": True}
    joined = cc.KernelSHAP(net, batch_size=1, **options).explain(X, 1)
    assert joined.dims == ("batch", "target", "time", "feature")
    np.testing.assert_allclose(joined.maps, cc.KernelSHAP(net, **options).explain(X, 1).maps, atol=1e-5)
