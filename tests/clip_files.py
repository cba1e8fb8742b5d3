"""Clips whose frames say their number, written by PyAV in many forms."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chronocam.errors import MediaError
from chronocam.media.clips.read import Clip, read_clip

av = pytest.importorskip("av")

BITS, HEIGHT, WIDTH = 10, 96, 160
X264 = {"preset": "veryfast", "sc_threshold": "0"}


def numbered(number: int) -> np.ndarray:
    """A picture of ten bars, bright where the number's bits are set."""
    bits = number >> np.arange(BITS) & 1
    row = np.repeat(np.where(bits, 220, 30), WIDTH // BITS)
    return np.broadcast_to(row[None, :, None], (HEIGHT, WIDTH, 3)).astype(np.uint8)


def number_of(picture: np.ndarray) -> int:
    bars = picture.mean((0, 2)).reshape(BITS, -1)
    inner = bars[:, bars.shape[1] // 4 : -bars.shape[1] // 4].mean(1)
    assert np.minimum(abs(inner - 30), abs(inner - 220)).max() < 40, "not a bar code"
    return int(((inner > 125) << np.arange(BITS)).sum())


def numbers(clip: Clip) -> list[int]:
    return [number_of(picture) for picture in clip.pixels]


def encode(
    path: Path,
    count: int = 60,
    codec: str = "libx264",
    *,
    pts: list[int] | None = None,
    tick: Fraction = Fraction(1, 25),
    rate: int = 25,
    gop: int = 12,
    bframes: int = 2,
    pix_fmt: str = "yuv420p",
    picture: Callable[[int], np.ndarray] = numbered,
    fmt: str | None = None,
    **options: str,
) -> Path:
    first = picture(0)
    with av.open(str(path), "w", format=fmt) as container:
        stream = container.add_stream(
            codec, rate=rate, options={**(X264 if codec == "libx264" else {}), **options}
        )
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = gop, bframes
        stream.codec_context.time_base = tick
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = number if pts is None else pts[number], tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def encoder(name: str) -> str:
    try:
        av.codec.Codec(name, "w")
    except Exception:
        pytest.skip(f"this PyAV cannot encode {name}")
    return name


UNEVEN = [0, 40, 80, 1000, 1040, 2000, 2400, 2440]  # ms


def fails(*words: str, **arguments: Any) -> str:
    with pytest.raises(MediaError) as caught:
        read_clip(**arguments)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


# Formats
FORMATS = {
    "a.mov": ("libx264", {}),
    "a.mkv": ("libx264", {}),
    "a.m4v": ("libx264", {}),
    "a.ts": ("libx264", {}),
    "a.flv": ("libx264", {}),
    "a.h264": ("libx264", {}),  # no times at all
    "h264.avi": ("libx264", {}),  # wrong times
    "mpeg4.avi": ("mpeg4", {"bframes": 0}),
    "bframes.avi": ("mpeg4", {}),
    "mjpeg.avi": ("mjpeg", {"pix_fmt": "yuvj420p", "bframes": 0}),
    "hevc.mp4": ("libx265", {"x265-params": "log-level=none"}),
    "vp8.webm": ("libvpx", {"deadline": "realtime", "cpu-used": "8"}),
    "hidden.webm": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "5"}),
    "vp9.webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "fragments.mp4": ("libx264", {}),
}


def remuxed(source: Path, path: Path, flags: str) -> Path:
    with av.open(str(source)) as there, av.open(str(path), "w", options={"movflags": flags}) as container:
        stream = container.add_stream_from_template(there.streams.video[0])
        for packet in there.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return path


# Pictures


def animation(path: Path, durations: list[int], **options: Any) -> Path:
    first, *rest = (Image.fromarray(numbered(n)) for n in range(len(durations)))
    first.save(path, save_all=True, append_images=rest, duration=durations, loop=0, **options)
    return path


def cut(path: Path, share: float) -> Path:
    whole = path.read_bytes()
    shorter = path.with_name(f"cut{path.suffix}")
    shorter.write_bytes(whole[: int(len(whole) * share)])
    return shorter
