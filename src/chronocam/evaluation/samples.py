"""Samples of whatever a user gives as data: inputs of the model, targets and truths, one by one."""

from __future__ import annotations

import hashlib
import os
import reprlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from PIL import Image

from chronocam.errors import InputError
from chronocam.evaluation.case import digest
from chronocam.evaluation.truth import Region, Truth, seen, truth_of
from chronocam.joint.inputs.batches import main_array, samples_listed
from chronocam.joint.inputs.items import is_map_style, split_targets
from chronocam.joint.inputs.media import MEDIA, media_in, opened_for
from chronocam.layouts.base import Stem
from chronocam.maps.arrays import to_numpy
from chronocam.media.clips.find import find_clips
from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.clips.read import Clip
from chronocam.media.files import contents, expanded, is_file, is_folder, is_pattern
from chronocam.media.images import as_mask, find_images, read_mask

_MARKED: Final = 2**16
"""Bytes at either end of a file by which it is known again."""


@dataclass(frozen=True, eq=False)
class Read:
    """What a sample holds, without a batch axis.

    array: the input whose maps are judged. size: (width, height) of the picture it was made of; None for
        arrays. name: of that input, where the model takes several; its number where they have none. beside:
        all of them by their names or numbers.
    """

    array: np.ndarray
    size: tuple[int, int] | None = None
    name: str | int = ""
    beside: Mapping[str | int, np.ndarray] = field(default_factory=dict)

    def batch(self, arrays: np.ndarray) -> Any:
        """Return what the model takes, with arrays `(batch, …)` in place of the sample's own."""
        if not self.beside:
            return arrays
        inputs = {
            name: arrays if name == self.name else np.repeat(value[None], len(arrays), axis=0)
            for name, value in self.beside.items()
        }
        return tuple(inputs.values()) if isinstance(self.name, int) else inputs

    @property
    def itself(self) -> Any:
        """The sample as a batch of one."""
        return self.batch(self.array[None])


Source: TypeAlias = "tuple[Callable[[], Read], Callable[[], str]]"
"""Two functions: one reads a sample, and one returns a fingerprint of it."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One sample before it is read.

    number: its place in the data. name: in words. group: of the samples of one picture, which are not
        independent and are averaged.
    first: the number of the first sample of its picture. beside: the targets of all samples of its picture.
    read: returns what it holds. mark: returns a fingerprint, for which large files are not read as a whole.
    """

    number: int
    name: str
    group: str
    read: Callable[[], Read]
    mark: Callable[[], str]
    target: Any
    truth: Any
    first: int
    beside: tuple[Any, ...]


def samples_of(
    data: Any,
    targets: Any,
    truth: Any,
    preprocess: Any,
    on: int | str | None = None,
    stem: Stem | None = None,
) -> list[Sample]:
    """Return the samples of data.

    data: an array with a batch axis, several inputs as a dict of them by their names or as a tuple,
        pictures, clips, paths, folders and patterns (with a preprocessing), a list of arrays that are a
        sample each, an iterable of batches of these or of pairs (batch, targets), or a data set of samples by
        number.
    targets, truth: one for each sample, in order or as a dict by the files' names, or None; one target for
        all; of truths also a folder of masks by the files' names.
    on: which of several inputs is judged. stem: the model's first convolution, which shows whether a list is
        of samples or of batches.

    Raises InputError where there are not as many targets or truths as samples.
    """
    rows = list(_rows(_files_of(data, preprocess), preprocess, targets is not None, on, stem))
    if not rows:
        raise InputError("there is nothing to evaluate: the data hold no sample")
    has_targets = targets is None and any(target is not None for *_, target in rows)
    names = [name for name, *_ in rows]
    each_target = [target for *_, target in rows] if has_targets else _each(targets, names, "targets")
    each_target = [_one_target(target) for target in each_target]
    if isinstance(truth, (str, Path)) and is_folder(truth):
        truth = masks_in(truth)
    truths = _each(truth, names, "truth")
    of_group: dict[str, list[int]] = defaultdict(list)
    for number, (_, group, *_) in enumerate(rows):
        of_group[group].append(number)
    return [
        Sample(
            number,
            name,
            group,
            read,
            mark,
            each_target[number],
            truths[number],
            of_group[group][0],
            tuple(each_target[other] for other in of_group[group]),
        )
        for number, (name, group, (read, mark), _) in enumerate(rows)
    ]


def refuse_classes_beside(data: Any, names: Sequence[str]) -> None:
    """Raise InputError for inputs with their classes in one tuple, which is for several inputs of a model.

    names: of the model's inputs.
    """
    if isinstance(data, tuple) and len(data) == 2 and len(names) == 1 and np.ndim(data[1]) == 1:
        raise InputError(
            f"data are a tuple of 2, and the model takes one input, `{names[0]}`; give the classes as "
            "targets="
        )


def _files_of(data: Any, preprocess: Any) -> Any:
    """Return data with the pictures or clips in place of folders and patterns that name them.

    Raises MediaError for one that names none, InputError for a table of several columns.
    """
    if hasattr(data, "iloc"):  # of pandas, whose columns hold samples
        if data.ndim > 1:
            columns = reprlib.repr(list(data.columns))
            raise InputError(f"data are a table with the columns {columns}; give the one of the files")
        data = data.tolist()
    if isinstance(data, (str, Path)):
        data = [data]
    if not isinstance(data, list) or not any(isinstance(one, (str, Path)) for one in data):
        return data
    return [
        file for one in data for file in (_named(one, preprocess) if isinstance(one, (str, Path)) else [one])
    ]


def _named(path: str | Path, preprocess: Any) -> Sequence[str | Path]:
    place = expanded(path)
    # A single file that is missing is a sample that cannot be read, and the others are judged.
    if is_file(place) or not (is_folder(place) or is_pattern(place)):
        return [path]
    return find_clips(place) if isinstance(preprocess, ClipPreprocess) else find_images([place])


def masks_in(folder: str | Path) -> dict[str, Path]:
    """Return the files of a folder by their names without the suffix."""
    return {one.stem: one for one in contents(expanded(folder)) if is_file(one)}


def _rows(
    data: Any, preprocess: Any, targeted: bool, on: int | str | None, stem: Stem | None
) -> Iterator[tuple[str, str, Source, Any]]:
    count = 0
    for batch, targets in _batches(data, preprocess, targeted, stem):
        if _are_inputs(batch):
            batch = dict(enumerate(batch))
        several = isinstance(batch, Mapping)
        media = None if several else media_in(batch)
        if media is None and not several and not hasattr(batch, "shape"):
            raise InputError(
                f"data hold a {type(batch).__name__}; expected arrays with a batch axis, a dict of them by "
                "the names of the model's inputs, pictures or paths"
            )
        size = _count(batch) if several else len(batch) if media is None else len(media)
        each_target = _each(targets, [""] * size, "targets")
        for k in range(size):
            if several:
                yield f"sample {count}", str(count), _several(batch, k, on), each_target[k]
            elif media is None:
                yield f"sample {count}", str(count), _array(batch, k), each_target[k]
            else:
                name = _name(media[k], count)
                yield name, name, _medium(media[k], preprocess), each_target[k]
            count += 1


def _batches(data: Any, preprocess: Any, targeted: bool, stem: Stem | None) -> Iterator[tuple[Any, Any]]:
    """Yield batches of inputs with their targets, or None."""
    listed = None if isinstance(data, (Mapping, tuple)) else samples_listed(data, preprocess, stem)
    if listed is not None and not isinstance(listed[0], MEDIA):
        yield from ((one[None], None) for one in listed)
        return
    several = isinstance(data, Mapping) or _are_inputs(data)
    if listed is not None or hasattr(data, "shape") or several:
        yield (data if listed is None else listed), None
        return
    if is_map_style(data):
        for number in range(len(data)):
            sample, target = split_targets(data[number], targeted)
            yield _batch_of(sample), None if target is None else [target]
        return
    if isinstance(data, bytes) or not isinstance(data, Iterable):
        raise InputError(
            f"cannot evaluate a {type(data).__name__}; give an array, pictures, paths, or batches of them"
        )
    for item in data:
        yield split_targets(item, targeted)


def _are_inputs(batch: Any) -> bool:
    """Say whether a tuple is several inputs of the model, as it is wherever something is explained."""
    return isinstance(batch, tuple) and bool(batch) and all(hasattr(one, "shape") for one in batch)


def _batch_of(sample: Any) -> Any:
    """Return a sample as a batch of one."""
    if isinstance(sample, Mapping):
        return {name: value[None] for name, value in sample.items()}
    return sample[None] if hasattr(sample, "shape") else [sample]


def _array(batch: Any, row: int) -> Source:
    def array() -> np.ndarray:
        return np.asarray(to_numpy(batch[row]))

    return lambda: Read(array()), lambda: digest(array())


def _count(batch: Mapping[str | int, Any]) -> int:
    counts = {name: len(values) for name, values in batch.items()}
    if len(set(counts.values())) != 1:
        listed = ", ".join(f"`{name}` {count}" for name, count in counts.items())
        raise InputError(
            f"the inputs hold different numbers of samples ({listed or 'none'}); expected as many"
        )
    return next(iter(counts.values()))


def _several(batch: Mapping[str | int, Any], row: int, on: int | str | None) -> Source:
    def arrays() -> dict[str | int, np.ndarray]:
        return {name: np.asarray(to_numpy(value[row : row + 1])) for name, value in batch.items()}

    def read() -> Read:
        values = arrays()
        names = list(values)
        main = main_array(values, on if isinstance(on, int) else None)
        name = on if isinstance(on, str) else next(name for name in names if values[name] is main)
        if name not in values:
            raise InputError(f"no input `{name}`; the data hold {', '.join(map(str, names))}")
        return Read(values[name][0], None, name, {name: value[0] for name, value in values.items()})

    return read, lambda: " ".join(digest(value) for value in arrays().values())


def _medium(medium: Any, preprocess: Any) -> Source:
    if preprocess is None:
        raise InputError("pictures and paths need preprocess=, or a model from cc.models.load with its own")

    def read() -> Read:
        opened = opened_for(medium, preprocess)
        size = opened.size if isinstance(opened, Image.Image) else opened.pixels.shape[2:0:-1]
        return Read(np.asarray(to_numpy(preprocess(opened))), (int(size[0]), int(size[1])))

    return read, lambda: mark_of(medium)


def _name(medium: Any, number: int) -> str:
    if isinstance(medium, (str, Path)):
        return str(medium)
    name = medium.path if isinstance(medium, Clip) else getattr(medium, "filename", "")
    return str(name) if name else f"sample {number}"


def _one_target(target: Any) -> Any:
    """Return the class of a one-hot row, and other rows of targets as those of a batch of one sample."""
    if not isinstance(target, np.ndarray) or not target.ndim:
        return target
    one_hot = target.ndim == 1 and len(target) > 1 and target.dtype.kind == "f"
    if one_hot and np.isin(target, (0, 1)).all() and target.sum() == 1:
        return int(target.argmax())
    return target[None]


def _each(given: Any, names: Sequence[str], what: str) -> list[Any]:
    """Return one for each sample."""
    if given is None or isinstance(given, (int, str, np.integer)) or callable(given):
        return [given] * len(names)
    if isinstance(given, Mapping):
        return _by_name(given, names, what)
    several = isinstance(given, (Sequence, Iterator)) or hasattr(given, "__len__")
    listed = list(given) if several else [given] * len(names)
    if len(listed) != len(names):
        raise InputError(f"{what} holds {len(listed)} for {len(names)} samples; give one for each, or None")
    return [one.item() if getattr(one, "ndim", None) == 0 else one for one in map(_plain, listed)]


def _by_name(given: Mapping[Any, Any], names: Sequence[str], what: str) -> list[Any]:
    """Return what a dict holds for each sample, by its path, its file's name, or that without the suffix."""
    by_text = {str(name): value for name, value in given.items()}
    keys = [(name, Path(name).name, Path(name).stem) for name in names]
    for k in (1, 2):
        refuse_shared({of_sample[0]: of_sample[k] for of_sample in keys if of_sample[k] in by_text}, what)
    of_samples = [next((key for key in of_sample if key in by_text), None) for of_sample in keys]
    if not any(key is not None for key in of_samples):
        first = f"`{keys[0][1]}`" if keys[0][1] else "no name"
        raise InputError(f"{what} is a dict that names none of the samples; the first of them is {first}")
    return [None if key is None else _plain(by_text[key]) for key in of_samples]


def refuse_shared(names: Mapping[str, str], what: str) -> None:
    """Raise InputError where two files, by their paths, are known by the same name."""
    first: dict[str, str] = {}
    for path, name in names.items():
        if first.setdefault(name, path) != path:
            raise InputError(
                f"{what} has `{name}` for both `{first[name]}` and `{path}`; evaluate one folder at a time, "
                "or name whole paths"
            )


def _plain(one: Any) -> Any:
    return to_numpy(one) if hasattr(one, "detach") else one


def mark_of(given: Any) -> str:
    """Return a fingerprint of a truth or a medium; of a file it is of its size and both ends."""
    if isinstance(given, (str, Path)):
        try:
            with Path(given).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                ends = [file.read(_MARKED) for at in (0, max(0, size - _MARKED)) if file.seek(at) == at]
        except OSError as error:
            return f"{given}: {error.strerror}"
        return f"{size} {hashlib.blake2b(b''.join(ends), digest_size=16).hexdigest()}"
    if isinstance(given, Clip):
        return digest(np.asarray(given.pixels))
    if isinstance(given, Image.Image) or hasattr(given, "shape"):
        return digest(np.asarray(given))
    return repr(given)


def on_view(
    values: np.ndarray, grid: tuple[int, ...], size: tuple[int, int] | None, preprocess: Any
) -> np.ndarray:
    """Return a map on what the model sees, where it has the size of the picture and so covers all of that."""
    if size is None or values.shape[-2:] != size[::-1] or size[::-1] == grid[-2:]:
        return values
    region = _region(preprocess, size)
    return values if region is None else seen(values, grid[-2:], region)


def _region(preprocess: Any, size: tuple[int, int] | None) -> Region | None:
    """Return which part of a picture the model sees; None where that is not known."""
    return preprocess.region(*size) if size is not None and hasattr(preprocess, "region") else None


def read_truth(
    sample: Sample, grid: tuple[int, ...], size: tuple[int, int] | None, preprocess: Any
) -> Truth | None:
    """Return where the object is, on the grid of the model's input."""
    given = sample.truth
    if isinstance(given, (str, Path)):
        given = read_mask(given)
    elif isinstance(given, Image.Image):
        given = as_mask(given)
    return truth_of(given, grid, size, _region(preprocess, size))
