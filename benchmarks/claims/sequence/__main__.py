"""Claims about relevance over the steps of a sequence: writes docs/sequence.json, its page and its pictures.

The bundled `chronocam:gestures-steps` gives logits after every frame. On rendered clips of people and
photographs that training never showed it is measured: does the relevance of the steps' features come to
look like that of other, whole clips of the same class; does a clip that changes class in the middle show the
change; and do the maps that carry the relevance to the frames lie on the one who acts? In about three minutes
on one core:

    python -m benchmarks.claims.sequence
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console

from benchmarks.claims.page import DOCS
from benchmarks.claims.sequence.claims import PAGE
from benchmarks.claims.sequence.measures import NetworkClips, change, pixels_of, settling
from benchmarks.claims.sequence.pictures import draw_change, draw_settling
from benchmarks.claims.tables import Record
from chronocam.lab.data import gestures
from chronocam.models import load

SPEC = "chronocam:gestures-steps"


@click.command()
@click.option("--clips", "count", default=150, show_default=True, type=click.IntRange(10))
@click.option("--threads", default=1, show_default=True)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=DOCS, help="Folder of the result."
)
def main(count: int, threads: int, out: Path) -> None:
    """Measure, draw and write the page."""
    torch.set_num_threads(threads)
    loaded, console = load(SPEC), Console(stderr=True)
    with console.status("Rendering clips"):
        truth, rest = (gestures.clips(count, seed=seed) for seed in (1, 2))
        clips, others = (NetworkClips.of(loaded, part.pixels, part.labels) for part in (truth, rest))
        differ = truth.labels[:, 0] != rest.labels[:, 0]
        pixels = np.concatenate([truth.pixels[differ], rest.pixels[differ]], axis=1)
        labels = np.concatenate([truth.labels[differ], rest.labels[differ]], axis=1)
        pairs = NetworkClips.of(loaded, pixels, labels)
    with console.status("Explaining"):
        settled, curves = settling(loaded, clips, others)
        changed, alikeness, relevance = change(loaded, pairs, others)
        energies = pixels_of(loaded, clips, truth)
    accuracy = (clips.logits.argmax(axis=2) == clips.labels).mean(axis=0)
    draw_settling(curves, accuracy, out / "images" / "steps-settling.png")
    draw_change(loaded, pairs, alikeness, relevance, out / "images" / "steps-change.png")
    about = {"spec": SPEC, "count": count, "accuracy": " ".join(f"{value:.2f}" for value in accuracy)}
    print(PAGE.publish(Record(about, {"settling": settled, "change": changed, "pixels": energies}), out))


if __name__ == "__main__":
    main()
