"""Draws the pictures of the README: `python docs/pictures.py SPEC CLIP`, with a trained ImageNet network.

The photographs are scikit-image's (CC0). The clip is `demos/pose/squats` of tfjs-models (Apache-2.0).
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
    """Write frames, maps and frame importance of a clip that the network sees frame by frame."""
    preprocess = cc.media.ClipPreprocess(loaded.preprocess, 16, "time channel")
    clip = preprocess.read(path)
    explanation = cc.GradCAM(cc.models.PerFrame(loaded.model)).explain(preprocess(clip)[None], targets)
    seen = replace(clip, pixels=preprocess.view(clip))
    return save_figure(explanation.plot([seen]), HERE / f"{name}.jpg", dpi=90)


@click.command()
@click.argument("spec")
@click.argument("clip", type=click.Path(exists=True, path_type=Path))
def main(spec: str, clip: Path) -> None:
    """Draw the pictures with the model SPEC, and the CLIP's."""
    loaded = cc.models.load(spec)
    cat, coffee = (Image.fromarray(pixels) for pixels in (data.chelsea(), data.coffee()))
    sheet(loaded, cat, "Egyptian cat", ("gradcam", "layercam", "guidedgradcam"), "cat")
    sheet(loaded, coffee, "espresso", ("gradcam", "layercam", "guidedgradcam"), "espresso")
    clip_sheet(loaded, clip, ["dumbbell", "balance beam"], "squats")


if __name__ == "__main__":
    main()
