"""All that is found out about one drive: maps, motion, the path, depth, and the truth where it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float32

from chronocam.records import NoiseAgreement
from chronocam.runs.drives.networks import Prediction, Windows
from chronocam.runs.drives.read import DriveFrames
from chronocam.runs.drives.targets import DEPTH, MOTION, DriveScene, DriveTarget, true_values

if TYPE_CHECKING:
    from chronocam.explanation import Explanation


@dataclass(frozen=True, eq=False)
class NetworkMaps:
    """The maps of a network's targets by one method at one layer, a sample for each moment.

    part: pose or depth.
    key: of the explanation, its method and where several layers are explained the layer.
    at_default: whether no layer was named.
    """

    part: str
    key: str
    explanation: Explanation
    targets: Sequence[DriveTarget]
    at_default: bool


@dataclass(frozen=True, eq=False)
class DriveStudy:
    """One drive with all that the networks say about it.

    agreement: of the maps of losses under noise, by target.
    """

    path: Path
    frames: DriveFrames
    windows: Windows
    scene: DriveScene
    predicted: Prediction
    maps: Sequence[NetworkMaps]
    agreement: Mapping[str, NoiseAgreement]

    @cached_property
    def moments(self) -> np.ndarray:
        """The places of the target frames among all frames."""
        return self.windows.first + np.arange(len(self.windows))

    @cached_property
    def true_motion(self) -> Float[np.ndarray, "moment source 6"] | None:
        """The true poses from each target to its sources."""
        if self.frames.poses is None or not self.windows.offsets:
            return None
        import torch

        from chronocam.odometry import matrix_to_pose, relative_pose

        world = torch.from_numpy(np.ascontiguousarray(self.frames.poses, dtype=np.float64))
        steps = [relative_pose(world[self.moments], world[self.moments + k]) for k in self.windows.offsets]
        return matrix_to_pose(torch.stack(steps, dim=1)).numpy()

    @cached_property
    def positions(self) -> Float[np.ndarray, "camera 3"] | None:
        """The places of the camera, from its first one: the steps to each following frame, accumulated."""
        if self.predicted.poses is None:
            return None
        import torch

        from chronocam.odometry import accumulate, invert, pose_to_matrix

        # A pose maps points from the target to the next frame; the camera itself moves the other way.
        steps = self.predicted.poses[:, self.scene.networks.following].astype(np.float64)
        return accumulate(invert(pose_to_matrix(torch.from_numpy(steps))).numpy())[:, :3, 3]

    @cached_property
    def true_positions(self) -> Float[np.ndarray, "camera 3"] | None:
        """The true places of the camera, likewise."""
        if self.frames.poses is None or self.positions is None:
            return None
        world = self.frames.poses[[*self.moments, self.moments[-1] + 1]]
        return np.asarray((np.linalg.inv(world[0]) @ world)[:, :3, 3])

    @cached_property
    def scale(self) -> float | None:
        """The factor that brings the path nearest to the true one (least squares)."""
        if self.positions is None or self.true_positions is None:
            return None
        # min over s of Σ|s p − q|² is at s = Σ p·q / Σ p·p; a network that predicts no motion has no scale.
        squares = float((self.positions**2).sum())
        return float((self.positions * self.true_positions).sum()) / squares if squares > 0 else 0.0

    @cached_property
    def true_depth(self) -> Float32[np.ndarray, "moment height width"] | None:
        """The true depth of the target frames, 0 where unknown; None where all of it is."""
        if self.frames.depth is None or self.predicted.depth is None:
            return None
        depth = self.frames.depth[self.moments]
        return depth if depth.any() else None

    @cached_property
    def depth_scale(self) -> float | None:
        """The factor that gives depth the true median over all frames."""
        if self.true_depth is None or self.predicted.depth is None:
            return None
        known = self.true_depth > 0
        return float(np.median(self.true_depth[known]) / np.median(self.predicted.depth[known]))

    def truth(self, target: DriveTarget) -> Float[np.ndarray, " moment"] | None:
        """Return the true values of a target, NaN where unknown; None where nothing is known."""
        mask = None
        if target.name == DEPTH and self.true_depth is not None:
            mask = self.scene.mask(target, self.true_depth.shape[1:])
        return true_values(target, self.true_motion, self.true_depth, mask)

    def unit(self, target: DriveTarget) -> float | None:
        """Return the factor that makes a target comparable with the truth; None where none is needed."""
        if target.name == DEPTH:
            return self.depth_scale
        # A path that is mirrored by a negative scale still has lengths, which are positive.
        if target.name == "translation" and self.scale is not None:
            return abs(self.scale)
        return self.scale if target.name in MOTION[:3] else None
