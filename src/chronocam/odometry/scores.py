"""Scores of odometry networks to explain: distance, angle, and the negative view-synthesis loss.

`PoseLoss` and `DepthLoss` are passed as `operator=`; then the loss compares the inputs themselves. Or they
are one of several `targets=`, by `.target(frames)`; then the loss compares these frames, however the inputs
are changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from chronocam.errors import InputError, TargetError, suggest
from chronocam.odometry.geometry import pose_to_matrix, rotation_angle, safe_norm
from chronocam.odometry.losses import ViewSynthesis
from chronocam.types import Outputs, Rows, Scored, Target, TargetInfo

_MOTION = 6  # numbers of a pose


@dataclass(frozen=True)
class TranslationNorm(Target):
    """How far a pose moves: ‖t‖ of one source, of outputs `(batch, 6·sources)`.

    The gradient is 0 where nothing moves. Raises TargetError for other outputs, or a source that is not
    there.

    Example:
        >>> net = cc.models.PoseNet(width=0.25).eval()
        >>> cc.GradCAM(net).explain(torch.rand(1, 6, 64, 64), cc.odometry.TranslationNorm()).maps.shape
        (1, 1, 2, 2)
    """

    source: int = 0
    signed = True

    def __call__(self, outputs: Outputs) -> Scored:
        """Return ‖t‖ per sample."""
        poses = _poses_of(outputs.logits)
        return _column(safe_norm(_one(poses, self.source)[:, :3]), f"‖t‖{_of_source(poses, self.source)}")


@dataclass(frozen=True)
class RotationAngle(Target):
    """How much a pose turns: the angle of the rotation to one source, in radians.

    Outputs are `(batch, 6·sources)`.

    rotation: what the last three numbers of a pose are, `"euler"` or `"axis-angle"`.
    The gradient is 0 where nothing turns. Raises as `TranslationNorm`, and InputError for another `rotation`.

    Example:
        >>> net = cc.models.PoseNet(width=0.25).eval()
        >>> frames, target = torch.rand(1, 6, 64, 64), cc.odometry.RotationAngle()
        >>> cc.GradCAM(net, "conv5").explain(frames, target).maps.shape
        (1, 1, 2, 2)
    """

    source: int = 0
    rotation: str = "euler"
    signed = True

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the angle per sample."""
        poses = _poses_of(outputs.logits)
        matrix = pose_to_matrix(_one(poses, self.source), self.rotation)
        return _column(rotation_angle(matrix[:, :3, :3]), f"rotation angle{_of_source(poses, self.source)}")


@dataclass(frozen=True, eq=False, kw_only=True)
class _Loss:
    """What the two losses share: which part of the loss, and from inputs back to pictures.

    term, scale, source: which part, as in `Terms.term`. Masks are not used: every pixel counts fully.
    mean, std: pictures in [0, 1] are inputs · std + mean, per channel or one number for all; by default as
        DepthNet and PoseNet are trained.
    """

    term: str = "total"
    scale: int | None = None
    source: int | None = None
    mean: float | Sequence[float] = 0.5
    std: float | Sequence[float] = 0.5
    signed: ClassVar[bool] = True
    terms: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        if self.term not in self.terms:
            known = ", ".join(self.terms)
            hint = suggest(self.term, list(self.terms))
            raise TargetError(
                f"no score `{self.term}` of a {type(self).__name__}{hint}; choose one of {known}"
            )

    @property
    def name(self) -> str:
        """What the score is called."""
        what = "" if self.term == "total" else f"{self.term} "
        at = "" if self.scale is None else f" at scale {self.scale}"
        of = "" if self.source is None else f" of source {self.source + 1}"
        return f"negative {what}loss{of}{at}"

    def pictures(self, frames: Tensor) -> Float[Tensor, "batch frame 3 height width"]:
        """Return frames that lie on channels as pictures in [0, 1]. Raises InputError for other shapes."""
        _check_frames(frames)
        mean, std = (torch.as_tensor(v).to(frames).reshape(-1, 1, 1) for v in (self.mean, self.std))
        return frames.reshape(len(frames), -1, 3, *frames.shape[2:]) * std + mean


@dataclass(frozen=True, eq=False)
class PoseLoss(_Loss):
    """The negative view-synthesis loss as a score of a PoseNet: what makes the motion right.

    Depth is held constant.

    depth: a depth network (with `disparities`, used at all scales, or depth as its output), which sees the
        target; or depths `(samples, 1, height, width)`; a single one is for all samples.
    intrinsics: `(3, 3)`, or `(samples, 3, 3)`.
    term: `"total"` or `"photometric"`.
    As `operator=` it is called with (model, inputs, targets): inputs `(batch, 3·(1 + sources), height,
    width)`, the target first; targets None, or the frames that the loss is of, of the same shape, where
    inputs are perturbed.
    Raises TargetError for a term that does not depend on poses and for outputs that are not poses, InputError
    for wrong inputs, depths and intrinsics.

    Example:
        >>> net, camera = cc.models.PoseNet(width=0.25).eval(), [[30.0, 0, 32], [0, 30, 32], [0, 0, 1]]
        >>> loss = cc.odometry.PoseLoss(cc.odometry.MONODEPTH2, torch.ones(1, 1, 64, 64), camera)
        >>> frames = torch.rand(1, 6, 64, 64)
        >>> cc.GradCAM(net, "conv4", operator=loss).explain(frames).maps.shape
        (1, 1, 4, 4)
    """

    loss: ViewSynthesis
    depth: Any
    intrinsics: Any
    terms: ClassVar[tuple[str, ...]] = ("total", "photometric")

    def __call__(self, model: Any, inputs: Tensor, targets: Any = None) -> Float[Tensor, " batch"]:
        """Return −loss per sample."""
        _check_frames(inputs)
        frames = inputs if targets is None else _like(targets, inputs)
        if frames.shape != inputs.shape:
            raise InputError(
                f"targets have shape {tuple(frames.shape)}; expected frames {tuple(inputs.shape)}, or None"
            )
        return self.of_outputs(model(inputs), frames)

    def target(self, frames: Any) -> LossOfFrames:
        """Return the score as a target for the loss of `frames`, one row per sample of the call."""
        return LossOfFrames(self, frames)

    def of_outputs(self, poses: Tensor, frames: Tensor, rows: Rows | None = None) -> Float[Tensor, " batch"]:
        """Return −loss of poses `(batch, 6·sources)` for frames.

        `rows` are theirs among what is held, None for all.
        """
        pictures = self.pictures(frames)
        motions = _poses_of(poses)
        sources = pictures.shape[1] - 1
        if motions.shape[:2] != (len(frames), sources):
            shape = (len(frames), _MOTION * sources)
            raise TargetError(
                f"outputs have shape {tuple(poses.shape)}; expected {shape} for {sources} sources"
            )
        depth = _held(self.depth, "depth", "disparities", frames[:, :3], rows)
        matrix = _rows_of(self.intrinsics, rows, "intrinsics", frames, rank=3)
        terms = self.loss(pictures[:, 0], pictures[:, 1:], depth, motions, matrix)
        return -terms.term(self.term, self.scale, self.source)


@dataclass(frozen=True, eq=False)
class DepthLoss(_Loss):
    """The negative view-synthesis loss as a score of a DepthNet: what makes the depth right.

    Poses are held constant.

    pose: a pose network, which sees target and sources; or poses `(samples, source, 6)` or `(samples, source,
        4, 4)`; a single one is for all samples.
    intrinsics: `(3, 3)`, or `(samples, 3, 3)`.
    term: `"total"`, `"photometric"` or `"smoothness"`.
    As `operator=` it is called with (model, inputs, targets): inputs are the target frames `(batch, 3,
    height, width)`, targets their sources `(batch, 3·sources, height, width)`. A model with `disparities` is
    scored at all scales; as one of `targets=` only the depth it returns is seen, which is one scale.
    Raises TargetError for an unknown term, missing sources and outputs that are not depth, InputError for
    wrong inputs, poses and intrinsics.

    Example:
        >>> net, camera = cc.models.DepthNet(width=0.125).eval(), [[30.0, 0, 32], [0, 30, 32], [0, 0, 1]]
        >>> loss = cc.odometry.DepthLoss(cc.odometry.MONODEPTH2, torch.zeros(1, 1, 6), camera)
        >>> target, source = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
        >>> cc.GradCAM(net, "conv4", operator=loss).explain(target, source).maps.shape
        (1, 1, 4, 4)
    """

    loss: ViewSynthesis
    pose: Any
    intrinsics: Any
    terms: ClassVar[tuple[str, ...]] = ("total", "photometric", "smoothness")

    def __call__(self, model: Any, inputs: Tensor, targets: Any = None) -> Float[Tensor, " batch"]:
        """Return −loss per sample."""
        if targets is None:
            raise TargetError("DepthLoss needs the sources as targets, (batch, 3·sources, height, width)")
        sources = _like(targets, inputs)
        if sources.ndim != 4 or sources.shape[0] != len(inputs) or sources.shape[2:] != inputs.shape[2:]:
            expected = f"({len(inputs)}, 3·sources, {', '.join(str(n) for n in inputs.shape[2:])})"
            raise InputError(
                f"the sources have shape {tuple(sources.shape)}; expected {expected}, as the targets"
            )
        predicted = getattr(model, "disparities", model)(inputs)
        return self.of_outputs(predicted, torch.cat([inputs, sources], dim=1))

    def target(self, frames: Any) -> LossOfFrames:
        """Return the score as a target, for frames `(samples, 3·(1 + sources), …)`, the target first."""
        return LossOfFrames(self, frames)

    def of_outputs(self, predicted: Any, frames: Tensor, rows: Rows | None = None) -> Float[Tensor, " batch"]:
        """Return −loss of depth `(batch, 1, height, width)`, or of a tuple of disparities, for frames."""
        pictures = self.pictures(frames)
        if isinstance(predicted, Tensor) and predicted.shape != (len(frames), 1, *frames.shape[2:]):
            expected = (len(frames), 1, *frames.shape[2:])
            raise TargetError(f"outputs have shape {tuple(predicted.shape)}; expected depth {expected}")
        poses = _held(self.pose, "pose", "poses", frames, rows)
        poses = _poses_of(poses) if poses.ndim == 2 else poses
        matrix = _rows_of(self.intrinsics, rows, "intrinsics", frames, rank=3)
        terms = self.loss(pictures[:, 0], pictures[:, 1:], predicted, poses, matrix)
        return -terms.term(self.term, self.scale, self.source)


class LossOfFrames(Target):
    """The score of a `PoseLoss` or `DepthLoss` for given frames, one row per sample of the call."""

    signed = True

    def __init__(self, score: PoseLoss | DepthLoss, frames: Any) -> None:
        self.score = score
        self.frames = frames

    def __call__(self, outputs: Outputs) -> Scored:
        """Return −loss per sample. Raises TargetError where there are too few frames."""
        predicted = outputs.logits
        frames = _like(outputs.own(self.frames, "frames"), predicted)
        return _column(self.score.of_outputs(predicted, frames, outputs.rows), self.score.name)


def _check_frames(frames: Tensor) -> None:
    if frames.ndim != 4 or frames.shape[1] % 3 or frames.shape[1] < 6:
        expected = "(batch, 3·(1 + sources), height, width), two frames or more, the target first"
        raise InputError(f"frames have shape {tuple(frames.shape)}; expected {expected}")


def _held(source: Any, what: str, method: str, frames: Tensor, rows: Rows | None) -> Any:
    """Return a network's output for frames, detached, or the rows of an array that stands for it."""
    if source is None:
        raise InputError(f"{what} is missing; give a network or an array")
    if hasattr(source, "shape"):
        return _rows_of(source, rows, what, frames, rank=1)
    with torch.no_grad(), _evaluating(source):
        answer = getattr(source, method, source)(frames.detach())
    # Detached as well: an engine that looks for a layer may record within no_grad().
    return answer.detach() if isinstance(answer, Tensor) else tuple(scale.detach() for scale in answer)


def _rows_of(values: Any, rows: Rows | None, what: str, frames: Tensor, rank: int) -> Any:
    """Return what an array holds for these frames.

    `rows` are theirs among all samples, None where it is of them.

    Arrays below `rank`, and those with a single row, are for all samples.
    """
    if values is None or np.ndim(values) < rank:
        return values
    array = _like(values, frames)
    if len(array) == 1:
        return array.expand(len(frames), *array.shape[1:])
    chosen = array if rows is None else array[rows]
    if len(chosen) != len(frames):
        advice = "give one for all, or one per sample (with operator=, and batch_size=None)"
        raise InputError(f"{what} has {len(array)} rows; expected {len(frames)}: {advice}")
    return chosen


@contextmanager
def _evaluating(network: Any) -> Iterator[None]:
    """Run a network in evaluation mode and leave it as found."""
    modules = list(network.modules()) if isinstance(network, nn.Module) else []
    training = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module, was in zip(modules, training, strict=True):
            module.training = was


def _like(array: Any, like: Tensor) -> Tensor:
    return torch.as_tensor(array).to(like)


def _poses_of(outputs: Tensor) -> Float[Tensor, "batch source 6"]:
    if outputs.ndim != 2 or outputs.shape[1] == 0 or outputs.shape[1] % _MOTION:
        raise TargetError(f"outputs have shape {tuple(outputs.shape)}; expected poses (batch, 6·sources)")
    return outputs.reshape(len(outputs), -1, _MOTION)


def _one(poses: Float[Tensor, "batch source 6"], source: int) -> Float[Tensor, "batch 6"]:
    if not 0 <= source < poses.shape[1]:
        raise TargetError(f"no source {source}; the poses are of {poses.shape[1]}, 0 to {poses.shape[1] - 1}")
    return poses[:, source]


def _of_source(poses: Float[Tensor, "batch source 6"], source: int) -> str:
    return f" of source {source + 1}" if poses.shape[1] > 1 else ""


def _column(values: Float[Tensor, " batch"], name: str) -> Scored:
    return Scored(values[:, None], ((TargetInfo(name),),) * len(values))
