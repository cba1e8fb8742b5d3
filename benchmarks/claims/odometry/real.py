"""Real frames with known depth and poses, through networks that were trained on the rendered world only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import chronocam as cc
from benchmarks.claims.odometry.world import METHODS, SHALLOW, prepared
from benchmarks.claims.tables import Table
from chronocam.lab.data.drives import read_drive
from chronocam.lab.models.odometry import Odometry
from chronocam.metrics import Interval, bootstrap, noise_agreement
from chronocam.odometry import (
    RotationAngle,
    TranslationNorm,
    accumulate,
    depth_errors,
    mean_depth,
    pose_to_matrix,
    rotation_errors,
    snippet_errors,
    steps_of,
    zero_motion,
)
from chronocam.targets import Regression

CAMERAS: Mapping[str, tuple[float, float, float, float]] = {
    "open3d": (525.0, 525.0, 319.5, 239.5),
    "slambook2": (518.0, 519.0, 325.5, 253.5),
}
"""fx, fy, cx and cy of the folders, in pixels of their frames."""
NAMES = ("tz", "ry", "‖t‖", "rotation angle")


@dataclass(frozen=True)
class Real:
    """A folder of real frames, and what the networks find in it.

    tables: errors of the networks and of what takes no network, over frames or pairs of frames, and the rank
        correlation of maps of noisy copies.
    maps: `(pair, target, height, width)` by arm, of `NAMES`.
    """

    name: str
    pixels: np.ndarray
    tables: dict[str, Table]
    maps: dict[str, np.ndarray]


def found_in(folder: Path) -> list[Path]:
    """Return the folders that are there."""
    return [folder / name for name in CAMERAS if (folder / name).is_dir()]


def real(network: Odometry, folder: Path, size: tuple[int, int]) -> Real:
    """Read a folder, cut the middle to the shape of the networks' frames, and measure."""
    begin = time.perf_counter()
    drive, rows = _cut(folder, size)
    frames = prepared(drive.pixels[:, None, rows])
    pairs = torch.cat([frames[:-1], frames[1:]], dim=1)
    with torch.inference_mode():
        depth, poses = network.depth(frames)[:, 0].numpy(), network.pose(pairs)
    explanations = cc.explain(
        network.pose, pairs, [*map(Regression, NAMES[:2]), TranslationNorm(), RotationAngle()],
        methods=METHODS, layers=(None, SHALLOW),
    )  # fmt: skip
    maps = {key: explanation.upsample() for key, explanation in explanations.items()}
    method = cc.HiResCAM(network.pose, SHALLOW, batch_size=None)
    steady = noise_agreement(
        lambda x: method.explain(torch.from_numpy(x), Regression("tz")).maps, pairs.numpy()
    )
    steps = np.linalg.inv(pose_to_matrix(poses).double().numpy())
    name, seconds = folder.name, time.perf_counter() - begin
    errors = _depth(depth, drive.depth[:, rows]) | _motion(steps, drive.poses)
    arms = dict.fromkeys(arm for of_arm in errors.values() for arm in of_arm)
    tables: dict[str, Table] = {
        "real frames: errors": {
            f"{name}: {arm}": {error: of_arm[arm] for error, of_arm in errors.items() if arm in of_arm}
            for arm in arms
        },
        "real frames: how it was done": {
            name: {
                "frames": len(frames),
                "agreement of tz under noise": bootstrap(steady.spearman[:, 0]),
                "seconds": round(seconds, 1),
            }
        },
    }
    return Real(name, drive.pixels[:, rows], tables, maps)


def _cut(folder: Path, size: tuple[int, int]) -> tuple[Any, slice]:
    """Read frames of 640 × 480 pixels at the networks' width; return the rows in the middle too."""
    height = round(480 * size[1] / 640)
    top = (height - size[0]) // 2
    return read_drive(folder, CAMERAS[folder.name], size=(height, size[1])), slice(top, top + size[0])


def _depth(predicted: np.ndarray, truth: np.ndarray) -> dict[str, dict[str, Interval]]:
    arms = {"network": predicted, "mean depth": np.broadcast_to(mean_depth(truth), truth.shape)}
    errors = {name: depth_errors(arm, truth) for name, arm in arms.items()}
    return {
        "abs rel": {name: bootstrap(e.abs_rel) for name, e in errors.items()},
        "δ < 1.25": {name: bootstrap(e.within[:, 0]) for name, e in errors.items()},
    }


def _motion(steps: np.ndarray, poses: np.ndarray) -> dict[str, dict[str, Interval]]:
    arms = {"network": accumulate(steps), "standing still": zero_motion(len(poses))}
    return {
        "rotation error in degrees": {
            name: bootstrap(rotation_errors(steps_of(arm), steps_of(poses))) for name, arm in arms.items()
        },
        "ATE in metres, 5 frames": {
            name: bootstrap(snippet_errors(arm, poses)) for name, arm in arms.items()
        },
    }
