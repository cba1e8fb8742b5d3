"""Attention of learned tokens to the input's: as many latents as patches, which are no patches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import ModelError

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
PATCHES, WIDTH, HEADS = 16, 8, 2


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        self.weights: list[Tensor] = []

    def forward(self, asking: Tensor, given: Tensor) -> Tensor:
        by_head = [x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (self.q(asking), self.kv(given))]
        q, (k, v) = by_head[0], by_head[1].chunk(2, -1)
        self.weights = [*self.weights, a := (q @ k.mT).softmax(-1)]
        return (a @ v).transpose(1, 2).flatten(2)


class Perceiver(nn.Module):
    """Latents attend to the patches, then to each other and, where asked for, to the patches again."""

    def __init__(self, latents: int = PATCHES, again: bool = False, frozen: bool = False) -> None:
        super().__init__()
        self.patches, self.latents = nn.Conv2d(3, WIDTH, 8, 8), nn.Parameter(torch.randn(1, latents, WIDTH))
        self.cross, self.blocks = Attention(), nn.ModuleList(Attention() for _ in range(2))
        self.fc, self.again, self.frozen = nn.Linear(WIDTH, 4), again, frozen

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            patches = self.patches(x).flatten(2).mT
        tokens = self.latents.expand(len(x), -1, -1)
        tokens = tokens + self.cross(tokens, patches)
        for block in self.blocks:
            tokens = tokens + block(tokens, tokens)
        if self.again:
            tokens = tokens + self.cross(tokens, patches)
        return self.fc(tokens.mean(1))


def drawn(**options: Any) -> Perceiver:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Perceiver(**options).double().eval()
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.4)
    return net


def positive(net: Perceiver) -> Sequence[np.ndarray]:
    """Return the mean over heads of max(A ⊙ ∂score/∂A, 0): to the patches, of both blocks, then the rest."""
    score = net(X)[:, 2].sum()
    first, *more = net.cross.weights
    weights = [first, *(a for block in net.blocks for a in block.weights), *more]
    grads = torch.autograd.grad(score, weights)
    return [(a * g).clamp(min=0).mean(1).detach().numpy() for a, g in zip(weights, grads, strict=True)]


def normalised(r: np.ndarray) -> np.ndarray:
    added = r - np.eye(r.shape[-1])
    sums = added.sum(-1, keepdims=True)
    return np.eye(r.shape[-1]) + added / np.where(sums == 0, 1, sums)


@pytest.mark.parametrize("latents", [PATCHES, 9])
@pytest.mark.parametrize("again", [False, True])
def test_latents_as_many_as_patches_are_not_taken_for_them(latents: int, again: bool) -> None:
    first, *blocks = every = positive(drawn(latents=latents, again=again))
    r_ll, r_lp = np.eye(latents)[None], first
    for a in blocks[:2]:
        r_ll, r_lp = r_ll + a @ r_ll, r_lp + a @ r_lp
    for a in blocks[2:]:
        r_lp = r_lp + normalised(r_ll).swapaxes(1, 2) @ a
    net = drawn(latents=latents, again=again)
    for method, wanted in ((cc.AttentionRelevance, r_lp), (cc.GradientXAttention, every[3 * again])):
        for _ in range(2):  # the first pass of a model shows which tokens are the input's
            maps = method(net).explain(X, 2).maps[:, 0]
            np.testing.assert_allclose(
                maps, wanted.mean(1).reshape(2, 4, 4), rtol=0, atol=1e-6 * wanted.max()
            )


@pytest.mark.parametrize("method", [cc.LeGrad, cc.AttentionRollout])
def test_attention_between_latents_is_no_map_of_patches(method: type[cc.methods.Method]) -> None:
    with pytest.raises(ModelError, match=r"cannot compose attention|learned queries to the input's tokens"):
        method(drawn()).explain(X, 2)


def test_where_no_graph_leads_from_the_input_nothing_is_said_of_tokens() -> None:
    maps = cc.GradientXAttention(drawn(again=True, frozen=True), "patches").explain(X, 2).maps
    np.testing.assert_array_equal(maps, cc.GradientXAttention(drawn(again=True)).explain(X, 2).maps)
