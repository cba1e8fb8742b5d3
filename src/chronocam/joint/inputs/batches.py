"""Batches of whatever a user gives as inputs: arrays, several inputs, data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count as count_from
from itertools import groupby
from numbers import Integral
from typing import Any

from chronocam.errors import InputError, TargetError, a_kind
from chronocam.joint.inputs.items import is_map_style, labels_of_samples, split_targets
from chronocam.joint.inputs.media import MEDIA, each_prepared, media_in, pictures_in, prepared
from chronocam.layouts.base import Stem
from chronocam.maps.arrays import namespace
from chronocam.types import Array, Inputs, Targets

_ENDLESS = -1  # tf.data.INFINITE_CARDINALITY


@dataclass(frozen=True, eq=False)
class Shared:
    """An input that is not per sample, such as captions that every image is compared with: never cut.

    array: the input as the model takes it.

    Example:
    >>> class Compared(nn.Sequential):
    ...     def forward(self, x, words): return self[0](x) @ words.T
    >>> captions = cc.Shared(torch.eye(3)[:2])
    >>> cc.GradCAM(Compared(model), batch_size=1).explain((images, captions), 1).maps.shape
    (2, 1, 8, 8)
    """

    array: Any


@dataclass(frozen=True)
class Batch:
    """A batch of inputs, the targets given for the call, and which of the call's samples the batch holds.

    `samples` is the number of samples that the targets are for; None where it is not known yet. `given` is
    what the batch was cut from; `shared` are the numbers of the arrays that are not per sample; `prepared` is
    whether the inputs were made of pictures or clips by the preprocessing.
    """

    inputs: Inputs
    targets: Targets
    rows: slice
    samples: int | None
    given: Inputs
    shared: frozenset[int] = frozenset()
    prepared: bool = False


def map_arrays(change: Callable[[Array], Array], inputs: Inputs) -> Inputs:
    """Apply `change` to every array of `inputs`."""
    if isinstance(inputs, Mapping):
        return {name: map_arrays(change, value) for name, value in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        changed = [map_arrays(change, value) for value in inputs]
        return changed if isinstance(inputs, list) else tuple(changed)
    return change(inputs) if hasattr(inputs, "shape") else inputs


def arrays_of(inputs: Inputs) -> list[Array]:
    """Return the arrays of `inputs`, in order."""
    arrays: list[Array] = []
    map_arrays(arrays.append, inputs)
    return arrays


def entries_of(inputs: Inputs) -> list[tuple[Any, ...]]:
    """Return the indices and keys that lead to each of the arrays of `inputs`, in order."""
    if isinstance(inputs, Mapping):
        parts = list(inputs.items())
    elif isinstance(inputs, (tuple, list)):
        parts = list(enumerate(inputs))
    else:
        return [()] if hasattr(inputs, "shape") else []
    return [(key, *rest) for key, part in parts for rest in entries_of(part)]


def is_floating(array: Array) -> bool:
    """Say whether `array` holds floating-point numbers, in any framework."""
    return "float" in str(array.dtype)


def main_array(inputs: Inputs, which: int | None = None) -> Array:
    """Return the input that maps are of: the one of this number, the first of floats, or the first.

    One with places is taken before rows of numbers, such as measurements beside a picture.
    """
    arrays = arrays_of(inputs)
    if which is not None:
        return arrays[which]
    if not arrays:
        raise InputError(
            f"a {type(inputs).__name__} holds no array; give an array, or a tuple or dict of arrays"
        )
    for array in arrays:
        if not hasattr(array, "dtype"):
            raise InputError(
                f"inputs hold a {type(array).__name__}; expected an array, as its to_numpy() gives"
            )
        if not hasattr(array, "ndim"):
            way = "to_tensor" if hasattr(array, "to_tensor") else "numpy"
            raise InputError(f"inputs are a {type(array).__name__}; give inputs.{way}()")
        if "sparse" in str(getattr(array, "layout", "")):
            raise InputError("inputs are sparse; give inputs.to_dense()")
    if len(arrays) == 1:
        return arrays[0]
    floats = [array for array in arrays if is_floating(array)]
    return next((array for array in floats if array.ndim > 2), (*floats, arrays[0])[0])


def batches(
    inputs: Inputs,
    targets: Targets,
    batch_size: int | None,
    preprocess: Callable[[Any], Array] | None = None,
    as_clips: Callable[[Inputs], Inputs] = lambda inputs: inputs,
    stem: Stem | None = None,
) -> Iterator[Batch]:
    """Yield batches of at most `batch_size` samples of arrays, or of each batch of a data set.

    A picture, a clip, a path, or a list of them is read and preprocessed one batch at a time; those of one
    size that follow each other are a batch, and so are arrays without a batch axis. A data set is any other
    iterable; its batches are inputs, or pairs (inputs, targets). It is consumed one batch at a time.
    as_clips: makes clips of pictures that are their frames, before samples are counted.
    stem: the model's, by which a list of pictures is told from one of batches.
    Raises InputError for empty or unequal inputs, TargetError for left-over targets.
    """
    if getattr(inputs, "is_nested", False):
        raise InputError("inputs are a nested tensor; give list(inputs.unbind()), an array per sample")
    every = samples_listed(inputs, preprocess, stem)
    if every is not None:
        made = isinstance(every[0], MEDIA)
        step = batch_size or len(every)
        for low in range(0, len(every), step):
            some = every[low : low + step]
            for at, stacked in _stacked(each_prepared(some, preprocess) if made else some):
                array, start = as_clips(stacked), low + at
                rows = slice(start, start + len(stacked))
                yield Batch(array, targets, rows, len(every), array, prepared=made)
    elif _is_dataset(inputs):
        yield from _of_dataset(inputs, targets, batch_size, preprocess, as_clips)
    else:
        inputs = as_clips(inputs)
        samples = _samples(inputs)
        yield from _pieces(inputs, targets, batch_size, 0, samples, samples)


def samples_listed(
    inputs: Inputs, preprocess: Callable[[Any], Array] | None, stem: Stem | None
) -> list[Any] | None:
    """Return the samples of a list of pictures, clips or paths, or of arrays that are one each.

    Such arrays have as many axes as one input of the model, and its channels: no batch looks like that.
    None for other inputs.
    """
    media = _media(inputs, preprocess)
    if media is not None or stem is None or not isinstance(inputs, list) or not inputs:
        return media
    shapes = [tuple(getattr(one, "shape", ())) for one in inputs]
    pictures = [pictures_in(one, preprocess) for one in inputs] if {*map(len, shapes)} == {3} else []
    if pictures and all(pictures):
        return [picture for some in pictures for picture in some or ()]
    alone = all(len(one) == stem.rank + 1 and stem.channels in (one[0], one[-1]) for one in shapes)
    return inputs if alone else None


def _stacked(arrays: Sequence[Array]) -> Iterator[tuple[int, Array]]:
    """Yield the number of the first, and the batch, of arrays of one shape that follow each other."""
    start = 0
    for _, group in groupby(arrays, lambda one: tuple(one.shape)):
        some = list(group)
        yield start, namespace(some[0]).stack(some)
        start += len(some)


def _media(inputs: Inputs, preprocess: Callable[[Any], Array] | None) -> list[Any] | None:
    return pictures_in(inputs, preprocess) or media_in(inputs)


def refuse_endless(inputs: Inputs) -> None:
    """Raise InputError for a tf.data.Dataset that never ends: what is made of all of it would not either."""
    cardinality = getattr(inputs, "cardinality", None)
    if callable(cardinality) and int(cardinality()) == _ENDLESS:
        raise InputError(
            "the data set never ends; give dataset.take(n), or use explain_batches for a batch at a time"
        )


def _is_dataset(inputs: Inputs) -> bool:
    if hasattr(inputs, "shape") or isinstance(inputs, (tuple, Mapping, Shared)):
        return False
    if _are_pathways(inputs) or _hold_shared(inputs):
        return False
    if isinstance(inputs, Iterable) and not isinstance(inputs, (str, bytes)):
        return True
    hint = "an array, a tuple or dict of arrays, or batches"
    if is_map_style(inputs):
        hint = "its batches: torch.utils.data.DataLoader(data, batch_size=32)"
    raise InputError(f"cannot explain {a_kind(inputs)}; give {hint}")


def _hold_shared(inputs: Inputs) -> bool:
    """Say whether a list or tuple is several inputs, as it is where one of them is shared."""
    return isinstance(inputs, (list, tuple)) and any(isinstance(x, Shared) for x in inputs)


def _are_pathways(inputs: Inputs) -> bool:
    """Say whether a list holds the same clips at several rates, as SlowFast takes them: no data set."""
    if not isinstance(inputs, list) or len(inputs) < 2:
        return False
    shapes = [tuple(getattr(x, "shape", ())) for x in inputs]
    if any(len(shape) != 5 for shape in shapes):
        return False
    for time in (1, 2):
        rests = {shape[:time] + shape[time + 1 :] for shape in shapes}
        frames = [shape[time] for shape in shapes]
        if len(rests) == 1 and max(frames) > min(frames) and all(n % min(frames) == 0 for n in frames):
            return True
    return False


def _of_dataset(
    dataset: Iterable[Any],
    targets: Targets,
    batch_size: int | None,
    preprocess: Callable[[Any], Array] | None,
    as_clips: Callable[[Inputs], Inputs],
) -> Iterator[Batch]:
    start = 0
    for item in dataset:
        inputs, own = (item, None) if _hold_shared(item) else split_targets(item, targets is not None)
        media = _media(inputs, preprocess)
        if media is not None:
            inputs = prepared(media, preprocess)
        inputs = as_clips(tuple(inputs) if isinstance(inputs, list) else inputs)
        samples = _samples(inputs)
        # Targets that come with a batch are for its samples; those of the call are for all, counted through.
        if own is not None and targets is None:
            yield from _pieces(inputs, labels_of_samples(own, samples), batch_size, 0, samples, samples)
        else:
            yield from _pieces(inputs, targets, batch_size, start, samples, None)
        start += samples
    rows = _rows_of(targets)
    if rows is not None and rows != start:
        raise TargetError(f"targets has {rows} rows; the data set held {start} samples")


def _rows_of(targets: Targets) -> int | None:
    """Return how many samples `targets` is for, where it has a row per sample."""
    if isinstance(targets, (list, tuple)) and targets and all(isinstance(t, Integral) for t in targets):
        return len(targets)
    shape = tuple(getattr(targets, "shape", ()))
    return shape[0] if shape else None


def _pieces(
    inputs: Inputs, targets: Targets, batch_size: int | None, start: int, samples: int, total: int | None
) -> Iterator[Batch]:
    step = batch_size or samples
    inputs, shared = unwrapped(inputs)
    if step < samples:
        _refuse_unclear(inputs, samples, shared)
    for low in range(0, samples, step):
        part = slice(low, min(low + step, samples))
        piece = inputs if step >= samples else cut(inputs, part, samples, shared)
        yield Batch(piece, targets, slice(start + part.start, start + part.stop), total, inputs, shared)


def unwrapped(inputs: Inputs) -> tuple[Inputs, frozenset[int]]:
    """Return inputs without `Shared` around them, and the numbers of the arrays that had it."""
    shared: set[int] = set()
    numbers = count_from()

    def unwrap(value: Inputs) -> Inputs:
        if isinstance(value, Mapping):
            return {name: unwrap(one) for name, one in value.items()}
        if isinstance(value, (tuple, list)):
            parts = [unwrap(one) for one in value]
            return parts if isinstance(value, list) else tuple(parts)
        array = value.array if isinstance(value, Shared) else value
        if hasattr(array, "shape"):
            number = next(numbers)
            if array is not value:
                shared.add(number)
        return array

    return unwrap(inputs), frozenset(shared)


def cut(inputs: Inputs, part: slice, samples: int, shared: frozenset[int] = frozenset()) -> Inputs:
    """Return some samples; arrays that are shared or have no batch axis stay whole."""
    numbers = count_from()
    return map_arrays(lambda x: x if next(numbers) in shared else _rows(x, part, samples), inputs)


def _refuse_unclear(inputs: Inputs, samples: int, shared: frozenset[int]) -> None:
    """Raise InputError for rows of integers that are as many as the pictures only by chance, it may be."""
    arrays = arrays_of(inputs)
    main = main_array(inputs)
    if not is_floating(main) or len(main.shape) < 4:
        return
    for number, x in enumerate(arrays):
        rows = len(x.shape) == 2 and has_samples(x, samples)
        if rows and number not in shared and "int" in str(x.dtype):
            raise InputError(
                f"an input of integers {tuple(x.shape)} has as many rows as there are samples, and batches "
                "are cut: give cc.Shared(x) where every sample sees all of its rows, as captions, or "
                "batch_size=None"
            )


def first_samples(inputs: Inputs, count: int = 2, shared: frozenset[int] = frozenset()) -> Inputs:
    """Return the first samples of a batch; arrays that are shared or have no batch axis stay whole."""
    return cut(inputs, slice(0, count), _samples(inputs), shared)


def has_samples(array: Array, samples: int) -> bool:
    """Say whether an input holds one row per sample."""
    return tuple(array.shape[:1]) == (samples,)


def _rows(array: Array, part: slice, samples: int) -> Array:
    return array[part] if has_samples(array, samples) else array


def _samples(inputs: Inputs) -> int:
    """Return the number of samples. Raises InputError where there are none."""
    array = main_array(inputs)
    shape = tuple(array.shape)
    if len(shape) < 2 or 0 in shape:
        raise InputError(f"inputs have shape {shape}; expected (batch, …) with at least one sample")
    return int(shape[0])
