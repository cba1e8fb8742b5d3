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
    return encoded(zlib.compress(raw, 9))


def encoded(file: bytes) -> str:
    """Return the bytes of a file as a page holds them."""
    return base64.b64encode(file).decode()


def number(value: float, digits: int = 5) -> float | None:
    """Return a number with so many significant digits; None for NaN and infinity, which JSON lacks."""
    return float(f"{float(value):.{digits}g}") if np.isfinite(value) else None


def numbers(values: Any, digits: int = 5) -> list[float | None]:
    """Return each of some numbers with so many significant digits."""
    return [number(value, digits) for value in values]
