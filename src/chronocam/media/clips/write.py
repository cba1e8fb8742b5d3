"""Clips out: H.264 that browsers play, animated GIF and WebP, each frame written as it comes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from io import BytesIO
from itertools import chain, count
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from jaxtyping import UInt8
from PIL import GifImagePlugin, Image, ImageChops

from chronocam.errors import MediaError
from chronocam.media.clips.sample import check_fps
from chronocam.media.files import replace_file

Frame: TypeAlias = UInt8[np.ndarray, "height width 3"]
_Writer: TypeAlias = Callable[[Path, Iterator[Frame], Fraction], None]

_LARGEST: Final = 16_383  # WebP's limit; H.264's and GIF's lie above
_QUALITY: Final = 90
_BT709: Final = 1


class _Interrupted(Exception):
    """Carries an error of the caller's frames past the handlers of errors of the file."""


class _Refused(Exception):
    """Why an encoder cannot write, and the next step."""


def write_clip(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write frames as a video or an animation, complete or not at all.

    path: `.mp4` gives H.264 in yuv420p, which every browser plays, odd sizes padded by a repeated row or
        column; `.gif` 256 colours per frame, in steps of 0.01 s and at most 50 frames a second; `.webp`.
    frames: any iterable of uint8 `(height, width, 3)` of one size, taken one at a time: the clip need not fit
        into memory.
    fps: frames per second.

    Raises MediaError for another suffix, for frames of another kind or of unequal size, for none at all, and
    where the file cannot be written; an error of `frames` itself passes through. A file that was there stays
    until the new one is whole.

    Example:
    >>> frames = (np.full((8, 8, 3), 20 * k, np.uint8) for k in range(10))
    >>> cc.media.write_clip("brighter.gif", frames, fps=10)
    >>> len(cc.media.read_clip("brighter.gif", frames=10))
    10
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        raise MediaError(f"`{path}`: cannot write `{suffix}` clips; expected one of {', '.join(_WRITERS)}")
    check_fps(fps)
    checked = _checked(path, frames)
    try:
        first = next(checked, None)
        if first is None:
            raise MediaError(f"`{path}`: no frames to write; expected at least one")
        feed, rate = chain([first], checked), Fraction(fps).limit_denominator(1001)
        replace_file(path, lambda temporary: _WRITERS[suffix](temporary, feed, rate))
    except _Refused as refusal:
        raise MediaError(f"`{path}` cannot be written: {refusal}") from refusal.__cause__
    except _Interrupted as carrier:
        raise carrier.args[0] from None


def _checked(path: Path, frames: Iterable[np.ndarray]) -> Iterator[Frame]:
    """Yield the frames, each of the size of the first. Raises MediaError for others."""
    first: tuple[int, ...] | None = None
    for number, frame in enumerate(_carried(frames)):
        array = np.asarray(frame)
        first = first or array.shape
        if array.dtype != np.uint8 or array.shape != first or not _is_picture(array):
            like = f"uint8 {first}, like the first" if number else "uint8 (height, width, 3)"
            raise MediaError(
                f"`{path}`: frame {number} is {array.dtype} {array.shape}; expected {like}, sides from 1 to "
                f"{_LARGEST}"
            )
        yield array


def _carried(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    try:
        yield from frames
    except Exception as error:
        raise _Interrupted(error) from error


def _is_picture(array: np.ndarray) -> bool:
    return array.ndim == 3 and array.shape[2] == 3 and all(1 <= side <= _LARGEST for side in array.shape[:2])


def _write_mp4(path: Path, frames: Iterator[Frame], rate: Fraction) -> None:
    try:
        import av
    except ImportError as error:
        raise _Refused("PyAV is not installed; pip install 'chronocam[video]'") from error
    try:
        with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream: Any = None
            for number, frame in enumerate(frames):
                picture = av.VideoFrame.from_ndarray(_even(frame), format="rgb24")
                stream = stream or _h264(container, picture, rate)
                picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
                picture.pts, picture.time_base = number, 1 / rate
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    except (av.FFmpegError, av.codec.codec.UnknownCodecError) as error:
        if isinstance(error, OSError):  # the disk's fault
            raise
        raise _Refused(f"PyAV says {error.args[-1]}; expected a PyAV with libx264, upgrade it") from error


def _h264(container: Any, picture: Any, rate: Fraction) -> Any:
    """Add a stream that looks right in a browser: 4:2:0, and the colours said to be what they are."""
    stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
    stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
    context = stream.codec_context
    context.color_primaries = context.color_trc = context.colorspace = context.color_range = _BT709
    return stream


def _even(frame: Frame) -> UInt8[np.ndarray, "even_height even_width 3"]:
    """Repeat the last row and column of an odd size: 4:2:0 halves both sides."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _write_gif(path: Path, frames: Iterator[Frame], rate: Fraction) -> None:
    """Write each frame's changed box with colours of its own."""
    with path.open("wb") as file:
        before: Image.Image | None = None
        for frame, delay in zip(frames, _delays(rate, 100, at_least=2), strict=False):
            image = Image.fromarray(frame)
            if before is None:
                file.write(b"GIF89a" + struct.pack("<HHBBB", *image.size, 0, 0, 0))
                file.write(b"!\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", 0, 0))  # for ever
            box = _changed(before, image)
            indexed = image.crop(box).quantize(256)
            parts = GifImagePlugin.getdata(indexed, box[:2], duration=10 * delay, include_color_table=True)
            file.writelines(parts)
            before = image
        file.write(b";")


def _changed(before: Image.Image | None, image: Image.Image) -> tuple[int, int, int, int]:
    """Return the box (left, top, right, bottom) of what is new: one pixel at least."""
    if before is None:
        return 0, 0, *image.size
    return ImageChops.difference(before, image).getbbox() or (0, 0, 1, 1)


def _write_webp(path: Path, frames: Iterator[Frame], rate: Fraction) -> None:
    """Write each frame as a picture of its own into an animation (RIFF chunks VP8X, ANIM, ANMF)."""
    with path.open("wb") as file:
        for number, (frame, delay) in enumerate(zip(frames, _delays(rate, 1000), strict=False)):
            sides = _three(frame.shape[1] - 1) + _three(frame.shape[0] - 1)
            if number == 0:
                file.write(_chunk(b"RIFF", b"WEBP"))
                file.write(_chunk(b"VP8X", bytes([2, 0, 0, 0]) + sides))
                file.write(_chunk(b"ANIM", bytes(6)))  # for ever
            coded = BytesIO()
            Image.fromarray(frame).save(coded, "WEBP", quality=_QUALITY)
            place = bytes(6) + sides + _three(delay) + b"\2"  # at the corner, laid over without blending
            file.write(_chunk(b"ANMF", place + coded.getvalue()[12:]))
        size = file.tell() - 8
        file.seek(4)
        file.write(struct.pack("<I", size))


def _chunk(name: bytes, payload: bytes) -> bytes:
    return name + struct.pack("<I", len(payload)) + payload + bytes(len(payload) % 2)


def _three(value: int) -> bytes:
    return value.to_bytes(3, "little")


def _delays(rate: Fraction, per_second: int, at_least: int = 1) -> Iterator[int]:
    """Yield how long each frame lasts, in parts of a second, rounded so that no error adds up."""
    for number in count():
        begin, end = (round(per_second * n / rate) for n in (number, number + 1))
        yield max(end - begin, at_least)


_WRITERS: Final[dict[str, _Writer]] = {".mp4": _write_mp4, ".gif": _write_gif, ".webp": _write_webp}
