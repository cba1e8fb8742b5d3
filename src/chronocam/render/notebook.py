"""Explanations in notebooks: the page in a frame of its own, and a picture for what shows no pages."""

from __future__ import annotations

import html
import io
import tempfile
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chronocam.errors import InputError
from chronocam.render.page.html import page
from chronocam.render.page.items import Shown, items_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST: Final = 1_000_000  # characters of what a cell of a notebook keeps
_MOST: Final = 8  # samples
_FRAME: Final = (
    '<iframe title="{title}" sandbox="allow-scripts" srcdoc="{page}" '
    'style="width: 100%; height: 780px; border: 0; border-radius: 12px"></iframe>{rest}'
)


def framed(shown: Shown, label: str, title: str, samples: int) -> str:
    """Return the page of the first `samples` as HTML that stands in another page.

    label: what the page calls the explanation.

    It is a sandboxed frame: what is in it can neither reach the notebook nor load anything. As many samples
    as fit into a megabyte are shown; the empty text where not even one does.
    """
    count = min(max(samples, 1), _MOST)
    while count:
        document = html.escape(page(title, items_of({label: shown}, count=count)))
        if len(document) < LARGEST - 1000:
            left_out = f"The first {count} of {len(shown)} samples; save() writes a page of all."
            rest = f"<p>{left_out}</p>" if count < len(shown) else ""
            return _FRAME.format(title=html.escape(title), page=document, rest=rest)
        count //= 2
    return ""


def as_png(draw: Callable[[], Figure]) -> bytes | None:
    """Return a figure as a PNG file; None where there is nothing to draw."""
    try:
        figure = draw()
    except InputError:
        return None
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=64)
    return file.getvalue()


def show(explanation: Any, write: Callable[[Path], Path]) -> Path | None:
    """Display in the cell of a notebook, or write a page and open it in a browser; return where it is.

    write: writes the page to a place.
    """
    if _in_notebook():
        from IPython.display import display

        display(explanation)
        return None
    path = write(Path(tempfile.mkdtemp(prefix="chronocam-"), "explanation.html"))
    webbrowser.open(path.as_uri())
    return path


def _in_notebook() -> bool:
    """Say whether a notebook's kernel runs this."""
    import sys

    # What runs in IPython has imported it.
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and hasattr(shell, "kernel")
