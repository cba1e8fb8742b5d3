"""Grad-CAM on architectures as people use them, with random weights, against hooks and autograd."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import chronocam as cc

models = pytest.importorskip("torchvision.models")

CLASSES = [3, 7]


def as_it_is(tokens: Tensor) -> Tensor:
    return tokens


def patches(tokens: Tensor) -> Tensor:
    """Tokens `(batch, 1 + 14·14, channel)` without the class token, row by row."""
    return tokens[:, 1:].unflatten(1, (14, 14)).movedim(-1, 1)


@dataclass
class Entry:
    """A model, an input of `size` pixels, and the last layer with a grid on which the score depends."""

    name: str
    size: int
    layer: str
    grid: tuple[int, int]
    on_grid: Callable[[Tensor], Tensor] = as_it_is


LAST = "encoder.layers.encoder_layer_11"
ENTRIES = [
    Entry("resnet50", 96, "layer4", (3, 3)),
    Entry("densenet121", 96, "features", (3, 3)),
    Entry("vgg16", 96, "features", (3, 3)),
    Entry("mobilenet_v3_large", 96, "features", (3, 3)),
    Entry("convnext_tiny", 96, "features", (3, 3)),
    Entry("swin_t", 96, "permute", (3, 3)),
    Entry("vit_b_16", 224, "encoder.layers.encoder_layer_10", (14, 14), patches),
]
SLOW = {"vgg16", "vit_b_16"}


@pytest.fixture(
    scope="module",
    params=[pytest.param(e, id=e.name, marks=[pytest.mark.slow] if e.name in SLOW else []) for e in ENTRIES],
)
def case(request: pytest.FixtureRequest) -> Iterator[tuple[Entry, nn.Module, Tensor]]:
    entry: Entry = request.param
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.get_model(entry.name, weights=None).eval()
        if entry.name == "vit_b_16":
            nn.init.normal_(model.heads.head.weight, std=0.1)  # starts at zero: nothing would count
        yield entry, model, torch.randn(2, 3, entry.size, entry.size)


def by_hooks(model: nn.Module, layer: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return a layer's output and the gradient of the summed scores there, in the layer's own layout."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        kept.append(output)
        return output.clone()

    handle = model.get_submodule(layer).register_forward_hook(keep)
    logits = model(x)
    handle.remove()
    score = sum(logits[i, c] for i, c in enumerate(CLASSES))
    return kept[-1].detach(), torch.autograd.grad(score, kept[-1])[0]


def test_default_layer_and_raw_map(case: tuple[Entry, nn.Module, Tensor]) -> None:
    entry, model, x = case
    explanation = cc.GradCAM(model, signed=True).explain(x, CLASSES)
    assert explanation.layer == entry.layer
    assert explanation.maps.shape == (2, 1, *entry.grid)
    activations, gradients = (entry.on_grid(t).double() for t in by_hooks(model, entry.layer, x))
    expected = torch.einsum("bk,bkyx->byx", gradients.mean((2, 3)), activations).numpy()
    peak = np.abs(expected).max(axis=(1, 2))
    assert (peak > 0).all(), "a map of zeros would agree with anything"
    error = np.abs(explanation.maps[:, 0] - expected).max(axis=(1, 2)) / peak
    assert (error < 1e-5).all(), error


def test_nothing_behind_the_default_layer_would_do(case: tuple[Entry, nn.Module, Tensor]) -> None:
    """In the transformer that reads its class token, the patches after the last attention get no gradient."""
    entry, model, x = case
    if entry.name == "vit_b_16":
        for layer in (f"{LAST}.mlp", LAST, "encoder.ln", "encoder"):
            assert not patches(by_hooks(model, layer, x)[1]).any()
    else:
        children = dict(model.named_children())
        later = list(children)[list(children).index(entry.layer) + 1 :]
        later = [
            name for name in later if not isinstance(children[name], nn.AdaptiveAvgPool2d)
        ]  # VGG's resamples
        assert all(by_hooks(model, name, x)[0].shape[2:].numel() == 1 for name in later), (
            "a grid is left there"
        )
