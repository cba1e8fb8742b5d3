"""What an item of a data set holds: which of it are inputs, and which are targets."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Number
from typing import Any, Final

import numpy as np

from chronocam.errors import InputError

LABELS: Final = ("label", "labels", "target", "targets", "y", "class", "classes")
"""Keys of an item whose values are targets, in any case."""

YIELD: Final = "yield (inputs, targets), and several inputs as ((a, b), targets)"


def is_map_style(data: Any) -> bool:
    """Say whether data are a data set of single samples by number, as `torch.utils.data.Dataset` has them.

    What yields batches, as data sets of Keras do, can be iterated over.
    """
    return hasattr(data, "__getitem__") and hasattr(data, "__len__") and not hasattr(data, "__iter__")


def split_targets(item: Any, given: bool) -> tuple[Any, Any]:
    """Return the inputs of an item, and its targets or None.

    An item is inputs, a pair (inputs, targets), or a dict with a key such as `label`. The names of files, as
    in (inputs, targets, paths), are left out.
    given: whether targets were given for the whole data set.
    Raises InputError where what it holds may be either.
    """
    if isinstance(item, Mapping):
        return _of_dict(item)
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        return item, None
    parts = list(item)
    while len(parts) > 2 and _are_names(parts[-1]):
        parts.pop()
    if len(parts) == 2:
        _refuse_second_input(parts[0], parts[1], given)
        return parts[0], parts[1]
    if any(_axes(part) < 2 for part in parts[1:]):
        kinds = ", ".join(_kind(part) for part in parts)
        raise InputError(f"an item of the data set holds ({kinds}), which may be inputs or targets; {YIELD}")
    return item, None


def labels_of_samples(targets: Any, samples: int) -> Any:
    """Return the targets of an item, a list of as many labels as it has samples as an array, one each.

    In a call such a list may also mean all of them for every sample; a data set has one label per sample.
    """
    texts = isinstance(targets, (list, tuple)) and all(isinstance(one, str) for one in targets)
    return np.array(targets) if texts and len(targets) == samples else targets


def _of_dict(item: Mapping[Any, Any]) -> tuple[Any, Any]:
    labels = [key for key in item if str(key).lower() in LABELS]
    if not labels:
        return item, None
    if len(labels) > 1:
        names = ", ".join(f"`{key}`" for key in labels)
        raise InputError(f"an item of the data set has {names}, which may all be targets; {YIELD}")
    inputs = {key: value for key, value in item.items() if key not in labels and hasattr(value, "shape")}
    if not inputs:
        others = ", ".join(f"`{key}`" for key in item if key not in labels)
        raise InputError(f"an item of the data set has no array beside `{labels[0]}`, only {others}; {YIELD}")
    # One array is the model's input, whatever the data set calls it.
    only = next(iter(inputs.values())) if len(inputs) == 1 else inputs
    return only, item[labels[0]]


def _refuse_second_input(first: Any, second: Any, given: bool) -> None:
    """Raise InputError where the second of a pair looks like another input."""
    a, b = tuple(getattr(first, "shape", ())), tuple(getattr(second, "shape", ()))
    if len(a) < 3 or len(a) != len(b) or "float" not in str(second.dtype):
        return
    # A float mask beside a picture has other channels; it may stand there where targets were given.
    if not given or (a[1:2] == b[1:2] and (len(a) > 3 or a == b)):
        raise InputError(
            f"an item of the data set holds two arrays, {a} and {b}, and the second looks like an input, not "
            f"like targets; {YIELD}"
        )


def _are_names(part: Any) -> bool:
    if part is None or isinstance(part, (str, bytes)):
        return True
    return (
        isinstance(part, (list, tuple))
        and bool(part)
        and all(isinstance(p, (str, bytes, dict)) for p in part)
    )


def _axes(part: Any) -> int:
    if isinstance(part, Number):
        return 0
    return len(part.shape) if hasattr(part, "shape") else 1


def _kind(part: Any) -> str:
    return f"array {tuple(part.shape)}" if hasattr(part, "shape") else type(part).__name__
