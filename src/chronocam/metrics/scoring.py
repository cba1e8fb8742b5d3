"""The door to a model: a plain callable from inputs to one score per sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chronocam.errors import InputError
from chronocam.maps.arrays import to_numpy

Score = Callable[[np.ndarray], Any]
"""Takes inputs `(batch, …)` and returns scores `(batch,)`.

Measures always call it with the whole batch in its order, so that it may score another class for every
sample.
"""


def scored(score: Score, inputs: np.ndarray) -> np.ndarray:
    """Return the scores of `inputs` in float64.

    Raises InputError unless they are one finite number per sample.
    """
    result = score(inputs)
    values = np.asarray(to_numpy(result) if hasattr(result, "dtype") else result, dtype=np.float64)
    if values.shape != inputs.shape[:1]:
        raise InputError(
            f"score returned shape {values.shape}; expected one score per sample, {inputs.shape[:1]}"
        )
    if not np.isfinite(values).all():
        raise InputError(
            f"score of sample {int(np.argmin(np.isfinite(values)))} is not finite; leave that sample out"
        )
    return values
