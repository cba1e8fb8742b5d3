"""Claims about maps of video networks, as numbers with intervals: writes docs/claims.json and docs/claims.md.

Three designs (convolutions over space and time; an LSTM over a 2D CNN, with and without attention over the
frames) are measured on rendered clips of gestures with known truth, of people and backgrounds that training
never showed: is the class named, do maps lie on the action in space and time, do attention weights, does the
map for the other of two actors find that actor, and what do the depth of the layer, the alignment and the
pooling change?

The networks are trained, for every SEED of 0, 1 and 2 and ARCH of cnn-lstm and cnn-lstm-attention, by

    chronocam train video --data gestures --backbone small --arch r3d --seed SEED --out runs/r3d-SEED \\
        --epochs 5 --lr 0.0005 --head-lr 1 --change-first 0.5 --calm-epochs 0 --precision bf16-mixed --threads
        1
    chronocam train video --data gestures --backbone small --arch ARCH --seed SEED --out runs/ARCH-SEED \\
        --epochs 8 --lr 0.002 --head-lr 1 --change-first 0.5 --calm-epochs 1 --precision bf16-mixed --threads
        1

(claims.json holds the commands with every option, from the networks' records); the two files of each are put
into one folder, and the page is made in 11 to 14 minutes on one core:

    for f in json safetensors; do cp runs/ARCH-SEED/model.$f nets/ARCH-SEED.$f; done
    python -m benchmarks.claims.video --nets nets
"""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, replace
from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console

from benchmarks.claims.page import DOCS
from benchmarks.claims.tables import Record
from benchmarks.claims.video.claims import PAGE
from benchmarks.claims.video.measures import MIRRORED
from benchmarks.claims.video.results import Results, measure
from benchmarks.claims.video.tables import tables
from benchmarks.claims.video.world import ARCHS, SEED, Settings, World, find_networks
from chronocam.errors import ChronocamError

QUICK = Settings(answers=20, maps=10, pairs=10, faithful=4, steps=3)


def record(results: Results) -> Record:
    """Return the settings, the tables that claims look at, and all values."""
    settings = results.settings
    about = {
        **asdict(settings),
        "seed": SEED,
        "trainings": " / ".join(map(str, sorted({len(seeds) for seeds in results.seeds.values()}))),
        "ordered": int(np.isin(results.labels[: settings.answers], list(MIRRORED)).sum()),
        "both_right": len(results.right(*ARCHS[1:])),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "training seeds": results.seeds,
        "commands": results.commands,
    }
    return Record(about, tables(results), results.values())


@click.command()
@click.option("--nets", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--clips", type=click.IntRange(20), help="How many clips maps are measured on.  [default: 300]")
@click.option("--quick", is_flag=True, help="Few clips of everything: does it run?")
@click.option("--threads", default=1, show_default=True)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=DOCS, help="Folder of the result."
)
def main(nets: Path, clips: int | None, quick: bool, threads: int, out: Path) -> None:
    begin = time.perf_counter()
    torch.set_num_threads(threads)
    settings = QUICK if quick else Settings()
    if clips is not None:
        settings = replace(settings, maps=clips, pairs=clips, answers=max(settings.answers, clips))
    console = Console(stderr=True)
    try:
        networks = find_networks(nets)
        with console.status("Rendering clips"):
            world = World.render(settings)
        results = measure(networks, world)
        with console.status("Resampling"):
            path = PAGE.publish(record(results), out)
    except ChronocamError as error:
        raise click.ClickException(str(error)) from error
    print(f"{path} in {(time.perf_counter() - begin) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
