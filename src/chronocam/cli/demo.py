"""`chronocam demo`: the bundled networks explained, with numbers."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import click

from chronocam.cli._demo_digits import digits
from chronocam.cli._demo_gestures import gestures


@click.command("demo")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("demo"), show_default=True)
@click.option(
    "--scenes", type=click.IntRange(min=1), default=200, show_default=True, help="Scenes of digits to explain."
)
@click.option(
    "--clips", type=click.IntRange(min=1), default=60, show_default=True, help="Clips of gestures to explain."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of scenes and clips.")
def command(out: Path, scenes: int, clips: int, seed: int) -> None:
    """Explain generated scenes of two digits, and clips of two people, with the bundled networks, offline.

    Prints how often the map's maximum lies on what is explained, beside a random map and a centre prior, and
    writes videos and contact sheets.
    """
    for line in chain(digits(out, scenes, seed), gestures(out, clips, seed)):
        click.echo(line)
