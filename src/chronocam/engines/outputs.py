"""Which part of what a model returned holds its scores, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeGuard, TypeVar

from chronocam.errors import ModelError

T = TypeVar("T")

# What a recording notes about its scores.

NO_SOFTMAX = "scores look like probabilities and no final softmax was found; name output_layer="
NO_RELU = "the model calls no ReLU: guided backpropagation equals the plain gradient"


def logits_note(gate: str) -> str:
    """Return what is noted where logits are read before a final gate."""
    return f"scores are logits, read before the model's final {'sigmoid' if gate == 'sigmoid' else 'softmax'}"


def scores_in(
    raw: Any, flat: Sequence[Any], is_float: Callable[[Any], TypeGuard[T]], strict: bool
) -> T | None:
    """Return the tensor that holds the scores: `logits`, `out`, the only one, or the first of a plain tuple.

    The first of a tuple is refused where another is shaped more like scores than it is: features are often
    returned first.

    flat: all that is in the output. Where no tensor holds them, raises ModelError if `strict`.
    """
    # Classifiers, torchvision's segmentation networks, pictures beside captions.
    for name in ("logits", "out", "logits_per_image"):
        value = raw.get(name) if isinstance(raw, Mapping) else getattr(raw, name, None)
        if is_float(value):
            return value
    tensors = [x for x in flat if is_float(x)]
    if len(tensors) == 1:
        return tensors[0]
    if isinstance(raw, (tuple, list)) and not any(isinstance(part, Mapping) for part in raw):
        better = _more_like_scores([tuple(getattr(x, "shape", ())) for x in tensors])
        if tensors and better is None:
            return tensors[0]
    return None if not strict else _refuse(raw, [tuple(getattr(x, "shape", ())) for x in tensors])


def _more_like_scores(shapes: Sequence[tuple[int, ...]]) -> int | None:
    """Return which of several tensors is shaped more like scores than the first, None where none is.

    That is one row of numbers per sample beside a feature map or tokens, or beside a single number, as a loss
    is, and a much shorter row beside a row.
    Weights of attention over the steps of the first, and its own classes without them, do not count.
    """
    first = shapes[0] if shapes else (1,)
    if not first:
        return next((at for at, shape in enumerate(shapes) if len(shape) == 2), None)
    if len(first) < 2:
        return None
    for at, shape in enumerate(shapes[1:], 1):
        if not 0 < len(shape) <= 2 or shape[0] != first[0]:
            continue
        width = shape[1] if len(shape) == 2 else 1
        of_steps = len(first) == 3 and width in first[1:]
        if (8 * width <= 5 * first[1]) if len(first) == 2 else not of_steps:
            return at
    return None


def _refuse(raw: Any, shapes: Sequence[tuple[int, ...]]) -> NoReturn:
    """Raise the ModelError for an output in which no tensor is known to hold the scores."""
    kind = type(raw).__name__
    if isinstance(raw, (tuple, list)) and any(isinstance(part, Mapping) for part in raw):
        keys = next(list(part) for part in raw if isinstance(part, Mapping))
        shown = ", ".join(map(str, keys[:4]))
        if "boxes" in keys:
            raise ModelError(
                f"the model returns a {kind} of {len(raw)} dicts ({shown}), one per sample as detectors do, "
                "and no scores of classes; give cc.targets.Boxes(…), such as Boxes(top=1), with cc.ODAM, or "
                "a callable target: lambda outputs: torch.stack([one['scores'][0] for one in outputs])"
            )
        key = "scores" if "scores" in keys else keys[0] if keys else "scores"
        raise ModelError(
            f"the model returns a {kind} of {len(raw)} dicts ({shown}), one per sample as detectors do, not "
            "one tensor of scores; give a callable target, such as "
            f"lambda outputs: torch.stack([one[{key!r}][0] for one in outputs])"
        )
    better = _more_like_scores(shapes) if isinstance(raw, (tuple, list)) else None
    if better is not None:
        column = "[:, 0]" if len(shapes[better]) > 1 else ""
        raise ModelError(
            f"the model returns a {kind} of {len(shapes)} tensors, {', '.join(map(str, shapes[:4]))}, and "
            "the first is not shaped like scores; name output_layer=, or give a callable target, such as "
            f"lambda outputs: outputs[{better}]{column}"
        )
    named = f" with {sorted(raw)}" if isinstance(raw, Mapping) else ""
    raise ModelError(
        f"the model returns a {kind}{named}, not one tensor of scores; name output_layer= or give a "
        "callable target"
    )
