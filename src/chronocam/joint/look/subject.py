"""The model that is explained, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from chronocam.engines import Engine, Geometry, Learned, engine_for, geometry_of
from chronocam.engines.recording import as_given
from chronocam.engines.structure import settings_of
from chronocam.joint.inputs.fold import Fold, fold_of
from chronocam.joint.inputs.patch_fold import PatchFold, patch_fold_of
from chronocam.joint.inputs.tile_fold import TileFold, pictures_in, tile_fold_of
from chronocam.joint.look.facts import Facts, facts_of
from chronocam.layouts.base import Stem
from chronocam.types import Inputs, LayerLike, Model

T = TypeVar("T")


class Subject:
    """A model as it is explained: its engine, and the facts that were found out about it.

    Facts are kept with the model, for whatever else explains it, until its structure changes.

    frames: how many frames a clip has that the model takes as pictures; None where it takes none like that.
    fast, precision: whether a faster copy of the model is run, and in what precision.
    operator: what calls the model, where that is not called plainly.

    Attributes: own holds facts for this Subject alone, such as hang on the model's weights.

    """

    def __init__(
        self,
        model: Model,
        output_layer: LayerLike | None = None,
        frames: int | None = None,
        fast: bool = False,
        precision: str | None = None,
        operator: Callable[..., Any] | str | None = None,
    ) -> None:
        self.engine: Engine = engine_for(model, output_layer, fast, precision)
        self.geometry: Geometry = geometry_of(self.engine)
        self.frames = frames
        self.fold: Fold | PatchFold | TileFold | None = None
        how = getattr(self.engine, "output_layer", None), frames, fast, precision, settings_of(operator)
        self._how: Hashable = how
        self.own: Facts = Facts()
        self._facts: Facts | None = None
        self._hooks: Hashable = ()
        self._latest: tuple[Hashable, Facts] | None = None
        self._found_now = False

    @property
    def stem(self) -> Stem | None:
        """The first convolution of a model that takes inputs as they are; None where frames are folded."""
        return self.engine.stem if self.frames is None else None

    def as_clips(self, inputs: Inputs) -> Inputs:
        """Return inputs as clips or pictures, where the model takes frames, tiles or patches instead."""
        self.fold = fold = self._fold_of(inputs)
        self.engine.feed = as_given if fold is None else fold
        return inputs if fold is None else fold.undo(inputs)

    def _fold_of(self, inputs: Inputs) -> Fold | PatchFold | TileFold | None:
        model = getattr(self.engine, "model", None)
        pictures = pictures_in(model, inputs)
        if pictures is not None:  # as many as a clip has frames are taken as they are
            return None if pictures == self.frames else tile_fold_of(model, inputs, pictures)
        if self.frames is None:
            return patch_fold_of(model, inputs)
        self._look_up()
        return fold_of(self, inputs, self.frames)

    def adapt(self, inputs: Inputs) -> Inputs:
        """Return inputs as arrays of the model's framework; clips stay clips."""
        arrays = self.engine.adapt(self.engine.feed(inputs))
        self._look_up()
        return arrays if self.fold is None else self.fold.undo(arrays)

    def once(self, key: Hashable, find: Callable[[], T]) -> T:
        """Return the fact of this key, found out at the first question."""
        return self.facts.once(key, find)

    @property
    def facts(self) -> Facts:
        """What is known of the model as it was when the call began."""
        return self._look_up() if self._facts is None else self._facts

    def changed(self) -> bool:
        """Say whether what was known does not hold, as a pass has shown, and is to be asked for anew.

        Then a hook changed what it saw, of which that was not known: facts of a model with other hooks.
        """
        if self.engine.hooks() == self._hooks:
            return False
        before, found = self.facts, self._found_now
        after = self._look_up()
        if found:  # all of it by this call, with that hook
            after.take(before)
            self.engine.learned = after.once("learned", Learned)
        before.clear()
        return not found

    def _look_up(self) -> Facts:
        """Return what is known of the model as it is now."""
        engine = self.engine
        state = engine.structure(), engine.hooks(), self._how
        latest = self._latest  # read once, since another thread may replace it
        if latest is None or latest[0] != state:
            facts = facts_of(engine.model, state)
            facts = self.own if facts is None else facts
            if facts is not self._facts:
                self.own.clear()
            found_now = not facts
            engine.learned = facts.once("learned", Learned)
            # What cannot be told from others is asked about each time.
            self._latest = None if facts is self.own else (state, facts)
        else:
            facts, found_now = latest[1], False
        self._hooks, self._facts, self._found_now = state[1], facts, found_now
        return facts
