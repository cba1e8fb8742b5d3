"""What all measures of `cc.evaluate` say of real networks: on photographs, on boxes of a detector, on clips.

`photos`: three ImageNet networks on annotated objects, by every measure, model randomisation as cascading,
one module at a time, and over noise. `detector`: right boxes of YOLOX-nano. `clips`: MoViNet-A0 of
Kinetics on two real clips one after the other, where the frames of each class are known, and on windows of
single ones. Few samples each: the intervals say what can be said.

Needs the data that the tests use; see `benchmarks/localisation.py`. Run them with
`python -m benchmarks.judged photos --objects 6`, `… detector --boxes 12`, `… clips --frames 12`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track

import chronocam as cc
from benchmarks.composites import CLIPS, network
from benchmarks.detectors import GREY, MIN_SCORE, SIDE, letterboxed
from benchmarks.localisation import annotated
from chronocam.evaluation import MEASURES, Deletion, Evaluation, Insertion, Measure, Randomisation
from chronocam.metrics import box_iou


def report(result: Evaluation) -> None:
    table = result.to_pandas()
    table["value"] = [f"{line.interval}" for line in result.lines]
    wide = table.pivot(index="measure", columns="method", values="value")
    order = [row.method for row in result.rows if row.method in wide.columns]
    print("| | " + " | ".join(order) + " |\n|---" + "|---" * len(order) + "|")
    for name in dict.fromkeys(m.name for m in result.measures if m.name in wide.index):
        cells = (str(wide.loc[name, method]) for method in order)
        print(f"| `{name}` | " + " | ".join(cells).replace("nan", "–").replace("-", "−") + " |")
    counts = table.groupby("measure")["samples"].max()
    print("independent samples:", ", ".join(f"{name} {n}" for name, n in counts.items()))
    print("\n".join([*result.verdicts, *result.notes, *(f"{name}: {why}" for name, why in result.failures)]))
    print(f"{len(result.samples)} samples, {result.passes} forward passes, {result.alone} without sharing\n")


def progress(samples: Iterable[Any]) -> Iterable[Any]:
    return track(list(samples), "Judging", console=Console(stderr=True), transient=True)


def every(*without: str) -> dict[str, Measure | str]:
    """Return all measures but some by their names, those with many passes a little cheaper."""
    cheaper: dict[str, Measure] = {
        "mufidelity": cc.evaluation.MuFidelity(sets=50),
        "infidelity": cc.evaluation.Infidelity(sets=50),
        "max_sensitivity": cc.evaluation.MaxSensitivity(draws=4),
        "avg_sensitivity": cc.evaluation.AverageSensitivity(draws=4),
        "stability": cc.evaluation.Stability(draws=4),
        "deletion": Deletion(baseline="road"),
        "insertion": Insertion(baseline="road"),
    }
    return {name: cheaper.get(name, name) for name in MEASURES if name not in without}


OUT = click.option("--out", type=click.Path(path_type=Path), help="Where samples are kept, to go on from.")


@click.group()
def main() -> None:
    """Judge maps of real networks by all measures."""


@main.command()
@click.option("--network", "name", default="mobilenet_v2", show_default=True, help="Or as chronocam:NAME.")
@click.option("--objects", default=6, show_default=True, help="Each the first of its photo.")
@click.option("--noises", default=20, show_default=True, help="Of the maps over noise.")
@click.option("--randomisation", is_flag=True, help="By model randomisation alone.")
@OUT
def photos(name: str, objects: int, noises: int, randomisation: bool, out: Path | None) -> None:
    """Objects of photographs, one of each."""
    data, of_photo = annotated()
    pairs = [pairs[0] for pairs in of_photo.values()][:objects]
    spec = name if ":" in name else f"{data / 'imagenet' / name}.safetensors@torchvision:{name}"
    others = {} if randomisation else every("randomisation")
    random: dict[str, Measure | str] = {
        "cascading randomisation": Randomisation(),
        "independent randomisation": Randomisation(independent=True),
        "smooth randomisation": Randomisation(noises=noises),
    }
    report(
        cc.evaluate(
            cc.models.load(spec),
            [str(data / "coco/images" / pair["file"]) for pair in pairs],
            [pair["imagenet_index"] for pair in pairs],
            methods=["gradcam", "layercam", "eigencam", "finercam", "guidedgradcam"],
            measures=random | others,
            truth=[mask(data, pair["file"], pair["segment_ids"]) for pair in pairs],
            out=out,
            progress=progress,
        )
    )


def mask(data: Path, file: str, ids: Iterable[int]) -> np.ndarray:
    """Return where segments are in a photo."""
    picture = Image.open(data / "coco/panoptic" / file.replace(".jpg", ".png"))
    return np.isin(np.asarray(picture.convert("RGB")).astype(np.int64) @ (1, 256, 65536), list(ids))


class Letterbox:
    """The detector's preprocessing: the photo in the upper left of a square, grey beside it."""

    def __call__(self, image: Image.Image) -> np.ndarray:
        scale = min(SIDE / image.width, SIDE / image.height)
        size = round(image.width * scale), round(image.height * scale)
        canvas = np.full((SIDE, SIDE, 3), GREY, np.uint8)
        canvas[: size[1], : size[0]] = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
        return canvas.transpose(2, 0, 1).astype(np.float32) / 255

    def region(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return what of a photo the square shows, and beyond it."""
        side = max(width, height)
        return 0.0, 0.0, side, side


@main.command()
@click.option("--boxes", default=12, show_default=True, help="The two best of each photo.")
@OUT
def detector(boxes: int, out: Path | None) -> None:
    """Right boxes of a detector."""
    data, _ = annotated()
    sys.path.append(str(data / "detector"))
    spec = f"{data / 'detector/yolox_nano.safetensors'}@python:yolox_nano:YOLOXNano"
    net = cc.models.load(spec).model
    paths, targets, truths = [], [], []
    for path, box, truth in right_boxes(net, data):
        paths.append(str(path))
        targets.append(cc.targets.Boxes(box))
        truths.append(truth)
        if len(paths) == boxes:
            break
    report(
        cc.evaluate(
            net,
            paths,
            targets,
            methods=["odam", "gradcam", "layercam"],
            measures=every("adcc", "arcc", "focus"),
            truth=truths,
            preprocess=Letterbox(),
            out=out,
            progress=progress,
        )
    )


def right_boxes(net: torch.nn.Module, data: Path) -> Iterable[tuple[Path, cc.Detection, np.ndarray]]:
    """Yield the two best detections of each photo that overlap an object of their class by more than half."""
    record = json.loads((data / "coco/panoptic.json").read_text())
    things = [one["id"] for one in record["categories"] if one["isthing"]]
    for scene in record["annotations"]:
        path = data / "coco/images" / scene["file_name"].replace(".png", ".jpg")
        x, scale = letterboxed(path)
        kept = 0
        for found in cc.detect(net, x, MIN_SCORE):
            of_class = [
                one
                for one in scene["segments_info"]
                if one["category_id"] == things[found.index] and not one["iscrowd"]
            ]
            fits = [one for one in of_class if box_iou(found.box, _corners(one["bbox"], scale)) > 0.5]
            if fits and kept < 2:
                kept += 1
                yield path, found, mask(data, path.name, [fits[0]["id"]])


def _corners(box: list[float], scale: float) -> tuple[float, float, float, float]:
    x, y, width, height = (side * scale for side in box)
    return x, y, x + width, y + height


@main.command()
@click.option("--frames", default=12, show_default=True, help="Of each clip.")
@click.option("--windows", default=3, show_default=True, help="Of each single clip.")
def clips(frames: int, windows: int) -> None:
    """Real clips: two of them one after the other, then windows of single ones."""
    data, _ = annotated()
    model, labels = network(data / "kinetics")
    pictures = cc.media.Preprocess((172, 172), None, (0.0,) * 3, (1.0,) * 3)
    recipe = cc.media.ClipPreprocess(pictures, windows * frames)
    whole = {name: recipe(recipe.read(data / "kinetics" / name)) for name in CLIPS}
    curves = [Deletion(steps=5, over="frames", baseline="freeze"), Insertion(steps=5, over="frames")]
    options: dict[str, Any] = {
        "methods": ["gradcam", "layercam", "gradcam++", "eigencam"],
        "labels": labels,
        "progress": progress,
    }
    names = list(CLIPS)
    pairs = [(a, b) for a in names for b in names if a != b]
    joined = [np.concatenate([whole[a][:, ::windows], whole[b][:, ::windows]], axis=1) for a, b in pairs]
    result = cc.evaluate(
        model,
        np.stack(joined),
        [CLIPS[a] for a, _ in pairs],
        measures=["temporal_iou", "temporal_auc", "energy", "pointing", "flicker", *curves],
        truth=[np.arange(2 * frames)[:, None, None] < np.full((1, 172, 172), frames)] * len(pairs),
        **options,
    )
    print("two clips one after the other, the class of the first")
    report(result)
    parts = [(name, k) for k in range(windows) for name in names]
    result = cc.evaluate(
        model,
        np.stack([whole[name][:, k::windows] for name, k in parts]),
        [CLIPS[name] for name, _ in parts],
        measures=["focus", "flicker", "sparseness", "random_logit", *curves],
        **options,
    )
    print(f"{windows} series of frames of each of four clips")
    report(result)


if __name__ == "__main__":
    main()
