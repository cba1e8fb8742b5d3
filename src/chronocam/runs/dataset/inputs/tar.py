"""WebDataset tars: a picture or video is a member, and `NAME.cls` beside it its label."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from posixpath import splitext

from chronocam.errors import InputError, first_line
from chronocam.media.images import IMAGE_SUFFIXES
from chronocam.runs.dataset.inputs.base import Item, absolute, opened
from chronocam.runs.inputs import VIDEO_SUFFIXES

_LABEL = ".cls"


def fits(argument: str) -> bool:
    """Say whether an argument is a tar, which is read in place: no compressed one is."""
    return argument.lower().endswith(".tar")


def find(argument: str, clips: bool) -> Iterator[Item]:
    """Yield the members, with the places of their bytes."""
    url = absolute(argument)
    wanted = VIDEO_SUFFIXES if clips else IMAGE_SUFFIXES
    members: list[tarfile.TarInfo] = []
    labels: dict[str, str] = {}
    try:
        with opened(url) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                stem, suffix = splitext(member.name)
                if suffix == _LABEL and (text := archive.extractfile(member)):
                    labels[stem] = text.read().decode().strip()
                elif member.isfile() and suffix.lower() in wanted:
                    members.append(member)
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"cannot read `{url}` ({first_line(error)}); expected a plain tar") from error
    for member in members:
        label = labels.get(splitext(member.name)[0], "")
        yield Item(f"{url}#{member.name}", "tar", url, member.offset_data, member.size, label)


def fetch(item: Item, folder: Path) -> Path:
    """Return a copy of a member."""
    copy = folder / f"input{splitext(item.key)[1]}"
    with opened(item.url) as file:
        file.seek(item.offset)
        copy.write_bytes(file.read(item.size))
    return copy
