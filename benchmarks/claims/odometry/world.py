"""The data of the claims about odometry: pairs of rendered frames with the truth, and maps of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

import chronocam as cc
from chronocam.lab.data.drives import Drive, drive
from chronocam.lab.models.odometry import MEAN, STD, Odometry
from chronocam.maps.resample import resample
from chronocam.metrics import centre_prior, energy_inside, random_maps
from chronocam.odometry import SFMLEARNER, PoseLoss, RotationAngle, TranslationNorm
from chronocam.targets import Regression
from chronocam.types import Target

FRAME = 2  # of the five of a drive: the target; its source is the next one
METHODS = ("gradcam", "hirescam", "layercam", "inputxgradient")
SHALLOW = "conv3"
PART = 16  # pairs that a network is shown at once
# its photometric term is the one that the bundled networks learnt from
LOSS = replace(SFMLEARNER, outside=True)
TARGETS = ("ry", "rotation angle", "tz", "‖t‖", "loss")
PARTS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "positive part": lambda maps: np.maximum(maps, 0),
    "negative part": lambda maps: np.maximum(-maps, 0),
    "magnitude": np.abs,
}


@dataclass(frozen=True, eq=False)
class Pairs:
    """One pair of frames of every drive, target first, as a network takes them, and the truth of the target.

    transforms: from the target's camera to the source's
    """

    pixels: np.ndarray  # (drive, 2, height, width, 3)
    frames: Tensor  # (drive, 6, height, width)
    intrinsics: Tensor
    transforms: np.ndarray
    depth: np.ndarray
    moving: np.ndarray
    plain: np.ndarray

    @classmethod
    def of(cls, drives: Iterable[Drive]) -> Pairs:
        """Take the pair at `FRAME` of every drive."""
        whole = list(drives)
        pixels = np.stack([d.pixels[FRAME : FRAME + 2] for d in whole])
        return cls(
            pixels,
            prepared(pixels),
            torch.tensor(np.stack([d.intrinsics for d in whole]), dtype=torch.float32),
            np.stack(
                [np.linalg.inv(d.poses[FRAME + 1]) @ d.poses[FRAME] for d in whole if d.poses is not None]
            ),
            *(np.stack([getattr(d, name)[FRAME] for d in whole]) for name in ("depth", "moving", "plain")),
        )

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[2], self.pixels.shape[3]

    def some(self, which: slice | np.ndarray) -> Pairs:
        """Return the pairs of some drives."""
        return Pairs(*(value[which] for value in vars(self).values()))

    def mirrored(self) -> Pairs:
        """Return the pairs as a mirror shows them; the truth is left as it is."""
        return Pairs(
            *{**vars(self), "pixels": self.pixels[:, :, :, ::-1], "frames": self.frames.flip(3)}.values()
        )


def prepared(pixels: np.ndarray) -> Tensor:
    """Return frames `(…, frame, height, width, 3)` side by side on channels, as the networks take them."""
    frames = torch.from_numpy(np.moveaxis(pixels, -1, -3) / np.float32(255))
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return ((frames - mean) / std).flatten(-4, -3)


def rendered(count: int, track: Callable[[Iterable[int]], Iterable[int]] = iter, **switches: bool) -> Pairs:
    """Render the first drives of the test split, the same ones but for the switches."""
    return Pairs.of(drive(index, **switches) for index in track(range(count)))


def pose_loss(network: Odometry, pairs: Pairs) -> PoseLoss:
    """Return the photometric loss of the pairs as a score of the pose network."""
    return PoseLoss(loss=LOSS, depth=network.depth, intrinsics=pairs.intrinsics, term="photometric")


def targets(network: Odometry, pairs: Pairs, names: Sequence[str] = TARGETS) -> list[Target]:
    """Return targets by name; `loss` is the negative loss of these frames, whatever is done to the inputs."""
    makers: dict[str, Callable[[], Target]] = {
        "−ry": lambda: Regression("ry", -1),
        "rotation angle": RotationAngle,
        "‖t‖": TranslationNorm,
        "loss": lambda: pose_loss(network, pairs).target(pairs.frames),
    }
    return [makers[name]() if name in makers else Regression(name) for name in names]


def explained(
    network: Odometry,
    pairs: Pairs,
    names: Sequence[str] = TARGETS,
    layers: Sequence[str | None] = (None, SHALLOW),
) -> dict[str, np.ndarray]:
    """Return maps of the pose network and its input, `(drive, target, height, width)`, by arm."""
    explanations = cc.explain(
        network.pose,
        pairs.frames,
        targets(network, pairs, names),
        methods=METHODS,
        layers=layers,
        batch_size=PART,
    )
    return {arm_name(e): e.upsample() for e in explanations.values()}


def arm_name(explanation: cc.Explanation) -> str:
    """Name a method and its layer."""
    return f"{explanation.method}, {explanation.layer.strip('<>')}"


def grids(network: Odometry, pairs: Pairs) -> dict[str, tuple[int, ...]]:
    """Return the grids of the default layer, the shallower layer and the input, by the name of the layer."""
    explanations = cc.explain(network.pose, pairs.frames[:2], targets(network, pairs.some(slice(2)), ("tz",)),
                       methods=("hirescam", "inputxgradient"), layers=(None, SHALLOW))  # fmt: skip
    return {e.layer.strip("<>"): e.maps.shape[2:] for e in explanations.values()}


def without_network(masks: np.ndarray, layers: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Return maps without a network, `(drive, height, width)`: noise on every grid, and the centre prior."""
    size = masks.shape[1:]
    noise = {
        f"random, {layer}": random_maps(len(masks), grid, size, seed=1) for layer, grid in layers.items()
    }
    return {**noise, "centre prior": np.broadcast_to(centre_prior(size), masks.shape)}


def on_grid(masks: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Return masks averaged onto a grid and upsampled again: a faultless map of that grid."""
    coarse = adaptive_avg_pool2d(torch.from_numpy(masks[:, None].astype(np.float32)), (grid[0], grid[1]))
    return np.maximum(np.asarray(resample(coarse.numpy(), masks.shape[1:], "cubic"))[:, 0], 0)


def concentration(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the share of the maps' energy in the masks over the masks' share of the area; maps `(drive, …)`.

    1 is an even map's; a map that is zero everywhere counts as even.
    """
    # masks `(drive, height, width)` gain axes for targets in between
    wide = np.broadcast_to(masks.reshape(len(masks), *(1,) * (maps.ndim - 3), *masks.shape[1:]), maps.shape)
    area = wide.mean(axis=(-2, -1))
    share = np.where((maps > 0).any(axis=(-2, -1)), energy_inside(maps, wide), area)
    return np.asarray(share / area)
