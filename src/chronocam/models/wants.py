"""What a model wants, as its user says it: options, a mapping, or `chronocam.json` beside the file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast

from chronocam.errors import MediaError, ModelError, first_line, suggest
from chronocam.jsonable import LONGEST, parse_json, read_json
from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.files import is_file, is_folder
from chronocam.media.limits import PICTURE
from chronocam.media.preprocess import Preprocess

Recipe: TypeAlias = Preprocess | ClipPreprocess

SIDECAR: Final = "chronocam.json"
"""The file that says what the models beside it want."""

_FRAMES: Final = 16
_ORDERS: Final = ("rgb", "bgr", "grey", "yuv", "bgr2yuv")
_AXES: Final[Mapping[str, tuple[str | None, Literal["first", "last"]]]] = {
    "channel height width": (None, "first"),
    "height width channel": (None, "last"),
    "channel time height width": ("channel time", "first"),
    "time channel height width": ("time channel", "first"),
    "time height width channel": ("time channel", "last"),
    "channel time": ("channel time", "first"),
    "time channel": ("time channel", "first"),
}
_LETTERS: Final = {"t": "time", "c": "channel", "h": "height", "w": "width"}


@dataclass(frozen=True)
class Wants:
    """What was said; None where nothing was.

    size: (height, width) of pictures and frames.
    scale: what 8-bit values are multiplied by; mean, std: per channel, of values already scaled.
    range: what 0 and 255 become.
    channels: `rgb`, `bgr`, `grey`, `yuv` or `bgr2yuv`.
    axes: of one input, as `_AXES` has them. frames: of a clip.
    labels: the names of the outputs.
    """

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float | None = None
    range: tuple[float, float] | None = None
    channels: str | None = None
    axes: str | None = None
    frames: int | None = None
    labels: tuple[str, ...] | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any], where: str, folder: Path | None = None) -> Wants:
        """Return what settings say; each is a text, as `66x200`, `1/255` and `-1..1`, or numbers.

        where: what holds them, for messages. folder: of the files that they name.
        Raises ModelError for a name or a value that does not fit.
        """
        read = {}
        for name, value in settings.items():
            if name not in _READERS:
                hint = suggest(name, list(_READERS)) or f"; expected one of {', '.join(_READERS)}"
                raise ModelError(f"{where}: there is no setting `{name}`{hint}")
            if value is not None:
                read[name] = _read(name, value, where, folder)
        wants = cls(**read)
        if wants.range is not None and (wants.mean, wants.std, wants.scale) != (None, None, None):
            raise ModelError(f"{where}: range says what scale, mean and std say; give one or the other")
        return wants

    def over(self, other: Wants) -> Wants:
        """Return these wants, and those of another where these say nothing.

        A range, and scale, mean and std, say the same: they are taken from one side.
        """
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        values = {"range", "mean", "std", "scale"}
        taken = values if any(said[name] is not None for name in values) else set()
        rest = {field.name: getattr(other, field.name) for field in fields(self)}
        return Wants(
            **{name: rest[name] if said[name] is None and name not in taken else said[name] for name in said}
        )

    def applied(self, recipe: Recipe | None, where: str) -> Recipe | None:
        """Return a recipe with what was said in the place of what it had.

        Raises ModelError where the model takes features, and where values do not fit the channels.
        """
        if replace(self, labels=None, frames=None) == Wants():
            frames = self.frames if isinstance(recipe, ClipPreprocess) else None
            return replace(recipe, frames=frames) if frames and isinstance(recipe, ClipPreprocess) else recipe
        if recipe is None and self.size is None:
            raise ModelError(f"{where} takes features, as far as its file tells; for pictures give size too")
        clip = recipe if isinstance(recipe, ClipPreprocess) else None
        plain = Preprocess(self.size, None, (0.0,) * 3, (1.0,) * 3)
        frame = self._frame(
            plain if recipe is None else clip.frame if clip else cast("Preprocess", recipe), where
        )
        time, channels = (None, None) if self.axes is None else _AXES[self.axes]
        if channels is not None:
            frame = replace(frame, channels=channels)
        if clip is not None and self.axes is not None and time is None:
            return frame
        if clip is None and time is None:
            return frame
        before = clip or ClipPreprocess(replace(frame, channels="first"), _FRAMES)
        return replace(before, frame=frame, axes=time or before.axes, frames=self.frames or before.frames)

    def _frame(self, picture: Preprocess, where: str) -> Preprocess:
        """Return the recipe of a picture or frame."""
        if self.size is not None:
            picture = replace(picture, resize=_resized(picture, self.size), crop=picture.crop and self.size)
        count = {None: len(picture.mean), "grey": 1}.get(self.channels, 3)
        if count != len(picture.mean):
            picture = replace(
                picture,
                mean=(sum(picture.mean) / len(picture.mean),) * count,
                std=(sum(picture.std) / len(picture.std),) * count,
            )
        if self.channels is not None:
            order = "rgb" if self.channels == "grey" else self.channels
            picture = replace(picture, order=cast("Any", order))
        return self._valued(picture, count, where)

    def _valued(self, picture: Preprocess, count: int, where: str) -> Preprocess:
        """Return a recipe with the values that were said: scale 1/255, mean 0 and std 1 where left out."""
        if self.range is not None:
            low, high = self.range
            mean, std, scale = (-low / (high - low),) * count, (1 / (high - low),) * count, 1 / 255
        elif (self.mean, self.std, self.scale) == (None, None, None):
            return picture
        else:
            mean, std = (
                values * count if len(values) == 1 else values
                for values in (self.mean or (0.0,), self.std or (1.0,))
            )
            scale = 1 / 255 if self.scale is None else self.scale
        if {len(mean), len(std)} != {count}:
            raise ModelError(
                f"{where}: mean {mean} and std {std} for {count} channels; expected one number, or one each"
            )
        if self.scale is None and max(mean) > 2:
            raise ModelError(
                f"{where}: mean {mean} is of values up to 255, and scale 1/255; give scale 1 too"
            )
        return replace(picture, mean=mean, std=std, scale=scale, assumption=None)


def beside(path: Path) -> Wants:
    """Return what `chronocam.json` beside a model's file, or in its folder, says.

    Raises ModelError where it is damaged.
    """
    sidecar = (path if is_folder(path) else path.parent) / SIDECAR
    if not is_file(sidecar):
        return Wants()
    try:
        settings = read_json(sidecar)
    except MediaError as error:
        raise ModelError(
            f"`{sidecar}` cannot be read ({first_line(error)}); expected a JSON object"
        ) from error
    if not isinstance(settings, dict):
        raise ModelError(f"`{sidecar}` holds a {type(settings).__name__}; expected a JSON object")
    return Wants.of(settings, f"`{sidecar}`", path.parent)


def labels_of(labels: str | Path | Sequence[str], folder: Path | None = None) -> tuple[str, ...]:
    """Return labels as they are given, or from a file: a line each, or JSON, a list or names by index.

    folder: of the file that names that of the labels, which must be in it.
    Raises ModelError for a file that is not there or holds none.
    """
    if not isinstance(labels, (str, Path)):
        return tuple(map(str, labels))
    path = Path(labels) if folder is None else folder / labels
    if folder is not None and not path.resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"labels `{labels}` are not in `{folder}`, the folder of the model; put them there")
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(LONGEST + 1)
        if len(text) > LONGEST:
            raise MediaError(f"more than {LONGEST:,} letters")
        names = _of_json(parse_json(text)) if path.suffix == ".json" else text.splitlines()
    except (OSError, ValueError, KeyError, TypeError, MediaError) as error:
        problem = f"labels cannot be read from `{path}` ({first_line(error)})"
        raise ModelError(f"{problem}; expected a file with a label per line, or a JSON list") from error
    while names and not names[-1].strip():
        names.pop()
    if not names:
        raise ModelError(f"`{path}` holds no labels; expected a label per line, or a JSON list")
    return tuple(name.strip() for name in names)


def _of_json(content: Any) -> list[str]:
    """Return labels of a list or of names by index, which are as in `{"0": ["n01440764", "tench"], …}`."""
    if isinstance(content, dict):
        content = [content[str(number)] for number in range(len(content))]
    return [str(one[-1] if isinstance(one, list) else one) for one in content]


def _resized(picture: Preprocess, size: tuple[int, int]) -> int | tuple[int, int]:
    """Return what a picture is resized to: larger than the crop by the share that it was, if there is one."""
    if picture.crop is None or picture.resize is None or size[0] != size[1]:
        return size
    if isinstance(picture.resize, tuple):
        height, width = (round(n * size[0] / picture.crop[0]) for n in picture.resize)
        return height, width
    return round(picture.resize * size[0] / picture.crop[0])


def _read(name: str, value: Any, where: str, folder: Path | None) -> Any:
    read, expected = _READERS[name]
    try:
        return labels_of(value, folder) if name == "labels" else read(value)
    except ModelError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise ModelError(f"{where}: {name} `{value}`; expected {expected}") from error


def _number(value: Any) -> float:
    """Return a number, or a fraction as `1/255`."""
    above, below = value.split("/") if isinstance(value, str) and "/" in value else (value, 1)
    number = float(above) / float(below)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _numbers(value: Any) -> tuple[float, ...]:
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, Sequence) else [value]
    numbers = tuple(map(_number, parts))
    if len(numbers) not in (1, 3):
        raise ValueError(value)
    return numbers


def _spread(value: Any) -> tuple[float, ...]:
    numbers = _numbers(value)
    if min(numbers) <= 0:
        raise ValueError(value)
    return numbers


def _positive(value: Any) -> float:
    return _spread([value])[0]


def _span(value: Any) -> tuple[float, float]:
    low, high = map(_number, re.split(r"\.\.|…", value) if isinstance(value, str) else value)
    if not low < high:
        raise ValueError(value)
    return low, high


def _size(value: Any) -> tuple[int, int]:
    parts = (
        re.split(r"[x×,]", value) if isinstance(value, str) else [value] if isinstance(value, int) else value
    )
    sides = [int(part) for part in parts]
    if len(sides) not in (1, 2) or min(sides) < 1 or sides[0] * sides[-1] > PICTURE:
        raise ValueError(value)
    return sides[0], sides[-1]


def _count(value: Any) -> int:
    if int(value) < 1:
        raise ValueError(value)
    return int(value)


def _order(value: Any) -> str:
    order = {"gray": "grey", "l": "grey"}.get(value.lower(), value.lower())
    if order not in _ORDERS:
        raise ValueError(value)
    return cast("str", order)


def _axes(value: Any) -> str:
    """Return axes in words, of which letters as `tchw` are the first ones; a batch axis is left out."""
    words = value.lower().replace(",", " ").split()
    if len(words) == 1:
        words = [_LETTERS[letter] for letter in words[0].removeprefix("n").removeprefix("b")]
    axes = " ".join(words)
    if axes not in _AXES:
        raise ValueError(value)
    return axes


_READERS: Final[Mapping[str, tuple[Callable[[Any], Any], str]]] = {
    "size": (_size, "a side, or height x width such as 66x200"),
    "mean": (_numbers, "one number, or one per channel such as 0.5,0.5,0.5"),
    "std": (_spread, "one number above 0, or one per channel such as 0.5,0.5,0.5"),
    "scale": (_positive, "a number above 0 such as 1/255"),
    "range": (_span, "what 0 and 255 become, such as -1..1"),
    "channels": (_order, f"one of {', '.join(_ORDERS)}"),
    "axes": (_axes, "the order of the axes of one input: chw, hwc, cthw, tchw or thwc"),
    "frames": (_count, "how many frames a clip has"),
    "labels": (labels_of, "names, or a file with a label per line"),
}
