"""How relevance over the steps of clips settles, changes with the class, and lies in the frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import chronocam as cc
from benchmarks.claims.tables import Table
from chronocam.lab.data import gestures
from chronocam.metrics import bootstrap, centre_prior, energy_inside, random_maps
from chronocam.sequence import METHODS
from chronocam.targets import Class, EveryStep, Step

if TYPE_CHECKING:
    from chronocam.models import Loaded

RELEVANCE = ("lrp", "gradientxinput", "integratedgradients", "gradient")
PART = 20  # clips that the network is shown at once


@dataclass(frozen=True)
class NetworkClips:
    """Clips and what the network makes of them.

    frames: as the network takes them
    labels: `(clip, part)`, one class, or the one before and the one after the change
    """

    pixels: np.ndarray
    frames: torch.Tensor
    features: torch.Tensor
    logits: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, loaded: Loaded, pixels: np.ndarray, labels: np.ndarray) -> NetworkClips:
        """Show clips to the network."""
        preprocess = replace(loaded.preprocess, frames=pixels.shape[1])
        frames = torch.stack([torch.from_numpy(preprocess(clip)) for clip in pixels])
        with torch.inference_mode():
            features = torch.cat([loaded.model.features(part) for part in frames.split(PART)])
            logits = loaded.model.from_features(features).numpy()
        return cls(pixels, frames, features, logits, labels)

    def explained(self, model: Any, method: str, part: int = 0) -> list[Any]:
        """Explain every step's logit of each clip's class, one explanation per clip."""
        explainer = METHODS[method](model)
        targets = [EveryStep(Class(int(label))) for label in self.labels[:, part]]
        return [
            explainer.explain(f[None], target)
            for f, target in zip(self.features.clone(), targets, strict=True)
        ]


def profiles(explanations: Sequence[Any]) -> np.ndarray:
    """Return the relevance of each step's own features, `(clip, step, feature)`."""
    return np.stack([explanation.own()[0] for explanation in explanations])


def references(explanations: Sequence[Any], labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the mean steady state of whole clips of each class, each clip's scaled to length 1."""
    steady = _unit(np.stack([explanation.steady_state()[0] for explanation in explanations]))
    return _unit(np.stack([steady[labels == k].mean(axis=0) for k in range(classes)]))


def alike(profile: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return cosines `(…, class)` of profiles `(…, feature)` with every reference `(class, feature)`."""
    return _unit(profile) @ reference.T


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True).clip(1e-12)


def settling(
    loaded: Loaded, clips: NetworkClips, others: NetworkClips
) -> tuple[Table, dict[str, np.ndarray]]:
    """Compare every step with the steady states of other clips, of the same class and of the rest."""
    table: Table = {}
    curves: dict[str, np.ndarray] = {}
    labels, classes = clips.labels[:, 0], len(loaded.labels)
    for name in RELEVANCE:
        reference = references(others.explained(loaded.model, name), others.labels[:, 0], classes)
        explanations = clips.explained(loaded.model, name)
        cosines = alike(profiles(explanations), reference)
        own = np.take_along_axis(cosines, labels[:, None, None], axis=2)[..., 0]
        rest = (cosines.sum(axis=2) - own) / (classes - 1)
        steady = alike(np.stack([e.steady_state()[0] for e in explanations]), reference)
        quarter = own.shape[1] // 4
        table[name] = {
            "first quarter": bootstrap(own[:, :quarter].mean(axis=1)),
            "last quarter": bootstrap(own[:, -quarter:].mean(axis=1)),
            "last quarter, other classes": bootstrap(rest[:, -quarter:].mean(axis=1)),
            "class of the nearest": bootstrap((steady.argmax(axis=1) == labels).astype(float)),
        }
        curves[name] = np.stack([own.mean(axis=0), rest.mean(axis=0)])
    return table, curves


def change(loaded: Loaded, pairs: NetworkClips, others: NetworkClips) -> tuple[Table, np.ndarray, np.ndarray]:
    """Explain clips that change class in the middle, and measure whether relevance changes with it.

    Returns the table, how alike the relevance for the first (second) class and that class's other clips are
    at every step, `(pair, 2, step)`, and the relevance of the first pair `(2, step, feature)`.
    """
    reference = references(others.explained(loaded.model, "lrp"), others.labels[:, 0], len(loaded.labels))
    relevance = [profiles(pairs.explained(loaded.model, "lrp", part)) for part in range(2)]
    rows = np.arange(len(pairs.labels))
    curves = np.stack(
        [alike(values, reference)[rows, :, pairs.labels[:, k]] for k, values in enumerate(relevance)], axis=1
    )
    votes = pairs.logits.argmax(axis=2)
    half, quarter = votes.shape[1] // 2, votes.shape[1] // 8
    before, after = slice(half - quarter, half), slice(votes.shape[1] - quarter, votes.shape[1])
    right = [votes[:, part] == pairs.labels[:, [k]] for k, part in enumerate((before, after))]
    first, second = (pairs.logits[rows, half:, pairs.labels[:, k]] for k in (0, 1))
    ahead = second > first
    # where the second class never leads, the delay counts as the whole second half
    delay = np.where(ahead.any(axis=1), ahead.argmax(axis=1), half)
    first_falls = curves[:, 0, before].mean(axis=1) - curves[:, 0, after].mean(axis=1)
    second_rises = curves[:, 1, after].mean(axis=1) - curves[:, 1, before].mean(axis=1)
    values = {
        "steps before the change named right": right[0].mean(axis=1),
        "steps at the end named right": right[1].mean(axis=1),
        "relevance for the first class: before − at the end": first_falls,
        "relevance for the second class: at the end − before": second_rises,
        "frames after the change until the second class leads": delay.astype(float),
    }
    table: Table = {name: {"mean": bootstrap(of_pairs)} for name, of_pairs in values.items()}
    return table, curves, np.stack([of_class[0] for of_class in relevance])


def pixels_of(loaded: Loaded, clips: NetworkClips, truth: gestures.Clips) -> Table:
    """Carry the relevance for the last step to the frames, and measure its share on the one who acts."""
    actor, acting = truth.actor_masks[:, 0], truth.masks[:, 0]
    shape = actor.shape
    back_prop = cc.VisualBackProp(loaded.model, overlap="mean").explain(clips.frames)
    maps = {
        "LRP, then Grad-CAM": _carried(loaded, clips, "gradcam"),
        "LRP, then guided backpropagation": _carried(loaded, clips, "guided"),
        "VisualBackProp (no class)": _positive(back_prop),
        "random map": random_maps(len(actor), (shape[1], 8, 8), shape[1:]),
        "centre prior": np.broadcast_to(centre_prior(shape[1:]), shape),
        "share of the area": np.ones(shape, np.float32),
    }
    return {
        name: {
            "on the person": bootstrap(energy_inside(values, actor, rank=3)),
            "on the action": bootstrap(energy_inside(values, acting, rank=3)),
        }
        for name, values in maps.items()
    }


def _carried(loaded: Loaded, clips: NetworkClips, how: str) -> np.ndarray:
    """Return the positive part of the last step's relevance on the frames, `(clip, time, height, width)`."""
    maps = []
    for index, label in enumerate(clips.labels[:, 0]):
        features, frames = clips.features[index : index + 1].clone(), clips.frames[index : index + 1]
        explanation = cc.sequence.LRP(loaded.model).explain(features, Step(-1, Class(int(label))))
        maps.append(_positive(explanation.to_frames(loaded.model, frames, how=how))[0])
    return np.stack(maps)


def _positive(explanation: cc.Explanation) -> np.ndarray:
    return np.maximum(explanation.upsample()[:, 0], 0)
