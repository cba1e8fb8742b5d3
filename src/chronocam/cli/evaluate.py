"""`chronocam evaluate`: whether maps can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from chronocam.cli._commands import Command
from chronocam.cli._options import DEVICE, JSON, MODEL, QUIET, TRUST

_FILE = click.Path(path_type=Path)


@click.command(
    "evaluate",
    cls=Command,
    examples="""
        chronocam evaluate photos --model torchvision:resnet50 --out judged
        chronocam evaluate photos --model torchvision:resnet50 --masks masks --measure energy
        chronocam evaluate photos --model torchvision:resnet50 --boxes coco.json --method layercam
    """,
    details="""
        A mask is a picture named like its photo, the object brighter than 0. Boxes are COCO's annotations;
        where a category is a label of the model, that class is explained, else the predicted one. Points are
        a table file,x,y or file,x,y,label, or the same as a list of JSON.

        Besides the methods, a random map, a blob in the middle, the edges of the input and the map of random
        weights are judged. A method that is not above them tells nothing about the model.

        Methods of other libraries that are installed are judged too: captum:LayerGradCam, torchcam:LayerCAM,
        grad-cam:ScoreCAM.
    """,
)
@click.argument("inputs", nargs=-1, required=True)
@MODEL
@click.option("--masks", type=_FILE, help="Folder of masks, named like the files.")
@click.option("--boxes", type=_FILE, help="Boxes of the objects: a JSON file of COCO's form.")
@click.option("--points", type=_FILE, help="Points on the objects: a table file,x,y[,label], or JSON.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    default=["gradcam", "layercam"],
    show_default=True,
    help="The first is what others are compared with.",
)
@click.option(
    "--measure",
    "measures",
    multiple=True,
    help="Such as road or drop.  [default: deletion, insertion; pointing and energy where objects are known]",
)
@click.option("--layer", "layers", multiple=True, help="Judge these layers one by one.")
@click.option("--target", "targets", multiple=True, help="Class index or label.  [default: each file's own]")
@click.option(
    "--tolerance", type=click.FloatRange(min=0), default=0, show_default=True, help="Pointing game: pixels."
)
@click.option("--budget", type=click.IntRange(min=1), help="Stop after so many forward passes of one input.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("chronocam-evaluation"),
    show_default=True,
    help="Folder of the page and all numbers; the same command goes on there.",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Inputs at once."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of what is drawn.")
@JSON
@DEVICE
@TRUST
@QUIET
def command(inputs: Sequence[str], spec: str, **options: Any) -> None:
    """Judge methods on photos or clips: which one is better, and whether it is above chance.

    Writes a page, a table and the numbers of every file.
    """
    from chronocam.errors import ChronocamError
    from chronocam.runs.evaluate import evaluate_files

    result = evaluate_files(inputs, spec, **options)
    if failed := len({name for name, _ in result.failures}):
        files = "1 file" if failed == 1 else f"{failed} files"
        raise ChronocamError(f"{files} could not be judged, or not by all methods; the others were")
