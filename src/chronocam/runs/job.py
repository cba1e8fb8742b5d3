"""What is done to each input, whatever it is: read, explain, draw, write the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chronocam.errors import ChronocamError, InputError
from chronocam.records import Failure, Result
from chronocam.runs.files import write_result
from chronocam.types import Inputs
from chronocam.types.findings import note

if TYPE_CHECKING:
    from chronocam.explanation import Explanation
    from chronocam.media import ClipPreprocess, Preprocess
    from chronocam.models import Loaded


@dataclass(frozen=True, kw_only=True)
class Job:
    """How the inputs of one call are explained; what depends on their kind is in the subclasses.

    out: the folder of the files.
    draws: whether pictures are drawn beside the arrays and the numbers.
    batch_size: how many inputs are explained from one pass.
    """

    loaded: Loaded
    out: Path
    draws: bool = True
    batch_size: int = 1

    def inputs(self, arguments: Sequence[str]) -> Iterator[Path | Failure]:
        """Yield what the arguments name, and a failure for each that names nothing."""
        raise NotImplementedError

    def explained(self, path: Path, name: str) -> Result:
        """Explain one input, write its pictures and arrays under a name, and return its result."""
        raise NotImplementedError

    def run(self, path: Path, name: str) -> Result:
        """Explain one input, write all of its files, and return its result."""
        return self.written(name, self.explained(path, name))

    def written(self, name: str, result: Result) -> Result:
        """Write the numbers of a result under a name, and return it."""
        write_result(self.out, name, self.loaded.spec, result)
        return result

    def results(self, inputs: Sequence[tuple[Path, str]]) -> Iterator[Result | Failure]:
        """Yield the result of each input, a path and the name of its files, or why it failed."""
        for path, name in inputs:
            try:
                yield self.run(path, name)
            except ChronocamError as error:
                yield Failure(input=str(path), error=str(error))


def finite(path: Path, explanation: Explanation) -> Explanation:
    """Return an explanation of the input at `path`. Raises InputError where its numbers are not finite."""
    known = explanation.columns_of(0)
    if not (
        np.isfinite(explanation.scores[0, known]).all() and np.isfinite(explanation.maps[0, known]).all()
    ):
        raise InputError(f"`{path}`: {explanation.diagnostics[-1]}")
    return explanation


@dataclass(frozen=True, kw_only=True)
class MapJob(Job):
    """How pictures or clips are explained by maps.

    targets: whatever `cc.explain` takes.
    methods: their names, or what makes them.
    layers: None for the model's default; a list among them is fused.
    fast, precision: as of `chronocam.methods.Method`.
    """

    preprocess: Preprocess | ClipPreprocess
    targets: Any
    methods: Sequence[Any]
    layers: Sequence[str | list[str]] | None
    align: str
    fast: bool = False
    precision: str | None = None

    def read(self, path: Path) -> Any:
        """Return the picture or clip at `path`. Raises a ChronocamError for anything else."""
        raise NotImplementedError

    def draw(self, medium: Any, explanations: dict[str, Explanation], path: Path, name: str) -> Result:
        """Write the pictures of one input, and return its result."""
        raise NotImplementedError

    def explain(self, inputs: Inputs) -> dict[str, Explanation]:
        """Return the explanations of a batch by name, from one forward pass.

        What is assumed of the inputs is the first finding of each. Raises InputError where the model fails on
        what the preprocessing makes.
        """
        from chronocam._explain import explain

        how: dict[str, Any] = {"methods": self.methods, "layers": self.layers, "align": self.align}
        if self.fast or self.precision is not None:  # makers of a user's own may not know them
            how |= {"fast": self.fast, "precision": self.precision}
        # More than the usual limit only where so many inputs were asked for at once.
        size = max(32, len(inputs))
        try:
            explanations = explain(self.loaded.model, inputs, self.targets, batch_size=size, **how)
        except InputError as error:
            if self.preprocess.assumption is None or error.__cause__ is None:
                raise
            kind = type(self.preprocess).__name__
            todo = (
                f"give --size, --axes or --channels, or return (model, {kind}, labels) from a python: factory"
            )
            raise InputError(f"{error}; how pictures are prepared is assumed: {todo}") from error
        assumed = [note(self.preprocess.assumption)] if self.preprocess.assumption else []
        return {name: replace(one, findings=(*assumed, *one.findings)) for name, one in explanations.items()}

    def explained(self, path: Path, name: str) -> Result:
        """Explain one input, write its pictures and arrays under a name, and return its result."""
        medium = self.read(path)
        return self.drawn(medium, self.explain(self.made_of(medium)), path, name)

    def made_of(self, medium: Any) -> Inputs:
        """Return the model's inputs of one picture or clip."""
        return self.preprocess(medium)[None]

    def drawn(self, medium: Any, explanations: dict[str, Explanation], path: Path, name: str) -> Result:
        """Return the result of `draw`; raises InputError where maps or scores are not finite."""
        for one in explanations.values():
            finite(path, one)
        return self.draw(medium, explanations, path, name)

    def diagnostics(self, explanations: dict[str, Explanation]) -> tuple[str, ...]:
        """Return the findings of the explanations in words, each once."""
        return tuple(dict.fromkeys(text for one in explanations.values() for text in one.diagnostics))
