"""Attention rollout against full matrices in float64, written by hand, and on real architectures."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import chronocam as cc
from chronocam.engines.torch.attention import AttentionSeen, Mixing
from chronocam.errors import ChronocamError, InputError, LayerError, ModelError
from chronocam.methods.rollout import AttentionRollout, _through_divided
from chronocam.types import Capture

transformers = pytest.importorskip("transformers")

SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 32,
    "num_labels": 4,
}
CLIP = {**SMALL, "image_size": 24, "patch_size": 8}
EAGER, SDPA = "eager", "sdpa"


def sharpened(model: nn.Module) -> nn.Module:
    """Return the model with weights large enough for attention that is far from even."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3 if "embeddings" in name else 0.6)
    return model.eval()


def made(name: str, attention: str = EAGER) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name == "vit":
            config = transformers.ViTConfig(image_size=(32), patch_size=8, **SMALL)
            kind = transformers.ViTForImageClassification
        elif name == "videomae":
            config = transformers.VideoMAEConfig(num_frames=8, tubelet_size=2, use_mean_pooling=True, **CLIP)
            kind = transformers.VideoMAEForVideoClassification
        elif name == "vivit":
            config = transformers.VivitConfig(**{**CLIP, "num_frames": 8, "tubelet_size": [2, 8, 8]})
            kind = transformers.VivitForVideoClassification
        else:
            joint = {"attention_type": "joint_space_time"} if name == "joint" else {}
            config = transformers.TimesformerConfig(num_frames=4, **CLIP, **joint)
            kind = transformers.TimesformerForVideoClassification
        if name not in ("timesformer", "joint"):
            config._attn_implementation = attention
        return sharpened(kind(config).double())


GRIDS = {
    "vit": (4, 4),
    "videomae": (4, 3, 3),
    "vivit": (4, 3, 3),
    "timesformer": (4, 3, 3),
    "joint": (4, 3, 3),
}
FRAMES = {"videomae": 8, "vivit": 8, "timesformer": 4, "joint": 4}


def inputs(name: str, batch: int = 2) -> Tensor:
    shape = (batch, 3, 32, 32) if name == "vit" else (batch, FRAMES[name], 3, 24, 24)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def normalised(matrix: np.ndarray) -> np.ndarray:
    mixed = (matrix + np.eye(len(matrix))) / 2
    return np.array([row / row.sum() for row in mixed])


def product(matrices: list[np.ndarray]) -> np.ndarray:
    total = np.eye(len(matrices[0]))
    for matrix in matrices:
        total = normalised(matrix) @ total
    return total


def replica(name: str, model: nn.Module, x: Tensor) -> np.ndarray:
    """Return maps `(batch, *grid)` from the model's own attentions, as full matrices over all tokens."""
    model.config.return_dict = True
    with torch.no_grad():
        maps = timesformer_matrices(model, x) if name == "timesformer" else full_matrices(model, x)
    products = [product(matrices) for matrices in maps]
    if name == "videomae":
        return np.stack([p.mean(axis=0).reshape(4, 3, 3) for p in products])
    rows = np.stack([p[0, 1:] for p in products])
    if name in ("timesformer", "joint"):  # patch by patch
        return np.moveaxis(rows.reshape(-1, 3, 3, 4), -1, 1)
    return rows.reshape(-1, *GRIDS[name])


def full_matrices(model: nn.Module, x: Tensor) -> list[list[np.ndarray]]:
    attentions = model(x, output_attentions=True).attentions
    return [[a[i].mean(dim=0).numpy() for a in attentions] for i in range(len(x))]


def timesformer_matrices(model: nn.Module, x: Tensor) -> list[list[np.ndarray]]:
    """Tokens are the class and then, patch by patch, its frames: 1 + p·T + t."""
    time, patches = 4, 9
    temporal: list[Tensor] = []

    def watch(module: nn.Module, args: Any, output: Any) -> None:
        temporal.append(module(args[0], output_attentions=True)[1])

    blocks = [block.temporal_attention.attention for block in model.timesformer.encoder.layer]
    handles = [block.register_forward_hook(once(watch)) for block in blocks]
    spatial = model(x, output_attentions=True).attentions
    for handle in handles:
        handle.remove()
    assert len(temporal) == len(spatial) == 3
    found: list[list[np.ndarray]] = []
    for b in range(len(x)):
        found.append([])
        for over_time, over_space in zip(temporal, spatial, strict=True):
            t_matrix, s_matrix = np.zeros((37, 37)), np.zeros((37, 37))
            t_matrix[0, 0] = 1
            for p in range(patches):
                for t in range(time):
                    for u in range(time):
                        t_matrix[1 + p * time + t, 1 + p * time + u] = over_time[
                            b * patches + p, :, t, u
                        ].mean()
            for t in range(time):
                a = over_space[b * time + t].mean(dim=0).numpy()
                s_matrix[0, 0] += a[0, 0] / time
                for p in range(patches):
                    s_matrix[0, 1 + p * time + t] = a[0, 1 + p] / time
                    s_matrix[1 + p * time + t, 0] = a[1 + p, 0]
                    for q in range(patches):
                        s_matrix[1 + p * time + t, 1 + q * time + t] = a[1 + p, 1 + q]
            found[-1] += [t_matrix, s_matrix]
    return found


def once(hook: Callable[..., None]) -> Callable[..., None]:
    """Return a hook that does not run within itself."""
    inside: list[int] = []

    def run(*args: Any) -> None:
        if not inside:
            inside.append(1)
            hook(*args)
            inside.clear()

    return run


@pytest.fixture
def raw(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """What the method returned before it became float32, of models whose softmax need not be float32."""
    kept: list[np.ndarray] = []
    maps = AttentionRollout.maps

    def keep(self: AttentionRollout, view: Any) -> Any:
        kept.append(np.asarray(maps(self, view)))
        return maps(self, view)

    monkeypatch.setattr(AttentionRollout, "maps", keep)
    monkeypatch.setattr(nn.functional, "softmax", lambda x, dim, dtype=None: torch.softmax(x, dim))
    return kept


CASES = [(n, a) for n in GRIDS for a in (EAGER, SDPA) if not (n in ("timesformer", "joint") and a == SDPA)]


@pytest.mark.parametrize(("name", "attention"), CASES)
def test_rollout_equals_the_product_of_full_matrices(
    name: str, attention: str, raw: list[np.ndarray]
) -> None:
    model, x = made(name, attention), inputs(name)
    expected = replica(name, made(name), x)
    assert expected.std(axis=tuple(range(1, expected.ndim))).min() > 0.05 * expected.mean()
    explanation = cc.AttentionRollout(model).explain(x, 1)
    assert explanation.maps.shape == (2, 1, *GRIDS[name])
    np.testing.assert_allclose(raw[0][:, 0], expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(explanation.maps[:, 0], expected, rtol=0, atol=1e-6)
    single = cc.AttentionRollout(model.float()).explain(x.float(), 1).maps[:, 0]
    np.testing.assert_allclose(single, expected, rtol=0, atol=1e-5 * expected.max())
    share = expected.reshape(2, -1).sum(axis=1)
    assert ((share < 1) | (name == "videomae")).all()
    np.testing.assert_allclose(share[0] if name == "videomae" else 1.0, 1.0, atol=1e-10)


@pytest.mark.parametrize("name", ["vit", "videomae", "vivit"])
def test_fused_attention_equals_eager(name: str, raw: list[np.ndarray]) -> None:
    for attention in (EAGER, SDPA):
        cc.AttentionRollout(made(name, attention)).explain(inputs(name), 1)
    np.testing.assert_allclose(raw[0], raw[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", GRIDS)
def test_a_batch_equals_one_by_one(name: str) -> None:
    model, x = made(name, SDPA), inputs(name, 3)
    whole = cc.AttentionRollout(model).explain(x).maps
    for size in (1, 2):
        found = cc.AttentionRollout(model, batch_size=size).explain(x).maps
        np.testing.assert_allclose(found, whole, rtol=1e-6, atol=0)


def test_a_sample_that_is_not_finite_leaves_the_others_alone() -> None:
    model, x = made("timesformer"), inputs("timesformer", 3)
    clean = cc.AttentionRollout(model).explain(x, 1).maps
    x[1, 0, 0, 0, 0] = torch.nan
    found = cc.AttentionRollout(model).explain(x, 1)
    np.testing.assert_allclose(found.maps[[0, 2]], clean[[0, 2]], rtol=1e-6)
    assert np.isnan(found.maps[1]).any()
    assert any("not finite" in finding for finding in found.diagnostics)


def test_the_map_is_the_same_for_every_target_and_says_so() -> None:
    model, x = made("vit"), inputs("vit")
    found = cc.AttentionRollout(model).explain(x, [cc.targets.Class(k) for k in range(4)])
    assert found.maps.shape == (2, 4, 4, 4)
    assert all(np.array_equal(found.maps[:, k], found.maps[:, 0]) for k in range(4))
    assert len(set(np.round(found.scores[0], 6))) == 4
    assert any("the same for every target" in note for note in found.diagnostics)
    assert "same for every target" in (AttentionRollout.__doc__ or "")


@pytest.mark.parametrize("name", ["vit", "timesformer"])
def test_the_model_is_left_as_found(name: str) -> None:
    model, x = made(name, SDPA), inputs(name)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    expected, given, rng = model(x).logits.detach(), x.clone(), torch.get_rng_state()
    hooks = [len(m._forward_hooks) for m in model.modules()]
    cc.AttentionRollout(model).explain(x)
    assert torch.equal(model(x).logits, expected)
    assert torch.equal(x, given)
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    assert all(p.grad is None for p in model.parameters())
    assert model.config._attn_implementation == (SDPA if name == "vit" else model.config._attn_implementation)


def test_one_pass_with_gradients_gives_the_same_map() -> None:
    model, x = made("vit", SDPA), inputs("vit")
    seen: list[int] = []
    handle = model.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    alone = cc.AttentionRollout(model).explain(x, 1)
    seen.clear()
    layer = "vit.layers.1.layernorm_before"
    together = cc.explain(model, x, 1, methods=["gradcam", "rollout"], layers=[layer])
    handle.remove()
    assert seen.count(2) == 1  # the others, of one sample, prove the grid
    np.testing.assert_allclose(together["rollout"].maps, alone.maps, rtol=1e-6)
    plain = cc.GradCAM(model, layer).explain(x, 1)
    np.testing.assert_allclose(together["gradcam"].maps, plain.maps, rtol=1e-5)
    assert not any("every target" in note for note in plain.diagnostics)


def test_nothing_is_watched_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from chronocam.engines.torch import passes

    def refuse(see: object) -> None:
        raise AssertionError("attention was watched")

    monkeypatch.setattr(passes, "AttentionSeen", refuse)
    model, x = made("vit"), inputs("vit")
    cc.GradCAM(model).explain(x, 1)
    with pytest.raises(AssertionError, match="watched"):
        cc.AttentionRollout(model).explain(x, 1)


# By hand: a class token and two patches, two layers of attention that is set in the weights.

FIRST = [[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.0, 0.5, 0.5]]
SECOND = [[0.0, 0.0, 1.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
# ½(A + I): first [[¾, ⅛, ⅛], [0, 1, 0], [0, ¼, ¾]], second [[½, 0, ½], [¼, ¾, 0], [0, 0, 1]].
# Class: ½·(¾, ⅛, ⅛) + ½·(0, ¼, ¾) = (6, 3, 7)/16. Second patch: ¼·(¾, ⅛, ⅛) + ¾·(0, 1, 0) = (6, 25, 1)/32.
# Third token: (0, 8, 24)/32. Mean of the patches: (6, 33, 25)/64.


class ByHand(nn.Module):
    """Attention with given weights, two heads that only on average are these."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 4, 2, stride=2)
        self.block, self.last, self.fc = nn.Identity(), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1)
        for matrix in (FIRST, SECOND):
            # Attention of its own tokens, though their values do not change it.
            mean = torch.tensor(matrix, dtype=x.dtype) + 0 * tokens.mean()
            off = 0.5 * torch.minimum(mean, 1 - mean).amin(-1, keepdim=True) * torch.tensor([1.0, -1.0, 0.0])
            weights = torch.stack([mean + off, mean - off]).log().expand(len(x), 2, 3, 3).softmax(-1)
            tokens = tokens + self.last((weights @ tokens[:, None]).mean(1))
        return self.fc(tokens[:, 0])


@pytest.mark.parametrize(
    ("readout", "expected"),
    [(None, [3 / 16, 7 / 16]), ("class", [3 / 16, 7 / 16]), ("mean", [33 / 64, 25 / 64])],
)
def test_two_layers_by_hand(readout: str | None, expected: list[float]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x = ByHand().eval(), torch.randn(2, 1, 2, 4)
    found = cc.AttentionRollout(
        model, "last", layout=cc.layouts.Tokens((1, 2), prefix=1), readout=readout
    ).explain(x)
    np.testing.assert_allclose(found.maps, np.broadcast_to(expected, (2, 1, 1, 2)), rtol=1e-6)


def test_rows_are_normalised() -> None:
    """Weights of half precision, or of attention with a sink, do not sum to 1: (1, 3) + (1, 0) is over 5."""
    weights = np.array([[[1.0, 3.0], [0.0, 1.0]]])
    capture = Capture(np.zeros((1, 1, 1, 1)), attentions=(weights,), layout_of=lambda shape, order: tokens_of)
    found = object.__new__(AttentionRollout)
    found.readout = "class"
    np.testing.assert_allclose(found._rolled(capture)[0, 0], [[2 / 5, 3 / 5]])


def test_divided_attention_is_composed_as_matrices_over_all_tokens_whatever_its_rows_sum_to() -> None:
    """Ã = ½(A + I) with rows normalised; a class token's spatial row is the mean over the frames."""
    rng = np.random.default_rng(0)
    batch, time, patches = 2, 3, 4
    tokens = 1 + time * patches
    spatial = rng.uniform(0, 2, (2, batch * time, 1 + patches, 1 + patches))
    temporal = rng.uniform(0, 2, (2, batch * patches, time, time))
    row = rng.uniform(size=(batch, tokens))
    found = _through_divided(row, [temporal[0], spatial[0], temporal[1], spatial[1]], time, 1)
    for sample in range(batch):
        expected = row[sample]
        for layer in (1, 0):
            matrices = []
            for kind in ("spatial", "temporal"):
                a = np.zeros((tokens, tokens))
                for f in range(time):
                    own = [0, *(1 + f * patches + p for p in range(patches))]
                    for p in range(patches):
                        if kind == "spatial":
                            a[own[1 + p], own] += spatial[layer, sample * time + f, 1 + p]
                        else:
                            across = [1 + g * patches + p for g in range(time)]
                            a[own[1 + p], across] += temporal[layer, sample * patches + p, f]
                    if kind == "spatial":
                        a[0, own] += spatial[layer, sample * time + f, 0] / time
                both = a + np.eye(tokens)
                matrices.append(both / both.sum(axis=1, keepdims=True))
            expected = expected @ matrices[0] @ matrices[1]
        np.testing.assert_allclose(found[sample], expected, rtol=1e-12)


def tokens_of(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, -1, 1)[:, :, None]


# Other networks, and other ways to write attention.


def test_torchvision_vit_shows_the_weights_of_its_module() -> None:
    models = pytest.importorskip("torchvision.models")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kind = models.VisionTransformer
        model = kind(
            image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=24, num_classes=4
        )
        nn.init.normal_(model.heads.head.weight, std=0.1)
        model, x = sharpened(model.double()), torch.randn(2, 3, 32, 32).double()
    kept: list[Tensor] = []
    handles = [
        block.self_attention.register_forward_pre_hook(
            lambda module, args: kept.append(by_projection(module, args[0]))
        )
        for block in model.encoder.layers
    ]
    expected_scores = model(x).detach()
    for handle in handles:
        handle.remove()
    expected = [product([a[i].mean(0).numpy() for a in kept])[0, 1:].reshape(4, 4) for i in range(2)]
    found = cc.AttentionRollout(model).explain(x, [cc.targets.Class(0)])
    np.testing.assert_allclose(found.maps[:, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(found.scores[:, 0], expected_scores[:, 0], rtol=1e-6)
    assert torch.equal(model(x), expected_scores)


def by_projection(module: nn.MultiheadAttention, x: Tensor) -> Tensor:
    """Return softmax(q kᵀ/√d) of the module's own weights, `(batch, head, query, key)`."""
    with torch.no_grad():
        q, k, _ = F.linear(x, module.in_proj_weight, module.in_proj_bias).chunk(3, dim=-1)
        q, k = (t.unflatten(-1, (module.num_heads, -1)).transpose(1, 2) for t in (q, k))
        return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)


@pytest.mark.parametrize("fused", [True, False])
def test_rollout_of_a_timm_vit_equals_a_replica(fused: bool) -> None:
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {
            "img_size": 32,
            "patch_size": 8,
            "embed_dim": 16,
            "depth": 2,
            "num_heads": 2,
            "num_classes": 4,
        }
        model = sharpened(timm.models.VisionTransformer(**sizes).double())
        x = torch.randn(2, 3, 32, 32).double()
    matrices: list[Tensor] = []
    handles = [
        block.attn.register_forward_pre_hook(lambda m, args: matrices.append(of_timm(m, args[0])))
        for block in model.blocks
    ]
    model(x)
    for handle, block in zip(handles, model.blocks, strict=True):
        handle.remove()
        block.attn.fused_attn = fused
    expected = [product([a[i].mean(0).numpy() for a in matrices])[0, 1:].reshape(4, 4) for i in range(2)]
    np.testing.assert_allclose(cc.AttentionRollout(model).explain(x, 0).maps[:, 0], expected, rtol=1e-5)


def of_timm(module: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        qkv = module.qkv(x).unflatten(-1, (3, module.num_heads, -1))
        q, k = (qkv[:, :, i].transpose(1, 2) for i in (0, 1))
        return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)


class PerFrame(nn.Module):
    """A transformer that sees the frames one by one, and an LSTM over its class tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = made("vit").float().vit
        self.lstm, self.fc = nn.LSTM(24, 8, batch_first=True), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.vit(x.flatten(0, 1)).last_hidden_state
        return self.fc(self.lstm(tokens[:, 0].unflatten(0, x.shape[:2]))[0][:, -1])


def test_frames_one_by_one_are_rolled_out_one_by_one() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, clips = PerFrame().eval(), torch.randn(2, 3, 3, 32, 32)
    found = cc.AttentionRollout(model).explain(clips, 1).maps
    frames = replica("vit", made("vit"), clips.flatten(0, 1).double())
    np.testing.assert_allclose(found, frames.reshape(2, 1, 3, 4, 4), rtol=1e-4)


# The mode.


def seen_in(call: Callable[[], Any]) -> list[Tensor]:
    kept: list[Tensor] = []

    def see(mixing: Mixing) -> Tensor:
        kept.append(mixing.means.detach())
        return mixing.output

    with AttentionSeen(see):
        call()
    return kept


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize(
    "options", ["plain", "scale", "causal", "bool", "float", "gqa", "one key", "three axes"]
)
def test_fused_attention_is_recomputed_as_defined(options: str) -> None:
    """Attention over the identity returns its weights."""
    q, k = drawn(2, 4, 5, 5), drawn(2, 4, 5, 5) * 3
    named: dict[str, Any] = {
        "scale": {"scale": 0.7},
        "causal": {"is_causal": True},
        "bool": {"attn_mask": drawn(2, 1, 5, 5) > -0.5},
        "float": {"attn_mask": drawn(5, 5)},
        "gqa": {"enable_gqa": True},
    }.get(options, {})
    if options == "bool":
        named["attn_mask"] = named["attn_mask"] | torch.eye(5, dtype=torch.bool)
    k = k[:, :2] if options == "gqa" else k[:, :1] if options == "one key" else k
    if options == "three axes":
        q, k = q[:, 0], k[:, 0]
    value = torch.eye(5, dtype=torch.float64).expand(k.shape)
    weights = F.scaled_dot_product_attention(q, k, value, **named)
    (found,) = seen_in(lambda: F.scaled_dot_product_attention(q, k, value, **named))
    expected = weights if options == "three axes" else weights.mean(1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_dropout_takes_nothing_from_the_weights() -> None:
    a = drawn(2, 3, 4, 4)

    def eager() -> None:
        F.dropout(a.softmax(-1).to(torch.float32), 0.9) @ torch.ones(4, 2)

    (found,) = seen_in(eager)
    torch.testing.assert_close(found, a.softmax(-1).mean(1), rtol=0, atol=1e-12)
    module = nn.MultiheadAttention(4, 2, dropout=0.9, batch_first=True).train()
    x = torch.randn(2, 3, 4)
    torch.manual_seed(3)
    expected, after = module(x, x, x, need_weights=False)[0], torch.get_rng_state()
    torch.manual_seed(3)
    results: list[Any] = []
    (found,) = seen_in(lambda: results.append(module(x, x, x, need_weights=False)))
    result = results[0]
    assert result[1] is None
    assert torch.equal(result[0], expected)
    assert torch.equal(torch.get_rng_state(), after)
    torch.testing.assert_close(found, module.eval()(x, x, x)[1], rtol=0, atol=1e-6)
    assert not found.requires_grad


@pytest.mark.parametrize(
    "call",
    [
        lambda a: a.softmax(-1),  # no product
        lambda a: a.softmax(-2) @ a,  # not over the keys
        lambda a: a[0, 0].softmax(-1) @ a[0, 0],  # no batch
        lambda a: a.sigmoid() @ a,
        lambda a: (a.softmax(-1), a @ a),
    ],
    ids=["no product", "columns", "no batch", "no softmax", "of others"],
)
def test_what_is_no_attention(call: Callable[[Tensor], Any]) -> None:
    assert seen_in(lambda: call(drawn(2, 3, 4, 4))) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda a: F.softmax(a, dim=-1) @ a,
        lambda a: torch.softmax(a, 3).matmul(a),
        lambda a: torch.bmm(a[0].softmax(dim=-1), a[0]),
        lambda a: torch.einsum("bhij,bhjc->bhic", nn.Softmax(-1)(a), a),
        lambda a: torch.matmul(F.dropout(a.softmax(-1), 0.1, True), a),
    ],
    ids=["F", "torch", "bmm", "einsum", "dropout"],
)
def test_eager_attention_however_written(call: Callable[[Tensor], Any]) -> None:
    a = drawn(2, 3, 4, 4)
    (found,) = seen_in(lambda: call(a))
    expected = a.softmax(-1).mean(1) if len(found) == 2 else a[0].softmax(-1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_half_precision_and_autocast_keep_the_weights_in_float32() -> None:
    q = drawn(2, 3, 4, 8).float()
    (whole,) = seen_in(lambda: F.scaled_dot_product_attention(q, q, q))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (cast,) = seen_in(lambda: F.scaled_dot_product_attention(q, q, q))
    assert torch.equal(cast, whole)
    half = q.bfloat16()
    (found,) = seen_in(lambda: F.scaled_dot_product_attention(half, half, half))
    (expected,) = seen_in(lambda: F.scaled_dot_product_attention(half.float(), half.float(), half.float()))
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


# What is refused.


def refused(kind: type[ChronocamError], explain: Callable[[], Any], *words: str) -> None:
    with pytest.raises(kind) as error:
        explain()
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_networks_without_attention_are_refused() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()
    x = torch.randn(1, 3, 8, 8)
    refused(
        ModelError,
        lambda: cc.AttentionRollout(net).explain(x),
        "no attention",
        "gradcam",
        "attn_implementation",
    )


def test_attention_in_windows_is_refused() -> None:
    models = pytest.importorskip("torchvision.models")
    net = models.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [2, 2], num_classes=3).eval()
    x = torch.randn(1, 3, 32, 32)
    refused(
        ModelError,
        lambda: cc.AttentionRollout(net).explain(x),
        "cannot compose attention",
        "(16, 4, 4)",
        "gradcam",
    )


def test_a_layer_of_other_tokens_is_refused() -> None:
    model = made("vit")
    layout = cc.layouts.Tokens((8, 2), prefix=1)

    def other(array: Any) -> Any:
        return layout(array) if array.shape[-1] > 1 else cc.layouts.Tokens((4, 4), prefix=1)(array)

    method = cc.AttentionRollout(model, "vit.layers.0", layout=other)
    refused(LayerError, lambda: method.explain(inputs("vit")), "(4, 4)", "(8, 2)", "conv_layer=")


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"readout": "sum"}, InputError, ("no readout `sum`", "class or mean")),
        ({"conv_layer": "input"}, LayerError, ("conv_layer",)),
        ({"conv_layer": ["vit.layers.0", "vit.layers.1"]}, LayerError, ("conv_layer",)),
        ({"align": "receptive_field"}, InputError, ("half_pixel",)),
        ({"chunk_frames": 2}, InputError, ("chunk_frames",)),
    ],
    ids=str,
)
def test_options_that_cannot_be_met(
    options: dict[str, Any], kind: type[ChronocamError], words: tuple[str]
) -> None:
    refused(kind, lambda: cc.AttentionRollout(made("vit"), **options), *words)
