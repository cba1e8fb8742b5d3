"""What chronocam raises. Every message names the value, what was expected and the next step, in one line.

ChronocamError (a ValueError)
├── InputError      an input array: rank, shape, type, NaN
├── TargetError     a class, label or score that cannot be explained
├── LayerError      a layer that does not exist, or that the score does not depend on
├── LayoutError     a layer output that cannot be put on a grid
├── ModelError      a model or spec that cannot be loaded or explained
└── MediaError      a picture or clip that cannot be read or written
    └── CameraError a drive that comes without the intrinsics of its camera
"""

import sys
import unicodedata
from collections.abc import Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Final, cast

__all__ = [
    "CameraError",
    "ChronocamError",
    "InputError",
    "LayerError",
    "LayoutError",
    "MediaError",
    "ModelError",
    "TargetError",
    "printable",
]


_LONGEST: Final = 1000  # letters of a message: some list all specs, and values in it may be of any length

POSITIVE: Final = sys.float_info.min
"""The least number above zero that keeps its precision: what an option is that must not be zero."""


class ChronocamError(ValueError):
    """Base of every error that chronocam raises on purpose.

    Names, labels and specs come from anywhere: the message is made `printable`.

    Example:
    >>> try:
    ...     cc.GradCAM(model, "conv9")
    ... except cc.errors.ChronocamError as error:
    ...     print(error)
    no layer `conv9`; did you mean `conv2` or `conv1`?...
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(str(message)))


class InputError(ChronocamError):
    """An input array that the model or the method cannot take.

    Example:
    >>> cc.GradCAM(model).explain(images[0])
    Traceback (most recent call last):
    chronocam.errors.InputError: ...
    """


class TargetError(ChronocamError):
    """A target that names nothing, or more than one thing, in the model's outputs.

    Example:
    >>> cc.GradCAM(model).explain(images, "horse")
    Traceback (most recent call last):
    chronocam.errors.TargetError: no label `horse`...
    """


class LayerError(ChronocamError):
    """A layer that does not exist, or that the score does not depend on.

    Example:
    >>> cc.GradCAM(model, "conv9")
    Traceback (most recent call last):
    chronocam.errors.LayerError: no layer `conv9`; did you mean `conv2` or `conv1`?...
    """


class LayoutError(ChronocamError):
    """A layer output that cannot be put on a grid.

    Example:
    >>> cc.GradCAM(model, "flatten").explain(images)
    Traceback (most recent call last):
    chronocam.errors.LayoutError: ...
    """


class ModelError(ChronocamError):
    """A model or model spec that cannot be loaded or explained.

    Example:
    >>> cc.GradCAM("resnet50")
    Traceback (most recent call last):
    chronocam.errors.ModelError: cannot explain a str, `resnet50`; ...
    """


class MediaError(ChronocamError):
    """A picture or clip that cannot be read or written.

    Example:
    >>> cc.media.read_image("photo.jpg")
    Traceback (most recent call last):
    chronocam.errors.MediaError: `photo.jpg` does not exist; ...
    """


class CameraError(MediaError):
    """A drive that comes without the intrinsics of its camera.

    Example:
    >>> issubclass(cc.errors.CameraError, cc.errors.MediaError)
    True
    """


def check_whole(name: str, value: object, expected: str, least: int = 1) -> None:
    """Raise InputError unless an option is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise InputError(f"{name} is {value}; expected {expected}")


def check_real(
    name: str, value: object, expected: str, least: float = 0.0, most: float = sys.float_info.max
) -> None:
    """Raise InputError unless an option is a number from `least` to `most`."""
    fits = isinstance(value, Real) and not isinstance(value, bool)
    if not fits or not least <= cast("float", value) <= most:
        raise InputError(f"{name} is {value}; expected {expected}")


def printable(text: str, most: int = _LONGEST) -> str:
    r"""Return text as one line that changes nothing on a terminal, of at most `most` letters.

    Control characters, line breaks, marks of direction and halves of surrogate pairs are shown as Python
    writes them; of a longer text the middle is left out.

    Example:
    >>> cc.errors.printable("red\n\x1b[31m.png")
    'red\\n\\x1b[31m.png'
    """
    short = _shortened(text, most)
    if short.isprintable():
        return short
    return _shortened("".join(map(_shown, short)), most)


def encodable(text: str) -> str:
    r"""Return text that UTF-8 can hold: halves of surrogate pairs, which it cannot, are written out.

    Example:
    >>> cc.errors.encodable("bad\udcff.png")
    'bad\\udcff.png'
    """
    return text.encode(errors="backslashreplace").decode()


def _shown(letter: str) -> str:
    # Spaces of other widths are harmless, and common in names.
    plain = letter.isprintable() or unicodedata.category(letter) == "Zs"
    return letter if plain else letter.encode("unicode_escape").decode()


def _shortened(text: str, most: int) -> str:
    """Return text without its middle where it is longer: both ends say something."""
    tail = most // 4
    return text if len(text) <= most else f"{text[: most - tail - 1]}…{text[-tail:]}"


def suggest(value: str, known: list[str], limit: int = 3) -> str:
    """Return `"; did you mean …?"` for the known names closest to `value`, in any case; or an empty text.

    Names that go on after `value` come first, the shortest before the others.
    """
    names, begun = {name.lower(): name for name in known}, value.lower()
    longer = sorted((one for one in names if one.startswith(begun)), key=len) if len(begun) > 3 else []
    close = list(dict.fromkeys([*longer, *get_close_matches(begun, names, n=limit, cutoff=0.6)]))[:limit]
    return f"; did you mean {' or '.join(f'`{names[one]}`' for one in close)}?" if close else ""


def a_kind(value: object) -> str:
    """Return the name of a value's type with its article, as in `an ImageFolder`."""
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def few(names: Sequence[str], most: int = 3) -> str:
    """Return the first of many names, and `…` where there are more."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type where it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
