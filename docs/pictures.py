"""Draws the pictures of the README: `python docs/pictures.py SPEC`, with a trained ImageNet network.

The photographs are scikit-image's (CC0).
"""

from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from skimage import data

import chronocam as cc
from chronocam.render import contact_sheet, save_figure

HERE = Path(__file__).parent / "images"


def sheet(loaded: Any, photo: Image.Image, target: str, methods: tuple[str, ...], name: str) -> Path:
    """Write a row: the photograph and one overlay per method."""
    found = cc.explain(loaded.model, loaded.preprocess(photo)[None], target, methods=methods)
    view = photo.crop([round(v) for v in loaded.preprocess.region(*photo.size)])
    overlays = [explanation.overlay([view])[0][0] for explanation in found.values()]
    titles = [target, *found]
    return save_figure(contact_sheet([[np.asarray(view), *overlays]], [titles]), HERE / f"{name}.jpg", dpi=90)


@click.command()
@click.argument("spec")
def main(spec: str) -> None:
    """Draw the pictures with the model SPEC."""
    loaded = cc.models.load(spec)
    cat, coffee = (Image.fromarray(pixels) for pixels in (data.chelsea(), data.coffee()))
    sheet(loaded, cat, "Egyptian cat", ("gradcam", "layercam", "guidedgradcam"), "cat")
    sheet(loaded, coffee, "espresso", ("gradcam", "layercam", "guidedgradcam"), "espresso")


if __name__ == "__main__":
    main()
