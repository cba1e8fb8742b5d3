"""Networks for depth and motion, each alone or both in one model, and what they predict for a drive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float, Float32

from chronocam.errors import InputError, LayerError, TargetError, suggest

if TYPE_CHECKING:
    from chronocam.media import Preprocess

BATCH: Final = 32  # moments in one forward pass
DEPTH_LAYER: Final = "iconv4"
"""The default layer of a DepthNet: a cell is 8 pixels, between what a scene is and where its edges are."""

_MOTION: Final = 6


@dataclass(frozen=True)
class Networks:
    """A network for depth (with `disparities`), one for motion (with `poses`), or both.

    joint: whether one model holds both, so that layers begin with `depth.` or `pose.`.
    view_synthesis: the settings of the loss that they were trained with, where the model knows them.
    """

    depth: Any
    pose: Any
    joint: bool
    view_synthesis: Mapping[str, Any] | None = None

    @property
    def loss(self) -> Any:
        """The loss that the networks were trained with; SfMLearner's, as published, where that is unknown."""
        from chronocam.odometry import SFMLEARNER, ViewSynthesis

        return SFMLEARNER if self.view_synthesis is None else ViewSynthesis(**self.view_synthesis)

    @property
    def parts(self) -> dict[str, Any]:
        """The networks that the model has, by name."""
        return {name: one for name, one in (("pose", self.pose), ("depth", self.depth)) if one is not None}

    @property
    def offsets(self) -> tuple[int, ...]:
        """The sources by their distance from the target: the next frame, or those on both sides of it."""
        if self.pose is None:
            return ()
        # SfMLearner's target lies in the middle of its sources: two of them are at −1 and 1, one is at 1.
        count = int(getattr(self.pose, "sources", 1))
        return tuple(k - count // 2 for k in range(count + 1) if k != count // 2)

    @property
    def following(self) -> int:
        """The place among the sources of the frame that follows the target."""
        return self.offsets.index(1)

    def called(self, part: str, layer: str) -> str:
        """Return the path of a layer in the model that was loaded."""
        return f"{part}.{layer}" if self.joint else layer

    def layers(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Return the paths of named layers, by network. Raises LayerError for a layer in neither."""
        from chronocam.engines import engine_for

        paths: dict[str, list[str]] = {}
        for layer in names:
            part, _, path = layer.partition(".") if self.joint else (*self.parts, "", layer)
            if part not in self.parts or not path:
                expected = "expected one of the networks and its layer, such as pose.conv4 or depth.iconv4"
                raise LayerError(f"no layer `{layer}`{suggest(part, list(self.parts))}; {expected}")
            paths.setdefault(part, []).append(engine_for(self.parts[part]).resolve(path))
        return paths

    def default_layers(self, part: str) -> list[str] | None:
        """Return the layers explained where none is named; None leaves the choice to the library."""
        has = part == "depth" and isinstance(getattr(self.depth, "_modules", None), dict)
        return [DEPTH_LAYER] if has and DEPTH_LAYER in self.depth._modules else None


def networks_of(model: Any) -> Networks | None:
    """Return the networks for depth and motion that a model is or holds; None for other models."""
    # Methods decide what a network is, so that users' own classes are recognised too. A model with both
    # comes first: its parts have these methods as well.
    depth, pose = getattr(model, "depth", None), getattr(model, "pose", None)
    if _has(depth, "disparities") and _has(pose, "poses"):
        return Networks(depth, pose, True, getattr(model, "view_synthesis", None))
    if _has(model, "disparities"):
        return Networks(model, None, joint=False)
    return Networks(None, model, joint=False) if _has(model, "poses") else None


def _has(network: Any, method: str) -> bool:
    return callable(getattr(network, method, None)) and callable(getattr(network, "parameters", None))


@dataclass(frozen=True, eq=False)
class Windows:
    """Target frames with their sources beside them on channels, the target first; made when asked for."""

    frames: Float32[np.ndarray, "frame 3 height width"]
    offsets: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.frames) <= self._reach:
            todo = f"the network sees {self._reach + 1} at a time: give a longer drive, or more with --frames"
            raise InputError(f"{len(self.frames)} frames are too few; {todo}")

    @property
    def first(self) -> int:
        """The number of the first target frame."""
        return -min((0, *self.offsets))

    @property
    def _reach(self) -> int:
        return max((0, *self.offsets)) + self.first

    def __len__(self) -> int:
        return len(self.frames) - self._reach

    # Stacking all windows at once would hold every frame two or three times.
    def __getitem__(self, rows: slice | Sequence[int]) -> Float32[np.ndarray, "moment channel height width"]:
        moments = self.first + np.arange(len(self))[rows]
        return np.concatenate([self.frames[moments + offset] for offset in (0, *self.offsets)], axis=1)

    def batches(self, part: str) -> Iterator[Float32[np.ndarray, "moment channel height width"]]:
        """Yield what the network of that name takes, moment after moment."""
        for start in range(0, len(self), BATCH):
            yield self.seen_by(part, slice(start, start + BATCH))

    def seen_by(
        self, part: str, rows: slice | Sequence[int]
    ) -> Float32[np.ndarray, "moment channel height width"]:
        """Return what the network of that name takes at some moments."""
        return self[rows][:, :3] if part == "depth" else self[rows]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the networks predict at each moment.

    losses: the terms of the loss, where there are both networks and a camera.
    """

    poses: Float[np.ndarray, "moment source 6"] | None
    depth: Float[np.ndarray, "moment height width"] | None
    losses: dict[str, Float[np.ndarray, " moment"]] = field(default_factory=dict)


def predict(
    networks: Networks, windows: Windows, intrinsics: np.ndarray | None, preprocess: Preprocess
) -> Prediction:
    """Return what the networks predict for a drive.

    intrinsics: of the pictures that the networks see; None leaves the losses out.

    Raises InputError for values that are not finite and depth that is not positive, TargetError for outputs
    of other shapes.
    """
    import torch

    poses, depths, losses = [], [], []
    with torch.no_grad():
        for batch in windows.batches("both"):
            motion = None if networks.pose is None else _poses(networks, batch)
            levels = None if networks.depth is None else _disparities(networks, batch)
            if motion is not None:
                poses.append(motion.cpu().numpy())
            if levels is not None:
                depths.append((1 / levels[0][:, 0]).cpu().numpy())
            if motion is not None and levels is not None and intrinsics is not None:
                # The loss compares colours, so the normalisation of the networks' inputs is undone.
                pictures = _pictures(batch, preprocess, motion)
                terms = networks.loss(pictures[:, 0], pictures[:, 1:], levels, motion, intrinsics)
                losses.append({name: getattr(terms, name).cpu().numpy() for name in _TERMS})
    joined = {name: np.concatenate([one[name] for one in losses]) for name in _TERMS} if losses else {}
    return Prediction(
        np.concatenate(poses) if poses else None, np.concatenate(depths) if depths else None, joined
    )


_TERMS: Final = ("total", "photometric", "smoothness")


def _poses(networks: Networks, batch: np.ndarray) -> Any:
    poses = networks.pose.poses(_tensor(networks.pose, batch))
    expected = (len(batch), len(networks.offsets), _MOTION)
    if tuple(poses.shape) != expected:
        raise TargetError(
            f"the network for motion gives shape {tuple(poses.shape)}; expected poses {expected}"
        )
    if not bool(poses.isfinite().all()):
        raise InputError("the motion is not finite; look for NaN in the weights of the network")
    return poses


def _disparities(networks: Networks, batch: np.ndarray) -> tuple[Any, ...]:
    levels = tuple(networks.depth.disparities(_tensor(networks.depth, batch[:, :3])))
    expected = (len(batch), 1, *batch.shape[2:])
    if not levels or tuple(levels[0].shape) != expected:
        shape = tuple(levels[0].shape) if levels else ()
        raise TargetError(
            f"the network for depth gives shape {shape} at its finest scale; expected {expected}"
        )
    if not all(bool(((level > 0) & level.isfinite()).all()) for level in levels):
        raise InputError("the depth is not positive and finite; look for NaN in the weights of the network")
    return levels


def _tensor(network: Any, batch: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(batch)).to(next(network.parameters()))


def _pictures(batch: np.ndarray, preprocess: Preprocess, like: Any) -> Any:
    """Return frames as pictures in [0, 1], `(moment, frame, 3, height, width)`."""
    import torch

    mean, std = (np.asarray(v, dtype=np.float32).reshape(-1, 1, 1) for v in (preprocess.mean, preprocess.std))
    frames = batch.reshape(len(batch), -1, 3, *batch.shape[2:])
    return torch.from_numpy(frames * std + mean).to(like)
