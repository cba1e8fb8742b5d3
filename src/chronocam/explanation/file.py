"""Explanations as `.npz` files: arrays, and a header in JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from itertools import chain, count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from chronocam.errors import MediaError
from chronocam.jsonable import JsonRecord, missing
from chronocam.maps.attention import Attention
from chronocam.media._stills import Stills
from chronocam.media.archive import Archive, Sought, write_archive
from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.limits import PICTURE
from chronocam.media.preprocess import Preprocess
from chronocam.types import BoxInfo, Finding, TargetInfo, Window, WordsInfo
from chronocam.types.findings import note
from chronocam.types.targets import WORDS

if TYPE_CHECKING:
    from chronocam.explanation.record import Explanation

SOUGHT: Final = Sought(
    "a saved explanation", "an .npz written by Explanation.save or SequenceExplanation.save"
)

_FORMAT: Final = "chronocam explanation 1"
_ATTENTION: Final = ("attention.weights", "attention.contributions")
_ARRAYS: Final = ("maps", "scores")
_OPTIONAL: Final = ("confidences", "interval", *_ATTENTION)
_LARGEST: Final = 2**27  # places that the maps of a target, or of the frames of a sample, are enlarged to
_FRAMES: Final = 100_000  # of a clip

_Target: TypeAlias = tuple[Any, ...]
"""Name, index and whether signs are kept, which old files lack; of a box also where it is, of words these."""


@dataclass(frozen=True, kw_only=True)
class _Picture(JsonRecord):
    """The fields of `Stills`, but for the frames."""

    size: tuple[int, int]
    seen: tuple[int, int, int, int]
    places: tuple[int, ...] = field(metadata=missing((0,)))
    seconds: tuple[float, ...] | None = field(metadata=missing(None))
    numbers: tuple[int, ...] | None = field(metadata=missing(None))
    name: str = field(metadata=missing(""))
    unit: str = field(metadata=missing("frame"))


@dataclass(frozen=True, kw_only=True)
class _Recipe(JsonRecord):
    """The fields of a `Preprocess`, and of the `ClipPreprocess` around it.

    resize: one number is the shorter side. clip: frames, axes and sampling; None for pictures.
    """

    resize: tuple[int, ...] | None
    crop: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    scale: float
    channels: str
    order: str
    antialias: bool
    assumption: str | None = field(metadata=missing(None))
    clip: tuple[int, str, str] | None = field(metadata=missing(None))

    @classmethod
    def of(cls, preprocess: object) -> _Recipe | None:
        """Return how pictures or clips were prepared; None for a function, which no file can hold."""
        clip = preprocess if isinstance(preprocess, ClipPreprocess) else None
        picture = preprocess if clip is None else clip.frame
        if not isinstance(picture, Preprocess):
            return None
        values = {one.name: getattr(picture, one.name) for one in fields(Preprocess)}
        # Numbers may be those of NumPy, which JSON does not know.
        values |= {name: tuple(map(float, values[name])) for name in ("mean", "std")}
        values |= {name: _sides(values[name]) for name in ("resize", "crop")}
        values["scale"] = float(picture.scale)
        return cls(**values, clip=None if clip is None else (clip.frames, clip.axes, clip.sampling))

    def problems(self) -> Iterator[str]:
        """Yield what is too large to be done, or says two things."""
        if self.resize is not None and len(self.resize) not in (1, 2):
            yield f"pictures are resized to {self.resize}, neither one side nor two"
        if max(math.prod(self.resize or ()), math.prod(self.crop or ())) > PICTURE:
            yield f"pictures are resized to {self.resize} and cropped to {self.crop}, which is too large"
        if self.clip is not None and self.clip[0] > _FRAMES:
            yield f"clips have {self.clip[0]} frames, more than {_FRAMES:,}"

    def prepares(self) -> Preprocess | ClipPreprocess:
        """Return what prepares pictures or clips so. Raises MediaError for values that it does not take."""
        resize = self.resize[0] if self.resize is not None and len(self.resize) == 1 else self.resize
        values: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(Preprocess)}
        picture = Preprocess(**values | {"resize": resize})
        return picture if self.clip is None else ClipPreprocess(picture, *self.clip)


@dataclass(frozen=True, kw_only=True)
class _Header(JsonRecord):
    """The fields of an `Explanation` other than its arrays.

    findings: as tuples; `diagnostics` are their texts, which files of the first version have alone.
    """

    format: str
    method: str
    layer: str
    input_size: tuple[int, ...]
    targets: tuple[tuple[_Target, ...], ...]
    centers: tuple[tuple[float, ...], ...] | None = field(metadata=missing(None))
    windows: tuple[tuple[int, int, int], ...] | None = field(metadata=missing(None))
    frame_spans: tuple[tuple[int, int], ...] | None = field(metadata=missing(None))
    findings: tuple[tuple[str, int | None, str | None, str], ...] = field(metadata=missing(()))
    pictures: tuple[_Picture, ...] | None = field(metadata=missing(None))
    on: int = field(metadata=missing(0))
    axes: tuple[str, ...] | None = field(metadata=missing(None))
    sizes: tuple[tuple[int, ...], ...] | None = field(metadata=missing(None))
    preprocess: _Recipe | None = field(metadata=missing(None))
    diagnostics: tuple[str, ...] = field(default=(), metadata=missing(()))


def write(path: Path, explanation: Explanation) -> None:
    """Write all of an explanation, which `read` reads, but a function that prepared its pictures."""
    arrays = _arrays(explanation)
    for i, picture in enumerate(explanation.pictures or ()):
        arrays |= {_frame(i, j): np.frombuffer(file, np.uint8) for j, file in enumerate(picture.frames)}
    write_archive(path, _header(explanation), arrays)


def problems(explanation: Explanation) -> Iterator[str]:
    """Yield what about an explanation does not fit together, of one from elsewhere."""
    yield from _problems(_header(explanation), _arrays(explanation))


def _header(explanation: Explanation) -> _Header:
    return _Header(
        format=_FORMAT,
        method=explanation.method,
        layer=explanation.layer,
        input_size=explanation.input_size,
        targets=tuple(tuple(map(_parts, row)) for row in explanation.targets),
        centers=explanation.centers,
        windows=explanation.windows,
        frame_spans=explanation.frame_spans,
        findings=tuple(astuple(finding) for finding in explanation.findings),
        pictures=tuple(map(_about, explanation.pictures or ())) or None,
        on=explanation.on,
        axes=explanation.axes,
        sizes=explanation.sizes,
        preprocess=_Recipe.of(explanation.preprocess),
    )


def _arrays(explanation: Explanation) -> dict[str, np.ndarray]:
    attention = explanation.attention
    arrays = {"maps": explanation.maps, "scores": explanation.scores}
    if explanation.confidences is not None:
        arrays["confidences"] = explanation.confidences
    if explanation.interval is not None:
        arrays["interval"] = explanation.interval
    if attention is not None:
        arrays |= dict(zip(_ATTENTION, (attention.weights, attention.contributions), strict=True))
    return arrays


def read(archive: Archive, make: type[Explanation]) -> Explanation:
    """Return the explanation in a file; `make` makes it of its fields.

    Raises MediaError for a file that `write` has not written, and for one whose parts do not fit each other:
    whatever is drawn from it later relies on that.
    """
    header = archive.header(_Header, _FORMAT)
    frames = [_frames(archive, i) for i in range(len(header.pictures or ()))]
    archive.refuse_others({*_ARRAYS, *_OPTIONAL}.union(*frames))
    arrays = {name: archive[name] for name in (*_ARRAYS, *filter(archive.__contains__, _OPTIONAL))}
    for problem in _problems(header, arrays):
        raise archive.error(problem)
    try:
        preprocess = None if header.preprocess is None else header.preprocess.prepares()
        pictures = tuple(
            Stills(tuple(archive[name].tobytes() for name in names), **vars(about))
            for about, names in zip(header.pictures or (), frames, strict=True)
        )
    except MediaError as error:
        raise archive.error(str(error)) from error
    # Files of the first version hold the texts of the findings alone.
    notes = tuple(map(note, header.diagnostics))
    attention = [arrays[name] for name in _ATTENTION if name in arrays]
    return make(
        arrays["maps"],
        arrays["scores"],
        tuple(tuple(_target(*parts) for parts in row) for row in header.targets),
        header.method,
        header.layer,
        header.input_size,
        centers=header.centers,
        windows=None if header.windows is None else tuple(Window(*one) for one in header.windows),
        frame_spans=header.frame_spans,
        attention=Attention(*attention) if attention else None,
        findings=tuple(Finding(*parts) for parts in header.findings) or notes,
        confidences=arrays.get("confidences"),
        interval=arrays.get("interval"),
        pictures=pictures or None,
        on=header.on,
        axes=header.axes,
        sizes=header.sizes,
        preprocess=preprocess,
    )


def _problems(header: _Header, arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield what does not fit."""
    maps = arrays["maps"]
    if {values.dtype.kind for values in arrays.values()} != {"f"} or maps.ndim not in (3, 4, 5):
        yield f"maps are {maps.dtype} {maps.shape}, not floats (batch, target, *grid)"
    batch, targets, *grid = maps.shape
    for name in ("scores", "confidences"):
        if name in arrays and arrays[name].shape != (batch, targets):
            yield f"{name} are {arrays[name].shape} of maps {maps.shape}"
    if "interval" in arrays and arrays["interval"].shape != maps.shape:
        yield f"interval is {arrays['interval'].shape} of maps {maps.shape}"
    if [len(row) for row in header.targets] != [targets] * batch or not all(
        map(_names_a_target, chain.from_iterable(header.targets))
    ):
        yield f"targets are not one for each of {batch} samples and {targets} scores"
    yield from _misplaced(header, targets, grid)
    yield from () if header.preprocess is None else header.preprocess.problems()
    shapes = [arrays[name].shape for name in _ATTENTION if name in arrays]
    frames = shapes[0][-1:] if shapes else ()
    if shapes and shapes != [(batch, *frames), (batch, targets, *frames)]:
        yield f"attention is {shapes} of maps {maps.shape}"
    if header.axes is not None and len(header.axes) != len(grid):
        yield f"axes are {header.axes} of maps {maps.shape}"
    words = [one[3] for one in chain.from_iterable(header.targets) if len(one) == 4]
    whole = header.axes == WORDS and len(words) == batch * targets
    if (words or header.axes == WORDS) and not (whole and max(map(len, words)) <= grid[0]):
        yield f"words are not those of {targets} texts, of at most {grid[0]} words"
    if header.on < 0:
        yield f"on is {header.on}, no number of an input"
    sizes = header.sizes or (header.input_size,) * batch
    within = all(
        len(size) == len(header.input_size)
        and all(0 < side <= most for side, most in zip(size, header.input_size, strict=True))
        for size in sizes
    )
    if len(sizes) != batch or not within:
        yield f"sizes are not one for each of {batch} samples, of at most {header.input_size}"
    if header.pictures is not None and len(header.pictures) != batch:
        yield f"{len(header.pictures)} pictures are kept of {batch} samples"


def _misplaced(header: _Header, targets: int, grid: Sequence[int]) -> Iterator[str]:
    """Yield what the header says of places that no map of this grid has."""
    size, centers, spans = header.input_size, header.centers, header.frame_spans
    if len(size) != len(grid) or min(size) < 1:
        yield f"inputs are {size} for maps on {tuple(grid)}"
    frames = size[0] if len(grid) == 3 else 1
    if max(math.prod(size), frames * targets * math.prod(grid[-2:])) > _LARGEST or frames > _FRAMES:
        yield f"inputs of {size} have too many places, more than {_LARGEST:,} or {_FRAMES:,} frames"
    placed = None if centers is None else [[at for at in axis if math.isfinite(at)] for axis in centers]
    if placed is not None and [len(axis) for axis in placed] != list(grid):
        yield f"centers are not one for each cell of {tuple(grid)}"
    if header.windows is not None and len(header.windows) != len(grid):
        yield f"windows are not one for each axis of {tuple(grid)}"
    fits = spans is None or all(0 <= first <= last < size[0] for first, last in spans)
    if not fits or (spans is not None and len(spans) != grid[0]):
        yield f"frame_spans are not one for each of {grid[0]} slices, of {size[0]} frames"
    for picture in header.pictures or ():
        if len(picture.places) != frames:
            yield f"a picture has {len(picture.places)} places for {frames} frames"


def _names_a_target(parts: _Target) -> bool:
    match parts:
        case (str(), int() | None) | (str(), int() | None, bool()):
            return True
        case (str(), int() | None, bool(), None, None, int(), int()):
            return True
        case (str(), int() | None, bool(), [*words]):
            return all(isinstance(word, str) for word in words)
        case (str(), int() | None, bool(), [_, _, _, _] as box, float(), int(), int()):
            return all(isinstance(side, float) for side in box)
    return False


def _parts(info: TargetInfo) -> _Target:
    parts = (info.name, info.index, info.signed)
    if isinstance(info, WordsInfo):
        return (*parts, info.words)
    if not isinstance(info, BoxInfo):
        return parts
    return (*parts, info.box, None if info.box is None else info.score, info.row, info.level)


def _target(name: str, index: int | None, signed: bool = False, *more: Any) -> TargetInfo:
    if not more:
        return TargetInfo(name, index, signed=signed)
    if len(more) == 1:
        return WordsInfo(name, index, signed=signed, words=tuple(more[0]))
    box, score, row, level = more
    if box is None:
        return BoxInfo(name, index, signed=signed)
    x0, y0, x1, y1 = box
    return BoxInfo(name, index, signed=signed, box=(x0, y0, x1, y1), score=score, row=row, level=level)


def _about(picture: Stills) -> _Picture:
    return _Picture(**{one.name: getattr(picture, one.name) for one in fields(_Picture)})


def _frame(sample: int, number: int) -> str:
    return f"picture.{sample}.{number}"


def _frames(archive: Archive, sample: int) -> list[str]:
    """Return the names of the frames of one sample, in order."""
    return list(takewhile(archive.__contains__, (_frame(sample, number) for number in count())))


def _sides(sides: int | Sequence[int] | None) -> tuple[int, ...] | None:
    return None if sides is None else tuple(map(int, sides if isinstance(sides, Sequence) else (sides,)))
