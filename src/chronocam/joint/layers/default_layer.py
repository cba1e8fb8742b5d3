"""Which layer is explained where none is named: the last one that still has a usable grid, and counts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from chronocam.engines import Call, LayerCall, Result, Score
from chronocam.errors import LayerError, LayoutError, ModelError
from chronocam.joint.inputs.batches import arrays_of, is_floating
from chronocam.joint.layers.branches import Branches, is_zero
from chronocam.joint.layers.candidates import Candidate, candidates_of, of_main_input, of_pathway
from chronocam.joint.layers.restated import becomes_output
from chronocam.joint.look.look import Look
from chronocam.joint.look.placement import MisplacedError
from chronocam.joint.look.ramps import Ramps, of_call
from chronocam.layouts import OneSlice, PatchRows
from chronocam.layouts.base import joined
from chronocam.maps.arrays import namespace, to_numpy
from chronocam.types import Array

ENOUGH: Final = 4  # cells along an axis that are enough at any size of the input
AT_ONCE: Final = 2**23  # numbers that candidates return, at most, whose grids the same passes prove
FOLLOWS: Final = "follows"  # the cells of a layer follow the places of the input
FLAT: Final = "flat"  # they do, and the score does not depend on any of them
UNPROVEN: Final = "unproven"
# Types of layers that only put what they get on another grid.
RESIZING: Final = re.compile(r"(Max|Avg|Average|LP)Pool(ing)?[123][dD]|Upsample|UpSampling[123]D")
RESTATED: Final = 2  # pixels: the cells of a grid below which a decoder has come back to the input's own
SEEN: Final = 4  # pixels: those of the last features on the way there that are more than the answer
CELL: Final = re.compile(r"(RNN|LSTM|GRU)Cell")
COMMON: Final = 32  # pixels: the cells of common classifiers, usable however few there are


class Chosen(str):
    """The path of the layer that is explained.

    why: in words, where it is not the last one that the score depends on.
    flat: whether the score depends on no layer, as that of a network whose head is zero.
    specific: whether there are deeper ones on which it does not depend, as another score may.
    """

    why: str | None = None
    flat: bool = False
    specific: bool = False


@dataclass(frozen=True)
class Asked:
    """What is explained: the score of one sample, how the model is called, and what the score reads."""

    score: Score
    call: Call | None = None
    reads: tuple[str, ...] = ()


def largest(result: Result) -> Array:
    """Return the largest output of each sample, as the score where no target is given."""
    logits = result.logits()
    xp = namespace(logits)
    return xp.max(xp.reshape(logits, (logits.shape[0], -1)), axis=1)[:, None]


class _RecordingScore:
    """A score that keeps what it was last given, as arrays of NumPy.

    main: the main output; None where none of several is. outputs: the floating-point ones of rank 3 and more.
    columns: how many scores a sample has.
    """

    def __init__(self, score: Score) -> None:
        self._score = score
        self.main: np.ndarray | None = None
        self.outputs: list[np.ndarray] = []
        self.columns: int = 0

    def __call__(self, result: Result) -> Array:
        """Return the scores `(batch, column)`."""
        values = self._score(result)
        self.columns = values.shape[1]
        with suppress(ModelError):  # several outputs, none of which is the main one
            self.main = to_numpy(result.logits())
        self.outputs = [to_numpy(x) for x in arrays_of(result.raw) if is_floating(x) and len(x.shape) > 2]
        return values


def default_layer(look: Look, asked: Asked | None = None) -> Chosen:
    """Return the last layer with a usable grid that the score depends on.

    asked: the score that is explained, of the samples looked at; None for the largest output of the first.

    A layer counts where the gradient of that score by what the layer returned is not zero on its grid. Layers
    that only pass on or resample what they get are left out, and so are the model's own output and layers
    that say the same on another grid. So is a layer of which the score of a place, such as a box, depends on
    one cell, where it depends on more cells of one before. Where the last grid is about the input's own after
    coarser ones (dense outputs, such as depth), the last layer is taken that more than pools or enlarges and
    whose cells are of 4 pixels or more. Layers in a branch (see `Branches`) give way to the
    last that is in none: to the block and not the convolution that it adds, and in a vision transformer that
    reads its class token to the block before the last. Where no grid is usable (see `is_usable`), the last
    one is taken as it is. A layer whose cells turn out not to follow the places of the input is passed over;
    of several calls, one of them may follow. Layers of clips without time, and patches as rows, are taken
    only if no other layer is left.

    Raises LayerError where no layer has a grid.
    """
    if asked is None:
        look, asked = look.few(1), Asked(largest)
    score = _RecordingScore(asked.score)
    traced = look.engine.trace(look.inputs, score, asked.call, asked.reads)
    calls = of_main_input(look, traced)
    look.remember(calls)
    branches = Branches(look, traced, calls)
    counting = {
        path: one
        for path, one in candidates_of(look, calls, score.main).items()
        if not becomes_output(look, [call for call in calls if call.path == path], score.outputs)
    }
    if look.which is not None:
        counting, branches = of_pathway(look, traced, branches, counting)
    # As where the head is zero.
    constant = score.main is not None and score.main.size > 1 and not np.ptp(score.main)
    flat_here = not counting and any(call.gradient is not None for call in calls)
    if flat_here and asked.score is not largest and not constant:
        # The score is flat at this sample, as a sum of no marked class is; the largest output is not.
        with suppress(ModelError):
            of_largest = default_layer(look, Asked(largest, asked.call))
            of_largest.flat = True
            return of_largest
    flat = not counting  # so is every output of a network whose head is zero, as an untrained one may be
    if flat:
        counting = candidates_of(look, calls, None, flat)
    # The largest output is a stand-in for targets, which seldom are of a single place of dense outputs.
    # An operator may give the model other inputs than the passes of a proof do.
    proof = _Proof(look, counting, traced if asked.call is None else ())
    targets = 0 if asked.score is largest else score.columns
    chosen = _chosen(look, proof, branches, flat, targets)
    if chosen is None:
        chosen = _of_one_call(look, counting, flat, score.columns)
    if chosen is None:
        raise LayerError(
            _none(calls, look.engine.obstacle(), proof.contradicted)
            + _of_rows(look, calls)
            + _of_frames(look)
        )
    chosen.flat, chosen.specific = flat, _is_specific(look, calls, chosen)
    if asked.call is None:
        _remember_sight(look, traced, chosen)
    return chosen


def _remember_sight(look: Look, calls: Sequence[LayerCall], layer: str) -> None:
    """Keep what a layer sees of the input, if the pass says it: else another would have to be run for it."""
    path = layer.partition("#")[0]
    *_, sight = of_call(layer, [call.sight for call in calls if call.path == path])
    seen = None if sight is None else sight(len(look.grid))
    if seen is not None:
        look.places.remember(layer, seen)


def _is_specific(look: Look, calls: Sequence[LayerCall], chosen: Chosen) -> bool:
    """Say whether layers with a grid come after the chosen one on which the score does not depend."""
    last = max(at for at, call in enumerate(calls) if call.path == chosen.partition("#")[0])
    counts = Counter(call.path for call in calls)
    return any(
        call.changes
        and not call.recurrent
        and (call.gradient is None or is_zero(call.gradient))
        and look.grid_of(call.path, call.shape, counts[call.path]) is not None
        for call in calls[last + 1 :]
    )


def _of_one_call(look: Look, counting: Mapping[str, Candidate], flat: bool, targets: int) -> Chosen | None:
    """Return one call of a layer with several, where the last sees a picture that was turned.

    So it is in networks that average what they say of a picture and of its mirror image.
    """
    alone = {
        f"{path}#{call}": replace(one, gradients=[gradient])
        for path, one in counting.items()
        if len(one.gradients) > 1
        for call, gradient in enumerate(one.gradients)
        if not is_zero(gradient)
    }
    chosen = _proven(look, _Proof(look, alone, ()), alone, flat, targets) if alone else None
    if chosen is not None:
        path, _, call = chosen.partition("#")
        every = len(counting[path].gradients)
        chosen.why = (
            f"layer `{path}` is called {every} times, and call {call} is explained, the last on which the "
            "score depends and that sees the input as it was given"
        )
    return chosen


def _chosen(look: Look, proof: _Proof, branches: Branches, flat: bool, targets: int) -> Chosen | None:
    """Return the candidate to explain; one in a branch where no other can be.

    flat: the score depends on none of them. targets: of how many scores, each of which may be of one place.
    """
    counting, every = proof.counting, list(proof.counting)
    timeless = {path: one for path, one in counting.items() if isinstance(one.fit, OneSlice)}
    counting = {path: one for path, one in counting.items() if path not in timeless}
    whole = {path: one for path, one in counting.items() if not branches(path, one.grid)}
    parts = {path: one for path, one in counting.items() if path not in whole}
    # A shortcut comes after the layers that it leads around, and says less.
    parts = dict(sorted(parts.items(), key=lambda part: branches.depth(part[0])))
    guessed = look.tiles is None
    rows = {path: one for path, one in whole.items() if guessed and isinstance(one.fit, PatchRows)}
    others = {path: one for path, one in whole.items() if path not in rows}
    chosen = _proven(look, proof, others, flat, targets)
    if chosen is None or chosen == _on_grid(chosen, counting)[0]:
        stem = counting[chosen] if chosen is not None else next(iter(whole.values()), None)
        instead = [_trunk(look, branches, stem, parts) if stem is not None else {}, rows]
        if chosen is None:
            instead += [{path: one for path, one in parts.items() if one.channels > 1} or parts, timeless]
        some = (_proven(look, proof, each, flat, targets) for each in instead)
        chosen = next((one for one in some if one is not None), chosen)
    if chosen is not None and chosen not in parts:
        chosen = _weighted(proof, branches, chosen) or chosen
    if chosen is not None and (chosen in parts or branches.beside(chosen)):
        beside = f"beside layer `{chosen}`, class tokens or other branches lead to the score"
        chosen.why = f"{beside}; {chosen.why or 'conv_layer= names another'}"
    if chosen is not None or proof.contradicted:
        return chosen
    # Where nothing can be proven, as in a network whose units are all dead, shapes have to do.
    for path in reversed(every):
        with suppress(LayoutError):
            if look.settled(path).remark is not None:
                return Chosen(path)
    return None


def _weighted(proof: _Proof, branches: Branches, chosen: Chosen) -> Chosen | None:
    """Return the layer whose places a layer weights, as attention does that pools them; None for others.

    Such a layer has fewer channels and a way around it, and says how much places count, not what is there.
    """
    on_grid, most = _on_grid(chosen, proof.counting), 2 * proof.counting[chosen].channels
    before = on_grid[: on_grid.index(chosen)]
    wide = [path for path in before if proof.counting[path].channels >= most]
    if not wide or not branches.beside(chosen):
        return None
    whole = (path for path in reversed(wide) if not branches.beside(path) and proof(path) == FOLLOWS)
    return next(map(Chosen, whole), None)


def _trunk(
    look: Look, branches: Branches, stem: Candidate, parts: Mapping[str, Candidate]
) -> dict[str, Candidate]:
    """Return the layers of branches that carry what a network makes of the places of a stem.

    They are on its grid, or on that of the last branch where none is. Branches that exchange what they know
    stage by stage leave nothing whole but their stems. One that ends in fewer channels, as the weights of
    attention do, says how much places count and carries nothing.
    """
    grids = [one.grid for one in parts.values()]
    grid = stem.grid if stem.grid in grids or not grids else grids[-1]
    alike = {path: one for path, one in parts.items() if one.grid == grid}
    narrow = {path for path, one in alike.items() if 2 * one.channels <= stem.channels}
    ends = {
        path
        for path, one in alike.items()
        if branches.leads_on(path, narrow) and not is_zero(_on_cells(look, path, one))
    }
    return {path: one for path, one in alike.items() if branches.is_trunk(path, grid, ends)}


def _proven(
    look: Look, proof: _Proof, counting: dict[str, Candidate], flat: bool, targets: int
) -> Chosen | None:
    """Return the best candidate; those that turn out not to follow the input are taken out.

    Where the first layer of a grid does not follow it, neither do those after it: all are taken out at once.
    """
    every, unproven = dict(counting), list[str]()
    while counting:
        path, last = _better(look, counting), list(counting)[-1]
        if _is_of_one_cell(look, counting[path], path, targets):
            spread = {p: c for p, c in counting.items() if not _is_of_one_cell(look, c, p, targets)}
            if spread:  # such a layer, as one that becomes the rows of boxes, says no more than the score
                counting = spread
                continue
            if _is_behind_steps(look, path):  # where the one cell is the last step, whatever the input
                del counting[path]
                continue
        checked = [path] if counting[path].grid == counting[last].grid else [path, last]
        verdicts = {one: proof(one) for one in checked}
        if all(verdict == FOLLOWS or (flat and verdict == FLAT) for verdict in verdicts.values()):
            return _explained(path, last, every, unproven)
        # What is turned before the first layer is turned for all of them.
        if proof.contradicted and proof(next(iter(counting))) == UNPROVEN:
            return None
        unproven += [one for one, verdict in verdicts.items() if verdict == UNPROVEN]
        for one in [one for one, verdict in verdicts.items() if verdict != FOLLOWS]:
            first, *others = _on_grid(one, counting)
            mixed = verdicts[one] == UNPROVEN and proof(first) == UNPROVEN
            for path in {first, *others} if mixed else {one}:
                del counting[path]
    return None


def _on_grid(path: str, counting: Mapping[str, Candidate]) -> list[str]:
    """Return the candidates on the grid of one of them, in order."""
    return [other for other, one in counting.items() if one.grid == counting[path].grid]


def _is_behind_steps(look: Look, path: str) -> bool:
    """Say whether a recurrent layer has gone through the steps before a layer."""
    calls = look.calls()
    before = calls[: next(at for at, call in enumerate(calls) if call.path == path.partition("#")[0])]
    return any(call.recurrent or CELL.search(call.type) for call in before)


def _is_of_one_cell(look: Look, candidate: Candidate, path: str, targets: int) -> bool:
    """Say whether each score depends on one cell of a layer alone, of many."""
    gradient = to_numpy(_on_cells(look, path, candidate))
    cells = gradient.any(axis=1).reshape(len(gradient), -1)
    return bool(cells.sum(axis=1).max() <= targets and targets * ENOUGH < cells.shape[1])


def _on_cells(look: Look, path: str, candidate: Candidate) -> Array:
    """Return the gradient on the cells of the grid that the shape suggests, without tokens beside them."""
    return look.on_grid(path, candidate.gradients, order="time")


class _Proof:
    """Whether candidates can be explained, a few at a time: moving the input costs the same for all.

    traced: the calls of a pass with the input as it is, with what they returned.
    contradicted: how the cells of one that says its axes turned out to lie in another order, in words.
    """

    def __init__(self, look: Look, counting: Mapping[str, Candidate], traced: Sequence[LayerCall]) -> None:
        self.look = look
        self.traced = traced
        self.counting = dict(counting)
        self.moves = is_floating(look.main)
        self.contradicted: str | None = None
        self._ramps: dict[str, Ramps] = {}
        self._sizes: Counter[str] = Counter()
        for call in look.calls():
            self._sizes[call.path] += math.prod(call.shape)
        self._sizes.update({path: self._sizes[path.partition("#")[0]] for path in counting if "#" in path})

    def __call__(self, path: str) -> str:
        """Say whether a layer's cells follow the input's places, and the score depends on some of them."""
        candidate = self.counting[path]
        try:
            settled = self.look.settled(path, self._measured(path))
            gradient = settled.layout(joined(candidate.gradients, settled.layout))
        except MisplacedError as error:
            self.contradicted = self.contradicted or f"at layer `{error.layer}`, {error.how}"
            return UNPROVEN
        except LayoutError:
            return UNPROVEN
        if self.moves and settled.remark is not None:
            return UNPROVEN
        return FLAT if is_zero(gradient) else FOLLOWS

    def _measured(self, path: str) -> Ramps | None:
        """Return how a layer moves with the input, measured with as many of the last candidates as fit."""
        if not self.moves:
            return None
        if path not in self._ramps:
            others = [one for one in reversed(self.counting) if one not in self._ramps and one != path]
            moved = self.look.first_moved
            some, left = [path], AT_ONCE - self._sizes[path]
            if moved is not None and moved.path not in self._ramps and moved.path != path:
                some.append(moved.path)
            for one in others:
                left -= self._sizes[one]
                if left < 0:
                    break
                some.append(one)
            self._ramps |= dict.fromkeys(some, Ramps(self.look, some, self._known(some)))
        return self._ramps[path]

    def _known(self, layers: Sequence[str]) -> dict[str, list[np.ndarray]] | None:
        """Return what layers returned for the input as it is."""
        every: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
        for call in self.traced:
            if call.path in every:
                every[call.path].append(to_numpy(call.output))
        return every if all(every.values()) else None


def _none(calls: Sequence[LayerCall], obstacle: str | None, order: str | None) -> str:
    """Return why no layer can be taken.

    order: how the cells of one lie, in words, where they are misplaced.
    """
    if obstacle is not None:
        return f"no layer of the model can be explained; {obstacle}"
    spread = [call for call in calls if len(call.shape) > 2]
    if all(call.gradient is None for call in calls):
        return (
            "the score does not depend on any layer of the model, as where it is detached, rounded, or of an "
            "argmax; check the target, or name conv_layer="
        )
    if spread and all(call.gradient is None for call in spread):
        return (
            "no gradient of the score reaches a layer with a grid: the model detaches them, or runs them "
            "without gradients; name conv_layer= and choose a method that needs none, such as cc.EigenCAM"
        )
    follows = "no layer of the model has a grid that follows the input"
    steps = [call for call in calls if call.recurrent or CELL.search(call.type)]
    if order is None and steps and (not spread or spread[0] is steps[0]):
        return (
            f"{follows}, whose steps go through a recurrent layer at once: cc.sequence.LRP, or a method of "
            "the input such as cc.IntegratedGradients, says which steps count"
        )
    if order is None:
        return f"{follows}; name conv_layer= and layout=, or take a method of the input such as cc.Occlusion"
    todo = "name conv_layer= and layout=, a function that puts them in the input's order"
    return f"{follows}, which it turns or mixes: {order}; {todo}"


def _of_rows(look: Look, calls: Sequence[LayerCall]) -> str:
    """Return what to do where a model makes several pictures of each; an empty text where not."""
    rows = {call.shape[0] for call in calls if len(call.shape) == len(look.shape) and call.changes}
    copies = min(rows, default=0) // look.shape[0]
    if len(look.grid) != 2 or copies < 2:
        return ""
    return (
        f"; its layers return {copies} rows for each sample, as of crops or mirrored copies that the model "
        "makes of it: explain the part that takes one of them"
    )


def _of_frames(look: Look) -> str:
    """Return what to do where the channels may be those of several frames; an empty text where not."""
    stem, axis = look.engine.stem, look.channel_axis
    if stem is None or stem.rank != 2 or len(look.grid) != 2 or axis is None:
        return ""
    frames, left = divmod(look.shape[axis], stem.channels)
    if left or frames < 2:
        return ""
    return (
        f"; where the {look.shape[axis]} channels of an input are those of {frames} frames, frames={frames}"
    )


def _explained(path: str, last: str, every: Mapping[str, Candidate], unproven: Sequence[str]) -> Chosen:
    """Return the choice with its reason.

    last: of those that follow the input. every: all candidates. unproven: those that turned out not to follow
    it.
    """
    chosen, order = Chosen(path), list(every)
    deepest = max(unproven, key=order.index, default=path)
    cells, of_last, of_deepest = (" × ".join(map(str, every[one].grid)) for one in (path, last, deepest))
    if order.index(deepest) > order.index(path):
        chosen.why = (
            f"layer `{chosen}` is explained, the deepest whose cells follow the places of the input: {cells} "
            f"cells; those of `{deepest}` ({of_deepest}) do not; conv_layer= names another"
        )
    elif math.prod(every[path].grid) < math.prod(every[last].grid):
        chosen.why = (
            f"layer `{chosen}` is explained, {cells} cells: where `{last}` has {of_last}, features say "
            "little more than the output; conv_layer= names another"
        )
    elif cells != of_last:
        chosen.why = (
            f"layer `{chosen}` is explained, the deepest with a usable grid: {cells} cells, where `{last}` "
            f"has {of_last}; conv_layer= names another"
        )
    return chosen


def _better(look: Look, counting: Mapping[str, Candidate]) -> str:
    """Return the layer to take instead of the last that counts, which may be that one.

    Two things make another one better. A last grid too coarse to tell places apart gives way to the deepest
    that is not. And a last grid nearly as fine as the input's, which a decoder has reached again, says no
    more than the output: there the deepest whose cells are of some pixels holds what the network made of the
    picture. What only pools or enlarges that says the same.
    """
    within, grids = look.grid, {path: one.grid for path, one in counting.items()}
    *before, last = grids
    usable = [path for path in before if is_usable(grids[path], within)]
    if not is_usable(grids[last], within):
        return usable[-1] if usable else last
    if not _is_finer(grids[last], within, RESTATED):
        return last
    coarse = [
        path
        for path in usable
        if min(grids[path][-2:]) >= ENOUGH
        and _is_coarser(grids[path], grids[last])
        and not RESIZING.fullmatch(counting[path].type)
    ]
    least = min((math.prod(grids[path]) for path in coarse), default=math.inf)
    seen = [
        path for path in coarse if math.prod(grids[path]) == least or not _is_finer(grids[path], within, SEEN)
    ]
    return seen[-1] if least < math.prod(grids[last]) else last


def _is_coarser(grid: tuple[int, ...], last: tuple[int, ...]) -> bool:
    """Say whether a grid has two thirds of the last one's cells or less along width and height.

    A kernel makes it a few cells longer or shorter, and steps make it coarser.
    """
    return all(3 * cells <= 2 * finer for cells, finer in zip(grid[-2:], last[-2:], strict=False))


def _is_finer(grid: tuple[int, ...], within: tuple[int, ...], pixels: int) -> bool:
    """Say whether the cells of a grid have fewer pixels than so many along width and height."""
    return all(pixels * cells > size for cells, size in zip(grid[-2:], within[-2:], strict=True))


def is_usable(grid: tuple[int, ...], within: tuple[int, ...]) -> bool:
    """Say whether a grid can tell places in the input's grid apart, along width and height.

    Along each of them it has 4 cells or more, or cells of no more than 32 pixels (and a remainder), as common
    classifiers have: what is too coarse for a small picture is then the picture's fault and not the layer's.
    """
    axes = zip(grid[-2:], within[-2:], strict=True)
    spread = math.prod(grid[-2:]) > 1  # slices of one cell each only say when
    return spread and all(cells >= ENOUGH or size < COMMON * (cells + 1) for cells, size in axes)
