"""What a relevance method is: its options, and how it attributes the scores of one sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from chronocam.maps.arrays import to_numpy
from chronocam.sequence.explanation import SequenceExplanation
from chronocam.types import Scored, TargetInfo

METHODS: dict[str, type[SequenceMethod]] = {}
"""Every relevance method by its name."""

Relevance = Float[np.ndarray, "target time feature"]


@dataclass(frozen=True)
class Attribution:
    """What a method found for one sample: relevance, the terms of its ledger `(target,)`, and remarks."""

    relevance: Relevance
    ledger: dict[str, Float[np.ndarray, " target"]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Sample(ABC):
    """One sequence bound to a model and its targets, as a method sees it."""

    @property
    @abstractmethod
    def features(self) -> Float[np.ndarray, "time feature"]:
        """The features, in the model's precision."""

    @property
    @abstractmethod
    def _clean(self) -> tuple[Any, Scored, bool]:
        """The logits at the features, their scores, and whether several points can be scored at once."""

    @property
    def scores(self) -> Float[np.ndarray, " target"]:
        """The scores explained."""
        return to_numpy(self._clean[1].values)[0].astype(float)

    @property
    def infos(self) -> tuple[TargetInfo, ...]:
        """What each score explains."""
        return self._clean[1].infos[0]

    @abstractmethod
    def gradients(
        self, points: Sequence[np.ndarray], weights: Sequence[float]
    ) -> tuple[Float[np.ndarray, "point target"], Relevance]:
        """Return the scores at `points` `(time, feature)`, and Σ_n weights_n ∂score/∂features at point n.

        Classes are chosen at the sample itself.
        """

    @abstractmethod
    def propagated(self, epsilon: float) -> Attribution:
        """Return layer-wise relevance and its ledger."""


@dataclass(kw_only=True, eq=False)
class SequenceMethod:
    """A way to find the relevance of every feature at every step, bound to a model.

    model: a `torch.nn.Module` or a `keras.Model` that takes features `(batch, time, feature)`; where a module
        has a method `from_features`, that one is called.
    batch_first: False for a PyTorch model that takes, and returns at every step, `(time, batch, …)`.

    Raises ModelError for what is no model.
    """

    model: Any = field(kw_only=False)
    batch_first: bool = True
    name: ClassVar[str]
    run: ClassVar[Callable[[SequenceMethod, Any, Any], SequenceExplanation]]

    def __init_subclass__(cls) -> None:
        if "name" in cls.__dict__:
            METHODS[cls.name] = cls

    def __post_init__(self) -> None:
        from chronocam.engines import engine_for

        self.engine = engine_for(self.model)

    def explain(self, features: Any, targets: Any = None) -> SequenceExplanation:
        """Explain `features` for `targets`.

        features: `(batch, time, feature)`, NumPy or the model's framework; a tuple of them and what else the
            model takes (such as lengths `(batch,)`); or a PackedSequence, whose relevance is zero past a
            sample's end.
        targets: as for `chronocam.explain`. Where the model gives logits at every step, a class is explained
            at every step, and so is None, the class predicted there; see `cc.targets.Step`, `EveryStep` and
            `MajorityVote`.

        Samples are explained one by one, several targets per backward pass: memory grows with neither.
        Raises InputError for other shapes, NaN and axes in another order than the model's; TargetError;
        ModelError.
        """
        return type(self).run(self, features, targets)

    def attribute(self, sample: Sample) -> Attribution:
        """Return the relevance of one sample."""
        raise NotImplementedError(f"{type(self).__name__} must define attribute(sample)")
