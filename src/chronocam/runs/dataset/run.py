"""`cc.runs.run`: a whole data set explained into one folder of Parquet parts, and resumed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chronocam.errors import InputError, check_whole
from chronocam.runs.dataset.place import Place
from chronocam.runs.dataset.plan import Plan, Settings, freeze, part_name
from chronocam.runs.terminal import track

if TYPE_CHECKING:
    from chronocam.runs.dataset.table import Table
    from chronocam.runs.dataset.work import Worker

_PAUSE: Final = 0.5  # seconds, until parts of other runs are looked for again


def run(
    inputs: str | PathLike[str] | Sequence[str | PathLike[str]],
    model: str,
    out: str | PathLike[str],
    targets: Sequence[str | int] | str | int | None = None,
    methods: Sequence[str] = ("gradcam",),
    engine: str = "local",
    shard: int = 1024,
    resume: bool = True,
    *,
    batch_size: int = 16,
    maps: str = "uint8",
    device: str | None = None,
    trust: bool = False,
) -> Table:
    """Explain every input of a data set into a folder of Parquet parts; what is there already is left.

    inputs: folders, files, patterns, manifests (.csv, .parquet), tars, data sets of Hugging Face on disk.
    model: a spec, see `cc.models.load`.
    out: a folder, or a URL of fsspec. It holds one run; parts appear whole.
    targets: class indices or labels; None for the labels of a manifest, else the predicted class.
    methods: their names.
    engine: `"local"`.
    shard: how many inputs a part holds.
    resume: go on where `out` holds a part of this run; False refuses it.
    batch_size: how many inputs go through the model at once.
    maps: `"uint8"`, int8 for maps with both signs, or `"float16"`.
    device: where the model runs; None for where it is loaded.
    trust: whether the model's files may run code.

    Raises InputError for what does not fit, and where `out` holds another run.

    Example:
        >>> _ = [cc.media.write_image(f"shots/{k}.png", np.full((96, 96), k, np.uint8)) for k in range(3)]
        >>> table = cc.runs.run("shots", "chronocam:digits", "out", targets=3)
        >>> len(table), table[0].maps.shape[:2]
        (3, (1, 1))
    """
    from chronocam.runs.clip_features import ClipFeatureJob
    from chronocam.runs.clips import ClipJob
    from chronocam.runs.dataset.inputs import find_items
    from chronocam.runs.dataset.table import open
    from chronocam.runs.dataset.work import Worker
    from chronocam.runs.job import MapJob
    from chronocam.runs.options import Options
    from chronocam.runs.plan import plan

    _check(engine, maps, shard, batch_size)
    given = [fspath(one) for one in ([inputs] if isinstance(inputs, (str, PathLike)) else inputs)]
    wanted = [] if targets is None else [targets] if isinstance(targets, (str, int)) else targets
    names = tuple(str(one) for one in wanted)
    options = Options(out=Path(), targets=names, methods=tuple(methods), pictures=False)
    job = plan(model, trust, given, options, device)
    if not isinstance(job, MapJob) or isinstance(job, ClipFeatureJob):
        raise InputError(
            f"`{model}` with these inputs makes no maps of pictures or clips; `cc.explain` does others"
        )
    items = find_items(given, isinstance(job, ClipJob))
    settings = Settings(model=model, targets=names, methods=tuple(methods), maps=maps, shard=shard)
    frozen = freeze(Place(fspath(out)), items, settings, resume)
    with ExitStack() as scope:
        worker = Worker(frozen, job, batch_size, scope)
        while pending := frozen.pending():
            if not _explain(frozen, worker, pending):
                time.sleep(_PAUSE)  # other runs hold all that is left
    return open(out)


def _explain(frozen: Plan, worker: Worker, pending: Sequence[int]) -> int:
    """Write the parts that no other run is at, and return how many."""
    written = 0
    for number in track(pending, "Explaining"):
        with frozen.place.claim(part_name(number)) as free:
            # Another run may have written it since.
            if free and part_name(number) not in frozen.place.names():
                worker.run(number)
                written += 1
    return written


def _check(engine: str, maps: str, shard: int, batch_size: int) -> None:
    if engine != "local":
        raise InputError(f"no engine `{engine}`; expected local")
    if maps not in ("uint8", "float16"):
        raise InputError(f"maps cannot be kept as `{maps}`; expected uint8 or float16")
    check_whole("shard", shard, "a number of inputs")
    check_whole("batch_size", batch_size, "a number of inputs")
