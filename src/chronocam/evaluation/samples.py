"""Samples of whatever a user gives as data: inputs of the model, targets and truths, one by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from chronocam.errors import InputError
from chronocam.evaluation.truth import Truth, truth_of
from chronocam.joint.inputs import main_array
from chronocam.joint.items import split_targets
from chronocam.joint.media import media_in, opened_for
from chronocam.maps.arrays import to_numpy
from chronocam.media.clips.read import Clip
from chronocam.media.images import read_image


@dataclass(frozen=True, eq=False)
class Read:
    """What a sample holds, without a batch axis.

    array: the input whose maps are judged. size: (width, height) of the picture it was made of; None for
        arrays. name: of that input, where the model takes several. beside: all of them by their names.
    """

    array: np.ndarray
    size: tuple[int, int] | None = None
    name: str = ""
    beside: Mapping[str, np.ndarray] = field(default_factory=dict)

    def batch(self, arrays: np.ndarray) -> Any:
        """Return what the model takes, with arrays `(batch, …)` in place of the sample's own."""
        if not self.beside:
            return arrays
        return {
            name: arrays if name == self.name else np.repeat(value[None], len(arrays), axis=0)
            for name, value in self.beside.items()
        }

    @property
    def itself(self) -> Any:
        """The sample as a batch of one."""
        return self.batch(self.array[None])


@dataclass(frozen=True, eq=False)
class Sample:
    """One sample before it is read.

    number: its place in the data. name: in words. group: of the samples of one picture, which are not
        independent and are averaged.
    first: the number of the first sample of its picture. beside: the targets of all samples of its picture.
    read: returns what it holds.
    """

    number: int
    name: str
    group: str
    read: Callable[[], Read]
    target: Any
    truth: Any
    first: int
    beside: tuple[Any, ...]


def samples_of(
    data: Any, targets: Any, truth: Any, preprocess: Any, on: int | str | None = None
) -> list[Sample]:
    """Return the samples of data.

    data: an array with a batch axis, a dict of them by the names of the model's inputs, pictures, clips and
        paths (with a preprocessing), or an iterable of batches of these, or of pairs (batch, targets).
    targets, truth: one for each sample, or None; one target for all. on: which of several inputs is judged.

    Raises InputError where they are not as many.
    """
    rows = list(_rows(data, preprocess, targets is not None, on))
    if not rows:
        raise InputError("there is nothing to evaluate: the data hold no sample")
    own = targets is None and any(target is not None for *_, target in rows)
    wanted = [target for *_, target in rows] if own else _each(targets, len(rows), "targets")
    truths = _each(truth, len(rows), "truth")
    of_group: dict[str, list[int]] = defaultdict(list)
    for number, (_, group, *_) in enumerate(rows):
        of_group[group].append(number)
    return [
        Sample(
            number,
            name,
            group,
            read,
            wanted[number],
            truths[number],
            of_group[group][0],
            tuple(wanted[other] for other in of_group[group]),
        )
        for number, (name, group, read, _) in enumerate(rows)
    ]


def _rows(
    data: Any, preprocess: Any, targeted: bool, on: int | str | None
) -> Iterator[tuple[str, str, Any, Any]]:
    count = 0
    for batch, targets in _batches(data, targeted):
        several = isinstance(batch, Mapping)
        media = None if several else media_in(batch)
        if media is None and not several and not hasattr(batch, "shape"):
            raise InputError(
                f"data hold a {type(batch).__name__}; expected arrays with a batch axis, a dict of them by "
                "the names of the model's inputs, pictures or paths"
            )
        size = _count(batch) if several else len(batch) if media is None else len(media)
        wanted = _each(targets, size, "targets")
        for k in range(size):
            if several:
                yield f"sample {count}", str(count), _several(batch, k, on), wanted[k]
            elif media is None:
                yield f"sample {count}", str(count), _array(batch, k), wanted[k]
            else:
                name = _name(media[k], count)
                yield name, name, _medium(media[k], preprocess), wanted[k]
            count += 1


def _batches(data: Any, targeted: bool) -> Iterator[tuple[Any, Any]]:
    """Yield batches of inputs with their targets, or None."""
    if hasattr(data, "shape") or isinstance(data, Mapping) or media_in(data):
        yield data, None
        return
    if isinstance(data, bytes) or not isinstance(data, Iterable):
        raise InputError(
            f"cannot evaluate a {type(data).__name__}; give an array, pictures, paths, or batches of them"
        )
    for item in data:
        yield split_targets(item, targeted)


def _array(batch: Any, row: int) -> Callable[[], Read]:
    return lambda: Read(np.asarray(to_numpy(batch[row])))


def _count(batch: Mapping[str, Any]) -> int:
    counts = {name: len(values) for name, values in batch.items()}
    if len(set(counts.values())) != 1:
        listed = ", ".join(f"`{name}` {count}" for name, count in counts.items())
        raise InputError(
            f"the inputs hold different numbers of samples ({listed or 'none'}); expected as many"
        )
    return next(iter(counts.values()))


def _several(batch: Mapping[str, Any], row: int, on: int | str | None) -> Callable[[], Read]:
    def read() -> Read:
        values = {name: np.asarray(to_numpy(value[row : row + 1])) for name, value in batch.items()}
        names = list(values)
        main = main_array(values, on if isinstance(on, int) else None)
        name = on if isinstance(on, str) else next(name for name in names if values[name] is main)
        if name not in values:
            raise InputError(f"no input `{name}`; the data hold {', '.join(names)}")
        return Read(values[name][0], None, name, {name: value[0] for name, value in values.items()})

    return read


def _medium(medium: Any, preprocess: Any) -> Callable[[], Read]:
    if preprocess is None:
        raise InputError("pictures and paths need preprocess=, or a model from cc.models.load with its own")

    def read() -> Read:
        opened = opened_for(medium, preprocess)
        size = opened.size if isinstance(opened, Image.Image) else opened.pixels.shape[2:0:-1]
        return Read(np.asarray(to_numpy(preprocess(opened))), (int(size[0]), int(size[1])))

    return read


def _name(medium: Any, number: int) -> str:
    if isinstance(medium, (str, Path)):
        return str(medium)
    name = medium.path if isinstance(medium, Clip) else getattr(medium, "filename", "")
    return str(name) if name else f"sample {number}"


def _each(given: Any, count: int, what: str) -> list[Any]:
    """Return one for each sample."""
    if given is None or isinstance(given, (int, str, np.integer)) or callable(given):
        return [given] * count
    listed = list(given) if isinstance(given, Sequence) or hasattr(given, "__len__") else [given] * count
    if len(listed) != count:
        raise InputError(f"{what} holds {len(listed)} for {count} samples; give one for each, or None")
    return [one.item() if getattr(one, "ndim", None) == 0 else one for one in map(_plain, listed)]


def _plain(one: Any) -> Any:
    return to_numpy(one) if hasattr(one, "detach") else one


def read_truth(
    sample: Sample, grid: tuple[int, ...], size: tuple[int, int] | None, preprocess: Any
) -> Truth | None:
    """Return where the object is, on the grid of the model's input."""
    given = sample.truth
    if isinstance(given, (str, Path)):
        pixels = np.asarray(read_image(given))
        given = pixels.any(axis=-1) if pixels.ndim == 3 else pixels > 0
    region = preprocess.region(*size) if size is not None and hasattr(preprocess, "region") else None
    return truth_of(given, grid, size, region)
