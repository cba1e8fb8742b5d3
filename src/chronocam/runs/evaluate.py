"""`chronocam evaluate`: photos or clips, where their objects are, and what becomes of the judgement."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chronocam.errors import InputError, MediaError, first_line, suggest
from chronocam.media.files import is_folder
from chronocam.runs.terminal import line, put, put_json, say, track, warn

if TYPE_CHECKING:
    from chronocam.evaluation import Evaluation
    from chronocam.models import Loaded

_LARGEST: Final = 256 * 2**20
"""Bytes of a file of annotations."""

_WITHOUT: Final = ("deletion", "insertion")
_WITH_TRUTH: Final = ("pointing", "energy", *_WITHOUT)


@dataclass(frozen=True)
class Annotated:
    """A file with what is known of it.

    label: of the object; None where that is not said. truth: boxes, points or a mask, None for nothing.
    """

    path: Path
    label: str | None = None
    truth: Any = None


def evaluate_files(
    inputs: Sequence[str],
    spec: str,
    *,
    out: Path,
    masks: Path | None,
    boxes: Path | None,
    points: Path | None,
    targets: Sequence[str],
    methods: Sequence[str],
    measures: Sequence[str],
    layers: Sequence[str],
    tolerance: float,
    budget: int | None,
    seed: int,
    device: str | None,
    trust: bool,
    batch_size: int,
    as_json: bool,
) -> Evaluation:
    """Judge methods on files, write the page, the table and all numbers, and say the verdict."""
    from chronocam.evaluation import evaluate
    from chronocam.media.clips.find import find_clips
    from chronocam.media.clips.preprocess import ClipPreprocess
    from chronocam.runs.device import load_on
    from chronocam.runs.inputs import find_pictures, refuse_absent, search

    if sum(one is not None for one in (masks, boxes, points)) > 1:
        raise InputError("--masks, --boxes and --points all say where objects are; give one of them")
    refuse_absent(inputs)
    loaded = load_on(device, spec, trust)
    if loaded.preprocess is None:
        raise InputError(f"`{spec}` takes no pictures or clips; `cc.evaluate` takes arrays")
    find = find_clips if isinstance(loaded.preprocess, ClipPreprocess) else find_pictures
    found = list(search(inputs, find))
    paths = [one for one in found if isinstance(one, Path)]
    for failure in found:
        if not isinstance(failure, Path):
            warn(f"{failure.input}: {failure.error}")
    if not paths:
        raise InputError("none of the arguments names a picture or clip; see the lines above")
    annotated = _annotated(paths, masks, boxes, points, loaded)
    result = evaluate(
        loaded,
        [str(one.path) for one in annotated],
        [_target(loaded, one, targets) for one in annotated],
        methods=tuple(methods),
        layers=tuple(layers) or None,
        measures=tuple(measures) or (_WITH_TRUTH if any(one.truth for one in annotated) else _WITHOUT),
        truth=[one.truth for one in annotated],
        tolerance=tolerance,
        budget=budget,
        out=out,
        batch_size=batch_size,
        seed=seed,
        progress=lambda samples: track(list(samples), "Judging"),
    )
    for name in ("evaluation.html", "evaluation.json"):
        result.save(out / name)
    _report(result, out, as_json)
    return result


def _report(result: Evaluation, out: Path, as_json: bool) -> None:
    for name, error in result.failures:
        warn(f"{name}: {error}")
    say(*result.notes)
    if as_json:
        put_json(json.loads((out / "evaluation.json").read_text(encoding="utf-8")))
    else:
        put(*map(line, result.verdicts))
    say(f"{out / 'evaluation.html'}")


def _target(loaded: Loaded, one: Annotated, targets: Sequence[str]) -> Any:
    from chronocam.runs.targets import classes

    if len(targets) > 1:
        raise InputError("an evaluation is of one --target, or of none: then of each file's own class")
    text = targets[0] if targets else one.label
    return None if text is None else classes(loaded, [text], ())[0]


def _annotated(
    paths: Sequence[Path], masks: Path | None, boxes: Path | None, points: Path | None, loaded: Loaded
) -> list[Annotated]:
    """Return the files with where their objects are, one for each class that a file's objects have."""
    from chronocam.evaluation.samples import masks_in, refuse_shared

    if masks is not None:
        if not is_folder(masks):
            raise MediaError(f"there is no folder `{masks}`; give one with a mask for each file, by its name")
        beside = masks_in(masks)
        if not any(path.stem in beside for path in paths):
            raise MediaError(
                f"`{masks}` holds no mask named like one of the files, such as {paths[0].stem}.png"
            )
        refuse_shared({str(path): path.stem for path in paths if path.stem in beside}, f"`{masks}`")
        return [Annotated(path, truth=beside.get(path.stem)) for path in paths]
    if boxes is not None:
        return _joined(paths, _boxes(boxes), boxes, loaded)
    if points is not None:
        return _joined(paths, _points(points), points, loaded)
    return [Annotated(path) for path in paths]


Places = Mapping[str, Mapping[str | None, list[Sequence[float]]]]
"""By the name of a file, the places of the objects of each label."""


def _joined(paths: Sequence[Path], places: Places, file: Path, loaded: Loaded) -> list[Annotated]:
    from chronocam.evaluation.samples import refuse_shared

    refuse_shared({str(path): path.name for path in paths if path.name in places}, f"`{file}`")
    known = set(loaded.labels or ())
    found: list[Annotated] = []
    lacking: Counter[str] = Counter()
    for path in paths:
        of = places.get(path.name, {})
        named = {label: where for label, where in of.items() if label in known}
        if named:
            found += [Annotated(path, label, where) for label, where in named.items()]
        else:
            # Of labels that the model does not know, the class it predicts is explained.
            found.append(Annotated(path, truth=[place for where in of.values() for place in where]))
            lacking.update(label for label in of if label is not None)
    if not any(one.truth for one in found):
        first = next(iter(places), None)
        hint = suggest(paths[0].name, list(places)) or (f", such as {first}" if first else "")
        raise MediaError(f"`{file}` names none of the files{hint}")
    for label, count in lacking.items():
        files = "1 file" if count == 1 else f"{count} files"
        warn(f"the model has no class `{label}`: for {files}, the predicted class is explained")
    return found


def _boxes(file: Path) -> Places:
    """Return the boxes of the objects in COCO's annotations."""
    try:
        data = json.loads(_text(file))
        images = {image["id"]: Path(str(image["file_name"])).name for image in data["images"]}
        labels = {one["id"]: str(one["name"]) for one in data.get("categories", ())}
        annotations = list(data["annotations"])
        image_of = [one["image_id"] for one in annotations]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MediaError(
            f"`{file}` is not a file of COCO annotations ({type(error).__name__}: {first_line(error)}); "
            'expected {"images": [{"id", "file_name"}], "annotations": [{"image_id", "bbox"}], "categories"}'
        ) from error
    shared = [name for name, count in Counter(images.values()).items() if count > 1]
    if shared:
        raise MediaError(
            f"`{file}` has several images called {shared[0]}; give the annotations of one folder"
        )
    places: dict[str, dict[str | None, list[Sequence[float]]]] = defaultdict(lambda: defaultdict(list))
    without: Counter[str] = Counter()
    for image, one in zip(image_of, annotations, strict=True):
        box = _corners(one.get("bbox"))
        if one.get("iscrowd"):
            without["of a crowd, and not of an object"] += 1
        elif box is None:
            without["without a box [x, y, width, height] of some size"] += 1
        elif image in images:
            places[images[image]][labels.get(one.get("category_id"))].append(box)
    for what, count in without.items():
        warn(f"`{file}`: {count} {'annotation' if count == 1 else 'annotations'} {what}: left out")
    return places


def _corners(box: Any) -> tuple[float, float, float, float] | None:
    """Return the corners of a box of COCO; None for what is none, or has no size."""
    try:
        x, y, width, height = map(float, box)
    except (TypeError, ValueError):
        return None
    return (x, y, x + width, y + height) if width > 0 and height > 0 else None


def _points(file: Path) -> Places:
    """Return the points of a table `file,x,y` or `file,x,y,label`, or of the same as a list of JSON."""
    places: dict[str, dict[str | None, list[Sequence[float]]]] = defaultdict(lambda: defaultdict(list))
    for what, row in _rows(file):
        try:
            place = float(row["x"]), float(row["y"])
        except (TypeError, ValueError) as error:
            raise MediaError(f"{what} of `{file}` holds no point; expected numbers x and y") from error
        label = row.get("label")
        places[Path(str(row["file"])).name][None if label in (None, "") else str(label)].append(place)
    return places


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a table, each with what it is called."""
    text = _text(file)
    if file.suffix.lower() != ".json":
        rows = csv.DictReader(text.splitlines())
        _check_columns(file, rows.fieldnames or ())
        yield from ((f"line {number}", row) for number, row in enumerate(rows, start=2))
        return
    try:
        found = json.loads(text)
    except ValueError as error:
        raise MediaError(f"`{file}` is not JSON ({first_line(error)})") from error
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise MediaError(f'`{file}` holds no list of points; expected [{{"file", "x", "y"}}, …]')
    for number, row in enumerate(found, start=1):
        _check_columns(file, row)
        yield f"entry {number}", row


def _check_columns(file: Path, columns: Iterable[str]) -> None:
    if not {"file", "x", "y"} <= set(columns):
        raise MediaError(f"`{file}` has the columns {list(columns)}; expected file, x, y and perhaps label")


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > _LARGEST:
            raise MediaError(
                f"`{file}` has more than {_LARGEST >> 20} MiB; give annotations of these files only"
            )
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(f"`{file}` cannot be read ({first_line(error)})") from error
