"""Transformers' fused inference paths are left while a layer within is recorded."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from helpers import seeded
from nets import Encoder
from plain_hooks import COLUMN, X, close
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import chronocam as cc

# Transformers' fused inference paths


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize(
    "layer",
    [
        "patch",
        "encoder",
        "encoder.layers.0",
        "encoder.layers.0.self_attn",
        "encoder.layers.1.linear2",
        "attention",
    ],
)
def test_transformer_layers_in_eval_mode(layer: str, trainable: bool, batch_first: bool) -> None:
    net = seeded(lambda: Encoder(batch_first=batch_first)).requires_grad_(trainable)
    kept: list[Tensor] = []
    hand = copy.deepcopy(net).requires_grad_()

    def keep(module: Any, args: Any, output: Any) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)

    hand.get_submodule(layer).register_forward_hook(keep)
    x = X.clone().requires_grad_()  # differentiable from the start: never fused
    y = hand(x)[:, COLUMN]
    (g,) = torch.autograd.grad(y.sum(), kept[0])
    a = kept[0].detach()
    if layer != "patch":
        a, g = ((t if batch_first else t.transpose(0, 1)).transpose(1, 2).reshape(3, 8, 4, 4) for t in (a, g))
    found = cc.GradCAM(net, layer, signed=True).explain(X, COLUMN)
    close(found.maps[:, 0], torch.einsum("bk,bkhw->bhw", g.mean((2, 3)), a))
    close(found.scores[:, 0], y.detach())


# Second derivatives


class Fused(nn.Module):
    """Two kinds of fused attention over patches: a module's, and a function's."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.mixed = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 24)
        self.encoder, self.fc = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 3)

    def after(self, patches: Tensor) -> Tensor:
        tokens = patches.flatten(2).mT
        q, k, v = self.mixed(tokens).unflatten(-1, (6, 4)).transpose(1, 2).chunk(3, dim=1)
        attended = nn.functional.scaled_dot_product_attention(q, k, v, scale=0.7)
        return self.fc((self.encoder(tokens) + attended.transpose(1, 2).flatten(2)).mean(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.patches(x))


def test_second_derivatives_go_through_fused_attention() -> None:
    net, x = seeded(Fused), torch.rand(2, 3, 16, 16)
    found = cc.ShapleyCAM(net, "patches", signed=True).explain(x, 1).maps
    a = net.patches(x).detach().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        (first,) = torch.autograd.grad(net.after(a)[:, 1].sum(), a, create_graph=True)
        (second,) = torch.autograd.grad(first, a, a.detach())
    weights = (first - second / 2).mean((2, 3), keepdim=True)
    np.testing.assert_allclose(found[:, 0], (weights * a).sum(1).detach(), rtol=1e-4, atol=1e-6)
    assert second.abs().max() > 1e-4
