"""Time of maps as ratios to one plain forward pass, beside peers, interleaved in one process.

The ratio of an entry is the median over rounds of its time over that round's forward pass. Prints every
setting. Run it with `python -m benchmarks.speed`, `--only Grad-CAM` for one map of each library alone.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import click
import torch
from torch import nn
from torchvision.models import get_model

import chronocam as cc
from benchmarks.harness import Entries, interleaved, print_ratios, working

FLOOR = "forward (inference_mode)"
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
"""The latter counts this process alone, on a machine that others use too."""

STAGES = ["layer1", "layer2", "layer3", "layer4"]
FIVE = ("gradcam", "hirescam", "layercam", "gradcam++", "xgradcam")


@dataclass(frozen=True)
class Case:
    """A network, the layer that is explained, and the shape of one input."""

    title: str
    build: Callable[[], nn.Module]
    layer: str
    shape: tuple[int, ...] = (3, 224, 224)
    classes: int = 1000


def _of_torchvision(name: str) -> Callable[[], nn.Module]:
    return lambda: get_model(name, weights=None)


def _seven_layers() -> nn.Module:
    features = (
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
    )
    return nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


CASES = {
    "seven-layers": Case("Seven layers", _seven_layers, "4", (3, 8, 8), 10),
    "mobilenet_v2": Case("MobileNetV2", _of_torchvision("mobilenet_v2"), "features.18"),
    "resnet50": Case("ResNet-50", _of_torchvision("resnet50"), "layer4"),
    "vit_b_16": Case("ViT-B/16", _of_torchvision("vit_b_16"), "encoder.layers.encoder_layer_10"),
    "convnext_tiny": Case("ConvNeXt-T", _of_torchvision("convnext_tiny"), "features.7"),
    "r3d_18": Case("R3D-18", _of_torchvision("r3d_18"), "layer4", (3, 16, 112, 112), 400),
    "cnn-lstm": Case(
        "CNN+LSTM (ResNet-18)",
        lambda: cc.models.CNNLSTM("resnet18", 256, 101),
        "backbone.layer4",
        (16, 3, 112, 112),
        101,
    ),
}


def entries(case: Case, model: nn.Module, x: torch.Tensor) -> Entries:
    gradcam = cc.GradCAM(model, case.layer)
    classes, every = (torch.arange(n).repeat(len(x), 1) for n in (5, case.classes))

    def forward() -> Any:
        with torch.inference_mode():
            return model(x)

    ours: Entries = {
        FLOOR: forward,
        "chronocam Grad-CAM, last stage": lambda: gradcam.explain(x, 0),
        "chronocam 5 methods": lambda: cc.explain(model, x, 0, methods=FIVE, layers=[case.layer]),
        "chronocam top-5 classes": lambda: gradcam.explain(x, cc.targets.Predicted(5)),
        "chronocam 5 given classes": lambda: gradcam.explain(x, classes),
        f"chronocam all {case.classes} classes": lambda: gradcam.explain(x, every),
        "by hand: Grad-CAM": lambda: by_hand(model, case.layer, x),
    }
    for precision in (None, "bf16"):
        quick = cc.GradCAM(model, case.layer, fast=True, precision=precision)
        ours[f"chronocam Grad-CAM, fast {precision or ''}".rstrip()] = partial(quick.explain, x, 0)
    if hasattr(model, STAGES[0]) and x.ndim == 4:
        ours["chronocam 4 stages"] = lambda: cc.explain(model, x, 0, methods=("gradcam",), layers=STAGES)
    elif x.ndim == 5:
        chunked = cc.GradCAM(model, case.layer, chunk_frames=8)
        if case.shape[1] == 3:
            ours["chronocam Grad-CAM, chunks of 8"] = lambda: chunked.explain(x, 0)
    layer = model.get_submodule(case.layer)
    return ours | captum(model, layer, x) | grad_cam(model, layer, x) | torchcam(model, case.layer, x)


def by_hand(model: nn.Module, layer: str, x: torch.Tensor) -> torch.Tensor:
    """Return Grad-CAM of class 0 with a graph from the layer on: the least that can be written by hand."""
    activations: list[torch.Tensor] = []

    def hook(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        activations.append(output.detach().requires_grad_())
        torch.set_grad_enabled(True)  # from here on, and only from here
        return activations[0].clone()

    handle = model.get_submodule(layer).register_forward_hook(hook)
    with torch.no_grad():
        score = model(x)[:, 0].sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, activations[0])
    # Channels are on axis 1 of pictures and clips; of tokens this is as much work, and no map.
    weights = gradient.flatten(2).mean(2)
    return torch.relu(torch.einsum("bk,bk...->b...", weights, activations[0]))


def captum(model: nn.Module, layer: nn.Module, x: torch.Tensor) -> Entries:
    try:
        from captum.attr import LayerGradCam
    except ImportError:
        click.echo("captum is not installed: left out", err=True)
        return {}
    method = LayerGradCam(model, layer)
    return {
        "captum LayerGradCam": lambda: method.attribute(x, 0),
        "captum LayerGradCam, 5 classes": lambda: [method.attribute(x, c) for c in range(5)],
    }


def grad_cam(model: nn.Module, layer: nn.Module, x: torch.Tensor) -> Entries:
    try:
        import pytorch_grad_cam as pgc
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError:
        click.echo("grad-cam is not installed: left out", err=True)
        return {}

    def run(kind: Any, layer: Any, classes: range) -> Any:
        with kind(model, [layer]) as cam:
            return [cam(x, [ClassifierOutputTarget(c)] * len(x)) for c in classes]

    kinds = (pgc.GradCAM, pgc.HiResCAM, pgc.LayerCAM, pgc.GradCAMPlusPlus, pgc.XGradCAM)
    peer: Entries = {
        "grad-cam GradCAM": lambda: run(pgc.GradCAM, layer, range(1)),
        "grad-cam 5 methods": lambda: [run(k, layer, range(1)) for k in kinds],
        "grad-cam 5 classes": lambda: run(pgc.GradCAM, layer, range(5)),
    }
    if hasattr(model, STAGES[0]) and x.ndim == 4:
        peer["grad-cam 4 stages"] = lambda: [run(pgc.GradCAM, getattr(model, s), range(1)) for s in STAGES]
    return peer


def torchcam(model: nn.Module, layer: str, x: torch.Tensor) -> Entries:
    try:
        from torchcam.methods import GradCAM
    except ImportError:
        click.echo("torchcam is not installed: left out", err=True)
        return {}

    def run(classes: range) -> Any:
        with GradCAM(model, layer, input_shape=tuple(x.shape[1:])) as cam:
            maps = []
            for c in classes:
                scores = model(x)
                maps.append(cam(c, scores))
            return maps

    return {"torchcam GradCAM": lambda: run(range(1)), "torchcam 5 classes": lambda: run(range(5))}


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--network", type=click.Choice(list(CASES)), default="mobilenet_v2", show_default=True)
@click.option("--batch", default=1, show_default=True, help="Inputs at once.")
@click.option("--threads", default=2, show_default=True)
@click.option("--clock", type=click.Choice(list(CLOCKS)), default="wall", show_default=True)
@click.option("--only", default="", help="Only entries whose name holds this text.")
def main(rounds: int, network: str, batch: int, threads: int, clock: str, only: str) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    case = CASES[network]
    model = case.build().eval()
    x = torch.randn(batch, *case.shape)
    machine = platform.processor() or platform.machine()
    print(
        f"{case.title}, batch {len(x)} of {case.shape}, {threads} threads, {rounds} rounds, {clock} time; "
        f"torch {torch.__version__}, {machine}"
    )
    every = entries(case, model, x)
    able = working({name: run for name, run in every.items() if only in name or name == FLOOR})
    print_ratios(interleaved(able, rounds, CLOCKS[clock]), FLOOR)


if __name__ == "__main__":
    main()
