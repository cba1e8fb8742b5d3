"""What the arguments of a command name: pictures, clips, arrays of features, drives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from chronocam.errors import ChronocamError, InputError, MediaError
from chronocam.media.clips.find import is_video
from chronocam.media.clips.read import VIDEO_SUFFIXES
from chronocam.media.files import contents, expanded, is_file, is_folder, matches, nothing_named
from chronocam.media.images import IMAGE_SUFFIXES
from chronocam.records import Failure

ARRAY_SUFFIX: Final = ".npy"
TABLE_SUFFIX: Final = ".csv"

Finder: TypeAlias = Callable[[Path], Iterable[Path]]
"""Returns the inputs that one argument names. Raises a ChronocamError where it names none."""


def search(arguments: Sequence[str], find: Finder) -> Iterator[Path | Failure]:
    """Yield every input once that the arguments name, and a Failure for an argument that names none."""
    # A generator, so that an argument that names nothing is reported in its place among the others.
    seen: set[Path] = set()
    for argument in arguments:
        path = expanded(argument)
        try:
            paths = [one for one in find(path) if one not in seen]
        except ChronocamError as error:
            yield Failure(input=str(Path(argument)), error=str(error))
            continue
        yield from paths
        seen.update(paths)


def refuse_absent(arguments: Sequence[str]) -> None:
    """Raise MediaError where no argument names anything: no model need be loaded to say so."""
    places = [expanded(argument) for argument in arguments]
    if not any(is_file(place) or is_folder(place) or matches(place) for place in places):
        raise MediaError(
            f"there is no `{arguments[0]}`; expected a file, a folder, or a pattern such as `*.jpg`"
        )


def find_pictures(argument: Path) -> list[Path]:
    """Return a picture, those of a folder, or those that match a pattern."""
    from chronocam.media import find_images

    return find_images([argument])


def find_arrays(argument: Path) -> list[Path]:
    """Return a file, the arrays of a folder by name, or the files that match a pattern."""
    if is_file(argument):
        return [argument]
    if paths := _arrays_in(argument) if is_folder(argument) else matches(argument):
        return paths
    raise nothing_named(argument, "arrays `(time, feature)` that numpy.save wrote")


def find_drives(argument: Path) -> list[Path]:
    """Return the drives of a file, folder or pattern: videos, folders of frames, sequences as in KITTI."""
    from chronocam.media import drives

    if is_folder(argument):
        return _drives_in(argument)
    if is_file(argument):
        return [argument]
    places = matches(argument)
    paths = [one for place in places if place.is_dir() for one in drives.find_drives(place)]
    paths += [place for place in places if place.suffix.lower() in VIDEO_SUFFIXES and place.is_file()]
    if paths:
        return paths
    raise nothing_named(argument, "a video, a folder of frames, or a sequence as KITTI has them")


def holds_arrays(arguments: Sequence[str]) -> bool:
    """Say whether the arguments name arrays, or folders of them. Raises InputError where only some do."""
    others = [argument for argument in arguments if not _names_arrays(expanded(argument))]
    if 0 < len(others) < len(arguments):
        raise InputError(
            f"`{others[0]}` is not a {ARRAY_SUFFIX} file or a {TABLE_SUFFIX}, but others are; explain "
            "features in a separate call"
        )
    return not others


def holds_videos(arguments: Iterable[str]) -> bool:
    """Say whether an argument names a video file (a GIF may be a picture), or a folder with one in it."""
    paths = [expanded(argument) for argument in arguments]
    inside = [file for path in paths for file in (contents(path) if is_folder(path) else [path])]
    return any(is_video(file) and file.suffix.lower() != ".gif" for file in inside)


def _names_arrays(path: Path) -> bool:
    return bool(_arrays_in(path)) if is_folder(path) else path.suffix.lower() in (ARRAY_SUFFIX, TABLE_SUFFIX)


def _arrays_in(folder: Path) -> list[Path]:
    """Return the arrays in a folder; tables only where there are none, nor pictures that they may be of."""
    every: dict[str, list[Path]] = {}
    for path in contents(folder):
        if is_file(path) and not path.name.startswith("."):
            every.setdefault(path.suffix.lower(), []).append(path)
    arrays, tables = (every.get(suffix, []) for suffix in (ARRAY_SUFFIX, TABLE_SUFFIX))
    return arrays or (tables if every.keys().isdisjoint(IMAGE_SUFFIXES | VIDEO_SUFFIXES) else [])


def _drives_in(folder: Path) -> list[Path]:
    """Return the drives in a folder, or the folder where it has a single picture: reading it then says so."""
    from chronocam.media import drives

    try:
        return drives.find_drives(folder)
    except MediaError:
        try:
            drives.count_frames(folder)
        except MediaError:
            pass
        else:
            return [folder]
        raise
