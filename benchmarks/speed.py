"""Time of maps as ratios to one plain forward pass, beside peers, interleaved in one process.

Every round times each entry once, in turn, so that drifts of the machine meet all of them; the ratio of an
entry is the median over rounds of its time over that round's forward pass. Prints every setting.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import track
from torchvision.models import get_model

import chronocam as cc

STAGES = ["layer1", "layer2", "layer3", "layer4"]
FIVE = ("gradcam", "hirescam", "layercam", "gradcam++", "xgradcam")


@dataclass(frozen=True)
class Case:
    """A network, the layer that is explained, and the shape of one input."""

    title: str
    build: Callable[[], torch.nn.Module]
    layer: str
    shape: tuple[int, ...]
    batch: int


CASES = {
    "resnet50": Case("ResNet-50", lambda: get_model("resnet50", weights=None), "layer4", (3, 224, 224), 8),
    "r3d_18": Case("R3D-18", lambda: get_model("r3d_18", weights=None), "layer4", (3, 16, 112, 112), 2),
    "cnn-lstm": Case(
        "CNN+LSTM (ResNet-18)",
        lambda: cc.models.CNNLSTM("resnet18", 256, 101),
        "backbone.layer4",
        (16, 3, 112, 112),
        2,
    ),
}


def entries(case: Case, model: Any, x: torch.Tensor) -> dict[str, Callable[[], Any]]:
    gradcam = cc.GradCAM(model, case.layer)
    classes = torch.arange(5).repeat(len(x), 1)

    def forward() -> Any:
        with torch.inference_mode():
            return model(x)

    found = {
        "forward (inference_mode)": forward,
        "chronocam Grad-CAM, last stage": lambda: gradcam.explain(x, 0),
        "chronocam 5 methods": lambda: cc.explain(model, x, 0, methods=FIVE, layers=[case.layer]),
        "chronocam top-5 classes": lambda: gradcam.explain(x, cc.targets.Predicted(5)),
        "chronocam 5 given classes": lambda: gradcam.explain(x, classes),
    }
    if x.ndim == 4:
        found["chronocam 4 stages"] = lambda: cc.explain(model, x, 0, methods=("gradcam",), layers=STAGES)
    else:
        chunked = cc.GradCAM(model, case.layer, chunk_frames=8)
        if case.shape[1] == 3:
            found["chronocam Grad-CAM, chunks of 8"] = lambda: chunked.explain(x, 0)
    layer = model.get_submodule(case.layer)
    return found | captum(model, layer, x) | grad_cam(model, layer, x) | torchcam(model, case.layer, x)


def captum(model: Any, layer: Any, x: torch.Tensor) -> dict[str, Callable[[], Any]]:
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


def grad_cam(model: Any, layer: Any, x: torch.Tensor) -> dict[str, Callable[[], Any]]:
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
    found = {
        "grad-cam GradCAM": lambda: run(pgc.GradCAM, layer, range(1)),
        "grad-cam 5 methods": lambda: [run(k, layer, range(1)) for k in kinds],
        "grad-cam 5 classes": lambda: run(pgc.GradCAM, layer, range(5)),
    }
    if x.ndim == 4:
        found["grad-cam 4 stages"] = lambda: [run(pgc.GradCAM, getattr(model, s), range(1)) for s in STAGES]
    return found


def torchcam(model: Any, layer: str, x: torch.Tensor) -> dict[str, Callable[[], Any]]:
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


def able(chosen: dict[str, Callable[[], Any]]) -> dict[str, Callable[[], Any]]:
    """Run everything once, and leave out with its reason what cannot do it."""
    found = {}
    for name, run in chosen.items():
        try:
            run()
            found[name] = run
        except Exception as error:  # peers fail in their own ways
            print(f"{name:34} cannot: {str(error).partition(chr(10))[0][:90]}")
    return found


@click.command()
@click.option("--rounds", default=15, show_default=True)
@click.option("--network", type=click.Choice(list(CASES)), default="resnet50", show_default=True)
@click.option("--batch", type=int, help="Inputs at once; 8 pictures or 2 clips if not given.")
@click.option("--threads", default=2, show_default=True)
@click.option("--only", default="", help="Only entries whose name holds this text.")
def main(rounds: int, network: str, batch: int | None, threads: int, only: str) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    case = CASES[network]
    model = case.build().eval()
    x = torch.randn(batch or case.batch, *case.shape)
    print(
        f"{case.title}, batch {len(x)} of {case.shape}, {threads} threads, {rounds} rounds; torch {torch.__version__}, "
        f"{platform.processor() or platform.machine()}"
    )
    chosen = able({k: f for k, f in entries(case, model, x).items() if only in k or k.startswith("forward")})
    times: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in track(range(rounds), "Rounds", console=Console(stderr=True), transient=True):
        for name, run in chosen.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    floor = times["forward (inference_mode)"]
    print(f"{'':34} {'median s':>9} {'ratio':>6}  range of ratios")
    for name, spent in times.items():
        ratios = sorted(t / f for t, f in zip(spent, floor, strict=True))
        print(
            f"{name:34} {statistics.median(spent):9.3f} {statistics.median(ratios):6.3f}  "
            f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
        )


if __name__ == "__main__":
    main()
