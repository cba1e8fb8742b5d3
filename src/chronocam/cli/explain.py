"""`chronocam explain`: pictures, videos or sequences of features, a sheet and JSON for each input."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from chronocam.cli._intrinsics import INTRINSICS
from chronocam.errors import ChronocamError
from chronocam.methods import METHODS
from chronocam.runs.drives.job import DriveJob
from chronocam.runs.features import FeatureJob, told
from chronocam.runs.job import Job, slug
from chronocam.runs.options import Asked
from chronocam.runs.pages import tell_pages
from chronocam.runs.plan import planned
from chronocam.sequence import METHODS as SEQUENCE_METHODS


@click.command("explain")
@click.argument("inputs", nargs=-1, required=True)
@click.option("--model", "spec", required=True, help="Model spec, such as torchvision:resnet50.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    help="Class index or label; the predicted class if none is given. Of a clip, where the model has an output at "
    "every step, a class is its mean over the steps, and `vote`, the default, the class that most steps vote for. "
    "Of drives see above.",
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=click.Choice(sorted({*METHODS, *SEQUENCE_METHODS})),
    metavar="METHOD",
    show_default="gradcam; of features lrp, of depth hirescam",
    help=f"One of {', '.join(sorted(METHODS))}; of features one of {', '.join(sorted(SEQUENCE_METHODS))}.",
)
@click.option(
    "--layer",
    "layers",
    multiple=True,
    help="Dotted path; the last layer with a grid if none is given. Of drives pose.conv4, depth.iconv4 and so on.",
)
@click.option(
    "--align",
    type=click.Choice(["half_pixel", "receptive_field"]),
    default="half_pixel",
    show_default=True,
    help="Where the cells of a map lie in the picture.",
)
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    help="Frames taken of a clip; as many as the model wants if none. Of a drive consecutive ones, 16 if none.",
)
@click.option(
    "--start",
    type=click.FloatRange(min=0),
    help="Seconds into the video from which frames are taken; in a folder of frames without a rate, the first "
    "frame's number, from 0.",
)
@click.option(
    "--end", type=click.FloatRange(min=0), help="Seconds into the video up to which frames are taken."
)
@click.option(
    "--pool",
    type=click.Choice(["clip", "frame"]),
    help="Average gradients over all of a clip or over each frame; as suits the model if none is given.",
)
@click.option(
    "--step",
    "steps",
    multiple=True,
    type=int,
    help="Output step that is explained, of a model with an output at every step; negative ones count from the end. "
    "All of them if none is given: each by itself of features, in one map of clips.",
)
@click.option(
    "--epsilon", type=click.FloatRange(min=0), help="The stabiliser of lrp; 0.001 if none is given."
)
@click.option(
    "--baseline",
    type=click.Choice(["zero", "mean"]),
    help="Where integratedgradients of features begin: at zero (the default), or at each feature's mean over time.",
)
@click.option(
    "--intrinsics",
    type=INTRINSICS,
    help="Of drives: fx,fy,cx,cy in pixels of the frames as stored, the first pixel's centre at 0,0; those of the "
    "files if none are given. Only losses need them.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("chronocam-out"),
    show_default=True,
    help="Folder for pictures and JSON.",
)
@click.option(
    "--html", "as_page", is_flag=True, help="Write a page to look into each result with, and an index."
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON to stdout too.")
@click.option("--trust", is_flag=True, help="Let the model's files run code.")
def command(
    inputs: Sequence[str], spec: str, as_page: bool, as_json: bool, trust: bool, **options: Any
) -> None:
    """Explain pictures, clips or features: INPUTs are files, folders or glob patterns.

    What the model takes decides: of clips, a folder holds videos, or the frames of one. A model of pictures
    sees videos frame by frame, and explains the mean of its logits. For each input OUT gets an overlay per
    map (a video of clips), a contact sheet, the maps as .npz and the numbers as JSON. An input that cannot be
    explained is reported, and the others go on.

    Features, arrays (time, feature) in .npy files or a folder of them, are for a model that takes those: OUT
    gets their relevance as .npz, a sheet of plots and the numbers as JSON. The default target is the class
    predicted at each output step. Clips through a CNN and an LSTM are explained so too, by the methods of
    features: their relevance is carried to the frames, and OUT gets both.

    Drives, videos, folders of frames or sequences laid out as KITTI's, are for networks for depth and motion,
    such as chronocam:odometry. Targets of the motion from each frame to the next are tx, ty, tz, rx, ry, rz,
    translation (its length) and rotation (its angle), and of its negative loss, which is high where it is
    right, loss and photometric; of the depth of each frame, depth (its mean), depth@x,y at a pixel and
    depth@x0,y0,x1,y1 in a box of the frames as stored, depth-loss, depth-photometric and depth-smoothness.
    `-tz` explains what lowers tz. Where a network sees several sources, `tz of source 1` names one; the frame
    that follows if none. The default is tz, ry and loss, or what a network alone has of it. OUT gets an
    overlay video per map, a video of the depth, the maps as .npz, a sheet with the path, and the numbers as
    JSON.
    """
    job = planned(spec, trust, inputs, Asked(**options))
    results = list(_explain_all(job, inputs))
    failed = sum("error" in result for result in results)
    if as_page and failed < len(results):
        tell_pages(options["out"])
    if as_json:
        click.echo(json.dumps({"model": spec, "inputs": results}, indent=2))
    if failed:
        raise ChronocamError(f"{failed} of {len(results)} inputs could not be explained; see the lines above")


def _explain_all(job: Job | FeatureJob | DriveJob, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True, highlight=False, markup=False)
    names: set[str] = set()
    for path, fault in track(list(job.found(inputs)), "Explaining", console=console, transient=True):
        result = {"input": str(path), "error": fault} if fault else _explained(job, path, names)
        console.print(_line(result), soft_wrap=True)
        yield result


def _explained(job: Job | FeatureJob | DriveJob, path: Path, names: set[str]) -> dict[str, Any]:
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
