"""Explanations as `.npz` files: arrays, and a header in JSON. Nothing that is read is run."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from chronocam.errors import MediaError
from chronocam.maps.attention import Attention
from chronocam.media._stills import Stills
from chronocam.types import Finding, TargetInfo, note

if TYPE_CHECKING:
    from chronocam.explanation.record import Explanation

_FORMAT: Final = "chronocam explanation 1"
_WRITERS: Final = "Explanation.save or SequenceExplanation.save"
_ATTENTION: Final = "attention."
_NOT_IN_HEADER: Final = ("maps", "scores", "confidences", "attention", "preprocess", "on")


def write(path: Path, explanation: Explanation) -> None:
    """Write all of an explanation; see `read` for what becomes of its fields."""
    pictures, attention = explanation.pictures or (), explanation.attention
    header = {
        field.name: getattr(explanation, field.name)
        for field in fields(explanation)
        if field.name not in _NOT_IN_HEADER
    }
    header["format"] = _FORMAT
    header["findings"] = [astuple(finding) for finding in explanation.findings]
    # Plain JSON and arrays, no pickle: a file from elsewhere must not run code when it is read.
    header["targets"] = [
        [(info.name, info.index, info.signed) for info in row] for row in explanation.targets
    ]
    header["pictures"] = [
        {name: value for name, value in asdict(picture).items() if name != "frames"} for picture in pictures
    ] or None
    arrays: dict[str, Any] = {"maps": explanation.maps, "scores": explanation.scores}
    if explanation.confidences is not None:
        arrays["confidences"] = explanation.confidences
    if attention is not None:
        arrays |= {_ATTENTION + name: values for name, values in vars(attention).items()}
    for i, picture in enumerate(pictures):
        for j, file in enumerate(picture.frames):
            arrays[f"picture.{i}.{j}"] = np.frombuffer(file, np.uint8)
    np.savez_compressed(path, header=np.asarray(json.dumps(header)), **arrays)


def read(path: str | Path, make: type[Explanation]) -> Explanation:
    """Return the explanation in a file; `make` makes it of its fields.

    Raises MediaError for a missing file, and for one that `write` has not written.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return _checked(make(**_fields({name: file[name] for name in file.files})))
    except FileNotFoundError as error:
        raise MediaError(f"no file `{path}`; expected an .npz written by {_WRITERS}") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise MediaError(
            f"`{path}` is not a saved explanation; expected an .npz written by {_WRITERS}"
        ) from error


def _fields(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    header = json.loads(str(arrays["header"]))
    if header.pop("format") != _FORMAT:
        raise ValueError("another format")
    targets, texts = header.pop("targets"), header.pop("diagnostics", ())
    # Files of the first version hold the texts of the findings alone, and targets without a sign.
    findings = tuple(Finding(*parts) for parts in header.pop("findings", ())) or tuple(map(note, texts))
    pictures = header.pop("pictures", None)
    attention = {
        name.removeprefix(_ATTENTION): values
        for name, values in arrays.items()
        if name.startswith(_ATTENTION)
    }
    return {
        **_as_tuples(header),
        "maps": arrays["maps"],
        "scores": arrays["scores"],
        "targets": tuple(tuple(_target(*info) for info in row) for row in targets),
        "findings": findings,
        "attention": Attention(**attention) if attention else None,
        "confidences": arrays.get("confidences"),
        "pictures": _pictures(arrays, pictures) if pictures else None,
    }


def _checked(one: Explanation) -> Explanation:
    """Return an explanation from a file; raises ValueError where its parts do not fit each other.

    Whatever is drawn from it later may then rely on the shapes.
    """
    batch, targets, *grid = one.maps.shape
    attention, pictures = one.attention, one.pictures or ()
    fits = (
        one.maps.dtype.kind == "f" and len(grid) in (1, 2, 3),
        one.scores.shape == (batch, targets),
        [len(row) for row in one.targets] == [targets] * batch,
        len(one.input_size) == len(grid),
        one.confidences is None or one.confidences.shape == (batch, targets),
        one.centers is None or [len(at) for at in one.centers] == grid,
        one.frame_spans is None or len(one.frame_spans) == grid[0],
        attention is None or attention.contributions.shape == (batch, targets, attention.weights.shape[1]),
        one.pictures is None or len(pictures) == batch,
        len(grid) < 3 or all(len(picture.places) == one.input_size[0] for picture in pictures),
    )
    if not all(fits):
        raise ValueError("parts of different shapes")
    return one


def _target(name: str, index: int | None, signed: bool = False) -> TargetInfo:
    return TargetInfo(name, index, signed=signed)


def _pictures(arrays: dict[str, np.ndarray], headers: list[dict[str, Any]]) -> tuple[Stills, ...]:
    pictures = []
    for i, about in enumerate(headers):
        count = sum(name.startswith(f"picture.{i}.") for name in arrays)
        frames = tuple(arrays[f"picture.{i}.{j}"].tobytes() for j in range(count))
        pictures.append(Stills(frames, **_as_tuples(about)))
    return tuple(pictures)


def _as_tuples(words: dict[str, Any]) -> dict[str, Any]:
    """Return the values with tuples in the place of JSON's lists, as records have them."""

    def tuples(value: Any) -> Any:
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    return {name: tuples(value) for name, value in words.items()}
