"""What a command says and prints: names come from files and models, and are made printable here."""

from __future__ import annotations

import errno
import json
import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Final

import click

from chronocam.errors import ChronocamError, printable

if TYPE_CHECKING:
    from rich.console import Console

_LONGEST: Final = 4000  # letters of a line: one may list the scores of many targets


def line(text: str) -> str:
    """Return text as one line for a terminal."""
    return printable(text, _LONGEST)


@cache
def console() -> Console:
    """Return the console for progress on stderr, and for lines while it is shown."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def say(*lines: str) -> None:
    """Say something on stderr, a line each; below a bar of progress where one is shown."""
    for text in lines:
        console().print(line(text), soft_wrap=True)


def put(*lines: str) -> None:
    """Print results to stdout, a line each.

    Raises ChronocamError where they cannot be written; who reads them may stop at any time.
    """
    _write("".join(f"{line(text)}\n" for text in lines))


def put_json(data: object) -> None:
    """Print results to stdout as JSON, whose letters are all plain."""
    _write(json.dumps(data, indent=2) + "\n")


def _write(text: str) -> None:
    if sys.stdout is None or sys.stdout.closed:
        raise ChronocamError("cannot write to stdout, which is closed; open it or leave --json out")
    try:
        click.echo(text, nl=False)
    except OSError as error:
        # What is left in the buffer must not fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:
            sys.exit(1)
        raise ChronocamError(f"cannot write to stdout: {error.strerror}; write to another place") from error
