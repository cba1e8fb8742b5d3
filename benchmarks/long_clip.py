"""Peak memory and time of a long clip through CNN+LSTM, whole and in chunks, each in a process of its own.

The peak is the kernel's high-water mark of resident memory above the loaded model, the clip included (Linux).
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import click

from benchmarks.memory import status

ENTRIES = ("forward", "chunks", "whole")


def measure(entry: str, frames: int, size: int, chunk: int) -> None:
    """Print the peak in MB and the seconds."""
    import torch

    import chronocam as cc

    torch.set_num_threads(2)
    torch.manual_seed(0)
    model = cc.models.CNNLSTM("resnet18", 256, 101).eval()
    method = cc.GradCAM(model, "backbone.layer4", chunk_frames=chunk if entry == "chunks" else None)
    cc.GradCAM(model, "backbone.layer4", chunk_frames=2).explain(
        torch.randn(1, 4, 3, 64, 64), 0
    )  # lazy set-up
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    clip, start = torch.randn(1, frames, 3, size, size), time.perf_counter()
    if entry == "forward":
        with torch.inference_mode():
            model(clip)
    else:
        method.explain(clip, 0)
    print(f"{status('VmHWM') - before:.0f} {time.perf_counter() - start:.1f}")


@click.command()
@click.option("--frames", default=600, show_default=True)
@click.option("--size", default=224, show_default=True)
@click.option("--chunk", default=16, show_default=True, help="chunk_frames=")
@click.option("--entry", type=click.Choice(ENTRIES), hidden=True)
def main(frames: int, size: int, chunk: int, entry: str | None) -> None:
    if entry is not None:
        measure(entry, frames, size, chunk)
        return
    clip = frames * 3 * size * size * 4 / 2**20
    print(
        f"CNN+LSTM (ResNet-18), one clip of {frames} × {size}² ({clip:.0f} MB), chunks of {chunk}, 2 threads"
    )
    settings = ["--frames", str(frames), "--size", str(size), "--chunk", str(chunk)]
    for name in ENTRIES:
        child = subprocess.run(
            [sys.executable, "-m", "benchmarks.long_clip", "--entry", name, *settings],
            capture_output=True,
            text=True,
            check=False,
        )
        words = child.stderr.strip().splitlines()
        peak, seconds = child.stdout.split() or ("–", "–")
        reason = f"  ended with {child.returncode} {words[-1] if words else ''}" if child.returncode else ""
        print(f"{name:8} {peak:>7} MB  {seconds:>6} s{reason}", flush=True)


if __name__ == "__main__":
    main()
