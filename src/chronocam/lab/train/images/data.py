"""Folders of pictures: the class and split of each, and the pictures as batches want them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import UInt8

from chronocam.errors import InputError
from chronocam.lab.train.clips import ClipSource, cached, insist_on_one
from chronocam.lab.train.folders import PARTS, Listing, complete
from chronocam.lab.train.run import Track
from chronocam.lab.train.settings import ImageSettings
from chronocam.lab.train.splits import SPLITS, LabelledFile, limits, thin
from chronocam.media import Preprocess, read_image
from chronocam.media.images import IMAGE_SUFFIXES

_NUMBERED: Final = re.compile(r"(?P<label>.+)\.\d+$")  # cat.0, as Kaggle names cats and dogs


def list_pictures(root: Path, seed: int = 0) -> Listing:
    """Find the pictures of a folder and which of them to train, validate and test on.

    Understood are folders `train`, `validation` (or `val`) and `test` with one folder per class each, one
    folder per class alone, and instead of folders per class pictures named `cat.0.jpg`, `dog.1.jpg` (a part
    without labels, such as Kaggle's test, is left out). Without a split in the data set, a seeded share of
    each class is held out, 15 % of the pictures for test, 15 % of the rest for validation. A validation split
    without a test split becomes the test, and a new validation split is held out.

    Raises InputError where the folder holds no pictures, fewer than two classes, or too few of them.
    """
    if not root.is_dir():
        raise InputError(f"`{root}` is not a folder; expected one with pictures")
    named = {PARTS[path.name.lower()]: path for path in _subfolders(root) if path.name.lower() in PARTS}
    layout = "folders of splits" if "train" in named else "folder per class"
    items_by_part = {
        part: sorted(_labelled(path))
        for part, path in (named if "train" in named else {"train": root}).items()
    }
    parts = complete({part: items for part, items in items_by_part.items() if items}, seed)
    labels = tuple(sorted({item.label for items in parts.values() for item in items}))
    _check(root, layout, parts, labels)
    return Listing(layout, parts, labels)


def _check(root: Path, layout: str, parts: dict[str, list[LabelledFile]], labels: tuple[str, ...]) -> None:
    if not labels:
        expected = "one folder per class, or pictures named cat.0.jpg"
        raise InputError(f"`{root}` holds no pictures with labels; expected {expected}")
    if len(labels) < 2:
        raise InputError(f"`{root}` holds the class {labels[0]} alone; expected at least two")
    for name in SPLITS:
        if not parts.get(name):
            raise InputError(
                f"`{root}` ({layout}) leaves no pictures for {name}; add some, or folders train, test"
            )


def _labelled(folder: Path) -> Iterator[LabelledFile]:
    """Yield the pictures of folders per class, or else those that are named by their class."""
    places = [place for place in _subfolders(folder) if place.name.lower() not in PARTS]
    inside = [LabelledFile(path, place.name) for place in places for path in _pictures(place)]
    if inside:
        yield from inside
        return
    for path in sorted(folder.iterdir()):
        match = _NUMBERED.match(path.stem)
        if match and _is_picture(path):
            yield LabelledFile(path, match["label"])


def _subfolders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if _is_picture(path))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def find_pictures(
    settings: ImageSettings, listing: Listing, preprocess: Preprocess, track: Track
) -> dict[str, ClipSource]:
    """Return the pictures that the settings name, by split, as the network sees them: clips of one frame.

    Raises MediaError where none of a split can be read.
    """
    parts: dict[str, ClipSource] = {}
    for name, most in limits(settings.images, settings.held_out).items():
        items = listing.parts[name]
        chosen = [items[place] for place in thin(len(items), most, settings.seed)]
        pictures = Pictures(chosen, listing.labels, preprocess)
        parts[name] = pictures if settings.cache is None else cached(pictures, settings.cache, track)
        insist_on_one(parts[name])
    return parts


@dataclass(frozen=True)
class Pictures:
    """Pictures in files as clips of one frame: resized and cut as the network wants them, not normalised."""

    items: list[LabelledFile]
    labels: tuple[str, ...]
    preprocess: Preprocess

    def __len__(self) -> int:
        return len(self.items)

    def pixels(self, index: int) -> UInt8[np.ndarray, "1 height width 3"]:
        """Return the picture; raises MediaError where it cannot be read."""
        return np.asarray(self.preprocess.view(read_image(self.items[index].path)))[None]

    def label(self, index: int) -> int:
        """Return the number of the picture's class."""
        return self.labels.index(self.items[index].label)

    def name(self, index: int) -> str:
        """Return what a message calls the picture, with its folder: names may repeat in other folders."""
        path = self.items[index].path
        return f"{path.parent.name}/{path.name}"

    def digest(self) -> str:
        """Return a name for all that the pixels depend on."""
        files = [
            (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path, _ in self.items
        ]
        return hashlib.sha256(repr((files, self.preprocess)).encode()).hexdigest()[:16]
