"""Where inputs of a run come from: one file for each kind of source, with `find` and `fetch`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chronocam.errors import MediaError
from chronocam.runs.dataset.inputs import arrow, files, manifest, tar
from chronocam.runs.dataset.inputs.base import Item

_KINDS = (manifest, tar, arrow, files)
_FETCH = {"file": files.fetch, "folder": files.fetch_folder, "tar": tar.fetch, "arrow": arrow.fetch}


def find_items(arguments: Sequence[str], clips: bool) -> list[Item]:
    """Return every input that the arguments name, each once, sorted by key.

    clips: whether videos and folders of frames are looked for, instead of pictures.

    Raises MediaError for an argument that names nothing.
    """
    found: dict[str, Item] = {}
    for argument in arguments:
        kind = next(kind for kind in _KINDS if kind.fits(argument))
        named = {item.key: item for item in kind.find(argument, clips)}
        if not named:
            what = "videos or folders of frames" if clips else "pictures"
            raise MediaError(f"`{argument}` names no {what}; check the path")
        found.update(named)
    return [found[key] for key in sorted(found)]


def fetch(item: Item, folder: Path) -> Path:
    """Return the input as a local file or folder; what is not there yet is put into `folder`."""
    return _FETCH[item.kind](item, folder)
