"""Attention that mixes its heads, and tokens that join, leave or are read by attention side by side."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from replicas import Softmaxes
from torch import Tensor, nn

import chronocam as cc
from chronocam.engines import Request
from chronocam.engines.torch.engine import TorchEngine
from chronocam.errors import ChronocamError, ModelError

timm = pytest.importorskip("timm")

X = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
TINY: dict[str, Any] = {"img_size": 64, "embed_dim": 24, "depth": 3, "num_heads": 3, "num_classes": 5}


def drawn(name: str, **options: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net: nn.Module = timm.create_model(name, **TINY, **options).double().eval()
        for parameter in net.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.3)
    return net


def drawn_tnt() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return (
            timm.models.tnt.TNT(
                img_size=64,
                patch_size=16,
                embed_dim=24,
                inner_dim=12,
                depth=2,
                num_heads_inner=2,
                num_heads_outer=2,
                num_classes=5,
            )
            .double()
            .eval()
        )


def weighted(net: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return the weights that are multiplied by the values, as dropout gets them, and their gradients."""
    net, weights = copy.deepcopy(net), list[Tensor]()
    for path, module in net.named_modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
        if path.endswith("attn_drop"):
            module.register_forward_hook(lambda module, args, output: weights.append(output))
    score = net(X)[:, 2].sum()
    return weights, list(torch.autograd.grad(score, weights))


def positive(net: nn.Module) -> Sequence[np.ndarray]:
    """Return the mean over heads of max(A ⊙ ∂score/∂A, 0) of every attention, first to last."""
    pairs = zip(*weighted(net), strict=True)
    return [(a * g).clamp(min=0).mean(1).detach().numpy() for a, g in pairs]


def class_attention(every: Sequence[np.ndarray]) -> np.ndarray:
    """Patches attend to each other, then a class token alone to them and to itself (CaiT)."""
    patches, read = np.eye(16)[None], np.zeros((2, 1, 16))
    for a in every[:-2]:
        patches = patches + a @ patches
    for a in every[-2:]:
        read = read + a[:, :, 1:] @ patches + a[:, :, :1] @ read
    return read[:, 0]


def class_token_that_joins(every: Sequence[np.ndarray]) -> np.ndarray:
    """A class token is added between two blocks (ConViT)."""
    r = np.eye(16)[None]
    for a in every:
        if a.shape[1] == r.shape[1] + 1:
            r = np.concatenate([np.zeros((2, 1, 16)), np.broadcast_to(r, (2, 16, 16))], axis=1)
        r = r + a @ r
    return r[:, 0]


def two_tokens(every: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of a class and a distillation token is read (DeiT)."""
    r = np.eye(18)[None]
    for a in every:
        r = r + a @ r
    return r[:, :2, 2:].mean(1)


def side_by_side(every: Sequence[np.ndarray]) -> np.ndarray:
    """The last two blocks, each with two attentions of the same tokens."""
    r = np.eye(17)[None]
    for first, second in zip(every[2::2], every[3::2], strict=True):
        r = r + first @ r + second @ r
    return r[:, 0, 1:]


CASES: list[tuple[str, dict[str, Any], dict[str, Any], Callable[[Sequence[np.ndarray]], np.ndarray]]] = [
    ("cait_xxs24_224", {}, {}, class_attention),
    ("cait_xxs24_224", {}, {"layers": 2}, lambda every: class_attention(every[-2:])),
    ("convit_tiny", {"local_up_to_layer": 2}, {}, class_token_that_joins),
    ("deit_tiny_distilled_patch16_224", {}, {}, two_tokens),
    ("vit_small_patch16_18x2_224", {}, {"layers": 4}, side_by_side),
]


@pytest.mark.parametrize(("name", "made", "options", "expected"), CASES)
def test_relevance_equals_matrices_over_all_tokens(
    name: str, made: dict[str, Any], options: dict[str, Any], expected: Callable[..., np.ndarray]
) -> None:
    net = drawn(name, **made)
    found = cc.AttentionRelevance(net, **options).explain(X, 2).maps[:, 0]
    wanted = expected(positive(net)).reshape(2, 4, 4)
    assert wanted.std() > 0.3 * wanted.mean()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * wanted.max())


def test_attention_side_by_side_of_tokens_that_may_differ_is_refused() -> None:
    with pytest.raises(ModelError, match=r"2 attentions side by side are joined.*give layers="):
        cc.AttentionRelevance(drawn("vit_small_patch16_18x2_224")).explain(X, 2)


def test_blocks_with_attention_side_by_side_are_blocks() -> None:
    net = drawn("vit_small_patch16_18x2_224")
    found, read = cc.LeGrad(net, layers=1).explain(X, 2).maps[:, 0], list[dict[str, Tensor]]()
    copied = copy.deepcopy(net)
    copied.blocks.register_forward_hook(
        lambda module, args, tokens: tokens.mean(1, keepdim=True).expand_as(tokens)
    )
    for path, module in copied.named_modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
        if path.startswith("blocks.2.") and path.endswith("attn_drop"):
            module.register_forward_hook(lambda module, args, output: read.append({"a": output}))
    score = copied(X)[:, 2].sum()
    every = torch.autograd.grad(score, [one["a"] for one in read])
    wanted = torch.stack([g.clamp(min=0).mean((1, 2))[:, 1:] for g in every]).mean(0).reshape(2, 4, 4)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_rollout_of_attention_side_by_side_is_refused() -> None:
    net = drawn("vit_small_patch16_18x2_224")
    with pytest.raises(
        ModelError, match=r"number 2 of 6 is not of the tokens that number 1 has made.*choose"
    ):
        cc.AttentionRollout(net).explain(X, 2)


class AsManyQueries(nn.Module):
    """Patches attend to each other, then as many queries to themselves and to the patches, as in DETR."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.queries = nn.Conv2d(3, 8, 16, stride=16), nn.Parameter(torch.randn(1, 16, 8))
        self.encoder = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
        self.decoder, self.fc = nn.TransformerDecoderLayer(8, 2, 12, batch_first=True), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.encoder(self.patches(x).flatten(2).mT)
        return self.fc(self.decoder(self.queries.expand(len(x), -1, -1), tokens).mean(1))


def test_rollout_of_queries_as_many_as_patches_is_refused() -> None:
    torch.manual_seed(0)
    with pytest.raises(ModelError, match="number 2 of 3 is not of the tokens that number 1 has made"):
        cc.AttentionRollout(AsManyQueries().double().eval(), "encoder").explain(X, 2)


class ReadEarly(nn.Module):
    """A head that reads what the first of two blocks makes; the other runs as well."""

    def __init__(self, blocks: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 16, stride=16)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(8, 2, 12, batch_first=True) for _ in range(blocks)
        )
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = [self.patches(x).flatten(2).mT]
        for block in self.blocks:
            hidden.append(block(hidden[-1]))
        return self.fc(hidden[1].mean(1))


def test_rollout_ends_at_the_tokens_that_are_read() -> None:
    torch.manual_seed(0)
    net, first = ReadEarly().double().eval(), ReadEarly(1).double().eval()
    first.load_state_dict({k: v for k, v in net.state_dict().items() if "blocks.1" not in k})
    found, wanted = (cc.AttentionRollout(one, "patches").explain(X, 2).maps for one in (net, first))
    assert wanted.std() > 0.01 * wanted.mean()
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_what_follows_what_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net, graphs = drawn("vit_tiny_patch16_224"), list[bool]()
    record = TorchEngine.record

    def counted(self: TorchEngine, inputs: Any, score: Any, request: Request) -> Any:
        graphs.append(request.differentiates)
        return record(self, inputs, score, request)

    monkeypatch.setattr(TorchEngine, "record", counted)
    first = cc.AttentionRollout(net, "blocks.2").explain(X, 2).maps
    assert graphs == [False, True]
    graphs.clear()
    again = cc.AttentionRollout(net, "blocks.2").explain(X[:1], 3).maps
    assert graphs == [False]
    np.testing.assert_allclose(again, first[:1], rtol=1e-6)


def test_blocks_whose_first_tokens_are_not_read_are_told() -> None:
    with pytest.raises(ModelError, match=r"legrad scores the tokens that each block returns.*reads others"):
        cc.LeGrad(drawn_tnt()).explain(X, 2)


class Shuffled(nn.Module):
    """Patches in another order in every call, behind a text, as ViLT has them."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.text = nn.Conv2d(3, 8, 16, stride=16), nn.Parameter(torch.randn(1, 6, 8))
        self.block, self.fc = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT[:, torch.multinomial(torch.ones(16), 16)]
        return self.fc(self.block(torch.cat([self.text.expand(len(x), -1, -1), tokens], 1))[:, 0])


@pytest.mark.parametrize("seed", range(6))
def test_tokens_in_another_order_in_every_call_are_refused(seed: int) -> None:
    torch.manual_seed(seed)
    net = Shuffled().double().eval()
    for method in (cc.AttentionRelevance(net), cc.GradCAM(net, "block")):
        with pytest.raises(ChronocamError, match=r"cannot compose|fits|do not follow"):
            method.explain(X, 2)


def test_grad_eclip_adds_up_a_class_and_a_distillation_token() -> None:
    net = drawn("deit_tiny_distilled_patch16_224")
    found, attention = cc.GradECLIP(net).explain(X, 2).maps[:, 0], net.blocks[-1].attn
    given = list[Tensor]()
    joined = list[Tensor]()
    handles = [
        attention.qkv.register_forward_hook(lambda module, args, output: given.append(output)),
        attention.proj.register_forward_pre_hook(lambda module, args: joined.append(args[0])),
    ]
    g = torch.autograd.grad(net(X)[:, 2].sum(), joined)[0]
    for handle in handles:
        handle.remove()
    q, k, v = given[0].unflatten(2, (3, -1)).unbind(2)
    total, join = torch.zeros(2, 16, dtype=torch.float64), attention.proj.weight.T
    for token in range(2):
        near = torch.cosine_similarity((q[:, [token]] @ join), k[:, 2:] @ join, dim=2)
        low, high = near.amin(1, keepdim=True), near.amax(1, keepdim=True)
        total += (g[:, [token]] * v[:, 2:]).sum(2) * (near - low) / (high - low)
    wanted = total.clamp(min=0).reshape(2, 4, 4).detach()
    assert (total < 0).any()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * wanted.max())


class Written(nn.Module):
    """Attention of two heads, written out in one of several ways; the mean of 16 patches is read."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.weights = how, torch.empty(0)
        self.patches, self.qkv = nn.Conv2d(3, 8, 16, stride=16), nn.Linear(8, 24)
        self.mixes = nn.Parameter(torch.randn(2, 2))
        self.out, self.fc = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).mT
        q, k, v = self.qkv(x).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        if self.how == "folded":
            q, k, v = (t.flatten(0, 1) for t in (q, k, v))
        scores = q @ k.mT / 2
        if self.how == "sink":  # each head may attend to nothing
            scores = torch.cat([scores, scores.new_ones(len(q), 2, 16, 1)], dim=-1)
        a = scores.softmax(-1)
        a = a[..., :16] if self.how == "sink" else a
        if self.how == "einsum":
            a = torch.einsum("b h i j, h g -> b g i j", a, self.mixes)
        elif self.how == "scaled":
            a = a / (a + 0.1).sum(-1, keepdim=True)
        self.weights = a
        mixed = (v.mT @ a.mT).mT if self.how == "turned" else a @ v
        mixed = mixed.unflatten(0, (-1, 2)) if self.how == "folded" else mixed
        return self.fc((x + self.out(mixed.transpose(1, 2).flatten(2))).tanh().mean(1))


@pytest.mark.parametrize("how", ["plain", "folded", "einsum", "scaled", "turned", "sink"])
def test_the_weights_are_what_is_multiplied_by_the_values(how: str) -> None:
    torch.manual_seed(0)
    net = Written(how).double().eval()
    found = cc.GradientXAttention(net).explain(X, 2).maps[:, 0]
    score = net(X)[:, 2].sum()
    (g,) = torch.autograd.grad(score, net.weights)
    mixed = (net.weights * g).clamp(min=0).reshape(2, 2, 16, 16).mean((1, 2))
    assert mixed.std() > 0.02 * mixed.mean()
    np.testing.assert_allclose(found, mixed.detach().reshape(2, 4, 4), rtol=1e-5)


ORDERS: dict[str, Any] = {
    "flipped": lambda x: x.flip(1),
    "rolled": lambda x: x.roll(5, 1),
    "picked": lambda x: x[:, torch.tensor([3, 0, 1, 2, *range(15, 3, -1)])],
    "transposed": lambda x: x.unflatten(1, (4, 4)).transpose(1, 2).flatten(1, 2),
    "kept": lambda x: x[:, torch.arange(16)],
    "dropped": lambda x: x[:, :-3],
}


class Reordered(nn.Module):
    """Two blocks over 16 patches, between which these are put into another order; their mean is read."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.patches = how, nn.Conv2d(3, 8, 16, stride=16)
        self.blocks = nn.ModuleList([nn.Linear(8, 24) for _ in range(2)])
        self.score, self.fc = nn.Linear(8, 1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).mT
        for number, qkv in enumerate(self.blocks):
            x = ORDERS[self.how](x) if number else x
            q, k, v = qkv(x).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
            x = x + ((q @ k.mT / 2).softmax(-1) @ v).transpose(1, 2).flatten(2).tanh()
        return self.fc(x.tanh().mean(1))


@pytest.mark.parametrize("how", ORDERS)
def test_tokens_in_another_order_are_followed_or_refused(how: str) -> None:
    torch.manual_seed(0)
    net = Reordered(how).double().eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.05 if parameter.ndim > 2 else 0.8)
    with Softmaxes() as seen:
        score = net(X)[:, 2].sum()
    grads = torch.autograd.grad(score, seen.kept)
    first, second = ((a * g).clamp(min=0).mean(1).detach() for a, g in zip(seen.kept, grads, strict=True))
    r = ORDERS[how](torch.eye(16).double() + first)
    wanted = (r + second @ r).mean(1).reshape(2, 4, 4).numpy()
    found = cc.AttentionRelevance(net, "patches").explain(X, 2).maps[:, 0]
    assert wanted.std() > 0.02 * wanted.mean()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * wanted.max())
    if how == "dropped":
        return
    others = [cc.GradientXAttention(net, "patches"), cc.AttentionRollout(net, "patches")]
    for method in others:
        if how == "kept":
            assert method.explain(X, 2).maps.max() > 0
            continue
        with pytest.raises(ModelError, match="puts tokens into another order"):
            method.explain(X, 2)


class Memories(nn.Module):
    """Keys are the queries' tokens and others: parameters of a block, or the patches that latents read."""

    def __init__(self, latents: bool) -> None:
        super().__init__()
        self.latents, self.patches = latents, nn.Conv2d(3, 8, 16, stride=16)
        self.blocks = nn.ModuleList([nn.Linear(8, 24) for _ in range(2)])
        self.more, self.fc = nn.Parameter(torch.randn(1, 5, 8)), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).mT
        own, others = x, self.more.expand(len(x), -1, -1)
        own, others = (others, own) if self.latents else (own, others)
        for qkv in self.blocks:
            q, k, v = qkv(torch.cat([own, others], 1)).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
            mixed = (q[:, :, : own.shape[1]] @ k.mT / 2).softmax(-1) @ v
            own = own + mixed.transpose(1, 2).flatten(2)
        return self.fc(own.tanh().mean(1))


@pytest.mark.parametrize("latents", [True, False])
def test_keys_may_be_the_queries_and_others(latents: bool) -> None:
    torch.manual_seed(0)
    net = Memories(latents).double().eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.05 if parameter.ndim == 4 else 0.8)
    with Softmaxes() as seen:
        score = net(X)[:, 2].sum()
    grads = torch.autograd.grad(score, seen.kept)
    own, every = (5, 16) if latents else (16, 5), np.eye(21)
    rows = np.broadcast_to(every[: own[0]], (2, own[0], 21))
    for a, g in zip(seen.kept, grads, strict=True):
        mixed = (a * g).clamp(min=0).mean(1).detach().numpy()
        rows = rows + mixed[:, :, : own[0]] @ rows + mixed[:, :, own[0] :] @ every[own[0] :]
    wanted = rows.mean(1)[:, 5:] if latents else rows.mean(1)[:, :16]
    found = cc.AttentionRelevance(net).explain(X, 2).maps[:, 0]
    assert wanted.std() > 0.02 * wanted.mean()
    np.testing.assert_allclose(found, wanted.reshape(2, 4, 4), rtol=0, atol=1e-6 * wanted.max())


class Biased(nn.Module):
    """PyTorch's own attention with keys that are no tokens: a bias, or zeros."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.patches, self.fc = nn.Conv2d(3, 8, 16, stride=16), nn.Linear(8, 4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **options)

    def forward(self, x: Tensor, by_hand: bool = False) -> Tensor:
        x = self.patches(x).flatten(2).mT
        if not by_hand:
            return self.fc((x + self.attention(x, x, x, need_weights=False)[0]).tanh().mean(1))
        own = self.attention
        q, k, v = (x @ own.in_proj_weight.T + own.in_proj_bias).chunk(3, dim=2)
        if own.bias_k is not None:
            k, v = (torch.cat([t, b.expand(2, 1, 8)], 1) for t, b in ((k, own.bias_k), (v, own.bias_v)))
        if own.add_zero_attn:
            k, v = (torch.cat([t, torch.zeros_like(t[:, :1])], 1) for t in (k, v))
        q, k, v = (t.unflatten(2, (2, 4)).transpose(1, 2) for t in (q, k, v))
        mixed = (q @ k.mT / 2).softmax(-1) @ v
        return self.fc((x + own.out_proj(mixed.transpose(1, 2).flatten(2))).tanh().mean(1))


@pytest.mark.parametrize("options", [{"add_bias_kv": True}, {"add_zero_attn": True, "add_bias_kv": True}])
@pytest.mark.parametrize("method", [cc.AttentionRelevance, cc.GradientXAttention])
def test_keys_that_are_no_tokens_are_left_out(method: Any, options: dict[str, bool]) -> None:
    torch.manual_seed(0)
    net = Biased(**options).double().eval()
    with Softmaxes() as seen:
        score = net(X, by_hand=True)[:, 2].sum()
    (g,) = torch.autograd.grad(score, seen.kept)
    mixed = (seen.kept[0] * g).clamp(min=0).mean(1).detach()[:, :, :16].mean(1)
    wanted = mixed + (1 / 16 if method is cc.AttentionRelevance else 0)
    found = method(net).explain(X, 2).maps[:, 0]
    assert mixed.std() > 0.1 * mixed.mean()
    np.testing.assert_allclose(found, wanted.reshape(2, 4, 4), rtol=0, atol=1e-6 * float(wanted.max()))
