"""The demo's pictures: scenes of two handwritten digits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from chronocam.lab.demo.words import percent

KEPT: Final = 12  # scenes, for the page
ROWS: Final = 6  # of the contact sheet


def digits(out: Path, count: int, seed: int) -> Iterator[str]:
    """Explain generated scenes, write a contact sheet and a page, and yield a sentence about them."""
    from chronocam.lab.data.digits import scenes
    from chronocam.models import load

    loaded, world = load("chronocam:digits"), scenes(count, seed=seed)
    explanation = _explained(loaded, world)
    _sheet(explanation, world, out)
    _save(explanation, world, out)
    hits = {name: percent(share) for name, share in _pointing(explanation, world).items()}
    yield (
        f"Two digits in each of {count} scenes: Grad-CAM has its maximum on the ink of the digit asked for "
        f"in {hits['Grad-CAM']}, a random map in {hits['random map']}, the centre in {hits['centre prior']}."
    )


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


def _save(explanation: Any, world: Any, out: Path) -> None:
    """Keep the first scenes with their maps, for the page."""
    from chronocam.media import still

    pictures = [still(image, f"digits {i + 1}") for i, image in enumerate(world.images[:KEPT])]
    explanation[:KEPT].with_pictures(pictures).save(out / "digits.npz")


def _sheet(explanation: Any, world: Any, out: Path) -> None:
    from chronocam.render import contact_sheet, save_figure

    shown = slice(ROWS)
    overlays = explanation.overlay(world.images)[shown]
    pictures = [[image, *drawn] for image, drawn in zip(world.images[shown], overlays, strict=True)]
    titles = [["scene", *(f"evidence for {info}" for info in infos)] for infos in explanation.targets[shown]]
    save_figure(contact_sheet(pictures, titles, "chronocam:digits, Grad-CAM"), out / "digits.png")
