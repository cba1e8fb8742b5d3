"""From data to one HTML file that needs no other: assets put in, data escaped, outside loads forbidden."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any, Final

import numpy as np

from chronocam.render._overlay import colour_map

COLOURS: Final = ("inferno", "RdBu_r", "viridis", "cividis", "jet", "gray")
"""The colour maps of a page; signed values keep to the second unless told otherwise."""

_SCRIPTS: Final = (
    "base.js",
    "maps.js",
    "charts.js",
    "pane.js",
    "player.js",
    "sequence.js",
    "drive.js",
    "page.js",
)
_LIST_SCRIPTS: Final = ("base.js", "list.js")


def page(title: str, items: Sequence[dict[str, Any]]) -> str:
    """Return the HTML of a page that shows items."""
    colours = {name: base64.b64encode(_table(name)).decode() for name in COLOURS}
    return _filled("page.html", _SCRIPTS, title, {"title": title, "colours": colours, "items": list(items)})


def list_page(title: str, rows: Sequence[dict[str, Any]]) -> str:
    """Return the HTML of an index with a row for each page."""
    return _filled("list.html", _LIST_SCRIPTS, title, {"title": title, "rows": list(rows)})


def _table(name: str) -> bytes:
    """Return the 256 colours of a colour map, RGB."""
    return np.rint(255 * colour_map(name)(np.arange(256))[:, :3]).astype(np.uint8).tobytes()


def _filled(template: str, scripts: Sequence[str], title: str, data: dict[str, Any]) -> str:
    script = "".join(_asset(name) for name in scripts)
    style = _asset("page.css")
    return Template(_asset("head.html") + _asset(template)).substitute(
        title=html.escape(title),
        policy=f"default-src 'none'; img-src data: blob:; script-src {_hash(script)}; style-src {_hash(style)}",
        style=style,
        script=script,
        data=_escaped(data),
    )


def _escaped(data: dict[str, Any]) -> str:
    """Return data as JSON that cannot end the element it stands in, whatever a name holds."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8")
