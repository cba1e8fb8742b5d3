"""Pictures of the demo's pages, as the README shows them: `chronocam demo`, then this. Needs Chromium.

python docs/screens.py demo
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PAGES = {"page-photo": ("a-cup-of-coffee", "dark"), "page-clip": ("clip-1", "light")}
"""Each picture, the page that it shows, and how."""

WIDTH, HEIGHT = 1280, 940


def main(demo: Path) -> None:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (page, scheme) in PAGES.items():
            view = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
            view.goto(f"file://{demo.resolve()}/{page}.html")
            view.wait_for_timeout(1500)
            picture = Image.open(io.BytesIO(view.screenshot())).convert("RGB")
            picture.save(Path(__file__).parent / "images" / f"{name}.jpg", quality=80, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
