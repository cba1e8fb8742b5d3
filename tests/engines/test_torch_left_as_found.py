"""The model is left as it was found, whatever happens."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Deliberate, seeded
from nets import Net
from plain_hooks import X, cam, cam_by_hand, close, with_weights_of
from torch import Tensor, nn

import chronocam as cc

# Left as found


def snapshot(net: nn.Module) -> dict[str, Any]:
    """Everything of the model and of torch that an explanation might leave changed."""
    hooks = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_backward_pre_hooks",
        "_state_dict_hooks",
    )
    return {
        "hooks": {(path, kind): list(getattr(m, kind)) for path, m in net.named_modules() for kind in hooks},
        "attributes": {path: sorted(vars(m)) for path, m in net.named_modules()},
        "classes": {path: type(m) for path, m in net.named_modules()},
        "training": {path: m.training for path, m in net.named_modules()},
        "requires_grad": {name: p.requires_grad for name, p in net.named_parameters()},
        "tensors": {name: id(t) for name, t in [*net.named_parameters(), *net.named_buffers()]},
        "versions": {name: p._version for name, p in net.named_parameters()},
        "grads": {name: id(p.grad) for name, p in net.named_parameters()},
        "parameter hooks": {name: len(p._backward_hooks or ()) for name, p in net.named_parameters()},
        "values": {name: t.numpy().tobytes() for name, t in net.state_dict().items()},
        "modes": (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.is_autocast_cache_enabled(),
            torch.get_autocast_dtype("cpu"),
            torch._C._len_torch_function_stack(),
            torch.backends.mha.get_fastpath_enabled(),
            torch.backends.cudnn.enabled,
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            torch.is_anomaly_enabled(),
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
        ),
    }


class FailsBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        raise Deliberate


class Delicate(nn.Module):
    """Everything that may be left changed, and a switch that says where to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6)
        self.relu, self.drop = nn.ReLU(inplace=True), nn.Dropout(0.2)
        self.conv2, self.fc = nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.Linear(8, 5)
        self.fails = ""
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.steps = self.steps + 1
        x = self.bn(self.conv1(x))
        if self.fails == "before the layer":
            raise Deliberate
        x = self.relu(self.conv2(self.drop(self.relu(x))))
        if self.fails == "after the layer":
            raise Deliberate
        if self.fails == "in the backward pass":
            x = FailsBackward.apply(x)
        return self.fc(x.mean((2, 3)))


def raises(*args: Any) -> Any:
    raise Deliberate


@contextmanager
def inside(*modes: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for mode in modes:
            stack.enter_context(mode)
        yield


STAGES = [
    "",
    "before the layer",
    "after the layer",
    "in the backward pass",
    "in the target",
    "in the layout",
    "operator",
]


@pytest.mark.parametrize("mode", ["enable_grad", "no_grad", "inference_mode", "autocast"])
@pytest.mark.parametrize("stage", STAGES)
def test_the_model_is_left_as_found_wherever_it_fails(stage: str, mode: str) -> None:
    net = seeded(Delicate).train()
    net.drop.eval()
    net.conv1.weight.requires_grad_(False)
    net(X).sum().backward()
    net.fc.bias.grad = None
    net.fc.register_forward_hook(lambda module, args, output: None)
    net.fails = stage
    x = X.clone()
    context = torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False) if mode == "autocast" else None
    with inside(context or getattr(torch, mode)()):
        before = snapshot(net)
        options: dict[str, Any] = {"layout": raises if stage == "in the layout" else None}
        options["operator"] = raises if stage == "operator" else None
        targets = raises if stage == "in the target" else None
        for methods in (["gradcam"], ["saliency"], ["guidedgradcam", "shapleycam", "smoothgrad"]):
            options["output_layer"] = "fc" if methods == ["gradcam"] and stage != "operator" else None
            if stage == "in the layout" and methods == ["saliency"]:
                continue  # asks for no layout
            if stage:
                with pytest.raises(Deliberate):
                    cc.explain(net, x, targets, methods=methods, layers=["conv2"], **options)
            else:
                cc.explain(net, x, targets, methods=methods, layers=["conv2"], **options)
            after = snapshot(net)
            assert after.keys() == before.keys()
            for what in before:
                assert after[what] == before[what], (what, methods)
    assert torch.equal(x, X)
    assert x.grad is None
    assert x._version == 0


def test_left_as_found_after_the_default_layer_was_looked_for() -> None:
    net = seeded(Delicate).train()
    before = snapshot(net)
    assert cc.GradCAM(net).explain(X).layer == "relu"
    assert snapshot(net) == before
    net.fails = "after the layer"
    with pytest.raises(Deliberate):
        cc.GradCAM(net).explain(X)
    assert snapshot(net) == before | {"attributes": snapshot(net)["attributes"]}


def test_the_users_own_hooks_run_in_every_pass_and_stay() -> None:
    net, seen = seeded(Net), []
    net.conv2.register_forward_hook(lambda module, args, output: seen.append(1) or output * 2)
    found = cam(net)
    assert seen == [1]
    assert len(net.conv2._forward_hooks) == 1
    close(found, cam_by_hand(net, "conv2"))  # of the doubled output, with which the model goes on
    assert np.abs(found - cam_by_hand(with_weights_of(net, Net()), "conv2")).max() > 1e-3
