"""Writes the corpus, small whole files of every kind: `PYTHONPATH=tests python -m fuzz.seeds`."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from zipfile import ZipFile, ZipInfo

import numpy as np
from PIL import Image

import chronocam as cc
from chronocam.maps.attention import Attention
from chronocam.media import Stills
from chronocam.media.preprocess import imagenet
from chronocam.records import (
    ClipFeatureResult,
    DriveEntry,
    DriveResult,
    MapEntry,
    PathEntry,
    PictureResult,
    Result,
    SequenceEntry,
    Written,
)
from chronocam.runs.dataset.inputs.base import Item
from chronocam.runs.dataset.place import Place
from chronocam.runs.dataset.plan import Settings, freeze, part_name
from chronocam.runs.dataset.rows import Rows
from chronocam.sequence import SequenceExplanation
from chronocam.targets.steps import StepInfo, VotesInfo
from chronocam.types import Finding, TargetInfo

CORPUS: Final = Path(__file__).parent / "corpus"

RNG: Final = np.random.default_rng(0)


def write_all(folder: Path) -> None:
    """Write every seed into a folder."""
    pictures(folder / "pictures")
    clips(folder / "clips")
    report(folder / "report")
    drive(folder / "drive")
    run(folder / "run")
    weights(folder / "weights")
    networks(folder / "networks")
    (folder / "arrays").mkdir(exist_ok=True)
    np.save(folder / "arrays" / "features.npy", RNG.normal(size=(3, 4)).astype(np.float32))


def noise(*shape: int) -> Any:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(noise(6, 8, 3)).save(file, "JPEG")
    return file.getvalue()


def pictures(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rgb = Image.fromarray(noise(9, 12, 3))
    for suffix in ("png", "jpg", "gif", "bmp", "tif", "webp", "ppm", "tga"):
        rgb.save(folder / f"rgb.{suffix}")
    Image.fromarray(RNG.integers(0, 60_000, (9, 12)).astype(np.uint16)).save(folder / "deep.png")
    Image.fromarray(noise(9, 12, 2), "LA").save(folder / "clear.png")
    rgb.quantize(8).save(folder / "palette.png")
    Image.fromarray(RNG.normal(size=(9, 12)).astype(np.float32)).save(folder / "float.tif")
    turned = Image.Exif()
    turned[0x0112] = 6
    rgb.save(folder / "turned.jpg", exif=turned)


def clips(folder: Path) -> None:
    frames = noise(5, 16, 16, 3)
    for suffix in ("gif", "webp", "mp4"):
        cc.media.write_clip(folder / f"clip.{suffix}", frames, fps=10)


def explanation(*grid: int, batch: int = 1) -> cc.Explanation:
    """Return maps with everything that a file can keep."""
    maps = RNG.normal(size=(batch, 2, *grid)).astype(np.float32)
    scores = RNG.normal(size=(batch, 2)).astype(np.float32)
    size, frames = tuple(4 * length for length in grid), 1
    if len(grid) == 3:
        size, frames = (4, *size[1:]), 4
    times = tuple(range(frames)) if frames > 1 else None
    copy = Stills(
        tuple(jpeg() for _ in range(frames)),
        (6, 8),
        (0, 0, 8, 6),
        tuple(range(frames)),
        times and tuple(at / 8 for at in times),
        times,
        "cat.jpg",
    )
    whole = cc.Explanation(
        maps,
        scores,
        ((TargetInfo("cat", 1), TargetInfo("dog", None)),) * batch,
        "gradcam",
        "layer4",
        size,
        centers=tuple(tuple(float(at) for at in np.arange(n) * 4) for n in grid),
        frame_spans=tuple((2 * k, 2 * k + 1) for k in range(grid[0])) if len(grid) == 3 else None,
        attention=Attention(np.full((batch, 4), 0.25), RNG.normal(size=(batch, 2, 4))),
        findings=(Finding("note", None, None, "a remark"), Finding("zero map", 0, "cat", "all zero")),
        confidences=np.full((batch, 2), 0.5, np.float32),
    )
    return whole.with_pictures([copy] * batch)


def sequence(infos: Sequence[TargetInfo], time: int = 3) -> SequenceExplanation:
    relevance = RNG.normal(size=(1, len(infos), time, 4))
    scores = relevance.sum(axis=(2, 3))
    ledger = {"input": scores - 1, "bias": np.ones_like(scores)}
    return SequenceExplanation(relevance, scores, (tuple(infos),), "lrp", ledger, ("a remark",), (time,))


def report(folder: Path) -> None:
    """Write what `chronocam explain` writes of a picture, a clip with its features, and a drive."""
    explanation(2, 3).save(folder / "picture.npz")
    explanation(2, 2, 3).save(folder / "clip.npz")
    explanation(2, 3, batch=2).save(folder / "drive.npz")
    sequence([StepInfo("left", 0, step, 0) for step in range(3)]).save(folder / "steps.npz")
    sequence([VotesInfo("left", 0, (0, 1, 0)), TargetInfo("right", 1)]).save(folder / "votes.npz")
    np.savez_compressed(folder / "drive.depth.npz", depth=RNG.random((2, 2, 3)).astype(np.float32))
    said = {"method": "gradcam", "explanation": "picture.npz", "target": "cat", "score": 0.5}
    one = MapEntry.from_json({**said, "grid": [2, 3]})
    of_clip = MapEntry.from_json({**said, "frame_spans": [[0, 1], [2, 3]], "explanation": "clip.npz"})
    steps = SequenceEntry.from_json({"method": "lrp", "steps": [0, 1, 2], "relevance": "steps.npz"})
    outputs = [
        DriveEntry.from_json(
            {
                "target": name,
                "network": "pose",
                "method": "gradcam",
                "truth": [0.5, None],
                "unit": 2.0,
                "maps": "drive.npz",
            }
        )
        for name in ("tz", "ry")
    ]
    path = PathEntry(positions=((0.0, 0.0, 0.0), (0.0, 0.0, 1.0)), truth=None, scale=None)
    of_drive = {"frames": [0, 1], "seconds": [0.0, 0.5], "depth_maps": "drive.depth.npz"}
    results: dict[str, Result] = {
        "picture": PictureResult.from_json({"input": "cat.jpg", "maps": [one.to_json()]}),
        "clip": ClipFeatureResult.from_json(
            {"input": "clip.mp4", "maps": [of_clip.to_json()], "sequences": [steps.to_json()]}
        ),
        "drive": DriveResult.from_json(
            {**of_drive, "path": path.to_json(), "maps": [entry.to_json() for entry in outputs]}
        ),
    }
    for name, result in results.items():
        text = json.dumps(Written("chronocam:digits", result).to_json())
        (folder / f"{name}.json").write_text(text)


def drive(folder: Path) -> None:
    """Write a sequence laid out like KITTI's, and a folder of colours and depth."""
    sequence_of = folder / "sequences" / "00"
    (sequence_of / "image_2").mkdir(parents=True, exist_ok=True)
    for number in range(3):
        Image.fromarray(noise(6, 8, 3)).save(sequence_of / "image_2" / f"{number:06}.png")
    matrix = "8 0 4 0 0 8 3 0 0 0 1 0"
    (sequence_of / "calib.txt").write_text("".join(f"P{k}: {matrix}\n" for k in range(4)))
    (sequence_of / "times.txt").write_text("0.0\n0.1\n0.2\n")
    (folder / "poses").mkdir(exist_ok=True)
    (folder / "poses" / "00.txt").write_text("".join(f"1 0 0 0 0 1 0 0 0 0 1 {0.1 * k}\n" for k in range(3)))


def weights(folder: Path) -> None:
    """Write the weights of `fuzz.nets.net`, and the record of a network without its weights."""
    import torch
    from fuzz.nets import net
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(net().state_dict(), folder / "net.safetensors")
    record = {
        "format": "chronocam video 1",
        "arch": "cnn-lstm",
        "backbone": "small",
        "hidden": 4,
        "labels": ["left", "right"],
        "frames": 16,
        "size": [96, 96],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "axes": "time channel",
        "sampling": "uniform",
    }
    (folder / "model.json").write_text(json.dumps(record))
    for name, content in {
        "plain.pth": net().state_dict(),
        "lightning.ckpt": {
            "epoch": 1,
            "pytorch-lightning_version": "2.4.0",
            "hyper_parameters": {"lr": 0.1},
            "state_dict": {f"model.{key}": value for key, value in net().state_dict().items()},
        },
        "network.pt": net(),
    }.items():
        torch.save(content, folder / name)
    torch.save(net().state_dict(), folder / "old.pth", _use_new_zipfile_serialization=False)
    said = {
        "size": "24x24",
        "range": "-1..1",
        "channels": "bgr",
        "axes": "chw",
        "labels": ["cat", "dog", "bird"],
    }
    (folder / "chronocam.json").write_text(json.dumps(said))


def networks(folder: Path) -> None:
    """Write `fuzz.nets.net` and small networks like it as files of other frameworks."""
    import keras
    import tensorflow
    import torch
    from fuzz.nets import net

    folder.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(net(), (torch.zeros(1, 3, 24, 24),), folder / "net.onnx", dynamo=False, verbose=False)
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(3, 2), torch.zeros(1, 3)), file)
    with ZipFile(file) as whole, ZipFile(folder / "script.pt", "w") as script:
        for name in whole.namelist():
            if not name.endswith(".debug_pkl"):  # which says where its source was
                script.writestr(ZipInfo(name), whole.read(name))
    layers = keras.Input((24, 24, 3)), keras.layers.Conv2D(2, 3), keras.layers.GlobalAveragePooling2D()
    model = keras.Sequential([*layers, keras.layers.Dense(2, activation="softmax")])
    model.save(folder / "net.keras")
    model.save(folder / "net.h5")
    converter = tensorflow.lite.TFLiteConverter.from_keras_model(model)
    (folder / "net.tflite").write_bytes(converter.convert())


def run(folder: Path) -> None:
    """Write the folder of a run over three pictures, of which one failed."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(str(folder))
    items = [Item(f"{name}.png", "file", f"/pictures/{name}.png") for name in ("cat", "dog", "worm")]
    settings = Settings(model="chronocam:digits", methods=("gradcam",), shard=2)
    freeze(place, items, settings, "0" * 32, imagenet(24, 24), resume=True)
    for part, samples in enumerate([(0, 1), (2,)]):
        rows = Rows("uint8")
        for sample in samples:
            rows.add(items[sample].key, sample, {"gradcam": explanation(2, 3)}, 0)
        if part:
            rows.fail("worm.png", 2, "it is damaged")
        place.put(part_name(part), rows.part())


if __name__ == "__main__":
    write_all(CORPUS)
