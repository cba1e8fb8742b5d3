"""A 2D CNN of Keras as the engine sees it: a model of frames that gives one feature vector each."""

from __future__ import annotations

import keras
from keras import ops

from chronocam.errors import ChronocamError, InputError, ModelError, first_line
from chronocam.types import Array

SHAPE = "(batch, time, height, width, channel)"


class KerasFrameFeatures(keras.Model):  # type: ignore[misc]  # without types
    """A model of frames `(n, height, width, channel)` that returns the features `(n, feature)` of `cnn`.

    cnn: any model from such frames to `(n, feature)` or `(n, height, width, feature)`, averaged over the
        grid.
    """

    def __init__(self, cnn: keras.Model) -> None:
        super().__init__()
        self.cnn = cnn
        self.built = True  # as far as the CNN is

    def call(self, frames: Array) -> Array:
        """Return the features. Raises InputError if the CNN fails, ModelError for outputs of other shapes."""
        try:
            features = self.cnn(frames, training=False)
        except Exception as error:
            if isinstance(error, ChronocamError):
                raise
            raise InputError(
                f"the CNN fails on frames of shape {tuple(frames.shape[1:])} "
                f"({first_line(error)}); expected {SHAPE}, as the CNN takes them"
            ) from error
        shape = tuple(getattr(features, "shape", ()))
        if len(shape) not in (2, 4):
            what = shape or f"a {type(features).__name__}"
            raise ModelError(f"the CNN returns {what}; expected (n, feature) or (n, height, width, feature)")
        return ops.mean(features, axis=(1, 2)) if len(shape) == 4 else features


def frame_features(cnn: keras.Model) -> KerasFrameFeatures:
    """Return `cnn` as features of frames."""
    return KerasFrameFeatures(cnn)


def path_of(cnn: keras.Model) -> str:
    """Return how the path of a layer of the CNN begins among those of its frame features."""
    return f"{cnn.name}/"


def clip_features(model: keras.Model, clips: Array) -> Array:
    """Raise ModelError: a model's own `features` are for PyTorch."""
    raise ModelError("Keras models cannot be asked for their features; pass features (batch, time, feature)")
