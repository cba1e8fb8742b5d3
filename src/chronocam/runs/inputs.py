"""The pictures or clips that the arguments of a command name."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from chronocam.errors import ChronocamError, MediaError

VIDEO_SUFFIXES: Final = frozenset(
    (
        ".3gp",
        ".avi",
        ".flv",
        ".gif",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".ogv",
        ".ts",
        ".webm",
    )
)
"""What counts as a video when a folder or a pattern is searched."""


def found(inputs: Iterable[str], *, clips: bool) -> Iterator[tuple[Path, str | None]]:
    """Yield every picture or clip once; for an argument that names none, what is wrong with it."""
    from chronocam.media import find_images

    seen: set[Path] = set()
    for given in inputs:
        try:
            paths = _clips(Path(given).expanduser()) if clips else find_images([given])
        except ChronocamError as error:
            yield Path(given), str(error)
            continue
        yield from ((path, None) for path in paths if path not in seen)
        seen.update(paths)


def holds_videos(inputs: Iterable[str]) -> bool:
    """Say whether an argument names a video file (a GIF may be a picture), or a folder with one in it."""
    paths = [Path(given).expanduser() for given in inputs]
    inside = [file for path in paths for file in (path.iterdir() if path.is_dir() else [path])]
    return any(_is_video(file) and file.suffix.lower() != ".gif" for file in inside)


def _clips(given: Path) -> list[Path]:
    """Return the clips of a file, a pattern, or a folder: of videos, of frames (one clip), or of folders of frames."""
    if given.is_file():
        return [given]
    if given.is_dir():
        return _of_folder(given)
    matches = [Path(path) for path in sorted(glob.iglob(str(given), recursive=True))]  # noqa: PTH207 (absolute ones)
    if paths := [path for path in matches if _is_video(path) or _holds_frames(path)]:
        return paths
    what = "nothing matches" if glob.has_magic(str(given)) else "there is no"
    raise MediaError(
        f"{what} `{given}`; expected a video, a folder of videos or frames, or a pattern such as `*.mp4`"
    )


def _of_folder(folder: Path) -> list[Path]:
    inside = sorted(folder.iterdir())
    if videos := [path for path in inside if _is_video(path)]:
        return videos
    if _holds_frames(folder):
        return [folder]
    if folders := [path for path in inside if _holds_frames(path)]:
        return folders
    raise MediaError(f"no clips in `{folder}`; expected videos such as .mp4, or the frames of one")


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _holds_frames(path: Path) -> bool:
    from chronocam.media import find_images

    if not path.is_dir():
        return False
    try:
        return bool(find_images([path]))
    except MediaError:
        return False
