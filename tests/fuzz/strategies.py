"""How whole things are damaged: bytes, JSON, arrays and words."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st

_SIZES: Final = (0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
_ODD: Final = "\x00\x1b[31m\n\r\u2028\u202e\u200d\ud800\udcff猫é{}[]()<>&\"'`$%\\/:;,.@#-+*?=| "

LETTERS: Final = st.one_of(st.sampled_from(_ODD), st.characters(), st.sampled_from("0123456789catdog"))
WORDS: Final = st.one_of(st.text(LETTERS, max_size=30), st.text(LETTERS, min_size=300, max_size=6000))


@st.composite
def damaged(draw: st.DrawFn, wholes: Sequence[bytes]) -> bytes:
    """Return one of some files after a few changes of its bytes."""
    data = bytearray(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(data)))
        count = draw(st.one_of(st.integers(1, 8), st.integers(1, max(1, len(data)))))
        how = draw(st.sampled_from(["flip", "number", "text", "cut", "remove", "repeat", "zero", "other"]))
        if how == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "number":
            order: Any = draw(st.sampled_from(["little", "big"]))
            data[at : at + 4] = draw(st.sampled_from(_SIZES)).to_bytes(4, order)
        elif how == "text":
            data[at:at] = draw(st.binary(max_size=16))
        elif how == "cut":
            del data[at:]
        elif how == "remove":
            del data[at : at + count]
        elif how == "repeat":
            data[at:at] = data[at : at + count]
        elif how == "zero":
            data[at : at + count] = bytes(len(data[at : at + count]))
        else:
            data[at:] = draw(st.sampled_from(wholes))[at:]
    return bytes(data)


PLAIN: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.sampled_from([2**31, 2**53 + 1, -(2**63), 10**30, 10**400]),
    st.floats(),
    WORDS,
    st.sampled_from(["picture.npz", "clip.npz", "steps.npz", "..", "", "/etc/passwd"]),
)
JSON: Final = st.recursive(
    PLAIN, lambda of: st.lists(of, max_size=4) | st.dictionaries(WORDS, of, max_size=3), max_leaves=8
)


@st.composite
def changed(draw: st.DrawFn, whole: Any) -> Any:
    """Return a JSON value with a few of its parts removed, repeated or replaced."""
    value = copy.deepcopy(whole)
    for _ in range(draw(st.integers(0, 2))):
        value = _changed_once(draw, value)
    return value


def _changed_once(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, (int, float)) and draw(st.booleans()):
        return value + draw(st.sampled_from([-1, 1, 3, 40, 0.5, -1e6, 1e6, 1e308]))
    if not isinstance(value, (list, dict)) or not value or draw(st.integers(0, 9)) == 0:
        return draw(JSON)
    key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    how = draw(st.sampled_from(["inside", "inside", "inside", "remove", "add"]))
    if how == "inside":
        value[key] = _changed_once(draw, value[key])
    elif how == "remove":
        del value[key]
    elif isinstance(value, dict):
        value[draw(WORDS)] = draw(JSON)
    else:
        value.insert(key, copy.deepcopy(value[key]))
    return value


@st.composite
def reshaped(draw: st.DrawFn, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays of which a few are gone, of another type or shape, or not finite."""
    parts = dict(arrays)
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from([*arrays, "surprise"]))
        how = draw(st.sampled_from(["remove", "type", "shape", "value"]))
        if how == "remove":
            parts.pop(name, None)
        elif how == "type" and name in parts:
            kinds = ["f2", "f4", "f8", ">f4", "i8", "u1", "?", "U3", "c8", "M8[s]"]
            with np.errstate(all="ignore"):
                parts[name] = np.zeros(parts[name].shape, draw(st.sampled_from(kinds)))
        elif how == "value" and name in parts and parts[name].dtype.kind == "f":
            odd = [np.nan, np.inf, -np.inf, 1e30, 0.0, -1.0]
            parts[name] = np.full_like(parts[name], draw(st.sampled_from(odd)))
        else:
            shape = draw(st.lists(st.integers(0, 4), max_size=6))
            parts[name] = np.ones(shape, np.float32)
    return parts
