"""Peak memory above the loaded model, each entry in a process of its own, beside peers.

The peak is the kernel's high-water mark of resident memory, reset after the model and the input are made
(Linux).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def status(field: str) -> float:
    """Return a field of /proc/self/status in MB."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) / 1024


def forward(model: Any, x: Any) -> Any:
    import torch

    with torch.inference_mode():
        return model(x)


def handwritten(model: Any, x: Any) -> Any:
    """Grad-CAM with a graph from the layer on: the least that can be written by hand."""
    import torch

    kept: list[Any] = []

    def hook(module: Any, args: Any, output: Any) -> Any:
        kept.append(output.detach().requires_grad_())
        torch.set_grad_enabled(True)
        return kept[0]

    handle = model.layer4.register_forward_hook(hook)
    with torch.no_grad():
        score = model(x)[:, 0].sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept[0])
    return torch.relu((gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1))


def chronocam(model: Any, x: Any) -> Any:
    import chronocam as cc

    return cc.GradCAM(model, "layer4").explain(x, 0)


def captum(model: Any, x: Any) -> Any:
    from captum.attr import LayerGradCam

    return LayerGradCam(model, model.layer4).attribute(x, 0)


def grad_cam(model: Any, x: Any) -> Any:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with GradCAM(model, [model.layer4]) as cam:
        return cam(x, [ClassifierOutputTarget(0)] * len(x))


def torchcam(model: Any, x: Any) -> Any:
    from torchcam.methods import GradCAM

    with GradCAM(model, "layer4") as cam:
        return cam(0, model(x))


ENTRIES: dict[str, Callable[[Any, Any], Any]] = {
    f.__name__: f for f in (forward, handwritten, chronocam, torchcam, grad_cam, captum)
}


def measure(name: str, batch: int, size: int, calls: int) -> None:
    """Print the peak above the loaded model, after the first call and after all calls."""
    import torch
    from torchvision.models import get_model

    torch.set_num_threads(2)
    torch.manual_seed(0)
    model, x = get_model("resnet50", weights=None).eval(), torch.randn(batch, 3, size, size)
    run = ENTRIES[name]
    run(model, x[:1, :, :64, :64].contiguous())  # imports and lazy set-up are no part of the peak
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    peaks = []
    for _ in range(calls):
        run(model, x)
        peaks.append(status("VmHWM") - before)
    print(f"{peaks[0]:.0f} {peaks[-1]:.0f}")


@click.command()
@click.option("--batch", default=8, show_default=True)
@click.option("--size", default=224, show_default=True)
@click.option(
    "--calls", default=3, show_default=True, help="Calls per process; the peak after the last shows growth."
)
@click.option("--entry", default=None, hidden=True)
def main(batch: int, size: int, calls: int, entry: str | None) -> None:
    if entry is not None:
        measure(entry, batch, size, calls)
        return
    print(
        f"ResNet-50, batch {batch}, {size}², 2 threads: MB above the loaded model, peak of the first of {calls} calls"
    )
    settings = ["--batch", str(batch), "--size", str(size), "--calls", str(calls)]
    floor = None
    for name in ENTRIES:
        child = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", "--entry", name, *settings],
            capture_output=True,
            text=True,
            check=False,
        )
        if child.returncode:
            print(f"{name:12} failed: {child.stderr.strip().splitlines()[-1]}")
            continue
        first, last = map(float, child.stdout.split())
        floor = floor or first
        print(
            f"{name:12} {first:7.0f} MB  {first / floor:5.2f} × forward   (after {calls} calls {last:.0f} MB)"
        )


if __name__ == "__main__":
    main()
