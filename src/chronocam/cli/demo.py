"""`chronocam demo`: real pictures and worlds with known truth explained, with sentences and pages."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import click

from chronocam.cli._commands import Command
from chronocam.cli._options import OPEN, QUIET


@click.command(
    "demo",
    cls=Command,
    examples="""
        chronocam demo --open
        chronocam demo --out shown --scenes 50 --clips 20
    """,
)
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
@OPEN
@QUIET
def command(out: Path, scenes: int, clips: int, seed: int, opened: bool) -> None:
    """Explain a photograph, a clip and worlds with known truth, offline.

    First a network for 1,000 classes and real pictures: photographs, and a clip of a man in a car. Then small
    networks and rendered scenes, clips and a drive, of which it is known what is to be seen. Each result is a
    sentence here and a page in the folder: open its `index.html`.
    """
    from chronocam.lab.demo import digits, drive, gestures, real, steps
    from chronocam.lab.packages import insist_on_demo
    from chronocam.runs.pages import open_page, write_pages
    from chronocam.runs.terminal import put

    insist_on_demo()
    put("Real pictures, by EfficientNet-Lite0:")
    for line in chain(real.photos(out), real.clip(out)):
        put(f"  {line}")
    put("Worlds with known truth (with 95 % intervals):")
    worlds = (
        digits.digits(out, scenes, seed),
        gestures.gestures(out, clips, seed),
        steps.steps(out, seed),
        drive.drive(out, seed),
    )
    for line in chain(*worlds):
        put(f"  {line}")
    index = write_pages(out, title="What networks look at")
    put(f"Open {index}")
    if opened:
        open_page(index)
