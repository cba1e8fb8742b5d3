"""Scores after changes of inputs or activations, as many of them at once as a model takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Final, TypeVar

import numpy as np

from chronocam.engines import Score
from chronocam.errors import ChronocamError, InputError
from chronocam.joint.passes.scoring import Scoring
from chronocam.maps.arrays import namespace, to_numpy, widen
from chronocam.types import Array

T = TypeVar("T")
"""What is changed: a change of inputs or activations, or the number of a channel."""

_MANY: Final = (
    2  # changes, beyond which one more pass is worth it to see whether samples of a batch are coupled
)
_COUPLED: Final = 0.02  # of the largest score; kernels of other batch sizes change scores by less


class ScoresOfChanges:
    """Runs a model on several changes of a batch at once; one by one where these change each other's scores.

    scoring: of the batch. samples: how many it has. note: says something of what was found.
    """

    def __init__(self, scoring: Scoring, samples: int, note: Callable[[str], None]) -> None:
        self._scoring = scoring
        self._samples = samples
        self._note = note
        self._couples: bool | None = None

    def of(self, changes: Iterable[T], at_once: int, scored: Callable[[Sequence[T], Score], Array]) -> Array:
        """Return the scores `(change, batch, target)`. scored: runs the model on some of the changes.

        Raises InputError without any change.
        """
        once = partial(self._once, scored=scored)
        parts, rest = list[Array](), iter(changes)
        at_once = 1 if self._couples else at_once
        while part := list(islice(rest, at_once)):
            together: Array | None = None
            try:
                together = once(part)
            except ChronocamError:
                if len(part) == 1:
                    raise
            if together is None or (len(part) > _MANY and self._is_coupled(part, together, once)):
                # The batch that was given went through the model, which may take no larger one.
                at_once = 1
                parts += [once([change]) for change in part]
            else:
                parts.append(together)
        if not parts:
            raise InputError("no change to score; give at least one")
        return namespace(parts[0]).concat(parts, axis=0)

    def _is_coupled(self, part: Sequence[T], scores: Array, once: Callable[[Sequence[T]], Array]) -> bool:
        """Say whether the score of a change depends on the others of its batch; found out once.

        A score that differs from pass to pass, as of a model that draws random numbers, does not count.
        """
        if self._couples is None:
            beside, alone = to_numpy(scores), to_numpy(once(part[-1:]))[0]
            allowed = _COUPLED * np.abs(beside).max(initial=0, where=np.isfinite(beside))
            same = partial(np.allclose, rtol=0, atol=allowed, equal_nan=True)
            self._couples = not same(beside[-1], alone) and same(to_numpy(once(part[-1:]))[0], alone)
            if self._couples:
                self._note("samples of a batch change each other's scores: each change was scored by itself")
        return self._couples

    def _once(self, part: Sequence[T], scored: Callable[[Sequence[T], Score], Array]) -> Array:
        """Return the scores `(change, batch, target)` of one run."""
        scores = widen(scored(part, self._scoring.repeated(len(part)).values))
        return namespace(scores).reshape(scores, (len(part), self._samples, scores.shape[1]))
