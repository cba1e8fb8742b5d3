"""Arrays of features from files."""

from __future__ import annotations

import tokenize
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float

from chronocam.errors import InputError, MediaError
from chronocam.runs.inputs import ARRAY_SUFFIX

# NumPy parses a file's header as Python literals, and reports damage in whatever way the parser happens to.
_DAMAGE: Final = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    tokenize.TokenError,
    TypeError,
    OverflowError,
)


def read_features(path: Path) -> Float[np.ndarray, "time feature"]:
    """Read an array of one sequence; see `read_array`. Raises InputError for other shapes."""
    features = read_array(path, "(time, feature)")
    if features.ndim != 2:
        raise InputError(
            f"`{path}` has shape {features.shape}; expected (time, feature), one sequence per file"
        )
    return features


def read_array(path: Path, expected: str) -> np.ndarray:
    """Read an array of floating-point numbers; no code in the file is run.

    expected: its axes, in words.
    Raises MediaError for a file that is not an array, InputError for an empty one, other types, and NaN.
    """
    try:
        # Memory-mapped, a file that is shorter than it says is refused before memory is taken for it.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except _DAMAGE as error:
        todo = f"expected {ARRAY_SUFFIX} with numbers {expected}, as numpy.save writes it"
        raise MediaError(f"`{path}` cannot be read; {todo}; pickled objects are refused") from error
    if not isinstance(mapped, np.ndarray):
        raise MediaError(f"`{path}` is an archive of arrays; give each as {ARRAY_SUFFIX}")
    if not mapped.ndim or 0 in mapped.shape:
        raise InputError(f"`{path}` has shape {mapped.shape}; expected {expected}, one sequence per file")
    if not np.issubdtype(mapped.dtype, np.floating):
        raise InputError(f"`{path}` holds {mapped.dtype}; expected floating-point numbers, such as float32")
    values = np.array(mapped, dtype=mapped.dtype.newbyteorder("="))
    if bad := int((~np.isfinite(values)).sum()):
        raise InputError(f"`{path}` holds {bad} NaN or infinite values of {values.size}; replace those")
    return values
