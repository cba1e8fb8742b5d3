"""Where relevance goes that the features do not get: biases, initial states, stabilisers."""

from __future__ import annotations

import torch
from torch import Tensor


class Ledger:
    """The entries of one sample's ledger, and the linear rule that fills them.

    The surrogate that is differentiated is linear in the features and in three numbers equal to 1, by which
    every
    constant within it is multiplied: biases, initial states, and the ε of every denominator. By Euler's
    theorem the score is then the sum of each of these times its gradient, and these products are the
    relevances.
    """

    def __init__(self, epsilon: float, like: Tensor) -> None:
        self.epsilon = epsilon
        self._bias, self._initial, self._stabiliser = (
            torch.ones((), dtype=like.dtype, device=like.device, requires_grad=True) for _ in range(3)
        )

    @property
    def entries(self) -> dict[str, Tensor]:
        """The numbers that stand for what is no feature, by the name of their term."""
        return {"initial_state": self._initial, "bias": self._bias, "stabiliser": self._stabiliser}

    def bias(self, constant: Tensor | float | int) -> Tensor:
        """Return a constant as an entry of the biases."""
        return self._bias * (constant.detach() if isinstance(constant, Tensor) else constant)

    def signal(self, x: Tensor) -> Tensor:
        """Return a layer's input: on the path from the features as it is, else as an entry of the biases."""
        return x if x.requires_grad else self.bias(x)

    def state(self, h: Tensor) -> Tensor:
        """Return an initial state: on the path from the features as it is, else as its own entry."""
        return h if h.requires_grad else self._initial * h

    def share(self, z: Tensor) -> Tensor:
        """Return z, such that what it is the sum of shares its relevance by the linear rule, with ε."""
        if not self.epsilon:
            return z
        return self.passed(z, z.detach())

    def passed(self, z: Tensor, value: Tensor, limit: Tensor | float = 1.0) -> Tensor:
        """Return `value`, a function of z, such that z gets its relevance and shares it as in `share`.

        limit: value / z where z is 0.
        """
        held = z.detach()
        if not self.epsilon:
            return z * ratio(value, held, limit)
        epsilon = self.epsilon * torch.where(held < 0, -torch.ones_like(held), torch.ones_like(held))
        return (z + self._stabiliser * epsilon) * ratio(value, held + epsilon, limit)


def ratio(value: Tensor, z: Tensor, limit: Tensor | float = 1.0) -> Tensor:
    """Return value / z held constant, and `limit` where z is 0."""
    value, z = value.detach(), z.detach()
    none = z == 0
    return torch.where(none, limit, value / torch.where(none, 1, z)).to(z.dtype)
