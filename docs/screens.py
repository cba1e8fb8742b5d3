"""Pictures of pages, as the README shows them, of the demo and of `docs/pictures.py`. Needs Chromium.

python docs/screens.py demo/a-cup-of-coffee.html clip.html
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PICTURES = {"page-photo": "dark", "page-clip": "light"}
"""Each picture, and how it is taken."""

WIDTH, HEIGHT = 1280, 940


def main(pages: list[str]) -> None:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for (name, scheme), page in zip(PICTURES.items(), pages, strict=True):
            view = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
            view.goto(Path(page).resolve().as_uri())
            view.wait_for_timeout(1500)
            # A clip stands still at its strongest frame.
            view.evaluate("page.item.stills.count > 1 && seek(strongest())")
            view.wait_for_timeout(300)
            picture = Image.open(io.BytesIO(view.screenshot())).convert("RGB")
            picture.save(Path(__file__).parent / "images" / f"{name}.jpg", quality=80, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
