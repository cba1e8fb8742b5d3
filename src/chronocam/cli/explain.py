"""`chronocam explain`: pictures, videos or sequences of features, a sheet and JSON for each input."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from chronocam.cli._clips import ClipJob
from chronocam.cli._features import FeatureJob, found_features, holds_features, told
from chronocam.cli._inputs import found, holds_videos
from chronocam.cli._job import Job, slug
from chronocam.cli._pictures import PictureJob
from chronocam.errors import ChronocamError, InputError, TargetError
from chronocam.methods import METHODS
from chronocam.sequence import METHODS as SEQUENCE_METHODS

FRAMES = 16  # that a model of pictures is shown of a video


@click.command("explain")
@click.argument("inputs", nargs=-1, required=True)
@click.option("--model", "spec", required=True, help="Model spec, such as torchvision:resnet50.")
@click.option("--target", "targets", multiple=True, help="Class index or label; the predicted class if none is given.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=click.Choice(sorted({*METHODS, *SEQUENCE_METHODS})),
    metavar="METHOD",
    show_default="gradcam; of features lrp",
    help=f"One of {', '.join(sorted(METHODS))}; of features one of {', '.join(sorted(SEQUENCE_METHODS))}.",
)
@click.option("--layer", "layers", multiple=True, help="Dotted path; the last layer with a grid if none is given.")
@click.option(
    "--align",
    type=click.Choice(["half_pixel", "receptive_field"]),
    default="half_pixel",
    show_default=True,
    help="Where the cells of a map lie in the picture.",
)
@click.option(
    "--frames", type=click.IntRange(min=1), help="Frames taken of a clip; as many as the model wants if none."
)
@click.option("--start", type=click.FloatRange(min=0), help="Seconds into the video from which frames are taken.")
@click.option("--end", type=click.FloatRange(min=0), help="Seconds into the video up to which frames are taken.")
@click.option(
    "--pool",
    type=click.Choice(["clip", "frame"]),
    help="Average gradients over all of a clip or over each frame; as suits the model if none is given.",
)
@click.option(
    "--step", "steps", multiple=True, type=int, help="Output step, of features; all of them if none is given."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("chronocam-out"),
    show_default=True,
    help="Folder for pictures and JSON.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON to stdout too.")
@click.option("--trust", is_flag=True, help="Let the model's files run code.")
def command(
    inputs: Sequence[str],
    spec: str,
    targets: Sequence[str],
    methods: Sequence[str],
    layers: Sequence[str],
    align: str,
    frames: int | None,
    start: float | None,
    end: float | None,
    pool: str | None,
    steps: Sequence[int],
    out: Path,
    as_json: bool,
    trust: bool,
) -> None:
    """Explain pictures, clips or features: INPUTs are files, folders or glob patterns.

    What the model takes decides: of clips, a folder holds videos, or the frames of one. A model of pictures sees
    videos frame by frame, and explains the mean of its logits. For each input OUT gets an overlay per map (a video
    of clips), a contact sheet and the numbers as JSON. An input that cannot be explained is reported, and the others
    go on.

    Features, arrays (time, feature) in .npy files, are for a model that takes those: OUT gets their relevance as
    .npz, a sheet of plots and the numbers as JSON. The default target is the class predicted at each output step.
    """
    from chronocam.models import load

    of_features = holds_features(inputs)
    chosen = _chosen(methods, of_features)
    if of_features:
        _refuse_of_maps(layers, align, (frames, start, end, pool))
    elif steps:
        raise InputError("--step is for features, arrays (time, feature) in .npy files; drop it, or give those")
    loaded = load(spec, trust=trust)
    if of_features:
        job: Any = FeatureJob(loaded, _targets(loaded, targets), chosen, steps, out)
    else:
        job = _job_of(loaded, inputs, targets, (chosen, layers, align, out), (frames, start, end, pool))
    results = list(_explain_all(job, inputs))
    if as_json:
        click.echo(json.dumps({"model": spec, "inputs": results}, indent=2))
    failed = sum("error" in result for result in results)
    if failed:
        raise ChronocamError(f"{failed} of {len(results)} inputs could not be explained; see the lines above")


def _chosen(methods: Sequence[str], of_features: bool) -> Sequence[str]:
    """Return the methods asked for, or the default. Raises InputError for those of the other kind of input."""
    if not methods:
        return ("lrp",) if of_features else ("gradcam",)
    known = SEQUENCE_METHODS if of_features else METHODS
    for name in methods:
        if name not in known and of_features:
            raise InputError(f"{name} makes maps of pictures and clips; of features choose {', '.join(sorted(known))}")
        if name not in known:
            raise InputError(f"{name} explains features, arrays (time, feature) in .npy files; choose gradcam for maps")
    return methods


def _refuse_of_maps(layers: Sequence[str], align: str, of_clips: Sequence[Any]) -> None:
    """Raise InputError where an option is given that only maps have."""
    if layers or align != "half_pixel":
        raise InputError("features have no layer and no grid; drop --layer and --align")
    if any(option is not None for option in of_clips):
        raise InputError("features are taken whole; --frames, --start, --end and --pool are for clips")


def _job_of(
    loaded: Any, inputs: Sequence[str], targets: Sequence[str], how: tuple[Any, ...], of_clips: tuple[Any, ...]
) -> Job:
    """Return how pictures or clips are explained.

    how: methods, layers, align and out. of_clips: frames, start, end and pool.
    """
    from chronocam.media import ClipPreprocess

    (methods, layers, align, out), (frames, start, end, pool) = how, of_clips
    if not isinstance(loaded.preprocess, ClipPreprocess) and holds_videos(inputs):
        loaded = _frame_by_frame(loaded)
    common = _targets(loaded, targets), _makers(methods, pool), _layers(loaded, layers), align, out
    if isinstance(loaded.preprocess, ClipPreprocess):
        wanted = loaded.preprocess.frames
        preprocess = replace(loaded.preprocess, frames=frames or wanted)
        return ClipJob(replace(loaded, preprocess=preprocess), *common, start, end, wanted)
    if any(option is not None for option in of_clips):
        raise InputError(f"`{loaded.spec}` takes pictures; --frames, --start, --end and --pool are for clips")
    return PictureJob(loaded, *common)


def _frame_by_frame(loaded: Any) -> Any:
    """Return a model of pictures as one of clips of 16 frames."""
    from chronocam.media import ClipPreprocess
    from chronocam.models import PerFrame

    return replace(
        loaded,
        model=PerFrame(loaded.model).eval(),
        preprocess=ClipPreprocess(loaded.preprocess, FRAMES, "time channel"),
    )


def _makers(names: Sequence[str], pool: str | None) -> list[Any]:
    """Return what makes the methods, each once; those that average over a clip are told how."""
    chosen = list(dict.fromkeys(names))
    pooling = [name for name in chosen if "pool" in inspect.signature(METHODS[name]).parameters]
    if pool is None:
        return chosen
    if not pooling:
        raise InputError(f"--pool {pool}: {', '.join(chosen)} averages over no frames; choose gradcam, or drop --pool")
    options: dict[str, Any] = {"pool": pool}
    return [partial(METHODS[name], **options) if name in pooling else name for name in chosen]


def _targets(loaded: Any, given: Sequence[str]) -> Any:
    """Return the targets, looked up once: an unknown label is an error of the call, not of every input."""
    from chronocam.targets import Class
    from chronocam.targets.labels import find_label

    def index(text: str) -> int:
        if re.fullmatch(r"-?\d+", text):
            return int(text)
        if loaded.labels is None:
            raise TargetError(f"the model has no labels to find `{text}` in; give the class index")
        return find_label(loaded.labels, text)

    return [Class(index(text)) for text in given] or None


def _layers(loaded: Any, given: Sequence[str]) -> list[str] | None:
    from chronocam.engines import engine_for
    from chronocam.models import PerFrame

    if isinstance(loaded.model, PerFrame):  # its layers go by the names that they have in the model of pictures
        return [f"model.{path}" for path in map(engine_for(loaded.model.model).resolve, given)] or None
    return [engine_for(loaded.model).resolve(layer) for layer in given] or None


def _explain_all(job: Job | FeatureJob, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True, highlight=False, markup=False)
    names: set[str] = set()
    of_features = isinstance(job, FeatureJob)
    paths = list(found_features(inputs) if of_features else found(inputs, clips=isinstance(job, ClipJob)))
    for path, fault in track(paths, "Explaining", console=console, transient=True):
        result = {"input": str(path), "error": fault} if fault else _explained(job, path, names)
        console.print(_line(result), soft_wrap=True)
        yield result


def _explained(job: Job | FeatureJob, path: Path, names: set[str]) -> dict[str, Any]:
    try:
        return job.run(path, _unique(path.resolve().stem, names))
    except ChronocamError as error:
        return {"input": str(path), "error": str(error)}


def _line(result: dict[str, Any]) -> str:
    if "error" in result:
        return f"error: {result['error']}"
    findings = "".join(f"\n  {finding}" for finding in result["diagnostics"])
    if "sequences" in result:
        return f"{told(result)}{findings}"
    scores = ", ".join(dict.fromkeys(f"{m['target']} {m['score']:.3g}" for m in result["maps"]))
    return f"{result['input']}: {scores} → {result['sheet']}{findings}"


def _unique(stem: str, taken: set[str]) -> str:
    """Return a file name made of `stem` that is safe and not in `taken` yet."""
    name = base = slug(stem)
    number = 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return name
