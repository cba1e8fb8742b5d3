"""Arrays as a page holds them: eight bits, deflated, in base64."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterable
from typing import Final, SupportsFloat

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


def number(value: SupportsFloat, digits: int = 5) -> float | None:
    """Return a number with so many significant digits; None for NaN and infinity, which JSON lacks."""
    plain = float(value)
    return float(f"{plain:.{digits}g}") if math.isfinite(plain) else None


def numbers(values: Iterable[SupportsFloat], digits: int = 5) -> list[float | None]:
    """Return each of some numbers with so many significant digits."""
    return [number(value, digits) for value in values]
