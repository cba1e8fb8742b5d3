"""Judged samples in a folder, so that an evaluation that was interrupted goes on: a line of JSON for each."""

from __future__ import annotations

import base64
import hashlib
import inspect
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any, Final

import numpy as np

from chronocam.errors import InputError, MediaError
from chronocam.evaluation.case import digest
from chronocam.evaluation.measures import Measure
from chronocam.evaluation.panel import Panel, Row
from chronocam.evaluation.samples import Sample, mark_of
from chronocam.maps.arrays import to_numpy
from chronocam.types import BlackBox

_FILE: Final = "samples.jsonl"
_VERSION: Final = 4


@dataclass(eq=False)
class Store:
    """The lines of one evaluation.

    head: what was evaluated, which must be the same to go on.
    """

    path: Path
    head: str

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield what is there but for lines that were cut off or damaged.

        Raises InputError for that of another evaluation.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                try:
                    record = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    record = None
                if number == 0 and (not isinstance(record, dict) or record.get("head") != self.head):
                    raise InputError(
                        f"`{self.path.parent}` holds another evaluation (of another model, other methods, "
                        "measures or data); give another folder"
                    )
                if number and isinstance(record, dict) and record.pop("digest", "") == _digest(record):
                    yield record

    def add(self, record: dict[str, Any]) -> None:
        """Write one line and wait until it is on disk. Raises MediaError where that cannot be."""
        try:
            self._add(record)
        except OSError as error:
            raise MediaError(f"cannot write `{self.path}`: {error.strerror}; choose another place") from error

    def _add(self, record: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists() or self.path.stat().st_size == 0
        with self.path.open("ab+") as file:
            if new:
                file.write(_line({"version": _VERSION, "head": self.head}))
            else:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # the end of a line that was being written when the run ended
                    file.write(b"\n")
            file.write(_line({**record, "digest": _digest(record)}))
            file.flush()
            os.fsync(file.fileno())


def store_of(folder: str | Path, model: Any, settings: Sequence[Any], samples: Sequence[Sample]) -> Store:
    """Return the store of an evaluation in a folder."""
    head = hashlib.blake2b(digest_size=16)
    head.update(repr([_VERSION, _model_text(model), *settings]).encode())
    for name, values in _weights(model):
        head.update(name.encode() + np.ascontiguousarray(values).tobytes())
    for sample in samples:
        known = sample.name, sample.mark(), _text_of(sample.target), mark_of(sample.truth)
        head.update(repr(known).encode())
    return Store(Path(folder) / _FILE, head.hexdigest())


def _model_text(model: Any) -> str:
    """Return what a model is beside its weights."""
    if isinstance(model, BlackBox):
        return _text_of(model.function)
    # Keras numbers its models and layers anew in every process.
    return _text_of(model) if hasattr(model, "state_dict") else type(model).__qualname__


def _weights(model: Any) -> Iterator[tuple[str, np.ndarray]]:
    if hasattr(model, "state_dict"):
        for name, tensor in model.state_dict().items():
            if hasattr(tensor, "detach"):
                # bfloat16 and its like have no NumPy type.
                yield name, to_numpy(tensor.detach().float() if tensor.is_floating_point() else tensor)
    elif hasattr(model, "get_weights"):
        for number, values in enumerate(model.get_weights()):
            yield str(number), np.asarray(values)


def packed(row: Row, value: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a row as JSON."""
    return {
        "method": row.method,
        "layer": row.layer,
        "control": row.control,
        "values": {name: np.asarray(one).tolist() for name, one in value.items()},
    }


def unpacked(record: dict[str, Any], measures: Sequence[Measure]) -> dict[Row, dict[str, Any]]:
    """Return the values of all rows."""
    known = {measure.name for measure in measures}
    found: dict[Row, dict[str, Any]] = {}
    for one in record["rows"]:
        row = Row(str(one["method"]), str(one["layer"]), bool(one["control"]))
        found[row] = {
            name: np.asarray(value, np.float64) if isinstance(value, list) else value
            for name, value in one["values"].items()
            if name in known
        }
    return found


def small_picture(picture: np.ndarray | None) -> str:
    """Return a small JPEG as text, `""` for none."""
    if picture is None or picture.dtype != np.uint8:
        return ""
    from PIL import Image

    still = picture[len(picture) // 2] if picture.ndim == 4 else picture
    image = Image.fromarray(still[..., 0] if still.shape[-1] == 1 else still).convert("RGB")
    image.thumbnail((128, 128))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()


def small_map(values: np.ndarray) -> dict[str, Any]:
    """Return a small map as bytes from 0 to 255 of its largest value; of a clip the mean over time."""
    flat = values.astype(np.float32)
    flat = flat.mean(axis=0) if flat.ndim == 3 else flat
    peak = float(np.maximum(flat, 0).max())
    shown = np.rint(np.clip(flat / peak if peak > 0 else 0 * flat, 0, 1) * 255).astype(np.uint8)
    return {"shape": list(shown.shape), "bytes": base64.b64encode(shown.tobytes()).decode()}


def settings_of(panel: Panel, measures: Sequence[Measure], preprocess: Any, seed: int) -> list[Any]:
    """Return what an evaluation is told from others by, beside its model and data."""
    makers = [(name, repr(layer), _made_by(make)) for name, layer, make in panel.makers]
    functions = sorted((name, _text_of(function)) for name, function in panel.functions.items())
    arrays = [(name, _text_of(maps)) for name, maps in panel.arrays.items()]
    options = sorted((name, _text_of(value)) for name, value in panel.options.items())
    judged_by = [(one.name, _text_of(one), _text_of(type(one).of)) for one in measures]
    return [makers, functions, arrays, options, judged_by, _text_of(preprocess), seed]


def _made_by(make: Any) -> str:
    """Return the options with which methods are made."""
    return _text_of(getattr(make, "keywords", {}))


def _text_of(value: Any, depth: int = 8) -> str:
    """Return the text of an option, the same in every run: no addresses in memory, sets in order.

    Of functions it is their code with what they enclose, of arrays a fingerprint. depth: so many containers
    and functions inside each other are looked into.
    """
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return digest(np.asarray(to_numpy(value)))
    if depth == 0:
        return _plain(value)

    def each(values: Iterable[Any]) -> list[str]:
        return [_text_of(one, depth - 1) for one in values]

    if isinstance(value, (list, tuple)):
        return f"{each(value)}"
    if isinstance(value, (set, frozenset)):
        return f"{sorted(each(value))}"
    if isinstance(value, Mapping):
        return f"{each(value.items())}"
    if isinstance(value, partial):
        return f"{each([value.func, value.args, value.keywords])}"
    if is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__qualname__} {each((f.name, getattr(value, f.name)) for f in fields(value))}"
    if isinstance(value, CodeType):
        return f"{value.co_code!r} {value.co_names} {each(value.co_consts)}"
    code = getattr(value, "__code__", None)
    if code is None:
        return _plain(value)
    enclosed = inspect.getclosurevars(value).nonlocals
    return f"{each([code, enclosed, value.__defaults__, value.__kwdefaults__])}"


def _plain(value: Any) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _digest(record: dict[str, Any]) -> str:
    """Return what a line is known by again: as JSON gives it back, names may be in another order."""
    return hashlib.blake2b(json.dumps(record, sort_keys=True).encode(), digest_size=16).hexdigest()


def _line(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, allow_nan=True) + "\n").encode()
