"""Scenes that are rendered again without each of their parts, and what the score loses without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

import chronocam as cc
from benchmarks.claims.odometry.world import prepared
from benchmarks.sequence import cues, trained
from chronocam.lab.data.parts import Part
from chronocam.targets import Class, Regression, Step

CLIP = {"seed": 5, "actors": 2}
MOMENT = 3  # frames on which a motion is held
STEPS = (7, 11, 15)
MOTION = ("tz", "ry")
CUE = 2.0  # size of a cue in the noise of the sequences


@dataclass(frozen=True, eq=False)
class Parts:
    """masks: where each part is, `(part, *grid)`. falls: of the score without it."""

    masks: np.ndarray
    falls: np.ndarray

    def on(self, values: np.ndarray) -> np.ndarray:
        """Return what a map, or a curve over the frames, has on each part."""
        masks = self.masks
        if values.ndim < masks.ndim - 1:
            masks = masks.any(axis=tuple(range(2, masks.ndim)))
        return np.tensordot(masks.reshape(len(masks), -1).astype(np.float64), values.ravel(), 1)


@dataclass(frozen=True, eq=False)
class Case:
    """One input with one target.

    number: of the scene. index: of the output explained.
    features: of every step, for networks of a CNN and an LSTM.
    sets: parts in space, in time.
    """

    number: int
    inputs: np.ndarray
    target: Any
    index: int
    sets: Mapping[str, Parts]
    features: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class World:
    """A network and its cases.

    step: the output of which step is explained; None for networks with one output. quick: methods of many
        passes are left out.
    """

    title: str
    model: nn.Module
    cases: Sequence[Case]
    kinds: tuple[str, ...]
    step: int | None = None
    quick: bool = False


Score: TypeAlias = Callable[[np.ndarray], np.ndarray]


def parts_of(score: Score, whole: np.ndarray, without: np.ndarray, masks: np.ndarray) -> Parts:
    """Return those of the parts that are seen, with how much the score falls without each.

    whole: `(1, …)`, without: `(part, …)`, as the network takes them.
    """
    scores = score(np.concatenate([whole, without]))
    seen = masks.reshape(len(masks), -1).any(axis=1)
    return Parts(masks[seen], (scores[0] - scores[1:])[seen])


def digits(count: int) -> World:
    """Digits, blobs and strokes on photographs; one of the two digits is explained."""
    loaded = cc.models.load("chronocam:digits")
    cases = []
    for index in range(count):
        scene, parts = cc.data.digits.parts(index, seed=5)
        x, without = _prepared(loaded, scene.images[0], parts)
        masks = np.stack([part.where(scene.images[0]) for part in parts])
        label = int(scene.labels[0, index % 2])
        found = parts_of(_logit(loaded.model, label), x, without, masks)
        cases.append(Case(index, x, Class(label), label, {"space": found}))
    return World("Digits", loaded.model, cases, ("space",))


def gestures(count: int, name: str) -> World:
    """Two people at a time; what one of them does is explained, in space and in time."""
    loaded = cc.models.load(f"chronocam:gestures-{name}")
    cases = []
    for index in range(count):
        clip, parts = cc.data.gestures.parts(index, **CLIP)
        _, moments = cc.data.gestures.moments(index, length=MOMENT, **CLIP)
        x, without = _prepared(loaded, clip.pixels, parts)
        _, still = _prepared(loaded, clip.pixels, moments)
        masks = np.stack([part.where(clip.pixels) for part in parts])
        spans = np.stack([_span(part, clip.pixels.shape[:3]) for part in moments])
        label = int(clip.labels[index % 2])
        score = _logit(loaded.model, label)
        sets = {"space": parts_of(score, x, without, masks), "time": parts_of(score, x, still, spans)}
        cases.append(Case(index, x, Class(label), label, sets, _features(loaded.model, x)))
    return World(f"Gestures, `{name}`", loaded.model, cases, ("space", "time"), quick=name != "3d")


def steps(count: int) -> Iterator[World]:
    """One person, a network that names the gesture after every frame; three of its outputs are explained."""
    loaded = cc.models.load("chronocam:gestures-steps")
    for step in STEPS:
        cases = []
        for index in range(count):
            clip, moments = cc.data.gestures.moments(index, length=MOMENT, seed=5)
            label = int(clip.labels[0])
            x, still = _prepared(loaded, clip.pixels, moments)
            spans = np.stack([_span(part, clip.pixels.shape[:3]) for part in moments])
            found = parts_of(_logit(loaded.model, label, step), x, still, spans)
            target = Step(step, Class(label))
            cases.append(Case(index, x, target, label, {"time": found}, _features(loaded.model, x)))
        yield World(f"Gestures, output after frame {step}", loaded.model, cases, ("time",), step, quick=True)


def drives(count: int) -> Iterator[World]:
    """Drives in rooms and streets: the network of motion, its forward motion and its turn."""
    network = cc.models.load("chronocam:odometry").model.pose
    rendered = [cc.data.drives.parts(index) for index in range(count)]
    for name in MOTION:
        cases, index = [], network.labels.index(name)
        for number, (drive, parts) in enumerate(rendered):
            x = prepared(drive.pixels[None]).numpy()
            without = prepared(np.stack([part.pixels for part in parts])).numpy()
            masks = np.stack([part.where(drive.pixels).any(axis=0) for part in parts])
            found = parts_of(_logit(network, index), x, without, masks)
            cases.append(Case(number, x, Regression(name), index, {"space": found}))
        yield World(f"Drives, `{name}`", network, cases, ("space",))


def sequences(count: int) -> World:
    """Noise with two cues that decide the class together, and an LSTM that learnt it."""
    model, _ = _trained()
    x, labels, where = cues(count, CUE, 4000)
    silent, _, _ = cues(count, 0.0, 4000)
    cases = []
    for number in range(count):
        whole, label = x[number : number + 1], int(labels[number])
        # Without a cue its step has noise alone; the other steps are without their noise.
        without = np.repeat(whole, whole.shape[1], axis=0)
        for step in range(whole.shape[1]):
            without[step, step] = silent[number, step] if step in where[number] else 0
        masks = np.eye(whole.shape[1], dtype=bool)
        found = parts_of(_logit(model, label), whole, without, masks)
        case = Case(number, whole, Class(label), label, {"time": found}, torch.from_numpy(whole))
        cases.append(case)
    return World("Cues in noise", model, cases, ("time",))


@cache
def _trained() -> tuple[nn.Module, float]:
    return trained(CUE, 0)


def _logit(model: nn.Module, index: int, step: int | None = None) -> Score:
    def score(inputs: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            out = model(torch.from_numpy(inputs))
        out = out["logits"] if isinstance(out, dict) else out
        return (out if step is None else out[:, step])[:, index].numpy().astype(np.float64)

    return score


def _prepared(loaded: Any, whole: np.ndarray, parts: Sequence[Part]) -> tuple[np.ndarray, np.ndarray]:
    made = [np.asarray(loaded.preprocess(pixels)) for pixels in (whole, *(part.pixels for part in parts))]
    return np.stack(made[:1]), np.stack(made[1:])


def _span(part: Part, grid: tuple[int, ...]) -> np.ndarray:
    """Return the frames of a moment, over all places: a map is to be right in time alone."""
    first, last = map(int, part.name.split("-"))
    frames = np.zeros(grid, bool)
    frames[first : last + 1] = True
    return frames


def _features(model: Any, x: np.ndarray) -> torch.Tensor | None:
    if not hasattr(model, "from_features"):
        return None
    with torch.inference_mode():
        return model.features(torch.from_numpy(x)).clone()
