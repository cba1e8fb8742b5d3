"""`make fuzz`: tries every door for a while, and prints how many inputs were tried, refused and at fault."""

from __future__ import annotations

import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, Final

import click
from fuzz.entries import ENTRIES, Entry
from hypothesis import HealthCheck, Phase, given, seed, settings

_MEMORY: Final = 3 * 2**30  # bytes that one input may take beyond what is there already
_SECONDS: Final = 30  # that one input may take
_ROUND: Final = 50  # inputs of one door before the next one's turn


class Slow(BaseException):
    """An input took too long; no handler of exceptions may take it for a refusal."""


class Tally:
    """What became of the inputs of one door.

    faults: the first input of each fault, by where and what was raised.
    """

    def __init__(self, name: str, entry: Entry) -> None:
        self.name, self.entry = name, entry
        self.tried = self.refused = 0
        self.seen: Counter[str] = Counter()

    def round(self, number: int, out: Path) -> None:
        """Try some inputs."""

        @seed(number)
        @settings(
            max_examples=_ROUND,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(self.entry.inputs)
        def attempt(one: Any) -> None:
            self.tried += 1
            signal.alarm(_SECONDS)
            try:
                self.refused += self.entry.refused(one)
            except (Exception, Slow) as error:
                self.fault(one, error, out)
            finally:
                signal.alarm(0)

        attempt()

    def fault(self, one: Any, error: BaseException, out: Path) -> None:
        """Count a fault; the first of its kind is written down."""
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "/chronocam/" in f.filename]
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        what = f"{type(error).__name__} at {where}"
        self.seen[what] += 1
        if self.seen[what] == 1:
            out.mkdir(parents=True, exist_ok=True)
            told = "".join(traceback.format_exception(error))
            (out / f"{self.name}-{len(self.seen)}.txt").write_text(ascii(one) + "\n\n" + ascii_lines(told))


def ascii_lines(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.05), default=30, show_default=True, help="How long.")
@click.option("--only", multiple=True, type=click.Choice(list(ENTRIES)), help="Doors to try.  [default: all]")
@click.option("--out", type=click.Path(path_type=Path), default=Path("fuzz-faults"), show_default=True)
def main(minutes: float, only: tuple[str, ...], out: Path) -> None:
    """Try damaged files and odd words; the first input of each fault goes to OUT."""

    def late(number: int, frame: object) -> None:
        raise Slow(f"more than {_SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    tallies = [Tally(name, ENTRIES[name]) for name in only or ENTRIES]
    start, first = time.monotonic(), random.SystemRandom().randrange(2**32)
    number, limited = first, False
    while time.monotonic() - start < 60 * minutes:
        for tally in tallies:
            tally.round(number, out)
        if not limited:  # libraries have been loaded now
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, resource.RLIM_INFINITY))
            limited = True
        number += 1
    click.echo(f"seeds {first} to {number - 1}, {(time.monotonic() - start) / 60:.1f} minutes")
    click.echo(f"{'entry point':14} {'tried':>7} {'refused':>8} {'faults':>7}")
    for tally in tallies:
        click.echo(f"{tally.name:14} {tally.tried:7} {tally.refused:8} {tally.seen.total():7}")
        for what, count in tally.seen.most_common():
            click.echo(f"    {count} × {what}")
    sys.exit(any(tally.seen for tally in tallies))


if __name__ == "__main__":
    main()
