"""An evaluation of many pictures, killed in the middle and gone on with: its time, its passes, what is lost.

MobileNetV2; eight methods and four controls; pointing, energy inside, average drop, deletion and insertion in
10 steps, ROAD at five shares. There are few annotated photographs at hand: each is cut and mirrored in up to
ten ways, its box with it. That makes pictures enough for a run, whose cost is what counts here, and no
verdict: they are no independent samples.

Needs the data that the tests use; see `benchmarks/localisation.py`. Run it with
`python -m benchmarks.interrupted --pictures 300 --out FOLDER`, in an empty folder.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import torch
from PIL import Image, ImageOps

import chronocam as cc
from benchmarks.evaluation import MEASURES, METHODS
from benchmarks.localisation import annotated

Box = tuple[float, float, float, float]

WAYS = [(place, mirrored) for mirrored in (False, True) for place in (None, (0, 0), (1, 0), (0, 1), (1, 1))]
"""How a photo is cut: whole, or 4/5 of it in one corner; and whether it is mirrored."""


def photographs(data: Path) -> list[tuple[Path, Box | None]]:
    """Return photographs, each with the box of its largest annotated object; None where there is none."""
    scenes = json.loads((data / "coco/panoptic.json").read_text())
    things = {one["id"] for one in scenes["categories"] if one["isthing"]}
    found: list[tuple[Path, Box | None]] = []
    for scene in scenes["annotations"]:
        objects = [one for one in scene["segments_info"] if one["category_id"] in things]
        x, y, width, height = max(objects, key=lambda one: one["area"])["bbox"] if objects else (0, 0, 0, 0)
        path = data / "coco/images" / scene["file_name"].replace(".png", ".jpg")
        found.append((path, (x, y, x + width, y + height) if objects else None))
    others = sorted(one for one in (data / "photos").iterdir() if "mask" not in one.name)
    return found + [(path, None) for path in others]


def cut(image: Image.Image, box: Box | None, place: tuple[int, int] | None, mirrored: bool) -> Any:
    """Return a part of a picture and the box in it; None for a box of which nothing is left."""
    width, height = image.size
    if place is not None:
        w, h = width * 4 // 5, height * 4 // 5
        left, top = place[0] * (width - w), place[1] * (height - h)
        image, width, height = image.crop((left, top, left + w, top + h)), w, h
        if box is not None:
            box = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    if mirrored:
        image = ImageOps.mirror(image)
        box = None if box is None else (width - box[2], box[1], width - box[0], box[3])
    if box is not None:
        box = (max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height))
        box = box if box[2] - box[0] >= 1 and box[3] - box[1] >= 1 else None
    return image, box


def make(folder: Path, count: int, data: Path) -> list[dict[str, Any]]:
    """Write the pictures, and return their files and boxes."""
    folder.mkdir(parents=True)
    photos, made = photographs(data), []
    for place, mirrored in WAYS:
        for path, box in photos[: count - len(made)]:
            image, moved = cut(cc.media.read_image(path), box, place, mirrored)
            name = folder / f"{len(made):03d}_{path.stem}.jpg"
            image.convert("RGB").save(name, quality=95)
            made.append({"file": str(name), "box": moved})
    (folder / "boxes.json").write_text(json.dumps(made))
    return made


def judge(out: Path, baseline: str) -> None:
    """Judge the pictures that are left, and write what it took."""
    data, _ = annotated()
    made = json.loads((out / "pictures/boxes.json").read_text())
    loaded = cc.models.load(f"{data / 'imagenet/mobilenet_v2'}.safetensors@torchvision:mobilenet_v2")
    seen = [0]
    loaded.model.features[0][0].register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    named = {
        "deletion": cc.evaluation.Deletion(baseline=baseline),
        "insertion": cc.evaluation.Insertion(baseline=baseline),
    }
    result = cc.evaluate(
        loaded,
        [one["file"] for one in made],
        methods=METHODS,
        measures=[named.get(name, name) for name in MEASURES],
        truth=[None if one["box"] is None else [one["box"]] for one in made],
        out=out / "judged",
    )
    numbers = {"passes": result.passes, "alone": result.alone, "seen": sum(seen)}
    numbers |= {"samples": len(result.samples), "failures": result.failures}
    (out / "numbers.json").write_text(json.dumps(numbers))


def lines(out: Path) -> list[bytes]:
    """Return the samples that are judged, as they are stored."""
    file = out / "judged/samples.jsonl"
    return file.read_bytes().splitlines(keepends=True)[1:] if file.exists() else []


def child(out: Path, baseline: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.interrupted", "--part", "--out", str(out)]
    return subprocess.Popen([*command, "--baseline", baseline], start_new_session=True)


@click.command()
@click.option("--pictures", default=300, show_default=True, help="How many; 450 at most.")
@click.option(
    "--baseline", default="road", show_default=True, help="Of deletion and insertion; ROAD shares its own."
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("interrupted"), show_default=True)
@click.option("--part", is_flag=True, hidden=True)
def main(pictures: int, baseline: str, out: Path, part: bool) -> None:
    if part:
        return judge(out, baseline)
    made = make(out / "pictures", pictures, annotated()[0])
    start = time.perf_counter()
    first = child(out, baseline)
    while first.poll() is None and len(lines(out)) < len(made) // 2:
        time.sleep(0.2)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    kept = [line for line in lines(out) if line.endswith(b"\n")]
    middle = time.perf_counter()
    if child(out, baseline).wait() != 0:
        raise click.ClickException("the second part failed")
    end = time.perf_counter()
    whole, numbers = lines(out), json.loads((out / "numbers.json").read_text())
    judged = [json.loads(line) for line in whole]
    earlier = sum(json.loads(line)["passes"][0] for line in kept)
    photos = len({Path(one["file"]).stem.split("_", 1)[1] for one in made})
    print(f"{len(made)} pictures of {photos} photographs, {torch.get_num_threads()} threads")
    print(f"killed after {len(kept)} pictures and {middle - start:.0f} s; the rest took {end - middle:.0f} s")
    print(f"{(end - start) / 60:.1f} minutes in all, {(end - start) / len(made):.2f} s per picture")
    print(
        f"{numbers['passes']} forward passes, {numbers['alone']} without sharing: "
        f"{numbers['passes'] / numbers['alone']:.1%}"
    )
    print(
        f"second part: {numbers['passes'] - earlier} passes counted, {numbers['seen']} inputs seen by the "
        "network (with the search for the layer and what the clock took)"
    )
    print(f"lost: {sum(line not in whole for line in kept)}, failures: {len(numbers['failures'])}")
    print(
        f"judged twice: {len(judged) - len({one['sample'] for one in judged})}, in all {numbers['samples']}"
    )


if __name__ == "__main__":
    main()
