"""The model that is explained, and what is found out about it once and for all."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any, TypeVar

from chronocam.engines import Engine, Geometry, engine_for, geometry_of
from chronocam.joint.fold import Fold, fold_of
from chronocam.joint.patch_fold import PatchFold, patch_fold_of
from chronocam.layouts.base import Stem
from chronocam.types import Inputs, LayerLike, Model

T = TypeVar("T")


class Subject:
    """A model as it is explained: its engine, and the facts that were found out about it.

    frames: how many frames a clip has that the model takes as pictures; None where it takes none like that.
    fast, precision: whether a faster copy of the model is run, and in what precision.
    """

    def __init__(
        self,
        model: Model,
        output_layer: LayerLike | None = None,
        frames: int | None = None,
        fast: bool = False,
        precision: str | None = None,
    ) -> None:
        self.engine: Engine = engine_for(model, output_layer, fast, precision)
        self.geometry: Geometry = geometry_of(self.engine)
        self.frames = frames
        self.fold: Fold | PatchFold | None = None
        self.apart: set[tuple[int, ...]] = set()  # shapes of inputs at which other layers have a grid
        self._facts: dict[Hashable, Any] = {}

    @property
    def stem(self) -> Stem | None:
        """The first convolution of a model that takes inputs as they are; None where frames are folded."""
        return self.engine.stem if self.frames is None else None

    def as_clips(self, inputs: Inputs) -> Inputs:
        """Return inputs as clips or pictures, where the model takes frames or rows of patches instead."""
        if self.frames is not None:
            self.fold = fold_of(self, inputs, self.frames)
        elif (fold := patch_fold_of(getattr(self.engine, "model", None), inputs)) is not None:
            self.fold = fold
        else:
            return inputs
        self.engine.feed = self.fold
        return self.fold.undo(inputs)

    def adapt(self, inputs: Inputs) -> Inputs:
        """Return inputs as arrays of the model's framework; clips stay clips."""
        arrays = self.engine.adapt(self.engine.feed(inputs))
        return arrays if self.fold is None else self.fold.undo(arrays)

    def once(self, key: Hashable, find: Callable[[], T]) -> T:
        """Return the fact of this key, found out at the first question."""
        if key not in self._facts:
            # Two threads may find it at the same time; both go on with what was found first.
            self._facts.setdefault(key, find())
        fact: T = self._facts[key]
        return fact

    def known(self, key: Hashable) -> Any:
        """Return the fact of this key if it was found out, else None."""
        return self._facts.get(key)


# Methods are made by whatever the user gives `cc.explain` (names, classes, functions), so a Subject cannot be
# passed to them; a context variable keeps it to this call and this thread.
_SHARED: ContextVar[dict[Hashable, Subject] | None] = ContextVar("_SHARED", default=None)


def share_subjects(scope: ExitStack) -> None:
    """Let methods made for the same model and output layer while `scope` is entered share one Subject.

    What is entered within what is entered shares those of the outer one.
    """
    outer = _SHARED.get()
    scope.callback(_SHARED.reset, _SHARED.set({} if outer is None else outer))


def subject_of(
    model: Model, output_layer: LayerLike | None, frames: int | None, fast: bool, precision: str | None
) -> Subject:
    """Return a Subject of the model; a shared one within `share_subjects`."""
    shared = _SHARED.get()
    if shared is None:
        return Subject(model, output_layer, frames, fast, precision)
    # The model lives as long as the Subject that holds it, so that its id stays its own.
    output = output_layer if isinstance(output_layer, (str, int)) else id(output_layer)
    key = id(model), output, frames, fast, precision
    if key not in shared:
        shared[key] = Subject(model, output_layer, frames, fast, precision)
    return shared[key]
