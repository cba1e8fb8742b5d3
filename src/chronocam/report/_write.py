"""The page of explanations that are at hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chronocam.errors import MediaError
from chronocam.explanation import WRITERS, Explanation
from chronocam.media.files import replace_file
from chronocam.report.items import Shown, items_of
from chronocam.report.page import page
from chronocam.sequence import SequenceExplanation


def write(
    path: str | Path,
    explanations: Shown | Explanation | SequenceExplanation,
    inputs: Any = None,
    *,
    title: str | None = None,
    model: str = "",
) -> Path:
    """Write a page that shows explanations of the same samples, which can be put side by side.

    explanations: by what they are to be called, such as `cc.explain` returns; or one.
    inputs: what they are drawn on, as for `Explanation.overlay`; None for the pictures that they were saved
        with, or else the bare maps.
    title: of the page; None for the name of the file. model: what the page says of the model.

    The same explanations give the same bytes. Raises InputError for explanations of different samples, and
    for maps that are neither of pictures nor of clips; MediaError for another suffix or a place that cannot
    be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".html":
        raise MediaError(f"cannot write a page as `{path.name}`; expected .html")
    named = explanations if isinstance(explanations, Mapping) else {explanations.method: explanations}
    shown = {name: _with_pictures(one, inputs) for name, one in named.items()}
    text = page(path.stem if title is None else title, items_of(shown, model))
    return replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _with_pictures(one: Explanation | SequenceExplanation, inputs: Any) -> Explanation | SequenceExplanation:
    return one.with_pictures(inputs) if inputs is not None and isinstance(one, Explanation) else one


WRITERS[".html"] = write
