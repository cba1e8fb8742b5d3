"""What masks and tails cost, as ratios to one forward pass of the same picture, beside peers in one process.

One thread, seconds of the processor, the best of a few rounds in which floor and entries take turns; the slow
ones run once. Of RISE: how many forward passes `until=0.1` takes, and how its map agrees with that of plain
masks, shifted at random as in the paper. Needs the data that the tests use; see `benchmarks.localisation`.

Run it with `python -m benchmarks.masks`, or one part of it with `--part ablation`.
"""

from __future__ import annotations

import contextlib
import io
import time
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
        spent, _ = seconds(lambda: grad_cam(model, x))
        say("  grad-cam ScoreCAM", spent, floor)


def torchcam(model: torch.nn.Module, layer: str, x: torch.Tensor) -> np.ndarray:
    """Return the map of torchcam."""
    from torchcam.methods import ScoreCAM

    with ScoreCAM(model, layer, batch_size=32, input_shape=(3, 224, 224)) as extract:
        return extract(243, model(x))[0][0].numpy()


def grad_cam(model: Any, x: torch.Tensor) -> np.ndarray:
    """Return the map of grad-cam."""
    from pytorch_grad_cam import ScoreCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with contextlib.redirect_stderr(io.StringIO()):
        return ScoreCAM(model, [model.features[7]])(x, [ClassifierOutputTarget(243)])


def agreement(map_: np.ndarray, other: np.ndarray) -> str:
    """Return the rank correlation of two maps in words."""
    return f"rank correlation {spearmanr(map_.ravel(), other.ravel())[0]:.4f}"


def rise(data: Path, x: torch.Tensor) -> None:
    """Count the forward passes that RISE takes, and compare its map with that of plain masks."""
    model = network("mobilenet_v2", data).model
    for until in (0.2, 0.1):
        passes = [0]
        handle = model.register_forward_hook(
            lambda module, args, out, n=passes: n.__setitem__(0, n[0] + len(out))
        )
        method = cc.RISE(model, until=until, budget=8000, signed=True)
        spent, found = seconds(partial(method.explain, x, 243))
        handle.remove()
        known = found.interval.max() / np.ptp(found.maps)
        print(
            f"RISE until={until}: {passes[0]} passes, {spent:.1f} s, known to {known:.3f} of the range",
            flush=True,
        )
    maps = [plain(model, x, 2000, seed) for seed in (0, 1)]
    both = (maps[0] + maps[1]) / 2
    print("plain masks, 2,000 and other 2,000:", agreement(maps[0], maps[1]))
    print("RISE until=0.1 and the 4,000 plain masks:", agreement(found.maps[0, 0], both))
    print("RISE until=0.1 and 2,000 plain masks:", agreement(found.maps[0, 0], maps[0]))


def plain(model: torch.nn.Module, x: torch.Tensor, count: int, seed: int) -> np.ndarray:
    """Return the centred map of the paper's masks, shifted at random, of a blurred baseline."""
    rng, hidden = np.random.default_rng(seed), cc.maps.blur.blurred(x, 0.1 * 224)
    total, scores, masks = np.zeros((224, 224)), [], np.zeros((224, 224))
    for _ in range(count // 8):
        cells = torch.from_numpy((rng.random((8, 1, 8, 8)) < 0.5).astype(np.float32))
        large = torch.nn.functional.interpolate(cells, size=(256, 256), mode="bilinear", align_corners=False)
        top, left = rng.integers(0, 32, 2)
        mask = large[:, :, top : top + 224, left : left + 224]
        with torch.inference_mode():
            seen = (hidden + mask * (x - hidden)).to(memory_format=torch.channels_last)
            score = model(seen)[:, 243].double().numpy()
        total += np.einsum("b,bhw->hw", score, mask[:, 0].numpy())
        masks += mask[:, 0].numpy().sum(0)
        scores += score.tolist()
    return total / count - np.mean(scores) * masks / count


PARTS = {"ablation": ablation, "scorecam": scorecam, "rise": rise}


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
