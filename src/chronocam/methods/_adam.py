"""Adam, for masks that are learned."""

from __future__ import annotations

from typing import Any

import numpy as np


class Adam:
    """Adam with its usual decay rates (arXiv:1412.6980, algorithm 1)."""

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.steps = 0
        self.first: Any = 0.0
        self.second: Any = 0.0

    def step(self, slope: np.ndarray) -> np.ndarray:
        """Return what is to be taken from the parameters, given the slope of the loss in them."""
        self.steps += 1
        self.first = 0.9 * self.first + 0.1 * slope
        self.second = 0.999 * self.second + 0.001 * slope**2
        mean, square = self.first / (1 - 0.9**self.steps), self.second / (1 - 0.999**self.steps)
        return np.asarray(self.lr * mean / (np.sqrt(square) + 1e-8))
