"""Targets as the command line names them: classes, output steps, the vote of all steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

from chronocam.errors import TargetError

if TYPE_CHECKING:
    from chronocam.models import Loaded
    from chronocam.targets import Boxes, Caption, Class, MajorityVote, Phrase, Region, Step, Token

ClassTarget: TypeAlias = "Boxes | Caption | Class | MajorityVote | Phrase | Region | Token"

PLACES: Final = ("box", "region")
"""Words before a colon that name boxes of a detector, or where a class is predicted."""

VOTE: Final = "vote"
"""Names the class by majority vote, unless the model has a label of this name."""

SAID: Final = ("text", "token", "word", "phrase")
"""Words before a colon that name a caption, or what a model says: a token by its number, a word, a few."""


def classes(loaded: Loaded, texts: Sequence[str], steps: Sequence[int]) -> list[ClassTarget]:
    """Return the classes, looked up once: an unknown label is an error of the call, not of every input.

    Raises TargetError for a label that does not exist, and for the vote at a step.
    """
    return list(dict.fromkeys(_class(text, loaded.labels, steps) for text in texts))


def scored(targets: Sequence[ClassTarget], least: float | None) -> list[ClassTarget]:
    """Return the targets, the boxes among them of a score of `least` or more; without any target all boxes.

    Raises TargetError where a score is given and no target is a box.
    """
    from chronocam.targets import Boxes

    if least is None:
        return list(targets)
    if targets and not any(isinstance(one, Boxes) for one in targets):
        raise TargetError("--min-score is the least score of boxes; give --target box:0, box:dog or box:all")
    every = targets or [Boxes()]
    return [replace(one, min_score=least) if isinstance(one, Boxes) else one for one in every]


def _class(text: str, labels: tuple[str, ...] | None, steps: Sequence[int]) -> ClassTarget:
    from chronocam.targets import Class, MajorityVote

    if text == VOTE and VOTE not in (labels or ()):
        if steps:
            raise TargetError(f"the {VOTE} counts all steps; drop --step, or give a class")
        return MajorityVote()
    kind, colon, rest = text.partition(":")
    if colon and text not in (labels or ()):
        if kind in PLACES:
            return _place(kind, rest, labels)
        if kind in SAID:
            return _said(kind, rest.strip())
    return Class(index_of(text, labels))


def _said(kind: str, text: str) -> Caption | Phrase | Token:
    """Return the caption, or the words of a text that the model generates."""
    from chronocam.targets import Caption, Phrase, Token

    if kind == "text":
        return Caption(text)
    if kind != "token":
        return Token(text) if kind == "word" else Phrase(text)
    if not re.fullmatch(r"-?\d+", text):
        raise TargetError(f"`token:{text}` is not the number of a token; for a word give word:{text}")
    return Token(int(text))


def _place(kind: str, text: str, labels: tuple[str, ...] | None) -> Boxes | Region:
    """Return the boxes or the region that a text after `box:` or `region:` names."""
    from chronocam.targets import Boxes, Region

    if kind == "region":
        return Region.predicted(index_of(text, labels))
    if re.fullmatch(r"\d+", text):
        return Boxes(index=int(text))
    sides = re.fullmatch(r",\s*".join([r"(-?[\d.]+)"] * 4), text)
    if sides is not None:
        x0, y0, x1, y1 = map(float, sides.groups())
        return Boxes(box=(x0, y0, x1, y1))
    return Boxes() if text == "all" else Boxes(label=index_of(text, labels))


def index_of(text: str, labels: tuple[str, ...] | None) -> int:
    """Return the class that an index or a label names. Raises TargetError for one that names none."""
    from chronocam.targets.labels import find_label

    if re.fullmatch(r"-?\d+", text):
        return int(text)
    if labels is None:
        raise TargetError(f"the model has no labels to find `{text}` in; give the class index")
    return find_label(labels, text)


def at_steps(targets: Sequence[ClassTarget], steps: Sequence[int]) -> list[ClassTarget] | list[Step] | None:
    """Return each target at each of the steps; without steps the targets as they are, None for no target."""
    from chronocam.targets import Step

    if not steps:
        return list(targets) or None
    each: Sequence[ClassTarget | None] = targets or [None]  # None is the class predicted at a step
    return [Step(step, target) for target in each for step in dict.fromkeys(steps)]


def label(loaded: Loaded, target: ClassTarget) -> str:
    """Return what the name of a file calls a class or the vote."""
    from chronocam.targets import Caption, Class, Phrase, Token

    if isinstance(target, (Caption, Phrase)):
        return target.text
    if isinstance(target, Token):
        return f"token {target.which}" if isinstance(target.which, int) else target.which
    if not isinstance(target, Class):
        return VOTE
    which = target.which
    if isinstance(which, int) and loaded.labels and 0 <= which < len(loaded.labels):
        return loaded.labels[which]
    return f"class {which}"
