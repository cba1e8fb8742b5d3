"""How often a classifier is right, in figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from chronocam.jsonable import Json
from chronocam.metrics import bootstrap


def accuracy(truth: Int[np.ndarray, " clip"], found: Int[np.ndarray, " clip"], labels: Sequence[str]) -> Json:
    """Return the share named right with its 95 % interval, and that of each class."""
    right = (truth == found).astype(float)
    interval = bootstrap(right)
    recall = {label: _share(right[truth == number]) for number, label in enumerate(labels)}
    return {
        "accuracy": round(interval.mean, 4),
        "interval": [round(interval.low, 4), round(interval.high, 4)],
        "recall": recall,
    }


def confusion(
    truth: Int[np.ndarray, " clip"], found: Int[np.ndarray, " clip"], labels: Sequence[str]
) -> list[Any]:
    """Return how often each class, by row, was taken for which, by column."""
    counts = np.zeros((len(labels), len(labels)), int)
    np.add.at(counts, (truth, found), 1)
    return counts.tolist()


def _share(right: Float[np.ndarray, " clip"]) -> float | None:
    return round(float(right.mean()), 4) if len(right) else None
