"""What chronocam raises. Every message names the value, what was expected and the next step, in one line.

ChronocamError (a ValueError)
├── InputError      an input array: rank, shape, type, NaN
├── TargetError     a class, label or score that cannot be explained
├── LayerError      a layer that does not exist, or that the score does not depend on
├── LayoutError     a layer output that cannot be put on a grid
├── ModelError      a model or spec that cannot be loaded or explained
└── MediaError      a picture or clip that cannot be read or written
    └── CameraError a drive whose intrinsics nobody tells
"""


class ChronocamError(ValueError):
    """Base of every error that chronocam raises on purpose."""


class InputError(ChronocamError):
    """An input array that the model or the method cannot take."""


class TargetError(ChronocamError):
    """A target that names nothing, or more than one thing, in the model's outputs."""


class LayerError(ChronocamError):
    """A layer that does not exist, or that the score does not depend on."""


class LayoutError(ChronocamError):
    """A layer output that cannot be put on a grid."""


class ModelError(ChronocamError):
    """A model or model spec that cannot be loaded or explained."""


class MediaError(ChronocamError):
    """A picture or clip that cannot be read or written."""


class CameraError(MediaError):
    """A drive that comes without the intrinsics of its camera."""


def suggest(value: str, known: list[str], limit: int = 3) -> str:
    """Return `"; did you mean …?"` for the known names closest to `value`, or an empty string."""
    from difflib import get_close_matches

    close = get_close_matches(value, known, n=limit, cutoff=0.6)
    return f"; did you mean {' or '.join(f'`{name}`' for name in close)}?" if close else ""
