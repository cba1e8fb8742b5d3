"""Whether the layer of an explanation is the one to explain: on the trunk, and none that is usable after it.

Found out by cutting: what a layer returned is detached, and whether the score still depends on earlier layers
of the same grid says if there is a way around it. The layers that people name are compared too where a
library states them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor, nn

from benchmarks.zoo.check import (
    Built,
    arrangements,
    first_tensor,
    out_of_place,
    restates,
    score_of,
    sizes_of,
    with_copy,
)

PASS_ON: Final = (
    nn.Identity,
    nn.modules.dropout._DropoutNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.Upsample,
)
"""Layers that nobody would name."""


@dataclass(frozen=True)
class Return:
    """What a module returned at one call, within the graph of one pass."""

    path: str
    tensor: Tensor


def returns(built: Built, x: Tensor, cut: str | None = None) -> tuple[list[Return], Tensor]:
    """Return what all modules return, in the order in which they finish, and the score.

    cut: the module whose output the score is not to depend on.
    """
    found: list[Return] = []

    def hook_of(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            tensor = first_tensor(output)
            if tensor is None or not tensor.is_floating_point():
                return None
            if path == cut:
                tensor, output = tensor.detach(), with_copy(output, tensor, tensor.detach())
            copy = tensor.clone()
            found.append(Return(path, copy))
            return with_copy(output, tensor, copy)

        return hook

    with ExitStack() as hooks:
        for path, module in built.model.named_modules():
            if path and not isinstance(module, torch.jit.ScriptModule):
                hooks.callback(module.register_forward_hook(hook_of(path)).remove)
        score = score_of(built, built.model(x))
    return found, score


@dataclass(frozen=True)
class Judge:
    """Judges the layer at `path` that was explained on this grid.

    output: the model's, for dense networks.
    """

    built: Built
    output: Tensor
    path: str
    grid: tuple[int, ...]

    @cached_property
    def returned(self) -> list[Return]:
        """What all modules return."""
        return self._pass[0]

    @cached_property
    def _pass(self) -> tuple[list[Return], list[Tensor | None]]:
        found, score = returns(self.built, self.built.x.clone().requires_grad_())
        return found, gradients(score, [one.tensor for one in found])

    @cached_property
    def moving(self) -> list[bool]:
        """Which of them depend on the input."""
        noise = torch.randn(self.built.x.shape, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            others = returns(self.built, noise)[0]
        pairs = zip(self.returned, others, strict=True)
        return [not torch.equal(one.tensor, other.tensor) for one, other in pairs]

    def last(self, path: str) -> int:
        """Return when a layer last finished."""
        return max(at for at, one in enumerate(self.returned) if one.path == path)

    def fault(self) -> str:
        """Return what is wrong with the choice of the layer, or an empty text."""
        sizes = sizes_of(self.built)
        if self.built.dense and all(2 * n > size for n, size in zip(self.grid[-2:], sizes[-2:], strict=True)):
            return f"a grid of {self.grid} is about the input's own"
        branch = self.way_around(self.path, self.grid)
        if branch:
            return f"a branch: there is a way around it from `{branch}` to the score"
        for path, grid in self._later():
            return f"too early: `{path}` of grid {grid} is usable and comes after it"
        return ""

    def way_around(self, path: str, grid: tuple[int, ...]) -> str:
        """Return an earlier layer on the grid that leads past this one to the score, or an empty text."""
        found, score = returns(self.built, self.built.x.clone().requires_grad_(), path)
        end = max(at for at, one in enumerate(found) if one.path == path)
        earlier = [
            one
            for one, moves in zip(found[:end], self.moving, strict=False)
            if moves
            and one.path != path
            and one.tensor.ndim == found[end].tensor.ndim
            and fits(one.tensor, grid)
        ]
        if not score.requires_grad:
            return ""
        slopes = gradients(score, [one.tensor for one in earlier])
        around = (
            one for one, slope in zip(earlier, slopes, strict=True) if slope is not None and slope.any()
        )
        return next((one.path for one in around if self._in_place(one, grid)), "")

    def rejoined(self) -> str:
        """Return a later layer on the grid whose cells the input reaches around this one, or an empty text.

        Only cells that the score depends on are asked: what class tokens carry past them is another matter.
        """
        x, end = self.built.x.clone().requires_grad_(), self.last(self.path)
        found, _ = returns(self.built, x, self.path)
        for one, slope in list(zip(found, self._pass[1], strict=True))[end + 1 :]:
            ways = [arrange for _, arrange in arrangements(tuple(one.tensor.shape), self.grid)]
            if not ways or slope is None or not all(arrange(slope).any() for arrange in ways):
                continue
            if all(self._reached(arrange(one.tensor), x) for arrange in ways):
                return one.path
        return ""

    @staticmethod
    def _reached(cells: Tensor, x: Tensor) -> bool:
        if not cells.requires_grad:
            return False
        (slope,) = torch.autograd.grad((cells**2).sum(), x, retain_graph=True, allow_unused=True)
        return slope is not None and bool(slope.any())

    def _in_place(self, one: Return, grid: tuple[int, ...]) -> bool:
        return any(
            not out_of_place(self.built, one.path, -1, arrange, grid)
            for _, arrange in arrangements(tuple(one.tensor.shape), grid)
        )

    def _later(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield layers after it that could have been explained, the last first."""
        end, slopes = self.last(self.path), self._pass[1]
        own = self.returned[end].tensor
        for at in reversed(range(end + 1, len(self.returned))):
            one, slope = self.returned[at], slopes[at]
            kind = self.built.model.get_submodule(one.path)
            same = _holds(one.tensor, own) or _holds(one.tensor, self.output)
            if slope is None or same or isinstance(kind, PASS_ON) or self.last(one.path) != at:
                continue
            if restates(one.tensor.double(), self.output, self.built):
                continue
            for grid in self._grids(tuple(one.tensor.shape)):
                if self._usable_at(one, slope, grid):
                    yield one.path, grid

    def _grids(self, shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """Yield the grids on which a later layer would count: its own, for classifiers also a coarser one."""
        yield self.grid
        sizes, rank = sizes_of(self.built), len(self.grid)
        if self.built.dense:
            return
        some: set[tuple[int, ...]] = set()
        if len(shape) == rank + 2:
            some |= {tuple(shape[2:]), tuple(shape[1:-1])}
        if len(shape) == 3 and rank == 2:
            some |= {(math.isqrt(n),) * 2 for n in (shape[1], shape[1] - 1) if math.isqrt(n) ** 2 == n > 1}
        for grid in some - {self.grid}:
            if (
                math.prod(grid) > 1
                and all(2 * n <= size for n, size in zip(grid, sizes, strict=True))
                and usable(grid, sizes)
            ):
                yield grid

    def _usable_at(self, one: Return, slope: Tensor, grid: tuple[int, ...]) -> bool:
        for _, arrange in arrangements(tuple(one.tensor.shape), grid):
            reached = (arrange(slope) != 0).any(0).double().mean()
            if (
                reached > 0.5
                and not self.way_around(one.path, grid)
                and not out_of_place(self.built, one.path, -1, arrange, grid)
            ):
                return True
        return False


def _holds(tensor: Tensor, other: Tensor) -> bool:
    """Say whether a tensor holds the numbers of another, in any order."""
    return tensor.numel() == other.numel() and torch.equal(
        tensor.flatten().sort()[0], other.flatten().sort()[0]
    )


def _before(built: Built, path: str, module: str) -> bool:
    """Say whether a layer last finishes before a module does."""
    with torch.no_grad():
        paths = [one.path for one in returns(built, built.x)[0]]
    return module in paths and paths[::-1].index(path) > paths[::-1].index(module)


def gradients(score: Tensor, tensors: Sequence[Tensor]) -> list[Tensor | None]:
    """Return the score's gradients; None where it does not depend on a tensor."""
    wanted = [tensor for tensor in tensors if tensor.requires_grad]
    found = iter(torch.autograd.grad(score, wanted, allow_unused=True) if wanted else ())
    return [next(found) if tensor.requires_grad else None for tensor in tensors]


def fits(tensor: Tensor, grid: tuple[int, ...]) -> bool:
    """Say whether a layer's output can lie on a grid."""
    return next(arrangements(tuple(tensor.shape), grid), None) is not None


def usable(grid: Sequence[int], sizes: Sequence[int]) -> bool:
    """Say whether rows and columns number 4 or more, or have cells of about 32 pixels or fewer."""
    return all(n >= 4 or size < 32 * (n + 1) for n, size in zip(grid[-2:], sizes[-2:], strict=True))


def off_standard(built: Built, path: str, grid: tuple[int, ...]) -> str:
    """Return how a layer before the last features that its library lists differs from their grid.

    timm's classifiers list their features: the module, and the number of pixels of a cell.
    """
    info = getattr(built.model, "feature_info", None)
    if not isinstance(info, list) or not info or "reduction" not in info[-1]:
        return ""
    pixels, sizes = info[-1]["reduction"], sizes_of(built)
    stated = tuple(-(-size // pixels) for size in sizes)
    near = all(abs(n - size / pixels) <= 1 for n, size in zip(grid, sizes, strict=True))
    module = info[-1].get("module")
    if near or not usable(stated, sizes) or (module and not _before(built, path, module)):
        return ""
    return f"a grid of {grid}, where the features that timm lists have cells of {pixels} pixels: {stated}"
