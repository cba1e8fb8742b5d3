"""Draws the pictures of gallery.md and the tutorials: `python docs/gallery.py SPEC`, an ImageNet network.

The rocket is scikit-image's (CC0); all else is rendered. docs/pictures.py draws the README's.
"""

from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from skimage import data

import chronocam as cc
from chronocam.render import contact_sheet, save_figure

HERE = Path(__file__).parent / "images"
METHODS = ("gradcam", "layercam", "guidedgradcam")
DEPTHS = ("features.3", "features.13", "features.18")  # of MobileNetV2


def photographs(loaded: Any) -> list[Path]:
    """Write a row of methods for the rocket, and a row of depths for the cat."""
    rocket, cat = (Image.fromarray(pixels) for pixels in (data.rocket(), data.chelsea()))
    return [
        _row(loaded, rocket, "space shuttle", {"methods": METHODS}, "gallery-rocket"),
        _row(loaded, cat, "Egyptian cat", {"methods": "layercam", "layers": DEPTHS}, "gallery-depths"),
    ]


def _row(loaded: Any, photo: Image.Image, target: str, asked: dict[str, Any], name: str) -> Path:
    view = photo.crop([round(v) for v in loaded.preprocess.region(*photo.size)])
    found = cc.explain(loaded.model, loaded.preprocess(photo)[None], target, **asked)
    overlays = [explanation.overlay([view])[0][0] for explanation in found.values()]
    return save_figure(
        contact_sheet([[np.asarray(view), *overlays]], [[target, *found]]), HERE / f"{name}.jpg", dpi=90
    )


def digits() -> Path:
    """Write the scenes of tutorial-image.md with the map of either digit."""
    loaded, scenes = cc.models.load("chronocam:digits"), cc.data.digits.scenes(8, seed=3)
    x = np.stack([loaded.preprocess(Image.fromarray(image)) for image in scenes.images])
    both = cc.GradCAM(loaded.model).explain(x, scenes.labels)
    rows = [[image, *drawn] for image, drawn in zip(scenes.images, both.overlay(scenes.images), strict=True)]
    titles = [["scene", *(f"evidence for {info}" for info in infos)] for infos in both.targets]
    return save_figure(contact_sheet(rows[:3], titles[:3]), HERE / "gallery-digits.jpg", dpi=72)


def gestures() -> Path:
    """Write the first clip of tutorial-video.md with the maps of both gestures."""
    loaded, world = cc.models.load("chronocam:gestures-3d"), cc.data.gestures.clips(3, seed=1, actors=2)
    frames = world.pixels[0].repeat(4, axis=1).repeat(4, axis=2)
    clip = cc.media.Clip(frames, np.arange(16) / 8, 8.0, np.arange(16), Path("gestures"))
    x = loaded.preprocess(world.pixels[0])[None]
    explanation = cc.GradCAM(loaded.model).explain(x, world.labels[:1])
    return save_figure(explanation.plot([clip]), HERE / "gallery-gestures.jpg", dpi=80)


def sequence() -> Path:
    """Write the relevance of tutorial-sequence.md."""
    loaded = cc.models.load("chronocam:gestures-steps")
    frames = torch.from_numpy(loaded.preprocess(cc.data.gestures.clip(2, seed=5).pixels)[None])
    with torch.no_grad():
        features = loaded.model.features(frames)
    explanation = cc.sequence.LRP(loaded.model).explain(features, cc.targets.EveryStep())
    return save_figure(explanation.plot(), HERE / "gallery-sequence.jpg", dpi=72)


@click.command()
@click.argument("spec")
def main(spec: str) -> None:
    """Draw the pictures, photographs with the model SPEC."""
    for path in (*photographs(cc.models.load(spec)), digits(), gestures(), sequence()):
        click.echo(f"{path} {path.stat().st_size}")


if __name__ == "__main__":
    main()
