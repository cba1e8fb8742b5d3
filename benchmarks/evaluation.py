"""What `cc.evaluate` says of real networks on annotated photographs, and what sharing passes saves.

Methods and measures on the objects of the photographs, as `chronocam evaluate` would judge them, with masks.
Prints the table, the verdicts, how many forward passes were run, and how many each method and measure by
itself would take. What is done is kept: the same command goes on after an interruption.

Needs the data that the tests use; see `benchmarks/localisation.py`. Run it with
`python -m benchmarks.evaluation --objects 60`; with `--measure pointing --measure energy` no changed input is
scored.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

import chronocam as cc
from benchmarks.localisation import annotated

METHODS = (
    "gradcam",
    "gradcam++",
    "hirescam",
    "xgradcam",
    "layercam",
    "eigencam",
    "finercam",
    "guidedgradcam",
)
MEASURES = ("pointing", "energy", "drop", "deletion", "insertion", "road")


@click.command()
@click.option("--network", default="mobilenet_v2", show_default=True, help="Or a spec, as chronocam:NAME.")
@click.option("--measure", "measures", multiple=True, default=MEASURES, show_default=True)
@click.option("--objects", default=300, show_default=True, help="How many annotated objects at most.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("evaluation"), show_default=True)
def main(network: str, measures: tuple[str, ...], objects: int, out: Path) -> None:
    data, photos = annotated()
    pairs = [pair for of_photo in photos.values() for pair in of_photo][:objects]
    spec = network if ":" in network else f"{data / 'imagenet' / network}.safetensors@torchvision:{network}"
    loaded = cc.models.load(spec)
    start = time.process_time(), time.perf_counter()
    result = cc.evaluate(
        loaded,
        [str(data / "coco/images" / pair["file"]) for pair in pairs],
        [pair["imagenet_index"] for pair in pairs],
        methods=METHODS,
        measures=measures,
        truth=[_mask(data, pair) for pair in pairs],
        out=out,
        progress=lambda samples: track(list(samples), network, console=Console(stderr=True)),
    )
    spent = time.process_time() - start[0], time.perf_counter() - start[1]
    print(result.to_pandas().drop(columns=["layer"]).round(3).to_string())
    print("\n".join([*result.verdicts, *result.notes, *(f"{name}: {why}" for name, why in result.failures)]))
    print(f"{len(result.samples)} objects: {result.passes} forward passes, {result.alone} without sharing")
    print(f"{spent[0]:.0f} s of processor time, {spent[1]:.0f} s by the clock")
    for suffix in ("html", "json"):
        result.save(out / f"evaluation.{suffix}")


def _mask(data: Path, pair: dict[str, object]) -> np.ndarray:
    """Return the object's mask in its photo."""
    name = str(pair["file"]).replace(".jpg", ".png")
    colours = np.asarray(Image.open(data / "coco/panoptic" / name).convert("RGB"))
    return np.isin(colours.astype(np.int64) @ (1, 256, 65536), pair["segment_ids"])


if __name__ == "__main__":
    main()
