"""What is done to each input, whatever it is: read, explain, draw, write the numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chronocam.errors import InputError

LONGEST_SIDE = 1024  # of the pictures written, in pixels


@dataclass(frozen=True)
class Job:
    """How the inputs of one call are explained; what depends on their kind is in the subclasses."""

    loaded: Any
    targets: Any
    methods: list[Any]
    layers: list[str] | None
    align: str
    out: Path

    def run(self, path: Path, name: str) -> dict[str, Any]:
        """Explain one input, write its files and return its results."""
        medium = self.read(path)
        explanations = self.explain(medium)
        for explanation in explanations.values():
            if not (np.isfinite(explanation.scores).all() and np.isfinite(explanation.maps).all()):
                raise InputError(f"`{path}`: {explanation.diagnostics[-1]}")
        findings = dict.fromkeys(finding for e in explanations.values() for finding in e.diagnostics)
        result = {"input": str(path), **self.draw(medium, explanations, name), "diagnostics": list(findings)}
        write_json(self.out, name, self.loaded.spec, result)
        return result

    def found(self, inputs: Sequence[str]) -> Iterator[tuple[Path, str | None]]:
        """Yield what the arguments name, and what is wrong with those that name nothing."""
        raise NotImplementedError

    def read(self, path: Path) -> Any:
        """Return the picture or clip at `path`. Raises a ChronocamError for anything else."""
        raise NotImplementedError

    def explain(self, medium: Any) -> dict[str, Any]:
        """Return the explanations by name."""
        from chronocam._explain import explain

        inputs = self.loaded.preprocess(medium)[None]
        return explain(
            self.loaded.model,
            inputs,
            self.targets,
            methods=self.methods,
            layers=self.layers,
            align=self.align,
        )

    def draw(self, medium: Any, explanations: dict[str, Any], name: str) -> dict[str, Any]:
        """Write the pictures of one input, and return its results."""
        raise NotImplementedError


def numbers(explanation: Any, k: int) -> dict[str, Any]:
    """Return what the JSON says of one map of any input."""
    info = explanation.targets[0][k]
    return {
        "method": explanation.method,
        "layer": explanation.layer,
        "grid": list(explanation.maps.shape[2:]),
        "target": info.name,
        "index": info.index,
        "score": float(explanation.scores[0, k]),
        "confidence": _confidence(explanation, k),
        **_of_steps(info),
    }


def _confidence(explanation: Any, k: int) -> float | None:
    found = explanation.confidences
    return None if found is None or np.isnan(found[0, k]) else round(float(found[0, k]), 6)


def _of_steps(info: Any) -> dict[str, Any]:
    """Return the step that is explained and its vote, or the votes of all steps, where outputs have steps."""
    if hasattr(info, "votes"):
        return {"votes": list(info.votes)}
    return {"step": info.step, "vote": info.vote} if hasattr(info, "vote") else {}


def write_json(out: Path, name: str, spec: str, result: dict[str, Any]) -> None:
    """Write the results of one input."""
    from chronocam.media.files import replace_file

    text = json.dumps({"model": spec, **result}, indent=2)
    replace_file(out / f"{name}.json", lambda temporary: temporary.write_text(text))


def rounded(values: Any) -> list[float]:
    """Return numbers as short as JSON needs them."""
    return [round(float(value), 2) for value in values]


def slug(text: str) -> str:
    """Return `text` as part of a file name: letters, digits, dots and hyphens, never a path."""
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.")[:80] or "unnamed"
