"""The held-out clips, the trained networks, and what maps must beat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import chronocam as cc
from chronocam.errors import ModelError
from chronocam.lab.data import gestures

if TYPE_CHECKING:
    from chronocam.models import Loaded

ARCHS = ("r3d", "cnn-lstm", "cnn-lstm-attention")
SEED = 1  # of the held-out clips; training used others of another split
BATCH = 50


@dataclass(frozen=True)
class Settings:
    """How many clips each measure gets.

    answers: clips of one actor, for accuracy
    maps: how many of these are for maps
    pairs: clips of two actors
    faithful: how many of those for maps are for insertion, deletion and networks made random
    steps: of insertion and deletion
    """

    answers: int = 1000
    maps: int = 300
    pairs: int = 300
    faithful: int = 60
    steps: int = 6


@dataclass(frozen=True)
class World:
    """Held-out clips with one actor and with two, and how many of them are used."""

    settings: Settings
    single: gestures.Clips
    pairs: gestures.Clips

    @classmethod
    def render(cls, settings: Settings) -> World:
        return cls(
            settings,
            gestures.clips(max(settings.answers, settings.maps), seed=SEED),
            gestures.clips(settings.pairs, seed=SEED, actors=2),
        )

    @property
    def labels(self) -> np.ndarray:
        """The class of every clip with one actor."""
        return self.single.labels[:, 0]

    @property
    def size(self) -> tuple[int, int, int]:
        """Frames, height and width."""
        time, height, width = self.single.pixels.shape[1:4]
        return time, height, width


@dataclass(frozen=True)
class Network:
    """A trained network with its preprocessing, and the command that made it."""

    arch: str
    seed: int
    command: str
    loaded: Loaded

    @classmethod
    def read(cls, path: Path) -> Network:
        loaded, record = cc.models.load(str(path)), json.loads(path.read_text(encoding="utf-8"))
        return cls(record["arch"], record["seed"], record["command"], loaded)

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """The paths of the convolutions, the first one first."""
        for path, module in self.loaded.model.named_modules():
            if path.rpartition(".")[2] == "features" and isinstance(module, torch.nn.Sequential):
                return tuple(f"{path}.{name}" for name, _ in module.named_children())
        raise ModelError(f"{self.arch} {self.seed} has no `features`; train it with --backbone small")

    def inputs(self, pixels: np.ndarray) -> np.ndarray:
        """Return what the network takes of clips `(count, time, height, width, 3)`."""
        return np.stack([self.loaded.preprocess(clip) for clip in pixels])

    @property
    def channels(self) -> int:
        """The axis of the channels in a batch of inputs."""
        return 1 if self.loaded.preprocess.axes == "channel time" else 2

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """Return `(count, classes)`."""
        logits = []
        with torch.no_grad():
            for rows in batches(len(inputs)):
                out = self.loaded.model(torch.from_numpy(np.ascontiguousarray(inputs[rows])))
                logits.append((out["logits"] if isinstance(out, dict) else out).numpy())
        return np.concatenate(logits)

    def explain(self, inputs: np.ndarray, targets: Any, **options: Any) -> dict[str, cc.Explanation]:
        """Return explanations by `method@stage`; stages count from 1, in `layers` too."""
        numbers = options.pop("layers", [len(self.stages)])
        explanations: dict[str, cc.Explanation] = {}
        paths = [self.stages[number - 1] for number in numbers]
        for explanation in cc.explain(self.loaded.model, inputs, targets, layers=paths, **options).values():
            explanations[f"{explanation.method}@{1 + self.stages.index(explanation.layer)}"] = explanation
        return explanations


def batches(count: int) -> Iterator[slice]:
    return (slice(start, min(start + BATCH, count)) for start in range(0, count, BATCH))


def find_networks(folder: Path) -> list[Network]:
    """Return the networks of a folder (records and weights) by architecture and training seed."""
    networks = [Network.read(path) for path in folder.glob("*.json")]
    for arch in ARCHS:
        if arch not in {network.arch for network in networks}:
            raise ModelError(
                f"no record of a trained {arch} in `{folder}`; expected networks of {', '.join(ARCHS)}"
            )
    return sorted(networks, key=lambda network: (ARCHS.index(network.arch), network.seed))
