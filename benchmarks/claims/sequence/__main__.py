"""Claims about relevance over the steps of a sequence, as numbers with intervals: writes docs/sequence.md.

The bundled `chronocam:gestures-steps` gives logits after every frame. On rendered clips of people and
photographs that
training never showed it is measured: does the relevance of the steps' features come to look like that of
other, whole clips of the same class; does a clip that changes class in the middle show the change; and do the
maps that carry the relevance to the frames lie on the one who acts? In about three minutes on one core:

    python -m benchmarks.claims.sequence
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console

import chronocam as cc
from benchmarks.claims.sequence.pictures import draw_change, draw_settling
from chronocam.lab.data import gestures
from chronocam.media.files import replace_file
from chronocam.metrics import bootstrap, centre_prior, energy_inside, random_maps
from chronocam.models import load
from chronocam.sequence import METHODS
from chronocam.targets import Class, EveryStep

SPEC = "chronocam:gestures-steps"
RELEVANCE = ("lrp", "gradientxinput", "integratedgradients", "gradient")
DOCS = Path(__file__).resolve().parents[3] / "docs"
PART = 20  # clips that the network is shown at once


@dataclass(frozen=True)
class Shown:
    """Clips, what they are, and what the network found in them: frames as it takes them, features and logits."""

    pixels: np.ndarray
    frames: torch.Tensor
    features: torch.Tensor
    logits: np.ndarray
    labels: np.ndarray  # (clip, part): one class, or the one before and the one after the change

    @classmethod
    def of(cls, loaded: Any, pixels: np.ndarray, labels: np.ndarray) -> Shown:
        """Show clips to the network."""
        preprocess = replace(loaded.preprocess, frames=pixels.shape[1])
        frames = torch.stack([torch.from_numpy(preprocess(clip)) for clip in pixels])
        with torch.inference_mode():
            features = torch.cat([loaded.model.features(part) for part in frames.split(PART)])
            logits = loaded.model.from_features(features).numpy()
        return cls(pixels, frames, features, logits, labels)

    def explained(self, model: Any, method: str, part: int = 0) -> list[Any]:
        """Explain every step's logit of each clip's class, one explanation per clip."""
        made = METHODS[method](model)
        targets = [EveryStep(Class(int(label))) for label in self.labels[:, part]]
        return [
            made.explain(f[None], target) for f, target in zip(self.features.clone(), targets, strict=True)
        ]


def profiles(explanations: Sequence[Any]) -> np.ndarray:
    """Return the relevance of each step's own features, `(clip, step, feature)`."""
    return np.stack([explanation.own()[0] for explanation in explanations])


def references(explanations: Sequence[Any], labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the mean steady state of whole clips of each class, each clip's scaled to length 1."""
    steady = _unit(np.stack([explanation.steady_state()[0] for explanation in explanations]))
    return _unit(np.stack([steady[labels == k].mean(axis=0) for k in range(classes)]))


def alike(found: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the cosine of profiles `(…, feature)` and of every reference `(class, feature)`: `(…, class)`."""
    return _unit(found) @ reference.T


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True).clip(1e-12)


def settling(loaded: Any, clips: Shown, others: Shown) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Compare every step with the steady states of other clips, of the same class and of the rest."""
    rows, curves = {}, {}
    labels, classes = clips.labels[:, 0], len(loaded.labels)
    for name in RELEVANCE:
        reference = references(others.explained(loaded.model, name), others.labels[:, 0], classes)
        explanations = clips.explained(loaded.model, name)
        found = alike(profiles(explanations), reference)
        own = np.take_along_axis(found, labels[:, None, None], axis=2)[..., 0]
        rest = (found.sum(axis=2) - own) / (classes - 1)
        steady = alike(np.stack([e.steady_state()[0] for e in explanations]), reference)
        quarter = own.shape[1] // 4
        rows[name] = {
            "first quarter": bootstrap(own[:, :quarter].mean(axis=1)),
            "last quarter": bootstrap(own[:, -quarter:].mean(axis=1)),
            "last quarter, other classes": bootstrap(rest[:, -quarter:].mean(axis=1)),
            "class of the nearest": bootstrap((steady.argmax(axis=1) == labels).astype(float)),
        }
        curves[name] = np.stack([own.mean(axis=0), rest.mean(axis=0)])
    return rows, curves


def change(loaded: Any, pairs: Shown, others: Shown) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Explain clips that change class in the middle, and measure whether relevance changes with it.

    Returns the figures, how alike the relevance for the first (second) class and that class's other clips are
    at every step, `(pair, 2, step)`, and the relevance of the first pair `(2, step, feature)`.
    """
    reference = references(others.explained(loaded.model, "lrp"), others.labels[:, 0], len(loaded.labels))
    found = [profiles(pairs.explained(loaded.model, "lrp", part)) for part in range(2)]
    rows = np.arange(len(pairs.labels))
    curves = np.stack([alike(p, reference)[rows, :, pairs.labels[:, k]] for k, p in enumerate(found)], axis=1)
    votes = pairs.logits.argmax(axis=2)
    half, quarter = votes.shape[1] // 2, votes.shape[1] // 8
    before, after = slice(half - quarter, half), slice(votes.shape[1] - quarter, votes.shape[1])
    named = [votes[:, part] == pairs.labels[:, [k]] for k, part in enumerate((before, after))]
    second, first = (pairs.logits[rows, half:, pairs.labels[:, k]] for k in (1, 0))
    ahead = second > first
    delay = np.where(ahead.any(axis=1), ahead.argmax(axis=1), half)
    figures = {
        "steps before the change named right": bootstrap(named[0].mean(axis=1)),
        "steps at the end named right": bootstrap(named[1].mean(axis=1)),
        "relevance for the first class: before − at the end": bootstrap(
            curves[:, 0, before].mean(axis=1) - curves[:, 0, after].mean(axis=1)
        ),
        "relevance for the second class: at the end − before": bootstrap(
            curves[:, 1, after].mean(axis=1) - curves[:, 1, before].mean(axis=1)
        ),
        "frames after the change until the second class leads": bootstrap(delay.astype(float)),
    }
    return figures, curves, np.stack([p[0] for p in found])


def pixels_of(loaded: Any, clips: Shown, truth: gestures.Clips) -> dict[str, Any]:
    """Carry the relevance for the last step to the frames, and measure how much of it lies on the one who acts."""
    actor, acting = truth.actor_masks[:, 0], truth.masks[:, 0]
    shape = actor.shape
    found = {
        "LRP, then Grad-CAM": _carried(loaded, clips, "gradcam"),
        "LRP, then guided backpropagation": _carried(loaded, clips, "guided"),
        "VisualBackProp (no class)": _upsampled(
            cc.VisualBackProp(loaded.model, overlap="mean").explain(clips.frames)
        ),
        "random map": random_maps(len(actor), (shape[1], 8, 8), shape[1:]),
        "centre prior": np.broadcast_to(centre_prior(shape[1:]), shape),
        "share of the area": np.ones(shape, np.float32),
    }
    return {
        name: (
            bootstrap(energy_inside(maps, actor, rank=3)),
            bootstrap(energy_inside(maps, acting, rank=3)),
        )
        for name, maps in found.items()
    }


def _carried(loaded: Any, clips: Shown, how: str) -> np.ndarray:
    from chronocam.targets import Step

    maps = []
    for index, label in enumerate(clips.labels[:, 0]):
        features, frames = clips.features[index : index + 1].clone(), clips.frames[index : index + 1]
        explanation = cc.sequence.LRP(loaded.model).explain(features, Step(-1, Class(int(label))))
        maps.append(_upsampled(explanation.to_frames(loaded.model, frames, how=how))[0])
    return np.stack(maps)


def _upsampled(explanation: Any) -> np.ndarray:
    return np.maximum(explanation.upsample()[:, 0], 0)


def page(
    accuracy: np.ndarray,
    settled: Mapping[str, Any],
    changed: Mapping[str, Any],
    seen: Mapping[str, Any],
    count: int,
) -> str:
    """Return the page."""
    head = Path(__file__).with_name("page.md").read_text(encoding="utf-8")
    columns = list(next(iter(settled.values())))
    return head.format(
        count=count,
        accuracy=" ".join(f"{value:.2f}" for value in accuracy),
        settling=_table(["relevance", *columns], [[name, *row.values()] for name, row in settled.items()]),
        settling_words=_settling_words(settled),
        change=_table(["clips that change class", "mean"], list(changed.items())),
        change_words=_change_words(changed),
        pixels=_table(
            ["maps", "on the person", "on the action"], [[name, *row] for name, row in seen.items()]
        ),
        pixel_words=_pixel_words(seen),
    )


def _settling_words(settled: Mapping[str, Any]) -> str:
    """Say which methods' relevance becomes like that of the class's other clips, as far as the intervals tell."""
    rises = [name for name, row in settled.items() if row["last quarter"].low > row["first quarter"].high]
    own = [
        n for n, row in settled.items() if row["last quarter"].low > row["last quarter, other classes"].high
    ]
    nearest = max(settled, key=lambda name: settled[name]["class of the nearest"].mean)
    return (
        f"From the first quarter to the last the similarity rises beyond doubt (intervals apart) for {_listed(rises)}; "
        f"in the last quarter relevance is more like that of the same class than of others for {_listed(own)}. The "
        f"steady state tells the class best with {nearest}: {settled[nearest]['class of the nearest']}."
    )


def _change_words(changed: Mapping[str, Any]) -> str:
    moved = {name: value for name, value in changed.items() if name.startswith("relevance")}
    clear = [name.removeprefix("relevance ") for name, value in moved.items() if value.low > 0]
    return f"Relevance changes with the class, with the interval above 0: {_listed(clear)}."


def _pixel_words(seen: Mapping[str, Any]) -> str:
    centre, area = seen["centre prior"], seen["share of the area"]
    maps = [name for name in seen if name.startswith(("LRP", "Visual"))]
    beyond = [
        [name for name in maps if seen[name][k].low > other[k].high]
        for other in (area, centre)
        for k in range(2)
    ]
    return (
        f"More on the person than its share of the area: {_listed(beyond[0])}; on the action: {_listed(beyond[1])}. "
        f"More than the centre prior on the person: {_listed(beyond[2])}; on the action: {_listed(beyond[3])}."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


@click.command()
@click.option("--clips", "count", default=150, show_default=True, type=click.IntRange(10))
@click.option("--threads", default=1, show_default=True)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=DOCS, help="Folder of the result."
)
def main(count: int, threads: int, out: Path) -> None:
    """Measure, draw and write the page."""
    torch.set_num_threads(threads)
    loaded, console = load(SPEC), Console(stderr=True)
    with console.status("Rendering clips"):
        truth, rest = (gestures.clips(count, seed=seed) for seed in (1, 2))
        clips, others = (Shown.of(loaded, part.pixels, part.labels) for part in (truth, rest))
        differ = truth.labels[:, 0] != rest.labels[:, 0]
        joined = np.concatenate([truth.pixels[differ], rest.pixels[differ]], axis=1)
        pairs = Shown.of(loaded, joined, np.concatenate([truth.labels[differ], rest.labels[differ]], axis=1))
    with console.status("Explaining"):
        settled, curves = settling(loaded, clips, others)
        changed, alikeness, relevance = change(loaded, pairs, others)
        seen = pixels_of(loaded, clips, truth)
    accuracy = (clips.logits.argmax(axis=2) == clips.labels).mean(axis=0)
    draw_settling(curves, accuracy, out / "images" / "steps-settling.png")
    draw_change(loaded, pairs, alikeness, relevance, out / "images" / "steps-change.png")
    text = page(accuracy, settled, changed, seen, count)
    print(replace_file(out / "sequence.md", lambda path: path.write_text(text, encoding="utf-8")))


if __name__ == "__main__":
    main()
