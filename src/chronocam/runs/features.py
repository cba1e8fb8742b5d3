"""Arrays of features explained: relevance, a sheet and the numbers for each method and target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from chronocam.errors import InputError
from chronocam.records import Failure, FeatureResult, SequenceEntry
from chronocam.runs.arrays import read_features
from chronocam.runs.entries import sequence_entry
from chronocam.runs.files import slug
from chronocam.runs.inputs import find_arrays, search
from chronocam.runs.job import Job
from chronocam.runs.targets import at_steps, label

if TYPE_CHECKING:
    from chronocam.sequence import SequenceExplanation, SequenceMethod


@dataclass(frozen=True, kw_only=True)
class FeatureJob(Job):
    """How arrays of features are explained.

    targets: the classes, each explained by itself; none for the predicted class (at every step, where the
        model has an output at each).
    methods: what makes each of a model, by name.
    steps: the output steps explained; none for all.
    """

    targets: Sequence[Any]
    methods: Mapping[str, Callable[[Any], SequenceMethod]]
    steps: Sequence[int]

    def inputs(self, arguments: Sequence[str]) -> Iterator[Path | Failure]:
        """Yield every array once."""
        return search(arguments, find_arrays)

    def explained(self, path: Path, name: str) -> FeatureResult:
        """Explain one array, write its arrays and sheets under a name, and return its result."""
        features = read_features(path)
        return self.result(path, features, name)

    def result(self, path: Path, features: Float[np.ndarray, "time feature"], name: str) -> FeatureResult:
        """Explain features by each method and for each target, write their files and return the result."""
        entries: list[SequenceEntry] = []
        diagnostics: list[str] = []
        for method in self.methods:
            for k, target in enumerate(self.targets or [None]):
                targets = at_steps([] if target is None else [target], self.steps)
                explanation = self.relevance(method, features[None], targets)
                which = "predicted" if target is None else f"{k}-{slug(label(self.loaded, target))}"
                stem = f"{name}.{slug(method)}.{which}"
                # A method's name may end in what reads as a suffix: names are joined, not replaced.
                file = explanation.save(self.out / f"{stem}.npz")
                sheet = explanation.save(self.out / f"{stem}.png") if self.draws else None
                entries.append(sequence_entry(explanation, file, sheet))
                diagnostics.extend(explanation.diagnostics)
        return FeatureResult(
            input=str(path),
            steps=len(features),
            features=features.shape[1],
            sequences=tuple(entries),
            diagnostics=tuple(dict.fromkeys(diagnostics)),
        )

    def relevance(
        self, method: str, features: Float[np.ndarray, "1 time feature"], targets: Any
    ) -> SequenceExplanation:
        """Return the relevance of features. Raises InputError where it is not finite."""
        explanation = self.methods[method](self.loaded.model).explain(features, targets)
        if not (np.isfinite(explanation.relevance).all() and np.isfinite(explanation.scores).all()):
            raise InputError(f"{method} gives values that are not finite; check the model's weights for NaN")
        return explanation
