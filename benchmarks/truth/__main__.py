"""Score every method on scenes whose parts were left out at rendering: `python -m benchmarks.truth`.

Writes `docs/benchmark.md` and the numbers beside it after each world. `--world steps` measures one world
again and leaves the others as they are; `--page` writes the page again, once its words have changed.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.progress import track

from benchmarks.claims.page import DOCS
from benchmarks.claims.tables import Record
from benchmarks.truth import worlds
from benchmarks.truth.judged import judged
from benchmarks.truth.page import NAME, joined, publish
from benchmarks.truth.score import Scores
from benchmarks.truth.worlds import World


def _worlds(pictures: int, clips: int, drives: int, sequences: int) -> dict[str, Callable[[], list[World]]]:
    """Return what renders each world, by its name."""
    return {
        "digits": lambda: [worlds.digits(pictures)],
        **{name: lambda name=name: [worlds.gestures(clips, name)] for name in ("3d", "lstm", "attention")},
        "drives": lambda: list(worlds.drives(drives)),
        "steps": lambda: list(worlds.steps(clips)),
        "cues": lambda: [worlds.sequences(sequences)],
    }


NAMES = tuple(_worlds(0, 0, 0, 0))


@click.command()
@click.option("--pictures", default=12, show_default=True)
@click.option("--clips", default=8, show_default=True)
@click.option("--drives", default=12, show_default=True)
@click.option("--sequences", default=40, show_default=True)
@click.option("--world", "chosen", multiple=True, type=click.Choice(NAMES), help="Measure these again alone.")
@click.option("--page", is_flag=True, help="Write the page again from its numbers.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=DOCS)
def main(
    pictures: int, clips: int, drives: int, sequences: int, chosen: tuple[str, ...], page: bool, out: Path
) -> None:
    record = None
    if page or chosen:
        record = Record.from_json((out / f"{NAME}.json").read_text(encoding="utf-8"))
    if page and record is not None:
        print(publish(record, out))
        return
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    console = Console(stderr=True)
    render = _worlds(pictures, clips, drives, sequences)
    for name in chosen or NAMES:
        for world in render[name]():
            scores, start = Scores(), time.process_time()
            scores.add(
                world, judged(world), lambda names, title=world.title: track(names, title, console=console)
            )
            about = {world.title: [len(world.cases), round(time.process_time() - start)]}
            measured = Record(about, scores.tables(), {"cannot": scores.cannot})
            record = measured if record is None else joined(record, measured)
            print(publish(record, out), flush=True)


if __name__ == "__main__":
    main()
