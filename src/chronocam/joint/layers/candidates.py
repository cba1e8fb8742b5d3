"""Layers that may be explained: those that change what they get, have a grid, and lead to the score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from chronocam.engines import LayerCall
from chronocam.joint.inputs.batches import arrays_of, is_floating
from chronocam.joint.layers.branches import Branches, is_zero
from chronocam.joint.layers.restated import restates
from chronocam.joint.look.look import Look
from chronocam.joint.look.ramps import outputs_of
from chronocam.layouts import Layout
from chronocam.layouts.base import joined
from chronocam.maps.arrays import namespace, to_numpy
from chronocam.types import Array


@dataclass(frozen=True)
class Candidate:
    """A layer that may be explained: its type, its grid by its shape, and the gradient at each call.

    fit: the layout that its shape suggests.
    """

    type: str
    grid: tuple[int, ...]
    gradients: list[Array]
    fit: Layout

    @property
    def channels(self) -> int:
        """How many numbers it has at each place."""
        return int(self.fit(joined(self.gradients, self.fit)).shape[1])


@dataclass(frozen=True)
class TracedLayer:
    """A layer as one forward pass showed it: its type, the shape of its output, and its grid, if it has one.

    changes: False for layers that only pass on, drop or resample what they get, and for the model's output.
    """

    type: str
    shape: tuple[int, ...]
    grid: tuple[int, ...] | None
    changes: bool


def traced_layers(look: Look) -> dict[str, TracedLayer]:
    """Return the layers by path, in the order in which they last finish."""
    calls = look.engine.trace(look.inputs)
    counts = Counter(call.path for call in calls)
    last: dict[str, LayerCall] = {}
    for call in reversed(calls):
        last.setdefault(call.path, call)
    return {
        path: TracedLayer(
            call.type,
            call.shape,
            None if call.recurrent else look.grid_of(path, call.shape, counts[path]),
            call.changes,
        )
        for path, call in reversed(last.items())
    }


def candidates_of(
    look: Look, calls: Sequence[LayerCall], main: np.ndarray | None, flat: bool = False
) -> dict[str, Candidate]:
    """Return the layers that may be explained, in the order in which they last finish.

    Layers of as many tokens as a text beside the picture has are left out, where there are others: four words
    may be a grid of 2 × 2 by their number alone. So are layers that hold infinities where the outputs
    hold none, as masks of attention do: infinity times a gradient of zero is not a number.

    main: the model's main output; None where none of several is.
    flat: also those where the score's gradient is zero, as it is everywhere.
    """
    every: dict[str, list[LayerCall]] = {}
    for call in calls:
        every.setdefault(call.path, []).append(call)
        every[call.path] = every.pop(call.path)  # ordered by the last call
    seen: dict[str, Candidate] = {}
    infinite: dict[str, Candidate] = {}
    of_text: dict[str, Candidate] = {}
    finite = main is not None and bool(np.isfinite(main).all())
    for path, own in every.items():
        call, gradients = own[-1], [one.gradient for one in own]
        if not call.changes or call.recurrent or all(gradient is None for gradient in gradients):
            continue
        grid = look.grid_of(path, call.shape, len(own))
        if grid is None or restates(look, call, len(own), main):
            continue
        zeros = namespace(call.output).zeros_like(call.output)
        filled = [zeros if gradient is None else gradient for gradient in gradients]
        if flat or not all(map(is_zero, filled)):
            worded = len(call.shape) == 3 and call.shape[1] in look.text_lengths
            which = of_text if worded else infinite if finite and _has_infinity(call.output) else seen
            which[path] = Candidate(call.type, grid, filled, look.by_shape(path, call.shape, len(own)))
    return seen or infinite or of_text


def _has_infinity(output: Array) -> bool:
    xp = namespace(output)
    return bool(xp.any(xp.isinf(output)))


def of_main_input(look: Look, calls: Sequence[LayerCall]) -> list[LayerCall]:
    """Return the calls that move with the main input; all of them where nothing else could move any.

    Positions are looked up as the ids of tokens are, and depend on none of them.
    """
    looked_up = len(look.grid) == 1 and any(call.type == "Embedding" for call in calls)
    if not looked_up and sum(is_floating(x) for x in arrays_of(look.inputs)) < 2:
        return list(calls)
    return _moving_with(look, calls)


def of_pathway(
    look: Look, calls: Sequence[LayerCall], branches: Branches, counting: dict[str, Candidate]
) -> tuple[dict[str, Candidate], Branches]:
    """Return the candidates that see no other input and lead to the score past those that do.

    So the pathway of an input, as of one of the two in SlowFast, goes before what it adds to another one's,
    and no way through that other one is a way around it. All candidates where none leads there, as where the
    inputs are joined at the beginning.
    """
    others = [
        number for number, x in enumerate(arrays_of(look.inputs)) if is_floating(x) and number != look.number
    ]
    joint = {
        call.path
        for other in others
        for call in _moving_with(replace(look, which=other), calls)
        if call.path in counting
    }
    alone = {path: one for path, one in counting.items() if path not in joint}
    leading = {path: one for path, one in alone.items() if branches.leads_on(path, joint)}
    return (leading, branches.past(joint)) if leading else (counting, branches)


def _moving_with(look: Look, calls: Sequence[LayerCall]) -> list[LayerCall]:
    """Return the calls that move with a look's main input; all of them where it cannot be moved."""
    x = to_numpy(look.main)
    if is_floating(look.main):
        x = x.astype(np.float64)
        other = x + np.random.default_rng(0).standard_normal(x.shape) * (float(x.std()) or 1.0)
    else:
        other = np.roll(x, 1, axis=-1)
        if np.array_equal(x, other):
            return list(calls)
    paths = list(dict.fromkeys(call.path for call in calls))
    before, after = (outputs_of(one, paths) for one in (look, look.moved(other)))
    moving = {
        path: [not np.array_equal(a, b) for a, b in zip(before[path], after[path], strict=True)]
        for path in paths
    }
    numbers: Counter[str] = Counter()
    own: list[LayerCall] = []
    for call in calls:
        number, moves = numbers[call.path], moving[call.path]
        numbers[call.path] += 1
        if number < len(moves) and moves[number]:
            own.append(call)
    return own
