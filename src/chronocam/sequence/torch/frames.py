"""A 2D CNN as the engine sees it: a module of frames that gives one feature vector each."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from chronocam.engines.scoped import scoped
from chronocam.engines.torch.layers import Layers, unwrap
from chronocam.engines.torch.scope import couples_samples, settle
from chronocam.errors import ChronocamError, InputError, ModelError, first_line

SHAPE = "(batch, time, channel, height, width)"


class TorchFrameFeatures(nn.Module):
    """A module of frames `(n, channel, height, width)` that returns the features `(n, feature)` of `cnn`.

    cnn: any module from such frames to `(n, feature)` or `(n, feature, height, width)`, averaged over the
        grid; or a model of clips with the methods `features` and `from_features`, of which the first is used.
    """

    def __init__(self, cnn: nn.Module) -> None:
        super().__init__()
        self.cnn = cnn

    def forward(self, frames: Tensor) -> Tensor:
        """Return the features. Raises InputError if the CNN fails, ModelError for outputs of other shapes."""
        try:
            features = self._features(frames)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if isinstance(error, (ChronocamError, torch.OutOfMemoryError)):
                raise
            raise InputError(
                f"the CNN fails on frames of shape {tuple(frames.shape[1:])} "
                f"({first_line(error)}); expected {SHAPE}, as the CNN takes them"
            ) from error
        if not isinstance(features, Tensor) or features.ndim not in (2, 4):
            shape = tuple(features.shape) if isinstance(features, Tensor) else f"a {type(features).__name__}"
            raise ModelError(f"the CNN returns {shape}; expected (n, feature) or (n, feature, height, width)")
        return features.mean(dim=(2, 3)) if features.ndim == 4 else features

    def _features(self, frames: Tensor) -> Any:
        cnn: Any = self.cnn
        return cnn.features(frames[:, None])[:, 0] if hasattr(cnn, "from_features") else cnn(frames)


def frame_features(cnn: nn.Module) -> TorchFrameFeatures:
    """Return `cnn` as features of frames.

    Raises ModelError where frames in one batch change each other's features.
    """
    model = unwrap(cnn)
    if couples_samples(model):
        raise ModelError("BatchNorm in training mode mixes the frames; call eval() on the CNN first")
    return TorchFrameFeatures(model)


def path_of(cnn: nn.Module) -> str:
    """Return how the path of a layer of the CNN begins among those of its frame features."""
    return "cnn."


def clip_features(model: nn.Module, clips: Tensor) -> Tensor:
    """Return the features `(batch, time, feature)` that `model.features` finds in clips."""
    model = unwrap(model)
    if not callable(getattr(model, "features", None)) or not hasattr(model, "from_features"):
        raise ModelError(
            f"a {type(model).__name__} has no `features` and `from_features`, such as CNNLSTM has"
        )
    features = scoped(_found)(model, clips)
    if not isinstance(features, Tensor) or features.ndim != 3:
        shape = tuple(features.shape) if isinstance(features, Tensor) else f"a {type(features).__name__}"
        raise ModelError(f"`features` of {tuple(clips.shape)} gives {shape}; expected (batch, time, feature)")
    return features


def _found(scope: ExitStack, model: Any, clips: Tensor) -> Any:
    settle(scope, model)
    scope.enter_context(torch.no_grad())
    replica: Any = Layers(model).replica().model
    return replica.features(clips)
