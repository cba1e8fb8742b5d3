"""Peak memory above the loaded model, each entry in a process of its own, beside peers.

The peak counts from when the model and the input are made (Linux). Run it with `python -m benchmarks.memory`,
of early layers with `--network vgg16 --layer features.3 --batch 4` and
`--network r3d_18 --layer stem --batch 1 --frames 16 --size 112`. The floor of a map is `handwritten`: one
forward pass, with a graph from the layer on, and one backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from benchmarks.harness import PeakMemory, in_its_own_process

if TYPE_CHECKING:
    from torch import Tensor, nn


def forward(model: nn.Module, layer: str, x: Tensor) -> Any:
    import torch

    with torch.inference_mode():
        return model(x)


def handwritten(model: nn.Module, layer: str, x: Tensor) -> Any:
    """Grad-CAM with a graph from the layer on: the least that can be written by hand."""
    import torch

    activations: list[Tensor] = []

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        activations.append(output.detach().requires_grad_())
        torch.set_grad_enabled(True)  # from here on, and only from here
        return activations[0].clone()  # which the model may write into

    handle = model.get_submodule(layer).register_forward_hook(hook)
    with torch.no_grad():
        score = model(x)[:, 0].sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, activations[0])
    weights = gradient.flatten(2).mean(2)
    return torch.relu(torch.einsum("bk,bk...->b...", weights, activations[0]))


def chronocam(model: nn.Module, layer: str, x: Tensor) -> Any:
    import chronocam as cc

    return cc.GradCAM(model, layer).explain(x, 0)


def captum(model: nn.Module, layer: str, x: Tensor) -> Any:
    from captum.attr import LayerGradCam

    return LayerGradCam(model, model.get_submodule(layer)).attribute(x, 0)


def grad_cam(model: nn.Module, layer: str, x: Tensor) -> Any:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with GradCAM(model, [model.get_submodule(layer)]) as cam:
        return cam(x, [ClassifierOutputTarget(0)] * len(x))


def torchcam(model: nn.Module, layer: str, x: Tensor) -> Any:
    from torchcam.methods import GradCAM

    with GradCAM(model, layer, input_shape=tuple(x.shape[1:])) as cam:
        return cam(0, model(x))


ENTRIES: dict[str, Callable[[nn.Module, str, Tensor], Any]] = {
    f.__name__: f for f in (forward, handwritten, chronocam, torchcam, grad_cam, captum)
}


def measure(name: str, network: str, layer: str, shape: tuple[int, ...], calls: int) -> None:
    """Print the peak above the loaded model, after the first call and after all calls."""
    import torch
    from torchvision.models import get_model

    torch.set_num_threads(2)
    torch.manual_seed(0)
    model, x = get_model(network, weights=None).eval(), torch.randn(shape)
    run = ENTRIES[name]
    run(model, layer, x[:1, ..., :64, :64].contiguous())  # imports and lazy set-up do not count
    peak, megabytes = PeakMemory(), []
    for _ in range(calls):
        run(model, layer, x)
        megabytes.append(peak.megabytes())
    print(f"{megabytes[0]:.0f} {megabytes[-1]:.0f}")


@click.command()
@click.option("--network", default="resnet50", show_default=True, help="A network of torchvision.")
@click.option("--layer", default="layer4", show_default=True)
@click.option("--batch", default=8, show_default=True)
@click.option("--size", default=224, show_default=True)
@click.option("--frames", default=0, show_default=True, help="Of clips; 0 for pictures.")
@click.option(
    "--calls", default=3, show_default=True, help="Calls per process; the peak after the last shows growth."
)
@click.option("--entry", default=None, hidden=True)
def main(network: str, layer: str, batch: int, size: int, frames: int, calls: int, entry: str | None) -> None:
    shape = (batch, 3, *([frames] if frames else []), size, size)
    if entry is not None:
        measure(entry, network, layer, shape, calls)
        return
    print(f"{network} at {layer}, {shape}, 2 threads: peak above the loaded model, first of {calls} calls")
    options = {"network": network, "layer": layer, "batch": batch, "size": size, "frames": frames}
    floor = 0.0
    for name in ENTRIES:
        output, failure = in_its_own_process("memory", name, calls=calls, **options)
        if failure:
            print(f"{name:12} {failure}")
            continue
        first, last = map(float, output.split())
        floor = first if name == "handwritten" else floor
        ratio = f"{first / floor:5.2f} × handwritten" if floor else ""
        print(f"{name:12} {first:7.0f} MB  {ratio}   (after {calls} calls {last:.0f} MB)")


if __name__ == "__main__":
    main()
