"""Claims about maps of odometry, as numbers with intervals: writes docs/odometry.md and its pictures.

Do maps for motion leave out a wall without texture; do outputs change faster as the marked cells go; does an
object that moves by itself attract the maps of the loss; do signs flip? On rendered drives that training
never showed, beside random maps and a centre prior, and, where they are there, on real frames. In three to
four minutes on one core:

    python -m benchmarks.claims.odometry --real FOLDER
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import track

from benchmarks.claims.odometry.checks import light, noise, randomised, signs
from benchmarks.claims.odometry.faithful import faithfulness
from benchmarks.claims.odometry.measures import movers, walls
from benchmarks.claims.odometry.page import Results, again, page
from benchmarks.claims.odometry.pictures import draw_all
from benchmarks.claims.odometry.real import found_in, real
from benchmarks.claims.odometry.world import Pairs, grids, rendered
from chronocam.lab.models.odometry import Odometry, odometry_record
from chronocam.media.files import replace_file
from chronocam.models import load

SPEC = "chronocam:odometry"
DOCS = Path(__file__).resolve().parents[3] / "docs"
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


def measured(
    network: Odometry, random: Odometry, scenes: Mapping[str, Pairs], folders: Sequence[Path] = ()
) -> Results:
    """Measure all claims."""
    textured = scenes["textured"]
    few = textured.some(slice(NOISY))
    return Results(
        walls(network, scenes["plain"], textured),
        faithfulness(network, textured.some(slice(FAITHFUL))),
        movers(network, scenes["moving"], textured),
        signs(network, textured),
        light(network, textured, scenes["exposed"]),
        noise({"trained": network, "random weights": random}, few),
        randomised(network, random, textured),
        [real(network, folder, textured.size) for folder in folders],
    )


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
        folders = found_in(folder) if folder else []
        found = measured(network, with_random_weights(network, record), scenes, folders)
        default = next(iter(grids(network, scenes["plain"])))
    draw_all(network, scenes, found.real, out / "images")
    name = spec if spec == SPEC else Path(spec).name
    options = f"{'' if spec == SPEC else f' --model {name}'}{' --real FOLDER' if folders else ''}"
    how = again(options, record, time.process_time() - begin)
    told = {"spec": name, "count": count, "default": default, "again": how}
    text = page(found, record, told)
    print(replace_file(out / "odometry.md", lambda path: path.write_text(text, encoding="utf-8")))


if __name__ == "__main__":
    main()
