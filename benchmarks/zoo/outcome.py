"""What the default call gives for one architecture, judged: right, refused, wrong, or not built."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

import chronocam as cc
from benchmarks.zoo.check import Built, dense_score, enliven, fault, main
from benchmarks.zoo.layer import Judge, off_standard
from chronocam.errors import ChronocamError, first_line

SECONDS: Final = 60


@dataclass(frozen=True)
class Case:
    """One architecture: the library's part that it is from, its family there, and its name."""

    part: str
    family: str
    name: str


@dataclass(frozen=True)
class Outcome:
    """What came out for one architecture.

    verdict: right, refused, wrong, earlier (a right map of a layer before others, whose cells, as a finding
        says, do not follow the input), part (a right map of a layer past which, as a finding says, class
        tokens lead to the score), or not built (for reasons that are not chronocam's).
    reason: why, unless it is right.
    """

    part: str
    family: str
    name: str
    verdict: str
    reason: str = ""
    layer: str = ""
    grid: tuple[int, ...] = ()
    findings: tuple[str, ...] = ()
    seconds: float = 0.0


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError after so many seconds of processor time."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"took more than {seconds:g} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def outcome_of(case: Case, build: Callable[[], Built], seconds: float = SECONDS) -> Outcome:
    """Build a model, explain it with no layer named, and judge what comes out."""
    start = time.perf_counter()

    def end(verdict: str, reason: str = "", **more: Any) -> Outcome:
        took = round(time.perf_counter() - start, 2)
        return Outcome(case.part, case.family, case.name, verdict, reason, seconds=took, **more)

    torch.manual_seed(0)
    try:
        with limit(seconds):
            built = build()
            enliven(built)
            with torch.no_grad():
                output = main(built.model(built.x))
    except Exception as error:  # builders fail in their own ways
        return end("not built", f"{type(error).__name__}: {first_line(error)}")
    target = dense_score if built.dense else None
    try:
        with limit(seconds):
            explanation = cc.GradCAM(built.model, signed=True).explain(built.x, target)
    except ChronocamError as error:
        return end("refused", first_line(error))
    except TimeoutError as error:
        return end("not built", str(error))
    except Exception as error:  # whatever it is, users should have got a ChronocamError
        return end("wrong", f"{type(error).__name__}: {first_line(error)}")
    grid = tuple(explanation.maps.shape[2:])
    about = {"layer": explanation.layer, "grid": grid, "findings": tuple(explanation.diagnostics)}
    try:
        with limit(4 * seconds):
            return end(*judge(built, explanation, output), **about)
    except Exception as error:  # the check by hand failed
        return end("not built", f"check by hand: {type(error).__name__}: {first_line(error)}", **about)


def judge(built: Built, explanation: cc.Explanation, output: Tensor) -> tuple[str, str]:
    """Return the verdict on an explanation, its map, grid and layer, and the reason unless it is right."""
    grid, path = tuple(explanation.maps.shape[2:]), explanation.layer.partition("#")[0]
    reason = fault(built, explanation, output)
    if reason:
        return "wrong", reason
    layer = Judge(built, output, path, grid)
    reason = off_standard(built, path, grid) or layer.fault()
    choices = [one.text for one in explanation.findings if one.kind == "default layer"]
    mixed = [text for text in choices if "do not;" in text]
    if reason and mixed and not reason.startswith("a branch"):
        return "earlier", mixed[0]
    beside = [text for text in choices if text.startswith("beside")]
    if reason.startswith("a branch") and beside and not layer.rejoined():
        return "part", beside[0]
    return ("wrong", reason) if reason else ("right", "")
