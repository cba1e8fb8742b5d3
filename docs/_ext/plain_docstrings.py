"""Docstrings as reStructuredText: plain text with `code`, and a line `name: what it is` for an argument."""

import re
from collections.abc import Iterator
from dataclasses import fields
from textwrap import dedent
from typing import Any

from chronocam.methods import CAMMethod, GradientMethod, Method
from chronocam.sequence import SequenceMethod

ARGUMENT = re.compile(r"([a-z_]\w*(?:, [a-z_]\w*)*): (.*)")
MARKS = re.compile(r"(?<!\w)`[^`]+`(?!\w)|([*|\\_`])")
PARAGRAPHS = ("Raises ", "Returns ", "Source: ")
BASES = (Method, CAMMethod, GradientMethod, SequenceMethod)


def to_rst(text: str) -> Iterator[str]:
    """Yield a docstring's lines with its marks escaped, its arguments as a list, and its example as code."""
    prose, _, example = text.partition("\nExample:\n")
    yield from _prose_to_rst(prose)
    if example:
        yield from ("", ".. rubric:: Example", "", *dedent(example).splitlines(), "")


def _prose_to_rst(text: str) -> Iterator[str]:
    listed = False
    for line in escaped(text).splitlines():
        found = ARGUMENT.fullmatch(line.replace("\\_", "_"))
        listed = listed and bool(line.strip()) and not line.startswith(PARAGRAPHS)
        if (found and not listed) or line.startswith(PARAGRAPHS):
            yield ""
        if found:
            names = ", ".join(f"``{name}``" for name in found[1].split(", "))
            yield f"- {names}: {line.partition(': ')[2]}"
        else:
            yield f"  {line.strip()}" if listed else line
        listed = listed or bool(found)


def escaped(text: str) -> str:
    """Return text in which only `code` means anything to reStructuredText."""
    return MARKS.sub(lambda mark: f"\\{mark[1]}" if mark[1] else mark[0], text)


def own_options(cls: type) -> str:
    """Return the signature of a method with the options that it adds; all share those of their base."""
    inherited = {
        field.name for base in BASES if cls is not base and issubclass(cls, base) for field in fields(base)
    }
    added = [f"{field.name}={field.default!r}" for field in fields(cls) if field.name not in inherited]
    places = ["model"] if issubclass(cls, SequenceMethod) else ["model", "conv_layer=None"]
    return f"({', '.join([*places, '*', *added, '**shared'] if added else [*places, '**shared'])})"


def _process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = (
        [] if what == "module" else list(to_rst("\n".join(lines)))
    )  # pages introduce modules themselves


def _shorten(app: Any, what: str, name: str, obj: Any, *rest: Any) -> tuple[str, None] | None:
    short = what == "class" and issubclass(obj, BASES) and obj not in (Method, SequenceMethod)
    return (own_options(obj), None) if short else None


def setup(app: Any) -> dict[str, bool]:
    """Let autodoc pass docstrings through `to_rst`, and signatures of methods through `own_options`."""
    app.connect("autodoc-process-docstring", _process)
    app.connect("autodoc-process-signature", _shorten)
    return {"parallel_read_safe": True}
