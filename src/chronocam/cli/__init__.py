"""The command line: one file per command, each found by being here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from chronocam import __version__
from chronocam.cli._commands import Commands
from chronocam.errors import ChronocamError, printable
from chronocam.runs.terminal import with_flags

_INTERRUPTED: Final = 130  # as shells have it: 128 + SIGINT


class _OneLine(Commands):
    """Turns errors made on purpose into one line on stderr and exit status 1."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _printable_usage():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _printable_usage():
                return super().invoke(ctx)
        except ChronocamError as error:
            click.echo(f"chronocam: {with_flags(str(error))}", err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("chronocam: interrupted", err=True)
            sys.exit(_INTERRUPTED)


@contextmanager
def _printable_usage() -> Iterator[None]:
    # Click spells out what was typed, whatever that does to a terminal, and declares its message final.
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:  # its message is the help itself, of many lines
        raise
    except click.ClickException as error:
        vars(error)["message"] = printable(error.message)
        raise


@click.group(
    cls=_OneLine,
    package=__name__,
    examples="""
        chronocam demo --open
        chronocam explain photo.jpg --model torchvision:resnet50 --open
        chronocam explain clip.mp4 --model torchvision:r3d_18 --target "arranging flowers"
        chronocam models convnext
        chronocam COMMAND --help
    """,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__)
def main() -> None:
    """Show what a vision model looked at: where and when."""
