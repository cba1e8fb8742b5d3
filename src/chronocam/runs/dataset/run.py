"""`cc.runs.run`: a whole data set explained into one folder of Parquet parts, and resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from os import PathLike, fspath
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from chronocam.errors import (
    ChronocamError,
    InputError,
    MediaError,
    TargetError,
    check_whole,
    suggest,
)

if TYPE_CHECKING:
    from chronocam.models import Loaded
    from chronocam.runs.dataset.inputs.base import Item
    from chronocam.runs.dataset.plan import Settings
    from chronocam.runs.dataset.table import Table
    from chronocam.runs.job import MapJob


def run(
    inputs: str | PathLike[str] | Sequence[str | PathLike[str]],
    model: str,
    out: str | PathLike[str],
    targets: Sequence[str | int] | str | int | None = None,
    methods: Sequence[str] | str | None = None,
    engine: str = "local",
    shard: int = 1024,
    resume: bool = True,
    *,
    layers: Sequence[str] | str | None = None,
    align: str = "half_pixel",
    frames: int | None = None,
    wants: Mapping[str, str] | None = None,
    fast: bool = False,
    precision: str | None = None,
    maps: str = "uint8",
    batch_size: int = 16,
    workers: int | None = None,
    address: str | None = None,
    device: str | None = None,
    trust: bool = False,
) -> Table:
    """Explain every input of a data set into a folder of Parquet parts; what is there already is left.

    inputs: folders, files, patterns, manifests (.csv, .parquet), tars, data sets of Hugging Face on disk, and
        URLs of fsspec.
    model: a spec, see `cc.models.load`.
    out: a folder, or a URL of fsspec. It holds one run; parts appear whole.
    targets: class indices or labels; None for the labels of the inputs, else the predicted class, and
        `"predicted"` for that whatever the labels.
    methods: their names; None for gradcam, or what suits boxes, regions and models that show scores alone.
    engine: `"local"`, or `"ray"` for a cluster.
    shard: how many inputs a part holds.
    wants: what is said of the model's inputs and labels, in the words of the command line, as in
        `{"size": "66x200", "range": "-1..1", "labels": "labels.txt"}`.
    resume: go on where `out` holds a part of this run; False refuses it.
    layers: paths of layers, each explained by itself; None for the model's default.
    align: where the cells of a map lie in the picture: `"half_pixel"` or `"receptive_field"`.
    frames: to take of a clip; None for what the model expects.
    fast, precision: as of every method.
    maps: `"uint8"`, int8 for maps with both signs, or `"float16"`.
    batch_size: how many inputs go through the model at once.
    workers: processes of this machine, or actors of the cluster; None for this process, or one for each core
        of the cluster (of its devices, where `device` is `"cuda"`).
    address: of a running cluster; None for the one that Ray finds, or else one of this machine.
    device: where the model runs; None for where it is loaded, `"cuda"` for all devices in turn.
    trust: whether the model's files may run code.

    Raises InputError for what does not fit, and where `out` holds another run; TargetError and LayerError
    before anything is written.

    Example:
        >>> _ = [cc.media.write_image(f"shots/{k}.png", np.full((96, 96), k, np.uint8)) for k in range(3)]
        >>> table = cc.runs.run("shots", "chronocam:digits", "out", targets=3)
        >>> len(table), table[0].maps.shape[:2]
        (3, (1, 1))
    """
    from chronocam.runs.dataset.engines import ENGINES
    from chronocam.runs.dataset.inputs.base import need
    from chronocam.runs.dataset.place import Place
    from chronocam.runs.dataset.plan import Settings, freeze
    from chronocam.runs.dataset.table import Table
    from chronocam.runs.dataset.weights import weights_digest
    from chronocam.runs.dataset.work import Means
    from chronocam.runs.device import load_on
    from chronocam.runs.plan import map_job, with_method

    if engine not in ENGINES:
        raise InputError(
            f"no engine `{engine}`{suggest(engine, [*ENGINES])}; expected {' or '.join(ENGINES)}"
        )
    _check(maps, shard, batch_size, workers, engine, address)
    need("pyarrow")  # which writes the parts; asked for before a model is loaded
    settings = Settings(
        model=model,
        targets=tuple(map(str, _listed(targets))),
        methods=tuple(dict.fromkeys(_listed(methods))),
        layers=tuple(_listed(layers)),
        align=align,
        frames=frames,
        wants=dict(wants or {}),
        fast=fast,
        precision=precision,
        maps=maps,
        shard=shard,
    )
    loaded = load_on(device, model, trust, settings.wants)
    options = with_method(loaded, settings.options())
    settings = replace(settings, methods=tuple(options.methods or ["gradcam"]))
    settings, items = _found([fspath(one) for one in _listed(inputs)], loaded, settings)
    job = map_job(loaded, settings.clips, settings.options())
    _try(job, [] if settings.targets else items)
    plan = freeze(Place(fspath(out)), items, settings, weights_digest(loaded.model), job.preprocess, resume)
    ENGINES[engine](plan, Means(batch_size, device, trust, workers, address), job)
    return Table(plan)


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, (str, int, PurePath)) or hasattr(value, "__fspath__") else list(value)


def _check(
    maps: str, shard: int, batch_size: int, workers: int | None, engine: str, address: str | None
) -> None:
    if maps not in ("uint8", "float16"):
        raise InputError(f"maps cannot be kept as `{maps}`; expected uint8 or float16")
    check_whole("shard", shard, "a number of inputs")
    check_whole("batch_size", batch_size, "a number of inputs")
    if workers is not None:
        check_whole("workers", workers, "a number of processes")
    if address is not None and engine != "ray":
        raise InputError(f"address `{address}` is of a cluster; give engine ray too, or drop it")


def _found(arguments: list[str], loaded: Loaded, settings: Settings) -> tuple[Settings, list[Item]]:
    """Return the inputs: clips where the model takes clips, or where there is nothing but videos.

    Raises MediaError for an argument that names nothing.
    """
    from chronocam.media import ClipPreprocess
    from chronocam.runs.dataset.inputs import find_items
    from chronocam.runs.dataset.inputs.base import suffix_of, suffixes

    if not arguments:
        raise InputError("no inputs; expected folders, files or patterns")
    if isinstance(loaded.preprocess, ClipPreprocess):
        return replace(settings, clips=True), find_items(arguments, clips=True)
    videos = suffixes(clips=True)
    try:
        items = find_items(arguments, clips=False)
        return replace(settings, clips=all(suffix_of(item.key) in videos - {".gif"} for item in items)), items
    except MediaError:
        with suppress(MediaError):
            items = find_items(arguments, clips=True)
            if all(suffix_of(item.key) in videos for item in items):
                return replace(settings, clips=True), items
        raise


def _try(job: MapJob, items: Sequence[Item]) -> None:
    """Explain noise, so that what does not fit the model is refused once, and not by every input.

    items: those whose labels are explained.

    Raises TargetError too where the labels name no class at all.
    """
    from chronocam.runs.dataset.work import label_index
    from chronocam.runs.layers import noise_for

    if items and all(item.label for item in items):
        indices = [label_index(job, label) for label in dict.fromkeys(item.label for item in items)]
        errors = [one for one in indices if isinstance(one, TargetError)]
        if len(errors) == len(indices):
            raise errors[0]
    try:
        job.explain(noise_for(replace(job.loaded, preprocess=job.preprocess)))
    except ChronocamError as error:
        # Noise may be what the model itself cannot take, and that says nothing of the inputs.
        if error.__cause__ is None:
            raise
