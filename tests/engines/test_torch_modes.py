"""The caller's modes, training mode and the model's own no_grad()."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import one_line, seeded
from nets import Net, Normed
from plain_hooks import COLUMN, X, by_hand, cam, cam_by_hand, close, with_weights_of
from torch import Tensor, nn

import chronocam as cc
from chronocam.engines import Request, engine_for
from chronocam.engines.torch import tensors
from chronocam.errors import ModelError

# The caller's modes


def test_frozen_parameters_change_no_map() -> None:
    net = seeded(Net).requires_grad_(False)
    for layer in ("conv1", "conv2"):
        close(cam(net, layer), cam_by_hand(copy.deepcopy(net).requires_grad_(), layer))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("inside", [True, False], ids=["called inside", "inputs made inside"])
def test_the_callers_grad_mode_changes_nothing_and_stays(mode: Any, inside: bool) -> None:
    net = seeded(Net)
    with mode():
        x = X + 0
        if inside:
            before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
            maps, saliency = cam(net, "conv1", x), cc.Saliency(net).explain(x, COLUMN).maps
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
    if not inside:
        maps, saliency = cam(net, "conv1", x), cc.Saliency(net).explain(x, COLUMN).maps
    close(maps, cam_by_hand(net, "conv1"))
    close(saliency, cc.Saliency(net).explain(X, COLUMN).maps)


def test_inputs_with_a_graph_of_their_own_get_no_gradient() -> None:
    net, leaf = seeded(Net), X.clone().requires_grad_()
    x = leaf * 2
    close(cc.Saliency(net).explain(x, COLUMN).maps, cc.Saliency(net).explain(X * 2, COLUMN).maps)
    assert leaf.grad is None
    x.sum().backward()
    assert leaf.grad is not None


def trains(net: nn.Module) -> bool:
    """Whether one training step gives every parameter a gradient."""
    net.zero_grad()
    net(X).square().sum().backward()
    return all(p.grad is not None and bool(p.grad.any()) for p in net.parameters())


def test_training_goes_on_under_autocast() -> None:
    net = seeded(Net)
    engine = engine_for(net)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for layer in ("conv1", "conv2"):
            engine.record(X, lambda result: result.logits()[:, [COLUMN]], Request([layer], gradients=[layer]))
            assert trains(net)  # weights cast without a graph must not be served from autocast's cache
            engine.trace(X)
            assert trains(net)
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_autocast_cache_enabled()
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16


def test_maps_under_autocast_are_close_and_training_goes_on() -> None:
    net = seeded(Net)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first = cam(net)
        assert trains(net)
        second = cam(net)
        exact = cc.GradCAM(net, "conv2").explain(X).scores
        assert net(X).dtype == torch.bfloat16
    np.testing.assert_array_equal(first, second)
    close(first, cam_by_hand(net, "conv2"), tolerance=0.03)
    assert np.abs(first - cam_by_hand(net, "conv2")).max() > 0  # it did run in half precision
    close(exact[:, 0], net(X).max(1).values.detach(), tolerance=0.03)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_another_precision(dtype: torch.dtype) -> None:
    net = seeded(Net)
    other = copy.deepcopy(net).to(dtype)
    tolerance = 1e-5 if dtype == torch.float64 else 0.03
    for targets in (
        COLUMN,
        [cc.targets.Class(COLUMN)],
        lambda y: y[:, COLUMN],
        np.full(3, COLUMN),
        np.eye(5)[[1] * 3],
    ):
        close(cam(other, targets=targets), cam_by_hand(net, "conv2"), tolerance=tolerance)
    predicted = cc.GradCAM(other, "conv2").explain(X)
    assert predicted.maps.dtype == np.float32
    assert [row[0].index for row in predicted.targets] == net(X).argmax(1).tolist()
    close(
        cc.FinerCAM(other, signed=True).explain(X, 1).maps,
        cc.FinerCAM(net, signed=True).explain(X, 1).maps,
        tolerance=0.06,
    )


def test_scores_of_half_precision_outputs_are_summed_in_single_precision() -> None:
    net = seeded(lambda: Net(end=lambda y: y * 500))
    half = copy.deepcopy(net).half()
    assert (half(X.half()).square().sum(1)).isinf().any()
    found, expected = (cc.GradCAM(model, "conv2").explain(X, cc.targets.Norm()) for model in (half, net))
    close(found.scores, expected.scores, tolerance=0.03)
    close(found.maps, expected.maps, tolerance=0.03)


# Training mode


def test_batch_norm_in_training_mode() -> None:
    net = seeded(Normed).train()
    before = copy.deepcopy(net.state_dict())
    for layer in ("conv1", "conv2", "bn"):
        close(cam(net, layer), cam_by_hand(net, layer))
    assert net.bn.num_batches_tracked == 0
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(module.training for module in net.modules())
    assert np.abs(cam(net) - cam(copy.deepcopy(net).eval())).max() > 1e-4  # the batch's statistics were used


def test_each_samples_gradient_in_training_mode_for_several_targets() -> None:
    net = seeded(Normed).train()
    found = cc.GradCAM(net, "conv2", signed=True).explain(X, [cc.targets.Class(k) for k in range(5)] * 2)
    assert tensors.TARGETS_PER_PASS < 3 * 10
    for k in range(10):
        close(found.maps[:, k], cam_by_hand(net, "conv2", column=k % 5))
    pixels = cc.Saliency(net, reduce="sum").explain(X, COLUMN).maps[:, 0]
    x = X.clone().requires_grad_()
    y = copy.deepcopy(net)(x)[:, COLUMN]
    own = [torch.autograd.grad(y[i], x, retain_graph=True)[0][i] for i in range(3)]
    close(pixels, torch.stack(own).sum(1))


def test_batch_norm_without_running_statistics_couples_in_eval_mode_too() -> None:
    net = seeded(Normed)
    net.bn = nn.BatchNorm2d(8, track_running_stats=False).eval()
    close(cam(net), cam_by_hand(net, "conv2"))


def test_coupled_samples_behind_a_layer_without_batch_axis_are_refused() -> None:
    class TokensFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch, self.mix = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 8)
            self.bn, self.fc = nn.BatchNorm1d(8), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.bn(self.mix(self.patch(x).flatten(2).permute(2, 0, 1)).mean(0)))

    net = seeded(TokensFirst)
    assert np.abs(cam(net, "mix")).max() > 0
    with pytest.raises(ModelError) as error:
        cam(net.train(), "mix")
    one_line(error, "(16, 3, 8)", "model.eval()")


def test_dropout_in_training_mode_stays_on() -> None:
    class Drops(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc(F.dropout(self.features(x).mean((2, 3)), 0.5, self.training))

    net = seeded(Drops)
    still = cam(net)
    net.train()
    torch.manual_seed(3)
    found = cam(net)
    torch.manual_seed(3)
    close(found, cam_by_hand(net, "conv2"))
    assert np.abs(found - still).max() > 1e-3
    assert net.training


# The model's own no_grad()


class FrozenBody(Net):
    """A backbone under the model's own `no_grad`, part by part, and a trainable head with its own layer."""

    def __init__(self, freeze: Any = torch.no_grad) -> None:
        super().__init__()
        self.freeze, self.neck = freeze, nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        with self.freeze():
            x = F.relu(self.conv1(x))
        with self.freeze():
            x = F.relu(self.conv2(x))
        return self.fc(self.neck(x).mean((2, 3)))


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize(
    "layers", [["conv1"], ["conv2"], ["neck"], ["conv1", "neck"], ["neck", "conv2", "conv1"]]
)
def test_layers_within_the_models_own_no_grad(layers: list[str], trainable: bool) -> None:
    net = seeded(FrozenBody).requires_grad_(trainable)
    free = with_weights_of(net, FrozenBody(torch.enable_grad))
    found = cc.explain(net, X, COLUMN, layers=layers, methods=["hirescam"])
    assert [e.layer for e in found.values()] == layers
    for explanation in found.values():
        a, g = by_hand(free, explanation.layer)
        close(explanation.maps[:, 0], (a * g).sum(1).clamp(min=0))
    close(
        cc.Saliency(net, reduce="sum").explain(X, COLUMN).maps,
        cc.Saliency(free, reduce="sum").explain(X, COLUMN).maps,
    )
    assert torch.is_grad_enabled()


def test_a_model_that_runs_within_its_own_no_grad_as_a_whole() -> None:
    class Predicts(Net):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return super().forward(x)

    net = seeded(Predicts)
    close(cam(net), cam_by_hand(with_weights_of(net, Net()), "conv2"))
    assert cc.GradCAM(net).explain(X, COLUMN).layer == "conv2"


def test_guided_and_plain_gradients_through_the_models_own_no_grad() -> None:
    net = seeded(FrozenBody)
    free = with_weights_of(net, FrozenBody(torch.enable_grad))
    methods = ["guidedbackprop", "gradcam", "saliency"]
    found, expected = (
        cc.explain(model, X, COLUMN, layers=["conv1"], methods=methods) for model in (net, free)
    )
    for name in methods:
        close(found[name].maps, expected[name].maps)
    assert np.abs(found["guidedbackprop"].maps - found["saliency"].maps).max() > 1e-4
    noted = engine_for(seeded(lambda: nn.Sequential(FrozenBody(), nn.Softmax(dim=1))))
    recording = noted.record(
        X, lambda result: result.logits()[:, [0]], Request(["0.conv1"], gradients=["0.conv1"])
    )
    assert len(recording.notes) == 1


def test_a_layer_within_the_models_own_inference_mode_is_refused() -> None:
    with pytest.raises(ModelError) as error:
        cam(seeded(lambda: FrozenBody(torch.inference_mode)).requires_grad_(False), "conv2")
    one_line(error, "torch.inference_mode()", "torch.no_grad()")
