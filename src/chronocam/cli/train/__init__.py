"""`chronocam train`: one file per kind of network, each found by being here."""

from __future__ import annotations

import click

from chronocam.cli._commands import Commands


@click.group("train", cls=Commands, package=__name__)
def command() -> None:
    """Train networks on data of your own."""
