"""Whether maps made on a device are those of the CPU, and what they cost there, within five minutes.

Runs on a GPU where there is one, else on the CPU, where it shows that the script itself works. Run it with
`python -m benchmarks.device`. Prints every setting. A check that fails is printed as such, and is the exit
status.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import click
import numpy as np
import torch
from torch import nn

import chronocam as cc
from benchmarks.harness import WIDTH, Entries, interleaved, print_ratios, working
from benchmarks.speed import CASES, FLOOR, Case, entries

TIMED = ("mobilenet_v2", "resnet50", "vit_b_16", "r3d_18", "cnn-lstm")
ALIKE = 1e-3
"""By what share of its maximum a float32 map may differ between a GPU and the CPU."""


def synchronised(device: torch.device) -> None:
    """Wait for all that the device was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Checks:
    """Prints what was found, and counts what failed."""

    def __init__(self) -> None:
        self.failed = 0

    def __call__(self, name: str, passed: bool, found: str) -> None:
        self.failed += not passed
        print(f"{name:{WIDTH}} {'ok  ' if passed else 'FAIL'} {found}")


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest difference, as a share of the largest value."""
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-12))


def alike(a: np.ndarray, b: np.ndarray) -> float:
    """Return the least rank correlation of a sample's map."""
    ranks = [np.argsort(np.argsort(one.reshape(len(one), -1), axis=1), axis=1) for one in (a, b)]
    return min(float(np.corrcoef(*pair)[0, 1]) for pair in zip(*ranks, strict=True))


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """Return a network with the same random weights each time."""
    torch.manual_seed(0)
    return build().eval()


def check_paths(device: torch.device, check: Checks) -> None:
    """Compare maps of a picture network, given in several ways, with those of the CPU."""
    build = CASES["mobilenet_v2"].build
    here, there = seeded(build), seeded(build).to(device)
    x = torch.randn(4, 3, 160, 160)
    methods = {name: cc.methods.METHODS[name] for name in ("gradcam", "layercam", "gradcam++", "xgradcam")}
    for name, method in methods.items():
        expected = method(here, "features.14", signed=True).explain(x, 1).maps
        found = method(there, "features.14", signed=True).explain(x, 1).maps
        check(f"{name} as on the CPU", apart(found, expected) < ALIKE, f"{apart(found, expected):.1e}")
    gradcam = cc.GradCAM(there, "features.18")
    expected = cc.GradCAM(here, "features.18").explain(x, 1).maps
    for name, given in (("NumPy", x.numpy()), ("on the device", x.to(device))):
        found = gradcam.explain(given, 1)
        check(f"inputs {name}", apart(found.maps, expected) < ALIKE, f"{apart(found.maps, expected):.1e}")
    tensor = gradcam.explain(x.to(device), 1).as_tensor()
    check("as_tensor", tensor.device.type == device.type, str(tensor.device))
    every = torch.arange(1000).repeat(2, 1)
    closed = gradcam.explain(x[:2], every).maps[:, [3, 990]]
    single = np.concatenate([gradcam.explain(x[:2], k).maps for k in (3, 990)], axis=1)
    check("all classes as one by one", apart(closed, single) < ALIKE, f"{apart(closed, single):.1e}")


def check_rnn(device: torch.device, check: Checks) -> None:
    """Compare maps through an LSTM in eval mode, which cuDNN does not differentiate by itself."""
    build = CASES["cnn-lstm"].build
    here, there = seeded(build), seeded(build).to(device)
    clips = torch.randn(2, 6, 3, 64, 64)
    expected, found = (cc.GradCAM(m, "backbone.layer4").explain(clips, 1).maps for m in (here, there))
    check("CNN + LSTM as on the CPU", apart(found, expected) < ALIKE, f"{apart(found, expected):.1e}")
    check("its modules are in eval mode still", not any(m.training for m in there.modules()), "")


def check_precision(device: torch.device, check: Checks) -> None:
    """Compare maps of half precision, channels last and fast copies with those of float32."""
    build, x = CASES["resnet50"].build, torch.randn(2, 3, 160, 160)
    model = seeded(build).to(device)
    exact = cc.GradCAM(model, "layer4", signed=True).explain(x, 1).maps
    halves = (torch.float16, torch.bfloat16) if device.type == "cuda" else (torch.bfloat16,)
    for dtype in halves:
        found = cc.GradCAM(seeded(build).to(device, dtype), "layer4", signed=True).explain(x, 1).maps
        check(str(dtype), alike(found, exact) > 0.9, f"rank correlation {alike(found, exact):.5f}")
    last = x.to(device).contiguous(memory_format=torch.channels_last)
    laid = seeded(build).to(device).to(memory_format=torch.channels_last)
    found = cc.GradCAM(laid, "layer4", signed=True).explain(last, 1).maps
    check("channels last", apart(found, exact) < ALIKE, f"{apart(found, exact):.1e}")
    for precision, least in ((None, 0.999), ("bf16", 0.9)):
        quick = cc.GradCAM(model, "layer4", signed=True, fast=True, precision=precision)
        found = quick.explain(x, 1).maps
        check(
            f"fast=True, {precision or 'float32'}",
            alike(found, exact) > least,
            f"rank correlation {alike(found, exact):.5f}",
        )


def count_waits(device: torch.device) -> None:
    """Print how often a call waits for the device: each is a few microseconds, or the whole queue's time."""
    if device.type != "cuda":
        print(f"{'waits for the device per call':{WIDTH}} only counted on a GPU")
        return
    model, x = seeded(CASES["resnet50"].build).to(device), torch.randn(8, 3, 224, 224, device=device)
    gradcam = cc.GradCAM(model, "layer4")
    gradcam.explain(x, 0)
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        gradcam.explain(x, 0)
    torch.cuda.set_sync_debug_mode("default")
    waits = [w for w in seen if "synchronizing" in str(w.message)]
    print(f"{'waits for the device per call':{WIDTH}} {len(waits)}")
    for line in sorted({f"{w.filename.rpartition('/')[2]}:{w.lineno}" for w in waits}):
        print(f"{'':{WIDTH}} {line}")


def timed(case: Case, batch: int, device: torch.device, seconds: float, peers: bool) -> None:
    """Print ratios to the forward pass, from as many rounds as there is time for, and the peak of memory."""
    model, x = seeded(case.build).to(device), torch.randn(batch, *case.shape, device=device)
    print(f"\n{case.title}, batch {batch} of {case.shape}")
    every = {name: run for name, run in entries(case, model, x).items() if _is_shown(name, peers)}

    def waited(run: Callable[[], Any]) -> Callable[[], Any]:
        def call() -> None:
            run()
            synchronised(device)

        return call

    able: Entries = working({name: waited(run) for name, run in every.items()})
    start = time.perf_counter()
    interleaved(able, 1)
    rounds = max(2, min(50, int(seconds / (time.perf_counter() - start))))
    print(f"{rounds} rounds")
    print_ratios(interleaved(able, rounds), FLOOR)
    if device.type == "cuda":
        for name, run in able.items():
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            run()
            print(f"{name:{WIDTH}} {(torch.cuda.max_memory_allocated(device) - before) / 2**20:8.0f} MB")


def _is_shown(name: str, peers: bool) -> bool:
    one = "5" not in name and "4 stages" not in name and "chunks" not in name
    return name == FLOOR or (one and (peers or name.startswith("chronocam")))


@click.command()
@click.option("--device", "name", default=None, help="Such as cuda or cpu; a GPU where there is one.")
@click.option("--seconds", default=15.0, show_default=True, help="For the rounds of each network.")
@click.option("--batch", default=8, show_default=True, help="Pictures at once; of clips one.")
@click.option("--network", "networks", multiple=True, type=click.Choice(TIMED), default=TIMED)
@click.option("--peers/--no-peers", default=True, show_default=True)
def main(name: str | None, seconds: float, batch: int, networks: tuple[str, ...], peers: bool) -> None:
    device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{device} ({what}), torch {torch.__version__}, {torch.get_num_threads()} threads")
    check = Checks()
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        torch.backends.cuda.matmul.allow_tf32 = False
        check_paths(device, check)
        check_rnn(device, check)
        check_precision(device, check)
    count_waits(device)
    for network in networks:
        case = CASES[network]
        timed(case, batch if len(case.shape) == 3 else 1, device, seconds, peers)
    if check.failed:
        raise click.ClickException(f"{check.failed} checks failed")


if __name__ == "__main__":
    main()
