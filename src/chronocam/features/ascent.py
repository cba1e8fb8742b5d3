"""Activation maximisation: an input that excites a channel, or a class, as much as it can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import Float, UInt8

from chronocam._repr import ShortRepr
from chronocam.engines import Engine, Request, Result, engine_for
from chronocam.errors import InputError, LayerError, TargetError
from chronocam.features.climb import Climb
from chronocam.features.drawn import Drawn, insist_on_layer
from chronocam.joint.look.look import Look, look_at
from chronocam.joint.look.subject import Subject
from chronocam.maps.arrays import namespace, to_numpy, widen
from chronocam.media import Preprocess
from chronocam.render.sheets.features import Tile, feature_sheet, flat
from chronocam.targets.labels import find_label
from chronocam.types import INPUT, Array, LayerLike, Model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIZE: Final = 224
_SLICES: Final = 8  # of a clip that are drawn


@dataclass(frozen=True, eq=False)
class Maximised(ShortRepr, Drawn):
    """Inputs that excite channels, and how the activation rose.

    inputs: `(channel, *input)`, as the model takes them.
    colours: the same from 0 to 1, channels last, as pictures.
    curves: `(channel, step + 1)`, the activation before each step, and at last that of `inputs`.
    channels: their numbers.
    names: of the channels; labels where they are classes.
    layer: its path.

    Example:
    >>> excited = cc.features.activation_maximisation(model, "conv2", [0, 3], shape=(3, 32, 32), steps=4)
    >>> excited.inputs.shape, excited.curves.shape
    ((2, 3, 32, 32), (2, 5))
    >>> excited.save("excited.png").name
    'excited.png'
    """

    inputs: Float[np.ndarray, " channel *input"]
    colours: Float[np.ndarray, "channel *grid colours"]
    curves: Float[np.ndarray, "channel steps"]
    channels: tuple[int, ...]
    names: tuple[str, ...]
    layer: str

    @property
    def diagnostics(self) -> tuple[str, ...]:
        """Which channels did not rise, and what to do."""
        todo = "a closed ReLU passes no gradient: take the layer before it, or another seed"
        return tuple(
            f"{name} of {self.layer} did not rise; {todo}"
            for name, curve in zip(self.names, self.curves, strict=True)
            if not curve[-1] > curve[0]
        )

    def pictures(self) -> list[UInt8[np.ndarray, "height width colours"]]:
        """Return each input as a picture; of clips eight frames in a row."""
        return [_picture(one) for one in self.colours]

    def plot(self) -> Figure:
        """Return a matplotlib Figure: each input under its channel and its first and last activation; curves.

        Pictures are drawn as the model sees them; without `preprocess` zero is grey, and each is scaled by
        itself.
        """
        pictures = [p if p.shape[2] == 3 else np.repeat(p[..., :1], 3, axis=2) for p in self.pictures()]
        titles = [
            f"{name}\n{curve[0]:.4g} → {curve[-1]:.4g}"
            for name, curve in zip(self.names, self.curves, strict=True)
        ]
        tiles = [Tile(picture, title) for picture, title in zip(pictures, titles, strict=True)]
        steps = self.curves.shape[1] - 1
        heading = f"{self.layer}: inputs that excite a channel most, after {steps} steps"
        return feature_sheet(tiles, heading, dict(zip(self.names, self.curves, strict=True)))

    def arrays(self) -> Mapping[str, Array]:
        """Return inputs, curves, channels, names and layer."""
        words = {"names": np.asarray(self.names), "layer": np.asarray(self.layer)}
        return {"inputs": self.inputs, "curves": self.curves, "channels": np.asarray(self.channels), **words}


def activation_maximisation(
    model: Model,
    layer: LayerLike,
    channel: int | str | Sequence[int | str],
    *,
    shape: Sequence[int] | None = None,
    preprocess: Preprocess | None = None,
    steps: int = 128,
    rate: float = 0.05,
    jitter: int = 8,
    spectrum: float = 0.7,
    variation: float = 0.3,
    norm: float = 0.01,
    seed: int = 0,
) -> Maximised:
    """Return inputs that maximise the mean activation of channels, by gradient ascent from noise.

    The activation is averaged over the grid, and z ← z + rate · (ĝ − variation · ∇V(z) − norm · z) with ĝ its
    gradient, divided by its root mean square over the input, so that the weights mean the same at every
    layer, and V = ½ Σ (z_i − z_j)² over neighbours.

    layer: path, layer object or index; None for the model's output before a softmax, where channels are
        classes.
    channel: a number, for classes also a label; or several, each of which gets an input of its own.
    shape: of the input without the batch; None takes that of `preprocess`, else `(3, 224, 224)` (or channels
        last).
    preprocess: of the model's pictures: the input stays among the colours that there are, and is drawn so.
    steps: how many there are.
    rate: their length, in units of the input.
    jitter: before each look at it, z is moved by up to so many cells along the last two axes of its grid.
    spectrum: the gradient's Fourier coefficients are divided by this power of their frequency (but the lowest
        ones alike): at 0 fine texture wins, at 1 a step moves all frequencies as natural pictures hold them.
    variation: weight of the total variation V; 0 leaves it out.
    norm: weight of the squared length; 0 leaves it out.
    seed: of the noise and of the jitter.

    Deterministic; the model is left as found. Raises LayerError for an unknown layer, TargetError for an
    unknown channel, InputError for settings or a shape that do not fit.

    Example:
    >>> excited = cc.features.activation_maximisation(model, None, "dog", shape=(3, 32, 32), steps=8)
    >>> excited.names, bool(excited.curves[0, -1] > excited.curves[0, 0])
    (('dog',), True)

    Source: Erhan et al. 2009 (the objective); Simonyan et al. 2014 (norm); Mahendran and Vedaldi 2015 (total
    variation with β = 2, jitter); Olah et al. 2017 (the spectrum, as preconditioning of the gradient).
    """
    engine = engine_for(model)
    path = None if layer is None else insist_on_layer(engine.resolve(layer))
    subject = Subject(model, path)
    engine = subject.engine
    listed = [channel] if isinstance(channel, (int, str)) else list(channel)
    if not listed:
        raise TargetError("no channel is named; give one number, or several")
    numbers = [_number(engine, path, one) for one in listed]
    shape = _shape(engine, shape, preprocess)
    axis = Look(subject, np.empty((1, *shape), np.float32)).channel_axis
    low, high = _limits(preprocess, len(shape) + 1, axis)
    climb = Climb(axis, steps, rate, jitter, spectrum, variation, norm, seed, low, high)
    inputs, curves = climb.run((len(numbers), *shape), _look(subject, path, numbers))
    names = tuple(_name(engine, path, number) for number in numbers)
    colours = _colours(inputs, preprocess, axis)
    return Maximised(inputs, colours, curves, tuple(numbers), names, path or "output")


def _number(engine: Engine, path: str | None, channel: int | str) -> int:
    """Return the number of a channel, which may be a label where channels are classes."""
    if isinstance(channel, str):
        if path is not None or engine.labels is None:
            raise TargetError(
                f"channel `{channel}` is a name; give the number, or a label and the output (layer None)"
            )
        return find_label(engine.labels, channel)
    if channel < 0:
        raise TargetError(f"channel {channel}: channels are counted from 0")
    return int(channel)


def _name(engine: Engine, path: str | None, number: int) -> str:
    labels = engine.labels if path is None else None
    return labels[number] if labels is not None and number < len(labels) else f"channel {number}"


def _shape(engine: Engine, shape: Sequence[int] | None, preprocess: Preprocess | None) -> tuple[int, ...]:
    """Return the shape of one input. Raises InputError where it has no grid."""
    if shape is not None:
        if len(shape) < 2 or min(shape) < 1:
            raise InputError(f"shape is {tuple(shape)}; expected that of one input, such as (3, 224, 224)")
        return tuple(shape)
    size = _size(preprocess)
    channels = 3 if preprocess is None else len(preprocess.mean)
    last = engine.channels_last if preprocess is None else preprocess.channels == "last"
    return (*size, channels) if last else (channels, *size)


def _size(preprocess: Preprocess | None) -> tuple[int, int]:
    if preprocess is not None and preprocess.crop is not None:
        return preprocess.crop
    if preprocess is not None and isinstance(preprocess.resize, tuple):
        return preprocess.resize
    return _SIZE, _SIZE


def _limits(preprocess: Preprocess | None, rank: int, axis: int | None) -> tuple[Array, Array]:
    """Return the least and the largest value of each colour as the model gets it, shaped for the input."""
    if preprocess is None:
        return None, None
    mean, std = (np.asarray(values, np.float32) for values in (preprocess.mean, preprocess.std))
    sides = [1] * rank
    sides[axis if axis is not None else -1] = len(mean)
    ends = (0.0, 255 * preprocess.scale)
    low, high = (((end - mean) / std).reshape(sides).astype(np.float32) for end in ends)
    return low, high


def _look(
    subject: Subject, path: str | None, numbers: Sequence[int]
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return what gives the activation of each input's channel and its gradient, from one pass."""
    engine, layer = subject.engine, path or "output"

    def activations(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        look = look_at(subject, z)

        def score(result: Result) -> Array:
            means = _means(result.logits(), look, layer)
            known = means.shape[1]
            if max(numbers) >= known:
                raise TargetError(
                    f"no channel {max(numbers)} in {path or 'the output'}; it has {known}, from 0"
                )
            own = [means[place, number] for place, number in enumerate(numbers)]
            return namespace(means).stack(own)[:, None]

        # One pass for all: input k is scored by channel k alone, and so is its gradient.
        recording = engine.record(look.inputs, score, Request([INPUT], gradients=[INPUT]))
        if INPUT not in recording.gradients:
            raise LayerError(f"`{layer}` does not depend on the input by a gradient; choose another layer")
        values, gradient = recording.scores[:, 0], recording.gradients[INPUT][0][0]
        return to_numpy(widen(values)).astype(np.float64), to_numpy(widen(gradient)).astype(np.float32)

    return activations


def _means(values: Array, look: Look, layer: str) -> Array:
    """Return the mean of each channel over its grid, `(batch, channel)`."""
    if values.ndim == 2 and values.shape[0] == look.shape[0]:
        return values
    on_grid = look.on_grid(layer, [values], order="time")  # means do not depend on the order of tokens
    xp = namespace(on_grid)
    return xp.mean(xp.reshape(on_grid, (*on_grid.shape[:2], -1)), axis=2)


def _colours(inputs: np.ndarray, preprocess: Preprocess | None, axis: int | None) -> np.ndarray:
    """Return inputs as colours from 0 to 1, channels last.

    They are those before the preprocessing; without one 0 is in the middle.
    """
    last = inputs[..., None] if axis is None else np.moveaxis(inputs, axis, -1)
    if preprocess is None:
        largest = np.abs(last).reshape(len(last), -1).max(axis=1).reshape(-1, *[1] * (last.ndim - 1))
        return 0.5 + 0.5 * last / np.where(largest > 0, largest, 1)
    return np.clip(preprocess.pixels(last) / 255, 0, 1)


def _picture(colours: Float[np.ndarray, "*grid colours"]) -> UInt8[np.ndarray, "height width colours"]:
    flattened = [flat(colours[..., place], _SLICES) for place in range(colours.shape[-1])]
    return np.rint(255 * np.nan_to_num(np.stack(flattened, axis=-1), nan=1)).astype(np.uint8)
