"""Time of reading a few frames of a video, as ratios to decoding it whole, interleaved in one process.

Three ways to the same frames, which are compared pixel by pixel: decoding everything and converting the
frames needed; seeking for every frame; and `read_clip`, which also has to find out which frames these are.
Prints every setting. Run it with `python -m benchmarks.reading`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import av
import click
import numpy as np

from benchmarks.harness import Entries, interleaved, print_ratios
from chronocam.media.clips.read import read_clip

WIDTH, HEIGHT, RATE = 640, 360, 30


def synthesise(path: Path, count: int, gop: int) -> Path:
    """Write waves that move under a moving grain: neither trivial nor noise."""
    grain = np.random.default_rng(0).normal(0, 14, (2 * HEIGHT, 2 * WIDTH)).astype(np.float32)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = gop
        for number in range(count):
            wave = 128 + 60 * np.sin((x + 3 * number) / 40) + 40 * np.cos((y - 2 * number) / 30)
            down, right = number % HEIGHT, 2 * number % WIDTH
            grey = (wave + grain[down : down + HEIGHT, right : right + WIDTH]).clip(0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.repeat(grey[..., None], 3, axis=2), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def scan(path: Path, numbers: list[int]) -> np.ndarray:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        chosen = set(numbers)
        frames = (frame for number, frame in enumerate(container.decode(stream)) if number in chosen)
        return np.stack([frame.to_ndarray(format="rgb24") for frame in frames])


def seek_each(path: Path, numbers: list[int]) -> np.ndarray:
    pictures = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for number in numbers:
            pts = round(number / RATE / stream.time_base)
            container.seek(pts, stream=stream)
            frame = next(frame for frame in container.decode(stream) if frame.pts == pts)
            pictures.append(frame.to_ndarray(format="rgb24"))
    return np.stack(pictures)


def compare(entries: Entries, rounds: int) -> None:
    """Check that all read the same, then print the ratios to the first."""
    pictures = [read() for read in entries.values()]
    assert all(np.array_equal(pictures[0], other) for other in pictures[1:]), "not the same frames"
    print_ratios(interleaved(entries, rounds), next(iter(entries)))


@click.command()
@click.option("--count", default=600, show_default=True, help="Frames in the video.")
@click.option("--frames", default=16, show_default=True, help="Frames to read.")
@click.option(
    "--gop", "gops", default=[12, 50, 250], multiple=True, show_default=True, help="Keyframe distance."
)
@click.option("--rounds", default=9, show_default=True)
def main(count: int, frames: int, gops: tuple[int, ...], rounds: int) -> None:
    print(
        f"{frames} of {count} frames, {WIDTH} x {HEIGHT}, H.264 with B-frames (x264 fast), {rounds} rounds; "
        f"PyAV {av.__version__}, {os.cpu_count()} processors; ratio to decoding everything, range over rounds"
    )
    spans = {"uniform": ("uniform", None), "contiguous from 80 %": ("contiguous", 0.8 * count / RATE)}
    with tempfile.TemporaryDirectory() as folder:
        for gop in gops:
            path = synthesise(Path(folder) / f"{gop}.mp4", count, gop)
            for name, (sampling, start) in spans.items():
                numbers = read_clip(path, frames, sampling, start=start, size=16).indices.tolist()
                print(f"  keyframe every {gop}, {name}")
                entries: Entries = {
                    "decode everything": lambda p=path, w=numbers: scan(p, w),
                    "seek for every frame": lambda p=path, w=numbers: seek_each(p, w),
                    "read_clip": lambda p=path, s=sampling, b=start: read_clip(p, frames, s, start=b).pixels,
                }
                compare(entries, rounds)


if __name__ == "__main__":
    main()
