"""Grad-CAM with a plain hook on a copy of the network, and chronocam's beside it."""

import copy
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
