"""What masks and tails cost, as ratios to one forward pass of the same picture, beside peers in one process.

One thread, seconds of the processor, the best of a few rounds in which floor and entries take turns; the slow
ones run once. Of Score-CAM: how few channels give its map. Of RISE: how many forward passes `until=0.1`
takes, and how many plain masks, shifted at random as in the paper. Needs the data that the tests use; see
`benchmarks.localisation`.

Run it with `python -m benchmarks.masks`, or one part of it with `--part ablation`.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torchvision
from scipy.stats import spearmanr

import chronocam as cc
from benchmarks.localisation import annotated

WIDTH = 44
PHOTOS = ("burn_dog.jpg", "coral_parrot.jpg", "gradcam_both_dog_cat.png")
PLAIN = 1200  # of the paper's masks
COARSE = 8  # pixels between places that plain masks are judged at


def seconds(run: Callable[[], Any], rounds: int = 1) -> tuple[float, Any]:
    """Return the least processor time of some rounds, and what the last one returned."""
    best, found = np.inf, None
    for _ in range(rounds):
        start = time.process_time()
        found = run()
        best = min(best, time.process_time() - start)
    return best, found


def floor_of(model: torch.nn.Module, x: torch.Tensor) -> float:
    """Return the seconds of one forward pass."""
    with torch.inference_mode():
        model(x)
        return seconds(lambda: model(x), 7)[0]


def say(name: str, spent: float, floor: float, remark: str = "") -> None:
    """Print a line: seconds, and the ratio to the floor."""
    print(f"{name:{WIDTH}} {spent:8.3f} s {spent / floor:8.1f} x  {remark}", flush=True)


def network(name: str, data: Path) -> Any:
    """Return a network with weights of ImageNet."""
    return cc.models.load(f"{data / 'imagenet' / name}.safetensors@torchvision:{name}")


def ablation(data: Path, x: torch.Tensor) -> None:
    """Measure Ablation-CAM and Recipro-CAM; a ResNet-18 has no weights here, which its cost does not need."""
    torch.manual_seed(0)
    resnet = torchvision.models.resnet18(weights=None).eval()
    mobile = network("mobilenet_v2", data).model
    for model, layer in ((resnet, "layer4"), (resnet, "layer3"), (mobile, "features.18")):
        floor = floor_of(model, x)
        for method in (cc.AblationCAM, cc.ReciproCAM):
            explain = partial(method(model, layer).explain, x, 243)
            explain()
            say(
                f"{method.__name__} {type(model).__name__} {layer}",
                seconds(explain, 3)[0],
                floor,
            )
        if find_spec("pytorch_grad_cam") and layer != "features.18":
            spent, _ = seconds(partial(grad_cam, "AblationCAM", model, layer, x))
            say("  grad-cam AblationCAM", spent, floor)


def scorecam(data: Path, x: torch.Tensor) -> None:
    """Measure Score-CAM beside peers, whose maps are compared with ours."""
    model, layer = network("squeezenet1_0", data).model, "features.7"
    floor = floor_of(model, x)
    spent, found = seconds(lambda: cc.ScoreCAM(model, layer).explain(x, 243).maps[0, 0])
    say(f"ScoreCAM SqueezeNet {layer}, 256 channels", spent, floor)
    for name, options in {"fast=True": {"fast": True}, "channels=32": {"channels": 32}}.items():
        method = cc.ScoreCAM(model, layer, **options)
        spent, other = seconds(partial(method.explain, x, 243))
        say(f"  {name}", spent, floor, agreement(other.maps[0, 0], found))
    spent, other = seconds(lambda: cc.GroupCAM(model, layer).explain(x, 243).maps[0, 0])
    say("GroupCAM, 32 groups", spent, floor, agreement(other, found))
    if find_spec("torchcam"):
        spent, other = seconds(lambda: torchcam(model, layer, x))
        say("  torchcam ScoreCAM", spent, floor, agreement(other, found))
    if find_spec("pytorch_grad_cam"):
        spent, _ = seconds(partial(grad_cam, "ScoreCAM", model, layer, x))
        say("  grad-cam ScoreCAM", spent, floor)


def torchcam(model: torch.nn.Module, layer: str, x: torch.Tensor) -> np.ndarray:
    """Return the map of torchcam."""
    from torchcam.methods import ScoreCAM

    with ScoreCAM(model, layer, batch_size=32, input_shape=(3, 224, 224)) as extract:
        return extract(243, model(x))[0][0].numpy()


def grad_cam(method: str, model: Any, layer: str, x: torch.Tensor) -> np.ndarray:
    """Return the map of grad-cam."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    explain = getattr(pytorch_grad_cam, method)(model, [model.get_submodule(layer)])
    with contextlib.redirect_stderr(io.StringIO()):
        return explain(x, [ClassifierOutputTarget(243)])


def agreement(map_: np.ndarray, other: np.ndarray) -> str:
    """Return the rank correlation of two maps in words."""
    return f"rank correlation {spearmanr(map_.ravel(), other.ravel())[0]:.4f}"


def channels(data: Path, x: torch.Tensor) -> None:
    """Measure how few channels, or groups of them, give the map of all."""
    photos = [data / "photos" / name for name in PHOTOS]
    layers = ("squeezenet1_0", "features.7"), ("mobilenet_v2", "features.18"), ("mobilenet_v2", "features.13")
    for name, layer in layers:
        loaded = network(name, data)
        passes: dict[str, list[int]] = defaultdict(list)
        found: dict[str, list[float]] = defaultdict(list)
        for photo in photos:
            x = torch.as_tensor(loaded.preprocess(cc.media.read_image(photo)))[None]
            whole = cc.ScoreCAM(loaded.model, layer).explain(x)
            few = {f"channels={n}": cc.ScoreCAM(loaded.model, layer, channels=n) for n in (8, 16, 32)}
            few["until=0.1"] = cc.ScoreCAM(loaded.model, layer, until=0.1)
            for way, method in {**few, "GroupCAM": cc.GroupCAM(loaded.model, layer)}.items():
                other, count = counted(loaded.model, partial(method.explain, x, whole.targets[0][0].index))
                passes[way].append(count)
                found[way].append(spearmanr(other.maps.ravel(), whole.maps.ravel())[0])
        print(f"{name} {layer}, all {len(photos)} photographs")
        for way, values in found.items():
            print(
                f"  {way:12} {np.mean(passes[way]):5.0f} passes, rank correlation {np.median(values):.4f}, "
                f"the least {min(values):.4f}",
                flush=True,
            )


def counted(model: torch.nn.Module, run: Callable[[], Any]) -> tuple[Any, int]:
    """Return what something returned, and how many inputs a model got meanwhile."""
    passes = [0]
    handle = model.register_forward_hook(
        lambda module, args, out: passes.__setitem__(0, passes[0] + len(out))
    )
    try:
        return run(), passes[0]
    finally:
        handle.remove()


def rise(data: Path, x: torch.Tensor) -> None:
    """Count the forward passes that RISE takes, and those that plain masks would."""
    torch.manual_seed(0)
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 224 * 224, 244)).eval()
    models = {name: network(name, data).model for name in ("mobilenet_v2", "squeezenet1_0")}
    for name, model in {"linear": linear, **models}.items():
        method = cc.RISE(model, until=0.1, budget=8000, signed=True)
        found, passes = counted(model, partial(method.explain, x, 243))
        known = found.interval.max() / np.ptp(found.maps)
        print(f"{name}: RISE took {passes} passes, and is known to {known:.3f} of its range", flush=True)
        needed, centred, map_ = plain(model, x, PLAIN)
        own = found.maps[0, 0, ::COARSE, ::COARSE]
        print(f"  the paper's sum needs {needed:.0f}, centred {centred:.0f}, looked at once", flush=True)
        print(f"  its map after {PLAIN} and this one: {agreement(own, map_)}", flush=True)


def plain(model: torch.nn.Module, x: torch.Tensor, count: int) -> tuple[float, float, np.ndarray]:
    """Return how many of the paper's masks a map takes to be known to 0.1 of its range, and the map of some.

    Masks are shifted at random, over a blur. The map is the paper's, the mean of scores times masks, and that
    without the means of both. What it takes follows from the variance: 1.96 standard errors, looked at once.
    """
    rng, hidden = np.random.default_rng(0), cc.maps.blur.blurred(x, 0.1 * 224)
    scores, masks = list[float](), list[np.ndarray]()
    for _ in range(count // 8):
        cells = torch.from_numpy((rng.random((8, 1, 8, 8)) < 0.5).astype(np.float32))
        large = torch.nn.functional.interpolate(cells, size=(256, 256), mode="bilinear", align_corners=False)
        top, left = rng.integers(0, 32, 2)
        mask = large[:, :, top : top + 224, left : left + 224]
        with torch.inference_mode():
            seen = (hidden + mask * (x - hidden)).to(memory_format=torch.channels_last)
            scores += model(seen)[:, 243].tolist()
        masks += list(mask[:, 0, ::COARSE, ::COARSE].numpy())
    score, shown = np.array(scores)[:, None, None], np.stack(masks)
    centred = (score - score.mean()) * (shown - shown.mean(axis=0)) / shown.var(axis=0)
    raw = score * shown / shown.mean(axis=0)
    needed = [
        (1.96 * each.std(axis=0).max() / (0.1 * np.ptp(each.mean(axis=0)))) ** 2 for each in (raw, centred)
    ]
    return float(needed[0]), float(needed[1]), centred.mean(axis=0)


PARTS = {"ablation": ablation, "scorecam": scorecam, "channels": channels, "rise": rise}


@click.command()
@click.option("--part", type=click.Choice(list(PARTS)), help="Only this one.")
def main(part: str | None) -> None:
    torch.set_num_threads(1)
    data, _ = annotated()
    picture = cc.media.read_image(data / "photos/gradcam_both_dog_cat.png")
    x = torch.as_tensor(network("mobilenet_v2", data).preprocess(picture))[None]
    print(f"torch {torch.__version__}, one thread; 1 x is a forward pass of the same picture\n")
    for name, run in PARTS.items():
        if part in (None, name):
            run(data, x)


if __name__ == "__main__":
    main()
