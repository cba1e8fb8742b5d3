"""`chronocam train`: one file per kind of network, each found by being here."""

from __future__ import annotations

import click

from chronocam.cli._commands import Commands


@click.group(
    "train",
    cls=Commands,
    package=__name__,
    examples="""
        chronocam train images --data DIR --model vgg16 --out NET
        chronocam train video --data DIR --arch cnn-lstm-attention --out NET
        chronocam train odometry --data DIR --out NET
    """,
)
def command() -> None:
    """Train networks on data of your own."""
