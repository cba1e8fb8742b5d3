"""The plan of a run: its inputs, sorted and cut into shards, and its settings, frozen under a digest."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from chronocam.errors import InputError, MediaError
from chronocam.runs.dataset.inputs.base import Item, need
from chronocam.runs.dataset.place import Place

PLAN: Final = "plan.json"
_ITEMS: Final = "items.parquet"
_FORMAT: Final = 1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides what is in the rows of a run.

    model: the spec.
    targets, methods, layers: as on the command line; no target is the label of an input, else the
        predicted class; no layer the model's default.
    frames: to take of a clip; None for what the model expects.
    maps: how maps are kept: `uint8` (int8 where they have both signs) or `float16`.
    shard: how many inputs a part holds.
    """

    model: str
    targets: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("gradcam",)
    layers: tuple[str, ...] = ()
    frames: int | None = None
    maps: str = "uint8"
    shard: int = 1024


@dataclass(frozen=True)
class Plan:
    """A plan as it lies in the folder of a run."""

    place: Place
    settings: Settings
    count: int
    digest: str

    @property
    def parts(self) -> list[str]:
        """The names of the parts, one a shard."""
        return [part_name(k) for k in range(-(-self.count // self.settings.shard))]

    def pending(self) -> list[int]:
        """Return the shards whose part does not exist."""
        there = self.place.names()
        return [k for k, name in enumerate(self.parts) if name not in there]

    def items(self, shard: int) -> list[Item]:
        """Return the inputs of one shard, and read no other's."""
        parquet = need("pyarrow.parquet")
        with self.place.opened(_ITEMS) as file:
            rows = parquet.ParquetFile(file).read_row_group(shard).to_pydict()
        return [Item(*row) for row in zip(*(rows[name] for name in Item._fields), strict=True)]


def part_name(shard: int) -> str:
    """Return the name of the part of a shard."""
    return f"part-{shard:06d}.parquet"


def freeze(place: Place, items: Sequence[Item], settings: Settings, resume: bool) -> Plan:
    """Write the plan, or find the same one there.

    Raises InputError where the folder holds another plan, and, without `resume`, any.
    """
    digest = _digest(items, settings)
    plan = Plan(place, settings, len(items), digest)
    if PLAN in place.names():
        there = read_plan(place)
        if there.digest != digest:
            raise InputError(
                f"`{place.url}` holds another run ({_difference(there, plan)}); choose another folder"
            )
        if not resume:
            raise InputError(f"`{place.url}` holds this run already; choose another folder, or resume it")
        return there
    # The plan comes last: where it is, the inputs are.
    place.put(_ITEMS, _frozen(items, settings.shard))
    header = {"format": _FORMAT, "digest": digest, "inputs": len(items), **asdict(settings)}
    place.put(PLAN, json.dumps(header, indent=2).encode())
    return plan


def read_plan(place: Place) -> Plan:
    """Return the plan of a folder. Raises MediaError where there is none."""
    try:
        header: dict[str, Any] = json.loads(place.read(PLAN))
        if header.pop("format") != _FORMAT:
            raise MediaError(f"`{place.path(PLAN)}` is of another version; update chronocam")
        digest, count = header.pop("digest"), header.pop("inputs")
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in header.items()
        }
        return Plan(place, Settings(**given), count, digest)
    except FileNotFoundError as error:
        raise MediaError(f"`{place.url}` holds no run: it has no {PLAN}; check the path") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(f"`{place.path(PLAN)}` cannot be read; expected what a run wrote") from error


def _difference(there: Plan, here: Plan) -> str:
    old, new = asdict(there.settings), asdict(here.settings)
    changed = [
        f"{name} {_shown(old[name])} there, {_shown(new[name])} here"
        for name in old
        if old[name] != new[name]
    ]
    if there.count != here.count:
        changed.append(f"{there.count} inputs there, {here.count} here")
    return "; ".join(changed) or "other inputs"


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _digest(items: Iterable[Item], settings: Settings) -> str:
    digest = hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode())
    for item in items:
        digest.update(repr(tuple(item)).encode(errors="surrogatepass"))
    return digest.hexdigest()


def _frozen(items: Sequence[Item], shard: int) -> bytes:
    arrow, parquet = need("pyarrow"), need("pyarrow.parquet")
    columns = dict(zip(Item._fields, map(list, zip(*items, strict=True)), strict=True))
    data = io.BytesIO()
    parquet.write_table(arrow.table(columns), data, row_group_size=shard, compression="zstd")
    return data.getvalue()
