"""`cc.load`: whatever explanation was saved, by what its file says it is."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from chronocam.errors import MediaError
from chronocam.explanation import Explanation
from chronocam.explanation import load as load_maps
from chronocam.explanation.file import SOUGHT
from chronocam.media.archive import LARGEST, open_archive

if TYPE_CHECKING:
    from chronocam.sequence import SequenceExplanation

_Kind = TypeVar("_Kind", "Explanation", "SequenceExplanation")


@overload
def load(path: str | Path, *, limit: int = ...) -> Explanation | SequenceExplanation: ...
@overload
def load(path: str | Path, kind: type[_Kind], *, limit: int = ...) -> _Kind: ...
def load(
    path: str | Path, kind: type[Any] | None = None, *, limit: int = LARGEST
) -> Explanation | SequenceExplanation:
    """Read an explanation that its `save` wrote as `.npz`. No code in the file is run.

    kind: `cc.Explanation` or `cc.sequence.SequenceExplanation`, where only one of them will do (type checkers
        then know it); None takes both.
    limit: bytes that the arrays may take in memory, half a gigabyte by default; the sizes that a file claims
        are checked before they are read.

    Raises MediaError for a missing file, one that is not a saved explanation or whose parts do not fit each
    other, one that is too large, and one of another kind.

    Example:
        >>> cc.load(cc.GradCAM(model).explain(images).save("maps.npz"))
        Explanation(gradcam at relu2: 2 samples, 1 target, grid 8 × 8)
        >>> cc.load(cc.sequence.LRP(rnn).explain(features, 0).save("steps.npz"))
        SequenceExplanation(lrp: 1 sample, 1 target, 6 steps × 4 features)
    """
    explanation: Explanation | SequenceExplanation
    with open_archive(path, SOUGHT, limit) as archive:
        if archive.format.startswith("chronocam sequence"):
            # What relevance needs is imported for files that hold some.
            explanation = import_module("chronocam.sequence").load(path, limit)
        else:
            explanation = load_maps(path, limit)
    if kind is not None and not isinstance(explanation, kind):
        raise MediaError(f"`{path}` holds {type(explanation).__name__}; expected {kind.__name__}")
    return explanation
