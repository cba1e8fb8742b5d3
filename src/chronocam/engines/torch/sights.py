"""What part of the input the layers of one pass see, read off its graph and gradients."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from chronocam.engines.base import Sight
from chronocam.engines.torch.field import field_of
from chronocam.engines.torch.probe import extent_in
from chronocam.errors import LayoutError


@dataclass(frozen=True)
class Sights:
    """Answers what a layer sees, from a pass with one input whose graph is still held.

    outputs: of the layers' calls. source: the input, at which the graph begins. gradient: ∂score/∂source.
    parents, scored, keep_places: see `LayerCall`; scored are the numbers of calls, and −1 for the input.
    """

    outputs: Sequence[Tensor]
    source: Tensor
    gradient: Tensor | None
    parents: Sequence[Collection[int]]
    scored: Collection[int]
    keep_places: Sequence[bool]

    def of(self, call: int, rank: int) -> Sight | None:
        """Return what a call sees of the input along its last `rank` axes; None where that is not known."""
        try:
            # The question may come from a caller in inference mode, in which no graph can be followed.
            with torch.inference_mode(False):
                field = field_of(self.outputs[call], self.source, rank, "")
        except LayoutError:
            return None
        windows = None if field is None else field.windows
        if self.keep_places[call]:
            return Sight(windows)
        # The gradient is that of the score, not of this call. But where the score depends on all places, and
        # on the input through this call alone, the call sees all places. Else it takes a pass of its own.
        extent = None if self.gradient is None else extent_in(self.gradient)
        whole = tuple((0, size - 1) for size in self.source.shape[1:])
        return Sight(windows, False, extent) if extent == whole and not self._leads_around(call) else None

    def _leads_around(self, call: int) -> bool:
        """Say whether a path from the input to the score leads around a call."""
        reached = {-1}
        for at, parents in enumerate(self.parents):
            if at != call and not reached.isdisjoint(parents):
                reached.add(at)
        return not reached.isdisjoint(self.scored)
