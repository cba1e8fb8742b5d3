"""Attention of clips: joint over space and time, and divided, against matrices over all tokens."""

from typing import Any

import numpy as np
import pytest
import torch
from replicas import Softmaxes
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import ModelError
from chronocam.methods import METHODS

transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "num_labels": 4,
    "image_size": 24,
    "patch_size": 8,
}
GRID = {"videomae": (4, 3, 3), "vivit": (4, 3, 3), "timesformer": (4, 3, 3), "vjepa2": (2, 3, 3)}
FRAMES = {"videomae": 8, "vivit": 8, "timesformer": 4, "vjepa2": 4}


def made(name: str, attention: str = "sdpa") -> nn.Module:
    frames = {"num_frames": FRAMES[name]}
    if name == "videomae":
        config = transformers.VideoMAEConfig(tubelet_size=2, use_mean_pooling=True, **frames, **SIZES)
        kind = transformers.VideoMAEForVideoClassification
    elif name == "vivit":
        config = transformers.VivitConfig(tubelet_size=[2, 8, 8], **frames, **SIZES)
        kind = transformers.VivitForVideoClassification
    elif name == "vjepa2":
        more = {"crop_size": 24, "frames_per_clip": 4, "tubelet_size": 2, "mlp_ratio": 2, "num_labels": 4}
        heads = {"num_pooler_layers": 1, "pred_hidden_size": 24, "pred_num_hidden_layers": 1}
        sizes = {"patch_size": 8, "hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2}
        config = transformers.VJEPA2Config(**sizes, **more, **heads, pred_num_attention_heads=2)
        kind = transformers.VJEPA2ForVideoClassification
    else:
        config = transformers.TimesformerConfig(**frames, **SIZES)
        kind = transformers.TimesformerForVideoClassification
    if name != "timesformer":
        config._attn_implementation = attention
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config).double().eval()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.4)
    return model


def clips(name: str) -> Tensor:
    shape = (2, FRAMES[name], 3, 24, 24)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def attentions(model: nn.Module, x: Tensor, target: int) -> list[tuple[Tensor, Tensor]]:
    """Return every attention of a pass, with the gradient of the score, first to last."""
    with Softmaxes() as seen:
        score = model(x).logits[:, target].sum()
    return list(zip(seen.kept, torch.autograd.grad(score, seen.kept), strict=True))


def positive(pair: tuple[Tensor, Tensor]) -> np.ndarray:
    a, g = pair
    mean: np.ndarray = (a * g).clamp(min=0).mean(1).detach().numpy()
    return mean


def over_all_tokens(name: str, pairs: list[tuple[Tensor, Tensor]]) -> list[np.ndarray]:
    """Return Ā as matrices over all tokens: of TimeSformer the class, then the patches of each frame."""
    if name != "timesformer":
        return [positive(pair) for pair in pairs]
    every = []
    for pair in pairs:
        own = positive(pair)
        full = np.zeros((2, 37, 37))
        for b in range(2):
            for t in range(4):
                for p in range(9):
                    if own.shape[1] == 4:
                        full[b, 1 + 9 * t + p, 1 + p :: 9] = own[b * 9 + p, t]
                        continue
                    row = own[b * 4 + t, 1 + p]
                    full[b, 1 + 9 * t + p, [0, *range(1 + 9 * t, 10 + 9 * t)]] = row
                if own.shape[1] == 10:  # what the copies of the class token attend to, they do together
                    full[b, 0, [0, *range(1 + 9 * t, 10 + 9 * t)]] += own[b * 4 + t, 0]
        every.append(full)
    return every


@pytest.mark.parametrize("name", GRID)
def test_relevance_of_clips_equals_matrices_over_all_tokens(name: str) -> None:
    model, x = made(name), clips(name)
    *every, last = over_all_tokens(name, attentions(made(name, "eager"), x, 1))
    if name != "vjepa2":
        every.append(last)
    r = np.eye(every[0].shape[1])[None]
    for matrix in every:
        r = r + matrix @ r
    expected = r.mean(1) if name == "videomae" else r[:, 0, 1:]
    if name == "vjepa2":  # one query reads all tokens, whose own relevance is made to sum to 1
        added = r - np.eye(18)
        expected = (last @ (np.eye(18) + added / added.sum(2, keepdims=True)))[:, 0]
    found = cc.AttentionRelevance(model).explain(x, 1).maps[:, 0]
    assert expected.std() > 0.02 * expected.mean()
    np.testing.assert_allclose(found, expected.reshape(2, *GRID[name]), rtol=0, atol=1e-6 * expected.max())
    one = cc.AttentionRelevance(model, batch_size=1).explain(x, 1).maps[:, 0]
    np.testing.assert_allclose(one, found, rtol=0, atol=1e-6 * found.max())


def test_the_last_attention_of_divided_space_and_time_is_that_of_each_frame() -> None:
    model, x = made("timesformer"), clips("timesformer")
    last = positive(attentions(made("timesformer", "eager"), x, 1)[-1])
    expected = last[:, 0, 1:].reshape(2, 4, 3, 3)
    found = cc.GradientXAttention(model).explain(x, 1).maps[:, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * expected.max())


def test_legrad_of_divided_space_and_time() -> None:
    """Each block's tokens, averaged, are scored; its two attentions are over frames and over patches."""
    model, x = made("timesformer"), clips("timesformer")
    expected = np.zeros((2, 4, 3, 3))
    for end in (0, 1):
        tokens: list[Tensor] = []

        def keep(module: Any, args: Any, output: Any, kept: list[Tensor] = tokens) -> None:
            kept.append(output[0] if isinstance(output, tuple) else output)

        handle = model.timesformer.encoder.layer[end].register_forward_hook(keep)
        with Softmaxes() as seen:
            model(x)
        handle.remove()
        score = model.classifier(model.timesformer.layernorm(tokens[0].mean(1)))[:, 1].sum()
        over_time, over_space = torch.autograd.grad(score, seen.kept[2 * end : 2 * end + 2])
        in_time = over_time.clamp(min=0).mean((1, 2)).reshape(2, 3, 3, 4).movedim(-1, 1)
        in_space = over_space.clamp(min=0).mean((1, 2))[:, 1:].reshape(2, 4, 3, 3)
        expected += (in_time + in_space).numpy() / 4
    found = cc.LeGrad(model).explain(x, 1).maps[:, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * expected.max())


@pytest.mark.parametrize("name", GRID)
@pytest.mark.parametrize("method", ["legrad", "attentionrelevance", "gradientxattention", "gradeclip"])
def test_every_method_finds_the_places_of_every_clip(method: str, name: str) -> None:
    model, x = made(name), clips(name)
    if method == "gradeclip" and name == "videomae":
        with pytest.raises(ModelError, match="is defined for one"):
            METHODS[method](model).explain(x, 1)
        return
    found = METHODS[method](model).explain(x, 1)
    assert found.maps.shape == (2, 1, *GRID[name])
    assert found.maps.max() > 0
    alone = METHODS[method](model).explain(x[1:], 1)
    np.testing.assert_allclose(alone.maps[0], found.maps[1], rtol=0, atol=1e-6 * found.maps.max())
