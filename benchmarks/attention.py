"""What maps of attention cost beside one forward pass: seconds, interleaved, and peak memory, with a peer.

ViT-B/16 of torchvision with random weights, one class, all blocks. Seconds are of the processor, as ratios
to the model's own `inference_mode` forward; memory is the peak above the loaded model, each entry in a
process of its own (Linux). Run it with `python -m benchmarks.attention`.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from benchmarks.harness import PeakMemory, in_its_own_process, interleaved, print_ratios, working

if TYPE_CHECKING:
    from torch import Tensor, nn

    from chronocam.methods import Method

NAMES = ("legrad", "attentionrelevance", "gradientxattention", "gradeclip", "rollout", "gradcam")


def forward(model: nn.Module, x: Tensor) -> Callable[[], Any]:
    import torch

    def run() -> Any:
        with torch.inference_mode():
            return model(x)

    return run


def chronocam(name: str, model: nn.Module, x: Tensor) -> Callable[[], Any]:
    from chronocam.methods import METHODS

    method: Method = METHODS[name](model)
    return partial(method.explain, x, 0)


def torchcam(model: Any, x: Tensor) -> Callable[[], Any]:
    from torchcam.methods import LeGrad

    def run() -> Any:
        cam = LeGrad(model, list(model.encoder.layers))
        found = cam([0] * len(x), model(x))
        cam.remove_hooks()
        return found

    return run


ENTRIES: dict[str, Callable[[nn.Module, Tensor], Callable[[], Any]]] = {
    "forward": forward,
    **{name: partial(chronocam, name) for name in NAMES},
    "torchcam LeGrad": torchcam,
}


def loaded(batch: int) -> tuple[nn.Module, Tensor]:
    import torch
    from torchvision.models import vit_b_16

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = vit_b_16(weights=None).eval()
    torch.nn.init.normal_(model.heads.head.weight, std=0.02)  # torchvision's is zero
    return model, torch.randn(batch, 3, 224, 224)


@click.command()
@click.option("--batch", default=1, show_default=True, help="Pictures.")
@click.option("--rounds", default=3, show_default=True, help="Rounds of the clock.")
@click.option("--entry", type=click.Choice(list(ENTRIES)), help="Measure the memory of one, here.")
def main(batch: int, rounds: int, entry: str | None) -> None:
    model, x = loaded(batch)
    if entry is not None:
        run = ENTRIES[entry](model, x)
        run()  # imports, the layer and the blocks do not count
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # nor is what that left behind free to be used again
        peak = PeakMemory()
        run()
        print(f"{peak.megabytes():.0f}")
        return
    entries = working({name: make(model, x) for name, make in ENTRIES.items()})
    print_ratios(interleaved(entries, rounds, time.process_time), "forward")
    for name in entries:
        megabytes, problem = in_its_own_process("attention", name, batch=batch)
        print(f"{name:24} {problem or f'{megabytes} MB above the model'}")


if __name__ == "__main__":
    main()
