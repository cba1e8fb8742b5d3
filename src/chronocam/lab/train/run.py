"""What every training run does, whatever it trains and with what: where it goes on, what it says, what it writes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from rich.console import Console
from rich.progress import track as track_on

from chronocam.errors import InputError
from chronocam.media.files import replace_file

STDERR: Final = Console(stderr=True, highlight=False, markup=False)

_WARM_UP: Final = 0.1  # of all steps


@runtime_checkable
class Loop(Protocol):
    """The settings that a loop depends on, see `VideoSettings`."""

    @property
    def out(self) -> Path:
        """Folder of the result."""

    @property
    def epochs(self) -> int:
        """Times that everything is seen."""

    @property
    def patience(self) -> int | None:
        """Epochs without a better validation loss after which to stop."""

    @property
    def precision(self) -> str:
        """Of the arithmetic."""

    @property
    def accelerator(self) -> str:
        """What computes."""

    @property
    def resume(self) -> bool:
        """Whether to go on from a checkpoint."""


@runtime_checkable
class Run(Protocol):
    """A run in three parts."""

    @property
    def settings(self) -> Loop:
        """What it was told."""

    def fit(self) -> tuple[int, Sequence[Mapping[str, float | int]]]:
        """Train, from the beginning or from a checkpoint; return the best epoch, and the figures of all."""

    def measure(self) -> Mapping[str, Any]:
        """Return the figures on what was held out."""

    def write(self, figures: Mapping[str, Any], training: Mapping[str, Any]) -> Path:
        """Write weights and record, and return the record's path."""


def completed(run: Run) -> Path:
    """Train, measure and write; return the path of the record."""
    begin = time.perf_counter()
    try:
        best, history = run.fit()
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other
        if any(folder(run.settings).glob("last.*")):
            say("stopped; the same command with --resume goes on after the last whole epoch")
        raise
    minutes = round((time.perf_counter() - begin) / 60, 1)
    return run.write(
        run.measure(), {"training minutes": minutes, "epochs": list(history), "best epoch": best}
    )


def checkpoint(settings: Loop, name: str = "last.ckpt") -> Path | None:
    """Return where to go on from; raises InputError where a result would be lost or there is nothing to resume."""
    last = folder(settings) / name
    if settings.resume and not last.is_file():
        raise InputError(f"there is no `{last}` to resume; expected the out of a run that was stopped")
    begun = any(folder(settings).glob("last.*")) or (settings.out / "model.json").exists()
    if not settings.resume and begun:
        raise InputError(f"`{settings.out}` holds a run already; expected a new folder, or resume (--resume)")
    return last if settings.resume else None


def folder(settings: Loop) -> Path:
    """Return where the checkpoints of a run are."""
    return settings.out / "checkpoints"


def insist_on_same(last: Path, identity: Mapping[str, Any], network: Mapping[str, Any]) -> None:
    """Raise InputError where the identity in a checkpoint has other values than the network to train."""
    for name, value in network.items():
        if identity.get(name) != value:
            other = f"{name} {identity.get(name)}, not {value}"
            raise InputError(f"`{last}` was made with {other}; resume with the same")


def share_of_rate(step: int, total: int) -> float:
    """Return by what the learning rate is multiplied at a step of `total`: a linear rise, then a cosine to 0."""
    warm = max(1, round(_WARM_UP * total))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, total - warm))))


def write(out: Path, record: Mapping[str, Any], weights: str, save: Callable[[Path], Any]) -> Path:
    """Write weights, under that name, and record; return the record's path. It comes last: where it is, all is."""
    replace_file(out / weights, save)
    text = json.dumps(record, indent=2) + "\n"
    return replace_file(out / "model.json", lambda path: path.write_text(text, encoding="utf-8"))


def track(numbers: Iterable[int], what: str) -> Iterable[int]:
    """Pass numbers on and show on stderr how far it is."""
    return track_on(numbers, what, console=STDERR, transient=True)


def say(line: str) -> None:
    """Print a line to stderr."""
    STDERR.print(line, soft_wrap=True)


def say_epoch(figures: Mapping[str, float | int]) -> None:
    """Print the figures of an epoch to stderr."""
    say(", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items()))


def few(names: list[str], limit: int = 10) -> str:
    """Return the first of many names."""
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")
