"""The command line: one file per command, each found by being here."""

from __future__ import annotations

import sys
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import click

from chronocam import __version__
from chronocam.errors import ChronocamError


class _OneLine(click.Group):
    """Turns errors made on purpose into one line on stderr and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ChronocamError as error:
            click.echo(f"chronocam: {error}", err=True)
            sys.exit(1)


@click.group(cls=_OneLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Show what a vision model looked at: where and when."""


for _module in iter_modules(__path__):
    _command = getattr(import_module(f"{__name__}.{_module.name}"), "command", None)
    if _command is not None:
        main.add_command(_command)
