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
from engines.test_torch_left_as_found import snapshot
from engines.test_torch_threads import Attending, Sequences, clip_network, normalised, recurrent
from helpers import noise
from nets import Net
from torch import Tensor, nn

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
        "subjects": cc.joint.subject._SHARED.get(),
    }


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
