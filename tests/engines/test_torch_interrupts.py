"""Ctrl-C at any line of an explanation leaves the model and PyTorch as they were."""

import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from detectors import random_detector, two_spots
from engines.test_torch_left_as_found import snapshot
from engines.test_torch_threads import (
    Attending,
    Encoder,
    Normed,
    Sequences,
    clip_network,
    normalised,
    recurrent,
)
from helpers import noise
from nets import Net
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import chronocam as cc

SOURCE = str(Path(cc.__file__).parent)


class Interrupt(KeyboardInterrupt):
    pass


def lines_of(run: Callable[[], Any], at: int | None = None) -> int:
    """Run, and raise at the line of chronocam that is met `at`-th; return how many lines were met."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(SOURCE):
            return None
        if event == "line":
            count += 1
            if count == at:
                sys.settrace(None)
                raise Interrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    except Interrupt:
        pass
    finally:
        sys.settrace(before)
    return count


def found(net: nn.Module) -> dict[str, Any]:
    """What is to be left as it was: the model, PyTorch's modes, what is switched for all threads."""
    return {
        **snapshot(net),
        "versions of buffers": {name: x._version for name, x in net.named_buffers()},
        "random": torch.random.get_rng_state().tolist() if not net.training else None,
        "warnings": list(warnings.filters),
    }


class Checkpointed(Net):
    def features(self, x: Tensor) -> Tensor:
        return checkpoint(super().features, x, use_reentrant=False)


def hooked() -> nn.Module:
    """A network with hooks and a parametrised weight of its own."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 3))
    net[0].register_forward_hook(lambda module, args, output: output * 2)
    net[1].register_forward_pre_hook(lambda module, args: None)
    net[3].register_full_backward_hook(lambda module, into, out: None)
    return net


def detected(net: nn.Module, x: Tensor) -> Any:
    return cc.ODAM(net).explain(two_spots(), cc.targets.Boxes(cc.detect(net, two_spots(), 0.01)[:1]))


def evaluated(net: nn.Module, x: Tensor) -> Any:
    return cc.evaluate(net, x, 1, methods=["gradcam"], layers=["conv2"], measures=["drop", "randomisation"])


Call = Callable[[nn.Module, Tensor], Any]
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], bool, Call]] = {
    "convolutions": (Net, (1, 3, 12, 12), False, lambda net, x: cc.GradCAM(net).explain(x, 1)),
    "several": (
        Net,
        (1, 3, 12, 12),
        False,
        lambda net, x: cc.explain(net, x, 1, methods=["guidedgradcam", "shapleycam"], layers=["conv2"]),
    ),
    "fields": (
        Net,
        (1, 3, 12, 12),
        False,
        lambda net, x: cc.GradCAM(net, "conv2", align="receptive_field").explain(x, 1),
    ),
    "clip": (clip_network, (1, 3, 6, 8, 8), False, lambda net, x: cc.GradCAM(net, "2").explain(x, 1)),
    "chunks": (
        recurrent,
        (1, 4, 3, 8, 8),
        False,
        lambda net, x: cc.GradCAM(net, "backbone.0", chunk_frames=2).explain(x, 1),
    ),
    "transformer": (
        Attending,
        (1, 3, 16, 16),
        False,
        lambda net, x: cc.ShapleyCAM(net, "patches").explain(x, 1),
    ),
    "lstm": (Sequences, (1, 4, 5), False, lambda net, x: cc.sequence.LRP(net).explain(x, 1)),
    "checkpointed": (
        Checkpointed,
        (1, 3, 12, 12),
        False,
        lambda net, x: cc.GradCAM(net, "conv1").explain(x, 1),
    ),
    "hooked": (hooked, (1, 3, 12, 12), False, lambda net, x: cc.GradCAM(net, "1").explain(x, 1)),
    "batch norm": (Normed, (2, 3, 16, 16), True, lambda net, x: cc.GradCAM(net, "5").explain(x, 1)),
    "masks": (Net, (1, 3, 12, 12), False, lambda net, x: cc.RISE(net, budget=8).explain(x, 1)),
    "tails": (Net, (1, 3, 12, 12), False, lambda net, x: cc.AblationCAM(net, "conv2").explain(x, 1)),
    "attention": (Encoder, (1, 3, 16, 16), False, lambda net, x: cc.LeGrad(net).explain(x, 1)),
    "fast": (Normed, (1, 3, 16, 16), False, lambda net, x: cc.GradCAM(net, "5", fast=True).explain(x, 1)),
    "fast, copied anew": (
        Normed,
        (1, 3, 16, 16),
        False,
        lambda net, x: cc.GradCAM(nn.Sequential(net), fast=True).explain(x, 1),
    ),
    "detector": (lambda: random_detector("faster"), (1, 3, 8, 8), False, detected),
    "evaluation": (Net, (2, 3, 12, 12), False, evaluated),
    "normalised": (normalised, (2, 3, 12, 12), True, lambda net, x: cc.GradCAM(net, "3").explain(x, 1)),
}


def interrupted(case: str, most: int) -> None:
    make, shape, training, call = CASES[case]
    torch.manual_seed(0)
    net, x = make().train(training), noise(*shape).float()
    call(net, x)
    lines = lines_of(lambda: call(net, x))
    before = found(net)
    for at in sorted(random.Random(0).sample(range(1, lines + 1), min(most, lines))):
        lines_of(lambda: call(net, x), at)
        after = found(net)
        assert {what: after[what] for what in before} == before, f"interrupted at line {at} of {lines}"


@pytest.mark.parametrize("case", CASES)
def test_an_interrupt_leaves_nothing(case: str) -> None:
    interrupted(case, 12)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_an_interrupt_leaves_nothing_at_any_line(case: str) -> None:
    interrupted(case, 1000)
