"""Do maps of boxes lie on their objects? A real detector (YOLOX-nano) on annotated photographs.

For each detection that is right (its class, and an IoU above 0.5 with an annotated object): is the maximum
of the map inside the object's own mask (pointing), what share of the map's energy lies in it, and of objects
with another of their class in the photo, how much lies on those others? Beside the predicted box, filled, and
the centre of the picture. Means with 95 % bootstrap intervals over detections. Then the cost, in forward
passes of the bare model, interleaved in one process.

Needs the data that the tests use: CHRONOCAM_DATA, or ../shared/data beside the project. Run it with
`python -m benchmarks.detectors`; `--drise 300` adds D-RISE, at so many forward passes of each photo, and
`--layers` the same map on other layers of the box's level. There the score's fall where what a map marks is
blurred, and what is left of it where all else is, say how faithful each is.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image, ImageFilter
from rich.console import Console
from rich.progress import track

import chronocam as cc
from benchmarks.localisation import annotated
from chronocam.metrics import bootstrap, box_iou, centre_prior, energy_inside, pointing_game

SIDE = 416
GREY = 114
MIN_SCORE = 0.3
SHARES = (0.125, 0.25, 0.5, 1.0)
"""Of the box's area: how much of the picture is blurred, or left as it is."""

LARGE = 32**2
"""Pixels of the photo from which COCO calls an object more than small."""


LAYERS = {
    "end of the pyramid": ("neck.C3_{}",),
    "the head's stems (default)": ("head.stems.{}",),
    "first of both branches": ("head.cls_convs.{}.0", "head.reg_convs.{}.0"),
    "last of both branches": ("head.cls_convs.{}.1", "head.reg_convs.{}.1"),
}
"""Of each place the layers, with what stands for the level; maps of several are added up, both signs kept."""


@dataclass(frozen=True)
class Photo:
    """A photo as the detector gets it.

    x: the letterboxed picture, `(1, 3, 416, 416)`. seen: height and width of the photo in it.
    objects: of each annotated object its class, box and mask in the letterboxed picture.
    scale: of the letterboxed picture, in pixels of the photo.
    """

    x: torch.Tensor
    seen: tuple[int, int]
    objects: list[tuple[int, tuple[float, ...], np.ndarray]]
    scale: float

    def cut(self, values: np.ndarray) -> np.ndarray:
        """Return what lies on the photo, without the padding."""
        return values[..., : self.seen[0], : self.seen[1]]


def letterboxed(path: Path) -> tuple[torch.Tensor, float]:
    """Return a photo at the detector's size, grey below and beside it, and by what it was scaled."""
    image = Image.open(path).convert("RGB")
    scale = min(SIDE / image.width, SIDE / image.height)
    small = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    canvas = np.full((SIDE, SIDE, 3), GREY, np.uint8)
    canvas[: small.height, : small.width] = np.asarray(small)
    return torch.from_numpy(canvas).permute(2, 0, 1)[None].float() / 255, scale


def photos(data: Path) -> Iterator[Photo]:
    """Yield the annotated photos with their objects."""
    record = json.loads((data / "coco/panoptic.json").read_text())
    things = [one["id"] for one in record["categories"] if one["isthing"]]
    for annotation in record["annotations"]:
        name = annotation["file_name"]
        x, scale = letterboxed(data / "coco/images" / name.replace(".png", ".jpg"))
        colours = Image.open(data / "coco/panoptic" / name).convert("RGB")
        small = (round(colours.width * scale), round(colours.height * scale))
        ids = np.asarray(colours.resize(small, Image.Resampling.NEAREST)).astype(np.int64) @ (1, 256, 65536)
        objects = []
        for segment in annotation["segments_info"]:
            x0, y0, width, height = (side * scale for side in segment["bbox"])
            mask = ids == segment["id"]
            if segment["category_id"] in things and not segment["iscrowd"] and mask.any():
                index = things.index(segment["category_id"])
                objects.append((index, (x0, y0, x0 + width, y0 + height), mask))
        yield Photo(x, (small[1], small[0]), objects, scale)


def right(photo: Photo, found: cc.Detections) -> list[tuple[cc.Detection, np.ndarray, np.ndarray | None]]:
    """Return the detections that are right, each with its object's mask and that of others of its class."""
    kept, used = [], set[int]()
    for one in found:
        able = [
            (box_iou(one.box, box), at)
            for at, (index, box, _) in enumerate(photo.objects)
            if index == one.index and at not in used
        ]
        overlap, at = max(able, default=(0.0, -1))
        if overlap <= 0.5:
            continue
        used.add(at)
        others = [mask for i, (index, _, mask) in enumerate(photo.objects) if index == one.index and i != at]
        own = photo.objects[at][2]
        kept.append((one, own, np.any(others, axis=0) & ~own if others else None))
    return kept


def filled(box: tuple[float, ...], size: tuple[int, int]) -> np.ndarray:
    """Return a box as a map: one in it, a little more at its centre, at which it points."""
    values = np.zeros(size)
    x0, y0, x1, y1 = (round(side) for side in box)
    values[y0:y1, x0:x1] = 1
    values[min((y0 + y1) // 2, size[0] - 1), min((x0 + x1) // 2, size[1] - 1)] = 1.001
    return values


def judge(values: np.ndarray, own: np.ndarray, others: np.ndarray | None) -> dict[str, float]:
    judged = {"pointing": float(pointing_game(values, own)), "energy": float(energy_inside(values, own))}
    if others is not None:
        judged |= {"twins own": judged["energy"], "twins other": float(energy_inside(values, others))}
    return judged


def maps_of(
    methods: dict[str, cc.methods.Method], x: torch.Tensor, boxes: list[cc.Detection]
) -> Iterator[tuple[str, np.ndarray, float]]:
    """Yield each method with its maps of the boxes, at the size of the input, and the seconds they took."""
    for name, method in methods.items():
        start = time.process_time()
        explanation = method.explain(x, cc.targets.Boxes(boxes))
        yield name, explanation.upsample()[0], time.process_time() - start


def at_layers(net: torch.nn.Module, x: torch.Tensor, one: cc.Detection) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the map of a box at each of `LAYERS` on its level, at the size of the input."""
    for name, paths in LAYERS.items():
        level = ("p3", "n3", "n4")[one.level] if "neck" in paths[0] else one.level
        of_paths = (cc.HiResCAM(net, path.format(level), signed=True) for path in paths)
        parts = [method.explain(x, cc.targets.Boxes(one)) for method in of_paths]
        whole = replace(parts[0], maps=np.maximum(sum(part.maps for part in parts), 0))
        yield name, whole.upsample()[0, 0]


def faithful(net: torch.nn.Module, photo: Photo, one: cc.Detection, values: np.ndarray) -> dict[str, float]:
    """Return by what share a box's score falls without what its map marks, and what is left with that alone.

    values: the map at the size of the input. Means over `SHARES`; the rest of the picture is blurred.
    """
    seen = np.full(values.shape, -1.0)
    photo.cut(seen)[:] = photo.cut(values).clip(0)
    order = np.argsort(-seen, axis=None, kind="stable")
    whole = Image.fromarray((photo.x[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
    blurred = np.asarray(whole.filter(ImageFilter.GaussianBlur(12))).transpose(2, 0, 1) / np.float32(255)
    x0, y0, x1, y1 = one.box
    pictures = []
    for share in SHARES:
        marked = np.zeros(values.size, bool)
        marked[order[: int(share * (x1 - x0) * (y1 - y0))]] = True
        marked = marked.reshape(values.shape)
        pictures += [np.where(marked, blurred, photo.x[0]), np.where(marked, photo.x[0], blurred)]
    with torch.no_grad():
        row = net(torch.from_numpy(np.stack(pictures)))[:, one.row]
    left = (row[:, 4] * row[:, 5 + one.index]).numpy() / one.score
    return {"fall": float(1 - left[0::2].mean()), "left": float(left[1::2].mean())}


def quality(net: torch.nn.Module, data: Path, drise: int, most: int | None, layers: bool) -> None:
    judged: dict[str, list[dict[str, float]]] = defaultdict(list)
    large: list[bool] = []
    seconds: dict[str, list[float]] = defaultdict(list)
    methods: dict[str, cc.methods.Method] = {"odam": cc.ODAM(net), "gradcam": cc.GradCAM(net)}
    if drise:
        methods[f"drise, {drise} passes"] = cc.DRISE(net, until=None, budget=drise)
    detections = 0
    for photo in track(list(photos(data))[:most], "Photos", console=Console(stderr=True), transient=True):
        found = cc.detect(net, photo.x, MIN_SCORE)
        detections += len(found)
        kept = right(photo, found)
        if not kept:
            continue
        for name, values, took in maps_of(methods, photo.x, [one for one, _, _ in kept]):
            seconds[name].append(took)
            for k, (_, own, others) in enumerate(kept):
                judged[name].append(judge(photo.cut(values[k]).clip(0), own, others))
        for one, own, others in kept:
            large.append(own.sum() >= LARGE * photo.scale**2)
            for name, values in at_layers(net, photo.x, one) if layers else ():
                faith = faithful(net, photo, one, values)
                judged[name].append(judge(photo.cut(values).clip(0), own, others) | faith)
            judged["(box, filled)"].append(judge(filled(one.box, photo.seen), own, others))
            judged["(centre of the photo)"].append(judge(centre_prior(photo.seen), own, others))
    print(f"{len(large)} of {detections} detections of a score above {MIN_SCORE} are right")
    table("all", judged, [True] * len(large))
    table("of objects of 32² pixels or more", judged, large)
    for name, took in seconds.items():
        print(f"  {name:22} {np.median(took):.2f} s of processor time for the boxes of a photo (median)")


def table(title: str, judged: dict[str, list[dict[str, float]]], which: list[bool]) -> None:
    """Print means and intervals of some of the detections."""
    twins = sum("twins own" in row for row, one in zip(judged["odam"], which, strict=True) if one)
    print(f"{title}: {sum(which)}, {twins} with a twin")
    for name, rows in judged.items():
        some = [row for row, one in zip(rows, which, strict=True) if one]
        cells = [
            f"{key} {bootstrap([row[key] for row in some if key in row])}"
            for key in ("pointing", "energy", "twins own", "twins other", "fall", "left")
            if any(key in row for row in some)
        ]
        print(f"  {name:26} {'   '.join(cells)}")


def cost(net: torch.nn.Module, data: Path, rounds: int) -> None:
    """Print what maps cost, in forward passes: medians of processor time of interleaved rounds."""
    every = list(photos(data))
    photo = max(every, key=lambda one: len(cc.detect(net, one.x, MIN_SCORE)))
    found, method = cc.detect(net, photo.x, MIN_SCORE), cc.ODAM(net)

    def forward() -> None:
        with torch.no_grad():
            net(photo.x)

    entries: dict[str, Callable[[], object]] = {
        "forward": forward,
        "one box": lambda: method.explain(photo.x, cc.targets.Boxes(found[0])),
        "twenty boxes": lambda: method.explain(photo.x, cc.targets.Boxes(top=20)),
        "detect": lambda: cc.detect(net, photo.x, MIN_SCORE),
    }
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds + 1):
        for name, run in entries.items():
            start = time.process_time()
            run()
            times[name].append(time.process_time() - start)
    base = np.array(times["forward"][1:])  # the first round finds layers, once
    for name, seconds in times.items():
        ratio = np.median(np.array(seconds[1:]) / base)
        least = min(seconds[1:]) / base.min()
        took = f"{np.median(seconds[1:]) * 1e3:7.1f} ms"
        print(f"  {name:14} {took}   {ratio:.2f} forward passes (of minima {least:.2f})")


@click.command()
@click.option(
    "--drise", type=int, default=0, help="Forward passes of each photo for D-RISE; 0 leaves it out."
)
@click.option("--photos", "most", type=int, help="How many photos; all without it.")
@click.option("--layers", is_flag=True, help="Other layers of the box's level, too.")
@click.option("--rounds", default=15, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(drise: int, most: int | None, layers: bool, rounds: int, threads: int) -> None:
    torch.set_num_threads(threads)
    data, _ = annotated()
    sys.path.insert(0, str(data / "detector"))
    from safetensors.torch import load_file

    net = import_module("yolox_nano").YOLOXNano()
    net.load_state_dict(load_file(data / "detector/yolox_nano.safetensors"))
    net.eval()
    quality(net, data, drise, most, layers)
    cost(net, data, rounds)


if __name__ == "__main__":
    main()
