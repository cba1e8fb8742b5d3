"""What a relevance method is: its options, and how it attributes the scores of one sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from chronocam._repr import ShortRepr
from chronocam.engines import engine_for
from chronocam.sequence.explanation import SequenceExplanation
from chronocam.sequence.run import explain
from chronocam.sequence.sample import Attribution, Reading, Sample
from chronocam.targets.labels import names_of

if TYPE_CHECKING:
    from chronocam.engines.base import Engine
    from chronocam.types import Inputs

_METHODS: dict[str, type[SequenceMethod]] = {}
METHODS: Final[Mapping[str, type[SequenceMethod]]] = MappingProxyType(_METHODS)
"""Every relevance method by its name."""


@dataclass(kw_only=True, eq=False)
class SequenceMethod(ShortRepr):
    """A way to find the relevance of every feature at every step, bound to a model.

    model: a `torch.nn.Module` or a `keras.Model` that takes features `(batch, time, feature)`; where a module
        has a method `from_features`, that one is called.
    batch_first: False for a PyTorch model that takes, and returns at every step, `(time, batch, …)`.
    labels: the names of the classes, in their order; None for those that the model carries.

    Raises ModelError if `model` is neither a PyTorch nor a Keras model; InputError for labels without order.

    Example:
        >>> class Zeros(cc.sequence.SequenceMethod):  # a method of your own
        ...     def attribute(self, sample):
        ...         return cc.sequence.Attribution(np.zeros((len(sample.scores), *sample.features.shape)))
        >>> Zeros(rnn).explain(features, 0).relevance.shape
        (1, 1, 6, 4)
    """

    model: Any = field(kw_only=False)
    batch_first: bool = True
    labels: Sequence[str] | None = None
    name: ClassVar[str] = "own"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in cls.__dict__:
            _METHODS[cls.name] = cls

    def __post_init__(self) -> None:
        self.engine: Engine = engine_for(self.model)
        if self.labels is not None:
            self.labels = names_of(self.labels)

    def explain(self, features: Inputs, targets: object = None) -> SequenceExplanation:
        """Explain `features` for `targets`.

        features: `(batch, time, feature)`, NumPy or the model's framework; a tuple of them and what else the
            model takes (such as lengths `(batch,)`; `cc.Shared(x)` for what all samples share); or a
            PackedSequence, whose relevance is zero past a sample's end.
        targets: as for `chronocam.explain`. Where the model gives logits at every step, a class is explained
            at every step, and so is None, the class predicted there; see `cc.targets.Step`, `EveryStep` and
            `MajorityVote`.

        Samples are explained one by one, several targets per backward pass: memory grows with neither.
        Raises InputError for other shapes, NaN and axes in another order than the model's; TargetError;
        ModelError.
        """
        reading = Reading(self.batch_first, self.labels)
        return explain(self.engine, reading, self.name, self.attribute, features, targets)

    def attribute(self, sample: Sample) -> Attribution:
        """Return the relevance of one sample."""
        raise NotImplementedError(f"{type(self).__name__} must define attribute(sample)")
