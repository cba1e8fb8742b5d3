"""`chronocam demo`: the bundled digits network explained, with numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np


@click.command("demo")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("demo"), show_default=True)
@click.option(
    "--scenes", "count", type=click.IntRange(min=1), default=200, show_default=True, help="Generated scenes to explain."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the scenes.")
def command(out: Path, count: int, seed: int) -> None:
    """Explain generated scenes of two handwritten digits with the bundled network, offline.

    Prints how often the map's maximum lies on the digit explained, beside a random map and a centre prior, and
    writes a contact sheet.
    """
    from chronocam.data.digits import scenes
    from chronocam.models import load

    loaded, world = load("chronocam:digits"), scenes(count, seed=seed)
    explanation = _explained(loaded, world)
    click.echo(f"Maxima on the digit's ink, over {count} scenes of two digits, with 95 % interval:")
    for name, hits in _pointing(explanation, world).items():
        click.echo(f"  {name:13} {hits}")
    click.echo(f"contact sheet: {_sheet(explanation, world, out)}")


def _explained(loaded: Any, world: Any) -> Any:
    from PIL import Image

    from chronocam import GradCAM

    inputs = np.stack([loaded.preprocess(Image.fromarray(image)) for image in world.images])
    return GradCAM(loaded.model).explain(inputs, np.asarray(world.labels))


def _pointing(explanation: Any, world: Any) -> dict[str, Any]:
    from chronocam.metrics import bootstrap, centre_prior, pointing_game, random_maps

    size, masks = explanation.input_size, world.masks
    count = masks.shape[0] * masks.shape[1]
    noise = random_maps(count, explanation.maps.shape[2:], size).reshape(masks.shape)
    centre = np.broadcast_to(centre_prior(size), masks.shape)
    maps = {"Grad-CAM": explanation.upsample(), "random map": noise, "centre prior": centre}
    return {name: bootstrap(pointing_game(m, masks).mean(axis=1)) for name, m in maps.items()}


def _sheet(explanation: Any, world: Any, out: Path, rows: int = 6) -> Path:
    from chronocam.render import contact_sheet, save_figure

    shown = slice(0, rows)
    overlays = explanation.overlay(world.images)[shown]
    pictures = [[image, *drawn] for image, drawn in zip(world.images[shown], overlays, strict=True)]
    titles = [["scene", *(f"evidence for {info}" for info in infos)] for infos in explanation.targets[shown]]
    return save_figure(contact_sheet(pictures, titles, "chronocam:digits, Grad-CAM"), out / "digits.png")
