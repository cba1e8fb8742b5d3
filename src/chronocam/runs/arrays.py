"""Arrays of features from files."""

from __future__ import annotations

import csv
import tokenize
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float

from chronocam.errors import InputError, MediaError
from chronocam.runs.inputs import ARRAY_SUFFIX, TABLE_SUFFIX

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
        more = "; explain volumes and arrays of clips in Python" if features.ndim > 2 else ""
        raise InputError(
            f"`{path}` has shape {features.shape}; expected (time, feature), one sequence per file{more}"
        )
    return features


def read_array(path: Path, expected: str) -> np.ndarray:
    """Read an array of floating-point numbers; no code in the file is run.

    expected: its axes, in words.
    Raises MediaError for a file that is not an array, InputError for an empty one, other types, and NaN.
    """
    values = _of_table(path, expected) if path.suffix.lower() == TABLE_SUFFIX else _of_file(path, expected)
    if bad := int((~np.isfinite(values)).sum()):
        raise InputError(f"`{path}` holds {bad} NaN or infinite values of {values.size}; replace those")
    return values


def _of_file(path: Path, expected: str) -> np.ndarray:
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
        raise InputError(
            f"`{path}` holds {mapped.dtype}; expected floating-point numbers, such as float32, scaled as the "
            "model was trained"
        )
    return np.array(mapped, dtype=mapped.dtype.newbyteorder("="))


def _of_table(path: Path, expected: str) -> np.ndarray:
    """Return the rows of a table, without a line of names and the column that pandas numbers them by."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        rows = list(csv.reader(lines, delimiter=max(",;\t", key=lines[0].count))) if lines else []
    except (OSError, ValueError, csv.Error) as error:
        raise MediaError(
            f"`{path}` cannot be read as a table; expected rows of numbers {expected}"
        ) from error
    named = bool(rows) and _are_names(rows[0])
    numbered = named and not rows[0][0]
    rows = [row[numbered:] for row in rows[named:]]
    if not rows:
        raise InputError(f"`{path}` holds no rows; expected numbers {expected}, one sequence per file")
    for at, row in enumerate(rows, 1 + named):
        wrong = next((cell for cell in row if not _is_number(cell)), None)
        if wrong is not None or len(row) != len(rows[0]):
            what = (
                f"{len(row)} values, the first {len(rows[0])}" if wrong is None else f"`{wrong}`, no number"
            )
            raise InputError(f"row {at} of `{path}` holds {what}; expected numbers {expected}")
    return np.array(rows, dtype=np.float64)


def _are_names(row: list[str]) -> bool:
    """Say whether a first row holds names of columns, or the numbers that pandas writes for such without."""
    return not all(map(_is_number, row)) or (len(row) > 1 and row == [str(at) for at in range(len(row))])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
