"""Claims about maps of odometry, as numbers with intervals: writes docs/odometry.json, page and pictures.

Do maps for motion leave out a wall without texture; do outputs change faster as the marked cells go; does an
object that moves by itself attract the maps of the loss; do signs flip? On rendered drives that training
never showed, beside random maps and a centre prior, and, where they are there, on real frames. In three to
four minutes on one core:

    python -m benchmarks.claims.odometry --real FOLDER
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import track

from benchmarks.claims.odometry.checks import light, noise, randomised, signs
from benchmarks.claims.odometry.claims import PAGE
from benchmarks.claims.odometry.faithful import faithfulness
from benchmarks.claims.odometry.measures import INSIDE, movers, walls
from benchmarks.claims.odometry.pictures import draw_all
from benchmarks.claims.odometry.real import Real, found_in, real
from benchmarks.claims.odometry.world import SHALLOW, Pairs, grids, rendered
from benchmarks.claims.page import DOCS
from benchmarks.claims.tables import Record, Table
from chronocam.lab.models.odometry import Odometry, odometry_record
from chronocam.metrics import Interval
from chronocam.models import load

SPEC = "chronocam:odometry"
SWITCHES: Mapping[str, dict[str, bool]] = {
    "textured": {"plain": False, "moving": False, "exposure": False},
    "plain": {"plain": True, "moving": False, "exposure": False},
    "moving": {"plain": False, "moving": True, "exposure": False},
    "exposed": {"plain": False, "moving": False, "exposure": True},
}
FAITHFUL, NOISY = 60, 40  # drives for what takes many forwards


def scenes_of(count: int, track: Callable[[Iterable[int]], Iterable[int]] = iter) -> dict[str, Pairs]:
    """Render the same drives with every setting of the switches."""
    return {name: rendered(count, track, **switches) for name, switches in SWITCHES.items()}


def with_random_weights(network: Odometry, record: Mapping[str, Any]) -> Odometry:
    """Return networks of the same sizes before training."""
    torch.manual_seed(0)
    return Odometry(record["depth_width"], record["pose_width"], network.pose.has_masks).eval()


def measured(network: Odometry, random: Odometry, scenes: Mapping[str, Pairs]) -> dict[str, Table]:
    """Return the tables of everything that is measured on rendered drives."""
    textured = scenes["textured"]
    few = textured.some(slice(NOISY))
    return {
        **walls(network, scenes["plain"], textured),
        **faithfulness(network, textured.some(slice(FAITHFUL))),
        **movers(network, scenes["moving"], textured),
        **signs(network, textured),
        **light(network, textured, scenes["exposed"]),
        **noise({"trained": network, "random weights": random}, few),
        **randomised(network, random, textured),
    }


def held_out(record: Mapping[str, Any]) -> dict[str, Table]:
    """Return the networks' errors on the test split, from their own record."""
    return {
        f"held-out drives: {part}": {
            arm: {error: Interval(*numbers[:3], 0) for error, numbers in errors.items()}
            for arm, errors in of.items()
        }
        for part, of in record.get("held-out", {}).items()
    }


def joined(folders: Sequence[Real]) -> dict[str, Table]:
    """Put the rows of all folders of real frames into the same tables."""
    tables: dict[str, Table] = {}
    for folder in folders:
        for name, rows in folder.tables.items():
            tables.setdefault(name, {}).update(rows)
    return tables


def about(spec: str, record: Mapping[str, Any], tables: Mapping[str, Table]) -> dict[str, Any]:
    """Return the settings that the page names, and how many drives each part has."""
    height, width = record["size"]
    return {
        "spec": spec,
        "shallow": SHALLOW,
        "inside": INSIDE,
        "depth_width": record["depth_width"],
        "pose_width": record["pose_width"],
        "width": width,
        "height": height,
        "epochs": record["best epoch"] + 1,
        "training_drives": record["drives"]["train"],
        "walls": tables["wall: share of the picture"]["wall"]["area"].count,
        "faithful": FAITHFUL,
        "objects_count": tables["object: share of the picture"]["object"]["area"].count,
        "noisy": NOISY,
        "command": record.get("command", "(the record holds no command)"),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }


@click.command()
@click.option("--model", "spec", default=SPEC, show_default=True, help="A trained pair of networks.")
@click.option("--drives", "count", default=100, show_default=True, type=click.IntRange(10))
@click.option("--real", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Folder with `open3d` and `slambook2`, real frames with depth and poses.")  # fmt: skip
@click.option("--threads", default=1, show_default=True)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=DOCS, help="Folder of the result."
)
def main(spec: str, count: int, folder: Path | None, threads: int, out: Path) -> None:
    """Measure, draw and write the page."""
    torch.set_num_threads(threads)
    begin, console = time.process_time(), Console(stderr=True)
    network = load(spec).model
    record = odometry_record() if spec == SPEC else json.loads(Path(spec).read_text(encoding="utf-8"))
    scenes = scenes_of(count, lambda part: track(part, "Rendering", console=console))
    with console.status("Explaining"):
        folders = [
            real(network, one, scenes["textured"].size) for one in (found_in(folder) if folder else [])
        ]
        tables = measured(network, with_random_weights(network, record), scenes)
        default = next(iter(grids(network, scenes["plain"])))
    draw_all(network, scenes, folders, out / "images")
    tables = held_out(record) | tables | joined(folders)
    facts = about(spec if spec == SPEC else Path(spec).name, record, tables)
    facts |= {"drives": count, "default": default, "minutes": round((time.process_time() - begin) / 60, 1)}
    print(PAGE.publish(Record(facts, tables), out))


if __name__ == "__main__":
    main()
