"""Draws the pictures of howto-tutorial.md: `python docs/tutorial.py SPEC PHOTO`, with an ImageNet network.

The network is torchvision's SqueezeNet 1.0; the photograph the dog and cat of the Grad-CAM paper's
repositories.
"""

from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

import chronocam as cc
from chronocam.render import contact_sheet, draw_boxes, save_figure

HERE = Path(__file__).parent / "images"
CLASSES = ("boxer", "tiger cat")
LAST, MIDDLE = "features.12", "features.9"  # SqueezeNet's last convolutions


def steps(loaded: Any, photo: Image.Image) -> Path:
    """Write a row per class: the map on its grid and on the photograph, its boxes, and Guided Grad-CAM."""
    x, view = loaded.preprocess(photo)[None], loaded.preprocess.view(photo)
    found = cc.explain(loaded.model, x, list(CLASSES), methods=("gradcam", "guidedgradcam"), layers=[LAST])
    coarse, fine = found["gradcam"], found["guidedgradcam"]
    rows, titles = [], []
    for k, name in enumerate(CLASSES):
        boxed = draw_boxes(np.asarray(view), coarse.boxes(threshold=0.4)[0][k])
        black = np.zeros_like(np.asarray(view))
        rows.append(
            [coarse.maps[0, k], coarse.overlay([view])[0][k], boxed, fine.overlay([black], alpha=1.0)[0][k]]
        )
        titles.append([f"{name}: the map", "superimposed", "box at 0.4 of the maximum", "Guided Grad-CAM"])
    return save_figure(contact_sheet(rows, titles), HERE / "tutorial-gradcam.png", dpi=64)


def channels(loaded: Any, photo: Image.Image) -> list[Path]:
    """Write feature maps and the inputs that excite the channels of the strongest maps most, and filters."""
    x = loaded.preprocess(photo)[None]
    maps = cc.features.feature_maps(loaded.model, MIDDLE, x)
    best = maps.strongest(0, 3)
    excited = cc.features.activation_maximisation(loaded.model, MIDDLE, best, preprocess=loaded.preprocess)
    kernels = cc.features.filters(loaded.model)
    return [
        save_figure(maps.plot(count=8), HERE / "tutorial-features.png", dpi=80),
        save_figure(kernels.plot(count=32), HERE / "tutorial-filters.png", dpi=60),
        save_figure(excited.plot(), HERE / "tutorial-maximised.png", dpi=76),
    ]


@click.command()
@click.argument("spec")
@click.argument("photo", type=click.Path(exists=True, path_type=Path))
def main(spec: str, photo: Path) -> None:
    """Draw the pictures with the model SPEC and the PHOTO."""
    loaded, image = cc.models.load(spec), cc.media.read_image(photo)
    for path in (steps(loaded, image), *channels(loaded, image)):
        click.echo(f"{path} {path.stat().st_size}")


if __name__ == "__main__":
    main()
