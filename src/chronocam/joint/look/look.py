"""One batch as the model sees it: what its axes mean, and what a layer returned on the grid."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from math import prod
from typing import Any, TypeAlias

import numpy as np

from chronocam.engines import Adds, Call, ClipOptions, Engine, LayerCall
from chronocam.errors import InputError, LayoutError
from chronocam.joint.inputs.batches import (
    arrays_of,
    entries_of,
    first_samples,
    has_samples,
    is_floating,
    main_array,
    map_arrays,
)
from chronocam.joint.inputs.patch_fold import FilledFold
from chronocam.joint.inputs.tile_fold import TileFold
from chronocam.joint.look.placement import (
    MisplacedError,
    Settled,
    batch_axis_of,
    known_grids,
    order_of,
    settle,
)
from chronocam.joint.look.places import Places
from chronocam.joint.look.ramps import Ramps
from chronocam.joint.look.subject import Subject
from chronocam.layouts import ChannelRows, Folded, Layout, PatchRows, Stepped, WindowRows
from chronocam.layouts.base import Site, candidates, channel_axis, infer, joined, named
from chronocam.layouts.patch_rows import Cut
from chronocam.layouts.video_tokens import VideoTokens
from chronocam.maps.arrays import like, namespace, to_numpy
from chronocam.types import INPUT, Array, Inputs

LayoutOption: TypeAlias = str | Layout | Callable[[Array], Array] | None
"""What `layout=` takes; None infers one from the shapes."""


@dataclass(frozen=True, eq=False)
class Look:
    """One batch as the model sees it.

    inputs: adapted to the model's framework, device and precision; see `look_at`.
    chunk_frames, detach_attention: options of clips; see `ClipOptions`.
    call: takes the place of a plain call of the model.
    channels: the axis of the inputs' channels, where it is known and need not be guessed.
    by_feature: whether each feature of a sequence `(batch, time, feature)` is a place, and not a channel.
    which: the number of the input that maps are of, among several; None is the first of floating point.
    shared: the numbers of the inputs that are not per sample.
    """

    subject: Subject
    inputs: Inputs
    chunk_frames: int | None = None
    detach_attention: bool = False
    call: Call | None = None
    channels: int | None = None
    by_feature: bool = False
    which: int | None = None
    shared: frozenset[int] = frozenset()

    @property
    def engine(self) -> Engine:
        """The model's engine."""
        return self.subject.engine

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of the main input."""
        return tuple(self.main.shape)

    @cached_property
    def main(self) -> Array:
        """The input that maps are of."""
        return main_array(self.inputs, self.which)

    @cached_property
    def arrays(self) -> list[Array]:
        """All arrays of the inputs, in order."""
        return arrays_of(self.inputs)

    @cached_property
    def sizes(self) -> Hashable:
        """What tells a sample's inputs from others: sizes, types, axes, and where a prompt has pictures."""
        numbers, samples = count(), self.shape[0]
        each = [
            (
                tuple(
                    x.shape[1:] if next(numbers) not in self.shared and has_samples(x, samples) else x.shape
                ),
                x.dtype,
            )
            for x in self.arrays
        ]
        return tuple((shape, str(dtype)) for shape, dtype in each), self.pictured, self.channels

    @cached_property
    def pictured(self) -> tuple[int, int, int] | None:
        """Where a prompt's tokens of the picture begin, how many they are, and how long the prompt is.

        None for other inputs, and for pictures with text in between.
        """
        config = getattr(getattr(self.engine, "model", None), "config", None)
        tokens = self.inputs.get("input_ids") if isinstance(self.inputs, Mapping) else None
        names = ("image_token_id", "image_token_index", "video_token_id")
        ids = [token for name in names if isinstance(token := getattr(config, name, None), int)]
        if tokens is None or not ids or self.tiles is not None:
            return None
        (places,) = np.nonzero(np.isin(to_numpy(tokens[0]), ids))
        if not len(places) or places[-1] - places[0] >= len(places):
            return None
        return int(places[0]), len(places), int(tokens.shape[1])

    @cached_property
    def tiles(self) -> Cut | None:
        """How pictures are cut into tiles that the model takes one by one; None for other models."""
        fold = self.subject.fold
        return fold.cut(self.entry) if isinstance(fold, TileFold) else None

    @cached_property
    def text_lengths(self) -> set[int]:
        """How long the texts are that come beside a picture; none where the picture is among their tokens."""
        if not is_floating(self.main) or self.pictured is not None:
            return set()
        rows = [x for x in self.arrays if len(x.shape) == 2 and "int" in str(x.dtype)]
        return {int(x.shape[1]) for x in rows}

    @cached_property
    def number(self) -> int:
        """The number of the input that maps are of."""
        if self.which is not None:
            return self.which
        return next(i for i, x in enumerate(self.arrays) if x is self.main)

    @cached_property
    def entry(self) -> tuple[Any, ...] | None:
        """What leads to the main one of several inputs; None where there is only one."""
        entries = entries_of(self.inputs)
        return entries[self.number] if len(entries) > 1 else None

    @cached_property
    def channel_axis(self) -> int | None:
        """Which axis of the main input the channels are on; None where it has none."""
        if self.by_feature:
            return None
        if self.channels is not None:
            return self.channels
        if self.engine.axes not in (None, "tf"):
            return self._channels_in(str(self.engine.axes))
        if self.of_sequence:
            return 2
        return channel_axis(self.shape, self.engine.channels_last, self.engine.stem)

    def _channels_in(self, axes: str) -> int | None:
        """Return the axis of the channels where it was said. Raises InputError for another number of axes."""
        if len(axes) != len(self.shape) - 1:
            raise InputError(
                f'one input has shape {self.shape[1:]}; expected {len(axes)} axes, as axes="{axes}"'
            )
        return axes.index("c") + 1 if "c" in axes else None

    @cached_property
    def of_sequence(self) -> bool:
        """Whether the main input is a sequence `(batch, time, feature)`, as the model's first layer says."""
        if self.engine.axes == "tf":
            return self._channels_in("tf") is None
        stem = self.engine.stem
        if len(self.shape) != 3 or (stem is not None and stem.channels in self.shape[1:]):
            return False  # a convolution that takes as many channels as an axis has says more
        return self.shape[2] == self.engine.features

    @cached_property
    def time_is_unsaid(self) -> bool:
        """Whether no layer's kind says which axis of a signal is time, and which has the channels."""
        engine, stem = self.engine, self.engine.stem
        by_stem = stem is not None and (stem.rank > 1 or stem.channels in self.shape[1:])
        said = engine.axes is not None or by_stem or engine.channels_last
        return len(self.shape) == 3 and not (said or self.of_sequence)

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """The grid of the main input: all axes but the batch and the channels."""
        return tuple(n for axis, n in enumerate(self.shape) if axis not in (0, self.channel_axis))

    @property
    def frame_axis(self) -> int:
        """Which axis of a clip the frames are on."""
        return 2 if self.channel_axis == 1 else 1

    @cached_property
    def clips(self) -> ClipOptions | None:
        """How the engine treats the clips; None for other inputs."""
        if len(self.grid) != 3:
            return None
        return ClipOptions(self.grid[0], self.chunk_frames, self.detach_attention)

    @cached_property
    def one(self) -> Look:
        """A look at the first sample, as of `few`."""
        return self.few(1)

    @property
    def _shape_of_one(self) -> tuple[int, ...]:
        """The shape of the main input in that look, which need not be taken for it where clips are whole."""
        return (1, *self.shape[1:]) if self.chunk_frames is None else self.one.shape

    @property
    def size_of_one(self) -> Hashable:
        """What tells inputs of one sample from others, in that look."""
        return self.sizes if self.chunk_frames is None else self.one.sizes

    @property
    def places(self) -> Places:
        """What layers see of these inputs, and where their cells lie."""
        return Places(self)

    def at(self, inputs: Inputs) -> Look:
        """Return the look at another array of the same shape and type, or at none: an outline.

        What follows from shapes is not worked out again.
        """
        look: Look = object.__new__(Look)
        vars(look).update(vars(self), inputs=inputs, main=inputs, arrays=[inputs])
        vars(look).pop("one", None)
        return look

    def few(self, samples: int = 2) -> Look:
        """Return a look at the first samples, with one chunk of frames where whole clips are too long.

        What is found out once about a model is found with these.
        """
        inputs = first_samples(self.inputs, samples, self.shared)
        alone = len(arrays_of(inputs)) == 1  # other inputs, such as lengths, may speak of all frames
        if alone and self.clips is not None and self.clips.chunk is not None:
            # Two frames at least: a single one could not be told from a picture.
            cut = (slice(None),) * self.frame_axis + (slice(max(self.clips.chunk, 2)),)
            shape = (min(samples, self.shape[0]), *self.shape[1:])
            inputs = map_arrays(lambda x: x[cut] if tuple(x.shape) == shape else x, inputs)
        return replace(self, inputs=inputs, chunk_frames=None, detach_attention=False, call=None)

    def layout(
        self,
        layer: str,
        shape: tuple[int, ...],
        calls: int = 1,
        layout: LayoutOption = None,
        order: str | None = None,
    ) -> Callable[[Array], Array]:
        """Return what puts a layer's output of this shape on its grid.

        calls: how many times the layer is called in a pass.
        layout: what `layout=` of a method asks for.
        order: in which order the tokens of clips lie; None finds it out where shapes do not say.
        Raises LayoutError, listing the shapes, where nothing fits.
        """
        if layer == INPUT:
            axis = self.channel_axis
            return lambda array: array[:, None] if axis is None else namespace(array).moveaxis(array, axis, 1)
        if layout is None and order is None:
            return self._settled(layer, shape, calls)
        site = self.site(layer, shape, calls)
        fits = self._by_shape(site) if layout is None else named(layout, site)
        if not isinstance(fits, Layout):
            return fits
        if order is not None:
            return fits.ordered(order)
        # A layout that was built by hand says its order itself; a name or None leaves that open, and asking
        # the model costs a pass and its gradients.
        return fits if fits is layout else fits.settled(lambda prefix: self._by_patch(layer, prefix))

    def site(
        self, layer: str, shape: tuple[int, ...], calls: int = 1, grids: tuple[tuple[int, ...], ...] = ()
    ) -> Site:
        """Return where a layout is to be found; grids: those of layers before, see `Site`."""
        said = None if self.time_is_unsaid else self.engine.order(layer)
        order = order_of(said, shape, self.shape[0], self.grid)
        if not grids and len(self.grid) == 1:
            grids = known_grids(self, self.known_calls(), layer.partition("#")[0])
        known = self.pictured if len(shape) == 3 else None
        last, tiles = self.engine.channels_last, self.tiles
        site = Site(layer, shape, self.shape[0], self.grid, calls, last, order, grids, tiles=tiles)
        if known is not None and known[2] == shape[1]:
            site = replace(site, picture=known[:2])
        if len(self.grid) == 1 and self.channel_axis is not None:
            site = replace(site, channels=self.shape[self.channel_axis])
        fold = self.subject.fold
        if isinstance(fold, FilledFold) and len(shape) == 3 and shape[1] == fold.length:
            site = replace(site, picture=(0, prod(fold.grid)))
        block = getattr(fold, "merge", 1)
        return site if block == 1 else replace(site, block=block)

    def _settled(self, layer: str, shape: tuple[int, ...], calls: int) -> Layout:
        """Return the layout that was proven of the layer at the first question; see `settle`."""
        site = self.site(layer, shape, calls)
        if site.order is None:
            layout = self._proven(layer, site)
        else:
            layout = self.subject.once(("inferred", site), lambda: infer(site))
            self.refuse_misplaced(layer, shape, layout, calls)
        if not isinstance(layout, (ChannelRows, Folded, PatchRows, WindowRows)) or self.shape[0] == 1:
            return layout
        if self.engine.frame_wise(layer):
            return layout
        axis = self.subject.once(
            ("rows", layer, self.number, self.sizes), lambda: batch_axis_of(self, layer, layout)
        )
        return replace(layout, batch_axis=axis)

    def refuse_misplaced(
        self, layer: str, shape: tuple[int, ...], layout: Layout, calls: int, ramps: Ramps | None = None
    ) -> None:
        """Raise MisplacedError where cells of a layer whose kind tells its axes lie otherwise.

        Found out once per layer and input size, only where the network may move places, where the grid is
        finer than the input's, where rows are taken for patches, or frames take several calls. calls: how
        many a pass has. ramps: see `settle`.
        """
        # Rows may as well be something else of the same number, as frames that are stacked in the channels.
        of_parts = isinstance(layout, (ChannelRows, PatchRows, WindowRows))
        of_parts |= isinstance(layout, Stepped) and 2 * layout.time <= self.grid[0]
        several = isinstance(layout, Stepped) and calls > layout.time  # of any frames, as both ways in time
        moves = of_parts or several or self.places.moves(layer) or self._is_finer(shape)
        if not is_floating(self.main) or not moves:
            return
        if isinstance(layout, Folded):  # looked at with one chunk of frames, where the clip is cut
            layout = replace(layout, time=layout.time * self.one.grid[0] // self.grid[0])

        self.refuse_stacked(ramps)

        def misplaced() -> str | None:
            moving = ramps or Ramps(self.one, [layer])
            if of_parts:
                return None if moving.verdict(layer, layout) else moving.order(layer, layout)
            wrong = moving.contradicts(layer, layout) or (several and moving.verdict(layer, layout) is False)
            return moving.order(layer, layout) if wrong else moving.sees_several(layer, layout)

        how = self.subject.once(("misplaced", layer, self.number, self.size_of_one), misplaced)
        if how is not None:
            raise MisplacedError(layer, shape, how)

    def refuse_stacked(self, ramps: Ramps | None = None) -> None:
        """Raise MisplacedError where cells of the first layer see several places, and so those after it do.

        Deeper ones see so much that it no longer shows. Found out once per input size, only where the network
        may move places before that layer. ramps: see `settle`.
        """
        first = self.first_moved

        def stacked() -> str | None:
            if first is None:
                return None
            measured = ramps is not None and first.path in ramps.layers
            moving = ramps if ramps is not None and measured else Ramps(self.one, [first.path])
            return moving.sees_several(first.path, self.one.by_shape(first.path, first.shape))

        how = self.subject.once(("stacked", self.number, self.size_of_one), stacked)
        if first is not None and how is not None:
            raise MisplacedError(first.path, first.shape, how)

    @property
    def first_moved(self) -> LayerCall | None:
        """The first layer on a grid of a picture or signal, if the network may move places before it."""
        if len(self.grid) > 2 or not is_floating(self.main):
            return None
        first = next(
            (one for one in self.one.calls() if one.order and len(one.shape) == len(self.shape)), None
        )
        return first if first is not None and self.places.moves(first.path) else None

    def _proven(self, layer: str, site: Site) -> Layout:
        settled = self.settled(layer)
        if self._shape_of_one[1:] == self.shape[1:]:
            return settled.layout
        # Proven with fewer frames than the clip has: of its own layouts the one of that kind.
        alike = [fit for fit in candidates(site) if type(fit) is type(settled.layout)]
        return alike[0] if alike else infer(site)

    def settled(self, layer: str, ramps: Ramps | None = None) -> Settled:
        """Return the proven layout of a layer; found out once per layer and input size.

        ramps: see `settle`.
        """
        return self.subject.once(
            ("layout", layer, self.number, self.size_of_one),
            lambda: settle(self.one, layer, self.one.calls(layer), ramps),
        )

    def remarks(self, layer: str) -> tuple[str, ...]:
        """Return what is to be said of the layer's grid, where it was not proven."""
        if self.engine.order(layer) is not None and not self.time_is_unsaid:
            return ()
        remarks = [self.settled(layer).remark, self._remark_of_time(layer)]
        return tuple(filter(None, remarks))

    def _remark_of_time(self, layer: str) -> str | None:
        """Return which axis of a signal is taken for time, in words; None where a layer's kind says it."""
        if not self.time_is_unsaid:
            return None
        axis = self.channel_axis or 0
        unsaid = f"no layer says which axis of inputs (…, {self.shape[1]}, {self.shape[2]}) is time"
        places, numbers = self.shape[3 - axis], self.shape[axis]
        if self.channels is not None:
            return (
                f"{unsaid}; the cells of layer `{layer}` follow axis {3 - axis}, and the map has {places} "
                f"places of {numbers} numbers each"
            )
        return (
            f"{unsaid}: {places} steps of {numbers} channels are assumed; where that is wrong, wrap the "
            "model in one that takes (batch, channel, time)"
        )

    def calls(self, layer: str = INPUT) -> list[LayerCall]:
        """Return the calls of all layers, from one pass; found out once per input size.

        layer: one that is to be among them, such as one of several outputs, which are not otherwise.
        """
        path, _, number = layer.partition("#")
        keep = [path] if path.endswith("]") else []
        # Calls are numbered with those that do not move with this input, which are not remembered.
        key = ("every call", *self._key_of_calls) if number else self._key_of_calls
        return self.subject.once(
            (*key, *keep),
            lambda: [plain(call) for call in self.engine.trace(self.inputs, keep=keep)],
        )

    @property
    def _key_of_calls(self) -> tuple[Hashable, ...]:
        # Of several inputs, those calls are remembered that move with the one whose layer was looked for.
        return "calls", self.number, self.shape[0], self.sizes

    def known_calls(self) -> list[LayerCall]:
        """Return the calls of all layers where a pass has shown them; else none."""
        return self.subject.facts.known(self._key_of_calls) or []

    def biases(self) -> dict[str, Adds]:
        """Return what the layers add that a pass calls; see `Engine.biases`."""
        every = self.engine.biases()
        called = {call.path for call in self.calls()} if every else set()
        return {layer: adds for layer, adds in every.items() if layer.partition("#")[0] in called}

    def remember(self, calls: Sequence[LayerCall]) -> None:
        """Take the calls of a pass that was run for another purpose, without what was recorded in it."""
        self.subject.once(self._key_of_calls, lambda: list(map(plain, calls)))

    def moved(self, values: np.ndarray) -> Look:
        """Return a look at other values of the main input."""
        numbers, main = count(), self.number
        # By its number: the same array may be given for two inputs.
        inputs = map_arrays(lambda x: like(values, x) if next(numbers) == main else x, self.inputs)
        return replace(self, inputs=inputs)

    def _by_patch(self, layer: str, prefix: int) -> bool:
        """Say whether the tokens of a layer lie patch by patch; found out once per layer."""
        return self.subject.once(
            ("tokens by patch", layer),
            lambda: self.subject.geometry.tokens_by_patch(
                first_samples(self.inputs, 1, self.shared), layer, prefix, self.frame_axis
            ),
        )

    def on_grid(
        self, layer: str, calls: Sequence[Array], layout: LayoutOption = None, order: str | None = None
    ) -> Array:
        """Return what a layer returned, one array per call, as `(batch, channel, *grid)`; see `layout`."""
        fits = self.layout(layer, tuple(calls[-1].shape), len(calls), layout, order)
        return fits(joined(calls, fits))

    def grid_of(self, layer: str, shape: tuple[int, ...], calls: int = 1) -> tuple[int, ...] | None:
        """Return the grid of a layer's output of this shape, or None where it has none."""
        outputs = [np.broadcast_to(np.float32(0), shape)] * calls
        try:
            return tuple(self.on_grid(layer, outputs, order="time").shape[2:])
        except LayoutError:
            return None

    def _by_shape(self, site: Site) -> Layout:
        """Return the layout that a shape suggests, tokens of tubes as the convolution cut them before."""
        try:
            return infer(site)
        except LayoutError:
            if len(self.grid) == len(site.shape) == 3:
                site = replace(site, grids=known_grids(self, self.calls(), site.layer))
                for fit in candidates(site):
                    if isinstance(fit, VideoTokens):
                        return fit
            raise

    def by_shape(self, layer: str, shape: tuple[int, ...], calls: int = 1) -> Layout:
        """Return the layout that the shape of a layer's output suggests. Raises LayoutError without any."""
        return self._by_shape(self.site(layer, shape, calls))

    def per_frame(self, layer: str, shape: tuple[int, ...], calls: int = 1) -> bool:
        """Say whether a layer sees each frame of a clip by itself."""
        return self.by_shape(layer, shape, calls).per_frame

    def _is_finer(self, shape: tuple[int, ...]) -> bool:
        """Say whether a layer's output of this shape has more cells along an axis than the input."""
        if len(shape) != len(self.grid) + 2:
            return False
        either = shape[2:], shape[1:-1]
        return all(any(n > size for n, size in zip(grid, self.grid, strict=True)) for grid in either)


def plain(call: LayerCall) -> LayerCall:
    """Return a call without what was recorded in it."""
    return replace(call, output=None, gradient=None, sight=None)


def look_at(subject: Subject, inputs: Inputs, **options: Any) -> Look:
    """Return a look at inputs as they were given; options are those of `Look`."""
    return Look(subject, subject.engine.adapt(inputs), **options)
