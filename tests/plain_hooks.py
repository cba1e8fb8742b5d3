"""Grad-CAM with a plain hook on a copy of the network, and chronocam's beside it."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from helpers import close as close_to
from torch import Tensor, nn

import chronocam as cc

COLUMN = 1
X = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(7))

close = partial(close_to, tolerance=1e-5)


def with_weights_of(net: nn.Module, other: nn.Module) -> Any:
    other.load_state_dict(net.state_dict())
    return other.train(net.training)


def by_hand(
    net: nn.Module, layer: str, x: Tensor = X, column: int = COLUMN, call: int = -1
) -> tuple[Tensor, Tensor]:
    """A and ∂y_c/∂A of each sample, with a plain hook on a copy of the network."""
    net, kept = copy.deepcopy(net), []
    net.get_submodule(layer).register_forward_hook(lambda module, args, output: kept.append(output))
    with torch.enable_grad():
        y = net(x)
        own = [torch.autograd.grad(y[i, column], kept[call], retain_graph=True)[0][i] for i in range(len(x))]
    return kept[call].detach(), torch.stack(own)


def cam_by_hand(net: nn.Module, layer: str, *args: Any, **options: Any) -> np.ndarray:
    """Grad-CAM without its ReLU, `(batch, height, width)`."""
    a, g = by_hand(net, layer, *args, **options)
    return torch.einsum("bk,bkhw->bhw", g.mean((2, 3)), a).numpy()


def cam(model: Any, layer: Any = "conv2", x: Any = X, targets: Any = COLUMN, **options: Any) -> np.ndarray:
    maps = cc.GradCAM(model, layer, signed=True, **options).explain(x, targets).maps
    assert maps.shape[1] == 1
    return maps[:, 0]


def bold(model: Any, layer: Any = None, **options: Any) -> cc.methods.Method:
    """Grad-CAM that keeps its signs, for `cc.explain`."""
    return cc.GradCAM(model, layer, signed=True, **options)


def cam_of_score(net: nn.Module, layer: str, x: Tensor, score: Callable[[Any], Tensor]) -> np.ndarray:
    """Grad-CAM `(batch, *grid)` of a score, at a layer with its channels first."""
    kept: list[Tensor] = []
    handle = net.get_submodule(layer).register_forward_hook(lambda m, a, out: kept.append(out))
    total = score(net(x)).sum()
    handle.remove()
    (g,) = torch.autograd.grad(total, kept[0])
    axes = tuple(range(2, g.ndim))
    weights = g.mean(axes, keepdim=True)
    return (weights * kept[0]).sum(1).relu().detach().numpy()


def agrees(net: nn.Module, layer: str, x: Tensor, target: Any, score: Callable[[Any], Tensor]) -> Any:
    """The default explanation is that of `layer`, and its map the one made by hand."""
    found = cc.GradCAM(net).explain(x, target)
    assert found.layer == layer
    np.testing.assert_allclose(found.maps[:, 0], cam_of_score(net, layer, x, score), rtol=1e-4, atol=1e-7)
    return found
