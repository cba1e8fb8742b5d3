"""Checks of maps of odometry: their sign, light that changes, noise, and weights made random."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

import chronocam as cc
from benchmarks.claims.odometry.faithful import outputs
from benchmarks.claims.odometry.world import SHALLOW, Pairs, explained, pose_loss, targets
from benchmarks.claims.tables import Table, rows_of
from chronocam.lab.models.odometry import Odometry
from chronocam.metrics import bootstrap, noise_agreement, rank_correlation
from chronocam.targets import Regression

LAST = "conv7"  # the one before the linear head
SHOWN = ("ry", "tz", "loss")
NOISE, DRAWS = 0.02, 5


def signs(network: Odometry, pairs: Pairs) -> dict[str, Table]:
    """Measure what becomes of maps as the sign of the target, or left and right, change places.

    Maps of a mirrored drive are mirrored back. The largest difference of map(−ry) from −map(ry) is over the
    largest value; that of the sum of a map and the bias from the output, over the output's largest magnitude.
    """
    mirror = pairs.mirrored()
    maps, mirrored = (explained(network, p, ("ry", "−ry", "tz")) for p in (pairs, mirror))
    back = {arm: m[..., ::-1] for arm, m in mirrored.items()}
    with torch.inference_mode():
        poses, turned = (network.pose(p.frames).numpy() for p in (pairs, mirror))
    last = cc.HiResCAM(network.pose, LAST).explain(pairs.frames, Regression("ry")).maps[:, 0].sum(axis=(1, 2))
    # PoseNet scales its outputs, and so the bias, by 0.01
    bias = 0.01 * float(network.pose.state_dict()["pose_pred.bias"][4])
    sums = {f"hirescam, {LAST}": last} | {
        arm: m[:, 0].sum(axis=(1, 2)) for arm, m in maps.items() if not arm.startswith("layercam")
    }
    alike = {
        arm: np.stack([rank_correlation(m[:, of], back[arm][:, to]) for of, to in ((1, 0), (2, 2))], axis=1)
        for arm, m in maps.items()
    }
    shares = (("ry changes its sign", 4, -1), ("tz keeps its sign", 2, 1))
    return {
        "sign: map of −ry + map of ry": {
            arm: {"largest value": float(np.abs(m[:, 0] + m[:, 1]).max() / np.abs(m[:, :2]).max())}
            for arm, m in maps.items()
        },
        "sign: sum of the map + bias − output": {
            f"hirescam, {LAST}": {
                "largest difference": float(
                    np.abs(last + bias - poses[:, 4]).max() / np.abs(poses[:, 4]).max()
                )
            }
        },
        "sign: sum of a map of ry and ry": {
            arm: {"share of drives": bootstrap((np.sign(s) == np.sign(poses[:, 4])).astype(float))}
            for arm, s in sums.items()
        },
        "mirror: outputs": {
            label: {"share of drives": bootstrap((sign * poses[:, k] * turned[:, k] > 0).astype(float))}
            for label, k, sign in shares
        },
        "mirror: map of ry and of −ry, of tz and of tz": rows_of(alike, ("ry", "tz")),
        "mirror: map of ry and of ry": {
            arm: {"ry": bootstrap(rank_correlation(m[:, 0], back[arm][:, 0]))} for arm, m in maps.items()
        },
    }


def light(network: Odometry, still: Pairs, changed: Pairs) -> dict[str, Table]:
    """Measure what a change of exposure between the frames does to maps and outputs.

    The maps of a drive with and without it are compared, beside those of a drive and another one.
    """
    maps, others = (explained(network, pairs, SHOWN) for pairs in (still, changed))
    with torch.inference_mode():
        before, after = (outputs(network.pose(pairs.frames)) for pairs in (still, changed))
    own = {arm: rank_correlation(maps[arm], others[arm]) for arm in maps}
    strange = {arm: rank_correlation(maps[arm], np.roll(maps[arm], 1, axis=0)) for arm in maps}
    size = {arm: [np.log2(np.abs(m[arm]).mean(axis=(2, 3))) for m in (others, maps)] for arm in maps}
    moved = {name: ((after[name] - before[name]).abs() / before[name].std()).numpy() for name in before}
    return {
        "exposure: same drive": rows_of(own, SHOWN),
        "exposure: two drives": rows_of(strange, SHOWN),
        "exposure: same drive − two drives": rows_of({arm: own[arm] - strange[arm] for arm in own}, SHOWN),
        "exposure: log2 of the size with it − without": rows_of(
            {arm: after - before for arm, (after, before) in size.items()}, SHOWN
        ),
        "exposure: change of outputs": {name: {"deviations": bootstrap(v)} for name, v in moved.items()},
    }


def noise(networks: Mapping[str, Odometry], pairs: Pairs) -> dict[str, Table]:
    """Measure how alike HiResCAM's maps of noisy copies are at the shallower layer, and first-order changes.

    The first-order change is Σ|gradient · activation| over |score|. The mean gradient is that of the loss for
    the six outputs, averaged over drives; its length is given over the mean length for single drives: 1 where
    every drive pulls the same way.
    """
    alike = {name: _agreement(network, pairs) for name, network in networks.items()}
    moved = {name: _moved(network, pairs) for name, network in networks.items()}
    trained, random = networks
    tz, loss = (SHOWN.index(name) for name in ("tz", "loss"))
    return {
        "noise: agreement": rows_of(alike, SHOWN),
        "noise: agreement, tz − loss": {
            n: {"loss": bootstrap(v[:, tz] - v[:, loss])} for n, v in alike.items()
        },
        "noise: first-order change": rows_of(moved, SHOWN),
        "noise: first-order change, random − trained": {
            "loss": {"change": bootstrap((moved[random] - moved[trained])[:, loss])}
        },
        "noise: length of the mean gradient": {
            name: {"share": _cancelling(network, pairs)} for name, network in networks.items()
        },
    }


def _agreement(network: Odometry, pairs: Pairs) -> np.ndarray:
    method = cc.HiResCAM(network.pose, SHALLOW, batch_size=None)
    scores = targets(network, pairs, SHOWN)
    agreement = noise_agreement(
        lambda inputs: method.explain(torch.from_numpy(inputs), scores).maps,
        pairs.frames.numpy(),
        NOISE,
        DRAWS,
    )
    return agreement.spearman


def _moved(network: Odometry, pairs: Pairs) -> np.ndarray:
    """Return Σ|G·A| of the shallower layer over |score|, `(drive, target)`."""
    outputs_of_layer: list[Tensor] = []
    handle = network.pose.get_submodule(SHALLOW).register_forward_hook(
        lambda _m, _i, out: outputs_of_layer.append(out)
    )
    poses = network.pose(pairs.frames)
    handle.remove()
    scores = {**outputs(poses), "loss": pose_loss(network, pairs).of_outputs(poses, pairs.frames)}
    rows = []
    for name in SHOWN:
        (gradient,) = torch.autograd.grad(scores[name].sum(), outputs_of_layer[0], retain_graph=True)
        rows.append(
            (gradient * outputs_of_layer[0]).abs().sum((1, 2, 3)) / scores[name].abs().clamp_min(1e-12)
        )
    return torch.stack(rows, dim=1).detach().numpy()


def _cancelling(network: Odometry, pairs: Pairs) -> float:
    poses = network.pose(pairs.frames).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(pose_loss(network, pairs).of_outputs(poses, pairs.frames).sum(), poses)
    return float(slopes.mean(0).norm() / slopes.norm(dim=1).mean())


def randomised(network: Odometry, random: Odometry, pairs: Pairs) -> dict[str, Table]:
    """Measure the rank correlation of maps with those of a network whose weights are random."""
    maps, others = (explained(one, pairs, SHOWN) for one in (network, random))
    signed = {arm: rank_correlation(maps[arm], others[arm]) for arm in maps}
    magnitude = {arm: rank_correlation(np.abs(maps[arm]), np.abs(others[arm])) for arm in maps}
    return {
        "random weights: maps with signs": rows_of(signed, SHOWN),
        "random weights: magnitudes": rows_of(magnitude, SHOWN),
    }
