"""What the scripts share: times interleaved in one process, and time and memory of processes of their own."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from chronocam.errors import first_line

Entries = dict[str, Callable[[], Any]]
WIDTH = 36  # of a name in what is printed


def working(entries: Entries) -> Entries:
    """Run every entry once, print how long that took, and leave out those that fail, with the reason."""
    able = {}
    for name, run in entries.items():
        start = time.perf_counter()
        try:
            run()
        except Exception as error:  # peers fail in their own ways
            print(f"{name:{WIDTH}} cannot: {first_line(error)[:90]}")
            continue
        print(f"{name:{WIDTH}} first call {time.perf_counter() - start:7.2f} s")
        able[name] = run
    return able


def interleaved(
    entries: Entries, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Return the seconds of every round; a round runs each entry once, so drifts meet all.

    clock: `time.process_time` counts this process alone, on a machine that others use too.
    """
    times: dict[str, list[float]] = {name: [] for name in entries}
    for _ in track(range(rounds), "Rounds", console=Console(stderr=True), transient=True):
        for name, run in entries.items():
            start = clock()
            run()
            times[name].append(clock() - start)
    return times


def print_ratios(times: Mapping[str, list[float]], floor: str) -> None:
    """Print median seconds, and medians and ranges of the ratio to the entry `floor` of the same round."""
    print(f"{'':{WIDTH}} {'median s':>9} {'ratio':>6}  range of ratios")
    for name, seconds in times.items():
        ratios = sorted(t / f for t, f in zip(seconds, times[floor], strict=True))
        medians = f"{statistics.median(seconds):9.4f} {statistics.median(ratios):6.3f}"
        print(f"{name:{WIDTH}} {medians}  {ratios[0]:.3f} to {ratios[-1]:.3f}")


class PeakMemory:
    """The peak of resident memory above what is resident now, in MB: the kernel's high-water mark (Linux)."""

    def __init__(self) -> None:
        self.before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # 5 resets the high-water mark

    def megabytes(self) -> float:
        """Return the peak since this object was made."""
        return _status("VmHWM") - self.before


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def in_its_own_process(module: str, entry: str, **options: object) -> tuple[str, str]:
    """Run a script with `--entry` and options; return what it prints, and the reason where it fails."""
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, "-m", f"benchmarks.{module}", "--entry", entry, *arguments]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    reason = (child.stderr.strip().splitlines() or [""])[-1]
    return child.stdout.strip(), f"failed with {child.returncode}: {reason}" if child.returncode else ""
