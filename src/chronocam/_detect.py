"""`cc.detect`: what a detector finds in images, as boxes that know their row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chronocam.detections import Adapter, Detection, Detections, adapter_for
from chronocam.detections.adapters import AdapterLike
from chronocam.engines import Result
from chronocam.errors import InputError, check_real
from chronocam.joint.inputs.batches import batches
from chronocam.joint.look.look import Look
from chronocam.joint.look.subject import Subject
from chronocam.layouts.base import Stem
from chronocam.maps.arrays import namespace
from chronocam.models.specs import Loaded
from chronocam.targets.returned import arrays_in
from chronocam.types import Array, Inputs


def detect(
    model: Any,
    images: Inputs,
    min_score: float = 0.3,
    adapter: AdapterLike = None,
    boxes: str | None = None,
    labels: Sequence[str] | None = None,
) -> Detections:
    """Find boxes in images, each of which knows the row of the model that it is.

    model: a detector of torchvision, of Hugging Face, one whose output is rows as those of YOLO, a
        `cc.blackbox`, or what `cc.models.load` returns.
    images: `(batch, channel, height, width)`, what else the model takes (a dict with captions, say), or a
        list of images `(channel, height, width)` of any sizes; with `cc.models.load` also pictures and paths.
    min_score: the least probability of a box.
    adapter: how rows are read, by name, or a function `output -> (boxes, class logits)` or `(boxes, class
        logits, objectness)`, or probabilities, with boxes `(batch, row, 4)` as x0, y0, x1, y1 in pixels; None
        tells it from the model.
    boxes: the form of raw rows, `"xyxy"` or `"cxcywh"`; None tells it from them.
    labels: the names of the classes; None takes those that the model carries.

    Rows are left out as the model itself does it: the best of each class that do not lie on a better one.
    Raises ModelError for a model in whose output no boxes are known.

    Example:
    >>> found = cc.detect(detector, photos, labels=["red", "green"])
    >>> found[0].label, found[0].box, found[0].row
    ('red', (3.0, 3.0, 9.0, 9.0), 9)
    """
    check_real("min_score", min_score, "a probability from 0 to 1", most=1)
    if isinstance(labels, str):
        raise InputError("labels= is a str; expected a list of names, one per class")
    preprocess = None
    if isinstance(model, Loaded):
        labels = model.labels if labels is None else labels
        model, preprocess = model.model, model.preprocess
    subject = Subject(model)
    reader = adapter_for(getattr(subject.engine, "model", model), adapter, boxes)
    detections: list[Detection] = []
    count = 0
    stem = subject.engine.stem or Stem(2, 3)
    for batch in batches(images, None, 8, preprocess, stem=stem):
        look = Look(subject, subject.adapt(batch.inputs), shared=batch.shared)
        detections += _found(look, reader, count, min_score, labels)
        count += look.shape[0]
    return Detections(tuple(detections), count)


def _found(
    look: Look, adapter: Adapter, start: int, min_score: float, labels: Sequence[str] | None
) -> list[Detection]:
    """Return what is found in one batch."""
    if len(look.grid) != 2:
        raise InputError(f"boxes are found in pictures; the inputs have shape {look.shape}")
    detections: list[Detection] = []
    names = look.engine.labels if labels is None else labels
    size = (look.grid[0], look.grid[1])

    def score(result: Result) -> Array:
        detections.clear()  # an engine may score twice
        read = {path: calls[-1] for path, calls in result.outputs.items()}
        rows = adapter.rows(result.raw, read, [size] * look.shape[0])
        for image, own in enumerate(rows, start):
            for one in adapter.suppression(own, size, min_score):
                known = names is not None and one.index < len(names)
                label = names[one.index] if names is not None and known else f"class {one.index}"
                level = 0 if own.level is None else int(own.level[one.row])
                detections.append(
                    Detection(image, one.box, label, one.index, one.score, one.row, level, adapter)
                )
        first = arrays_in(result.raw)
        like = first[0] if first else rows[0].classes
        xp = namespace(like)
        return xp.zeros((look.shape[0], 1), dtype=like.dtype, device=getattr(like, "device", None))

    look.engine.scores(look.inputs, score, None, adapter.reads)
    return detections
