"""Targets of detectors: boxes, one column each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np

from chronocam.detections import Adapter, Detection, Kept, Rows, adapter_for, finds_boxes
from chronocam.detections.adapters import AdapterLike
from chronocam.detections.record import Corners, name_of
from chronocam.detections.rows import Size, overlaps, picked
from chronocam.errors import TargetError, check_real, check_whole
from chronocam.maps.arrays import like, namespace, to_numpy, widen
from chronocam.targets.classes import PredictedByDefault
from chronocam.targets.labels import find_label
from chronocam.types import Array, BoxInfo, Outputs, Scored, Target, TargetInfo
from chronocam.types.targets import NO_FURTHER

Of: TypeAlias = Literal["score", "class", "objectness", "x0", "y0", "x1", "y1", "iou"]
"""What of a box is explained."""

SIDES: Final = ("x0", "y0", "x1", "y1")
MIN_SCORE: Final = 0.3
"""From which score a box counts as found, unless another is given."""

SAME: Final = 0.02
"""How far the sides of a detection and of its row may differ, as a share of the image's longer side."""

NEAR: Final = 0.1
"""The IoU with a box that was asked for, below which no row is near it."""


@dataclass(frozen=True)
class Boxes(Target):
    """Boxes that a detector finds, each a column of one pass, with a map on the level that it comes from.

    found: what `cc.detect` found, some of it (`found[:3]`), or one of it. Without any, boxes are chosen in
        each
        picture: all of `min_score`, the `top` best, those of a `label`, or the one nearest to a `box`.
    top: how many of the best, whatever their score.
    index: which of those found, from the best, by number; of a `label` where there is one.
    label: a class, by name or index.
    box: `(x0, y0, x1, y1)` in pixels of the input; the row with the greatest IoU times score is taken.
    of: `"score"` is the logarithm of the detection's score, `"class"` and `"objectness"` are logits, `"x0"`,
        `"y0"`, `"x1"`, `"y1"` sides in pixels, `"iou"` the overlap with `box`; maps of the last five are
        signed.
    min_score: the least score; None is 0.3, and 0 with `top`.
    adapter, boxes: how the model's rows are read; see `cc.detect`.

    Pictures with fewer boxes than others have columns of NaN, which pictures and pages skip.

    Example:
    >>> explanation = cc.ODAM(detector).explain(photos, cc.targets.Boxes(top=2))
    >>> explanation.maps.shape, explanation.targets[0][0].box
    ((2, 2, 8, 8), (3.0, 3.0, 9.0, 9.0))
    """

    found: Detection | Sequence[Detection] | None = None
    top: int | None = None
    index: int | None = None
    label: int | str | None = None
    box: Corners | None = None
    of: Of = "score"
    min_score: float | None = None
    adapter: AdapterLike = None
    boxes: str | None = None

    def __post_init__(self) -> None:
        if self.of not in get_args(Of):
            raise TargetError(f"no `{self.of}` of a box; choose one of {', '.join(get_args(Of))}")
        if self.of == "iou" and self.box is None:
            raise TargetError('of="iou" is the overlap with a box; give box=(x0, y0, x1, y1)')
        if self.top is not None:
            check_whole("top", self.top, "how many boxes, at least 1")
        if self.index is not None:
            check_whole("index", self.index, "the number of a box, from 0", least=0)
        if self.min_score is not None:
            check_real("min_score", self.min_score, "a probability from 0 to 1", most=1)
        if self.found is not None:
            self._check_found()
        if self.found is not None and any(
            x is not None for x in (self.top, self.index, self.label, self.box)
        ):
            raise TargetError("give what was found, or top=, index=, label= or box= to choose by; not both")
        if self.box is not None and not _is_box(self.box):
            raise TargetError(f"box={self.box!r}; expected (x0, y0, x1, y1) in pixels, x0 < x1 and y0 < y1")

    def _check_found(self) -> None:
        """Raise TargetError for what was not found by `cc.detect`, and where nothing was."""
        found = self.found
        every = [found] if isinstance(found, Detection) else found
        if not isinstance(every, Sequence) or not all(isinstance(one, Detection) for one in every):
            kind = {str: "label", int: "index"}.get(type(found))
            other = "top=, index=, label= or box=" if kind is None else f"Boxes({kind}={found!r})"
            raise TargetError(f"{found!r} is nothing that cc.detect found; choose boxes by {other}")
        if not every:
            raise TargetError("nothing was found, so there is no box to explain; see min_score= of cc.detect")

    @property
    def _detections(self) -> tuple[Detection, ...]:
        found = self.found
        return (found,) if isinstance(found, Detection) else tuple(found or ())

    def of_model(self, model: Any, size: tuple[int, ...], samples: int | None) -> Target:
        """Return the target for a model, whose rows it knows how to read."""
        if len(size) != 2:
            raise TargetError(f"boxes are of pictures; the inputs have the grid {size}")
        detections = self._detections
        adapter = self.adapter or (detections[0].adapter if detections else None)
        if isinstance(adapter, Adapter):
            adapter = replace(adapter, model=model)
        if samples == 1 and len({one.image for one in detections}) == 1:
            detections = tuple(replace(one, image=0) for one in detections)
        last = max((one.image for one in detections), default=0)
        if samples is not None and last >= samples:
            raise TargetError(
                f"a box of image {last} is asked for, and the call has {samples}; give the images that "
                "cc.detect was given"
            )
        return BoxesOf(self, adapter_for(model, adapter, self.boxes), (size[0], size[1]), detections)

    def __call__(self, outputs: Outputs) -> Scored:
        """Refuse, since rows are read by the model."""
        raise TargetError("boxes go with a model that is called plainly; leave operator= out")


@dataclass(frozen=True)
class Choice:
    """A row that is explained, for one class."""

    row: int
    index: int
    box: Corners
    score: float
    level: int


class BoxesByDefault(PredictedByDefault):
    """The predicted class, or of a detector the boxes that it finds, where no target is given."""

    def of_model(self, model: Any, size: tuple[int, ...], samples: int | None) -> Target:
        """Return the boxes of a detector, and else the predicted class."""
        return Boxes().of_model(model, size, samples) if finds_boxes(model) else self


class BoxesOf(Target):
    """Boxes of one model and batch of inputs: what they are is decided once, in the unperturbed pass.

    size: height and width of the inputs. detections: those asked for, by the number of the sample.
    level: where it is given, score and sides of the best row of that level stand for what was asked for, or
        those of the one box that is chosen.
    similar: whether the score is how much the best row is like the box, as D-RISE has it.
    """

    has_place = True

    def __init__(
        self,
        asked: Boxes,
        adapter: Adapter,
        size: Size,
        detections: tuple[Detection, ...] = (),
        level: int | None = None,
        similar: bool = False,
        chosen: dict[int, list[Choice]] | None = None,
    ) -> None:
        self.asked = asked
        self.adapter = adapter
        self.size = size
        self.detections = detections
        self.level = level
        self.is_similarity = similar
        self.signed: bool = asked.of in (*SIDES, "iou") and not similar
        self.reads: Sequence[str] = adapter.reads
        self.layers: tuple[str, ...] = adapter.layers
        self.count: int = 1  # how many levels there are, as far as a pass has shown
        self.empty: bool = False  # whether the model has left no row at all in the last pass
        self.levelled: bool = False  # whether the rows say of which level they are
        self._chosen: dict[int, list[Choice]] = {} if chosen is None else chosen
        self._vectors: dict[int, np.ndarray] = {}  # class probabilities of the boxes, for their likeness
        self._only: int | None = None

    def of_every_sample(self, number: int) -> BoxesOf:
        """Return the target that explains the boxes chosen in one sample in every sample."""
        same = copy(self)
        same._only = number
        return same

    @property
    def levels(self) -> tuple[int, ...] | None:
        """The levels of what is explained; None where only a pass can say."""
        if self.detections:
            return tuple(sorted({one.level for one in self.detections}))
        return None

    def at_level(self, level: int) -> BoxesOf:
        """Return score and sides of the best row of a level: its layer is the one that both come from."""
        return BoxesOf(self.asked, self.adapter, self.size, level=level)

    def alone(self, number: int, info: BoxInfo) -> BoxesOf:
        """Return score and sides of one box of a sample, for its layer."""
        chosen = {number: [one for one in self._chosen[number] if _is(one, info)]}
        return BoxesOf(self.asked, self.adapter, self.size, level=info.level, chosen=chosen)

    def lift(self, infos: Iterable[tuple[int, BoxInfo]], level: int) -> None:
        """Move boxes, each given with the number of its sample, to another level."""
        for number, info in infos:
            self._chosen[number] = [
                replace(one, level=level) if _is(one, info) else one for one in self._chosen[number]
            ]

    def similar(self) -> BoxesOf:
        """Return the same boxes scored by how much the most alike row is like each."""
        one = BoxesOf(self.asked, self.adapter, self.size, self.detections, similar=True, chosen=self._chosen)
        one.count = self.count
        return one

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the scores of the boxes. Raises TargetError for boxes that the model does not have."""
        read = {path: outputs.read[path] for path in self.reads}
        every = self.adapter.rows(outputs.raw, read, [self.size] * outputs.batch)
        self.empty = not any(map(len, every))
        numbers = np.arange(outputs.least)[outputs.rows] if isinstance(outputs.rows, slice) else outputs.rows
        choices = [self._choices(int(n), rows, outputs) for n, rows in zip(numbers, every, strict=True)]
        width = max(1, *map(len, choices)) if choices else 1
        parts = [
            self._scores(i, int(n), rows, own, width, outputs)
            for i, (n, rows, own) in enumerate(zip(numbers, every, choices, strict=True))
        ]
        infos = tuple(
            (*(self._info(one, rows, outputs) for one in own), *self._missing(own, width - len(own), outputs))
            for own, rows in zip(choices, every, strict=True)
        )
        return Scored(namespace(parts[0]).stack(parts), infos)

    def _choices(self, number: int, rows: Rows, outputs: Outputs) -> list[Choice]:
        """Return what is explained of a sample: chosen at its first pass, and then held fixed."""
        self.levelled = rows.level is not None
        if rows.level is not None:
            self.count = int(rows.level.max()) + 1
        if self.level is not None:
            return self._chosen.get(number, []) if self._chosen else self._best_of_level(rows)
        number = number if self._only is None else self._only
        if number not in self._chosen:
            self._chosen[number] = self._choose(number, rows, outputs)
            return self._chosen[number]
        chosen = self._chosen[number]
        return chosen if rows.stable or self.is_similarity else self._moved(chosen, rows)

    def _best_of_level(self, rows: Rows) -> list[Choice]:
        scores = rows.scores()
        if not scores.size:
            return []
        if rows.level is not None:
            scores = np.where((rows.level == self.level)[:, None], scores, 0)
        row, index = np.unravel_index(int(scores.argmax()), scores.shape)
        return [self._choice(int(row), int(index), float(scores[row, index]), rows)]

    def _choose(self, number: int, rows: Rows, outputs: Outputs) -> list[Choice]:
        asked = self.asked
        if self.detections:
            return [self._found(one, rows) for one in self.detections if one.image == number]
        index = None if asked.label is None else _class_of(asked.label, rows, outputs)
        if asked.box is not None:
            return self._nearest(asked.box, index, rows)
        least = asked.min_score if asked.min_score is not None else 0.0 if asked.top else MIN_SCORE
        kept = self.adapter.suppression(rows, self.size, least, only=index, top=asked.top)
        if asked.index is not None:
            kept = kept[asked.index : asked.index + 1]
        return [self._from_kept(one, rows) for one in kept]

    def _found(self, one: Detection, rows: Rows) -> Choice:
        """Return the row of a detection. Raises TargetError where another box lies there by now."""
        is_row = one.row < len(rows) and one.index < rows.classes.shape[1]
        away = np.subtract(self._box(one.row, one.index, rows), one.box) if is_row else np.inf
        if np.abs(away).max() > SAME * max(self.size):
            raise TargetError(
                f"row {one.row} of the model is not {one}; the box is of another image, size or model: call "
                "cc.detect with these inputs"
            )
        return Choice(one.row, one.index, one.box, one.score, one.level)

    def _nearest(self, box: Corners, index: int | None, rows: Rows) -> list[Choice]:
        """Return the row near a box with the greatest IoU times score; none where no row is near."""
        scores = rows.scores()
        if index is not None:
            scores = np.where(np.arange(scores.shape[1]) == index, scores, 0)
        best = scores.argmax(axis=1)
        boxes = to_numpy(rows.boxes_of(best)).astype(np.float64)
        near = overlaps(boxes, np.asarray([box], np.float64))
        if near.max(initial=0) < NEAR:
            return []
        row = int(np.where(near < NEAR, -1, near * scores.max(axis=1)).argmax())
        return [self._choice(row, int(best[row]), float(scores[row, best[row]]), rows)]

    def _moved(self, chosen: list[Choice], rows: Rows) -> list[Choice]:
        """Return the rows that take the place of the chosen ones, where rows have no place of their own."""
        moved, scores = [], rows.scores()
        for one in chosen:
            if self._stays(one, rows):
                moved.append(one)
                continue
            boxes = to_numpy(rows.boxes_of(np.full(len(rows), one.index))).astype(np.float64)
            of_class = scores[:, one.index] > 0
            row = int((overlaps(boxes, np.asarray([one.box])) * of_class).argmax())
            level = one.level if rows.level is None else _level(rows, row)
            moved.append(replace(one, row=row, level=level))
        return moved

    def _stays(self, one: Choice, rows: Rows) -> bool:
        """Say whether the row of a chosen box still holds that box, as in a second pass of the same input."""
        is_row = one.row < len(rows) and one.index < rows.classes.shape[1]
        return is_row and np.allclose(self._box(one.row, one.index, rows), one.box, rtol=0, atol=1e-3)

    def _from_kept(self, one: Kept, rows: Rows) -> Choice:
        return Choice(one.row, one.index, one.box, one.score, _level(rows, one.row))

    def _choice(self, row: int, index: int, score: float, rows: Rows) -> Choice:
        return Choice(row, index, self._box(row, index, rows), score, _level(rows, row))

    def _box(self, row: int, index: int, rows: Rows) -> Corners:
        height, width = self.size
        (box,) = to_numpy(rows.at([row]).boxes_of(np.asarray([index]))).astype(np.float64)
        x0, y0, x1, y1 = np.clip(box, 0, [width, height, width, height]).tolist()
        return x0, y0, x1, y1

    def _scores(
        self, at: int, number: int, rows: Rows, chosen: list[Choice], width: int, outputs: Outputs
    ) -> Array:
        """Return the scores `(width,)` of one sample of the batch, 0 where there are fewer boxes."""
        classes = widen(rows.classes)
        xp = namespace(classes)
        empty = xp.zeros_like(xp.sum(classes, axis=0)[:1])  # there may be no rows
        if not chosen:
            return xp.concat([empty] * width)
        likeness = self._likeness(number, rows, chosen) if self.is_similarity else None
        values = self._values(at, rows, chosen, outputs) if likeness is None else likeness
        return xp.concat([values, *[empty] * (width - len(chosen))])

    def _values(self, at: int, rows: Rows, chosen: list[Choice], outputs: Outputs) -> Array:
        few, of = rows.at([one.row for one in chosen]), self.asked.of
        index = np.asarray([one.index for one in chosen])
        if self.level is not None:
            sides = widen(few.boxes_of(index))
            return picked(few.log_scores(), index) + namespace(sides).sum(sides, axis=1)
        if of == "score":
            return picked(few.log_scores(), index)
        if of == "class":
            return picked(few.logits(), index)
        if of == "objectness":
            if few.objectness is None:
                raise TargetError('the model has no objectness; explain of="score" or of="class"')
            return few.objectness_logits()
        boxes = widen(few.boxes_of(index))
        if of == "iou":
            return overlaps(boxes, like(np.asarray([self.asked.box], np.float32), boxes))
        return boxes[:, SIDES.index(of)]

    def _likeness(self, number: int, rows: Rows, chosen: list[Choice]) -> Array:
        """Return max over rows of IoU × cosine of class probabilities × objectness: D-RISE, eq. 3 to 5."""
        boxes, classes = to_numpy(widen(rows.boxes)).astype(np.float64), self._probabilities(rows)
        objectness = rows.objectness_share()
        weight = 1.0 if objectness is None else objectness
        if number not in self._vectors:
            self._vectors[number] = classes[[one.row for one in chosen]]
        values = []
        for one, vector in zip(chosen, self._vectors[number], strict=True):
            own = boxes if boxes.ndim == 2 else boxes[:, one.index]
            cosine = (
                classes @ vector / np.maximum(np.linalg.norm(classes, axis=1) * np.linalg.norm(vector), 1e-12)
            )
            values.append(float((overlaps(own, np.asarray([one.box])) * cosine * weight).max(initial=0)))
        return like(np.asarray(values, np.float32), widen(rows.classes))

    def _probabilities(self, rows: Rows) -> np.ndarray:
        probabilities = replace(rows, objectness=None, power=1.0).scores()
        return np.asarray(probabilities)

    def _info(self, one: Choice, rows: Rows, outputs: Outputs) -> TargetInfo:
        name = name_of(outputs.label(one.index), one.box)
        of = self.asked.of
        return BoxInfo(
            name if of == "score" or self.is_similarity else f"{of} of {name}",
            one.index,
            box=one.box,
            score=one.score,
            row=one.row,
            level=one.level,
            extent=rows.extent,
        )

    def _missing(self, chosen: list[Choice], count: int, outputs: Outputs) -> list[TargetInfo]:
        """Return what so many columns are called that a sample does not have."""
        further = [BoxInfo(NO_FURTHER)] * count
        if chosen or not count:
            return [*further]
        asked = self.asked
        if asked.box is not None:
            where = f"no box near {tuple(asked.box)} (x0, y0, x1, y1 in pixels of the input)"
            return [BoxInfo(where), *further[1:]]
        named = (
            asked.label if isinstance(asked.label, str) or asked.label is None else outputs.label(asked.label)
        )
        what = "no box" if named is None else f"no `{named}`"
        if asked.index is not None:
            what += f" number {asked.index}"
        least = MIN_SCORE if asked.min_score is None else asked.min_score
        return [BoxInfo(what if self.detections else f"{what} of score {least:g} or more"), *further[1:]]


def _is_box(box: Sequence[float]) -> bool:
    """Say whether numbers are the corners of a box."""
    try:
        sides = np.asarray([float(side) for side in box])
    except (TypeError, ValueError):
        return False
    return sides.shape == (4,) and bool(np.isfinite(sides).all() and (sides[:2] < sides[2:]).all())


def _is(one: Choice, info: BoxInfo) -> bool:
    return (one.row, one.index) == (info.row, info.index)


def _level(rows: Rows, row: int) -> int:
    return 0 if rows.level is None else int(rows.level[row])


def _class_of(label: int | str, rows: Rows, outputs: Outputs) -> int:
    """Return the index of a class. Raises TargetError for an unknown one."""
    if isinstance(label, str):
        if outputs.labels is None:
            raise TargetError(
                f"the model carries no labels to find `{label}` in; give the class index, or labels="
            )
        label = find_label(outputs.labels, label)
    count = int(rows.classes.shape[1])
    if not 0 <= int(label) < count:
        raise TargetError(f"no class {label}; the detector has {count}, 0 to {count - 1}")
    if label == rows.background:
        raise TargetError(f"class {label} says that nothing is there; give another class")
    return int(label)
