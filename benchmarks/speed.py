"""Time of maps as ratios to one plain forward pass, beside peers, interleaved in one process.

Every round times each entry once, in turn, so that drifts of the machine meet all of them; the ratio of an entry
is the median over rounds of its time over that round's forward pass. Prints every setting.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import track
from torchvision.models import get_model

import chronocam as cc

STAGES = ["layer1", "layer2", "layer3", "layer4"]
FIVE = ("gradcam", "hirescam", "layercam", "gradcam++", "xgradcam")


def entries(model: Any, x: torch.Tensor) -> dict[str, Callable[[], Any]]:
    gradcam = cc.GradCAM(model, "layer4")
    stages = {"methods": ("gradcam",), "layers": STAGES}

    def forward() -> Any:
        with torch.inference_mode():
            return model(x)

    classes = torch.arange(5).repeat(len(x), 1)
    return {
        "forward (inference_mode)": forward,
        "chronocam Grad-CAM, last stage": lambda: gradcam.explain(x, 0),
        "chronocam 5 methods": lambda: cc.explain(model, x, 0, methods=FIVE, layers=["layer4"]),
        "chronocam top-5 classes": lambda: gradcam.explain(x, cc.targets.Predicted(5)),
        "chronocam 5 given classes": lambda: gradcam.explain(x, classes),
        "chronocam 4 stages": lambda: cc.explain(model, x, 0, **stages),
        **peers(model, x),
    }


def peers(model: Any, x: torch.Tensor) -> dict[str, Callable[[], Any]]:
    found: dict[str, Callable[[], Any]] = {}
    try:
        from captum.attr import LayerGradCam

        captum = LayerGradCam(model, model.layer4)
        found["captum LayerGradCam"] = lambda: captum.attribute(x, 0)
        found["captum LayerGradCam, 5 classes"] = lambda: [captum.attribute(x, c) for c in range(5)]
    except ImportError:
        click.echo("captum is not installed: left out", err=True)
    try:
        import pytorch_grad_cam as pgc
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        def grad_cam(kind: Any, layer: Any, classes: range) -> Any:
            with kind(model, [layer]) as cam:
                return [cam(x, [ClassifierOutputTarget(c)] * len(x)) for c in classes]

        kinds = (pgc.GradCAM, pgc.HiResCAM, pgc.LayerCAM, pgc.GradCAMPlusPlus, pgc.XGradCAM)
        found["grad-cam GradCAM"] = lambda: grad_cam(pgc.GradCAM, model.layer4, range(1))
        found["grad-cam 5 methods"] = lambda: [grad_cam(k, model.layer4, range(1)) for k in kinds]
        found["grad-cam 5 classes"] = lambda: grad_cam(pgc.GradCAM, model.layer4, range(5))
        found["grad-cam 4 stages"] = lambda: [grad_cam(pgc.GradCAM, getattr(model, s), range(1)) for s in STAGES]
    except ImportError:
        click.echo("grad-cam is not installed: left out", err=True)
    try:
        from torchcam.methods import GradCAM

        def torchcam(classes: range) -> Any:
            with GradCAM(model, "layer4") as cam:
                maps = []
                for c in classes:
                    scores = model(x)
                    maps.append(cam(c, scores))
                return maps

        found["torchcam GradCAM"] = lambda: torchcam(range(1))
        found["torchcam 5 classes"] = lambda: torchcam(range(5))
    except ImportError:
        click.echo("torchcam is not installed: left out", err=True)
    return found


@click.command()
@click.option("--rounds", default=15, show_default=True)
@click.option("--batch", default=8, show_default=True)
@click.option("--size", default=224, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--only", default="", help="Only entries whose name holds this text.")
def main(rounds: int, batch: int, size: int, threads: int, only: str) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = get_model("resnet50", weights=None).eval()
    x = torch.randn(batch, 3, size, size)
    chosen = {k: f for k, f in entries(model, x).items() if only in k or k.startswith("forward")}
    print(
        f"ResNet-50, batch {batch}, {size}², {threads} threads, {rounds} rounds; torch {torch.__version__}, "
        f"{platform.processor() or platform.machine()}"
    )
    for run in chosen.values():
        run()
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
