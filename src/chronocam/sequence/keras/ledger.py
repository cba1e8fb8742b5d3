"""Where relevance goes that the features do not get, for Keras: biases, initial states, stabilisers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from chronocam.types import Array

ENTRIES = ("initial_state", "bias", "stabiliser")

_BENT = ("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "hard_silu")
FROM_ZERO = (*_BENT, "linear", "tanh", "hard_tanh", "tanh_shrink", "softsign")
"""Activations with f(0) = 0."""


class Ledger:
    """The entries of the ledgers of some rows, and the linear rule that fills them.

    The surrogate that is differentiated is linear in the features and, for each row, in three numbers equal
    to 1, by which every constant within it is multiplied: biases, initial states, and the ε of every
    denominator. By Euler's theorem the score is then the sum of each of these times its gradient, and these
    products are the relevances.

    entries: these numbers, `(row,)` each, in the order of `ENTRIES`.
    """

    def __init__(self, epsilon: float, entries: Sequence[Array]) -> None:
        self.epsilon = epsilon
        self._initial, self._bias, self._stabiliser = entries

    def bias(self, constant: Array, like: Array) -> Array:
        """Return a constant as an entry of the biases; like: what it is added to, whose rows come first."""
        return _spread(self._bias, like) * held(constant)

    def state(self, h: Array) -> Array:
        """Return an initial state that no feature changes, as its own entry."""
        return _spread(self._initial, h) * held(h)

    def share(self, z: Array) -> Array:
        """Return z, such that what it is the sum of shares its relevance by the linear rule, with ε."""
        return self.passed(z, held(z)) if self.epsilon else z

    def passed(self, z: Array, value: Array, limit: Any = 1.0) -> Array:
        """Return `value`, a function of z, such that z gets its relevance and shares it as in `share`.

        limit: value / z where z is 0.
        """
        if not self.epsilon:
            return z * ratio(value, z, limit)
        epsilon = self.epsilon * ops.where(held(z) < 0, -ops.ones_like(z), ops.ones_like(z))
        return (z + _spread(self._stabiliser, z) * epsilon) * ratio(value, held(z) + epsilon, limit)


def held(x: Array) -> Array:
    """Return x as a constant."""
    return ops.stop_gradient(x) if keras.ops.is_tensor(x) else x


def ratio(value: Array, z: Array, limit: Any = 1.0) -> Array:
    """Return value / z held constant, and `limit` where z is 0."""
    value, z = held(value), held(z)
    none = ops.equal(z, 0)
    return ops.where(none, ops.cast(held(limit), z.dtype), value / ops.where(none, ops.ones_like(z), z))


def _spread(entry: Array, like: Array) -> Array:
    """Return the rows' numbers, shaped to multiply an array of those rows, or of their steps folded into the batch."""
    each = like.shape[0] // entry.shape[0]
    entry = ops.repeat(entry, each) if each > 1 else entry
    return ops.cast(ops.reshape(entry, (-1, *[1] * (len(like.shape) - 1))), like.dtype)
