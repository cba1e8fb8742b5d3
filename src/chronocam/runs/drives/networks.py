"""Networks for depth and motion, each alone or both in one model, and what they say of a drive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Float32

from chronocam.errors import InputError, LayerError, TargetError, suggest

BATCH: Final = 32  # moments that are looked at at once
DEPTH_LAYER: Final = "iconv4"
"""Of a DepthNet, explained where none is named: a cell is 8 pixels, between what a scene is and where its edges are."""

_MOTION: Final = 6


@dataclass(frozen=True)
class Networks:
    """A network for depth (`disparities`), one for motion (`poses`), or both: then `joint`, `depth.` and `pose.`."""

    depth: Any
    pose: Any
    joint: bool
    view_synthesis: Mapping[str, Any] | None = None

    @property
    def loss(self) -> Any:
        """The loss that the networks were trained with; SfMLearner's, as published, where nobody knows."""
        from chronocam.odometry import SFMLEARNER, ViewSynthesis

        return SFMLEARNER if self.view_synthesis is None else ViewSynthesis(**self.view_synthesis)

    @property
    def parts(self) -> dict[str, Any]:
        """Those that are there, by name."""
        return {name: one for name, one in (("pose", self.pose), ("depth", self.depth)) if one is not None}

    @property
    def offsets(self) -> tuple[int, ...]:
        """Which frames the sources are, counted from the target: the next one, or those on both sides of it."""
        if self.pose is None:
            return ()
        count = int(getattr(self.pose, "sources", 1))
        return tuple(k - count // 2 for k in range(count + 1) if k != count // 2)

    @property
    def following(self) -> int:
        """Which of the sources is the frame that follows the target."""
        return self.offsets.index(1)

    def called(self, part: str, layer: str) -> str:
        """Return the path of a layer in the model that was loaded."""
        return f"{part}.{layer}" if self.joint else layer

    def layers(self, given: Sequence[str]) -> dict[str, list[str]]:
        """Return the layers that are named, by network. Raises LayerError for one that is in none."""
        from chronocam.engines import engine_for

        found: dict[str, list[str]] = {}
        for layer in given:
            part, _, path = layer.partition(".") if self.joint else (*self.parts, "", layer)
            if part not in self.parts or not path:
                expected = "expected one of the networks and its layer, such as pose.conv4 or depth.iconv4"
                raise LayerError(f"no layer `{layer}`{suggest(part, list(self.parts))}; {expected}")
            found.setdefault(part, []).append(engine_for(self.parts[part]).resolve(path))
        return found

    def default_layers(self, part: str) -> list[str] | None:
        """Return what is explained of a network where no layer is named; None leaves it to the library."""
        has = part == "depth" and isinstance(getattr(self.depth, "_modules", None), dict)
        return [DEPTH_LAYER] if has and DEPTH_LAYER in self.depth._modules else None


def networks_of(model: Any) -> Networks | None:
    """Return the networks for depth and motion that a model is or holds, None where it is another."""
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
    """Target frames with their sources beside them on channels, the target first, made when they are asked for."""

    frames: Float32[np.ndarray, "frame 3 height width"]
    offsets: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.frames) <= self._reach:
            wanted = (
                f"the network sees {self._reach + 1} at a time, --frames takes more where the drive has them"
            )
            raise InputError(f"{len(self.frames)} frames are too few; {wanted}")

    @property
    def first(self) -> int:
        """The number of the first target frame."""
        return -min((0, *self.offsets))

    @property
    def _reach(self) -> int:
        return max((0, *self.offsets)) + self.first

    def __len__(self) -> int:
        return len(self.frames) - self._reach

    def __getitem__(self, rows: slice | Sequence[int]) -> Float32[np.ndarray, "moment channel height width"]:
        moments = self.first + np.arange(len(self))[rows]
        return np.concatenate([self.frames[moments + offset] for offset in (0, *self.offsets)], axis=1)

    def batches(self, part: str) -> Iterator[Float32[np.ndarray, "moment channel height width"]]:
        """Yield what the network of that name takes, moment after moment."""
        for start in range(0, len(self), BATCH):
            yield self.seen(part, slice(start, start + BATCH))

    def seen(
        self, part: str, rows: slice | Sequence[int]
    ) -> Float32[np.ndarray, "moment channel height width"]:
        """Return what the network of that name takes at some moments."""
        return self[rows][:, :3] if part == "depth" else self[rows]


@dataclass(frozen=True, eq=False)
class Predicted:
    """What the networks say at each moment: motion, depth, and the terms of the loss, where they are there."""

    poses: Float[np.ndarray, "moment source 6"] | None
    depth: Float[np.ndarray, "moment height width"] | None
    losses: dict[str, Float[np.ndarray, " moment"]] = field(default_factory=dict)


def predict(
    networks: Networks, windows: Windows, intrinsics: np.ndarray | None, preprocess: Any
) -> Predicted:
    """Return what the networks say of a drive; losses where there are both networks, and intrinsics of their pictures.

    Raises InputError for values that are not finite and depth that is not positive, TargetError for other
    shapes.
    """
    import torch

    poses, depths, losses = [], [], []
    with torch.no_grad():
        for batch in windows.batches("both"):
            found = None if networks.pose is None else _poses(networks, batch)
            levels = None if networks.depth is None else _disparities(networks, batch)
            if found is not None:
                poses.append(found.cpu().numpy())
            if levels is not None:
                depths.append((1 / levels[0][:, 0]).cpu().numpy())
            if found is not None and levels is not None and intrinsics is not None:
                pictures = _pictures(batch, preprocess, found)
                terms = networks.loss(pictures[:, 0], pictures[:, 1:], levels, found, intrinsics)
                losses.append({name: getattr(terms, name).cpu().numpy() for name in _TERMS})
    joined = {name: np.concatenate([one[name] for one in losses]) for name in _TERMS} if losses else {}
    return Predicted(
        np.concatenate(poses) if poses else None, np.concatenate(depths) if depths else None, joined
    )


_TERMS: Final = ("total", "photometric", "smoothness")


def _poses(networks: Networks, batch: np.ndarray) -> Any:
    found = networks.pose.poses(_tensor(networks.pose, batch))
    expected = (len(batch), len(networks.offsets), _MOTION)
    if tuple(found.shape) != expected:
        raise TargetError(
            f"the network for motion gives shape {tuple(found.shape)}; expected poses {expected}"
        )
    if not bool(found.isfinite().all()):
        raise InputError("the motion is not finite; look for NaN in the weights of the network")
    return found


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


def _pictures(batch: np.ndarray, preprocess: Any, like: Any) -> Any:
    """Return frames as pictures in [0, 1], `(moment, frame, 3, height, width)`."""
    import torch

    mean, std = (np.asarray(v, dtype=np.float32).reshape(-1, 1, 1) for v in (preprocess.mean, preprocess.std))
    frames = batch.reshape(len(batch), -1, 3, *batch.shape[2:])
    return torch.from_numpy(frames * std + mean).to(like)
