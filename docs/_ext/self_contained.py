"""The built pages work without a network: a page that would fetch anything from elsewhere fails the build."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TAG = re.compile(r"<(?:link|script|img|source|iframe|video|audio|object|embed)\b[^>]*>", re.IGNORECASE)
ELSEWHERE = re.compile(r"""(?:src|srcset|href|data)\s*=\s*["']?(?:https?:)?//[^"'\s>]+""", re.IGNORECASE)
IN_CSS = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])(?:https?:)?//[^"')]+""", re.IGNORECASE)


def requests(text: str, suffix: str) -> Iterator[str]:
    """Yield what a built HTML or CSS file would fetch from another host."""
    if suffix == ".html":
        for tag in TAG.findall(text):
            if 'rel="canonical"' not in tag:
                yield from ELSEWHERE.findall(tag)
    yield from IN_CSS.findall(text)


def _check(app: Any, exception: Exception | None) -> None:
    from sphinx.errors import SphinxError

    if exception is not None or app.builder.name != "html":
        return
    for path in sorted(Path(app.outdir).rglob("*")):
        if path.suffix in (".html", ".css"):
            found = list(requests(path.read_text(encoding="utf-8"), path.suffix))
            if found:
                raise SphinxError(f"{path.name} fetches {found[0]}; built pages must work offline")


def setup(app: Any) -> dict[str, bool]:
    """Check the pages after they are written."""
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True}
