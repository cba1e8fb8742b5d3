"""Targets as the command line names them: classes, output steps, the vote of all steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from chronocam.errors import TargetError

VOTE: Final = "vote"
"""Stands for the class by majority vote, unless the model has a label of this name."""


def classes(loaded: Any, given: Sequence[str], steps: Sequence[int]) -> list[Any]:
    """Return the classes, looked up once: an unknown label is an error of the call, not of every input.

    Raises TargetError for one that does not exist, and for the vote at a step.
    """
    from chronocam.targets import Class, MajorityVote
    from chronocam.targets.labels import find_label

    def target(text: str) -> Any:
        if re.fullmatch(r"-?\d+", text):
            return Class(int(text))
        if text == VOTE and VOTE not in (loaded.labels or ()):
            if steps:
                raise TargetError(f"the {VOTE} is of all steps; drop --step, or give a class")
            return MajorityVote()
        if loaded.labels is None:
            raise TargetError(f"the model has no labels to find `{text}` in; give the class index")
        return Class(find_label(loaded.labels, text))

    return list(dict.fromkeys(map(target, given)))


def at_steps(targets: Sequence[Any], steps: Sequence[int]) -> Any:
    """Return each target at each of the steps; without any, the targets as they are, None for the prediction."""
    from chronocam.targets import Step

    if not steps:
        return list(targets) or None
    return [Step(step, target) for target in targets or [None] for step in dict.fromkeys(steps)]


def label(loaded: Any, target: Any) -> str:
    """Return what a file calls a target of a class or of the vote."""
    which = getattr(target, "which", None)
    if which is None:
        return VOTE
    return loaded.labels[which] if loaded.labels and 0 <= which < len(loaded.labels) else f"class {which}"
