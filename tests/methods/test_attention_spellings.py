"""Attention that is written in other words than a softmax and a matrix product, or in pieces."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import ModelError

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT).softmax(-1) @ v


def one_head_of_keys(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k[:, :1].mT).softmax(-1) @ v[:, :1]


def elided(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("...qk, ...kd -> ...qd", torch.einsum("...qd,...kd->...qk", q, k).softmax(-1), v)


def unnamed_result(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("...is,...sz", (q @ k.mT).softmax(-1), v)


def values_first(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("bhkd,bhqk->bhqd", v, (q @ k.mT).softmax(-1))


def shared_values(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("bhqk,bkd->bhqd", torch.einsum("bhqd,bkd->bhqk", q, k[:, 0]).softmax(-1), v[:, 0])


def by_keyword(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = F.dropout(input=torch.softmax(input=q @ k.mT, dim=-1), p=0.1, training=False)
    return torch.matmul(input=weights, other=v)


def in_fused_pieces(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    pieces = [F.scaled_dot_product_attention(piece, k, v, scale=1.0) for piece in q.split(6, 2)]
    return torch.cat(pieces, 2)


def in_pieces(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.cat([plain(q[:, :, at : at + 5], k, v) for at in range(0, q.shape[2], 5)], 2)


def relative_values(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("bhqk,bhqkd->bhqd", (q @ k.mT).softmax(-1), v[:, :, None] - q[:, :, :, None])


def three_at_once(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("bhqk,bhkd,de->bhqe", (q @ k.mT).softmax(-1), v, torch.eye(4, dtype=q.dtype))


class Net(nn.Module):
    def __init__(self, attend: Attend, reads_class: bool) -> None:
        super().__init__()
        self.patches, self.start = nn.Conv2d(3, 8, 8, 8), nn.Parameter(torch.randn(1, 1, 8))
        self.blocks = nn.ModuleList(Block(attend) for _ in range(3))
        self.fc, self.reads_class = nn.Linear(8, 4), reads_class

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT
        if self.reads_class:
            tokens = torch.cat([self.start.expand(len(x), -1, -1), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.fc(tokens[:, 0] if self.reads_class else tokens.mean(1))


class Block(nn.Module):
    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.qkv, self.attend = nn.Linear(8, 24), attend

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return x + self.attend(q, k, v).transpose(1, 2).flatten(2)


def drawn(attend: Attend, reads_class: bool) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net(attend, reads_class).double().eval()
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.5)
    return net


@pytest.mark.parametrize("reads_class", [True, False])
@pytest.mark.parametrize("method", [cc.AttentionRelevance, cc.LeGrad])
@pytest.mark.parametrize(
    ("attend", "same"),
    [
        (elided, plain),
        (unnamed_result, plain),
        (values_first, plain),
        (shared_values, one_head_of_keys),
        (by_keyword, plain),
        (in_fused_pieces, plain),
        (in_pieces, plain),
    ],
)
def test_words_change_no_map(
    attend: Attend, same: Attend, method: type[cc.methods.Method], reads_class: bool
) -> None:
    maps, wanted = (method(drawn(one, reads_class)).explain(X, 2).maps for one in (attend, same))
    assert wanted.std() > 0.1 * wanted.mean()
    np.testing.assert_allclose(maps, wanted, rtol=0, atol=1e-6 * wanted.max())


@pytest.mark.parametrize("attend", [relative_values, three_at_once])
def test_products_without_a_rule_are_refused_with_their_equation(attend: Attend) -> None:
    with pytest.raises(ModelError, match=r"einsum `bhqk,bhq?kd.*no rule; choose gradcam"):
        cc.LeGrad(drawn(attend, reads_class=True)).explain(X, 2)


def sigmoids(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT - 3).sigmoid() @ v


@pytest.mark.parametrize("unseen", [0, 1])
def test_attention_that_is_not_seen_beside_other_is_a_finding(unseen: int) -> None:
    net, mixed = drawn(plain, reads_class=True), drawn(plain, reads_class=True)
    mixed.blocks[unseen].attend = sigmoids
    for one in (net, mixed, mixed):  # the second call of a model knows it by the first
        texts = cc.AttentionRelevance(one).explain(X, 2).diagnostics
        assert any("attention without a softmax" in text for text in texts) == (one is mixed)
