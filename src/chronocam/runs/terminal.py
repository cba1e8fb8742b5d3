"""What a command says and prints: names come from files and models, and are made printable here."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING, Final, TypeVar

import click

from chronocam.errors import ChronocamError, printable

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

SILENT: Final = "chronocam.quiet"
"""Stands in the `meta` of click's context where nothing but errors is to be said."""

_SAME: Final = (
    *("align", "pool", "frames", "fuse", "views", "until", "budget", "steps", "seed"),
    *("adapter", "boxes", "min_score", "precision", "batch_size"),
)
_FLAGS: Final = {"conv_layer": "--layer", **{name: f"--{name.replace('_', '-')}" for name in _SAME}}
_ARGUMENT: Final = re.compile(rf'\b({"|".join(_FLAGS)})=(?:"(\w+)")?')

_LONGEST: Final = 4000  # letters of a line: one may list the scores of many targets


def line(text: str) -> str:
    """Return text as one line for a terminal."""
    return printable(text, _LONGEST)


@cache
def console() -> Console:
    """Return the console for progress on stderr, and for lines while it is shown."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def with_flags(text: str) -> str:
    """Return a message with the arguments of Python as the options that stand for them here."""
    return _ARGUMENT.sub(lambda m: f"{_FLAGS[m[1]]} {m[2]}" if m[2] else _FLAGS[m[1]], text)


def say(*lines: str) -> None:
    """Say something on stderr, a line each, unless `--quiet`; above a bar of progress where one is shown."""
    if not _silent():
        warn(*lines)


def warn(*lines: str) -> None:
    """Say what failed on stderr, a line each, with `--quiet` too."""
    for text in lines:
        console().print(line(with_flags(text)), soft_wrap=True)


def say_news(scope: ExitStack, of: str) -> None:
    """Say what a part of chronocam logs while `scope` is entered, such as how well a map is known so far."""
    log, handler = logging.getLogger(of), _Said()
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    scope.callback(log.setLevel, before)
    scope.callback(log.removeHandler, handler)


class _Said(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"  {record.getMessage()}")


def track(items: Sequence[T], what: str) -> Iterable[T]:
    """Yield items, with a bar of progress where stderr is a terminal, unless `--quiet`."""
    if _silent() or not console().is_terminal or console().is_dumb_terminal:
        return items
    from rich.progress import track

    return track(items, what, console=console(), transient=True)


def _silent() -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(SILENT))


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
