"""Insertion and deletion for regression: do outputs change faster as the cells that a map marks go?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from benchmarks.claims.odometry.world import LOSS, SHALLOW, TARGETS, Pairs, explained, grids
from benchmarks.claims.tables import Table, rows_of
from chronocam.lab.models.odometry import Odometry
from chronocam.metrics import centre_prior, deletion, insertion, random_maps
from chronocam.metrics._deletion import BLUR
from chronocam.odometry import pose_to_matrix, rotation_angle

BASELINES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "blur": lambda frames: gaussian_filter(frames, [0, 0, *(BLUR * n for n in frames.shape[2:])]),
    "mean": lambda frames: frames.mean(axis=(2, 3), keepdims=True),
}
"""What cells are replaced by, made once for all curves."""
STEPS = 6
PIECES = ("centre prior", "side prior")


def faithfulness(network: Odometry, pairs: Pairs) -> dict[str, Table]:
    """Return how much faster outputs change than with another order of the cells, as cells go or come.

    Values are gains of the area under the curve of the output's |change|, in standard deviations over the
    drives, and of the loss's rise, in mean losses. Above 0 the map is the better one. Two bumps that know
    nothing, in the middle and at the sides, are compared with a random map, which is not in one piece.
    """
    maps = explained(network, pairs)
    nothing = {
        f"random, {layer}": random_maps(len(pairs), grid, pairs.size, seed=2)
        for layer, grid in grids(network, pairs).items()
    }
    prior = np.repeat(centre_prior(pairs.size)[None], len(pairs), axis=0)
    nothing |= {"centre prior": prior, "side prior": np.roll(prior, pairs.size[1] // 2, axis=2)}
    inputs, tables = pairs.frames.numpy(), {}
    changes = {name: _change(network, pairs, name) for name in TARGETS}
    for baseline, replaced in BASELINES.items():
        instead = replaced(inputs)
        # a good order makes deletion change the outputs early and insertion bring them back early: more area
        # under the first curve and less under the second, hence the sign
        for curve, sign in ((deletion, 1), (insertion, -1)):
            areas: dict[str, list[np.ndarray]] = {}  # of every order of the cells, by target
            for k, (name, change) in enumerate(changes.items()):
                orders = {arm: _order(m[:, k], name) for arm, m in maps.items()} | nothing
                for arm, order in orders.items():
                    area = curve(change, inputs, order, baseline=instead, steps=STEPS).area
                    areas.setdefault(arm, []).append(sign * area)
            stacked = {arm: np.stack(of_target, axis=1) for arm, of_target in areas.items()}
            title = f"{baseline}, {curve.__name__}"
            for other in ("random", "centre prior"):
                gains = {arm: stacked[arm] - stacked[_beside(arm, other)] for arm in maps}
                tables[f"{title}: gain over {other}"] = rows_of(gains, TARGETS)
            pieces = {piece: stacked[piece] - stacked[f"random, {SHALLOW}"] for piece in PIECES}
            tables[f"{title}: one piece − scattered cells"] = rows_of(pieces, TARGETS)
    return tables


def _beside(arm: str, other: str) -> str:
    return f"random, {arm.split(', ')[1]}" if other == "random" else other


def _order(maps: np.ndarray, name: str) -> np.ndarray:
    """Return what cells are ordered by: cells that matter for an output, cells that keep the loss low."""
    return maps if name == "loss" else np.abs(maps)


def _change(network: Odometry, pairs: Pairs, name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return what inputs change: |output − output before| in deviations, the loss's rise in mean losses.

    The loss is that of the frames as they are, under the motion that the network sees in the changed ones.
    """
    with torch.inference_mode():
        before = (
            outputs(network.pose(pairs.frames))[name]
            if name != "loss"
            else _losses(network, pairs)(pairs.frames)
        )
        unit = before.mean() if name == "loss" else before.std()
        losses = _losses(network, pairs)

    def change(inputs: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            frames = torch.from_numpy(inputs)
            after = losses(frames) if name == "loss" else outputs(network.pose(frames))[name]
        moved = (after - before) / unit
        return np.asarray(moved if name == "loss" else moved.abs())

    return change


def _losses(network: Odometry, pairs: Pairs) -> Callable[[Tensor], Tensor]:
    """Return the photometric loss by the frames that the pose network sees; the depth stays."""
    pictures = pairs.frames.unflatten(1, (2, 3)) * 0.5 + 0.5
    disparities = network.depth.disparities(pairs.frames[:, :3])
    return lambda frames: (
        LOSS(
            pictures[:, 0], pictures[:, 1:], disparities, network.pose.poses(frames), pairs.intrinsics
        ).photometric
    )


def outputs(poses: Tensor) -> dict[str, Tensor]:
    """Return the outputs of pose networks by the names of their targets."""
    turned = rotation_angle(pose_to_matrix(poses)[:, :3, :3])
    return {"ry": poses[:, 4], "rotation angle": turned, "tz": poses[:, 2], "‖t‖": poses[:, :3].norm(dim=1)}
