"""`chronocam explain`: pictures, videos, signals or sequences, a sheet and JSON for each input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from chronocam.cli._options import INTRINSICS, JSON, MODEL, OUT, TRUST
from chronocam.methods import METHODS
from chronocam.sequence import METHODS as SEQUENCE_METHODS


@click.command("explain")
@click.argument("inputs", nargs=-1, required=True)
@MODEL
@click.option(
    "--target",
    "targets",
    multiple=True,
    help="Class index or label.  [default: the predicted class]  For clips, where the model has an output "
    "at every step, a class is its mean over the steps, and the default `vote` is the class that most "
    "steps vote for. For drives see above.",
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=click.Choice(sorted({*METHODS, *SEQUENCE_METHODS})),
    metavar="METHOD",
    show_default="gradcam; lrp for features, hirescam for depth",
    help=f"One of {', '.join(sorted(METHODS))}; for features one of {', '.join(sorted(SEQUENCE_METHODS))}.",
)
@click.option(
    "--layer",
    "layers",
    multiple=True,
    help="Dotted path.  [default: the last layer with a grid]  For drives such as pose.conv4, depth.iconv4.",
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
    help="Frames to sample per clip (default: what the model expects). For drives: consecutive frames "
    "(default 16).",
)
@click.option(
    "--start",
    type=click.FloatRange(min=0),
    help="Seconds into the video from which frames are taken; for a folder of frames without a rate, the "
    "number of the first frame, from 0.",
)
@click.option(
    "--end", type=click.FloatRange(min=0), help="Seconds into the video up to which frames are taken."
)
@click.option(
    "--pool",
    type=click.Choice(["clip", "frame"]),
    help="Average gradients over the whole clip or over each frame.  [default: what suits the model]",
)
@click.option(
    "--step",
    "steps",
    multiple=True,
    type=int,
    help="Output step to explain, for a model with an output at every step; negative ones count from the "
    "end.  [default: all of them, each by itself for features, in one map for clips]",
)
@click.option("--epsilon", type=click.FloatRange(min=0), help="Stabiliser of lrp.  [default: 0.001]")
@click.option(
    "--baseline",
    type=click.Choice(["zero", "mean"]),
    help="Where integratedgradients of features begin: at zero (the default), or at each feature's mean "
    "over time.",
)
@click.option(
    "--intrinsics",
    type=INTRINSICS,
    help="Camera of a drive: fx,fy,cx,cy in pixels of the frames as stored, where the centre of the first "
    "pixel is 0,0. Needed for losses only.  [default: what the files say]",
)
@OUT
@click.option(
    "--html", "as_page", is_flag=True, help="Also write an interactive page for each result, and an index."
)
@JSON
@TRUST
def command(
    inputs: Sequence[str], spec: str, out: Path, as_page: bool, as_json: bool, trust: bool, **options: Any
) -> None:
    """Explain pictures, clips, features or drives: INPUTs are files, folders or glob patterns.

    The model decides how inputs are read: for a model of clips, a folder holds videos, or the frames of one.
    A model of pictures sees a video frame by frame, and the mean of its logits is explained. For each input
    OUT gets an overlay per map (a video for clips), a contact sheet, the maps as .npz and the numbers as
    JSON. Inputs that fail are reported; the rest are processed.

    Features, arrays (time, feature) in .npy files or a folder of them, are for a model that takes those: OUT
    gets their relevance as .npz, a sheet of plots and the numbers as JSON. The default target is the class
    predicted at each output step. The methods for features also explain clips through a CNN and an LSTM:
    relevance is carried to the frames, and OUT gets both.

    Signals, such as an ECG, are .npy files too, (channel, time) or (time, channel) as the model takes them:
    where its first layer is a convolution over time, they get maps behind their curves.

    Drives (videos, folders of frames or sequences laid out like KITTI's) are for networks for depth and
    motion, such as chronocam:odometry. Targets for the motion from each frame to the next are tx, ty, tz, rx,
    ry, rz, translation (its length) and rotation (its angle); loss and photometric are the negative loss,
    high where the network is right. Targets for the depth of each frame are depth (its mean), depth@x,y at a
    pixel and depth@x0,y0,x1,y1 in a box of the frames as stored, depth-loss, depth-photometric and
    depth-smoothness. `-tz` explains what lowers tz. `tz of source 1` names one of several source frames; the
    default is the next frame. The default targets are tz, ry and loss, or those that a network alone has. OUT
    gets an overlay video per map, a video of the depth, the maps as .npz, a sheet with the path, and the
    numbers as JSON.
    """
    from chronocam.runs.explain import explain_all
    from chronocam.runs.options import Options

    explain_all(inputs, spec, Options(out=out, **options), trust=trust, pages=as_page, as_json=as_json)
