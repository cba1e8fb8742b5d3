"""What one method makes of a pass: its maps, and what is to be said of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from chronocam.explanation import COPIES, Explanation
from chronocam.explanation.late import late
from chronocam.joint.inputs.batches import Batch
from chronocam.joint.layers.default_layer import Chosen
from chronocam.joint.layers.several import Place
from chronocam.joint.look.copies import copies_of
from chronocam.joint.look.look import Look
from chronocam.joint.passes.diagnose import diagnose, first_order, sums_of
from chronocam.joint.passes.levels import Known, tiled
from chronocam.joint.passes.mean_of_views import maps_of
from chronocam.joint.passes.record import Recorded
from chronocam.joint.passes.scoring import confidences, frame_attention
from chronocam.joint.passes.view import LayerView
from chronocam.joint.recipe import Recipe
from chronocam.maps.arrays import Origin, all_to_numpy, namespace, placed, relu, to_numpy, widen
from chronocam.maps.frames import frame_spans
from chronocam.maps.fuse import fuse
from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.preprocess import Preprocess
from chronocam.types import Array, Capture, Finding, Target, TargetInfo, Window
from chronocam.types.findings import note
from chronocam.types.targets import missing_in

Join: TypeAlias = Callable[[Sequence[Array]], Array]
"""Makes one map of those of several layers."""


@dataclass(frozen=True)
class Seen:
    """What one pass over a batch gave a method.

    columns: which scores are those of the method's target. infos: what they explain, per sample.
    layers: their names. at: where the maps come from. views: of each of them.
    known: what an adapter knows of the layers' grids.
    """

    method: Recipe
    batch: Batch
    target: Target
    recorded: Recorded
    columns: slice
    infos: tuple[tuple[TargetInfo, ...], ...]
    layers: Sequence[str]
    at: Sequence[Place]
    views: Sequence[LayerView]
    known: Known

    @property
    def look(self) -> Look:
        """The look at the input that maps are of."""
        return self.at[0].look

    @property
    def alone(self) -> LayerView | None:
        """The view of the only layer; None for several, and for maps on the input's own grid."""
        return self.views[0] if len(self.views) == 1 and not self.method.maps_input else None


def explanation_of(seen: Seen, join: Join) -> Explanation:
    """Return what a method makes of what it has seen. join: makes one map of those of several layers."""
    method, look, infos, recording = seen.method, seen.look, seen.infos, seen.recorded.recording
    maps = [maps_of(method, view) for view in seen.views]
    raw = join(maps)
    kept = _signs_kept(raw, maps, join, [method.keeps_signs(info) for info in infos[0]])
    moved = first_order([one for view in seen.views for one in _plain(method, view)], look.shape[0])
    arrays = [raw, kept, widen(recording.scores[:, seen.columns]), *([] if moved is None else [moved])]
    whole, positive, scores, *moves = all_to_numpy(arrays)
    scores, missing = scores.astype(np.float32), missing_in(infos)
    on_host = _without(positive.astype(np.float32), missing)
    name, start = "+".join(seen.layers), seen.batch.rows.start
    # Whoever explains many classes seldom reads what is said of each: it is worded when somebody asks. What
    # is asked of the maps, which the user may write into, is found out now.
    wrong = partial(diagnose, sums_of(whole, positive), scores.copy(), infos, name, start, *moves)
    remarks, of_grids = tuple(_remarks(seen)), _of_grids(seen)
    centers = _centers(seen, tuple(raw.shape[2:]))
    return Explanation(
        on_host,
        _without(scores, missing),
        infos,
        method.name,
        name,
        look.grid,
        centers=centers,
        windows=_windows(seen, raw.ndim - 2),
        frame_spans=_spans(look, kept, centers),
        attention=frame_attention(recording, seen.columns),
        findings=late(lambda: _distinct([*remarks, *wrong(), *of_grids])),
        confidences=late(partial(confidences, seen.recorded.columns, infos)),
        preprocess=method.preprocess,
        copies=copies_of(look, method.preprocess) if start < COPIES else None,
        on=look.number,
        axes=("time", "feature") if look.by_feature else None,
        interval=_interval(seen.views),
        origin=Origin(placed(on_host, kept) if missing.any() else _single(kept), on_host),
    )


def fused(maps: Sequence[Array], how: str) -> Array:
    """Return the one map, or what fusing makes of several."""
    return maps[0] if len(maps) == 1 else fuse(maps, how)


def _without(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Return values `(batch, target, …)` with NaN for what a sample does not have."""
    if missing.any():
        values = values.copy()
        values[missing] = np.nan
    return values


def _signs_kept(raw: Array, maps: Sequence[Array], join: Join, signs: Sequence[bool]) -> Array:
    """Return the maps with both signs for the targets that keep them, else with their positive part.

    Maps of several layers lose their negative part before they are joined, as each would by itself.
    """
    if all(signs):
        return raw
    positive = join([relu(one) for one in maps])
    if not any(signs):
        return positive
    return namespace(raw).stack([(raw if sign else positive)[:, k] for k, sign in enumerate(signs)], axis=1)


def _plain(method: Recipe, view: LayerView) -> list[Capture]:
    """Return the captures that hold the score's own gradients."""
    pairs = zip(method.needs, view.captures, strict=True)
    return [capture for need, capture in pairs if need.gradients and not need.guided]


def _single(maps: Array) -> Array:
    """Return maps in float32."""
    xp = namespace(maps)
    return maps if maps.dtype == xp.float32 else xp.astype(maps, xp.float32)


def _interval(views: Sequence[LayerView]) -> np.ndarray | None:
    """Return the half-widths that a method knows of its maps; of fused maps nothing is known."""
    half = views[0].interval if len(views) == 1 else None
    return None if half is None else to_numpy(half).astype(np.float32)


def _centers(seen: Seen, grid: tuple[int, ...]) -> tuple[tuple[float, ...], ...] | None:
    """Return where the cells of the maps lie in the input; None where they tile it evenly."""
    if len(seen.views) > 1 and seen.known.extent is not None:
        return tiled(grid, seen.known.extent)
    alone = seen.alone
    return None if alone is None else alone.centers


def _windows(seen: Seen, rank: int) -> tuple[Window, ...] | None:
    """Return what the cells of the maps see of the input; None where that is not known."""
    alone = seen.alone
    windows = None if alone is None else alone.field
    return windows if windows is not None and len(windows) == rank else None


def _spans(
    look: Look, maps: Array, centers: tuple[tuple[float, ...], ...] | None
) -> tuple[tuple[int, int], ...] | None:
    """Return the first and last frame that each time slice of maps covers; None for inputs without time."""
    if look.clips is None or maps.ndim != 5:
        return None
    return frame_spans(maps.shape[2], look.grid[0], None if centers is None else centers[0])


def _distinct(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return findings of which each says something else."""
    # A text is complete by itself, and faster to compare than all of a finding.
    return tuple({finding.text: finding for finding in findings}.values())


def _remarks(seen: Seen) -> Iterator[Finding]:
    """Yield what concerns all maps: the choice of the layer, and notes of the pass and of the views."""
    for layer in seen.layers:
        if isinstance(layer, Chosen) and layer.why:
            yield Finding("default layer", None, None, layer.why)
    yield from (Finding("input", None, None, place.note) for place in seen.at if place.note)
    notes = [*_assumed(seen), *seen.recorded.notes, *_pooled(seen.method, seen.target)]
    yield from map(note, [*notes, *[text for view in seen.views for text in view.notes]])


def _of_grids(seen: Seen) -> list[Finding]:
    alone = len(seen.views) == 1
    return [finding for view in seen.views for finding in view.remarks(alone)]


def _assumed(seen: Seen) -> Iterator[str]:
    """Yield what was assumed of the preprocessing that made the inputs."""
    preprocess = seen.method.preprocess
    if not seen.batch.prepared or not isinstance(preprocess, (Preprocess, ClipPreprocess)):
        return
    if preprocess.assumption:
        yield preprocess.assumption


def _pooled(method: Recipe, target: Target) -> Iterator[str]:
    """Yield that a method forgets the place that a score is of."""
    if target.has_place and getattr(method, "pools", False):
        yield (
            f"{method.name} averages gradients over the grid, and so forgets the place that the score is of: "
            "its map may lie on another object of the class; take ODAM or HiResCAM"
        )
