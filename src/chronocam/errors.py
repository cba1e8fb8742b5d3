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

from difflib import get_close_matches

__all__ = [
    "CameraError",
    "ChronocamError",
    "InputError",
    "LayerError",
    "LayoutError",
    "MediaError",
    "ModelError",
    "TargetError",
]


class ChronocamError(ValueError):
    """Base of every error that chronocam raises on purpose.

    Example:
    >>> try:
    ...     cc.GradCAM(model, "conv9")
    ... except cc.errors.ChronocamError as error:
    ...     print(error)
    no layer `conv9`; did you mean `conv2` or `conv1`?...
    """


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
    chronocam.errors.ModelError: cannot explain a builtins.str...
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


def suggest(value: str, known: list[str], limit: int = 3) -> str:
    """Return `"; did you mean …?"` for the known names closest to `value`, or an empty string."""
    close = get_close_matches(value, known, n=limit, cutoff=0.6)
    return f"; did you mean {' or '.join(f'`{name}`' for name in close)}?" if close else ""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type where it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
