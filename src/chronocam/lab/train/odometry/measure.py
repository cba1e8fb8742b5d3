"""How good trained depth and motion are on drives with known depth or poses, beside trivial answers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap

import numpy as np
import torch
from torch import Tensor

from chronocam.jsonable import Json
from chronocam.lab.models.odometry import MEAN, STD, Odometry, side_by_side
from chronocam.lab.train.odometry.footage import Reel, pieces
from chronocam.metrics import bootstrap
from chronocam.odometry import (
    DepthErrors,
    accumulate,
    depth_errors,
    mean_depth,
    pose_to_matrix,
    rotation_errors,
    snippet_errors,
    steps_of,
    zero_motion,
)

_LENGTH = 5  # frames in a snippet whose trajectory is compared
_PART = 32  # frames that the networks are shown at once


def measure(network: Odometry, reels: Sequence[Reel], device: torch.device | str = "cpu") -> Json:
    """Return errors with 95 % intervals: of depth over pictures, median-scaled; of motion over snippets.

    `standing still`, `straight ahead` (both for motion) and `mean depth` are what takes no network. What the
    drives do not know is left out.
    """
    depths: list[tuple[np.ndarray, np.ndarray]] = []
    moves: list[tuple[np.ndarray, np.ndarray]] = []
    network.eval()
    for reel in reels:
        for drive in starmap(reel.read, pieces(len(reel), _PART)):
            frames = _prepared(drive.pixels, device)
            with torch.inference_mode():
                if drive.depth is not None:
                    depths.append((network.depth(frames)[:, 0].float().cpu().numpy(), drive.depth))
                if drive.poses is not None and len(frames) > 1:
                    # The network maps points of frame t to t + 1; steps of a trajectory go the other way.
                    pairs = side_by_side(frames[:-1], frames[1:, None])
                    steps = np.linalg.inv(pose_to_matrix(network.pose(pairs)).double().cpu().numpy())
                    moves.append((steps, drive.poses))
    return {**_of_depth(depths), **_of_motion(moves)}


def _of_depth(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Json:
    if not pairs:
        return {}
    predicted, true = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    measured = (true > 0).any(axis=(1, 2))
    # The mean of the truth knows more than a network may: one that does not beat it has learnt nothing.
    fixed = np.broadcast_to(mean_depth(true), true.shape)
    arms = {"network": predicted, "mean depth": fixed}
    return {
        "depth": {
            name: _depth_figures(depth_errors(arm[measured], true[measured])) for name, arm in arms.items()
        }
    }


def _depth_figures(errors: DepthErrors) -> Json:
    values = {
        "abs rel": errors.abs_rel,
        "sq rel": errors.sq_rel,
        "rmse": errors.rmse,
        "rmse log": errors.rmse_log,
    }
    return {name: _rounded(v) for name, v in values.items()} | {
        f"within 1.25^{k + 1}": _rounded(errors.within[:, k]) for k in range(3)
    }


def _of_motion(moves: list[tuple[np.ndarray, np.ndarray]]) -> Json:
    if not moves:
        return {}
    rows: dict[str, dict[str, list[np.ndarray]]] = {}
    for steps, poses in moves:
        ahead = np.tile(np.eye(4), (len(steps), 1, 1))
        ahead[:, 2, 3] = 1  # any length will do: the error is measured after scaling
        arms = {
            "network": accumulate(steps),
            "straight ahead": accumulate(ahead),
            "standing still": zero_motion(len(poses)),
        }
        true = steps_of(poses)
        for name, arm in arms.items():
            row = rows.setdefault(name, {"ate": [], "rotation error in degrees": []})
            if len(poses) >= _LENGTH:
                row["ate"].append(snippet_errors(arm, poses, _LENGTH))
            row["rotation error in degrees"].append(rotation_errors(steps_of(arm), true))
    return {
        "motion": {
            name: {what: _rounded(np.concatenate(values)) for what, values in row.items() if values}
            for name, row in rows.items()
        }
    }


def _rounded(values: np.ndarray) -> list[float]:
    """Return mean, lower and upper end of the interval."""
    interval = bootstrap(values)
    return [round(value, 4) for value in (interval.mean, interval.low, interval.high)]


def _prepared(pixels: np.ndarray, device: torch.device | str) -> Tensor:
    frames = torch.tensor(pixels, device=device).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (MEAN, STD))
    return (frames - mean) / std
