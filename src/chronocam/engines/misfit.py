"""Why a model could not take its inputs, in one line: channels, their place, the batch axis, the type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from textwrap import shorten
from typing import Any, Final

from chronocam.errors import first_line
from chronocam.layouts.base import Stem
from chronocam.types import Inputs

FAILURES: Final = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What models raise on inputs that they do not take."""

_MEMORY: Final = ("OutOfMemory", "ResourceExhausted", "RESOURCE_EXHAUSTED")
_NODE: Final = re.compile(r"\{\{.*?\}\} ")  # where TensorFlow found an error, in front of what it is
_SIGHTS = {1: "time", 2: "height, width", 3: "time, height, width"}


def failure(inputs: Inputs, error: Exception) -> str:
    """Return on which inputs a model failed, and what it said. The first axis is not told; see `misfit`."""
    if isinstance(inputs, Mapping):
        shown = ", ".join(f"`{name}` {_described(x)}" for name, x in inputs.items())
    else:
        shown = ", ".join(map(_described, inputs if isinstance(inputs, (tuple, list)) else [inputs]))
    said = shorten(_NODE.sub("", first_line(error)), 200, placeholder=" …")
    hint = ""
    if len(getattr(inputs, "shape", ())) == 4 and (
        "reshape" in said.lower() or "invalid for input of size" in said
    ):
        hint = "; where rows are the frames of clips, frames= says how many a clip has"
    return (
        f"the model fails on inputs {shown} ({type(error).__name__}: {said}); expected the number, sizes and "
        f"types of inputs that it was made for{hint}"
    )


def out_of_memory(error: Exception) -> bool:
    """Say whether an error is that of a full device, which says nothing of the inputs but their size."""
    return any(word in f"{type(error).__name__}{error}" for word in _MEMORY)


def _described(x: Any) -> str:
    if not hasattr(x, "shape"):
        return type(x).__name__
    dtype = getattr(x.dtype, "name", None) or str(x.dtype).removeprefix("torch.")
    return f"{dtype} (…, {', '.join(map(str, x.shape[1:]))})"


NO_FLOATS: Final = (
    "no input holds floating-point numbers, so none can be masked or differentiated; give such numbers, or "
    "explain a layer: conv_layer="
)
"""What is said of inputs such as `uint8` or tokens."""


def misfit(shape: tuple[int, ...], dtype: str, stem: Stem | None) -> str | None:
    """Return what is wrong with an input that a model failed on; None where nothing shows.

    The first axis is not told: it may be a part of what the user gave.
    stem: the first convolution, which has its channels first.
    """
    if stem is None or stem.rank not in _SIGHTS or len(shape) < stem.rank:
        return None
    rank, channels = stem.rank, stem.channels
    rest = ", ".join(map(str, shape[1:]))
    expected = f"(batch, {channels}, {_SIGHTS[rank]})"
    if len(shape) == rank + 2 and shape[1] != channels:
        if shape[-1] == channels:
            order = ", ".join(map(str, (0, rank + 1, *range(1, rank + 1))))
            return f"inputs look channels-last (…, {rest}); expected {expected}: permute({order})"
        todo = _other_channels(shape[1], channels, rank)
        return f"inputs have {shape[1]} channels, (…, {rest}); expected {expected}{todo}"
    if len(shape) == rank + 1 and shape[-1] == channels != shape[0]:
        order = ", ".join(map(str, (rank, *range(rank))))
        return (
            f"inputs look channels-last and without a batch axis (…, {rest}); expected {expected}: "
            f"permute({order})[None]"
        )
    if len(shape) in (rank, rank + 1):
        todo = "give inputs[:, None], or inputs[None, None] of one sample" if channels == 1 else "add axes"
        return f"inputs have {len(shape)} axes, (…, {rest}); expected {expected}: {todo}"
    if "float" not in dtype:
        return f"inputs are {dtype}; expected floating-point numbers: {_to_float(dtype)}"
    return None


def _other_channels(given: int, taken: int, rank: int) -> str:
    if given == 1:
        return f": repeat them, inputs.repeat(1, {taken}, {', '.join(['1'] * rank)})"
    if (given, taken) == (3, 1):
        return ": make them grey, inputs.mean(1, keepdim=True)"
    return ": drop the alpha channel, inputs[:, :3]" if (given, taken) == (4, 3) else ""


def _to_float(dtype: str) -> str:
    if dtype == "uint8":
        return "divide by 255 and normalise, as loaded.preprocess does"
    if "complex" in dtype:
        return "give inputs.abs(), or real and imaginary parts as channels, as the model was trained"
    return "give inputs.float(), normalised as the model was trained"
