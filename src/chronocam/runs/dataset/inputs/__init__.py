"""Where inputs of a run come from: one file for each kind of source, with `find` and `fetch`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from chronocam.errors import ChronocamError, InputError, MediaError, first_line
from chronocam.runs.dataset.inputs import arrow, files, manifest, tar
from chronocam.runs.dataset.inputs.base import Item, is_url

_KINDS = (manifest, tar, arrow, files)
_FETCH = {"file": files.fetch, "folder": files.fetch_folder, "tar": tar.fetch, "arrow": arrow.fetch}


def find_items(arguments: Sequence[str], clips: bool) -> list[Item]:
    """Return every input that the arguments name, each once, sorted by key.

    clips: whether videos and folders of frames are looked for, instead of pictures.

    Raises MediaError for an argument that names nothing.
    """
    items: dict[tuple[str, int, str], Item] = {}
    for argument in (one for pattern in arguments for one in files.containers(pattern)):
        kind = next(kind for kind in _KINDS if kind.fits(argument))
        # One file with two labels is two inputs; the same named twice is one.
        own = {(item.url or item.key, item.offset, item.label): item for item in kind.find(argument, clips)}
        if not own:
            what = "videos or folders of frames" if clips else "pictures"
            raise MediaError(f"`{argument}` names no {what}; check the path{files.hint(argument)}")
        items.update(own)
    return sorted(items.values())


@contextmanager
def fetched(item: Item) -> Iterator[Path]:
    """Yield an input as a local file or folder; a copy of what lies elsewhere is gone afterwards.

    Raises InputError where it cannot be had, MediaError where there is no such file.
    """
    if not item.url:
        raise InputError(f"{item.key} names no path; fill in its `path`")
    if item.kind in ("file", "folder") and not is_url(item.url):
        yield Path(item.url)
        return
    if item.kind not in _FETCH:
        raise InputError(f"{item.key} is a `{item.kind}`; expected one of {', '.join(_FETCH)}")
    with TemporaryDirectory(prefix="chronocam-") as folder:
        yield _copy(item, Path(folder))


def _copy(item: Item, folder: Path) -> Path:
    try:
        return _FETCH[item.kind](item, folder)
    except ChronocamError:
        raise
    except FileNotFoundError as error:
        raise MediaError(f"there is no `{item.key}`; check the path") from error
    except Exception as error:  # storage and decoders raise errors of their own
        raise InputError(f"`{item.key}` cannot be read ({first_line(error)})") from error
