"""How a clip becomes a video network's input, and where the network's view lies in the frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from chronocam.errors import MediaError
from chronocam.media.clips.read import Clip, read_clip
from chronocam.media.clips.sample import Sampler
from chronocam.media.limits import check_clip
from chronocam.media.preprocess import Box, Preprocess

AXES: Final = ("channel time", "time channel")


@dataclass(frozen=True)
class ClipPreprocess:
    """How a network wants its clips: so many frames, each prepared as a picture, and the order of the axes.

    frame: what is done to every frame; with `channels="last"` a clip is (time, height, width, channel).
    frames: how many the network takes.
    axes: `channel time` gives (channel, time, height, width), `time channel` (time, channel, height, width).
    sampling: how the frames are chosen, see `read_clip`.

    Raises MediaError for unknown axes, an unknown sampling and less than one frame.

    Example:
    >>> frame = cc.media.Preprocess((16, 16), None, mean=(0.5,) * 3, std=(0.5,) * 3)
    >>> preprocess = cc.media.ClipPreprocess(frame, frames=4, axes="channel time")
    >>> preprocess(np.zeros((4, 8, 8, 3), np.uint8)).shape
    (3, 4, 16, 16)
    """

    frame: Preprocess
    frames: int
    axes: str = "channel time"
    sampling: str = "uniform"

    def __post_init__(self) -> None:
        Sampler(self.frames, self.sampling)
        if self.axes not in AXES:
            raise MediaError(f"axes `{self.axes}`; expected one of {', '.join(AXES)}")
        if self.frame.channels == "last" and self.axes == "channel time":
            raise MediaError(
                'channels="last" and axes "channel time"; expected axes "time channel", or channels="first"'
            )

    @property
    def assumption(self) -> str | None:
        """What is done to every frame without being stated anywhere; see `Preprocess`."""
        return self.frame.assumption

    def read(self, path: str | Path, start: float | None = None, end: float | None = None) -> Clip:
        """Read as many frames as the network takes, between `start` and `end` in seconds.

        Raises MediaError, as `read_clip` does, and for more frames than can be held as the network sees them.
        """
        size = self.frame.crop or self.frame.resize
        if isinstance(size, tuple):
            check_clip(Path(path), self.frames, size[1], size[0])
        return read_clip(path, self.frames, self.sampling, start=start, end=end)

    def __call__(self, clip: Clip | np.ndarray) -> Float32[np.ndarray, "_ _ height width"]:
        """Return the network's input for one clip, without a batch axis.

        clip: a `Clip`, or frames uint8 `(time, height, width, 3)`.

        Raises MediaError where the clip has another number of frames than the network takes.
        """
        values = np.stack([self.frame(Image.fromarray(picture)) for picture in self._pictures(clip)])
        return values if self.axes == "time channel" else np.ascontiguousarray(values.swapaxes(0, 1))

    def view(self, clip: Clip | np.ndarray) -> UInt8[np.ndarray, "time height width 3"]:
        """Return the part of each frame that the network sees, at the network's resolution."""
        views = (self.frame.view(Image.fromarray(picture)) for picture in self._pictures(clip))
        return np.stack([np.asarray(view.convert("RGB")) for view in views])

    def region(self, width: int, height: int) -> Box:
        """Return the box of the view in pixels of a `width` by `height` frame; see `Preprocess.region`."""
        return self.frame.region(width, height)

    def to_original(self, box: Box, size: tuple[int, int]) -> Box:
        """Turn a box in pixels of the view into one in pixels of a frame, of size (width, height)."""
        return self.frame.to_original(box, size)

    def _pictures(self, clip: Clip | np.ndarray) -> UInt8[np.ndarray, "time height width 3"]:
        pixels: Any = clip.pixels if isinstance(clip, Clip) else clip
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
            raise MediaError(
                f"a clip is {pixels.dtype} {pixels.shape}; expected uint8 (time, height, width, 3)"
            )
        if len(pixels) != self.frames:
            raise MediaError(
                f"a clip has {len(pixels)} frames; expected {self.frames}, which is what the network takes: "
                f"read_clip(path, frames={self.frames})"
            )
        return np.asarray(pixels)
