"""Folders of clips: which clip belongs to which class and split, in the layouts in which data sets come.

A layout is a function from the folder and the number of the split file to what it lists, or None where the
folder is laid out otherwise; the first of `LAYOUTS` that answers is taken.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from chronocam.errors import InputError
from chronocam.lab.train.splits import HELD_OUT, SPLITS, LabelledFile, divide

SUFFIXES: Final = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v", ".gif", ".webp")
PARTS: Final = {name: name for name in SPLITS} | dict.fromkeys(("val", "valid", "validate"), "validation")
"""The split that a folder's or a table's name stands for."""

_KINETICS: Final = {"label", "youtube_id", "time_start", "time_end"}


@dataclass(frozen=True)
class Listing:
    """What a folder holds.

    layout: the name of its layout.
    parts: the clips of each split; a split may be missing.
    labels: all classes, in the order in which the network numbers them.
    missing: files that are listed but do not exist.
    """

    layout: str
    parts: Mapping[str, list[LabelledFile]]
    labels: tuple[str, ...]
    missing: list[str] = field(default_factory=list)


def list_clips(root: Path, split: int = 1, seed: int = 0) -> Listing:
    """Find the clips of a folder and which of them to train, validate and test on.

    Understood are split files of UCF101 (`trainlist01.txt`, `testlist01.txt`, `classInd.txt`) and HMDB51
    (`wave_test_split1.txt`), Kinetics' CSV files, folders `train`, `val` and `test` with one folder per class
    each, and one folder per class alone. Without a split in the data set, a seeded share of each class is
    held out, 15 % of the clips for test, 15 % of the rest for validation; clips cut from one video, by the
    names of UCF101 and HMDB51, stay together. A validation split without a test split becomes the test, and a
    new validation split is held out.

    Raises InputError where the folder holds no clips, fewer than two classes, or no such split file.
    """
    if not root.is_dir():
        raise InputError(
            f"`{root}` is not a folder; expected one with clips, or `gestures` for the rendered ones"
        )
    listing = next(filter(None, (layout(root, split) for layout in LAYOUTS)), None)
    if listing is None or not any(listing.parts.values()):
        listed = f"; {len(listing.missing)} are listed and missing" if listing and listing.missing else ""
        raise InputError(
            f"`{root}` holds no clips{listed}; expected one folder per class with {', '.join(SUFFIXES)}"
        )
    parts = complete({name: sorted(items) for name, items in listing.parts.items() if items}, seed)
    _check(root, parts, listing)
    return Listing(listing.layout, parts, listing.labels, listing.missing)


def complete(parts: dict[str, list[LabelledFile]], seed: int) -> dict[str, list[LabelledFile]]:
    """Hold out what the data set does not."""
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    for name in ("test", "validation"):
        if name not in parts:
            train, held_out = divide(parts.get("train", []), HELD_OUT, seed)
            parts |= {"train": train, name: held_out}
    return parts


def _check(root: Path, parts: Mapping[str, list[LabelledFile]], listing: Listing) -> None:
    if len(listing.labels) < 2:
        raise InputError(f"`{root}` holds the class {listing.labels[0]} alone; expected at least two")
    for name in SPLITS:
        if not parts.get(name):
            raise InputError(
                f"`{root}` ({listing.layout}) leaves no clips for {name}; add clips, or folders train, test"
            )


def _ucf(root: Path, split: int) -> Listing | None:
    lists = {
        name: _split_file(root, f"{name}list*.txt", f"{name}list{split:02d}.txt")
        for name in ("train", "test")
    }
    if not all(lists.values()):
        return None
    here = _by_name(root)
    missing: list[str] = []
    parts: dict[str, list[LabelledFile]] = {}
    for name, path in lists.items():
        rows = [line.rsplit(maxsplit=1)[0] if line[-1].isdigit() else line for line in _lines(path)]
        parts[name] = list(_there(((Path(row).name, Path(row).parent.name) for row in rows), here, missing))
    index = next(iter(sorted(root.rglob("classInd.txt"))), None)
    order = [line.split(maxsplit=1)[-1] for line in _lines(index)]
    present = _labels(parts)
    labels = sorted(present, key=lambda label: order.index(label) if label in order else len(order))
    return Listing("UCF101", parts, tuple(labels), missing)


def _hmdb(root: Path, split: int) -> Listing | None:
    ending = f"_test_split{split}.txt"
    _split_file(root, "*_test_split*.txt", f"*{ending}")
    here = _by_name(root)
    missing: list[str] = []
    parts: dict[str, list[LabelledFile]] = {"train": [], "test": []}
    for path in sorted(root.rglob(f"*{ending}")):
        label = path.name.removesuffix(ending)
        rows = [line.rsplit(maxsplit=1) for line in _lines(path)]
        for name, mark in (("train", "1"), ("test", "2")):
            parts[name] += _there(((row[0], label) for row in rows if row[-1] == mark), here, missing)
    return Listing("HMDB51", parts, _labels(parts), missing) if any(parts.values()) or missing else None


def _split_file(root: Path, any_split: str, wanted: str) -> Path | None:
    """Return the first file of the wanted split; raises InputError where there are others only."""
    path = next(iter(sorted(root.rglob(wanted))), None)
    others = sorted({path.name for path in root.rglob(any_split)})
    if path is None and others:
        raise InputError(
            f"`{root}` has no split file {wanted}; there are {', '.join(others[:4])}: pass another split"
        )
    return path


def _kinetics(root: Path, _split: int) -> Listing | None:
    here = _by_name(root)
    missing: list[str] = []
    parts: dict[str, list[LabelledFile]] = {}
    for table in sorted(root.rglob("*.csv")):
        with table.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if not _KINETICS.issubset(rows.fieldnames or ()):
                continue
            for row in rows:
                name = PARTS.get((row.get("split") or table.stem).lower(), "train")
                parts.setdefault(name, []).extend(
                    _there([(_kinetics_name(row), row["label"])], here, missing)
                )
    return Listing("Kinetics", parts, _labels(parts), missing) if parts else None


def _kinetics_name(row: Mapping[str, str]) -> str:
    try:
        start, end = (int(float(row[key])) for key in ("time_start", "time_end"))
    except (TypeError, ValueError):
        raise InputError(
            f"the CSV row of {row['youtube_id']} has no times; expected seconds, mend it"
        ) from None
    return f"{row['youtube_id']}_{start:06d}_{end:06d}"


def _part_folders(root: Path, _split: int) -> Listing | None:
    folders = {PARTS[path.name.lower()]: path for path in _subfolders(root) if path.name.lower() in PARTS}
    if "train" not in folders:
        return None
    parts = {name: _class_folders(path) for name, path in folders.items()}
    return Listing("folders of splits", parts, _labels(parts))


def _classes(root: Path, _split: int) -> Listing | None:
    parts = {"train": _class_folders(root)}
    return Listing("folder per class", parts, _labels(parts))


LAYOUTS: Final[tuple[Callable[[Path, int], Listing | None], ...]] = (
    _kinetics,
    _ucf,
    _hmdb,
    _part_folders,
    _classes,
)


def _class_folders(root: Path) -> list[LabelledFile]:
    return [LabelledFile(path, folder.name) for folder in _subfolders(root) for path in _videos(folder)]


def _subfolders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _videos(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def _by_name(root: Path) -> dict[str, Path]:
    """Return every clip under the folder by its file name, with and without suffix."""
    videos = _videos(root)
    return {path.stem: path for path in videos} | {path.name: path for path in videos}


def _there(
    rows: Iterable[tuple[str, str]], here: Mapping[str, Path], missing: list[str]
) -> Iterator[LabelledFile]:
    """Yield the rows (file name, class) whose file is there; note the others."""
    for name, label in rows:
        if name in here:
            yield LabelledFile(here[name], label)
        else:
            missing.append(name)


def _lines(path: Path | None) -> list[str]:
    text = "" if path is None else path.read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _labels(parts: Mapping[str, list[LabelledFile]]) -> tuple[str, ...]:
    return tuple(sorted(Counter(item.label for items in parts.values() for item in items)))
