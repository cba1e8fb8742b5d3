"""`chronocam run`: a whole data set into one folder of Parquet parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from chronocam.cli._commands import Command
from chronocam.cli._options import ALIGN, DEVICE, FAST, METHOD, MODEL, PRECISION, QUIET, TRUST, wants
from chronocam.errors import ChronocamError


@click.command(
    "run",
    cls=Command,
    examples="""
        chronocam run photos --model torchvision:resnet50 --out maps
        chronocam run list.csv --model torchvision:resnet50 --out maps --method layercam
        chronocam run s3://photos --model torchvision:resnet50 --out s3://maps --engine ray
        chronocam report maps --where "confidence < 0.3"
    """,
)
@click.argument("inputs", nargs=-1, required=True)
@MODEL
@click.option("--out", required=True, help="Folder or URL of the parts; it holds one run.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    help="Class index or label, or `predicted`.  [default: labels of the inputs, else predicted]",
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=METHOD,
    help="`chronocam methods` lists them.  [default: gradcam, where it suits]",
)
@click.option(
    "--layer", "layers", multiple=True, help="Dotted path, as in `explain`.  [default: the last with a grid]"
)
@click.option("--frames", type=click.IntRange(min=1), help="Frames of a clip.  [default: as the model]")
@ALIGN
@FAST
@PRECISION
@click.option(
    "--maps",
    type=click.Choice(["uint8", "float16"]),
    default="uint8",
    show_default=True,
    hidden=True,
    help="How maps are kept.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes of this machine, or of the cluster; with --device cuda they take its devices in turn.",
)
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--address", help="Of a running cluster of Ray.  [default: what Ray finds, or this machine]")
@click.option(
    "--shard", type=click.IntRange(min=1), default=1024, show_default=True, help="Inputs of a part."
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Inputs at once."
)
@DEVICE
@TRUST
@QUIET
@wants("frames")
def command(inputs: Sequence[str], spec: str, targets: Sequence[str], **options: Any) -> None:
    """Explain a data set: a row for each input, target and method, in Parquet files.

    INPUT is a folder, a pattern, a manifest (.csv, .parquet), a .tar or a data set of Hugging Face on disk.
    The same command goes on where an earlier one ended. `cc.runs.open(OUT)` reads the rows, and `chronocam
    report OUT --where CONDITION` shows some of them.
    """
    from chronocam.runs.dataset.run import run
    from chronocam.runs.terminal import say

    table = run(inputs, spec, targets=list(targets) or None, **options)
    say(f"{len(table)} {'row' if len(table) == 1 else 'rows'}: {options['out']}")
    if table.failures:
        refused = "1 input" if table.failures == 1 else f"{table.failures} inputs"
        raise ChronocamError(f"{refused} could not be explained; the column `error` says why")
