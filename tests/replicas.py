"""Slow, obvious replicas of every method: explicit loops and plain autograd, nothing of the package.

The closed forms take activations `a[k][p]` and gradients `g[k][p]` of one sample and one target, k a channel
and p a position of the flattened grid, and return one value per position, before any ReLU.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Table = Sequence[Sequence[float]]


def relu(value: float) -> float:
    return value if value > 0 else 0.0


def weighted(weights: Sequence[float], a: Table) -> list[float]:
    return [sum(weights[k] * a[k][p] for k in range(len(a))) for p in range(len(a[0]))]


def cam(a: Table, g: Table) -> list[float]:
    """The gradient behind global average pooling is the linear weight over Z."""
    return weighted([len(row) * row[0] for row in g], a)


def gradcam(a: Table, g: Table) -> list[float]:
    return weighted([sum(row) / len(row) for row in g], a)


def hirescam(a: Table, g: Table) -> list[float]:
    return [sum(g[k][p] * a[k][p] for k in range(len(a))) for p in range(len(a[0]))]


def gradcam_elementwise(a: Table, g: Table) -> list[float]:
    return [sum(relu(g[k][p] * a[k][p]) for k in range(len(a))) for p in range(len(a[0]))]


def layercam(a: Table, g: Table) -> list[float]:
    return [sum(relu(g[k][p]) * a[k][p] for k in range(len(a))) for p in range(len(a[0]))]


def plusplus(a: Table, d1: Table, d2: Table, d3: Table) -> list[float]:
    """Grad-CAM++ from the first three derivatives: eq. 19 as printed, with its division."""
    weights = []
    for k in range(len(a)):
        total, weight = sum(a[k]), 0.0
        for p in range(len(a[k])):
            below = 2 * d2[k][p] + total * d3[k][p]
            alpha = d2[k][p] / below if below != 0 else 0.0
            weight += alpha * relu(d1[k][p])
        weights.append(weight)
    return weighted(weights, a)


def gradcam_plusplus(a: Table, g: Table) -> list[float]:
    return plusplus(a, g, [[v**2 for v in row] for row in g], [[v**3 for v in row] for row in g])


def xgradcam(a: Table, g: Table) -> list[float]:
    weights = []
    for k in range(len(a)):
        above, below = sum(g[k][p] * a[k][p] for p in range(len(a[k]))), sum(a[k])
        if abs(below) < 1e-7:
            below = -1e-7 if below < 0 else 1e-7
        weights.append(above / below)
    return weighted(weights, a)


def principal(table: Table) -> list[float]:
    """First principal component by a full SVD, oriented along the sum over channels."""
    x = np.array(table, dtype=float).T
    x = x - x.mean(axis=0)
    first = np.linalg.svd(x, full_matrices=True)[2][0]
    projection = x @ first
    return list(-projection if projection @ x.sum(axis=1) < 0 else projection)


def eigencam(a: Table, g: Table) -> list[float]:
    return principal(a)


def eigengradcam(a: Table, g: Table) -> list[float]:
    return principal([[g[k][p] * a[k][p] for p in range(len(a[k]))] for k in range(len(a))])


def shapleycam(a: Table, g: Table, h: Table) -> list[float]:
    """`h` is the Hessian of the score in the activations times the activations."""
    return weighted(
        [sum(g[k][p] - h[k][p] / 2 for p in range(len(a[k]))) / len(a[k]) for k in range(len(a))], a
    )


CLOSED: dict[str, Callable[..., list[float]]] = {
    "cam": cam,
    "gradcam": gradcam,
    "hirescam": hirescam,
    "gradcamelementwise": gradcam_elementwise,
    "gradcam++": gradcam_plusplus,
    "xgradcam": xgradcam,
    "layercam": layercam,
    "eigencam": eigencam,
    "eigengradcam": eigengradcam,
    "shapleycam": shapleycam,
    "finercam": gradcam,
}
"""The closed form of every method whose map is a function of one capture, by command-line name."""


def for_each(form: Callable[..., list[float]], a: np.ndarray, *derivatives: np.ndarray) -> np.ndarray:
    """Apply a closed form per sample and target: `a` `(batch, channel, *grid)`, others with a target axis."""
    batch, channel, *grid = a.shape
    targets = derivatives[0].shape[1]
    maps = np.zeros((batch, targets, *grid))
    for b in range(batch):
        for t in range(targets):
            tables = [a[b].reshape(channel, -1), *(d[b, t].reshape(channel, -1) for d in derivatives)]
            maps[b, t] = np.reshape(form(*tables), grid)
    return maps


def gradients(score: Callable[[Tensor], Tensor], a: Tensor) -> np.ndarray:
    """∂score/∂a, one backward pass per sample and target: `score` gives `(batch, target)`."""
    a = a.detach().clone().requires_grad_()
    scores = score(a)
    found = np.zeros((*scores.shape, *a.shape[1:]))
    for b, t in np.ndindex(*scores.shape):
        found[b, t] = torch.autograd.grad(scores[b, t], a, retain_graph=True)[0][b].numpy()
    return found


def hessian_products(score: Callable[[Tensor], Tensor], a: Tensor) -> np.ndarray:
    """H·a of each sample by itself, H the Hessian of `score(one sample)[0, t]` in its activations."""
    batch, targets = score(a).shape
    found = np.zeros((batch, targets, *a.shape[1:]))
    for b, t in np.ndindex(batch, targets):
        own = a[b : b + 1].detach()
        found[b, t] = torch.autograd.functional.hvp(lambda v, t=t: score(v)[0, t], own, own)[1][0].numpy()
    return found


def finite_differences(score: Callable[[Tensor], Tensor], x: Tensor, step: float = 1e-5) -> np.ndarray:
    """Central differences of a scalar score, one coordinate at a time."""
    found = np.zeros(tuple(x.shape))
    for at in np.ndindex(*x.shape):
        up, down = x.clone(), x.clone()
        up[at] += step
        down[at] -= step
        found[at] = (score(up) - score(down)).item() / (2 * step)
    return found


def finer_score(logits: Tensor, chosen: Sequence[int], alpha: float, comparisons: int) -> Tensor:
    """Finer-CAM's score as printed: Σ_d p_d (y_c − α y_d) / Σ_d p_d, with p the softmax over all classes."""
    values = []
    for y, c in zip(logits, chosen, strict=True):
        others = sorted((d for d in range(len(y)) if d != c), key=lambda d: abs(y[d].item() - y[c].item()))
        p = torch.exp(y) / torch.exp(y).sum()
        above = sum(p[d] * (y[c] - alpha * y[d]) for d in others[:comparisons])
        values.append(above / sum(p[d] for d in others[:comparisons]))
    return torch.stack(values)


def guided_gradient(layers: Sequence[nn.Module], score: Callable[[Tensor], Tensor], x: Tensor) -> np.ndarray:
    """Guided backpropagation through a plain chain of layers, one vector-Jacobian product after the other."""
    states = [x.detach()]
    for layer in layers:
        states.append(layer(states[-1].clone()).detach())
    output = states[-1].requires_grad_()
    (flow,) = torch.autograd.grad(score(output).sum(), output)
    for layer, state in zip(reversed(layers), reversed(states[:-1]), strict=True):
        if isinstance(layer, nn.ReLU):
            flow = flow * (state > 0) * (flow > 0)
        else:
            flow = torch.autograd.functional.vjp(lambda v, layer=layer: layer(v.clone()), state, flow)[1]
    return flow.numpy()


SIZES = {1: (16,), 2: (6, 9), 3: (4, 6, 5)}
"""The inputs' grids, by rank."""


class Bent(nn.Module):
    """A network of any grid rank whose head is neither linear nor the same at all positions.

    `features.2` is what is explained: values of both signs, which the layer after it overwrites unless told
    not to.
    """

    def __init__(self, rank: int, classes: int = 5, in_place: bool = True) -> None:
        super().__init__()
        conv: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
        self.features = nn.Sequential(conv(2, 4, 3, padding=1), nn.ReLU(), conv(4, 6, 3, stride=2, padding=1))
        middle = [nn.LeakyReLU(0.3, inplace=in_place), conv(6, 8, 1), nn.ReLU(), conv(8, 6, 1), nn.Tanh()]
        self.head = nn.Sequential(*middle, nn.Flatten())
        self.classify = nn.Linear(6 * prod((n + 1) // 2 for n in SIZES[rank]), classes)

    def rest(self, a: Tensor) -> Tensor:
        return self.classify(self.head(a.clone()))

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.head(self.features(x)))


class Pooled(nn.Module):
    """A network of any grid rank that ends in global average pooling and a linear layer."""

    def __init__(self, rank: int, classes: int = 5) -> None:
        super().__init__()
        conv: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
        self.features = nn.Sequential(conv(2, 4, 3, padding=1), nn.ReLU(), conv(4, 6, 3, stride=2, padding=1))
        self.fc = nn.Linear(6, classes)

    def rest(self, a: Tensor) -> Tensor:
        return self.fc(a.flatten(2).mean(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.features(x))


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Return a network with random weights in float64, large enough to bend its activation functions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = make().double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2)
    return net


def inputs(rank: int, batch: int = 2, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 2, *SIZES[rank], generator=generator, dtype=torch.float64)


class Softmaxes(TorchFunctionMode):
    """Keeps what every softmax over keys returns, in the order of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.__name__ == "softmax" and result.ndim == 4 and result.requires_grad:
            self.kept.append(result)
        return result
