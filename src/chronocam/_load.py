"""`cc.load`: whatever explanation was saved, by what its file says it is."""

from __future__ import annotations

import json
import zipfile
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from chronocam.errors import MediaError
from chronocam.explanation import Explanation
from chronocam.explanation import load as load_maps

if TYPE_CHECKING:
    from chronocam.sequence import SequenceExplanation

_Kind = TypeVar("_Kind", "Explanation", "SequenceExplanation")


@overload
def load(path: str | Path) -> Explanation | SequenceExplanation: ...
@overload
def load(path: str | Path, kind: type[_Kind]) -> _Kind: ...
def load(path: str | Path, kind: type[Any] | None = None) -> Explanation | SequenceExplanation:
    """Read an explanation that its `save` wrote as `.npz`. No code in the file is run.

    kind: `cc.Explanation` or `cc.sequence.SequenceExplanation`, where only one of them will do (type checkers
        then know it); None takes both.

    Raises MediaError for a missing file, one that is not a saved explanation, and one of another kind.

    Example:
        >>> cc.load(cc.GradCAM(model).explain(images).save("maps.npz"))
        Explanation(gradcam at relu2: 2 samples, 1 targets, grid 8 × 8)
        >>> cc.load(cc.sequence.LRP(rnn).explain(features, 0).save("steps.npz"))
        SequenceExplanation(lrp: 1 samples, 1 targets, 6 steps × 4 features)
    """
    explanation: Explanation | SequenceExplanation
    if _format(path).startswith("chronocam sequence"):
        # What relevance needs is imported for files that hold some.
        explanation = import_module("chronocam.sequence").load(path)
    else:
        explanation = load_maps(path)
    if kind is not None and not isinstance(explanation, kind):
        raise MediaError(f"`{path}` holds {type(explanation).__name__}; expected {kind.__name__}")
    return explanation


def _format(path: str | Path) -> str:
    """Return the format that the file's header names; nothing where there is none."""
    unread = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)
    with suppress(*unread), np.load(path, allow_pickle=False) as file:
        return str(json.loads(str(file["header"]))["format"])
    return ""
