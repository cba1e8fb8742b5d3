"""The plan of a run: its inputs, sorted and cut into shards, and its settings, frozen under a digest."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from chronocam.errors import InputError, MediaError, first_line
from chronocam.jsonable import Json, JsonRecord, parse_json
from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.preprocess import Preprocess
from chronocam.runs.dataset.inputs.base import Item, need
from chronocam.runs.dataset.place import Place
from chronocam.runs.options import Options

PLAN: Final = "plan.json"
PREDICTED: Final = "predicted"
"""The target that leaves the labels of inputs aside."""

_ITEMS: Final = "inputs.plan"  # Parquet too, but no part: `*.parquet` are the parts
_FORMAT: Final = 2
_MOST: Final = 10_000_000  # parts of a run
_AGAIN: Final = "delete it, and run the same command again"
_GROUP: Final = 4096  # inputs that are read at once
_PAUSE: Final = 0.05  # seconds, while another run writes its plan


@dataclass(frozen=True, kw_only=True)
class Settings(JsonRecord):
    """What decides what is in the rows of a run.

    model: the spec.
    targets, methods, layers, align, frames, fast, precision: as on the command line; no target is the label
        of an input, else the predicted class.
    wants: what was said of the model's inputs and labels.
    clips: whether the inputs are clips.
    maps: how maps are kept: `uint8` (int8 where they have both signs) or `float16`.
    shard: how many inputs a part holds.
    """

    model: str
    targets: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    align: str = "half_pixel"
    frames: int | None = None
    wants: Mapping[str, str] = field(default_factory=dict)
    fast: bool = False
    precision: str | None = None
    clips: bool = False
    maps: str = "uint8"
    shard: int = 1024

    def options(self) -> Options:
        """Return the settings as the options of a call that draws nothing."""
        return Options(
            out=Path(),
            targets=() if self.targets == (PREDICTED,) else self.targets,
            methods=self.methods,
            layers=self.layers,
            align=self.align,
            frames=self.frames,
            fast=self.fast,
            precision=self.precision,
            pictures=False,
        )


@dataclass(frozen=True, kw_only=True)
class Header(JsonRecord):
    """What `plan.json` holds.

    digest: of the settings, the weights and the inputs.
    weights: the digest of the model's weights.
    inputs: how many there are.
    preprocess: how pictures are made the model's input: the fields of a `Preprocess` or `ClipPreprocess`.
    """

    format: int = _FORMAT
    digest: str = ""
    weights: str
    inputs: int
    settings: Settings
    preprocess: Any

    def refuse_misfits(self) -> None:
        """Raise MediaError for numbers of inputs, and for a preprocessing, that no run has."""
        shard = self.settings.shard
        if shard < 1 or not 0 <= self.inputs <= _MOST * shard:
            raise MediaError(f"{self.inputs} inputs in shards of {shard} are not a run")
        try:
            self.recipe()
        except (AttributeError, TypeError, ValueError) as error:
            raise MediaError(f"`preprocess` is {self.preprocess}; expected what a run writes") from error

    def recipe(self) -> Preprocess | ClipPreprocess:
        """Return how pictures or clips are prepared."""
        frame = _recipe(self.preprocess.get("frame", self.preprocess))
        fields: dict[str, Any] = {**self.preprocess, "frame": frame}
        return ClipPreprocess(**fields) if self.settings.clips else frame


@dataclass(frozen=True)
class Plan:
    """A plan as it lies in the folder of a run."""

    place: Place
    header: Header

    @property
    def settings(self) -> Settings:
        """What decides what is in the rows."""
        return self.header.settings

    @property
    def parts(self) -> list[str]:
        """The names of the parts, one a shard."""
        return [part_name(k) for k in range(-(-self.header.inputs // self.settings.shard))]

    def pending(self) -> list[int]:
        """Return the shards whose part does not exist."""
        there = self.place.names()
        return [k for k, name in enumerate(self.parts) if name not in there]

    def items(self, shard: int) -> list[Item]:
        """Return the inputs of one shard, and read few others."""
        first = shard * self.settings.shard
        last = min(first + self.settings.shard, self.header.inputs)
        groups = range(first // _GROUP, (last - 1) // _GROUP + 1)
        with readable(self.place, _ITEMS, _columns()) as parquet:
            rows = parquet.read_row_groups(list(groups), use_threads=False).slice(
                first - groups[0] * _GROUP, last - first
            )
            if len(rows) != last - first or any(column.null_count for column in rows.columns):
                raise MediaError(f"`{self.place.path(_ITEMS)}` lacks inputs {first} to {last - 1}; {_AGAIN}")
            columns = rows.to_pydict()
            columns["url"] = [url.decode("utf-8", "surrogatepass") for url in columns["url"]]
        return [Item(*row) for row in zip(*(columns[name] for name in Item._fields), strict=True)]


@contextmanager
def readable(place: Place, name: str, schema: Any) -> Iterator[Any]:
    """Give an open Parquet file with the columns of a schema; MediaError for what Arrow cannot read."""
    arrow, parquet = need("pyarrow"), need("pyarrow.parquet")
    try:
        with place.opened(name) as file:
            whole = parquet.ParquetFile(file, pre_buffer=False)
            if not whole.schema_arrow.equals(schema):
                raise MediaError(f"`{place.path(name)}` has other columns than a run writes; {_AGAIN}")
            yield whole
    except (arrow.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        raise MediaError(f"`{place.path(name)}` cannot be read ({first_line(error)}); {_AGAIN}") from error


def _columns() -> Any:
    """Return the names and types of the columns of what is planned."""
    arrow = need("pyarrow")
    types = [arrow.string(), arrow.string(), arrow.binary(), arrow.int64(), arrow.int64(), arrow.string()]
    return arrow.schema(list(zip(Item._fields, types, strict=True)))


def part_name(shard: int) -> str:
    """Return the name of the part of a shard."""
    return f"part-{shard:06d}.parquet"


def freeze(
    place: Place,
    items: Sequence[Item],
    settings: Settings,
    weights: str,
    preprocess: Preprocess | ClipPreprocess,
    resume: bool,
) -> Plan:
    """Write the plan, or find the same one there.

    Raises InputError where the folder holds another plan, and, without `resume`, any.
    """
    header = Header(weights=weights, inputs=len(items), settings=settings, preprocess=_fields(preprocess))
    header = Header(**{**vars(header), "digest": _digest(header, items)})
    here = Plan(place, header)
    while True:
        with place.claim(PLAN) as free:
            if free and PLAN not in place.names():
                # The plan comes last: where it is, the inputs are.
                place.put(_ITEMS, _frozen(items))
                place.put(PLAN, json.dumps(header.to_json(), indent=2).encode())
                return here
            if free:
                break
        time.sleep(_PAUSE)
    there = read_plan(place)
    if there.header.digest != header.digest:
        raise InputError(
            f"`{place.url}` holds another run ({_difference(there.header, header)}); choose another folder"
        )
    if not resume:
        raise InputError(f"`{place.url}` holds this run already; choose another folder, or resume it")
    return there


def read_plan(place: Place) -> Plan:
    """Return the plan of a folder. Raises MediaError where there is none."""
    try:
        data: Any = parse_json(place.read(PLAN).decode())
        if isinstance(data, dict) and data.get("format") != _FORMAT:
            raise MediaError(f"is of format {data.get('format')}; expected {_FORMAT}, update chronocam")
        header = Header.from_json(data)
        header.refuse_misfits()
        return Plan(place, header)
    except FileNotFoundError as error:
        raise MediaError(f"`{place.url}` holds no run: it has no {PLAN}; check the path") from error
    except (OSError, UnicodeDecodeError, MediaError) as error:
        raise MediaError(f"`{place.path(PLAN)}` cannot be read ({first_line(error)})") from error


def _difference(there: Header, here: Header) -> str:
    old, new = vars(there.settings), vars(here.settings)
    differences = [
        f"{name} {_shown(old[name])} there, {_shown(new[name])} here"
        for name in old
        if old[name] != new[name]
    ]
    if there.inputs != here.inputs:
        differences.append(f"{there.inputs} inputs there, {here.inputs} here")
    if not differences and there.weights != here.weights:
        return "the same model with other weights"
    if not differences and there.preprocess != _plain(here.preprocess):
        return "other preprocessing of pictures"
    return "; ".join(differences) or "other inputs"


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        value = tuple(f"{name} {one}" for name, one in value.items())
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _digest(header: Header, items: Sequence[Item]) -> str:
    digest = hashlib.sha256(json.dumps(header.to_json(), sort_keys=True).encode())
    for item in items:
        digest.update(repr(tuple(item)).encode(errors="surrogatepass"))
    return digest.hexdigest()


def _frozen(items: Sequence[Item]) -> bytes:
    arrow, parquet = need("pyarrow"), need("pyarrow.parquet")
    columns: dict[str, list[Any]] = dict(zip(Item._fields, map(list, zip(*items, strict=True)), strict=True))
    columns["url"] = [url.encode("utf-8", "surrogatepass") for url in columns["url"]]
    data = io.BytesIO()
    parquet.write_table(
        arrow.table(columns, schema=_columns()), data, row_group_size=_GROUP, compression="zstd"
    )
    return data.getvalue()


def _fields(preprocess: Preprocess | ClipPreprocess) -> Json:
    return asdict(preprocess)


def _plain(fields: Json) -> Any:
    """Return fields as JSON gives them back, lists for tuples."""
    return json.loads(json.dumps(fields))


def _recipe(fields: Json) -> Preprocess:
    values: dict[str, Any] = {
        name: tuple(one) if isinstance(one, list) else one for name, one in fields.items()
    }
    return Preprocess(**values)
