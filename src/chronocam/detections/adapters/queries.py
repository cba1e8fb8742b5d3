"""Detectors whose rows are queries: class logits beside boxes as centre and sides, in shares of the input."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np

from chronocam.detections.adapters.base import Adapter
from chronocam.detections.rows import Gate, Rows, Size, corners, scaled
from chronocam.detections.suppress import Suppression
from chronocam.errors import ModelError
from chronocam.maps.arrays import to_numpy
from chronocam.types import Array

_NAMES: Final = (
    ("logits", "pred_boxes"),
    ("pred_logits", "pred_boxes"),
    ("decoder_class_logits", "decoder_coord_logits"),
)
"""What outputs call the class logits and the boxes."""

_OF_SIGMOIDS: Final = re.compile(
    r"(DEFORMABLE|CONDITIONAL|DAB|DN|RF|LW|RT|CO|SMCA|ANCHOR)[-_]?DETR|^DINO$|^MSDEFORM"
)
"""Names of those of DETR's kin, and of their attention, that have a sigmoid for each class."""

_RARE: Final = -2.0
"""The mean bias of a head below which each class begins as a rare one, as a sigmoid's does: at 0.01, −4.6."""


class Queries(Adapter):
    """Rows are queries, detection tokens or patches, as an output names them: `logits` with `pred_boxes`.

    Class logits have a softmax where their last class says that nothing is there, and else a sigmoid each.
    """

    name: ClassVar[str] = "queries"

    @property
    def suppression(self) -> Suppression:
        """None: queries do not lie on each other. A query counts for its best class."""
        return Suppression(None)

    def rows(self, raw: Any, read: Mapping[str, Any], sizes: Sequence[Size]) -> list[Rows]:
        """Return the rows of each image. Raises ModelError for an output that holds none, as in training."""
        named = queries_in(raw)
        if named is None:
            raise ModelError(
                f"a {type(self.model).__name__} returned no logits or pred_logits with pred_boxes; is it "
                "called in training?"
            )
        logits, boxes = named
        count = int(logits.shape[-1])
        softmax = has_background(self.model, count)
        gate: Gate = "softmax" if softmax else "sigmoid"
        background = count - 1 if softmax else None
        return [
            Rows(logits[i], scaled(corners(boxes[i]), *size), gate, background=background)
            for i, size in enumerate(sizes)
        ]


def queries_in(raw: Any) -> tuple[Array, Array] | None:
    """Return class logits and boxes of queries, `(batch, query, …)`; None where an output names none."""
    for names in _NAMES:
        pair = [raw.get(name) if isinstance(raw, Mapping) else getattr(raw, name, None) for name in names]
        if pair[0] is not None and pair[1] is not None:
            return pair[0], pair[1]
    return None


def has_background(model: Any, count: int) -> bool:
    """Say whether the last of so many class logits says that nothing is there, as a softmax needs it.

    A configuration says it, by how many classes it has or by its loss, also that of a model within. Where
    there is none, names of the model and its parts may, and else the biases of the head: a sigmoid's begin
    low, since each class is rare by itself.
    """
    modules = [model, *(model.modules() if hasattr(model, "modules") else ())]
    for config in (getattr(one, "config", None) for one in modules):
        if getattr(config, "use_focal_loss", True) is False:
            return True
        known = getattr(config, "num_labels", None)
        if known is not None:
            # Of queries in words there are as many as a call gives.
            return not hasattr(config, "text_config") and count == known + 1
    if any(name.startswith("DETR") for name in _names(model)):
        return True
    of_sigmoids = any(_OF_SIGMOIDS.search(name) for one in modules for name in _names(one))
    return not of_sigmoids and not _are_rare(model, count)


def _names(module: Any) -> list[str]:
    """Return the names of a module's class and of those that it is made of."""
    return [kind.__name__.upper() for kind in type(module).__mro__]


def _are_rare(model: Any, count: int) -> bool:
    """Say whether the biases of a head of so many classes are low on the mean."""
    every = model.named_parameters() if hasattr(model, "named_parameters") else ()
    biases = [to_numpy(x) for path, x in every if path.endswith("bias") and tuple(x.shape) == (count,)]
    return bool(biases) and float(np.mean(biases)) < _RARE
