"""Checks of maps of odometry: their sign, light that changes, noise, and weights made random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import chronocam as cc
from benchmarks.claims.odometry.faithful import outputs
from benchmarks.claims.odometry.world import SHALLOW, Pairs, Table, explained, pose_loss, rows_of, targets
from chronocam.lab.models.odometry import Odometry
from chronocam.metrics import Interval, bootstrap, noise_agreement, rank_correlation
from chronocam.targets import Regression

LAST = "conv7"  # the one before the linear head
SHOWN = ("ry", "tz", "loss")
NOISE, DRAWS = 0.02, 5


@dataclass(frozen=True)
class Signs:
    """What becomes of maps as the sign of the target, or left and right, change places.

    opposite: by arm, largest |map(−ry) + map(ry)| over the largest |map|. exact: largest |sum of the map +
        bias −
    output| at the last layer, over the output's largest magnitude. turned: share of drives in the mirror of
    which ry has the other sign, and tz the same. flipped: rank correlation of the map of ry of the mirrored
    drive, mirrored back, with the map of −ry; the same of tz with the map of tz. kept: of ry with the map of
    ry.
    same: share of drives whose map of ry has a sum of the sign of ry.
    """

    opposite: dict[str, float]
    exact: float
    turned: dict[str, Interval]
    flipped: Table
    kept: dict[str, Interval]
    same: dict[str, Interval]


def signs(network: Odometry, pairs: Pairs) -> Signs:
    """Measure signs."""
    mirror = pairs.mirrored()
    maps, found = (explained(network, p, ("ry", "−ry", "tz")) for p in (pairs, mirror))
    back = {arm: m[..., ::-1] for arm, m in found.items()}
    with torch.inference_mode():
        poses, turned = (network.pose(p.frames).numpy() for p in (pairs, mirror))
    last = cc.HiResCAM(network.pose, LAST).explain(pairs.frames, Regression("ry")).maps[:, 0].sum(axis=(1, 2))
    bias = 0.01 * float(network.pose.state_dict()["pose_pred.bias"][4])
    sums = {f"hirescam, {LAST}": last} | {
        arm: m[:, 0].sum(axis=(1, 2)) for arm, m in maps.items() if not arm.startswith("layercam")
    }
    alike = {
        arm: np.stack([rank_correlation(m[:, of], back[arm][:, to]) for of, to in ((1, 0), (2, 2))], axis=1)
        for arm, m in maps.items()
    }
    return Signs(
        {arm: float(np.abs(m[:, 0] + m[:, 1]).max() / np.abs(m[:, :2]).max()) for arm, m in maps.items()},
        float(np.abs(last + bias - poses[:, 4]).max() / np.abs(poses[:, 4]).max()),
        {
            n: bootstrap((s * poses[:, k] * turned[:, k] > 0).astype(float))
            for n, k, s in (("ry", 4, -1), ("tz", 2, 1))
        },
        rows_of(alike, ("ry", "tz")),
        {arm: bootstrap(rank_correlation(m[:, 0], back[arm][:, 0])) for arm, m in maps.items()},
        {arm: bootstrap((np.sign(s) == np.sign(poses[:, 4])).astype(float)) for arm, s in sums.items()},
    )


@dataclass(frozen=True)
class Light:
    """What a change of exposure between the frames does.

    alike: rank correlation of maps with and without the change; strangers: of the maps of a drive and another
        one.
    apart: the first minus the second. louder: log2 of the mean magnitude of a map with the change, over that
        without.
    moved: mean |change of an output|, in its standard deviations over the drives.
    """

    alike: Table
    strangers: Table
    apart: Table
    louder: Table
    moved: dict[str, Interval]


def light(network: Odometry, still: Pairs, changed: Pairs) -> Light:
    """Measure what a change of exposure does to maps and outputs."""
    maps, others = (explained(network, pairs, SHOWN) for pairs in (still, changed))
    with torch.inference_mode():
        before, after = (outputs(network.pose(pairs.frames)) for pairs in (still, changed))
    own = {arm: rank_correlation(maps[arm], others[arm]) for arm in maps}
    strange = {arm: rank_correlation(maps[arm], np.roll(maps[arm], 1, axis=0)) for arm in maps}
    size = {arm: [np.log2(np.abs(m[arm]).mean(axis=(2, 3))) for m in (others, maps)] for arm in maps}
    return Light(
        rows_of(own, SHOWN),
        rows_of(strange, SHOWN),
        rows_of({arm: own[arm] - strange[arm] for arm in own}, SHOWN),
        rows_of({arm: after - before for arm, (after, before) in size.items()}, SHOWN),
        {
            name: bootstrap(((after[name] - before[name]).abs() / before[name].std()).numpy())
            for name in before
        },
    )


@dataclass(frozen=True)
class Noise:
    """How alike maps of noisy copies are, and how much a layer moves a score to first order, by network and target.

    alike: rank correlation. moved: Σ|gradient · activation| over |score|. difference: of tz's likeness − the
        loss's.
    smaller: the loss's first-order change, random network − trained one. cancelling: length of the mean over
        drives of
    the loss's gradient for the six outputs, over its mean length: 1 where every drive pulls the same way.
    """

    alike: Table
    moved: Table
    difference: dict[str, Interval]
    smaller: Interval
    cancelling: dict[str, float]


def noise(networks: Mapping[str, Odometry], pairs: Pairs) -> Noise:
    """Measure agreement under noise and first-order changes of HiResCAM at the shallower layer, of every network."""
    alike = {name: _agreement(network, pairs) for name, network in networks.items()}
    moved = {name: _moved(network, pairs) for name, network in networks.items()}
    trained, random = networks
    return Noise(
        rows_of(alike, SHOWN),
        rows_of(moved, SHOWN),
        {name: bootstrap(values[:, SHOWN.index("tz")] - values[:, SHOWN.index("loss")])
         for name, values in alike.items()},
        bootstrap((moved[random] - moved[trained])[:, SHOWN.index("loss")]),
        {name: _cancelling(network, pairs) for name, network in networks.items()},
    )  # fmt: skip


def _agreement(network: Odometry, pairs: Pairs) -> np.ndarray:
    method = cc.HiResCAM(network.pose, SHALLOW, batch_size=None)
    asked = targets(network, pairs, SHOWN)
    found = noise_agreement(
        lambda inputs: method.explain(torch.from_numpy(inputs), asked).maps,
        pairs.frames.numpy(),
        NOISE,
        DRAWS,
    )
    return found.spearman


def _moved(network: Odometry, pairs: Pairs) -> np.ndarray:
    """Return Σ|G·A| of the shallower layer over |score|, `(drive, target)`."""
    kept: list[Tensor] = []
    handle = network.pose.get_submodule(SHALLOW).register_forward_hook(lambda _m, _i, out: kept.append(out))
    poses = network.pose(pairs.frames)
    handle.remove()
    scores = {**outputs(poses), "loss": pose_loss(network, pairs).of_outputs(poses, pairs.frames)}
    rows = []
    for name in SHOWN:
        (gradient,) = torch.autograd.grad(scores[name].sum(), kept[0], retain_graph=True)
        rows.append((gradient * kept[0]).abs().sum((1, 2, 3)) / scores[name].abs().clamp_min(1e-12))
    return torch.stack(rows, dim=1).detach().numpy()


def _cancelling(network: Odometry, pairs: Pairs) -> float:
    poses = network.pose(pairs.frames).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(pose_loss(network, pairs).of_outputs(poses, pairs.frames).sum(), poses)
    return float(slopes.mean(0).norm() / slopes.norm(dim=1).mean())


@dataclass(frozen=True)
class Randomised:
    """Rank correlation of maps with those of a network with random weights, with signs and of magnitudes."""

    signed: Table
    magnitude: Table


def randomised(network: Odometry, random: Odometry, pairs: Pairs) -> Randomised:
    """Compare maps with those of a network whose weights are random."""
    maps, others = (explained(one, pairs, SHOWN) for one in (network, random))
    return Randomised(
        rows_of({arm: rank_correlation(maps[arm], others[arm]) for arm in maps}, SHOWN),
        rows_of({arm: rank_correlation(np.abs(maps[arm]), np.abs(others[arm])) for arm in maps}, SHOWN),
    )
