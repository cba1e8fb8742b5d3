"""Targets of networks for depth and motion by their names: `tz`, `-ry`, `loss`, `depth@120,80`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from chronocam.errors import TargetError, suggest
from chronocam.runs.drives.networks import Networks
from chronocam.types import Outputs, Scored, Target, TargetInfo

if TYPE_CHECKING:
    from chronocam.media import Preprocess

MOTION: Final = ("tx", "ty", "tz", "rx", "ry", "rz")
SIZES: Final = ("translation", "rotation")
POSE_LOSSES: Final = {"loss": "total", "photometric": "photometric"}
DEPTH_LOSSES: Final = {
    "depth-loss": "total",
    "depth-photometric": "photometric",
    "depth-smoothness": "smoothness",
}
DEPTH: Final = "depth"
_KNOWN: Final = (*MOTION, *SIZES, *POSE_LOSSES, DEPTH, *DEPTH_LOSSES)
_DEFAULT: Final = {"joint": ("tz", "ry", "loss"), "pose": ("tz", "ry"), "depth": (DEPTH,)}
_FORM: Final = re.compile(
    r"(?P<minus>-?)(?P<name>[a-z-]+)(?: of source (?P<source>\d+))?(?:@(?P<where>[\d,]+))?"
)


@dataclass(frozen=True)
class DriveTarget:
    """One target of a call.

    text: as it was typed.
    network: the one whose output it is, `pose` or `depth`.
    name: one of the known ones.
    sign: −1 for what lowers it.
    source: of a motion, from 0; None for the loss of all.
    where: a pixel or box of the frames as stored; empty for all of them.
    """

    text: str
    network: str
    name: str
    sign: int
    source: int | None
    where: tuple[int, ...] = ()

    @property
    def is_loss(self) -> bool:
        """Whether it is a loss, which needs both networks and a camera."""
        return self.name in POSE_LOSSES or self.name in DEPTH_LOSSES

    @property
    def title(self) -> str:
        """Its name in pictures; a loss is explained by its negative, high where the network is right."""
        if not self.is_loss:
            return self.text
        return self.text.removeprefix("-") if self.sign < 0 else f"−{self.text}"


def drive_targets(texts: Sequence[str], networks: Networks, spec: str) -> list[DriveTarget]:
    """Return the targets, each once; those that suit the networks where none is named.

    Raises TargetError for an unknown target, and for one that the networks cannot have.
    """
    kind = "joint" if networks.joint else next(iter(networks.parts))
    return [_parsed(text, networks, spec) for text in dict.fromkeys(texts or _DEFAULT[kind])]


def _parsed(text: str, networks: Networks, spec: str) -> DriveTarget:
    match = _FORM.fullmatch(text)
    if match is None or match["name"] not in _KNOWN:
        name = match["name"] if match else text
        expected = f"choose one of {', '.join(_KNOWN)}, with - before it for what lowers it"
        raise TargetError(f"no target `{text}`{suggest(name, list(_KNOWN))}; {expected}")
    name = match["name"]
    target = DriveTarget(
        text,
        DEPTH if name == DEPTH or name in DEPTH_LOSSES else "pose",
        name,
        -1 if match["minus"] else 1,
        _source(text, name, match["source"], networks),
        _where(text, name, match["where"]),
    )
    missing = [part for part in ("pose", "depth") if part not in networks.parts]
    if missing and (target.is_loss or target.network in missing):
        what = f"`{text}` needs a network for {target.network}"
        if target.is_loss:
            what = "a loss needs depth and motion"
        raise TargetError(
            f"{what}, but `{spec}` has no network for {missing[0]}; load both, as chronocam:odometry has"
        )
    return target


def _source(text: str, name: str, number: str | None, networks: Networks) -> int | None:
    """Return the source of a target, from 0: the following frame where none is named."""
    # Only motion has a source by itself; the photometric loss is a mean over all sources without one.
    if name not in (*MOTION, *SIZES) and (number is None or name != "photometric"):
        if number is not None:
            raise TargetError(f"`{text}`: {name} has no sources; leave the source out, or choose photometric")
        return None
    if networks.pose is None:
        return None
    count = len(networks.offsets)
    if number is not None and not 1 <= int(number) <= count:
        raise TargetError(f"no source {number} in `{text}`; the network sees {count}, from 1")
    return networks.following if number is None else int(number) - 1


def _where(text: str, name: str, place: str | None) -> tuple[int, ...]:
    if place is None:
        return ()
    numbers = [number for number in place.split(",") if number]
    if name != DEPTH or len(numbers) not in (2, 4) or place.count(",") != len(numbers) - 1:
        raise TargetError(
            f"no target `{text}`; expected depth@x,y or depth@x0,y0,x1,y1 in pixels of the frames"
        )
    return tuple(int(number) for number in numbers)


@dataclass(frozen=True, eq=False)
class DriveScene:
    """What the targets of one drive depend on: the networks, and how its frames became their inputs.

    size: (width, height) of the frames as stored.
    intrinsics: of what the networks see.
    """

    networks: Networks
    preprocess: Preprocess
    size: tuple[int, int]
    intrinsics: np.ndarray | None

    def mask(self, target: DriveTarget, shape: tuple[int, ...]) -> np.ndarray:
        """Return the pixels of the network's depth `(height, width)` that a target covers.

        Raises TargetError for a place that the network does not see.
        """
        mask = np.zeros(shape, bool)
        if not target.where:
            return ~mask
        x0, y0 = target.where[:2]
        x1, y1 = target.where[2:] or (x0 + 1, y0 + 1)
        left, top, right, bottom = self.preprocess.region(*self.size)
        across, down = shape[1] / (right - left), shape[0] / (bottom - top)
        ends = min(right, self.size[0]), min(bottom, self.size[1])
        if not (max(left, 0) <= x0 < x1 <= ends[0] and max(top, 0) <= y0 < y1 <= ends[1]):
            view = f"x, y from {max(left, 0):g} to {ends[0]:g} and {max(top, 0):g} to {ends[1]:g} pixels"
            raise TargetError(f"`{target.text}` is empty or not within what the network sees: {view}")
        if len(target.where) == 2:
            mask[int((y0 + 0.5 - top) * down), int((x0 + 0.5 - left) * across)] = True
            return mask
        # A box covers every pixel of the view that it touches. The small number keeps an edge that lies
        # between two pixels, but for rounding, from reaching into the next one.
        rows = slice(int((y0 - top) * down), int(np.ceil((y1 - top) * down - 1e-9)))
        columns = slice(int((x0 - left) * across), int(np.ceil((x1 - left) * across - 1e-9)))
        mask[rows, columns] = True
        return mask

    def target(self, target: DriveTarget, frames: Any, shape: tuple[int, ...]) -> Target:
        """Return what the library explains.

        frames: the windows `(moment, channel, …)` whose loss is explained.
        shape: (height, width) of the depth.
        """
        return NamedTarget(self._unnamed(target, frames, shape), target.text, target.sign)

    def _unnamed(self, target: DriveTarget, frames: Any, shape: tuple[int, ...]) -> Target:
        from chronocam.odometry import DepthLoss, PoseLoss, RotationAngle, TranslationNorm
        from chronocam.targets import Region, Regression

        # Losses compare colours: they undo the normalisation of the networks' inputs.
        scaling: dict[str, Any] = {"mean": self.preprocess.mean, "std": self.preprocess.std}
        if target.name in POSE_LOSSES:
            which: dict[str, Any] = {"term": POSE_LOSSES[target.name], "source": target.source}
            loss = PoseLoss(self.networks.loss, self.networks.depth, self.intrinsics, **which, **scaling)
            return loss.target(frames)
        if target.name in DEPTH_LOSSES:
            term = DEPTH_LOSSES[target.name]
            score = DepthLoss(self.networks.loss, self.networks.pose, self.intrinsics, term=term, **scaling)
            return score.target(frames)
        if target.name == DEPTH:
            return Region(self.mask(target, shape))
        source = target.source or 0
        if target.name in SIZES:
            return (TranslationNorm if target.name == "translation" else RotationAngle)(source)
        return Regression(len(MOTION) * source + MOTION.index(target.name))


class NamedTarget(Target):
    """A target under the name that was typed, or its opposite."""

    signed = True

    def __init__(self, target: Target, name: str, sign: int) -> None:
        self.target = target
        self.name = name
        self.sign = sign
        self.reads = target.reads

    def __call__(self, outputs: Outputs) -> Scored:
        """Return ±the scores of the target."""
        scored = self.target(outputs)
        infos = tuple(tuple(TargetInfo(self.name, info.index) for info in row) for row in scored.infos)
        return Scored(self.sign * scored.values, infos)


def true_values(
    target: DriveTarget, truth: np.ndarray | None, depth: np.ndarray | None, mask: np.ndarray | None
) -> np.ndarray | None:
    """Return the true values of a target at each moment, NaN where unknown; None where nothing is known.

    truth: poses `(moment, source, 6)`.
    depth: `(moment, height, width)`, 0 where unknown.
    """
    if target.name == DEPTH and depth is not None and mask is not None:
        known = (depth > 0) & mask
        count = known.sum(axis=(1, 2))
        sums = np.where(known, depth, 0).sum(axis=(1, 2))
        return np.asarray(target.sign * np.where(count > 0, sums / np.maximum(count, 1), np.nan))
    if truth is None or target.name not in (*MOTION, *SIZES):
        return None
    pose = truth[:, target.source or 0]
    if target.name == "translation":
        return np.asarray(target.sign * np.linalg.norm(pose[:, :3], axis=1))
    if target.name == "rotation":
        import torch

        from chronocam.odometry import pose_to_matrix, rotation_angle

        turns = pose_to_matrix(torch.from_numpy(pose))[:, :3, :3]
        return np.asarray(target.sign * np.asarray(rotation_angle(turns)))
    return np.asarray(target.sign * pose[:, MOTION.index(target.name)])
