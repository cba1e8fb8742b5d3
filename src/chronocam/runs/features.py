"""Sequences of features explained: relevance, a sheet and the numbers for each method and target."""

from __future__ import annotations

import glob
import tokenize
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from jaxtyping import Float

from chronocam.errors import InputError, MediaError
from chronocam.runs.job import slug, write_json
from chronocam.runs.targets import at_steps, label
from chronocam.sequence import SequenceExplanation, SequenceMethod

SUFFIX: Final = ".npy"
_TOP = 10  # features named per step
_TOLERANCE = 0.1  # as in SequenceExplanation.settling
_T = TypeVar("_T")


def holds_features(inputs: Sequence[str]) -> bool:
    """Say whether the arguments name arrays, or folders of them. Raises InputError where only some do."""
    others = [given for given in inputs if not _names_arrays(given)]
    if 0 < len(others) < len(inputs):
        raise InputError(
            f"`{others[0]}` is no {SUFFIX} file, but others are; explain features in a call of their own"
        )
    return not others


def _names_arrays(given: str) -> bool:
    path = Path(given).expanduser()
    return bool(_inside(path)) if path.is_dir() else path.suffix.lower() == SUFFIX


def _inside(folder: Path) -> list[Path]:
    files = (path for path in folder.iterdir() if path.suffix.lower() == SUFFIX and path.is_file())
    return sorted(path for path in files if not path.name.startswith("."))


def found_features(inputs: Sequence[str]) -> Iterator[tuple[Path, str | None]]:
    """Yield every array once, those of a folder by name; for an argument that names none, what is wrong with it."""
    seen: set[Path] = set()
    for given in inputs:
        path = Path(given).expanduser()
        if path.is_dir():
            matches = _inside(path)
        else:
            found = sorted(glob.iglob(str(path), recursive=True))  # noqa: PTH207 (absolute ones)
            matches = [path] if path.is_file() else [Path(one) for one in found]
        if not matches:
            what = "nothing matches" if glob.has_magic(str(path)) else "there is no"
            yield path, f"{what} `{given}`; expected arrays `(time, feature)` that numpy.save wrote"
        yield from ((match, None) for match in matches if match not in seen)
        seen.update(matches)


@dataclass(frozen=True)
class FeatureJob:
    """How the arrays of one call are explained.

    targets: the classes, each explained by itself; none for the predicted class (at every step, where the
        model gives
    one per step). methods: what makes each of a model. steps: the output steps explained, all where there are
    none.
    """

    loaded: Any
    targets: Sequence[Any]
    methods: Mapping[str, Callable[[Any], SequenceMethod]]
    steps: Sequence[int]
    out: Path

    def found(self, inputs: Sequence[str]) -> Iterator[tuple[Path, str | None]]:
        """Yield every array once."""
        return found_features(inputs)

    def run(self, path: Path, name: str) -> dict[str, Any]:
        """Explain one array, write its files and return its results."""
        result = {"input": str(path), **self.explained(read_features(path), name)}
        write_json(self.out, name, self.loaded.spec, result)
        return result

    def explained(self, features: Float[np.ndarray, "time feature"], name: str) -> dict[str, Any]:
        """Explain features by each method and for each target, write their files and return the results."""
        entries: list[dict[str, Any]] = []
        findings: list[str] = []
        for method in self.methods:
            for k, target in enumerate(self.targets or [None]):
                targets = at_steps([] if target is None else [target], self.steps)
                explanation = self.relevance(method, features[None], targets)
                called = "predicted" if target is None else f"{k}-{slug(label(self.loaded, target))}"
                entries.append(self._written(explanation, f"{name}.{slug(method)}.{called}"))
                findings.extend(explanation.diagnostics)
        shape = {"steps": len(features), "features": features.shape[1]}
        return {**shape, "sequences": entries, "diagnostics": list(dict.fromkeys(findings))}

    def relevance(
        self, method: str, features: Float[np.ndarray, "1 time feature"], targets: Any
    ) -> SequenceExplanation:
        """Return the relevance of features. Raises InputError where it is not finite."""
        explanation = self.methods[method](self.loaded.model).explain(features, targets)
        if not (np.isfinite(explanation.relevance).all() and np.isfinite(explanation.scores).all()):
            raise InputError(f"{method} gives values that are not finite; check the model's weights for NaN")
        return explanation

    def _written(self, explanation: SequenceExplanation, stem: str) -> dict[str, Any]:
        # A method's name may end in what reads as a suffix: names are joined, not replaced.
        relevance = explanation.save(self.out / f"{stem}.npz")
        sheet = explanation.save(self.out / f"{stem}.png")
        return {**_numbers(explanation), "relevance": str(relevance), "sheet": str(sheet)}


def read_features(path: Path) -> Float[np.ndarray, "time feature"]:
    """Read an array of one sequence; no code in the file is run.

    Raises MediaError for what is no array file, InputError for other shapes and types, and NaN.
    """
    try:
        # Mapped, a file that is shorter than it says is refused before memory is taken for it.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (
        OSError,
        ValueError,
        EOFError,
        SyntaxError,
        tokenize.TokenError,
        TypeError,
        OverflowError,
    ) as error:
        todo = f"expected {SUFFIX} with numbers (time, feature), as numpy.save writes it; pickled objects are refused"
        raise MediaError(f"`{path}` cannot be read; {todo}") from error
    if not isinstance(mapped, np.ndarray):
        raise MediaError(f"`{path}` is an archive of arrays; give each as {SUFFIX}")
    if mapped.ndim != 2 or 0 in mapped.shape:
        raise InputError(
            f"`{path}` has shape {mapped.shape}; expected (time, feature), one sequence per file"
        )
    if not np.issubdtype(mapped.dtype, np.floating):
        raise InputError(f"`{path}` holds {mapped.dtype}; expected floating-point features, such as float32")
    features = np.array(mapped, dtype=mapped.dtype.newbyteorder("="))
    if bad := int((~np.isfinite(features)).sum()):
        raise InputError(f"`{path}` holds {bad} NaN or infinite values of {features.size}; replace those")
    return features


def summary(result: dict[str, Any]) -> str:
    """Return what one line says of the results of an array, or of a clip's features."""
    parts = []
    for entry in result["sequences"]:
        count = len(entry["targets"])
        what = f"{entry['targets'][0]} {entry['scores'][0]:.3g}" if count == 1 else f"{count} targets"
        settled = entry["settling"]
        when = ""
        if settled is not None:
            when = ", never settled" if settled["step"] is None else f", settled at step {settled['step']}"
        parts.append(f"{entry['method']}: {what}{when} → {entry['sheet']}")
    if "sheet" in result:
        parts.append(f"on the frames → {result['sheet']}")
    return f"{result['input']}: " + "; ".join(parts)


def _numbers(explanation: SequenceExplanation) -> dict[str, Any]:
    """Return what the JSON says of one explanation."""
    steps, votes = _or_none(lambda: explanation.steps), _or_none(lambda: explanation.votes)
    return {
        "method": explanation.method,
        "targets": [info.name for info in explanation.targets[0]],
        "indices": [info.index for info in explanation.targets[0]],
        "scores": explanation.scores[0].tolist(),
        "steps": None if steps is None else steps.tolist(),
        "votes": None if votes is None else votes[0].tolist(),
        "ledger": {name: values[0].tolist() for name, values in explanation.ledger.items()} or None,
        "settling": _settling(explanation),
        "horizon": _horizon(explanation),
        "top_features": _top_features(explanation),
    }


def _or_none(read: Callable[[], _T]) -> _T | None:
    """Return what is read, None where the targets are of no single steps or in no order."""
    try:
        return read()
    except InputError:
        return None


def _settling(explanation: SequenceExplanation) -> dict[str, Any] | None:
    found = _or_none(lambda: explanation.settling(_TOLERANCE))
    if found is None or len(found.steps) < 2:
        return None
    step = int(found.settled[0])
    curves = {name: _plain(values[0]) for name, values in vars(found.similarity).items()}
    return {"step": None if step < 0 else step, "tolerance": _TOLERANCE, **curves}


def _horizon(explanation: SequenceExplanation) -> dict[str, Any] | None:
    found = _or_none(explanation.memory_horizon)
    if found is None:
        return None
    return {"lags": found.lags.tolist(), "share": _plain(found.share[0]), "reach": int(found.reach()[0])}


def _top_features(explanation: SequenceExplanation) -> list[dict[str, Any]]:
    """Return the features of largest positive relevance: of each output step's own, or of every step per target."""
    relevance = explanation.relevance[0]
    count, time, features = relevance.shape
    own = _or_none(explanation.own)
    if own is not None and count > 1:
        places = [(k, int(step)) for k, step in enumerate(explanation.steps)]
    else:
        places = [(k, t) for k in range(count) for t in range(time)]
    chosen = explanation.top_features(min(1.0, _TOP / features))[0]
    named = []
    for k, t in places:
        top = np.flatnonzero(chosen[k, t])
        top = top[np.argsort(-relevance[k, t, top], kind="stable")]
        named.append(
            {"target": k, "step": t, "features": top.tolist(), "relevance": relevance[k, t, top].tolist()}
        )
    return named


def _plain(values: np.ndarray) -> list[float | None]:
    """Return numbers as JSON has them: it has no NaN."""
    return [None if np.isnan(value) else round(float(value), 6) for value in values]
