"""Check the default call on one PyTorch model: its layer, grid and map, against hooks and autograd by hand.

Nothing here is taken from the library: how the layer's output lies on the grid is tried out, and moving the
corners of the input says whether that is where its cells look.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import chronocam as cc

SAME_MAP: Final = 1e-4
"""The largest difference from the map by hand, relative to its largest magnitude."""

FOLLOWS: Final = 0.01
"""How much the far half's share of a cell's change rises along the grid, at least."""

DRAWS: Final = 2
"""How many draws of noise the corners of the input are filled with, where the first leaves a doubt."""

SAME_OUTPUT: Final = 0.99
"""Correlation with the model's resized output from which a layer only restates it."""

TINY: Final = 1e-3
"""The largest weight of a tensor that leaves nothing to see of what it weighs."""


@dataclass(frozen=True)
class Built:
    """A model with an input of batch 1; dense: it returns maps of classes, and class 1 is explained."""

    model: nn.Module
    x: Tensor
    dense: bool = False


def enliven(built: Built) -> None:
    """Make an untrained network answer to its input.

    Batch norms get the statistics of noise: with those they start with, deep networks fade to nothing.
    Weights that start at zero, as of some heads and of scaled branches, get small values.
    """
    built.model.eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weight in built.model.parameters():
            if weight.numel() and float(weight.abs().max()) < TINY:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    norms = [one for one in built.model.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    noise = torch.randn(4, *built.x.shape[1:], generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        built.model(noise)
    built.model.eval()


def fault(built: Built, explanation: cc.Explanation, output: Tensor) -> str:
    """Return what is wrong with an explanation, or an empty text."""
    found = np.asarray(explanation.maps[0, 0], np.float64)
    path = explanation.layer.partition("#")[0]
    number = int(explanation.layer.partition("#")[2] or -1)
    score, activations, gradients = by_hand(built, path, number)
    if abs(score - float(explanation.scores[0, 0])) > 1e-4 * max(1.0, abs(score)):
        return f"score {float(explanation.scores[0, 0]):.6g}, by hand {score:.6g}"
    if restates(activations, output, built):
        return "the layer restates the model's output"
    arranged = list(arrangements(tuple(activations.shape), found.shape))
    if not arranged:
        return f"a layer of shape {tuple(activations.shape)} has no grid {found.shape}"
    close = [
        (difference(found, arrange, activations, gradients), name, arrange) for name, arrange in arranged
    ]
    best, name, arrange = min(close, key=lambda one: one[0])
    if not found.any():
        return "the map is blank"
    if best > SAME_MAP:
        return f"differs from the map by hand by {best:.1e} ({name})"
    if channels_first(built, tuple(activations.shape)):
        return "" if name == "channels first" else f"its channels come first, and were read as {name}"
    return out_of_place(built, path, number, arrange, found.shape)


KNOWN: Final = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.modules.pooling._MaxPoolNd)
"""Layers that are defined with channels first."""


def channels_first(built: Built, shape: tuple[int, ...]) -> bool:
    """Say whether a layer has the grid of one that is defined so, with its channels before it."""
    shapes: list[tuple[int, ...]] = []

    def note(module: nn.Module, args: Any, output: Tensor) -> None:
        shapes.append(tuple(output.shape))

    known = [one for one in built.model.modules() if isinstance(one, KNOWN)]
    handles = [one.register_forward_hook(note) for one in known]
    with torch.no_grad():
        built.model(built.x)
    for handle in handles:
        handle.remove()
    # As many channels as cells along an axis would leave open which is which.
    return len(shape) > 3 and shape[2:] in {one[2:] for one in shapes} and shape[1] not in shape[2:]


def main(outputs: Any) -> Tensor:
    """Return the tensor that holds the classes."""
    if isinstance(outputs, Tensor):
        return outputs
    named = dict(outputs) if hasattr(outputs, "keys") else {}
    for key in ("logits", "out"):
        if key in named:
            return named[key]
    return main(next(iter(named.values())) if named else outputs[0])


def dense_score(outputs: Any) -> Tensor:
    """Return the mean of class 1 over all places."""
    return main(outputs)[:, 1].flatten(1).mean(1)


def score_of(built: Built, result: Any) -> Tensor:
    """Return the score that is explained: the largest class, of dense networks the mean of class 1."""
    return dense_score(result)[0] if built.dense else main(result)[0].max()


def frames_first(x: Tensor) -> bool:
    """Say whether an input is a clip with its frames before its channels."""
    return x.ndim == 5 and x.shape[2] == 3


def sizes_of(built: Built) -> tuple[int, ...]:
    """Return the input's own grid."""
    x = built.x
    return (x.shape[1], *x.shape[3:]) if frames_first(x) else tuple(x.shape[2:])


def first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    parts = (
        output.values() if hasattr(output, "values") else output if isinstance(output, (tuple, list)) else ()
    )
    return next((one for one in map(first_tensor, parts) if one is not None), None)


def with_copy(output: Any, tensor: Tensor, copy: Tensor) -> Any:
    """Return an output with another tensor in the place of one."""

    def copied(part: Any) -> Any:
        if part is tensor:
            return copy
        if hasattr(part, "items"):
            for key, value in part.items():
                if value is tensor:
                    part[key] = copy
            return part
        plain = type(part) in (tuple, list)
        return type(part)(copied(one) for one in part) if plain else part

    return copied(output)


@contextmanager
def watched(model: nn.Module, path: str, change: Callable[[Tensor], None]) -> Iterator[None]:
    """Hand each output of a layer to `change`."""

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        tensor = first_tensor(output)
        assert tensor is not None
        change(tensor)
        return with_copy(output, tensor, tensor.clone())  # nothing is to be written into it

    handle = model.get_submodule(path).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def by_hand(built: Built, path: str, number: int) -> tuple[float, Tensor, Tensor]:
    """Return the score, and a layer's output with its gradient, by a hook and autograd."""
    outputs: list[Tensor] = []
    values: list[Tensor] = []

    def keep(tensor: Tensor) -> None:
        outputs.append(tensor)
        values.append(tensor.detach().clone())

    x = built.x.clone().requires_grad_()
    with watched(built.model, path, keep):
        result = built.model(x)
    score = score_of(built, result)
    (gradient,) = torch.autograd.grad(score, outputs[number])
    return float(score.detach()), values[number].double(), gradient.double()


def restates(activations: Tensor, output: Tensor, built: Built) -> bool:
    """Say whether a layer holds the model's output, or the same on another grid."""
    if not built.dense or activations.ndim != output.ndim or activations.shape[1] != output.shape[1]:
        return False
    resized = F.interpolate(
        activations, output.shape[2:], mode="bilinear" if output.ndim == 4 else "trilinear"
    )
    pair = torch.stack([resized.flatten(), output.double().flatten()])
    return float(torch.corrcoef(pair.detach())[0, 1]) > SAME_OUTPUT


Arrange = Callable[[Tensor], Tensor]
"""Puts a layer's output on `(channel, *grid)`."""


def arrangements(shape: Sequence[int], grid: tuple[int, ...]) -> Iterator[tuple[str, Arrange]]:
    """Yield all ways to put an output of this shape on a grid: channels first or last, tokens, frames folded.

    grid: of pictures `(rows, columns)`, of clips `(frames, rows, columns)`.
    """
    cells, rank = int(np.prod(grid)), len(grid)
    if shape[0] == 1 and len(shape) == rank + 2:
        if tuple(shape[2:]) == grid:
            yield "channels first", lambda t: t[0]
        if tuple(shape[1:-1]) == grid:
            yield "channels last", lambda t: t[0].movedim(-1, 0)
        if rank == 3 and (shape[1], *shape[3:]) == grid:
            yield "frames, channels, rows, columns", lambda t: t[0].movedim(1, 0)
    if shape[0] == 1 and len(shape) == 3:
        for start in range(shape[1] - cells + 1) if shape[1] - cells <= 32 else ():
            yield (
                f"tokens from {start}",
                lambda t, start=start: t[0, start : start + cells].T.reshape(-1, *grid),
            )
            if rank == 3:  # place by place, the frames of one after another
                yield (
                    f"tokens from {start}, place by place",
                    lambda t, start=start: (
                        t[0, start : start + cells].T.reshape(-1, *grid[1:], grid[0]).movedim(-1, 1)
                    ),
                )
        if shape[2] == cells:
            yield "tokens last", lambda t: t[0].reshape(-1, *grid)
    if rank == 3 and shape[0] == grid[0]:
        for name, arrange in arrangements((1, *shape[1:]), grid[1:]):
            yield (
                f"frames folded, {name}",
                lambda t, arrange=arrange: torch.stack([arrange(one[None]) for one in t], 1),
            )


def difference(found: np.ndarray, arrange: Arrange, activations: Tensor, gradients: Tensor) -> float:
    """Return how far a map is from Grad-CAM by hand, relative to the largest magnitude of the latter."""
    a, g = arrange(activations), arrange(gradients)
    axes = tuple(range(1, a.ndim))
    if a.ndim == 4:  # of clips, the weights may be those of the clip or of each frame
        axes = (1, 2, 3)
    weighted = (g.mean(axes, keepdim=True) * a).sum(0).numpy()
    largest = np.abs(weighted).max()
    if largest == 0:
        return float(np.abs(found).max())
    return float(np.abs(found - weighted).max() / largest)


def out_of_place(built: Built, path: str, number: int, arrange: Arrange, grid: tuple[int, ...]) -> str:
    """Return how a layer's cells fail to follow the corners of the input, or an empty text.

    Each corner of the input (a half of each axis) is filled with other noise. Of how much a cell changes in
    all, the share that comes from the far corners of an axis rises with where the cell lies along that axis.
    """
    base = values_at(built, built.x, path, number, arrange)
    corners = list(itertools.product((0, 1), repeat=len(grid)))
    generator = torch.Generator().manual_seed(1)
    squares = np.zeros((len(corners), *grid))
    reason = ""
    for _ in range(DRAWS):
        for at, corner in enumerate(corners):
            moved = values_at(built, filled(built, corner, generator), path, number, arrange) - base
            squares[at] += (moved**2).sum(0).numpy()
        reason = misplaced(squares, corners, grid)
        if not reason:
            break
    return reason


def filled(built: Built, corner: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return the input with one corner filled with noise."""
    changed = built.x.clone()
    region = changed.movedim(1, 2) if frames_first(changed) else changed
    spans = [
        slice(size // 2) if side == 0 else slice(size // 2, size)
        for side, size in zip(corner, sizes_of(built), strict=True)
    ]
    part = region[(..., *spans)]
    part.copy_(torch.randn(part.shape, generator=generator))
    return changed


def misplaced(squares: np.ndarray, corners: Sequence[tuple[int, ...]], grid: tuple[int, ...]) -> str:
    """Return along which axis cells do not follow the corners, or an empty text."""
    if not squares.sum():
        return "the layer does not move with the input"
    shares = squares / np.maximum(squares.sum(0), 1e-300)
    for axis, cells in enumerate(grid):
        far = shares[[corner[axis] == 1 for corner in corners]].sum(0)
        slopes = [slope(far, other) for other in range(len(grid))]
        if cells > 1 and (slopes[axis] < FOLLOWS or slopes[axis] < max(np.abs(slopes))):
            shown = ", ".join(f"{one:.3f}" for one in slopes)
            return f"cells do not follow the input along axis {axis} of {grid}: slopes ({shown})"
    return ""


def slope(values: np.ndarray, axis: int) -> float:
    """Return how much values rise along an axis, from one end of it to the other."""
    cells = values.shape[axis]
    if cells == 1:
        return 0.0
    along = np.moveaxis(values, axis, 0).reshape(cells, -1).mean(1)
    return float(np.polyfit((np.arange(cells) + 0.5) / cells, along, 1)[0])


def values_at(built: Built, x: Tensor, path: str, number: int, arrange: Arrange) -> Tensor:
    """Return a layer's output for an input, on the grid."""
    values: list[Tensor] = []
    with torch.no_grad(), watched(built.model, path, lambda one: values.append(one.detach().clone())):
        built.model(x)
    return arrange(values[number].double())
