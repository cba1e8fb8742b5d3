"""`chronocam explain`: pictures, videos, signals or sequences, a sheet and JSON for each input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from chronocam.cli._commands import Command
from chronocam.cli._options import (
    ALIGN,
    DEVICE,
    FAST,
    INTRINSICS,
    JSON,
    METHOD,
    MODEL,
    OPEN,
    OUT,
    PRECISION,
    QUIET,
    TRUST,
    wants,
)


@click.command(
    "explain",
    cls=Command,
    examples="""
        chronocam explain photo.jpg --model torchvision:resnet50 --open
        chronocam explain photos/ --model chronocam:efficientnet-lite0 --target tabby --json
        chronocam explain clip.mp4 --model torchvision:r3d_18 --target "arranging flowers"
        chronocam explain clip.mp4 --model torchvision:resnet50 --frames 24 --start 2 --end 8
        chronocam explain photo.jpg --model torchvision:ssdlite320_mobilenet_v3_large --target box:dog
        chronocam explain photo.jpg --model hf:FOLDER --prompt "What is this?" --target word:dog
        chronocam explain features.npy --model python:my.nets:tagger --method lrp
        chronocam explain drive.mp4 --model chronocam:odometry --target tz --target depth
    """,
    details="""
    The model decides how inputs are read: for a model of clips, a folder holds videos, or the frames of one.
    A model of pictures sees a video frame by frame, and the mean of its logits is explained.

    Features, arrays (time, feature) in .npy or .csv files or a folder of them, are for a model that takes
    those: OUT gets their relevance as .npz, a sheet of plots and the numbers as JSON. The default target is
    the class predicted at each output step. The methods for features also explain clips through a CNN and an
    LSTM: relevance is carried to the frames, and OUT gets both.

    What a model wants is read from its file, or from a `chronocam.json` beside it, or said by --size, --mean,
    --std, --scale, --range, --channels, --axes and --labels; what is assumed is said with every result.

    Signals, such as an ECG, are such files too, (channel, time) or (time, channel) as the model takes them; a
    .csv has a row for each step. Where the model's first layer is a convolution over time, they get maps
    behind their curves.

    CLIP, SigLIP and other models of two towers explain captions, `--target "text:a red bus"`. Their labels
    (--labels) are texts, which make them classifiers. Of the text that a captioner says of a picture,
    `token:0` is the first token, `word:dog` a word, `phrase:on a sofa` a few. Models that are asked
    get --prompt; where it has no token for the picture, it gets the model's own form of a chat.

    Where a model has an output at every step of a clip, a class is its mean over the steps, and the default
    target `vote` is the class that most steps vote for.

    A detector's boxes are targets: `box:0` is the best, `box:dog` are those of a class, `box:x0,y0,x1,y1`
    is the one nearest to a box in pixels, `box:all` all of a score of 0.3 (--min-score) or more, which is the
    default. Each map has its box, and the share of the map that lies in it. `chronocam detect` lists the
    boxes alone.

    Drives (videos, folders of frames or sequences laid out like KITTI's) are for networks for depth and
    motion, such as chronocam:odometry. Targets for the motion from each frame to the next are tx, ty, tz, rx,
    ry, rz, translation (its length) and rotation (its angle); loss and photometric are the negative loss,
    high where the network is right. Targets for the depth of each frame are depth (its mean), depth@x,y at a
    pixel and depth@x0,y0,x1,y1 in a box of the frames as stored, depth-loss, depth-photometric and
    depth-smoothness. `-tz` explains what lowers tz. `tz of source 1` names one of several source frames; the
    default is the next frame. The default targets are tz, ry and loss, or those that a network alone has. OUT
    gets an overlay video per map, a video of the depth, the maps as .npz, a sheet with the path, and the
    numbers as JSON.
    """,
)
@click.argument("inputs", nargs=-1, required=True)
@MODEL
@click.option(
    "--target",
    "targets",
    multiple=True,
    help="Class index or label; `text:a caption`; `token:0`, `word:dog`, `phrase:on a sofa` of what a model "
    "says; `box:0`, `box:dog` of a detector; `region:person` of a segmentation.  [default: the predicted "
    "class, or every box]",
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=METHOD,
    help="`chronocam methods` lists them.  [default: gradcam; odam for boxes, lrp for features, hirescam for "
    "depth and regions]",
)
@click.option(
    "--layer",
    "layers",
    multiple=True,
    help="Dotted path; `chronocam layers SPEC` lists them.  [default: the last layer with a grid]",
)
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    help="Frames to take of a clip.  [default: what the model expects; 16 in a row of a drive]",
)
@click.option(
    "--start",
    type=click.FloatRange(min=0),
    help="Seconds into the video, or the number of a frame in a folder, where frames begin.",
)
@click.option("--end", type=click.FloatRange(min=0), help="Seconds into the video where frames end.")
@ALIGN
@click.option(
    "--pool",
    type=click.Choice(["clip", "frame"]),
    hidden=True,
    help="Average gradients over the whole clip or over each frame.  [default: what suits the model]",
)
@click.option(
    "--fuse",
    type=click.Choice(["max", "product", "mean"]),
    hidden=True,
    help="Make one map of all layers named: the largest of their values, their product or their mean.",
)
@click.option(
    "--views",
    hidden=True,
    help="Average over views of each picture or clip: flip, scale, crop, or several joined by +.",
)
@click.option(
    "--until",
    type=click.FloatRange(min=0, min_open=True, max=1),
    help="With masks such as rise: stop where the 95 % interval of every cell is at most this share of the "
    "map's range wide to either side.  [default: 0.1]",
)
@click.option(
    "--budget", type=click.IntRange(min=6), help="With masks: forward passes at most.  [default: 2000]"
)
@click.option(
    "--steps",
    "passes",
    type=click.IntRange(min=1),
    hidden=True,
    help="How many steps a method takes, such as integratedgradients.  [default: the method's own]",
)
@click.option("--seed", type=click.IntRange(min=0), hidden=True, help="Of what a method draws.  [default: 0]")
@click.option(
    "--step",
    "steps",
    multiple=True,
    type=int,
    hidden=True,
    help="Output step to explain, for a model with an output at every step; negative ones count from the "
    "end.  [default: all of them, each by itself for features, in one map for clips]",
)
@click.option(
    "--epsilon", type=click.FloatRange(min=0), hidden=True, help="Stabiliser of lrp.  [default: 0.001]"
)
@click.option(
    "--baseline",
    type=click.Choice(["zero", "mean"]),
    hidden=True,
    help="Where integratedgradients of features begin: at zero (the default), or at each feature's mean "
    "over time.",
)
@click.option(
    "--intrinsics",
    type=INTRINSICS,
    hidden=True,
    help="Camera of a drive: fx,fy,cx,cy in pixels of the frames as stored, where the centre of the first "
    "pixel is 0,0. Needed for losses only.  [default: what the files say]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    hidden=True,
    help="How many pictures go through the model at once.  [default: 1]",
)
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    hidden=True,
    help="The least probability of a detector's boxes.  [default: 0.3]",
)
@click.option(
    "--prompt",
    help="What a vision-language model is asked about each picture, such as LLaVA or Qwen2-VL.",
)
@FAST
@PRECISION
@OUT
@click.option(
    "--pictures/--no-pictures",
    default=None,
    help="Draw overlays and sheets.  [default: for up to 16 inputs]",
)
@click.option(
    "--html", "as_page", is_flag=True, help="Write an interactive page for each result, and an index."
)
@OPEN
@JSON
@DEVICE
@TRUST
@QUIET
@wants("frames")
def command(
    inputs: Sequence[str],
    spec: str,
    out: Path,
    as_page: bool,
    opened: bool,
    as_json: bool,
    device: str | None,
    trust: bool,
    wants: Mapping[str, str],
    **options: Any,
) -> None:
    """Explain pictures, clips, features or drives: show what a model looked at.

    For each input OUT gets the maps as .npz, the numbers as JSON, and pictures: an overlay for each map (a
    video for clips) and a sheet with all of them. Inputs that fail are reported; the rest are explained.
    """
    from chronocam.runs.explain import explain_all
    from chronocam.runs.options import Options

    explain_all(
        inputs,
        spec,
        Options(out=out, **options),
        device=device,
        trust=trust,
        wants=wants,
        pages=as_page or opened,
        opened=opened,
        as_json=as_json,
    )
