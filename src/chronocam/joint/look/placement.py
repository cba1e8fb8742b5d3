"""Whether the cells of a layer follow the places of the input: proven once per layer, not guessed.

Shapes alone do not say what an axis is: 56 steps of an RNN fit a picture of 7 × 8 cells, and 100 object
queries one of 10 × 10. So the input is moved a little, and the layer watched: see
`chronocam.joint.look.ramps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from chronocam.errors import LayoutError
from chronocam.joint.inputs.batches import has_samples, is_floating, map_arrays
from chronocam.joint.look.ramps import DRAWS, SMALL, STEP, Ramps, moves, outputs_of
from chronocam.layouts import (
    Bands,
    ChannelRows,
    ChannelsFirst,
    ChannelsLast,
    Folded,
    Layout,
    PatchRows,
    TokenRows,
    Tokens,
    VideoTokens,
    WindowRows,
)
from chronocam.layouts.base import Site, candidates
from chronocam.maps.arrays import namespace, to_numpy
from chronocam.types import Array, Window

if TYPE_CHECKING:
    from chronocam.engines import LayerCall
    from chronocam.engines.base import AxisOrder
    from chronocam.joint.look.look import Look

ALIKE: Final = 1e-3
"""Of what a moved clip changes: rounding that depends on the place in a batch is less."""

MANY: Final = 64
"""Cells of a grid of which each is asked where it looks by itself."""

MISCOUNTED: Final = 1e-4
"""How disordered cells are, at least, where other tokens are miscounted; of two cells nothing shows."""

BESIDE: Final = 4
"""How many layers of the same shape, first and last, are asked where a layer mixes all places."""


def batch_axis_of(look: Look, layer: str, layout: ChannelRows | Folded | PatchRows | WindowRows) -> int:
    """Return whether rows lie clip by clip (0) or frame by frame (1), as one pass of four clips shows.

    Patches are to pictures, and windows or channels to signals, what frames are to clips. The first and the
    third clip are the same: so must be what a layer returns for them, and for no other.
    Raises LayoutError where they are not, since the rows of a clip depend on other clips.
    """
    # Of clips that are too long to be run whole, two frames each say it.
    two = replace(look, chunk_frames=None if look.chunk_frames is None else 2).few(2)
    four = replace(two, inputs=map_arrays(lambda x: _twice(x, two.shape[0]), two.inputs))
    if not is_floating(four.main):
        return layout.batch_axis
    x = to_numpy(four.main).astype(np.float64)
    x[1::2] += np.random.default_rng(0).standard_normal(x[1::2].shape) * (float(x.std()) or 1.0)
    rows = outputs_of(four.moved(x), [layer])[layer][-1].astype(np.float64)
    rows[~np.isfinite(rows)] = 0.0
    if not np.ptp(rows, axis=0).any():  # dead ones say nothing
        return layout.batch_axis
    if isinstance(layout, Folded):
        layout = replace(layout, time=len(rows) // 4)
    for axis in (0, 1):
        first, other, same, _ = replace(layout, batch_axis=axis)(rows)
        apart = np.abs(first - other).max()
        if apart and np.abs(first - same).max() <= ALIKE * apart:
            return axis
    what = _ROWS[type(layout)]
    raise LayoutError(
        f"the rows of layer `{layer}` are not the {what[0]} of one {what[1]} after the other, or depend on "
        f"other {what[1]}s; give one {what[1]} at a time (batch_size=1), or layout="
    )


_ROWS: Final = {
    ChannelRows: ("channels", "signal"),
    Folded: ("frames", "clip"),
    PatchRows: ("patches", "picture"),
    WindowRows: ("windows", "signal"),
}
"""What rows are, and of what."""


def _twice(x: Array, samples: int) -> Array:
    return namespace(x).concat([x, x], axis=0) if has_samples(x, samples) else x


def looks_in_time(look: Look, layer: str, slices: int) -> tuple[float, ...]:
    """Return, in frames, where the slices of a layer look: the mean place of what moves them.

    That is the mean of the frames' numbers, as above the mean of a ramp, by how much each moves the slice. It
    takes three forward passes, whatever the number of slices.
    """
    frames = look.grid[0]
    products, total = _moved_in_time(look, layer, to_numpy(look.main).astype(np.float64))
    even = (np.arange(slices) + 0.5) * frames / slices - 0.5
    looks = np.divide(products, total, even, where=total > 0)
    return _one_after_the_other(looks)


def steps_of_causal(look: Look, layer: str, steps: int, seen: Window) -> tuple[float, ...]:
    """Return where the cells of a causal layer over a signal look: all of them equally far back.

    seen: what they see of the input. Each alone has too few channels for a measure; together they say how far
    behind the last step that they see the mean place is of what moves them. Dilated kernels, and what leads
    around them, look less far back than the middle of what is seen. It takes three forward passes.
    """
    x = to_numpy(look.main).astype(np.float64)
    noise = x.mean() + np.random.default_rng(1).standard_normal(x.shape) * (float(x.std()) or 1.0)
    products, total = _moved_in_time(look, layer, noise)
    last = seen.stride * np.arange(steps) + seen.high
    whole = seen.stride * np.arange(steps) + seen.low >= 0  # before these, less is seen than elsewhere
    weights = total * whole if (total * whole).any() else total
    back = float((weights * last - products * (weights > 0)).sum() / max(weights.sum(), 1e-300))
    return _one_after_the_other(np.maximum(last - back, 0.0))


def _moved_in_time(look: Look, layer: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each slice in time of a layer, Σ d·e with e under a ramp of the frames' numbers, and Σ d².

    x: the input around which it is moved; see `chronocam.joint.look.ramps`.
    """
    frames = look.grid[0]
    step = STEP.get(str(look.main.dtype).rpartition(".")[2], SMALL)
    noise = np.random.default_rng(0).standard_normal(x.shape) * (float(x.std()) or 1.0) * step
    number = np.arange(frames).reshape([-1 if i == look.frame_axis else 1 for i in range(x.ndim)])
    by = (np.zeros_like(noise), noise, noise * number / frames)
    base, plain, ramped = (
        look.on_grid(layer, outputs_of(look.moved(x + b), [layer])[layer]).astype(np.float64) for b in by
    )
    d, e = (np.moveaxis(one, 2, 0).reshape(base.shape[2], -1) for one in moves(base, plain, ramped))
    return (d * e).sum(axis=1) * frames, (d**2).sum(axis=1)


def _one_after_the_other(looks: np.ndarray) -> tuple[float, ...]:
    """Return where slices look in their order, whatever the noise of the measurement says."""
    return tuple((np.maximum.accumulate(looks) + 1e-6 * np.arange(len(looks))).tolist())


@dataclass(frozen=True)
class Settled:
    """The layout of a layer; remark: what is to be said of it where it was not proven."""

    layout: Layout
    remark: str | None = None


def settle(look: Look, layer: str, calls: Sequence[LayerCall], ramps: Ramps | None = None) -> Settled:
    """Return the layout whose cells follow the input's places; the first that fits, the best by shape first.

    look: at one sample. calls: of all layers in one pass.
    ramps: how this layer moves with the input, where that was measured with others; then no layer beside it
        is asked.
    Raises LayoutError where no layout fits the shape, or where none of them follows the input.
    """
    path, _, number = layer.partition("#")
    own = [call for call in calls if call.path == path]
    if not own:
        raise LayoutError(f"layer `{layer}` is not called; choose one that the forward pass uses")
    if any(call.recurrent for call in own):
        raise LayoutError(
            f"layer `{layer}` is a {own[0].type}, whose steps are not places of the input; choose a layer "
            "before it, or give layout="
        )
    shape = own[int(number) if number else -1].shape
    site = look.site(layer, shape, 1 if number else len(own), known_grids(look, calls, path))
    said = None if look.time_is_unsaid else own[-1].order or _order_beside(shape, calls, site.grids)
    site = replace(site, order=order_of(said, shape, look.shape[0], look.grid))
    fits = candidates(site)
    if not fits:
        raise no_grid(site)
    in_prompt = [fit for fit in fits if isinstance(fit, Tokens)] if site.picture is not None else []
    if in_prompt:  # the ids of a prompt say where the picture is
        key = "picture in the prompt", look.number, look.sizes
        if not look.subject.once(key, lambda: _has_places(look, in_prompt[0], calls)):
            raise LayoutError(
                f"the tokens of the picture in layer `{layer}` do not follow its places, as those of a "
                "resampler do not; choose a layer of the vision tower"
            )
        return Settled(in_prompt[0])
    if site.order is not None:
        try:
            look.refuse_misplaced(layer, shape, fits[0], site.calls, ramps)
            return Settled(fits[0])
        except MisplacedError:
            if own[-1].order is not None:
                raise
            fits = candidates(replace(site, order=None))  # a layer of the same shape does not say its axes
    if not is_floating(look.main):
        # Features that are looked up come last.
        looked_up = next((fit for fit in fits if isinstance(fit, ChannelsLast)), fits[0])
        return Settled(looked_up, f"{_assumed(layer)}: the input holds no floating-point numbers to move")
    look.refuse_stacked(ramps)
    beside = [] if ramps else _beside(path, calls)
    ramps = ramps or Ramps(look, [layer, *beside])
    settled = _proven(ramps, layer, fits, beside) or _left_open(ramps, layer, fits, site)
    if settled is not None:
        return settled
    scattered = any(ramps.verdict(layer, fit) for fit in fits)
    how = ", by themselves, as tokens in the order of blocks or windows" if scattered else ""
    todo = ", a function that puts them in the input's order" if scattered else ""
    raise LayoutError(
        f"layer `{layer}` returns {shape}, which fits a grid by its shape, but its cells do not follow the "
        f"places of the input{how}; choose a layer before it, or give layout={todo}"
    )


def _has_places(look: Look, layout: Tokens, calls: Sequence[LayerCall]) -> bool:
    """Say whether a picture's tokens in a prompt follow its places, or may do so.

    They are looked at where the language model begins, before it mixes them.
    """
    if not is_floating(look.main):
        return True
    every = dict.fromkeys(
        call.path for call in calls if len(call.shape) == 3 and call.shape[1] == layout.length
    )
    first = list(every)[:BESIDE]
    ramps = Ramps(look, first)
    verdicts = [ramps.verdict(path, layout) for path in first]
    return True in verdicts or False not in verdicts


def _proven(ramps: Ramps, layer: str, fits: Sequence[Layout], beside: Sequence[str]) -> Settled | None:
    """Return the layout whose cells follow the input; None without any.

    beside: layers that are measured too. Where all cells see all places, one of them is asked in its place.
    """
    for draws in (1, DRAWS):  # a first draw for all layouts, and all layers, before a second for any
        for fit in fits:
            if ramps.verdict(layer, fit, draws):
                # In attention over a few cells noise alone scatters them; rows without a batch are in doubt.
                asked = isinstance(fit, TokenRows) or ramps.cells(layer, fit) >= MANY
                if asked and ramps.scatters(layer, fit):
                    continue
                return Settled(_unshifted(ramps, layer, fit))
        for fit in fits:
            others = (one for one in beside if ramps.mixes(layer, fit) and ramps.verdict(one, fit, draws))
            if other := next(others, None):
                seen = f"each cell of layer `{layer}` sees all places; its grid is that of `{other}`"
                return Settled(_unshifted(ramps, other, fit), seen)
    return None


def _unshifted(ramps: Ramps, layer: str, fit: Layout) -> Layout:
    """Return the layout, proven, with as many tokens before its grid as the measure says.

    On a wide grid a few tokens too many shift all cells, and still leave them in order.
    """
    if not isinstance(fit, (Tokens, VideoTokens)):
        return fit
    best: Layout = fit
    error = ramps.disorder(layer, fit)
    for other in fit.others():
        rival = ramps.disorder(layer, other)
        if rival < error / 2 and error > MISCOUNTED:
            best, error = other, rival
    return best


_OF_SIGNALS: Final = (Bands, ChannelRows, WindowRows)
"""Layouts that are never assumed."""


def _left_open(ramps: Ramps, layer: str, fits: Sequence[Layout], site: Site) -> Settled | None:
    """Return the first layout of which it stays open whether its cells follow the input; None without any."""
    for fit in fits:
        if isinstance(fit, _OF_SIGNALS) or ramps.verdict(layer, fit) is not None:
            continue
        if isinstance(fit, ChannelsFirst) and site.shape[2:] in site.grids:
            return Settled(fit)  # a convolution's before it, though small weights let it hardly move
        return Settled(fit, f"{_assumed(layer)}: how it moves with the input does not say")
    return None


def _beside(path: str, calls: Sequence[LayerCall]) -> list[str]:
    """Return some layers whose output has the shape of this layer's, the first and the last ones.

    What attention returns mixes all places, yet belongs to the token that asked: beside it, where the token
    itself is added again, the tokens have their places.
    """
    shape = next(call.shape for call in reversed(calls) if call.path == path)
    others = [call.path for call in calls if call.shape == shape and call.path != path and not call.recurrent]
    some = list(dict.fromkeys(others))
    return list(dict.fromkeys([*some[:BESIDE], *some[-BESIDE:]]))


def order_of(
    said: AxisOrder | None, shape: tuple[int, ...], batch: int, grid: tuple[int, ...]
) -> AxisOrder | None:
    """Return where the kind of a layer says that its channels are, if its other axes are those of a grid.

    What a convolution over rows returns of pictures may have patches as its rows, times, or anything else;
    what one over a plane returns of a signal, bands and steps in any order; and rows that are not samples,
    windows or channels of signals.
    """
    if len(grid) == 1:
        return None if len(shape) == 4 or shape[0] != batch else said
    return None if len(shape) == 3 else said


def _order_beside(
    shape: tuple[int, ...], calls: Sequence[LayerCall], grids: Sequence[tuple[int, ...]]
) -> AxisOrder | None:
    """Return where the channels of an output of this shape are, as a layer says that returned the same shape.

    What is added to the output of a convolution or activated after it has its axes. So has what outputs of
    convolutions are joined to, on their grid with more channels.

    grids: of layers before, whose axes are known.
    """
    if len(set(shape[1:])) == 1:  # as many channels as rows and columns: the shape is the same in any order
        return None
    said = next((call.order for call in calls if call.shape == shape and call.order), None)
    if said is not None or len(shape) < 4:
        return said
    places = {"channels_first": (shape[2:], shape[1]), "channels_last": (shape[1:-1], shape[-1])}
    for order in dict.fromkeys(call.order for call in calls if call.order):
        grid, channels = places[order]
        if grid in grids and channels not in grid:
            return order
    return None


def _assumed(layer: str) -> str:
    return f"the grid of layer `{layer}` is assumed from its shape"


class MisplacedError(LayoutError):
    """The cells of a layer lie in another order than its kind says.

    layer: its path. how: where they look, in words.
    """

    def __init__(self, layer: str, shape: tuple[int, ...], how: str) -> None:
        super().__init__(
            f"layer `{layer}` returns {shape}, but its cells do not follow the places of the input, which "
            f"the model turns or mixes before: {how}; explain the part behind that, or give layout=, a "
            "function that puts them in the input's order"
        )
        self.layer: str = layer
        self.how: str = how


def no_grid(site: Site) -> LayoutError:
    """Return the error for a layer whose output fits no grid."""
    return LayoutError(
        f"layer `{site.layer}` returns {site.shape}, which has no grid that fits an input of grid "
        f"{site.input_grid}; choose a layer before the pooling (`chronocam layers SPEC` lists them) or give "
        "layout="
    )


def known_grids(look: Look, calls: Sequence[LayerCall], until: str) -> tuple[tuple[int, ...], ...]:
    """Return the grids of the layers before one whose kind says where their channels are, each once."""
    rank = len(look.grid)
    ranks = (1, 2) if rank == 1 else (rank, rank - 1)  # a signal may become a spectrum
    found: dict[tuple[int, ...], None] = {}
    for call in calls:
        if call.path == until:
            break
        order = call.order
        if order is None or len(call.shape) < 3:
            continue
        grid = call.shape[2:] if order == "channels_first" else call.shape[1:-1]
        if len(grid) in ranks and np.prod(grid) > 1:
            found.pop(tuple(grid), None)
            found[tuple(grid)] = None
    return tuple(found)
