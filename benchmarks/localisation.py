"""Do maps of real networks lie on the objects? Annotated photographs, beside noise and the centre prior.

For each annotated object whose class is explained: is the map's maximum inside the object's mask (pointing
game), what share of the map's energy lies inside, and does the box around the largest region above 15 % of
the maximum overlap an annotated box by more than half (IoU > 0.5)? Means with 95 % bootstrap intervals over
objects.

Needs the data that the tests use: CHRONOCAM_DATA, or ../shared/data beside the project. Run it with
`python -m benchmarks.localisation`.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

import chronocam as cc
from chronocam.maps.regions import boxes
from chronocam.methods import METHODS
from chronocam.metrics import bootstrap, box_iou, centre_prior, energy_inside, pointing_game, random_maps

if TYPE_CHECKING:
    from chronocam.models import Loaded

NETWORKS = ("mobilenet_v2", "squeezenet1_0")


@dataclass(frozen=True)
class Truth:
    """An object in the part of the photo that the network saw."""

    mask: np.ndarray
    boxes: list[tuple[float, float, float, float]]
    top1: bool

    def judge(self, values: np.ndarray) -> dict[str, float]:
        region = boxes(values) or [(0, 0, 0, 0)]
        return {
            "pointing": float(pointing_game(values, self.mask)),
            "energy": float(energy_inside(values, self.mask)),
            "box IoU > 0.5": float(max(box_iou(region[0], box) for box in self.boxes) > 0.5),
        }


def truth(pair: dict[str, Any], data: Path, region: tuple[int, ...], top1: bool) -> Truth | None:
    """Return the object as it lies in `region` of its photo, or None where it lies outside."""
    x0, y0, x1, y1 = region
    colours = np.asarray(
        Image.open(data / "coco/panoptic" / pair["file"].replace(".jpg", ".png")).convert("RGB")
    )
    ids = colours.astype(np.int64) @ (1, 256, 65536)
    mask = np.isin(ids, pair["segment_ids"])[y0:y1, x0:x1]
    clipped = [
        (max(x, x0) - x0, max(y, y0) - y0, min(x + w, x1) - x0, min(y + h, y1) - y0)
        for x, y, w, h in pair["boxes_xywh"]
    ]
    visible = [box for box in clipped if box[2] > box[0] and box[3] > box[1]]
    return Truth(mask, visible, top1) if mask.any() and visible else None


def explain_photo(
    loaded: Loaded, data: Path, file: str, pairs: list[dict[str, Any]], methods: list[str], align: str
) -> list[tuple[str, Truth, np.ndarray]]:
    """Return (method, truth, map at the region's size) for all objects of a photo, from one call."""
    image = cc.media.read_image(data / "coco/images" / file)
    classes = sorted({pair["imagenet_index"] for pair in pairs})
    targets = [*map(cc.targets.Class, classes), cc.targets.Predicted()]
    explained = cc.explain(
        loaded.model, loaded.preprocess(image)[None], targets, methods=methods, align=align
    )
    region = tuple(round(v) for v in loaded.preprocess.region(*image.size))
    size = (region[3] - region[1], region[2] - region[0])
    judgeable = []
    for name, explanation in explained.items():
        maps, best = explanation.upsample(size)[0], explanation.targets[0][-1].index
        for pair in pairs:
            index = pair["imagenet_index"]
            true = truth(pair, data, region, index == best)
            if true is not None:
                judgeable.append((name, true, maps[classes.index(index)]))
    return judgeable


def network(
    name: str, data: Path, methods: list[str], photos: dict[str, Any], top1_only: bool, align: str
) -> None:
    loaded = cc.models.load(f"{data / 'imagenet' / name}.safetensors@torchvision:{name}")
    judged: dict[str, list[dict[str, float]]] = defaultdict(list)
    console = Console(stderr=True)
    for number, (file, pairs) in enumerate(track(photos.items(), name, console=console, transient=True)):
        for method, true, values in explain_photo(loaded, data, file, pairs, methods, align):
            if top1_only and not true.top1:
                continue
            judged[method].append(true.judge(values))
            if method == methods[0]:
                size = true.mask.shape
                judged["(random map)"].append(true.judge(random_maps(1, (7, 7), size, number)[0]))
                judged["(centre prior)"].append(true.judge(centre_prior(size)))
                judged["(mask area)"].append({"energy": float(true.mask.mean())})
    what = "objects of the class that the network predicts" if top1_only else "objects"
    print(f"\n{name}, {align} alignment: {len(judged[methods[0]])} {what}")
    for method in [*methods, "(random map)", "(centre prior)", "(mask area)"]:
        rows = judged[method]
        cells = [f"{key} {bootstrap([row[key] for row in rows])}" for key in rows[0]] if rows else []
        print(f"  {method:20} {'   '.join(cells)}")


def annotated() -> tuple[Path, dict[str, list[dict[str, Any]]]]:
    """Return the folder of the data, and the annotated objects of each photo."""
    data = Path(os.environ.get("CHRONOCAM_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not data.is_dir():
        raise click.ClickException(f"no folder `{data}`; set CHRONOCAM_DATA to the annotated photographs")
    photos: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for pair in json.loads((data / "coco/pairs.json").read_text()):
        photos[pair["file"]].append(pair)
    return data, photos


@click.command()
@click.option("--method", "methods", multiple=True, type=click.Choice(sorted(METHODS)), help="Default: all.")
@click.option(
    "--all-objects", is_flag=True, help="Also objects of classes that the network does not predict."
)
@click.option(
    "--align", type=click.Choice(["half_pixel", "receptive_field"]), default="half_pixel", show_default=True
)
def main(methods: tuple[str, ...], all_objects: bool, align: str) -> None:
    data, photos = annotated()
    for name in NETWORKS:
        network(name, data, list(methods or METHODS), photos, not all_objects, align)


if __name__ == "__main__":
    main()
