"""The world as files: folders per split and class, the way data sets of clips come."""

from __future__ import annotations

from pathlib import Path

from chronocam.errors import InputError
from chronocam.lab.data.gestures.motion import LABELS
from chronocam.lab.data.gestures.world import clip
from chronocam.media.clips.write import write_clip

_FPS = 8
"""A clip of 16 frames lasts two seconds."""


def export(
    folder: str | Path, count: int, *, split: str = "train", seed: int = 0, frames: int = 16, size: int = 64
) -> Path:
    """Write `count` clips of one actor as `folder/<split>/<label>/<number>.mp4`, and return `folder`.

    The clips are those of `clips` with the same arguments, at 8 frames a second; `number` is the clip's
    index.

    Raises `InputError` for an argument out of range, `MediaError` where a file cannot be written, and
    `ChronocamError` where scikit-image is not installed.

    Example:
        >>> folder = cc.data.gestures.export("gestures", 5, split="test", frames=8, size=48)
        >>> sorted(path.name for path in (folder / "test").iterdir())
        ['clap', 'lower', 'raise', 'smile', 'wave']
    """
    if count < 1:
        raise InputError(f"count is {count}, expected at least 1; pass count=1 or more")
    for index in range(count):
        record = clip(index, seed=seed, split=split, frames=frames, size=size)
        path = Path(folder) / split / LABELS[record.labels[0]] / f"{index:05d}.mp4"
        write_clip(path, record.pixels, _FPS)
    return Path(folder)
