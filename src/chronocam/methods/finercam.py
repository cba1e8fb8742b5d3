"""Finer-CAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from chronocam.errors import TargetError, check_whole
from chronocam.maps.arrays import namespace, placed, to_numpy
from chronocam.methods.gradcam import GradCAM
from chronocam.targets.classes import both_sides, classes_of, is_one_logit, is_row, rows_of
from chronocam.types import Array, Outputs, Scored, Target


@dataclass(kw_only=True, eq=False)
class FinerCAM(GradCAM):
    """Finer-CAM: Grad-CAM of what sets a class apart from the classes most like it.

    The score is Σ_d p_d (y_c − α y_d) / Σ_d p_d over the `comparisons` classes d whose logits are closest to
    that of the class c explained, with p their softmax probabilities. As p is divided by its sum, the softmax
    is taken over these classes alone: the same value, and no 0/0 where all of them are improbable. One logit
    is two classes, y_1 = −y_0, of which each is compared with the other: (1 + α) y_c.

    alpha: how much of the other classes' logits is subtracted.
    comparisons: how many of the most similar classes to compare with.

    Source: Zhang et al. 2025 (arXiv:2501.11309), eq. 4 and 5.

    Example:
    >>> explanation = cc.FinerCAM(model, "conv2", comparisons=2).explain(images, "dog")
    >>> str(explanation.targets[0][0]), explanation.maps.shape
    ('dog', (2, 1, 8, 8))
    """

    alpha: float = 1.0
    comparisons: int = 3
    name: ClassVar[str] = "finercam"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("comparisons", self.comparisons, "at least one class to compare with")

    def retarget(self, target: Target) -> Target:
        """Return the contrastive target of every class that `target` explains."""
        return _Finer(target, self.alpha, self.comparisons)


class _Finer(Target):
    """The lead of a target's class over the classes most like it."""

    def __init__(self, target: Target, alpha: float, comparisons: int) -> None:
        self.target = target
        self.alpha = alpha
        self.comparisons = comparisons
        self.reads = target.reads

    def __call__(self, outputs: Outputs) -> Scored:
        infos = self.target.scored(outputs).infos
        shape = tuple(outputs.logits.shape)
        one_logit = is_row(shape) and is_one_logit(rows_of(outputs).shape[1], outputs)
        if not one_logit and (not is_row(shape) or rows_of(outputs).shape[1] < 2):
            raise TargetError(f"Finer-CAM compares classes; the outputs have shape {shape}")
        for info in infos[0]:
            if info.index is None or info.signed:
                raise TargetError(
                    f"Finer-CAM compares classes, and `{info}` is not one: give a class, or use `gradcam`"
                )
        chosen = np.asarray([[info.index for info in row] for row in infos])
        choosing = to_numpy(outputs.choosing).astype(np.float64).reshape(outputs.batch, -1)
        similar = self._similar(both_sides(choosing) if one_logit else choosing, chosen)
        return Scored(self._scores(classes_of(outputs), chosen, similar), infos)

    def _scores(self, logits: Array, chosen: np.ndarray, similar: np.ndarray) -> Array:
        xp = namespace(logits)
        batch = chosen.shape[0]

        def pick(values: Array, index: np.ndarray) -> Array:
            flat = placed(index.reshape(batch, -1), values)
            return xp.reshape(xp.take_along_axis(values, flat, axis=1), index.shape)

        score, others = pick(logits, chosen)[:, :, None], pick(logits, similar)
        odds = xp.exp(others - xp.max(others, axis=2, keepdims=True))
        return xp.sum(odds * (score - self.alpha * others), axis=2) / xp.sum(odds, axis=2)

    def _similar(self, logits: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Return the classes closest in logit to each chosen class, `(batch, target, comparison)`."""
        score = np.take_along_axis(logits, chosen, axis=1)
        distance = np.abs(logits[:, None, :] - score[:, :, None])
        np.put_along_axis(distance, chosen[:, :, None], np.inf, axis=2)
        count = min(self.comparisons, logits.shape[1] - 1)
        return np.argsort(distance, axis=2, kind="stable")[:, :, :count]
