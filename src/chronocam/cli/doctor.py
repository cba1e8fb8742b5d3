"""`chronocam doctor MODEL [INPUT]`: what a model is, how it is read, and what is missing."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import click

from chronocam.cli._commands import Command
from chronocam.cli._options import JSON, SPEC, TRUST, wants


@click.command(
    "doctor",
    cls=Command,
    examples="""
        chronocam doctor torchvision:resnet50
        chronocam doctor net.h5 photo.jpg --range=-1..1 --labels labels.txt
    """,
)
@click.argument("spec", type=SPEC)
@click.argument("medium", metavar="[INPUT]", required=False)
@JSON
@TRUST
@wants()
def command(spec: str, medium: str | None, as_json: bool, trust: bool, wants: Mapping[str, str]) -> None:
    """Examine the model SPEC: what it is, what it takes and returns, its layers, and what is missing.

    Each step is tried, with INPUT if one is named, and a line says what was found. One with `!` is a fault,
    and the exit status is then 1. Send these lines when you report a fault.
    """
    from chronocam.runs.checkup import doctor
    from chronocam.runs.terminal import put, put_json

    checks = doctor(spec, medium, trust=trust, wants=wants)
    if as_json:
        put_json([check.to_json() for check in checks])
    else:
        width = max(len(check.what) for check in checks)
        put(*(f"{'!' if check.fault else ' '} {check.what:{width}}  {check.text}" for check in checks))
    if any(check.fault for check in checks):
        sys.exit(1)
