"""Pages in a browser: how long a frame takes to draw, how long an index takes to open. Needs Chromium.

python -m benchmarks.report [--rounds 5]
"""

from __future__ import annotations

import io
import shutil
import tempfile
from base64 import b64encode
from pathlib import Path

import click
import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from chronocam import Explanation
from chronocam.maps.frames import frame_spans
from chronocam.media import Clip
from chronocam.report.index import Row, list_page
from chronocam.types import TargetInfo

FRAMES, ROWS = 64, 1000
BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or ""


@click.command()
@click.option(
    "--rounds", default=5, show_default=True, help="How often frames are drawn, and the index opened."
)
def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        view = browser.new_page(viewport={"width": 1280, "height": 900})
        print(f"Chromium {browser.version}, headless, without a GPU; {rounds} rounds")
        clip(view, Path(folder), rounds)
        index(view, Path(folder), rounds)
        browser.close()


def clip(view: Page, folder: Path, rounds: int) -> None:
    """Print how long it takes to draw each frame of a clip, one map and two side by side."""
    path = _explanation().save(folder / "clip.html", [_frames()])
    view.goto(f"file://{path}")
    view.wait_for_timeout(1500)
    height, width = view.evaluate("page.item.stills.size")
    megabytes = path.stat().st_size / 1e6
    print(f"{FRAMES} frames of {width} × {height}, 3 classes, grid 14 × 14: page of {megabytes:.2f} MB")
    for panes in (1, 2):
        if panes == 2:
            view.keyboard.press("s")
            view.wait_for_timeout(300)
        took = [
            view.evaluate(f"go({frame}), page.panes[0].context.getImageData(0, 0, 1, 1), page.took")
            for _ in range(rounds)
            for frame in range(FRAMES)
        ]
        low, middle, high = np.quantile(took, (0.05, 0.5, 0.95))
        print(f"  {panes} map(s): {middle:.1f} ms a frame, 90 % within {low:.1f} to {high:.1f}")


def index(view: Page, folder: Path, rounds: int) -> None:
    """Print how long an index takes to open, until all its rows are drawn, and to be sorted."""
    path = folder / "index.html"
    path.write_text(list_page("many", [_row(i) for i in range(ROWS)]))
    opened, sorted_ = [], []
    for _ in range(rounds):
        view.goto(f"file://{path}")
        opened.append(view.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart"))
        sorted_.append(
            view.evaluate(
                "(() => { const t = performance.now(); sortBy(COLUMNS.find((one) => one.head === 'Score'));"
                " document.body.offsetHeight; return performance.now() - t; })()"
            )
        )
    size = path.stat().st_size / 1e6
    print(
        f"index of {ROWS} rows with thumbnails, {size:.1f} MB: opens in {np.median(opened):.0f} ms "
        f"({min(opened):.0f} to {max(opened):.0f}), is sorted in {np.median(sorted_):.0f} ms"
    )


def _explanation() -> Explanation:
    rng = np.random.default_rng(0)
    maps = rng.random((1, 3, 16, 14, 14), np.float32)
    infos = (tuple(TargetInfo(name, k) for k, name in enumerate(("wave", "clap", "nod"))),)
    scores = np.ones((1, 3), np.float32)
    spans = frame_spans(16, FRAMES)
    return Explanation(maps, scores, infos, "gradcam", "layer4", (FRAMES, 112, 112), frame_spans=spans)


def _frames() -> Clip:
    rng = np.random.default_rng(0)
    small = [Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)) for _ in range(FRAMES)]
    pixels = np.stack([np.asarray(one.resize((640, 480), Image.Resampling.BICUBIC)) for one in small])
    numbers = np.arange(FRAMES)
    return Clip(pixels, numbers / 25, 25.0, numbers, Path("clip.mp4"))


def _row(i: int) -> Row:
    rng = np.random.default_rng(i)
    file = io.BytesIO()
    small = Image.fromarray(rng.integers(0, 256, (9, 16, 3), np.uint8))
    small.resize((160, 90), Image.Resampling.BICUBIC).save(file, "JPEG", quality=80)
    return Row(
        href=f"{i}.html",
        name=f"photo {i}.jpg",
        model="torchvision:resnet50",
        kind="picture",
        method="gradcam",
        label=f"class {i % 100}",
        score=float(rng.normal()),
        confidence=float(rng.random()),
        findings=["all weighted sums are negative"] if i % 7 == 0 else [],
        picture=b64encode(file.getvalue()).decode(),
    )


if __name__ == "__main__":
    main()
