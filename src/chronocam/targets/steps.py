"""Targets of networks with an output at every step: logits `(batch, time, classes)`."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from chronocam.errors import TargetError
from chronocam.maps.arrays import like, namespace, to_numpy
from chronocam.targets._parse import OfTarget
from chronocam.targets.classes import both_sides, is_one_logit, says_classes, side_by_side
from chronocam.types import Array, Outputs, Scored, Target, TargetInfo, Targets


@dataclass(frozen=True)
class StepInfo(TargetInfo):
    """What a column of the scores explains at one output step.

    step: the output step, from 0.
    vote: the class with the largest logit there.
    """

    step: int = 0
    vote: int = 0


@dataclass(frozen=True)
class VotesInfo(TargetInfo):
    """What a column of the scores explains about a whole clip.

    votes: the class with the largest logit at each step.
    """

    votes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Step(OfTarget):
    """A target at one output step: `Step(3, "wave")` is the logit of "wave" after step 3 (counted from 0).

    time: the step; negative ones count from the end.
    target: what is explained there, whatever `targets=` takes for all samples (a class, a label, `Contrast`,
        a callable on the logits `(batch, classes)` of the step); None is the class predicted at that step.

    Example:
    >>> video = cc.models.CNNLSTM(model[:4], hidden=4, classes=3, per_step=True).eval()
    >>> frames = torch.rand(1, 4, 3, 32, 32)
    >>> str(cc.GradCAM(video).explain(frames, cc.targets.Step(-1, 2)).targets[0][0])
    'class 2 at step 3'
    """

    time: Any
    target: Targets = None

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the target's scores at the step.

        Raises TargetError for a step or class that does not exist.
        """
        return _at_step(outputs, _step(self.time, stepwise(outputs)), self.parsed, votes_of(outputs))


@dataclass(frozen=True)
class EveryStep(OfTarget):
    """A target at every output step: one column of scores per step, first to last.

    target: as for `Step`; None is the class predicted at each step. A target of k columns gives k per step.

    Example:
    >>> video = cc.models.CNNLSTM(model[:4], hidden=4, classes=3, per_step=True).eval()
    >>> frames = torch.rand(1, 4, 3, 32, 32)
    >>> cc.GradCAM(video).explain(frames, cc.targets.EveryStep(2)).scores.shape
    (1, 4)
    """

    target: Targets = None

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the scores `(batch, time)`. Raises TargetError for outputs without a time axis."""
        steps, votes = stepwise(outputs).shape[1], votes_of(outputs)
        return side_by_side([_at_step(outputs, step, self.parsed, votes) for step in range(steps)])


@dataclass(frozen=True)
class MajorityVote(Target):
    """The class of a clip by majority vote over its steps.

    Every step votes for its class of largest logit, the lower index of two equal ones; most votes win. The
    score is the winner's logit averaged over the steps that voted for it. A tie goes to the class whose score
    is larger, then to the lower index.

    Example:
    >>> video = cc.models.CNNLSTM(model[:4], hidden=4, classes=3, per_step=True).eval()
    >>> frames = torch.rand(1, 4, 3, 32, 32)
    >>> len(cc.GradCAM(video).explain(frames, cc.targets.MajorityVote()).targets[0][0].votes)
    4
    """

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the score `(batch, 1)`. Raises TargetError for outputs without a time axis."""
        logits, votes = stepwise(outputs), votes_of(outputs)
        choosing = to_numpy(outputs.choosing)
        if _one_logit(outputs):
            logits, choosing = both_sides(logits), both_sides(choosing)
        winners = [_winner(row, y) for row, y in zip(votes, choosing, strict=True)]
        weights = np.zeros(tuple(logits.shape))
        infos: list[tuple[TargetInfo, ...]] = []
        for sample, (row, winner) in enumerate(zip(votes, winners, strict=True)):
            voted = row == winner
            weights[sample, voted, winner] = 1 / voted.sum()
            name = f"{outputs.label(winner)} ({int(voted.sum())} of {len(row)} votes)"
            infos.append((VotesInfo(name, winner, tuple(map(int, row))),))
        values = namespace(logits).sum(logits * like(weights, logits), axis=(1, 2))
        return Scored(values[:, None], tuple(infos))


def stepwise(outputs: Outputs) -> Array:
    """Return the logits `(batch, time, classes)`. Raises TargetError for outputs without a time axis."""
    logits = outputs.logits
    if logits.ndim != 3:
        raise TargetError(
            f"outputs have shape {tuple(logits.shape)} and no time axis; expected (batch, time, classes): "
            "explain the class itself, or a model that gives logits at every step"
        )
    return logits


def votes_of(outputs: Outputs) -> np.ndarray:
    """Return the class with the largest logit, per sample and step."""
    stepwise(outputs)
    choosing = to_numpy(outputs.choosing)
    return np.argmax(both_sides(choosing) if _one_logit(outputs) else choosing, axis=2)


def _one_logit(outputs: Outputs) -> bool:
    """Say whether each step's output is one logit of two classes."""
    return is_one_logit(outputs.logits.shape[2], outputs) and says_classes(outputs)


def _step(time: Any, logits: Array) -> int:
    steps = int(logits.shape[1])
    if isinstance(time, bool) or not isinstance(time, Integral):
        raise TargetError(f"{time!r} is not a step; give an integer from 0 to {steps - 1}")
    if not -steps <= int(time) < steps:
        raise TargetError(f"no step {time}; the outputs have {steps} steps, 0 to {steps - 1}")
    return int(time) % steps


def _at_step(outputs: Outputs, step: int, target: Target, votes: np.ndarray) -> Scored:
    logits = outputs.logits[:, step]
    scored = target(outputs.of(logits, outputs.choosing[:, step]))
    infos = tuple(
        tuple(
            StepInfo(f"{info} at step {step}", info.index, step, int(vote[step]), signed=info.signed)
            for info in row
        )
        for row, vote in zip(scored.infos, votes, strict=True)
    )
    return Scored(scored.values, infos, scored.notes)


def _winner(votes: np.ndarray, logits: np.ndarray) -> int:
    # Two stages: the votes alone decide where they can, since a single confident step must not outvote many.
    counts = np.bincount(votes, minlength=logits.shape[1])
    leaders = np.flatnonzero(counts == counts.max())
    scores = [logits[votes == leader, leader].mean() for leader in leaders]
    return int(leaders[int(np.argmax(scores))])
