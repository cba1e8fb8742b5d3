"""Which layer a call explains where none is named: known of the model, or searched for."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeAlias

from chronocam.engines.structure import settings_of
from chronocam.joint.layers.default_layer import Chosen
from chronocam.joint.look.look import Look
from chronocam.targets._parse import OfTarget, Several
from chronocam.targets.boxes import BoxesByDefault, BoxesOf
from chronocam.targets.classes import (
    Class,
    Contrast,
    OneLabelEach,
    PerSample,
    Predicted,
    PredictedByDefault,
    PredictedOrAll,
    Weighted,
)
from chronocam.types import Target

Search: TypeAlias = Callable[[Target], Chosen]
"""Finds the layer of a target."""

_OF_CLASSES = (Class, Contrast, OneLabelEach, PerSample, Predicted, Weighted)
_OF_SAMPLES = (OneLabelEach, PerSample, Weighted)
_PREDICTED = {Predicted, PredictedByDefault, PredictedOrAll, BoxesByDefault}


class Choices:
    """The default layers of a call: searched for once, then known.

    A choice holds for inputs of one size and kind and for one target; or for all targets of that kind, if no
    deeper layer was passed over that may count for another target. Callers pass the search along.
    """

    def __init__(self, look: Look) -> None:
        self._subject = look.subject
        self._where: Hashable = "default layer", look.sizes, look.number, look.chunk_frames
        self.searched: bool = False  # in this call

    def of(self, target: Target, search: Search) -> Chosen:
        """Return the layer of a target."""
        exact, subject = (self._where, exactly(target)), self._subject
        places = (subject.facts, exact), (subject.facts, (self._where, kind_of(target))), (subject.own, exact)
        for facts, key in places:
            known: Chosen | None = facts.known(key)
            if known is not None:
                return known
        return self._found(target, search)

    def again(self, target: Target, flat: bool, search: Search) -> Chosen:
        """Return the layer of a target whose scores were found to be flat at the one known, or not to be."""
        facts = self._subject.own if flat else self._subject.facts
        return facts.once((self._where, exactly(target)), lambda: self._found(target, search))

    def at_level(self, boxes: BoxesOf, level: int, search: Search) -> tuple[Chosen, int]:
        """Return the layer that the boxes of a level come from, and how many levels are known of."""
        one = boxes.at_level(level)
        key = self._where, level, type(boxes.adapter)
        return self._subject.once(key, lambda: (search(one), one.count))

    def at_new_level(self, boxes: BoxesOf, level: int, search: Callable[[], Chosen]) -> Chosen:
        """Return the layer of boxes whose scores do not depend on the layers of the levels before `level`."""
        return self._subject.once((self._where, "kept", level, type(boxes.adapter)), search)

    def _found(self, target: Target, search: Search) -> Chosen:
        self.searched = True
        chosen = search(target)
        # Whether a score is flat may depend on the weights, and facts of a model outlive a change of these.
        facts = self._subject.own if chosen.flat else self._subject.facts
        names = {exactly(target)} if chosen.flat or chosen.specific else {exactly(target), kind_of(target)}
        for name in names:
            facts.keep((self._where, name), chosen)
        return chosen


def exactly(target: Target) -> Hashable:
    """Return what tells a target from others; the same function made anew is the same."""
    # Such are equal where their settings are.
    by_class = isinstance(target, Class) and type(target) is Class and type(target.which) in (int, str)
    if by_class or type(target) in _PREDICTED:
        return target
    # Batches of a data set come with labels of their own, and are explained at one layer.
    return _key_of(target, _OF_SAMPLES)


def kind_of(target: Target) -> Hashable:
    """Return what tells a target from others that read other outputs."""
    return _key_of(target, _OF_CLASSES)


def _key_of(target: Target, alike: tuple[type[Target], ...]) -> Hashable:
    """Return what tells a target from others, but for those of the classes `alike`."""
    if isinstance(target, Several):
        return type(target), tuple(_key_of(one, alike) for one in target.targets)
    if isinstance(target, OfTarget):
        return type(target), _key_of(target.parsed, alike)
    return "classes" if isinstance(target, alike) else settings_of(target)
