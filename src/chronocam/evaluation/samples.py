"""Samples of whatever a user gives as data: inputs of the model, targets and truths, one by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from chronocam.errors import InputError
from chronocam.evaluation.truth import Truth, truth_of
from chronocam.joint.items import split_targets
from chronocam.joint.media import media_in, opened_for
from chronocam.maps.arrays import to_numpy
from chronocam.media.clips.read import Clip
from chronocam.media.images import read_image


@dataclass(frozen=True, eq=False)
class Sample:
    """One sample before it is read.

    number: its place in the data. name: in words. group: samples of one picture are no evidence of their own.
    first: the number of the first sample of its picture. beside: the targets of all samples of its picture.
    read: returns the model's input without a batch axis, and the size (width, height) of the picture it was
        made of, None for arrays.
    """

    number: int
    name: str
    group: str
    read: Callable[[], tuple[np.ndarray, tuple[int, int] | None]]
    target: Any
    truth: Any
    first: int
    beside: tuple[Any, ...]


def samples_of(data: Any, targets: Any, truth: Any, preprocess: Any) -> list[Sample]:
    """Return the samples of data.

    data: an array with a batch axis, pictures, clips and paths (with a preprocessing), or an iterable of
        batches of either, or of pairs (batch, targets).
    targets, truth: one for each sample, or None; one target for all.

    Raises InputError where they are not as many.
    """
    rows = list(_rows(data, preprocess, targets is not None))
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


def _rows(data: Any, preprocess: Any, targeted: bool) -> Iterator[tuple[str, str, Any, Any]]:
    count = 0
    for batch, targets in _batches(data, targeted):
        media = media_in(batch)
        if media is None and not hasattr(batch, "shape"):
            raise InputError(
                f"data hold a {type(batch).__name__}; expected arrays with a batch axis, pictures or paths: "
                "maps of models with several inputs are not evaluated"
            )
        size = len(batch) if media is None else len(media)
        wanted = _each(targets, size, "targets")
        for k in range(size):
            if media is None:
                yield f"sample {count}", str(count), _array(batch, k), wanted[k]
            else:
                name = _name(media[k], count)
                yield name, name, _medium(media[k], preprocess), wanted[k]
            count += 1


def _batches(data: Any, targeted: bool) -> Iterator[tuple[Any, Any]]:
    """Yield batches of inputs with their targets, or None."""
    if hasattr(data, "shape") or media_in(data):
        yield data, None
        return
    if isinstance(data, bytes) or not isinstance(data, Iterable):
        raise InputError(
            f"cannot evaluate a {type(data).__name__}; give an array, pictures, paths, or batches of them"
        )
    for item in data:
        yield split_targets(item, targeted)


def _array(batch: Any, row: int) -> Callable[[], tuple[np.ndarray, None]]:
    return lambda: (np.asarray(to_numpy(batch[row])), None)


def _medium(medium: Any, preprocess: Any) -> Callable[[], tuple[np.ndarray, tuple[int, int]]]:
    if preprocess is None:
        raise InputError("pictures and paths need preprocess=, or a model from cc.models.load with its own")

    def read() -> tuple[np.ndarray, tuple[int, int]]:
        opened = opened_for(medium, preprocess)
        size = opened.size if isinstance(opened, Image.Image) else opened.pixels.shape[2:0:-1]
        return np.asarray(to_numpy(preprocess(opened))), (int(size[0]), int(size[1]))

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
