"""Where relevance goes that the features do not get: biases, initial states, stabilisers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chronocam.maps.arrays import held, namespace
from chronocam.types import Array

ENTRIES: Final = ("initial_state", "bias", "stabiliser")
"""The terms of a ledger beside the features' own."""


class Ledger:
    """The entries of a ledger, and the linear rule that fills them, for arrays of any framework.

    The surrogate that is differentiated is linear in the features and in three numbers equal to 1, by which
    every constant within it is multiplied: biases, initial states, and the ε of every denominator. By Euler's
    theorem the score is then the sum of each of these times its gradient, and these products are the
    relevances.

    entries: these numbers, in the order of `ENTRIES`: `(1,)` each, or `(row,)` where the rows are the first
        axis of every array of the model.

    Example:
        >>> ledger = cc.sequence.Ledger(0.1, torch.ones(3, 1))
        >>> z = ledger.share(torch.tensor([2.0, -4.0]))  # the values stay, the gradients are relevance
        >>> [round(float(value), 4) for value in z]
        [2.0, -4.0]
    """

    def __init__(self, epsilon: float, entries: Sequence[Array]) -> None:
        self.epsilon = epsilon
        self.entries: tuple[str, ...] = tuple(entries)
        self._initial, self._bias, self._stabiliser = self.entries

    @staticmethod
    def held(x: Array) -> Array:
        """Return x as a constant: no gradient goes through it."""
        return held(x)

    @staticmethod
    def ratio(value: Array, z: Array, limit: Array = 1.0) -> Array:
        """Return value / z as a constant, and `limit` where z is 0."""
        return ratio(value, z, limit)

    def bias(self, constant: Array, like: Array = None) -> Array:
        """Return a constant as an entry of the biases.

        like: the array it is added to, whose rows come first; None for the constant itself.
        """
        return _spread(self._bias, constant if like is None else like) * held(constant)

    def state(self, h: Array) -> Array:
        """Return an initial state that no feature changes, as its own entry."""
        return _spread(self._initial, h) * held(h)

    def share(self, z: Array) -> Array:
        """Return z, such that what it is the sum of shares its relevance by the linear rule, with ε."""
        return self.passed(z, held(z)) if self.epsilon else z

    def passed(self, z: Array, value: Array, limit: Array = 1.0) -> Array:
        """Return `value`, a function of z, such that z gets its relevance and shares it as in `share`.

        limit: value / z where z is 0.
        """
        if not self.epsilon:
            return z * ratio(value, z, limit)
        # ε has the sign of z, so that the denominator never crosses zero. Its share is the stabiliser's.
        fixed, ones = held(z), namespace(z).ones_like(z)
        epsilon = self.epsilon * namespace(z).where(fixed < 0, -ones, ones)
        return (z + _spread(self._stabiliser, z) * epsilon) * ratio(value, fixed + epsilon, limit)


def ratio(value: Array, z: Array, limit: Array = 1.0) -> Array:
    """Return value / z held constant, and `limit` where z is 0."""
    value, z = held(value), held(z)
    xp, zero, ones = namespace(z), z == 0, namespace(z).ones_like(z)
    return _cast(xp.where(zero, ones * held(limit), value / xp.where(zero, ones, z)), z.dtype)


def _spread(entry: Array, like: Array) -> Array:
    """Return the rows' numbers, shaped to multiply an array of the rows, or of steps folded into them."""
    xp = namespace(entry)
    # One number fits arrays of any axes; a number per row needs the rows to come first.
    if entry.shape[0] == 1:
        return _cast(xp.reshape(entry, ()), getattr(like, "dtype", entry.dtype))
    entry = xp.repeat(entry, like.shape[0] // entry.shape[0])
    return _cast(xp.reshape(entry, (-1, *[1] * (len(like.shape) - 1))), like.dtype)


def _cast(x: Array, dtype: object) -> Array:
    return x if x.dtype == dtype else namespace(x).astype(x, dtype)
