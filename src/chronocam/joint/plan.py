"""What a call works out before its pass, kept for the next call alike."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from weakref import ref

from chronocam.joint.inputs.batches import Batch
from chronocam.joint.layers.choices import exactly
from chronocam.joint.layers.several import Place
from chronocam.joint.look.look import Look
from chronocam.joint.passes.record import Needs
from chronocam.joint.passes.view import Atlas
from chronocam.joint.recipe import Recipe
from chronocam.types import Inputs, Target


@dataclass(frozen=True)
class Plan:
    """What a call works out before its pass: it hangs on shapes, the model and options, and on no value.

    look: at inputs of these shapes, without them.
    layers: those of each method. at: where the maps of each method come from, by its layers.
    needs: what is recorded. of_input: the method whose first layer's input is recorded; None without any.
    atlas: where the cells of each method's layers lie.
    """

    look: Look
    layers: list[list[str]]
    at: list[list[Place]]
    needs: Needs
    of_input: int | None
    atlas: list[Atlas]

    def outline(self) -> Plan:
        """Return the plan without the inputs that its looks are at."""
        return self.of(None)

    def of(self, inputs: Inputs) -> Plan:
        """Return the plan for other inputs of these shapes."""
        look = self.look.at(inputs)
        at = [
            [
                Place(one.layer, look if one.look is self.look else one.look.at(inputs), one.note)
                for one in places
            ]
            for places in self.at
        ]
        return Plan(look, self.layers, at, self.needs, self.of_input, self.atlas)

    @property
    def recorded(self) -> Look:
        """The look whose input is recorded."""
        return self.look if self.of_input is None else self.at[self.of_input][0].look


def key_of(methods: Sequence[Recipe], batch: Batch, inputs: Inputs, target: Target) -> Hashable | None:
    """Return what tells a call from others that need another plan; None where shapes do not say it all.

    It is one among the facts of the first method, which are dropped with each change of its model.
    """
    subject = methods[0].session.subject
    plain = hasattr(inputs, "shape") and not batch.shared and subject.fold is None
    if not plain or methods[0].operator is not None or subject.facts is subject.own:
        return None
    # A method of which an option was set has another session.
    others = tuple([ref(method.session) for method in methods[1:]])
    return "plan", tuple(inputs.shape), inputs.dtype, batch.samples, exactly(target), others
