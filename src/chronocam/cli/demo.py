"""`chronocam demo`: the bundled networks explained, with numbers and pages."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import click


@click.command("demo")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for pictures, videos and pages.",
)
@click.option(
    "--scenes",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="How many scenes of digits to explain.",
)
@click.option(
    "--clips",
    type=click.IntRange(min=1),
    default=60,
    show_default=True,
    help="How many clips of gestures to explain.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed for everything that is rendered.")
def command(out: Path, scenes: int, clips: int, seed: int) -> None:
    """Explain rendered scenes, clips and drives with the bundled networks, offline.

    Prints how often the map's maximum lies on what is explained, beside a random map and a centre prior, how
    a network that names a gesture at every step changes its mind, and how well motion and depth are known.
    Writes videos, sheets, and pages to look into them with: `index.html` lists them.
    """
    from chronocam.lab.demo.digits import digits
    from chronocam.lab.demo.drive import drive
    from chronocam.lab.demo.gestures import gestures
    from chronocam.lab.demo.steps import steps
    from chronocam.runs.pages import write_pages
    from chronocam.runs.terminal import put

    parts = digits(out, scenes, seed), gestures(out, clips, seed), steps(out, seed), drive(out, seed)
    for line in chain(*parts):
        put(line)
    put(f"Look into all of them: {write_pages(out)}")
