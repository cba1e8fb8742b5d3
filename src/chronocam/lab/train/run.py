"""What every training run does, whatever it trains and with what: it continues, reports and writes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from rich.progress import track as track_on

from chronocam.errors import InputError
from chronocam.jsonable import Json
from chronocam.lab.train.settings.base import Settings
from chronocam.media.files import replace_file
from chronocam.runs.terminal import console, say

STDERR: Final = console()

Figures: TypeAlias = Mapping[str, float]
"""Figures of an epoch by name."""

Track: TypeAlias = Callable[[Iterable[int], str], Iterable[int]]
"""Passes numbers on and shows progress, see `track`."""

_WARM_UP: Final = 0.1  # of all steps


class TrainingRun:
    """One training run in three parts, whatever it trains and with what; frameworks and kinds are subclasses.

    checkpoint_name: the file in the folder of checkpoints that a later run continues from.
    last: its path; None for a run that begins.
    network: what `chronocam.models.load` needs to rebuild the network, with the format that says how.
    """

    checkpoint_name = "last.ckpt"
    network: Json

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.last = checkpoint(settings, self.checkpoint_name)

    def fit(self) -> tuple[int, list[Figures]]:
        """Train, from the beginning or from a checkpoint; return the best epoch, and the figures of all."""
        raise NotImplementedError(f"{type(self).__name__} must define fit()")

    def measure(self) -> Json:
        """Return the figures on held-out data."""
        raise NotImplementedError(f"{type(self).__name__} must define measure()")

    def data(self) -> Json:
        """Return what the record says of the data, and report what could not be read."""
        raise NotImplementedError(f"{type(self).__name__} must define data()")

    def write(self, record: Json) -> Path:
        """Write weights and record, and return the record's path."""
        raise NotImplementedError(f"{type(self).__name__} must define write()")

    def completed(self) -> Path:
        """Train, measure and write; return the path of the record."""
        begin = time.perf_counter()
        try:
            best, history = self.fit()
        except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other
            if any(folder(self.settings).glob("last.*")):
                say("stopped; the same command with --resume continues after the last whole epoch")
            raise
        minutes = round((time.perf_counter() - begin) / 60, 1)
        figures = self.measure()
        return self.write(
            {
                **self.network,
                "seed": self.settings.seed,
                "command": self.settings.command(),
                **self.data(),
                "held-out": dict(figures),
                "training minutes": minutes,
                "epochs": history,
                "best epoch": best,
            }
        )


def checkpoint(settings: Settings, name: str) -> Path | None:
    """Return what to continue from, or None.

    Raises InputError where a result would be overwritten, or there is nothing to resume.
    """
    last = folder(settings) / name
    if settings.resume and not last.is_file():
        raise InputError(f"nothing to resume: `{last}` not found; pass the --out of an interrupted run")
    begun = any(folder(settings).glob("last.*")) or (settings.out / "model.json").exists()
    if not settings.resume and begun:
        raise InputError(f"`{settings.out}` holds a run already; expected a new folder, or resume (--resume)")
    return last if settings.resume else None


def folder(settings: Settings) -> Path:
    """Return where the checkpoints of a run are."""
    return settings.out / "checkpoints"


def insist_on_same(last: Path, identity: Json, network: Json) -> None:
    """Raise InputError where the identity in a checkpoint has other values than the network to train."""
    for name, value in network.items():
        if identity.get(name) != value:
            other = f"{name} {identity.get(name)}, not {value}"
            raise InputError(f"`{last}` was made with {other}; resume with the same")


def share_of_rate(step: int, total: int) -> float:
    """Return the factor of the learning rate at a step of `total`: a linear rise, then a cosine to 0."""
    warm = max(1, round(_WARM_UP * total))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, total - warm))))


def write_files(out: Path, record: Json, weights: str, save: Callable[[Path], Any]) -> Path:
    """Write weights under that name, then the record, and return the record's path.

    The record comes last: where there is one, the run is whole.
    """
    replace_file(out / weights, save)
    text = json.dumps(record, indent=2) + "\n"
    return replace_file(out / "model.json", lambda path: path.write_text(text, encoding="utf-8"))


def track(numbers: Iterable[int], what: str) -> Iterable[int]:
    """Pass numbers on and show progress on stderr; what: a word on what is being done."""
    return track_on(numbers, what, console=STDERR, transient=True)


def say_epoch(figures: Mapping[str, float]) -> None:
    """Print the figures of an epoch to stderr."""
    say(", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items()))
