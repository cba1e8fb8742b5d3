"""Peak memory and time of a long clip through CNN+LSTM, whole and in chunks, each in a process of its own.

The peak is above the loaded model, the clip included (Linux). Run it with `python -m benchmarks.long_clip`.
"""

from __future__ import annotations

import time

import click

from benchmarks.harness import PeakMemory, in_its_own_process

ENTRIES = ("forward", "chunks", "whole")


def measure(entry: str, frames: int, size: int, chunk: int) -> None:
    """Print the peak in MB and the seconds."""
    import torch

    import chronocam as cc

    torch.set_num_threads(2)
    torch.manual_seed(0)
    model = cc.models.CNNLSTM("resnet18", 256, 101).eval()
    method = cc.GradCAM(model, "backbone.layer4", chunk_frames=chunk if entry == "chunks" else None)
    # lazy set-up
    cc.GradCAM(model, "backbone.layer4", chunk_frames=2).explain(torch.randn(1, 4, 3, 64, 64), 0)
    peak = PeakMemory()
    clip, start = torch.randn(1, frames, 3, size, size), time.perf_counter()
    if entry == "forward":
        with torch.inference_mode():
            model(clip)
    else:
        method.explain(clip, 0)
    print(f"{peak.megabytes():.0f} {time.perf_counter() - start:.1f}")


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
    for name in ENTRIES:
        output, failure = in_its_own_process("long_clip", name, frames=frames, size=size, chunk=chunk)
        peak, seconds = output.split() or ("–", "–")
        print(f"{name:8} {peak:>7} MB  {seconds:>6} s  {failure}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
