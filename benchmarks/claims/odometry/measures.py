"""Known answers for maps of odometry: the wall without texture, and the object that moves by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
    arm_name,
    concentration,
    explained,
    grids,
    on_grid,
    pose_loss,
    targets,
    without_network,
)
from benchmarks.claims.tables import Table, rows_of
from chronocam.lab.models.odometry import Odometry
from chronocam.maps.resample import resample
from chronocam.metrics import bootstrap
from chronocam.odometry import DepthLoss, pose_to_matrix, warp
from chronocam.targets import Regression

WALL = (0.03, 0.4)  # shares of the picture that a wall must take
INSIDE = 6
OBJECT = 0.01  # share of the picture that an object must take at least
MOTION = TARGETS[:4]
DEPTH_LAYERS = ("conv4", "iconv3", "predict_disp1")


def walls(network: Odometry, plain: Pairs, textured: Pairs) -> dict[str, Table]:
    """Measure the energy of maps for motion on walls without texture, over the walls' share of the area.

    Differences are paired: minus a random map, the centre prior, and the map of the wall with its texture.
    The interior is what lies `INSIDE` pixels or more from the wall's outline.
    """
    share = plain.plain.mean(axis=(1, 2))
    fits = (share >= WALL[0]) & (share <= WALL[1])
    plain, textured = plain.some(fits), textured.some(fits)
    masks, layers = plain.plain, grids(network, plain)
    maps, others = explained(network, plain, MOTION), explained(network, textured, MOTION)
    bare = {name: concentration(m, masks) for name, m in without_network(masks, layers).items()}
    tables: dict[str, Table] = {
        "wall: share of the picture": {"wall": {"area": bootstrap(masks.mean(axis=(1, 2)))}}
    }
    for part in ("magnitude", "positive part"):
        values = {arm: concentration(PARTS[part](m), masks) for arm, m in maps.items()}
        beside = {
            "random map": {arm: bare[f"random, {arm.split(', ')[1]}"][:, None] for arm in maps},
            "centre prior": dict.fromkeys(maps, bare["centre prior"][:, None]),
            "the wall with its texture": {
                arm: concentration(PARTS[part](m), masks) for arm, m in others.items()
            },
        }
        tables[f"wall: {part}"] = rows_of(values, MOTION)
        for other, of_arm in beside.items():
            differences = {arm: values[arm] - of_arm[arm] for arm in maps}
            tables[f"wall: {part} − {other}"] = rows_of(differences, MOTION)
    tables["wall: maps without a network"] = {n: {"energy over area": bootstrap(v)} for n, v in bare.items()}
    coarse = {layer: grid for layer, grid in layers.items() if layer != "input"}
    tables["wall: a faultless map on the layer's grid"] = {
        layer: {"energy over area": bootstrap(concentration(on_grid(~masks, grid), masks))}
        for layer, grid in coarse.items()
    }
    tables["wall: activity of the layer"] = {
        layer: {"energy over area": bootstrap(concentration(_activity(network, plain, layer), masks))}
        for layer in coarse
    }
    return tables | _interior(maps, masks)


def _interior(maps: Mapping[str, np.ndarray], masks: np.ndarray) -> dict[str, Table]:
    """Return the magnitude's concentration inside the masks, alone and minus that in all of them."""
    inside = binary_erosion(masks, np.ones((1, 3, 3)), iterations=INSIDE)
    fits = inside.mean(axis=(1, 2)) >= OBJECT
    values = {arm: concentration(np.abs(m[fits]), inside[fits]) for arm, m in maps.items()}
    deeper = {arm: values[arm] - concentration(np.abs(m[fits]), masks[fits]) for arm, m in maps.items()}
    return {
        "wall: interior": rows_of(values, MOTION),
        "wall: interior − the whole wall": rows_of(deeper, MOTION),
    }


def _activity(network: Odometry, pairs: Pairs, layer: str) -> np.ndarray:
    """Return how active a layer is, its channels' sum, at the size of the input."""
    outputs: list[Tensor] = []
    handle = network.pose.get_submodule(layer).register_forward_hook(lambda _m, _i, out: outputs.append(out))
    with torch.inference_mode():
        for part in pairs.frames.split(PART):
            network.pose(part)
    handle.remove()
    return np.asarray(resample(torch.cat(outputs).sum(1, keepdim=True).numpy(), pairs.size, "cubic"))[:, 0]


def movers(network: Odometry, moving: Pairs, empty: Pairs) -> dict[str, Table]:
    """Measure the energy of maps of the negative loss on an object that moves, over its share of the area.

    Differences are paired: minus the same place without the object, a random map, the centre prior.
    """
    fits = moving.moving.mean(axis=(1, 2)) >= OBJECT
    moving, empty = moving.some(fits), empty.some(fits)
    masks = moving.moving
    (maps, layers), (others, _) = loss_maps(network, moving), loss_maps(network, empty)
    values, there = ({arm: _by_part(m, masks) for arm, m in of.items()} for of in (maps, others))
    bare = photometric_errors(network, moving) | without_network(masks, layers)
    beside = {name: concentration(m, masks) for name, m in bare.items()}
    minus = {
        "the same place without it": there,
        "random map": {arm: beside[f"random, {arm.split(', ')[-1]}"][:, None] for arm in values},
        "centre prior": dict.fromkeys(values, beside["centre prior"][:, None]),
    }
    parts = list(PARTS)
    return {
        "object: share of the picture": {"object": {"area": bootstrap(masks.mean(axis=(1, 2)))}},
        "object: maps of the loss": rows_of(values, parts),
        **{
            f"object: maps of the loss − {other}": rows_of(
                {arm: values[arm] - of_arm[arm] for arm in values}, parts
            )
            for other, of_arm in minus.items()
        },
        "object: maps without a network": {n: {"energy over area": bootstrap(v)} for n, v in beside.items()},
        "object: PoseNet's map − a mixture of those of its outputs": {
            f"hirescam, {SHALLOW}": {"largest difference": _mixture(network, moving)}
        },
        "object: DepthNet's maps by error": _by_power(network, moving),
    }


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
    outputs = [Regression(name) for name in network.pose.labels]
    method = cc.HiResCAM(network.pose, SHALLOW, batch_size=None)
    whole = method.explain(pairs.frames, targets(network, pairs, ("loss",))).maps[:, 0]
    mixed = np.einsum("dj,djhw->dhw", slopes.numpy(), method.explain(pairs.frames, outputs).maps)
    return float(np.abs(whole - mixed).max() / np.abs(whole).max())


def _by_power(network: Odometry, pairs: Pairs) -> Table:
    """Return the concentration of DepthNet's maps of the absolute and of the squared photometric error.

    The gradient of the first does not know how large an error is, that of the second does.
    """
    with torch.no_grad():
        transforms = pose_to_matrix(network.pose(pairs.frames))

    def error(power: int) -> Callable[[Odometry, Tensor, Tensor], Tensor]:
        def score(model: Odometry, inputs: Tensor, transform: Tensor) -> Tensor:
            target, source = (inputs.unflatten(1, (2, 3)) * 0.5 + 0.5).unbind(1)
            warped, valid = warp(source, model.depth(inputs[:, :3]), transform, pairs.intrinsics[0])
            return -((target - warped).abs() ** power * valid).mean((1, 2, 3))

        return score

    table: Table = {}
    for layer in DEPTH_LAYERS[1:]:
        values = []
        for power in (1, 2):
            method = cc.HiResCAM(network, f"depth.{layer}", operator=error(power), batch_size=None)
            maps = method.explain(pairs.frames, transforms).upsample()[:, 0]
            values.append(concentration(np.abs(maps), pairs.moving))
        absolute, squared = values
        table[f"hirescam, {layer}"] = {
            "absolute error": bootstrap(absolute),
            "squared error": bootstrap(squared),
            "squared − absolute": bootstrap(squared - absolute),
        }
    return table


def loss_maps(network: Odometry, pairs: Pairs) -> tuple[dict[str, np.ndarray], dict[str, tuple[int, ...]]]:
    """Return maps of the negative photometric loss `(drive, height, width)` by arm, and grids by layer."""
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
        sources = {
            "error with the networks' depth and motion": (
                torch.cat([network.depth(part[:, :3]) for part in pairs.frames.split(PART)]),
                pose_to_matrix(network.pose(pairs.frames)),
            ),
            "error with the true depth and motion": (
                torch.from_numpy(pairs.depth[:, None]), torch.from_numpy(pairs.transforms).float()
            ),
        }  # fmt: skip
        errors = {}
        for name, (depth, transforms) in sources.items():
            warped, valid = warp(pictures[:, 1], depth, transforms, pairs.intrinsics)
            errors[name] = ((pictures[:, 0] - warped).abs().mean(1) * valid[:, 0]).numpy()
        errors["difference of the frames"] = (pictures[:, 0] - pictures[:, 1]).abs().mean(1).numpy()
    return errors
