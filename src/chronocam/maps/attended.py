"""Attention head by head: what was mixed, and what a score owes to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from chronocam.maps.arrays import in_full_precision, namespace, relu
from chronocam.types import Array

Sources: TypeAlias = tuple[int, ...]
"""The attentions that tokens are made of, by their numbers: the last one, or several side by side."""

Origins: TypeAlias = np.ndarray | None
"""For each token, which attention it is made of and which of its queries, `(token, 2)`; −1 for none."""


@dataclass(frozen=True, eq=False)
class Attended:
    """One attention of a model. Its rows are samples, or what the model folds into them.

    value: `(row, head, key, channel)`.
    weigh: returns the weights A, `(row, head, query, key)`. They are made when they are asked for: those of
        all attentions at once would take the memory that fusing saves.
    gradients: ∂score/∂output, `(target, row, head, query, channel)`, the output being A · value; None where
        the score does not depend on it.
    query, key: `(row, head, query, channel)`, `(row, head, key, channel)`; None where the model scores keys
        otherwise.
    join: the matrix that joins the heads, `(channel, head · channel)`; None without one.
    sources: which attention before the queries and the values are made of; none of those that lead to them
        through another.
    origins: the same for each query and for each key, where tokens were added, dropped, joined or put into
        another order since; None where they are those of `sources` one for one.
    in_order: whether its tokens follow each other as those of the attention before; False where they do not,
        or where they are mixed as well, so that nothing says it.
    of_input: whether its queries, and its keys, are tokens of the input, and not learned ones (latents, or
        the queries of a decoder); True where that is not known.
    """

    value: Array
    weigh: Callable[[], Array]
    gradients: Array = None
    query: Array = None
    key: Array = None
    join: Array = None
    sources: tuple[Sources, Sources] = ((), ())
    origins: tuple[Origins, Origins] = (None, None)
    in_order: bool = True
    of_input: tuple[bool, bool] = (True, True)

    @property
    def shape(self) -> tuple[int, int, int]:
        """How many rows, queries and keys there are; no query where the score does not depend on them."""
        rows, _, keys, _ = self.value.shape
        return rows, 0 if self.gradients is None else self.gradients.shape[3], keys

    def of(self, columns: slice) -> Attended:
        """Return the same with the gradients of some targets."""
        return self if self.gradients is None else replace(self, gradients=self.gradients[columns])


@dataclass(frozen=True)
class Link:
    """Where an attention stands among the others of a pass.

    queries, keys: which attention before they are made of. scored: whether the score depends on it.
    in_order, of_input: see `Attended`.
    """

    queries: Sources
    keys: Sources
    scored: bool
    in_order: bool = True
    of_input: tuple[bool, bool] = (True, True)


def latest(calls: set[int], before: Sequence[set[int]]) -> Sources:
    """Return those of some attentions that no other of them is made of; before: what each is made of."""
    return tuple(sorted(calls.difference(*(before[call] for call in calls))))


@in_full_precision
def by_weights(gradients: Float[Any, "row head query channel"], attended: Attended) -> Array:
    """Return ∂score/∂A, `(row, head, query, key)`: ∂score/∂A_ij = (∂score/∂output_i)·value_j."""
    xp = namespace(gradients)
    return xp.matmul(gradients, xp.matrix_transpose(xp.astype(attended.value, gradients.dtype)))


def positive(attended: Attended, weights: Array, target: int) -> Float[Any, "row query key"]:
    """Return the mean over heads of max(∂score/∂A ⊙ A, 0)."""
    along = by_weights(attended.gradients[target], attended)
    return namespace(along).mean(relu(along * namespace(along).astype(weights, along.dtype)), axis=1)
