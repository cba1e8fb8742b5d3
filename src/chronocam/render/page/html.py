"""One HTML file that needs no other: scripts and style inlined, data escaped, outside loads forbidden."""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

import numpy as np

from chronocam.errors import printable
from chronocam.jsonable import Json
from chronocam.media.files import replace_file
from chronocam.render._overlay import colour_map
from chronocam.render.page.packed import encoded
from chronocam.render.page.records import PageItem, PageLinks
from chronocam.render.theme import BOX, DIVERGING, SEQUENTIAL, WARM

COLOURS: Final = (WARM, DIVERGING, SEQUENTIAL, "viridis", "cividis", "jet", "gray")
"""The colour maps that the reader of a page can choose from."""

THEME: Final = {"sequential": WARM, "diverging": DIVERGING, "box": BOX}
"""What the scripts draw with unless the reader chooses another."""

_SCRIPTS: Final = (
    "base.js",
    "maps.js",
    "charts.js",
    "legend.js",
    "handle.js",
    "pane.js",
    "player.js",
    "sequence.js",
    "drive.js",
    "view.js",
    "page.js",
)


def write_page(path: Path, title: str, items: Sequence[PageItem], links: PageLinks | None = None) -> Path:
    """Write the page of some items. Raises MediaError for a place that cannot be written."""
    text = page(title, items, links)
    return replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def page(title: str, items: Sequence[PageItem], links: PageLinks | None = None) -> str:
    """Return the HTML of a page that shows items.

    links: to the pages around it; None for a page that stands alone.
    """
    shades = {name: 255 * colour_map(name)(np.arange(256))[:, :3] for name in COLOURS}
    colours = {name: encoded(np.rint(rgb).astype(np.uint8).tobytes()) for name, rgb in shades.items()}
    data: Json = {
        "title": title,
        "links": None if links is None else links.to_json(),
        "colours": colours,
        "theme": THEME,
        "items": [item.to_json() for item in items],
    }
    return filled(asset("page.html"), "".join(map(asset, _SCRIPTS)), title, data)


def filled(body: str, script: str, title: str, data: Json, style: str = "") -> str:
    """Return a whole file: a body with its script and data, under a head that they share.

    style: more of it, after that of all pages.

    The policy in the head names the digests of the one script and the one style, so that nothing else runs,
    whatever stands in the data.
    """
    style = asset("page.css") + style
    allowed = f"img-src data: blob:; script-src {_hash(script)}; style-src {_hash(style)}"
    return Template(asset("head.html") + body).substitute(
        title=html.escape(printable(title)),
        policy=f"default-src 'none'; {allowed}",
        style=style,
        script=script,
        data=_escaped(data),
    )


@cache
def asset(name: str, package: str = __package__) -> str:
    """Return the text of a file in the folder `assets` of a package."""
    return files(package).joinpath("assets", name).read_text(encoding="utf-8")


def _escaped(data: Json) -> str:
    """Return data as JSON that cannot end the element it stands in, whatever a name holds."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _hash(text: str) -> str:
    return f"'sha256-{encoded(hashlib.sha256(text.encode()).digest())}'"
