"""Paths of layers: `relu#1` is a call, `fpn[1]` one of several outputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from chronocam.errors import LayerError, suggest

T = TypeVar("T")

_CALL = re.compile(r"(?P<path>.*)#(?P<call>\d+)$")
_ENTRY = re.compile(r"(?P<path>.*?)(?P<keys>(?:\[[^][]+\])+)$")


@lru_cache(maxsize=1024)
def split_call(layer: str) -> tuple[str, int | None]:
    """Split `relu#1` into the path and the number of the call."""
    match = _CALL.match(layer)
    return (match["path"], int(match["call"])) if match else (str(layer), None)


@lru_cache(maxsize=1024)
def split_entry(layer: str) -> tuple[str, tuple[str, ...]]:
    """Split `fpn[1]` into the path and what leads to one of several outputs; `fpn[a][1]` has two steps.

    The number of a call may follow and is dropped.
    """
    path = split_call(layer)[0]
    match = _ENTRY.match(path)
    return (match["path"], tuple(match["keys"][1:-1].split("]["))) if match else (path, ())


def part_at(output: Any, entry: Sequence[str]) -> Any:
    """Return the part of an output that indices or keys lead to; all of it without any.

    A key comes before an index: of the dict {"0": …, "pool": …} both `pool` and `1` are the second.
    Raises LayerError for a step that does not exist.
    """
    for step in entry:
        parts = parts_of(output)
        if step not in parts and step.isdigit() and int(step) < len(parts):
            step = list(parts)[int(step)]
        if step not in parts:
            names = ", ".join(f"`[{key}]`" for key in parts) or f"one {type(output).__name__}"
            raise LayerError(f"no output `[{step}]`; the layer returns {names}")
        output = parts[step]
    return output


def parts_of(output: Any) -> dict[str, Any]:
    """Return the parts of an output by key, those of tuples and lists by index."""
    if isinstance(output, Mapping):
        return {str(key): part for key, part in output.items()}
    return {str(at): part for at, part in enumerate(output)} if isinstance(output, (tuple, list)) else {}


def child_at(index: int, children: Sequence[T]) -> T:
    """Return a top-level layer by its number. Raises LayerError for one that does not exist."""
    if not -len(children) <= index < len(children):
        raise LayerError(f"no layer {index}; the model has {len(children)} top-level layers")
    return children[index]


def unknown_layer(layer: object, known: Sequence[str], hint: str | None = None) -> LayerError:
    """Return the error for a layer that does not exist. hint: replaces the names closest among `known`.

    Where none is close, the last of the outermost layers are named.
    """
    close = hint if hint is not None else suggest(str(layer), list(known))
    outermost = [path for path in known if "." not in path and "/" not in path]
    if not close and outermost:
        close = f"; the last ones are {', '.join(f'`{path}`' for path in outermost[-4:])};"
    return LayerError(f"no layer `{layer}`{close or ';'} `chronocam layers SPEC` lists them")
