"""Methods made of attention: by hand, against a slow replica that keeps every matrix, and against peers."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import InputError, LayerError, ModelError
from chronocam.methods import METHODS

NAMES = ["legrad", "attentionrelevance", "gradeclip", "gradientxattention"]
SCORED = ["attentionrelevance", "gradeclip", "gradientxattention"]


class Heads(nn.Module):
    """Attention of some heads, fused, or written out with its weights kept."""

    def __init__(self, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.kept: list[dict[str, Tensor]] | None = None

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        memory = x if memory is None else memory
        given = (self.q(x), self.k(memory), self.v(memory))
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in given)
        if self.kept is None:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            a = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
            mixed = a @ v
            self.kept.append({"a": a, "q": q, "k": k, "v": v, "o": mixed})
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, cross: bool = False) -> None:
        super().__init__()
        self.norm, self.heads, self.mlp = nn.LayerNorm(8), Heads(), nn.Linear(8, 8)
        self.cross = Heads() if cross else None

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        x = x + self.heads(self.norm(x))
        if self.cross is not None:
            x = x + self.cross(x, memory)
        return x + self.mlp(x).tanh()


class Net(nn.Module):
    """Patches of 4 × 4 pixels and three blocks; what reads them is left open."""

    def __init__(self, reads: str = "class") -> None:
        super().__init__()
        self.reads = reads
        self.patches, self.start = nn.Conv2d(3, 8, 4, stride=4), nn.Parameter(torch.randn(1, 1, 8))
        self.places = nn.Parameter(torch.randn(1, 17, 8))
        self.blocks = nn.ModuleList([Block() for _ in range(3)])
        self.queries = nn.Parameter(torch.randn(1, 1 if reads == "pool" else 5, 8))
        self.pool, self.decoder = Heads(), nn.ModuleList([Block(cross=True) for _ in range(2)])
        self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).mT
        if self.reads in ("class", "end"):
            parts = (self.start.expand(len(x), -1, -1), x)
            x = torch.cat(parts if self.reads == "class" else parts[::-1], dim=1)
        x = x + self.places[:, : x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.fc(self.read(self.norm(x)))

    def read(self, x: Tensor) -> Tensor:
        queries = self.queries.expand(len(x), -1, -1)
        if self.reads == "pool":
            return self.pool(queries, x)[:, 0]
        if self.reads == "decoder":
            for block in self.decoder:
                queries = block(queries, x)
            return queries[:, 3]
        return x.mean(1) if self.reads == "mean" else x[:, -1 if self.reads == "end" else 0]


def drawn(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = make().double().eval()
        for parameter in net.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.8)
    return net


X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def written_out(net: nn.Module, x: Tensor, target: int) -> list[dict[str, Tensor]]:
    """Run a copy that keeps its attention; return the calls, with the gradients `G` and `g`."""
    net, kept = copy.deepcopy(net), list[dict[str, Tensor]]()
    for module in net.modules():
        if isinstance(module, Heads):
            module.kept = kept
    scores = net(x)[:, target]
    for call in kept:
        call["G"], call["g"] = torch.autograd.grad(scores.sum(), [call["a"], call["o"]], retain_graph=True)
    return kept


def positive(call: dict[str, Tensor]) -> np.ndarray:
    """Return Ā, one entry after the other."""
    a, g = call["a"].detach().numpy(), call["G"].numpy()
    out = np.zeros((a.shape[0], *a.shape[2:]))
    for b, i, j in np.ndindex(*out.shape):
        out[b, i, j] = np.mean([max(a[b, h, i, j] * g[b, h, i, j], 0) for h in range(a.shape[1])])
    return out


def normalised(r: np.ndarray) -> np.ndarray:
    added = r - np.eye(len(r))
    return np.eye(len(r)) + np.array([row / row.sum() if row.sum() else row for row in added])


def relevance(net: Net, calls: Sequence[dict[str, Tensor]]) -> np.ndarray:
    """Return the relevance `(batch, patch)` by full matrices of the images' and of the queries' tokens."""
    every = [positive(call) for call in calls]
    maps = []
    for b in range(2):
        tokens = every[0].shape[1]
        r_ii, r_qq, r_qi = np.eye(tokens), np.eye(net.queries.shape[1]), None
        for number, a in enumerate(matrix[b] for matrix in every):
            if number < 3:
                r_ii = r_ii + a @ r_ii
            elif net.reads == "decoder" and number % 2:
                r_qq, r_qi = r_qq + a @ r_qq, None if r_qi is None else r_qi + a @ r_qi
            else:
                added = normalised(r_qq).T @ a @ normalised(r_ii)
                r_qi = added if r_qi is None else r_qi + added
        if r_qi is not None:
            maps.append(r_qi[3 if net.reads == "decoder" else 0])
        elif net.reads == "mean":
            maps.append(r_ii.mean(0))
        else:
            maps.append(r_ii[0, 1:] if net.reads == "class" else r_ii[-1, :-1])
    return np.array(maps)


AT = {"class": 0, "end": -1, "pool": 0, "decoder": 3}
OWN = {"class": slice(1, None), "end": slice(-1)}


def last(net: Net, calls: Sequence[dict[str, Tensor]]) -> np.ndarray:
    a = positive(calls[-1])
    return a.mean(1) if net.reads == "mean" else a[:, AT[net.reads], OWN.get(net.reads, slice(None))]


def eclip(net: Net, calls: Sequence[dict[str, Tensor]]) -> np.ndarray:
    heads = {"pool": net.pool, "decoder": net.decoder[-1].cross}.get(net.reads, net.blocks[-1].heads)
    call, w = calls[-1], heads.out.weight
    q, k, v, g = (call[name].transpose(1, 2).flatten(2) for name in ("q", "k", "v", "g"))
    at, own = AT[net.reads], OWN.get(net.reads, slice(None))
    k, v = k[:, own], v[:, own]
    cosine = F.cosine_similarity(q[:, at, None] @ w.T, k @ w.T, dim=-1)
    low, high = cosine.amin(1, keepdim=True), cosine.amax(1, keepdim=True)
    share = (cosine - low) / (high - low)
    found: np.ndarray = ((g[:, at, None] * v).sum(-1) * share).clamp(min=0).detach().numpy()
    return found


def legrad(net: Net, target: int) -> np.ndarray:
    """Score the mean of every block's tokens, or pool them, and differentiate by the weights."""
    net, maps = copy.deepcopy(net), []
    for end in range(1, 4):
        kept: list[dict[str, Tensor]] = []
        for module in net.modules():
            if isinstance(module, Heads):
                module.kept = kept
        tokens: list[Tensor] = []
        handle = net.blocks[end - 1].register_forward_hook(lambda m, i, o, kept=tokens: kept.append(o))
        net(X)
        handle.remove()
        first = len(kept)
        x = tokens[0] if net.reads == "pool" else tokens[0].mean(1, keepdim=True).expand_as(tokens[0])
        score = net.fc(net.read(net.norm(x)))[:, target]
        a = kept[first]["a"] if net.reads == "pool" else kept[end - 1]["a"]
        (g,) = torch.autograd.grad(score.sum(), a)
        maps.append(g.clamp(min=0).mean((1, 2)))
    own = OWN.get(net.reads, slice(None))
    found: np.ndarray = torch.stack(maps).mean(0)[:, own].detach().numpy()
    return found


def raw(method: Any, x: Tensor, targets: Any) -> np.ndarray:
    """Return maps before they become float32."""
    kept: list[Any] = []
    maps = method.maps
    method.maps = lambda view: kept.append(maps(view)) or kept[0]
    method.explain(x, targets)
    return np.asarray(kept[0])


READS = ["class", "end", "mean", "pool", "decoder"]
UNDEFINED = {("gradeclip", "mean"), ("legrad", "decoder")}


@pytest.mark.parametrize("reads", READS)
@pytest.mark.parametrize("name", NAMES)
def test_each_method_equals_a_slow_replica(name: str, reads: str) -> None:
    net = drawn(lambda: Net(reads))
    if (name, reads) in UNDEFINED:
        with pytest.raises(ModelError, match="is defined for one"):
            METHODS[name](net).explain(X, 2)
        return
    calls = written_out(net, X, 2)
    replicas = {"attentionrelevance": relevance, "gradeclip": eclip, "gradientxattention": last}
    expected = legrad(net, 2) if name == "legrad" else replicas[name](net, calls)
    found = raw(METHODS[name](net), X, 2)
    assert expected.std() > 0.05 * expected.mean()
    np.testing.assert_allclose(found[:, 0], expected.reshape(2, 4, 4), rtol=0, atol=1e-10 * expected.max())


@pytest.mark.parametrize("name", NAMES)
def test_fused_and_written_out_attention_agree_and_batches_change_nothing(name: str) -> None:
    net = drawn(Net)
    whole = METHODS[name](net).explain(X, [cc.targets.Class(0), cc.targets.Class(2)]).maps
    one = METHODS[name](net, batch_size=1).explain(X, [cc.targets.Class(0), cc.targets.Class(2)]).maps
    np.testing.assert_allclose(one, whole, rtol=0, atol=1e-7 * whole.max())
    other = METHODS[name](net).explain(torch.stack([X[1], X[0] * 3]), 2).maps
    np.testing.assert_allclose(other[0], whole[1, 1:], rtol=0, atol=1e-7 * whole.max())
    for module in net.modules():
        if isinstance(module, Heads):
            module.kept = []
    eager = METHODS[name](net).explain(X, [cc.targets.Class(0), cc.targets.Class(2)]).maps
    np.testing.assert_allclose(eager, whole, rtol=0, atol=1e-7 * whole.max())


def test_one_pass_serves_all_of_them() -> None:
    net, rows = drawn(Net), list[int]()
    alone = {name: METHODS[name](net).explain(X, 2).maps for name in [*NAMES, "rollout"]}
    together = cc.explain(net, X, 2, methods=[*NAMES, "rollout", "gradcam"], layers=["blocks.1"])
    for name, maps in alone.items():
        np.testing.assert_allclose(together[name].maps, maps, rtol=0, atol=1e-7 * maps.max())
    forward, method = net.patches.forward, cc.LeGrad(net)
    net.patches.forward = lambda x: rows.append(len(x)) or forward(x)
    method.explain(X, 2)
    rows.clear()
    method.explain(X, 2)
    assert rows == [2]


class Streams(nn.Module):
    """Patches and words that attend to themselves and, both at once, to each other (LXMERT)."""

    def __init__(self, reads: int, apart: bool) -> None:
        super().__init__()
        self.reads = reads  # the stream: 0 of the patches, 1 of the words
        self.apart = apart  # at first each to itself
        self.patches, self.places = nn.Conv2d(3, 8, 4, stride=4), nn.Parameter(torch.randn(1, 16, 8))
        self.words = nn.Parameter(torch.randn(1, 5, 8))
        self.own, self.other = (
            nn.ModuleList([nn.ModuleList([Heads(), Heads()]) for _ in range(2)]) for _ in range(2)
        )
        self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        p, w = self.patches(x).flatten(2).mT + self.places, self.words.expand(len(x), -1, -1)
        for layer, (other, own) in enumerate(zip(self.other, self.own, strict=True)):
            p, w = self.norm(p), self.norm(w)
            if layer or not self.apart:
                p, w = p + other[0](p, w), w + other[1](w, p)
            p, w = self.norm(p), self.norm(w)
            p, w = p + own[0](p), w + own[1](w)
        return self.fc(self.norm((p, w)[self.reads])[:, 2].tanh())


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("reads", [0, 1])
def test_relevance_of_co_attention_equals_full_matrices(reads: int, apart: bool) -> None:
    """What two streams are of each other goes both ways, from the values before the layer."""
    net = drawn(lambda: Streams(reads, apart))
    copied, kept = copy.deepcopy(net), list[dict[str, Tensor]]()
    for module in copied.modules():
        if isinstance(module, Heads):
            module.kept = kept
    score = copied(X)[:, 2].sum()
    for call in kept:
        (g,) = torch.autograd.grad(score, [call["a"]], retain_graph=True, allow_unused=True)
        call["G"] = torch.zeros_like(call["a"]) if g is None else g
    every = [np.zeros((2, 16, 5)), np.zeros((2, 5, 16))] if apart else []
    every += [positive(call) for call in kept]
    expected = []
    for b in range(2):
        pp, pw, wp, ww = np.eye(16), np.zeros((16, 5)), np.zeros((5, 16)), np.eye(5)
        for layer in range(2):
            of_words, of_patches, on_patches, on_words = (every[4 * layer + n][b] for n in range(4))
            before = pp, pw, wp, ww
            pw = pw + normalised(before[0]).T @ of_words @ normalised(before[3])
            pp = pp + of_words @ before[2]
            wp = wp + normalised(before[3]).T @ of_patches @ normalised(before[0])
            ww = ww + of_patches @ before[1]
            pp, pw = pp + on_patches @ pp, pw + on_patches @ pw
            wp, ww = wp + on_words @ wp, ww + on_words @ ww
        expected.append((pp, wp)[reads][2])
    found = raw(cc.AttentionRelevance(net, "patches"), X, 2)[:, 0].reshape(2, 16)
    assert np.std(expected) > 0.05 * np.mean(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.max(expected))


# By hand: one layer, one head, a class token c and two patches p₁, p₂, the score what the class token holds.
# Queries and keys are chosen so that A is known: rows softmax(ln …).


class ByHand(nn.Module):
    """Values are the tokens themselves, the attention is a given matrix, and the score is w·token."""

    A = ((0.5, 0.2, 0.3), (0.1, 0.6, 0.3), (0.25, 0.25, 0.5))

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv2d(1, 2, 2, stride=2, bias=False)
        self.block = nn.Sequential(Given(self.A))
        self.fc = nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            self.cut.weight.copy_(torch.tensor([[[[1.0, 0], [0, 0]]], [[[0, 1.0], [0, 0]]]]))
            self.fc.weight.copy_(torch.tensor([[2.0, -1.0]]))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.cut(x).flatten(2).mT
        return self.fc(self.block(torch.cat([torch.zeros_like(tokens[:, :1]), tokens], 1))[:, 0])


class Given(nn.Module):
    def __init__(self, weights: Any) -> None:
        super().__init__()
        self.scores = torch.tensor(weights, dtype=torch.float64).log()

    def forward(self, x: Tensor) -> Tensor:
        eye = torch.eye(3, dtype=x.dtype).expand(len(x), 1, 3, 3)
        q = self.scores.expand(len(x), 1, 3, 3)
        return x + F.scaled_dot_product_attention(q, eye, x[:, None], scale=1.0)[:, 0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # p₁ = (3, 1), p₂ = (1, 4), w = (2, −1): ∂S/∂A_c,j = w·p_j = 5 and −2.
        ("attentionrelevance", [5 * 0.2, 0]),
        ("gradientxattention", [5 * 0.2, 0]),
        # S = w·mean of all tokens: a third of it for each of the three queries.
        ("legrad", [5 / 3, 0]),
    ],
)
def test_one_layer_one_head_by_hand(name: str, expected: list[float]) -> None:
    x = torch.tensor([[[[3.0, 1.0, 1.0, 4.0], [0, 0, 0, 0]]]], dtype=torch.float64)
    method = METHODS[name](ByHand().double(), "block", layout=cc.layouts.Tokens((1, 2), prefix=1))
    np.testing.assert_allclose(raw(method, x, cc.targets.Regression()), [[[expected]]], rtol=0, atol=1e-10)


# Peers, and networks of libraries.


def torchvision_vit() -> Any:
    models = pytest.importorskip("torchvision.models")
    return drawn(lambda: models.VisionTransformer(32, 8, 3, 2, 8, 16, num_classes=4))


class OneHead(nn.Module):
    """Two queries look at 2 × 2 cells of 4 × 4 pixels: red are their keys, green their values."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.memory = nn.Conv2d(3, 2, 4, 4, bias=False)
        self.memory.weight.data.zero_()
        for channel in range(2):
            self.memory.weight.data[channel, channel] = 1 / 16
        self.mask = torch.tensor([[True, True, True, False]]) if masked else None

    def forward(self, x: Tensor) -> Tensor:
        k, v = self.memory(x).flatten(2)[:, :, None, :, None].unbind(1)
        q = torch.tensor([0.0, 1.0]).to(x).expand(len(x), 1, 2)[..., None]
        return F.scaled_dot_product_attention(q, k, v, self.mask)[:, 0]  # (batch, query, 1)


@pytest.mark.parametrize(
    ("query", "masked", "expected"),
    [
        (1, False, [0.5, 0, 0.6, 0.4]),  # shares of 1 to 4 tenths times values 5, −1, 2, 1
        (0, False, [1.25, 0, 0.5, 0.25]),  # a query of 0 looks at all alike
        (1, True, [5 / 6, 0, 1, 0]),  # of 1 to 3 sixths, the last cell hidden
    ],
)
def test_cross_attention_of_a_query_times_its_gradient_by_hand(
    query: int, masked: bool, expected: list[float]
) -> None:
    x = torch.zeros(1, 3, 2, 2)
    x[0, 0] = torch.tensor([[1.0, 2], [3, 4]]).log()
    x[0, 1] = torch.tensor([[5.0, -1], [2, 1]])
    net = OneHead(masked)
    explanation = cc.GradientXAttention(net, "memory").explain(
        x.repeat_interleave(4, 2).repeat_interleave(4, 3), lambda out: out[:, query, 0]
    )
    np.testing.assert_allclose(explanation.maps[0, 0].ravel(), expected, atol=1e-6)


def test_legrad_equals_a_peer_on_random_transformers() -> None:
    peer = pytest.importorskip("torchcam.methods")
    net, x = torchvision_vit(), torch.cat([X, X.flip(3)], 2).repeat(1, 1, 1, 2)
    for layers in (None, 2, 1):
        cam = peer.LeGrad(net, list(net.encoder.layers)[-(layers or 3) :])
        expected = cam([1, 1], net(x), normalized=False)[0].numpy()
        cam.remove_hooks()
        found = cc.LeGrad(net, layers=layers).explain(x, 1).maps
        np.testing.assert_allclose(found[:, 0], expected, rtol=0, atol=1e-6 * expected.max())


@pytest.mark.parametrize("name", ["vit_reg", "mean"])
@pytest.mark.parametrize("fused", [True, False])
def test_networks_of_timm(name: str, fused: bool) -> None:
    """Registers stand before the patches, and a mean is of the patches alone."""
    timm = pytest.importorskip("timm")
    sizes: dict[str, Any] = {"img_size": 16, "patch_size": 4, "embed_dim": 8, "depth": 2, "num_heads": 2}
    sizes |= {"vit_reg": {"reg_tokens": 3}, "mean": {"global_pool": "avg"}}[name]
    net = drawn(lambda: timm.models.VisionTransformer(num_classes=4, **sizes))
    for module in net.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
    prefix = 4 if name == "vit_reg" else 1
    kept: list[Tensor] = []

    def watch(module: Any, args: Any) -> None:
        kept.append(args[0])

    unfused = copy.deepcopy(net)
    for module in unfused.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
            module.attn_drop.register_forward_pre_hook(watch)
    score = unfused(X)[:, 1].sum()
    grads = torch.autograd.grad(score, kept)
    r = torch.eye(kept[0].shape[-1]).double().expand(2, -1, -1)
    for a, g in zip(kept, grads, strict=True):
        r = r + (a * g).clamp(min=0).mean(1) @ r
    row = r[:, 0] if name == "vit_reg" else r[:, prefix:].mean(1)
    expected = row[:, prefix:].reshape(2, 4, 4).detach().numpy()
    found = cc.AttentionRelevance(net).explain(X, 1).maps[:, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * expected.max())
    for other in ("legrad", "gradientxattention"):
        maps = METHODS[other](net).explain(X, 1).maps
        assert maps.shape == (2, 1, 4, 4)
        assert maps.max() > 0


# What is refused, and what is left alone.


def test_windows_are_refused_and_the_last_stage_is_explained() -> None:
    models = pytest.importorskip("torchvision.models")
    net = drawn(lambda: models.SwinTransformer([2, 2], 8, [2, 2], [1, 2], [4, 4], num_classes=4))
    with pytest.raises(ModelError, match="layers="):
        cc.AttentionRelevance(net).explain(X, 1)
    found = cc.AttentionRelevance(net, layers=2).explain(X, 1)
    assert found.maps.shape == (2, 1, 4, 4)
    assert found.maps.max() > 0
    assert cc.LeGrad(net).explain(X, 1).maps.shape == (2, 1, 4, 4)


@pytest.mark.parametrize("name", ["attentionrelevance", "gradientxattention", "legrad", "rollout"])
def test_windows_of_two_sizes_are_not_taken_for_divided_space_and_time(name: str) -> None:
    """48 windows of 16 tokens and 12 of 16 would also be 16 frames of 4 patches and 12 more tokens."""
    models = pytest.importorskip("torchvision.models")
    net = drawn(lambda: models.SwinTransformer([4, 4], 8, [1, 1], [1, 2], [4, 4], num_classes=4))
    x = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for layer in (None, "features.1.0"):  # the last stage, and one before it
        with pytest.raises(ModelError, match=r"layers=|cannot compose"):
            METHODS[name](net, layer).explain(x, 1)


def test_blocks_that_attend_to_finer_tokens_do_not_count() -> None:
    """The first block of a stage may pool its queries, not its keys (MViT, Hiera)."""
    timm = pytest.importorskip("timm")
    kind = timm.models.mvitv2
    sizes = kind.MultiScaleVitCfg(depths=(1, 1, 1, 2), embed_dim=8, num_heads=1)
    net = drawn(lambda: kind.MultiScaleVit(sizes, img_size=64, num_classes=4)).float()
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = cc.LeGrad(net).explain(x, 1).maps
    assert maps.shape == (1, 1, 2, 2)
    np.testing.assert_array_equal(maps, cc.LeGrad(net, layers=1).explain(x, 1).maps)


def test_a_pooling_that_the_score_does_not_read_is_none() -> None:
    """A tower may pool its tokens for others, while the head averages them (SigLIP as a classifier)."""

    class Beside(Net):
        def read(self, x: Tensor) -> Tensor:
            self.pool(self.queries.expand(len(x), -1, -1), x)
            return super().read(x)

    expected = cc.LeGrad(drawn(lambda: Net("mean"))).explain(X, 2).maps
    np.testing.assert_allclose(cc.LeGrad(drawn(lambda: Beside("mean"))).explain(X, 2).maps, expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_without_attention_is_refused(name: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ModelError, match="attention"):
        METHODS[name](net).explain(X.float(), 1)


@pytest.mark.parametrize("name", NAMES)
def test_options_that_mean_nothing_are_refused(name: str) -> None:
    net = drawn(Net)
    with pytest.raises(LayerError, match="one layer of tokens"):
        METHODS[name](net, ["blocks.0", "blocks.1"])
    with pytest.raises(InputError, match="half_pixel"):
        METHODS[name](net, align="receptive_field")
    with pytest.raises(InputError, match="how many of the last layers"):
        cc.LeGrad(net, layers=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_left_as_found(name: str) -> None:
    net = drawn(Net)
    before, expected = copy.deepcopy(net.state_dict()), net(X).detach()
    METHODS[name](net).explain(X, 1)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert torch.equal(net(X), expected)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(p.grad is None for p in net.parameters())
    assert F.scaled_dot_product_attention is torch._C._nn.scaled_dot_product_attention


@pytest.mark.parametrize("batch_first", [True, False])
def test_legrad_of_tokens_in_any_order_of_axes(batch_first: bool) -> None:
    """The mean is over tokens, be they on the first axis or the second, as many as samples or not."""
    net = drawn(lambda: Encoder(batch_first))
    x = X.repeat(8, 1, 1, 1) * torch.rand(16, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    expected = cc.LeGrad(drawn(lambda: Encoder(True)), batch_size=3).explain(x, 1).maps
    found = cc.LeGrad(net).explain(x, 1).maps
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * expected.max())


class Encoder(nn.Module):
    """A row of PyTorch's own blocks, whose weights are the same in both orders."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.patches, self.first, self.fc = nn.Conv2d(3, 8, 4, stride=4), batch_first, nn.Linear(8, 4)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first), 2, enable_nested_tensor=False
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2)
        x = self.encoder(x.mT if self.first else x.permute(2, 0, 1))
        return self.fc(x.mean(1 if self.first else 0))
