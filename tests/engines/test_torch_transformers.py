"""Transformers' fused inference paths are left while a layer within is recorded."""

import copy
from typing import Any

import pytest
import torch
from helpers import seeded
from nets import Encoder
from plain_hooks import COLUMN, X, close
from torch import Tensor

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
