"""Targets made of whatever `targets=` takes: what speaks against it, and classes meant of a whole clip."""

from __future__ import annotations

from dataclasses import dataclass, replace

from chronocam.maps.arrays import namespace, to_numpy
from chronocam.targets._parse import OfTarget, Several
from chronocam.targets.classes import (
    Class,
    Contrast,
    OneLabelEach,
    PerSample,
    Predicted,
    PredictedByDefault,
    Weighted,
    is_one_logit,
    says_classes,
    unnamed,
)
from chronocam.targets.steps import EveryStep, MajorityVote, VotesInfo, votes_of
from chronocam.types import BoxInfo, Outputs, Scored, Target, TargetInfo, Targets

_OF_CLASSES = (Predicted, Class, Contrast, PerSample)


@dataclass(frozen=True)
class Counter(OfTarget):
    """What speaks against a target: its score, negated.

    target: whatever `targets=` takes for all samples; None is the predicted class.

    Example:
    >>> str(cc.GradCAM(model).explain(images, cc.targets.Counter("cat")).targets[0][0])
    'against cat'
    """

    target: Targets

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the negated scores of the target."""
        scored = self.parsed(outputs)
        infos = tuple(tuple(_against(info) for info in row) for row in scored.infos)
        return Scored(-scored.values, infos, scored.notes)


def _against(info: TargetInfo) -> TargetInfo:
    """Return what speaks against something; of a box it stays where it is."""
    name = f"against {info}"
    return replace(info, name=name) if isinstance(info, BoxInfo) else TargetInfo(name)


@dataclass(frozen=True)
class PerStep(OfTarget):
    """A target of classes, at every step where the outputs have a time axis, else as it is."""

    target: Target

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the scores of the target, or one column of them per step."""
        return (EveryStep(self.target) if outputs.logits.ndim == 3 else self.target)(outputs)


@dataclass(frozen=True)
class OverSteps(OfTarget):
    """A target of classes on the mean of the logits over the steps, where the outputs have a time axis.

    The class predicted is then the one by majority vote, `MajorityVote`. Without a time axis it is the target
    itself.

    steps: of a signal, whose outputs have a time axis only where it is as long; None for clips.
    """

    target: Target
    steps: int | None = None

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the scores of the target."""
        shape = tuple(outputs.logits.shape)
        if len(shape) != 3 or (self.steps is not None and (shape[1] != self.steps or shape[2] == self.steps)):
            return self.target(outputs)
        width = int(outputs.logits.shape[2])
        quantity = width == 1 and not (is_one_logit(width, outputs) and says_classes(outputs))
        if isinstance(self.target, Predicted) and self.target.k == 1 and not quantity:
            voted = MajorityVote()(outputs)
            by_default = isinstance(self.target, PredictedByDefault)
            of_step = "cc.targets.Step(-1, cc.targets.Regression(0))"
            return replace(voted, notes=unnamed(outputs, width, of_step)) if by_default else voted
        xp, steps, votes = namespace(outputs.logits), int(outputs.logits.shape[1]), votes_of(outputs)
        # The target sees a model that has averaged its logits itself; what it names is then told of the clip.
        mean, choosing = xp.mean(outputs.logits, axis=1), to_numpy(outputs.choosing).mean(axis=1)
        scored = self.target(outputs.of(mean, choosing))
        infos = tuple(
            tuple(
                VotesInfo(
                    f"{info} (mean of {steps} steps)",
                    info.index,
                    tuple(map(int, vote)),
                    signed=info.signed,
                )
                for info in row
            )
            for row, vote in zip(scored.infos, votes, strict=True)
        )
        return Scored(scored.values, infos, scored.notes)


def over_steps(target: Target, steps: int | None = None) -> Target:
    """Return the target with every class that it names, or the prediction, meant of a clip as a whole.

    steps: see `OverSteps`.
    """
    if isinstance(target, Several):
        return Several([over_steps(one, steps) for one in target.targets])
    if isinstance(target, Counter):
        return Counter(over_steps(target.parsed, steps))
    return OverSteps(target, steps) if isinstance(target, (*_OF_CLASSES, OneLabelEach, Weighted)) else target


def per_step(target: Target) -> Target:
    """Return the target with every class that it names, or the prediction, meant at every step."""
    if isinstance(target, Several):
        return Several([per_step(one) for one in target.targets])
    return PerStep(target) if isinstance(target, _OF_CLASSES) else target
