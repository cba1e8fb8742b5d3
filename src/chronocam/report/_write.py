"""The page of several explanations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chronocam.errors import MediaError
from chronocam.explanation import Explanation
from chronocam.render.page import items_of, write_page
from chronocam.sequence import SequenceExplanation


def write(
    path: str | Path,
    explanations: Mapping[str, Explanation | SequenceExplanation] | Explanation | SequenceExplanation,
    inputs: Any = None,
    *,
    title: str | None = None,
    model: str = "",
) -> Path:
    """Write a page that shows explanations of the same samples, side by side where the reader wants.

    explanations: by the names that the page shows, such as `cc.explain` returns; or one.
    inputs: what they are drawn on, as for `Explanation.overlay`; None for the pictures that they were saved
        with, or else the bare maps.
    title: of the page; None for the name of the file.
    model: how the page names the model.

    The same explanations give the same bytes. Raises InputError for explanations of different samples, and
    for maps that are neither of pictures nor of clips; MediaError for another suffix or a place that cannot
    be written.

    Example:
    >>> both = cc.explain(model, images, methods=("gradcam", "layercam"))
    >>> cc.report.write("both.html", both, images).name
    'both.html'
    """
    path = Path(path)
    if path.suffix.lower() != ".html":
        raise MediaError(f"cannot write a page as `{path.name}`; expected .html")
    named = explanations if isinstance(explanations, Mapping) else {explanations.method: explanations}
    drawable = {
        name: one.with_pictures(inputs) if inputs is not None and isinstance(one, Explanation) else one
        for name, one in named.items()
    }
    return write_page(path, path.stem if title is None else title, items_of(drawable, model))
