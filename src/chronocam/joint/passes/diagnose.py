"""What is wrong with maps, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from chronocam.joint.inputs.batches import is_floating
from chronocam.maps.arrays import held, namespace
from chronocam.maps.combine import magnitude_of_products
from chronocam.maps.resample import half_pixel_centers
from chronocam.types import Array, Capture, Finding, TargetInfo, Window
from chronocam.types.findings import note
from chronocam.types.targets import NO_FURTHER, missing_in

if TYPE_CHECKING:
    from chronocam.joint.look.look import Look

PIXELS: Final = (("row", "pixels"), ("column", "pixels"))
AXES: Final = {1: (("cell", "steps"),), 2: PIXELS, 3: (("slice", "frames"), *PIXELS)}
"""What cells and places along an axis are called, by the number of axes."""

WHOLE: Final = {1: "signal", 2: "picture", 3: "frame"}
FEW: Final = 2
"""Cells along an axis that say next to nothing about places along it."""

ENDS: Final = 0.05
"""Of an axis the share that is left out at each end, above which it is said."""

NEGLIGIBLE: Final = 1e-4
"""A gradient means nothing where, to first order, the layer moves the score by less than this share of it."""

ROUNDING: Final = 3e-6
"""Of what the places of a layer move the score by, the share in a map that is left where they cancel."""


@dataclass(frozen=True)
class Sums:
    """What maps come to over their grids, `(sample, target)`: all that is asked of them to see what is wrong.

    total: Σ|map|. finite: whether all values are. shown: whether any value is left of what is kept.
    """

    total: np.ndarray
    finite: np.ndarray
    shown: np.ndarray


def sums_of(raw: np.ndarray, kept: np.ndarray) -> Sums:
    """Return the sums of maps. kept: without the signs that are dropped."""
    grid = tuple(range(2, kept.ndim))
    total = np.abs(raw).sum(axis=grid)
    finite = np.isfinite(total)
    if not finite.all():  # of the map, or as large a sum
        finite = np.isfinite(raw).all(axis=grid)
    return Sums(total, finite, np.any(kept, axis=grid))


def diagnose(
    sums: Sums,
    scores: np.ndarray,
    infos: Sequence[Sequence[TargetInfo]],
    layer: str,
    start: int = 0,
    moved: np.ndarray | None = None,
) -> Iterator[Finding]:
    """Yield what is wrong with maps: not finite; zero everywhere, and why; of a gradient that means nothing.

    start: the number of the first sample in its call.
    moved: Σ|G·A| per sample and target, see `first_order`; None where no gradients were needed.
    """
    missing, total = missing_in(infos), sums.total
    for i, k in np.argwhere(missing).tolist() if missing.any() else ():
        if infos[i][k].name != NO_FURTHER:
            yield Finding("no detection", start + i, None, f"sample {start + i}: {infos[i][k]}, so no map")
    # In the order of how much each explains: what is not finite spoils all that follows, a map of zeros has
    # no weighted sums, and a gradient of rounding errors makes any map.
    wrong = {
        "not finite": ~(np.isfinite(scores) & sums.finite),
        "zero map": total == 0,
        "small gradient": np.zeros_like(scores, bool)
        if moved is None
        else moved < NEGLIGIBLE * np.abs(scores),
        "cancelled": np.zeros_like(scores, bool) if moved is None else total < ROUNDING * moved,
        "negative evidence": ~sums.shown,
    }
    if not np.array(list(wrong.values())).any():
        return
    kinds = list(wrong)
    worst = np.select(list(wrong.values()), np.arange(len(wrong)).tolist(), -1)
    places = np.argwhere((worst >= 0) & ~missing)
    # Of a thousand classes many may have no evidence: what is said of all of them is worded once.
    texts = {kind: text.format(layer=layer) for kind, text in _TEXTS.items() if kind not in _WITH_NUMBERS}
    for (i, k), number in zip(places.tolist(), worst[tuple(places.T)].tolist(), strict=True):
        kind, name = kinds[number], str(infos[i][k])
        text = texts.get(kind) or _TEXTS[kind].format(
            layer=layer, score=scores[i, k], moved=np.nan if moved is None else moved[i, k]
        )
        yield Finding(kind, start + i, name, f"sample {start + i}, {name}: {text}")


_TEXTS: Final = {
    "not finite": "the score or the map is not finite; look for NaN or infinity in the inputs and weights",
    "zero map": "the map is zero everywhere: activations or gradients vanish at `{layer}`",
    "small gradient": "the gradient is next to nothing: `{layer}` moves the score of {score:.3g} by at most "
    "{moved:.1g} to first order, as at the minimum of a loss; check the map under noise "
    "(metrics.noise_agreement)",
    "cancelled": "the gradients at `{layer}` cancel over the grid, as behind a softmax over places, and the "
    "map is a rounding error; LayerCAM and HiResCAM take each place by itself",
    "negative evidence": "all weighted sums are negative: evidence at `{layer}` lowers this score (see "
    "signed=True)",
}

_WITH_NUMBERS: Final = {"small gradient"}


def of_grid(layer: str, grid: tuple[int, ...], within: tuple[int, ...]) -> Iterator[Finding]:
    """Yield that a grid is too coarse along an axis of the input to tell places apart there."""
    if len(grid) != len(within) or len(grid) not in AXES:
        return
    axes = zip(AXES[len(grid)], grid, within, strict=True)
    few = [
        f"{n} {cell if n == 1 else cell + 's'} for {size} {unit}"
        for (cell, unit), n, size in axes
        if n <= FEW and n < size
    ]
    if few:
        cells = " × ".join(map(str, grid))
        yield Finding(
            "coarse grid",
            None,
            None,
            f"the grid of layer `{layer}` is {cells}, {' and '.join(few)}: too coarse to tell places apart; "
            "an earlier layer has more (conv_layer=; `chronocam layers SPEC` lists them)",
        )


def of_field(layer: str, field: Sequence[Window] | None, within: tuple[int, ...]) -> Iterator[Finding]:
    """Yield that the cells of a layer see as much as the whole picture, frame or signal."""
    if field is None or len(within) not in WHOLE:
        return
    sizes = within[-2:]
    seen = [window.high - window.low + 1 for window in field[-len(sizes) :]]
    if all(n > size for n, size in zip(seen, sizes, strict=True)):
        extent, whole = (" × ".join(map(str, each)) for each in (seen, sizes))
        yield Finding(
            "wide field",
            None,
            None,
            f"a cell of layer `{layer}` can see the whole {WHOLE[len(within)]}: {extent} of {whole}, though "
            "mostly what lies near its own place; an earlier layer sees less",
        )


def of_part(layer: str, part: Sequence[tuple[int, int]], within: tuple[int, ...]) -> Iterator[Finding]:
    """Yield that a layer sees a part of the input alone, as where the model crops it."""
    names = AXES.get(len(within), ())
    seen = [
        f"{unit} {low} to {high} of {size}" if len(within) != 2 else f"{cell}s {low} to {high} of {size}"
        for (cell, unit), (low, high), size in zip(names, part, within, strict=False)
        if (low, high) != (0, size - 1)
    ]
    if seen:
        yield Finding(
            "cropped",
            None,
            None,
            f"the model crops its input: layer `{layer}` sees {' and '.join(seen)}, where its map is laid; "
            "pictures carry the outermost cells on, though nothing beyond counts",
        )


def of_padding(layer: str, beyond: Sequence[int], grid: tuple[int, ...]) -> Iterator[Finding]:
    """Yield that cells of a layer lie in what the model puts around its input."""
    names = AXES.get(len(grid), ())
    seen = [f"{k} of {n} {cell}s" for (cell, _), k, n in zip(names, beyond, grid, strict=False) if k]
    if seen:
        yield Finding(
            "padded",
            None,
            None,
            f"the model pads its input: {' and '.join(seen)} of layer `{layer}` lie outside it, and pictures "
            "show the others where they are",
        )


def of_past(layer: str, rank: int) -> str:
    """Return that the cells of a causal layer, on a grid of this rank, are laid back in time."""
    (cell, frames), rest = AXES[rank][0], "; rows and columns are laid evenly" if rank == 3 else ""
    return (
        f"layer `{layer}` sees no later {frames}: each {cell} is laid where it looks, back in time{rest} "
        "(see align=)"
    )


def of_unpadded(layer: str, centers: Sequence[Sequence[float]], within: tuple[int, ...]) -> Iterator[Finding]:
    """Yield that the cells of a layer that pads no time leave much of the ends of its input out."""
    seen = [
        f"{cell + 's' if len(within) == 2 else places} {at[0]:g} to {at[-1]:g} of {size}"
        for (cell, places), at, size in zip(AXES[len(within)], centers, within, strict=True)
        if at != half_pixel_centers(len(at), size) and at[0] > ENDS * size
    ]
    if seen:
        yield note(
            f"layer `{layer}` loses the ends of its input, where nothing pads them: its cells are laid in "
            f"the middle of what they see, {' and '.join(seen)}; pictures carry the outermost ones on"
        )


def of_inputs(look: Look) -> Iterator[str]:
    """Yield what is noticeable about inputs: pictures that were not normalised."""
    main = look.main
    pictures = len(look.grid) >= 2 and look.channel_axis is not None
    if not (pictures and is_floating(main) and main.shape[look.channel_axis] in (1, 3, 4)):
        return
    if look.engine.rescales:
        return
    xp, first = namespace(main), held(main[0])  # one picture says it, and costs next to nothing
    highest = float(xp.max(first))
    if 20 < highest <= 255 and float(xp.min(first)) >= 0:
        yield (
            f"inputs reach {highest:g}; most networks expect about −3 to 3: divide by 255 and normalise, "
            "unless the model does so itself"
        )


def first_order(captures: Sequence[Capture], samples: int) -> Array | None:
    """Return Σ|G·A| over channels and grid, `(sample, target)`, the largest of several captures.

    None without any capture.

    To first order, no scaling of the activations by factors from 0 to 1 changes a score by more. The rows of
    a capture may be the time slices of each sample, which are added.
    """
    moved = [_first_order(capture, samples) for capture in captures]
    if len(moved) < 2:
        return moved[0] if moved else None
    xp = namespace(moved[0])
    return xp.max(xp.stack(moved), axis=0)


def _first_order(capture: Capture, samples: int) -> Array:
    # |G·A| and not |Σ G·A|: what cancels over the grid still shows where a map would have values.
    sums = magnitude_of_products(capture.gradients, capture.activations)
    if sums.shape[0] == samples:
        return sums
    xp = namespace(sums)
    return xp.sum(xp.reshape(sums, (samples, -1, sums.shape[-1])), axis=1)
