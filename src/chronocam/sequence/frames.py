"""From features to pixels: the relevance of each step's features, carried to that step's frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

import numpy as np
from jaxtyping import Float

from chronocam.engines import Request, Result, engine_for
from chronocam.errors import InputError, LayerError, LayoutError, suggest
from chronocam.joint.layers.default_layer import default_layer
from chronocam.joint.look.look import Look, look_at
from chronocam.joint.look.subject import Subject
from chronocam.maps.arrays import like, namespace, to_numpy, widen
from chronocam.types import INPUT, Array

FRAMES_PER_PASS = 8  # how many frames the CNN sees at once: bounds the memory of long clips
# Activations cancel where their sum is a smaller share of Σ|A_k|: sharing by it would amplify rounding.
_NO_SUM = 1e-4
_ROUNDING = float(np.finfo(np.float32).eps)  # at least: Keras computes some of float64 in float32
# A finding says so where shares of both signs add up, in absolute values, to more times the relevance.
_CANCELS = 1.5
WAYS = {
    "conserve": "each map sums to the relevance of its step's features",
    "gradcam": "Grad-CAM of the features weighted by their relevance, signed",
    "guided": "guided backpropagation of the features weighted by their relevance, summed over the channels",
}
"""Every way from features to pixels, in words."""

Weights = Float[np.ndarray, "frame target feature"]
FrameMaps = Float[np.ndarray, "frame target height width"]


@dataclass(frozen=True)
class FrameRelevance:
    """Where in each frame relevance lies.

    maps: `(batch, target, time, height, width)`, signed.
    layer: the layer that they are of.
    grid: the size of a frame.
    centers: where the cells lie in the clip, per axis; None where they tile it evenly.
    notes: findings, in words.
    """

    maps: Float[np.ndarray, "batch target time height width"]
    layer: str
    grid: tuple[int, int]
    centers: tuple[tuple[float, ...], ...] | None
    notes: tuple[str, ...]


def to_frames(
    relevance: Float[np.ndarray, "batch target time feature"],
    cnn: object,
    frames: Array,
    how: str,
    layer: object,
) -> FrameRelevance:
    """Return where relevance lies in the frame of its step; see `SequenceExplanation.to_frames`."""
    if how not in WAYS:
        raise InputError(f"no way `{how}`{suggest(how, list(WAYS)) or ';'} choose one of {', '.join(WAYS)}")
    if how == "guided" and layer is not None:
        raise InputError(f"guided goes to the pixels and takes no layer={layer!r}; leave it out")
    batch, targets, time, features = relevance.shape
    framework = import_module(f"chronocam.sequence.{engine_for(cnn).framework}.frames")
    eye = _Eye(framework, cnn, _folded(frames, batch, time, framework.SHAPE), how, layer)
    maps = eye.maps(np.moveaxis(relevance, 1, 2).reshape(batch * time, targets, features))
    maps = np.moveaxis(maps.reshape(batch, time, *maps.shape[1:]), 1, 2).astype(relevance.dtype)
    return FrameRelevance(maps, eye.name, eye.grid, eye.centers(time, maps.shape[3:]), tuple(eye.findings()))


def clip_features(model: object, clips: Array) -> Float[np.ndarray, "batch time feature"]:
    """Return what `model.features` finds in each frame of clips, as the model takes them.

    Raises ModelError for a model without `features`, or whose features are not `(batch, time, feature)`.
    """
    engine = engine_for(model)
    framework = import_module(f"chronocam.sequence.{engine.framework}.frames")
    return to_numpy(widen(framework.clip_features(model, engine.adapt(clips))))


def _folded(frames: Array, batch: int, time: int, expected: str) -> Array:
    """Return the frames of all clips as one batch of pictures."""
    shape = tuple(getattr(frames, "shape", ()))
    if len(shape) != 5 or shape[:2] != (batch, time) or 0 in shape:
        hint = "; give frames[None]" if batch == 1 and len(shape) == 4 else ""
        what = f"have shape {shape}" if shape else f"are a {type(frames).__name__}"
        axes = expected.replace("batch", str(batch)).replace("time", str(time))
        raise InputError(f"frames {what}; expected {axes}{hint}")
    if "float" not in str(frames.dtype):
        raise InputError(f"frames have dtype {frames.dtype}; give floats, prepared as the CNN takes them")
    folded = frames.reshape(batch * time, *shape[2:])
    bad = sum(not bool(namespace(one).all(namespace(one).isfinite(one))) for one in folded)
    if bad:
        raise InputError(f"{bad} of {batch * time} frames hold NaN or infinite values; replace those")
    return folded


@dataclass
class _Score:
    """Σ_k R_k f_k of every frame, per target; keeps the features f and the rounding of their precision."""

    weights: Weights
    features: np.ndarray | None = None
    rounding: float = 0.0

    def __call__(self, result: Result) -> Array:
        raw = result.raw
        if raw.shape[1] != self.weights.shape[2]:
            raise InputError(
                f"the CNN gives {raw.shape[1]} features for a frame and {self.weights.shape[2]} were "
                "explained; give the CNN whose features were explained"
            )
        features = widen(raw)
        self.features = to_numpy(features)
        self.rounding = max(float(namespace(raw).finfo(raw.dtype).eps), _ROUNDING)
        return namespace(raw).sum(features[:, None] * like(self.weights, features), axis=2)


class _Eye:
    """The CNN at its layer, with the frames of all clips, folded into the batch."""

    def __init__(self, framework: ModuleType, cnn: object, frames: Array, how: str, layer: object) -> None:
        self.path = framework.path_of(cnn)
        path = None if layer is None else self.path + engine_for(cnn).resolve(layer)
        self.subject = Subject(framework.frame_features(cnn))
        self.engine = self.subject.engine
        self.grid: tuple[int, int] = tuple(
            frames.shape[1:3] if self.engine.channels_last else frames.shape[2:]
        )
        self.how, self.frames, self.notes = how, frames, list[str]()
        self.mass = np.zeros(2)  # Σ|R_k|, and Σ|R_k A_k / Σ A_k| as shared
        self.few = self._look(frames[:2])
        self.layer: str = INPUT if how == "guided" else path or default_layer(self.few)

    def _look(self, frames: Array) -> Look:
        return look_at(self.subject, frames, channels=3 if self.engine.channels_last else 1)

    @property
    def name(self) -> str:
        """The layer's path in the CNN; `output` where that returns the grid itself."""
        return "output" if self.layer == self.path[:-1] else self.layer.removeprefix(self.path)

    def maps(self, weights: Weights) -> FrameMaps:
        """Return the maps of all frames, some frames at a time."""
        parts = [slice(low, low + FRAMES_PER_PASS) for low in range(0, len(weights), FRAMES_PER_PASS)]
        return np.concatenate([self._part(self._look(self.frames[part]), weights[part]) for part in parts])

    def _part(self, frames: Look, weights: Weights) -> FrameMaps:
        score, layers = _Score(weights), [self.layer]
        recording = self.engine.record(
            frames.inputs,
            score,
            Request(
                layers,
                gradients=layers if self.how == "gradcam" else (),
                guided=layers if self.how == "guided" else (),
                call=lambda model, x: model(x),  # features may look like probabilities; no softmax made them
            ),
        )
        self.notes += recording.notes
        if self.how == "conserve":
            return self._shared(self._on_grid(recording.activations[self.layer], frames), score)
        gradients = (recording.guided if self.how == "guided" else recording.gradients).get(self.layer)
        if gradients is None:
            raise LayerError(f"the features do not depend on `{self.name}`; choose another layer")
        if self.how == "guided":
            channels = 4 if self.engine.channels_last else 2  # of (target, frame, …)
            return np.moveaxis(to_numpy(widen(gradients[-1])).astype(float).sum(axis=channels), 0, 1)
        activations = self._on_grid(recording.activations[self.layer], frames)
        per_target = [
            self._on_grid([call[k] for call in gradients], frames).mean(axis=(2, 3))
            for k in range(weights.shape[1])
        ]
        return _weighted(np.stack(per_target, axis=1), activations)

    def _shared(
        self, activations: Float[np.ndarray, "frame channel height width"], score: _Score
    ) -> FrameMaps:
        """Return Σ_k R_k A_k / Σ A_k. Raises LayerError where the features are not the mean of A_k."""
        features, means = score.features, activations.mean(axis=(2, 3))
        assert features is not None
        near = score.rounding**0.5 * np.abs(activations).max()
        if means.shape != features.shape or not (np.abs(means - features) <= near).all():
            raise LayerError(
                f"the features are not the average of layer `{self.name}` over its grid, so no "
                'map at it conserves their relevance; choose another layer=, how="gradcam" or how="guided"'
            )
        total, size = (
            activations.sum(axis=(2, 3), keepdims=True),
            np.abs(activations).sum(axis=(2, 3), keepdims=True),
        )
        even = np.full_like(activations, 1 / activations[0, 0].size)
        shares = np.divide(activations, total, out=even, where=np.abs(total) > _NO_SUM * size)
        weights = score.weights.astype(float)
        spent = np.abs(weights) * np.abs(shares).sum(axis=(2, 3))[:, None]
        self.mass += np.abs(weights).sum(), spent.sum()
        return _weighted(weights, shares)

    def findings(self) -> list[str]:
        """Return the passes' remarks, and whether shares of both signs make maps larger than relevance."""
        relevance, spent = self.mass
        if spent <= _CANCELS * relevance:
            return self.notes
        return [
            *self.notes,
            f"conserve: layer `{self.name}` has both signs, and shares that cancel are "
            f"{spent / relevance:.3g} times the relevance they sum to; a layer after a ReLU has none",
        ]

    def _on_grid(
        self, calls: Sequence[Array], frames: Look
    ) -> Float[np.ndarray, "frame channel height width"]:
        """Return what a layer returned, channels first."""
        return to_numpy(widen(frames.on_grid(self.layer, calls))).astype(float)

    def centers(self, time: int, grid: tuple[int, ...]) -> tuple[tuple[float, ...], ...] | None:
        """Return where the cells lie in the clip, per axis; None where they tile it evenly."""
        if self.layer == INPUT:
            return None
        try:
            return tuple(map(float, range(time))), *self.few.places.centers(self.layer, grid)
        except LayoutError:
            return None  # cells without a local receptive field


def _weighted(
    weights: Float[np.ndarray, "frame target channel"],
    arrays: Float[np.ndarray, "frame channel height width"],
) -> FrameMaps:
    return (weights @ arrays.reshape(*arrays.shape[:2], -1)).reshape(*weights.shape[:2], *arrays.shape[2:])
