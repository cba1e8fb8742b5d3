"""Known answers for maps of odometry: the wall without texture, and the object that moves by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_erosion
from torch import Tensor

import chronocam as cc
from benchmarks.claims.odometry.world import (
    LOSS,
    PART,
    PARTS,
    SHALLOW,
    TARGETS,
    Pairs,
    Table,
    arm_name,
    concentration,
    explained,
    grids,
    on_grid,
    pose_loss,
    rows_of,
    targets,
    without_network,
)
from chronocam.lab.models.odometry import Odometry
from chronocam.maps.resample import resample
from chronocam.metrics import Interval, bootstrap
from chronocam.odometry import DepthLoss, pose_to_matrix, warp
from chronocam.targets import Regression

WALL = (0.03, 0.4)  # shares of the picture that a wall must take
INSIDE = 6
OBJECT = 0.01  # share of the picture that an object must take at least
MOTION = TARGETS[:4]
DEPTH_LAYERS = ("conv4", "iconv3", "predict_disp1")


@dataclass(frozen=True)
class Walls:
    """How much of the maps lies on a wall without texture, over its share of the area; differences are paired.

    of, minus: by part of the map; minus: the maps' value minus that of another, by the other's name. bare: of
        maps that
    no network has a part in. possible: of a faultless map on each grid. active: of each layer's activity.
    interior: of the magnitude, in what is `INSIDE` pixels or more from the wall's outline; deeper: that minus
        the value of
    the wall.
    """

    area: Interval
    of: dict[str, Table]
    minus: dict[str, dict[str, Table]]
    bare: dict[str, Interval]
    possible: dict[str, Interval]
    active: dict[str, Interval]
    interior: Table
    deeper: Table


def walls(network: Odometry, plain: Pairs, textured: Pairs) -> Walls:
    """Measure maps for motion on walls without texture, and on the same walls with their texture."""
    share = plain.plain.mean(axis=(1, 2))
    kept = (share >= WALL[0]) & (share <= WALL[1])
    plain, textured = plain.some(kept), textured.some(kept)
    layers = grids(network, plain)
    maps, others = explained(network, plain, MOTION), explained(network, textured, MOTION)
    bare = {name: concentration(m, plain.plain) for name, m in without_network(plain.plain, layers).items()}
    found: dict[str, Table] = {}
    minus: dict[str, dict[str, Table]] = {}
    for part in ("magnitude", "positive part"):
        values = {arm: concentration(PARTS[part](m), plain.plain) for arm, m in maps.items()}
        beside = {
            "random": {arm: bare[f"random, {arm.split(', ')[1]}"][:, None] for arm in maps},
            "centre prior": dict.fromkeys(maps, bare["centre prior"][:, None]),
            "with its texture": {
                arm: concentration(PARTS[part](m), plain.plain) for arm, m in others.items()
            },
        }
        found[part] = rows_of(values, MOTION)
        minus[part] = {
            other: rows_of({arm: values[arm] - of_arm[arm] for arm in maps}, MOTION)
            for other, of_arm in beside.items()
        }
    coarse = {layer: grid for layer, grid in layers.items() if layer != "input"}
    return Walls(
        bootstrap(plain.plain.mean(axis=(1, 2))),
        found,
        minus,
        {name: bootstrap(value) for name, value in bare.items()},
        {n: bootstrap(concentration(on_grid(~plain.plain, grid), plain.plain)) for n, grid in coarse.items()},
        {n: bootstrap(concentration(_activity(network, plain, n), plain.plain)) for n in coarse},
        *_interior(maps, plain.plain),
    )


def _interior(maps: Mapping[str, np.ndarray], masks: np.ndarray) -> tuple[Table, Table]:
    """Return the magnitude's concentration in the interior of the masks, and that minus the one in all of them."""
    inside = binary_erosion(masks, np.ones((1, 3, 3)), iterations=INSIDE)
    kept = inside.mean(axis=(1, 2)) >= OBJECT
    values = {arm: concentration(np.abs(m[kept]), inside[kept]) for arm, m in maps.items()}
    deeper = {arm: values[arm] - concentration(np.abs(m[kept]), masks[kept]) for arm, m in maps.items()}
    return rows_of(values, MOTION), rows_of(deeper, MOTION)


def _activity(network: Odometry, pairs: Pairs, layer: str) -> np.ndarray:
    """Return how active a layer is, its channels' sum, at the size of the input."""
    kept: list[Tensor] = []
    handle = network.pose.get_submodule(layer).register_forward_hook(lambda _m, _i, out: kept.append(out))
    with torch.inference_mode():
        for part in pairs.frames.split(PART):
            network.pose(part)
    handle.remove()
    return np.asarray(resample(torch.cat(kept).sum(1, keepdim=True).numpy(), pairs.size, "cubic"))[:, 0]


@dataclass(frozen=True)
class Movers:
    """How much of the negative-loss maps lies on an object that moves by itself, over its share of the area.

    of: by arm, the parts of the map. minus: its paired differences, by what is subtracted: the same drive
        without the
    object at the same place, a random map, the centre prior. beside: of what is no map of a network. mixture:
    how far the map of PoseNet's loss is from a mixture of the maps of its outputs. powers: of the magnitude
    of DepthNet's maps;
    gain: of the squared error minus the absolute one.
    """

    area: Interval
    of: Table
    minus: dict[str, Table]
    beside: dict[str, Interval]
    mixture: float
    powers: dict[str, Interval]
    gain: dict[str, Interval]


def movers(network: Odometry, moving: Pairs, empty: Pairs) -> Movers:
    """Measure maps of the negative photometric loss, of either network, on objects that move by themselves."""
    kept = moving.moving.mean(axis=(1, 2)) >= OBJECT
    moving, empty = moving.some(kept), empty.some(kept)
    masks = moving.moving
    (maps, layers), (others, _) = loss_maps(network, moving), loss_maps(network, empty)
    of, there = ({arm: _by_part(m, masks) for arm, m in found.items()} for found in (maps, others))
    bare = photometric_errors(network, moving) | without_network(masks, layers)
    beside = {name: concentration(m, masks) for name, m in bare.items()}
    powers = {name: concentration(np.abs(m), masks) for name, m in _by_power(network, moving).items()}
    minus = {
        "without the object": {arm: of[arm] - there[arm] for arm in of},
        "random": {arm: of[arm] - beside[f"random, {arm.split(', ')[-1]}"][:, None] for arm in of},
        "centre prior": {arm: of[arm] - beside["centre prior"][:, None] for arm in of},
    }
    return Movers(
        bootstrap(masks.mean(axis=(1, 2))),
        rows_of(of, list(PARTS)),
        {name: rows_of(values, list(PARTS)) for name, values in minus.items()},
        {name: bootstrap(value) for name, value in beside.items()},
        _mixture(network, moving),
        {name: bootstrap(value) for name, value in powers.items()},
        {
            n: bootstrap(v - powers[n.replace("squared", "absolute")])
            for n, v in powers.items()
            if n.startswith("squared")
        },
    )


def _by_part(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the concentration of each part, `(drive, part)`; NaN for a part that no map has."""
    parts = [part(maps) for part in PARTS.values()]
    return np.stack([concentration(p, masks) if p.any() else np.full(len(p), np.nan) for p in parts], axis=1)


def _mixture(network: Odometry, pairs: Pairs) -> float:
    """Return the largest |map of the loss − Σ_j ∂score/∂output_j · map of output j| over the largest |map|.

    HiResCAM is linear in the gradient, and the loss knows the frames only through six numbers of a pose.
    """
    poses = network.pose(pairs.frames).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(pose_loss(network, pairs).of_outputs(poses, pairs.frames).sum(), poses)
    asked = [Regression(name) for name in network.pose.labels]
    method = cc.HiResCAM(network.pose, SHALLOW, batch_size=None)
    whole = method.explain(pairs.frames, targets(network, pairs, ("loss",))).maps[:, 0]
    mixed = np.einsum("dj,djhw->dhw", slopes.numpy(), method.explain(pairs.frames, asked).maps)
    return float(np.abs(whole - mixed).max() / np.abs(whole).max())


def _by_power(network: Odometry, pairs: Pairs) -> dict[str, np.ndarray]:
    """Return maps of DepthNet for the mean absolute and the mean squared photometric error at full size.

    The gradient of the first does not know how large an error is, that of the second does.
    """
    with torch.no_grad():
        transforms = pose_to_matrix(network.pose(pairs.frames))

    def error(power: int) -> Any:
        def score(model: Any, inputs: Tensor, transform: Tensor) -> Tensor:
            target, source = (inputs.unflatten(1, (2, 3)) * 0.5 + 0.5).unbind(1)
            seen, valid = warp(source, model.depth(inputs[:, :3]), transform, pairs.intrinsics[0])
            return -((target - seen).abs() ** power * valid).mean((1, 2, 3))

        return score

    found = {}
    for name, power in (("absolute", 1), ("squared", 2)):
        for layer in DEPTH_LAYERS[1:]:
            method = cc.HiResCAM(network, f"depth.{layer}", operator=error(power), batch_size=None)
            found[f"{name} error, hirescam, {layer}"] = method.explain(pairs.frames, transforms).upsample()[
                :, 0
            ]
    return found


def loss_maps(network: Odometry, pairs: Pairs) -> tuple[dict[str, np.ndarray], dict[str, tuple[int, ...]]]:
    """Return maps of the negative photometric loss `(drive, height, width)` by network and arm, and layers' grids."""
    of_pose = explained(network, pairs, ("loss",))
    score = DepthLoss(loss=LOSS, pose=network.pose, intrinsics=pairs.intrinsics[:1], term="photometric")
    of_depth = cc.explain(
        network.depth, pairs.frames[:, :3], pairs.frames[:, 3:], methods=("gradcam", "hirescam", "layercam"),
        layers=DEPTH_LAYERS, operator=score, batch_size=PART,
    )  # fmt: skip
    maps = {f"PoseNet, {arm}": m[:, 0] for arm, m in of_pose.items()}
    maps |= {f"DepthNet, {arm_name(e)}": e.upsample()[:, 0] for e in of_depth.values()}
    return maps, grids(network, pairs) | {e.layer: e.maps.shape[2:] for e in of_depth.values()}


def photometric_errors(network: Odometry, pairs: Pairs) -> dict[str, np.ndarray]:
    """Return what is left of the target at every pixel: as the networks explain it, and as the truth does."""
    pictures = pairs.frames.unflatten(1, (2, 3)) * 0.5 + 0.5
    with torch.inference_mode():
        known = {
            "error with the networks' depth and motion": (
                torch.cat([network.depth(part[:, :3]) for part in pairs.frames.split(PART)]),
                pose_to_matrix(network.pose(pairs.frames)),
            ),
            "error with the true depth and motion": (
                torch.from_numpy(pairs.depth[:, None]), torch.from_numpy(pairs.transforms).float()
            ),
        }  # fmt: skip
        found = {}
        for name, (depth, transforms) in known.items():
            seen, valid = warp(pictures[:, 1], depth, transforms, pairs.intrinsics)
            found[name] = ((pictures[:, 0] - seen).abs().mean(1) * valid[:, 0]).numpy()
        found["difference of the frames"] = (pictures[:, 0] - pictures[:, 1]).abs().mean(1).numpy()
    return found
