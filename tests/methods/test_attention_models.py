"""Attention of networks of libraries: relevance composed by full matrices of every softmax, and places."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from replicas import Softmaxes
from torch import Tensor, nn

import chronocam as cc

transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "num_labels": 4,
    "image_size": 32,
    "patch_size": 8,
}
X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def drawn(kind: Any, config: Any, attention: str | None) -> Any:
    if attention is not None:
        config._attn_implementation = attention
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config).double().eval()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.4)
    return model


def dinov2(attention: str | None = None) -> Any:
    config = transformers.Dinov2WithRegistersConfig(**SIZES, num_register_tokens=3)
    return drawn(transformers.Dinov2WithRegistersForImageClassification, config, attention)


def detr(attention: str | None = None) -> Any:
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", out_features=["stage2"]
    )
    sizes = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in SIDES.items()}
    config = transformers.DetrConfig(
        backbone_config=backbone, use_timm_backbone=False, d_model=16, num_queries=5, num_labels=4, **sizes
    )
    return drawn(transformers.DetrForObjectDetection, config, attention)


SIDES = {"layers": 2, "attention_heads": 2, "ffn_dim": 24}


def positive(model: nn.Module, score: Any) -> Sequence[np.ndarray]:
    """Return the mean over heads of max(A ⊙ ∂score/∂A, 0) of every attention, first to last."""
    with Softmaxes() as seen:
        total = score(model(X)).sum()
    grads = torch.autograd.grad(total, seen.kept)
    return [(a * g).clamp(min=0).mean(1).detach().numpy() for a, g in zip(seen.kept, grads, strict=True)]


def test_registers_are_tokens_of_which_none_is_a_patch() -> None:
    r = np.eye(20)[None]
    for matrix in positive(dinov2("eager"), lambda out: out.logits[:, 1]):
        r = r + matrix @ r
    # The head reads the class token and the mean of the patches, each of them a token of the last attention.
    expected = r[:, [0, *range(4, 20)], 4:].mean(1).reshape(2, 4, 4)
    found = cc.AttentionRelevance(dinov2()).explain(X, 1).maps[:, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * expected.max())
    for name in ("legrad", "gradientxattention"):
        assert cc.methods.METHODS[name](dinov2()).explain(X, 1).maps.shape == (2, 1, 4, 4)


def normalised(r: np.ndarray) -> np.ndarray:
    added = r - np.eye(r.shape[-1])
    sums = added.sum(-1, keepdims=True)
    return np.eye(r.shape[-1]) + added / np.where(sums == 0, 1, sums)


def test_a_query_of_a_detector_is_traced_back_to_the_picture() -> None:
    """Encoder over the patches, decoder of queries that attend to each other and to the patches."""

    def score(out: Any) -> Tensor:
        return out.logits[:, 3, 1]

    every = positive(detr("eager"), score)
    (b, q, p) = next(a.shape for a in every if a.shape[1] != a.shape[2])
    r_ii, r_qq, r_qi = np.eye(p)[None], np.eye(q)[None], np.zeros((b, q, p))
    for a in every:
        if a.shape[1:] == (p, p):
            r_ii = r_ii + a @ r_ii
        elif a.shape[1:] == (q, q):
            r_qq, r_qi = r_qq + a @ r_qq, r_qi + a @ r_qi
        else:
            r_qi = r_qi + normalised(r_qq).swapaxes(1, 2) @ a @ normalised(r_ii)
    found = cc.AttentionRelevance(detr()).explain(X, score).maps[:, 0]
    expected = r_qi[:, 3].reshape(found.shape)
    assert expected.std() > 0.02 * expected.mean()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * expected.max())


# Rows of tokens that are joined, and as many queries as there are patches.

TEXT_SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 30,
    "max_position_embeddings": 12,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
}
PLACES = {name: value for name, value in SIZES.items() if name != "num_labels"}
IDS = torch.tensor([[2, 5, 6, 7, 1], [2, 8, 5, 9, 1]])


def git(attention: str | None = None) -> Any:
    config = transformers.GitConfig(vision_config=PLACES, **TEXT_SIZES)
    return seeded(transformers.GitForCausalLM, config, attention)


def flava(attention: str | None = None) -> Any:
    multimodal = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
    }
    config = transformers.FlavaConfig(
        image_config=PLACES, text_config=TEXT_SIZES, multimodal_config=multimodal, hidden_size=16
    )
    return seeded(transformers.FlavaModel, config, attention)


def yolos(attention: str | None = None) -> Any:
    config = transformers.YolosConfig(**{**SIZES, "image_size": [32, 32]}, num_detection_tokens=3)
    return seeded(transformers.YolosForObjectDetection, config, attention)


def seeded(kind: Any, config: Any, attention: str | None) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)  # of tokens of one axis, which are not drawn anew
        return drawn(kind, config, attention)


def through(every: Sequence[np.ndarray], r: np.ndarray) -> np.ndarray:
    for a in every:
        r = r + a @ r
    return r


def of_git(every: Sequence[np.ndarray]) -> np.ndarray:
    """The picture's 17 tokens stand before the text's, and the last of these is read."""
    picture = through(every[:2], np.eye(17)[None])
    return through(every[2:], np.concatenate([picture, np.zeros((2, 5, 17))], axis=1))[:, -1, 1:]


def of_flava(every: Sequence[np.ndarray]) -> np.ndarray:
    """A class token is put before the picture's tokens and the text's."""
    picture = through(every[:2], np.eye(17)[None])
    joined = np.concatenate([np.zeros((2, 1, 17)), picture, np.zeros((2, 5, 17))], axis=1)
    return through(every[4:], joined)[:, 0, 1:]


def of_yolos(every: Sequence[np.ndarray]) -> np.ndarray:
    return through(every, np.eye(20)[None])[:, 18, 1:17]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    ("make", "score", "expected", "texts"),
    [
        (git, lambda out: out.logits[:, -1, 3], of_git, True),
        (flava, lambda out: out.multimodal_embeddings[:, 0, 3], of_flava, True),
        (yolos, lambda out: out.logits[:, 1, 2], of_yolos, False),
    ],
)
def test_rows_of_tokens_that_are_joined(make: Any, score: Any, expected: Any, texts: bool) -> None:
    given: Any = {"input_ids": IDS, "pixel_values": X} if texts else X
    model = make("eager")
    with Softmaxes() as seen:
        total = score(model(**given) if texts else model(given)).sum()
    grads = torch.autograd.grad(total, seen.kept, allow_unused=True)
    every = [
        np.zeros(1) if g is None else (a * g).clamp(min=0).double().mean(1).detach().numpy()
        for a, g in zip(seen.kept, grads, strict=True)
    ]
    wanted = expected(every).reshape(2, 4, 4)
    found = cc.AttentionRelevance(make()).explain(given, score).maps[:, 0]
    assert wanted.std() > 0.3 * wanted.mean()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * wanted.max())
