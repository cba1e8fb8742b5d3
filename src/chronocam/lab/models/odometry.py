"""A network for depth and one for motion, trained together."""

from __future__ import annotations

import json
from importlib.resources import files

import torch
from jaxtyping import Float
from safetensors.torch import load
from torch import Tensor, nn

from chronocam.jsonable import Json
from chronocam.models.odometry.nets import DepthNet, PoseNet

MEAN = STD = (0.5, 0.5, 0.5)
"""For the pictures that both networks take: (value / 255 − 0.5) / 0.5."""


class Odometry(nn.Module):
    """`depth`, a `DepthNet`, and `pose`, a `PoseNet` that sees the target and one source at a time.

    With one source at a time every pair of pictures has its own motion, and its own maps; the published
    PoseNet sees all sources at once.

    depth_width, pose_width: scale the number of channels.
    masks: the PoseNet gives explainability masks too.
    view_synthesis: options of the loss that they were trained with, those of
        `chronocam.odometry.ViewSynthesis`; None where they are unknown.
    """

    def __init__(self, depth_width: float = 1, pose_width: float = 1, masks: bool = False) -> None:
        super().__init__()
        self.depth: DepthNet = DepthNet(depth_width)
        self.pose: PoseNet = PoseNet(1, pose_width, masks)
        self.view_synthesis: Json | None = None

    def forward(
        self,
        target: Float[Tensor, "batch 3 height width"],
        sources: Float[Tensor, "batch source 3 height width"],
    ) -> tuple[tuple[Tensor, ...], Float[Tensor, "batch source 6"], tuple[Tensor, ...] | None]:
        """Return disparities of the target at four scales, its motion to each source, and masks if any."""
        count = sources.shape[1]
        pairs = side_by_side(target, sources)
        poses = self.pose(pairs).reshape(-1, count, 6)
        masks = None
        if self.pose.has_masks:
            masks = tuple(mask.reshape(-1, count, *mask.shape[2:]) for mask in self.pose.masks(pairs))
        return self.depth.disparities(target), poses, masks


def side_by_side(
    target: Float[Tensor, "batch 3 height width"], sources: Float[Tensor, "batch source 3 height width"]
) -> Float[Tensor, "pairs 6 height width"]:
    """Return every source beside its target on the channel axis, sources folded into the batch."""
    return torch.cat([target[:, None].expand_as(sources), sources], dim=2).flatten(0, 1)


def described(record: Json) -> Odometry:
    """Return the networks that the record of a training run describes, with random weights."""
    network = Odometry(record["depth_width"], record["pose_width"], record["masks"])
    network.view_synthesis = record["view synthesis"]
    return network


def odometry_record() -> Json:
    """Return the record of the bundled networks: preprocessing, the command, the figures."""
    record: Json = json.loads((files("chronocam.lab") / "weights" / "odometry.json").read_text())
    return record


def load_odometry() -> Odometry:
    """Return the bundled networks in eval mode."""
    record = odometry_record()
    network = described(record)
    network.load_state_dict(load((files("chronocam.lab") / "weights" / "odometry.safetensors").read_bytes()))
    return network.eval()
