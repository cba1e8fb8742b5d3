"""Which clips a file, a folder or a pattern names."""

from __future__ import annotations

from pathlib import Path

from chronocam.errors import MediaError
from chronocam.media.clips.read import VIDEO_SUFFIXES
from chronocam.media.files import contents, is_file, is_folder, matches, nothing_named
from chronocam.media.images import find_images


def find_clips(argument: Path) -> list[Path]:
    """Return the clips of a file, a pattern, or a folder of videos, of frames, or of folders of frames."""
    if is_file(argument):
        return [argument]
    if is_folder(argument):
        return _clips_in(argument)
    if paths := [path for path in matches(argument) if is_video(path) or _holds_frames(path)]:
        return paths
    raise nothing_named(argument, "a video, a folder of videos or frames, or a pattern such as `*.mp4`")


def is_video(path: Path) -> bool:
    """Say whether there is a video of that name."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".") and is_file(path)


def _clips_in(folder: Path) -> list[Path]:
    inside = contents(folder)
    # Videos win over frames: thumbnails often lie beside the videos that they belong to.
    if videos := [path for path in inside if is_video(path)]:
        return videos
    if _holds_frames(folder):
        return [folder]
    if folders := [path for path in inside if _holds_frames(path)]:
        return folders
    raise MediaError(f"no clips in `{folder}`; expected videos such as .mp4, or the frames of one")


def _holds_frames(path: Path) -> bool:
    try:
        return is_folder(path) and bool(find_images([path]))
    except MediaError:
        return False
