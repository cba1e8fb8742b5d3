"""Score every method on scenes whose parts were left out at rendering: `python -m benchmarks.truth`.

Writes `docs/benchmark.md` and the numbers beside it. `--page` writes the page again from the numbers, once
its words have changed.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator

import click
import torch
from rich.console import Console
from rich.progress import track

from benchmarks.claims.page import DOCS
from benchmarks.claims.tables import Record
from benchmarks.truth import worlds
from benchmarks.truth.judged import judged
from benchmarks.truth.page import NAME, publish
from benchmarks.truth.score import Scores
from benchmarks.truth.worlds import World


def _worlds(pictures: int, clips: int, drives: int, sequences: int) -> Iterator[World]:
    yield worlds.digits(pictures)
    for name in ("3d", "lstm", "attention"):
        yield worlds.gestures(clips, name)
    yield from worlds.drives(drives)
    yield from worlds.steps(clips)
    yield worlds.sequences(sequences)


@click.command()
@click.option("--pictures", default=12, show_default=True)
@click.option("--clips", default=8, show_default=True)
@click.option("--drives", default=12, show_default=True)
@click.option("--sequences", default=40, show_default=True)
@click.option("--page", is_flag=True, help="Write the page again from its numbers.")
def main(pictures: int, clips: int, drives: int, sequences: int, page: bool) -> None:
    if page:
        print(publish(Record.from_json((DOCS / f"{NAME}.json").read_text(encoding="utf-8"))))
        return
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    console, scores, start = Console(stderr=True), Scores(), time.process_time()
    counts = {"pictures": pictures, "clips": clips, "drives": drives, "sequences": sequences}
    for world in _worlds(**counts):
        scores.add(
            world, judged(world), lambda names, world=world: track(names, world.title, console=console)
        )
        about = {**counts, "seconds": round(time.process_time() - start)}
        sides = {f"{kind}: sides": table for kind, table in scores.sides().items()}
        print(publish(Record(about, scores.tables() | sides, {"cannot": scores.cannot})), flush=True)


if __name__ == "__main__":
    main()
