"""From what a model returns to the scores of every method's targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chronocam.engines import Result
from chronocam.errors import TargetError
from chronocam.maps.arrays import namespace, to_numpy, widen
from chronocam.types import Array, Outputs, Scored, Target, TargetInfo


class Scoring:
    """The score function of a pass: the columns of every method's target, each distinct target once."""

    def __init__(
        self,
        targets: Sequence[Target],
        rows: slice,
        labels: Sequence[str] | None,
        clean: Array | None = None,
        channels_last: bool = False,
    ) -> None:
        self.targets, self.rows, self.labels, self.clean = targets, rows, labels, clean
        self.channels_last = channels_last
        self.columns: list[slice] = []
        self.infos: tuple[tuple[TargetInfo, ...], ...] = ()
        self.logits: np.ndarray | None = None

    def __call__(self, result: Result) -> Array:
        """Return the scores of one batch, `(batch, column)`."""
        outputs = Outputs(result.raw, result.logits, self.rows, self.labels, self.clean, self.channels_last)
        scored: dict[int, Scored] = {}
        starts: dict[int, slice] = {}
        end = 0
        for target in self.targets:
            if id(target) not in scored:
                scored[id(target)] = one = target(outputs)
                starts[id(target)] = slice(end, end + one.values.shape[1])
                end += one.values.shape[1]
        self.columns = [starts[id(target)] for target in self.targets]
        parts = list(scored.values())
        self.infos = tuple(
            tuple(i for row in rows for i in row) for rows in zip(*(p.infos for p in parts), strict=True)
        )
        # Only what classes are chosen by is kept, and free of the graph.
        self.logits = None if outputs.seen is None or outputs.seen.ndim > 2 else to_numpy(outputs.seen)
        values = namespace(parts[0].values).concat([part.values for part in parts], axis=1)
        return widen(values)


class OperatorScore(Target):
    """What `operator=` returned is the score itself; an operator's own `name` and `signed` count, where it has them."""

    def __init__(self, operator: Any) -> None:
        self.info = TargetInfo(getattr(operator, "name", "operator"))
        self.signed = bool(getattr(operator, "signed", False))

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the score as it is. Raises TargetError where it is not one per sample."""
        values = outputs.raw
        batch = outputs.rows.stop - outputs.rows.start
        if tuple(getattr(values, "shape", ())) != (batch,):
            raise TargetError(
                f"the operator returned shape {tuple(getattr(values, 'shape', ()))}; expected ({batch},)"
            )
        return Scored(values[:, None], ((self.info,),) * batch)
