"""Arrays as a page holds them: eight bits, deflated, in base64."""

from __future__ import annotations

import base64
import zlib
from typing import Any, Final

import numpy as np
from jaxtyping import Float

ZERO: Final = 128  # of signed values: byte = 128 + 127 · value
"""Unsigned values in [0, 1] are byte / 255."""


def packed(values: Float[np.ndarray, "*shape"], signed: bool) -> str:
    """Return values in [0, 1], or in [−1, 1] where they are signed, each as one byte."""
    scaled = ZERO + 127 * values if signed else 255 * values
    raw = np.rint(scaled).astype(np.uint8).tobytes()
    return base64.b64encode(zlib.compress(raw, 9)).decode()


def rounded(values: Any, digits: int = 5) -> Any:
    """Return numbers with so many significant digits, as lists; what is not finite, which JSON lacks, as None."""
    if isinstance(values, (list, tuple)) or (isinstance(values, np.ndarray) and values.ndim):
        return [rounded(value, digits) for value in values]
    return float(f"{float(values):.{digits}g}") if np.isfinite(values) else None
