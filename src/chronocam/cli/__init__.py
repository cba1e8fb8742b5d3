"""The command line: one file per command, each found by being here."""

from __future__ import annotations

import sys
from typing import Any

import click

from chronocam import __version__
from chronocam.cli._commands import Commands
from chronocam.errors import ChronocamError


class _OneLine(Commands):
    """Turns errors made on purpose into one line on stderr and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ChronocamError as error:
            click.echo(f"chronocam: {error}", err=True)
            sys.exit(1)


@click.group(cls=_OneLine, package=__name__, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Show what a vision model looked at: where and when."""
