"""Draws the pictures of the README: `python docs/pictures.py SPEC CLIP`, with a trained network for clips.

The clip also gets a page in the current folder, `clip.html`, which `docs/screens.py` takes a picture of.

The photographs are scikit-image's (CC0), explained by `chronocam:efficientnet-lite0`. The README's clip is
a test clip of torchcodec (BSD-3), its network MoViNet-A0 with weights of TensorFlow's examples (Apache-2.0).
"""

from dataclasses import replace
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


def clip_sheet(loaded: Any, path: Path, targets: list[str], name: str) -> Path:
    """Write frames, maps and frame importance of a clip, and its page."""
    preprocess = loaded.preprocess
    clip = preprocess.read(path)
    explanation = cc.GradCAM(loaded).explain(preprocess(clip)[None], targets)
    explanation.save("clip.html", path)
    seen = replace(clip, pixels=preprocess.view(clip))
    return save_figure(explanation.plot([seen]), HERE / f"{name}.jpg", dpi=90)


@click.command()
@click.argument("spec")
@click.argument("clip", type=click.Path(exists=True, path_type=Path))
def main(spec: str, clip: Path) -> None:
    """Draw the photographs, and the CLIP with the model SPEC."""
    loaded = cc.models.load("chronocam:efficientnet-lite0")
    cat, coffee = (Image.fromarray(pixels) for pixels in (data.chelsea(), data.coffee()))
    sheet(loaded, cat, "Egyptian cat", ("gradcam", "layercam", "guidedgradcam"), "cat")
    sheet(loaded, coffee, "espresso", ("gradcam", "layercam", "guidedgradcam"), "espresso")
    clip_sheet(cc.models.load(spec), clip, ["training dog", "petting cat"], "dog")


if __name__ == "__main__":
    main()
