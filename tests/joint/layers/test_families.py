"""The default call on small networks of many kinds: its layer, and its map beside one made by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from explained import seeded
from torch import Tensor, nn

import chronocam as cc


class Small(nn.Module):
    """A network of named parts and what it does with them."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def conv(given: int, made: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(given, made, 3, 2, 1), nn.ReLU())


def wavelet(net: Any, x: Tensor) -> Tensor:
    a, b, c, d = x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]
    parts = torch.cat([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], 1)
    return net.fc(net.last(parts / 2).mean((2, 3)))


def spectral(net: Any, x: Tensor) -> Tensor:
    y = net.stem(x)
    mixed = torch.fft.irfft2(torch.fft.rfft2(y, norm="ortho") * 0.5, s=y.shape[2:], norm="ortho")
    return net.fc(net.last(y + mixed).mean((2, 3)))


def patches(net: Any, x: Tensor) -> Tensor:
    """Each patch of 16 × 16 is a row of the batch."""
    cut = x.unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 16, 16)
    return net.fc(net.last(net.stem(cut)).mean((2, 3)).view(len(x), -1, 8).mean(1))


def memory(net: Any, x: Tensor) -> Tensor:
    """The classes' stored features beside those of every place."""
    places = F.normalize(net.last(net.stem(x)), dim=1)
    stored = F.normalize(net.fc.weight.view(3, 2, 4), dim=2)
    return torch.logsumexp(torch.einsum("bchw,kmc->bkmhw", places, stored).flatten(2) * 5, 2)


def queried(net: Any, x: Tensor) -> Tensor:
    """A query that attends over the places."""
    places = net.last(net.stem(x)).flatten(2).mT
    weights = (places @ net.query.weight.mT).softmax(1)
    return net.fc((weights * places).sum(1))


def of_views(net: Any, x: Tensor) -> Tensor:
    """Several views of an object, `(batch, view, …)`, of which the largest feature counts."""
    return net.fc(net.last(net.stem(x.flatten(0, 1))).mean((2, 3)).view(*x.shape[:2], -1).amax(1))


def repeated(net: Any, x: Tensor) -> Tensor:
    """One activation everywhere, and a loop."""
    y = net.act(net.stem(x))
    for _ in range(2):
        y = net.act(net.last(y))
    return net.fc(y.mean((2, 3)))


def by_hand(net: Any, x: Tensor, layer: str) -> np.ndarray:
    """Grad-CAM of class 1, `(row, height, width)`, a row for each that the layer saw in its last call."""
    kept: list[Tensor] = []
    hook = net.get_submodule(layer).register_forward_hook(lambda module, given, output: kept.append(output))
    score = net(x)[:, 1].sum()
    hook.remove()
    (gradient,) = torch.autograd.grad(score, kept[-1])
    return torch.einsum("bk,bkhw->bhw", gradient.mean((2, 3)), kept[-1]).detach().numpy()


def explained(
    run: Callable[[Any, Tensor], Tensor], x: Tensor, layer: str = "last", **parts: nn.Module
) -> tuple[Any, np.ndarray]:
    torch.manual_seed(0)
    net = seeded(lambda: Small(run, fc=nn.Linear(8, 3), **parts))
    found = cc.GradCAM(net, signed=True).explain(x, 1)
    assert found.layer == layer
    return found, by_hand(net, x, layer)


@pytest.mark.parametrize(
    ("run", "given", "made"), [(wavelet, 12, 8), (spectral, 8, 8), (memory, 8, 4), (queried, 8, 8)]
)
def test_pictures(run: Callable[[Any, Tensor], Tensor], given: int, made: int) -> None:
    torch.manual_seed(0)
    x, query = torch.rand(2, 3, 64, 48), nn.Linear(8, 1)
    found, right = explained(run, x, stem=conv(3, 8), last=conv(given, made), query=query)
    np.testing.assert_allclose(found.maps[:, 0], right, rtol=1e-4, atol=1e-7)


def test_a_layer_that_is_called_in_a_loop_is_explained_at_its_last_call() -> None:
    torch.manual_seed(0)
    stem, last, x = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1), torch.rand(2, 3, 64, 48)
    found, right = explained(repeated, x, "act", stem=stem, last=last, act=nn.ReLU())
    np.testing.assert_allclose(found.maps[:, 0], right, rtol=1e-4, atol=1e-7)


def test_views_of_an_object_lie_side_by_side_as_frames_do() -> None:
    torch.manual_seed(0)
    found, right = explained(of_views, torch.rand(2, 4, 3, 32, 32), stem=conv(3, 8), last=conv(8, 8))
    assert found.maps.shape == (2, 1, 4, 8, 8)
    np.testing.assert_allclose(found.maps[:, 0].reshape(right.shape), right, rtol=1e-4, atol=1e-7)


def test_patches_that_are_rows_of_the_batch_lie_where_they_were_cut() -> None:
    torch.manual_seed(0)
    found, rows = explained(patches, torch.rand(2, 3, 64, 48), stem=conv(3, 8), last=conv(8, 8))
    whole = rows.reshape(2, 4, 3, 4, 4).transpose(0, 1, 3, 2, 4).reshape(2, 16, 12)
    np.testing.assert_allclose(found.maps[:, 0], whole, rtol=1e-4, atol=1e-7)
