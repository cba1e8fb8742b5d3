"""The pictures of docs/sequence.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from chronocam.render import overlay, save_figure
from chronocam.sequence import LRP
from chronocam.targets import Class, EveryStep

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
SHOWN = 8  # frames in a row


def draw_settling(curves: Mapping[str, np.ndarray], accuracy: np.ndarray, path: Path) -> Path:
    """Draw how alike the relevance of each step and other clips' steady states are, and the step's accuracy.

    curves: by method, of the same class and of the other classes, `(2, step)`.
    """
    figure = Figure(figsize=(8.5, 3.4), layout="constrained")
    axes = figure.subplots()
    for colour, (name, (own, rest)) in zip(COLOURS, curves.items(), strict=True):
        axes.plot(own, color=colour, label=name)
        axes.plot(rest, color=colour, linestyle=":")
    axes.plot(accuracy, color="0.6", linewidth=4, alpha=0.5, label="accuracy of the step", zorder=0)
    axes.axhline(0, color="0.8", linewidth=1, zorder=0)
    axes.set(xlabel="step", ylabel="cosine; share right")
    axes.set_title(
        "Relevance of a step beside the steady state of other clips: same class, other classes (dotted)"
    )
    axes.title.set_fontsize(9)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return save_figure(figure, path, dpi=80)


def draw_change(loaded: Any, pairs: Any, curves: np.ndarray, relevance: np.ndarray, path: Path) -> Path:
    """Draw the first clip that changes class: frames with the relevance for either class, and its curves.

    curves: `(pair, 2, step)`, how alike the relevance for each class and that class's other clips are.
        relevance: of
    the first pair, `(2, step, feature)`.
    """
    names = [loaded.labels[label] for label in pairs.labels[0]]
    steps = np.linspace(0, pairs.pixels.shape[1] - 1, SHOWN).round().astype(int)
    figure = Figure(figsize=(11, 8), layout="constrained")
    rows = figure.subfigures(2, 1, height_ratios=(1, 1.35))
    pictures = [list(pairs.pixels[0]), *_overlays(loaded, pairs)]
    axes = rows[0].subplots(3, SHOWN)
    for row, title in enumerate(["frame", *(f"for {name}" for name in names)]):
        for column, step in enumerate(steps):
            axes[row, column].imshow(pictures[row][step])
            axes[row, column].set(xticks=[], yticks=[])
        axes[row, 0].set_ylabel(title)
    for column, step in enumerate(steps):
        axes[0, column].set_title(f"step {step}", fontsize=9)
    _draw_curves(rows[1], names, pairs, curves, relevance)
    return save_figure(figure, path, dpi=80)


def _draw_curves(
    figure: Any, names: list[str], pairs: Any, curves: np.ndarray, relevance: np.ndarray
) -> None:
    axes = figure.subplots(2, 2)
    half = pairs.logits.shape[1] / 2 - 0.5
    limit = np.abs(relevance).max()
    for k, name in enumerate(names):
        axes[0, 0].plot(pairs.logits[0, :, pairs.labels[0, k]], color=COLOURS[k], label=name)
        axes[0, 1].plot(curves[0, k], color=COLOURS[k], label=name)
        axes[0, 1].plot(curves[:, k].mean(axis=0), color=COLOURS[k], linestyle=":", label="mean of all clips")
        picture = axes[1, k].imshow(relevance[k].T, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
        axes[1, k].set(title=f"relevance of the features for {name}", xlabel="step", ylabel="feature")
    figure.colorbar(picture, ax=axes[1], shrink=0.8)
    axes[0, 0].set(title="logits", xlabel="step")
    axes[0, 1].set(title="relevance beside that of the class's other clips (cosine)", xlabel="step")
    for axis in axes.flat:
        axis.axvline(half, color="0.4", linewidth=1)
        axis.title.set_fontsize(9)
    for axis in axes[0]:
        axis.legend(fontsize=8)


def _overlays(loaded: Any, pairs: Any) -> list[list[np.ndarray]]:
    """Return the frames of the first clip with each step's own relevance, for either class, on one scale."""
    maps = []
    for label in pairs.labels[0]:
        explanation = LRP(loaded.model).explain(pairs.features[:1].clone(), EveryStep(Class(int(label))))
        carried = explanation.to_frames(loaded.model, pairs.frames[:1], how="gradcam").upsample()[0]
        maps.append(np.stack([of_step[step] for step, of_step in enumerate(carried)]))
    scale = np.percentile(np.abs(maps), 98)
    return [
        [
            overlay(frame, np.clip(one / scale, -1, 1), "RdBu_r", 0.8)
            for frame, one in zip(pairs.pixels[0], of_class, strict=True)
        ]
        for of_class in maps
    ]
