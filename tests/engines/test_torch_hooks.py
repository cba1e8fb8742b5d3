"""Hooks, parametrised weights and wrappers that a model came with: maps are those of the model with them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.utils.parametrize as P
from helpers import one_line, seeded
from nets import Net
from plain_hooks import COLUMN, X, close
from torch import Tensor, distributed, nn

import chronocam as cc


def twice(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output * 2


class Even(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return (weight + weight.flip(-1)) / 2


HOOKS: dict[str, Callable[[Net], object]] = {
    "forward": lambda net: net.conv2.register_forward_hook(twice),
    "forward, of keywords": lambda net: net.conv2.register_forward_hook(
        lambda module, args, kwargs, output: output * 2, with_kwargs=True
    ),
    "forward, always called": lambda net: net.conv2.register_forward_hook(twice, always_call=True),
    "before": lambda net: net.conv2.register_forward_pre_hook(lambda module, args: (args[0] * 3,)),
    "before, of keywords": lambda net: net.register_forward_pre_hook(
        lambda module, args, kwargs: ((args[0] * 3,), kwargs), with_kwargs=True
    ),
    "backward": lambda net: net.fc.register_full_backward_hook(lambda module, into, out: (into[0] * 2,)),
    "backward, at the layer": lambda net: net.conv2.register_full_backward_hook(
        lambda module, into, out: (into[0] * 2,)
    ),
    "backward, of the model": lambda net: net.register_full_backward_hook(lambda module, into, out: None),
    "before backward": lambda net: net.fc.register_full_backward_pre_hook(lambda module, out: (out[0] * 2,)),
    "of a weight": lambda net: net.fc.weight.register_hook(lambda gradient: gradient * 2),
    "parametrised": lambda net: P.register_parametrization(net.conv2, "weight", Even()),
    "orthogonal": lambda net: nn.utils.parametrizations.orthogonal(net.fc),
    "weight norm": lambda net: nn.utils.parametrizations.weight_norm(net.conv2),
    "old weight norm": lambda net: nn.utils.weight_norm(net.conv2),
}


SAME = {
    "backward, at the layer",
    "backward, of the model",
    "of a weight",
    "old weight norm",
    "weight norm",
}
"""Those that change no map."""


def by_hand(net: nn.Module, column: int) -> np.ndarray:
    """Return Grad-CAM without its ReLU, with a plain hook on the network itself."""
    kept: list[Tensor] = []
    handle = net.conv2.register_forward_hook(lambda module, args, output: kept.append(output))
    (gradient,) = torch.autograd.grad(net(X.clone().requires_grad_())[:, column].sum(), kept[0])
    handle.remove()
    return torch.einsum("bk,bkhw->bhw", gradient.mean((2, 3)), kept[0]).detach().numpy()


@pytest.mark.parametrize("hook", HOOKS)
def test_maps_are_those_of_the_model_with_its_hooks(hook: str) -> None:
    net = seeded(Net)
    HOOKS[hook](net)
    targets = [cc.targets.Class(COLUMN), cc.targets.Class(2)]
    found = cc.GradCAM(net, "conv2", signed=True).explain(X, targets)
    for k, column in enumerate((COLUMN, 2)):
        close(found.maps[:, k], by_hand(net, column))
    if hook not in SAME:
        assert np.abs(found.maps[:, 0] - by_hand(seeded(Net), COLUMN)).max() > 1e-3


@pytest.mark.parametrize("name", ["ablationcam", "scorecam", "smoothgrad", "guidedgradcam", "shapleycam"])
def test_hooks_run_in_the_passes_of_every_method(name: str) -> None:
    hooked, equal = seeded(Net), seeded(Net)
    hooked.conv2.register_forward_hook(twice)
    with torch.no_grad():
        equal.conv2.weight.mul_(2)
        equal.conv2.bias.mul_(2)
    found, expected = (
        cc.methods.METHODS[name](net, **({} if name == "smoothgrad" else {"conv_layer": "conv2"}))
        for net in (hooked, equal)
    )
    close(found.explain(X, COLUMN).maps, expected.explain(X, COLUMN).maps)


def test_what_distributes_a_part_of_the_model_is_looked_through() -> None:
    net = seeded(Net)
    expected = cc.GradCAM(net, "conv2").explain(X, COLUMN).maps
    net.conv2 = nn.DataParallel(net.conv2)
    net.conv2.device_ids = [0, 1]  # as on a machine with two GPUs
    close(cc.GradCAM(net, "conv2").explain(X, COLUMN).maps, expected)


def test_hooks_of_what_is_looked_through_are_refused() -> None:
    wrapped = nn.DataParallel(seeded(Net))
    wrapped.register_forward_hook(twice)
    with pytest.raises(cc.errors.ModelError) as error:
        cc.GradCAM(wrapped)
    one_line(error, "DataParallel", "register them on the Net inside")


@pytest.fixture
def alone() -> Any:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("alone")
def test_models_of_several_processes_are_explained_or_refused() -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    expected = cc.GradCAM(seeded(Net), "conv2").explain(X, COLUMN).maps
    copied = nn.parallel.DistributedDataParallel(seeded(Net))
    close(cc.GradCAM(copied, "conv2").explain(X, COLUMN).maps, expected)
    gathered = FullyShardedDataParallel(seeded(Net), device_id=torch.device("cpu"))
    close(cc.GradCAM(gathered, "_fsdp_wrapped_module.conv2").explain(X, COLUMN).maps, expected)
    sharded = seeded(Net)
    fully_shard(sharded.conv2)
    fully_shard(sharded)
    with pytest.raises(cc.errors.ModelError) as error:
        cc.GradCAM(sharded, "conv2").explain(X, COLUMN)
    one_line(error, "fully_shard", "full state dict")
