"""Sheets of sequences: relevance over time and feature, how it settles and how far back it reaches."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int

from chronocam.render.theme import CATEGORIES, DIVERGING, MAGNITUDE

WIDTH, MAP, CURVE, HEADING = 10.5, 2.6, 2.7, 0.4  # inches
FEW: Final = 3  # targets with a map each; more are drawn as one row each
ROWS: Final = 200  # features that a map has room for
NAMED: Final = 24  # targets that an axis has room to name
TAIL: Final = 0.001  # of the relevance at each end of the lags that is left out
SHARE: Final = 0.9  # of the relevance that lies within the reach


@dataclass(frozen=True, eq=False)
class SettlingCurve:
    """How similar the relevance at each output step is to the steady state.

    settled: the step from which the cosine stays within `tolerance` of 1; negative for never.
    chance: the cosine of unrelated profiles, by step.
    """

    steps: Int[np.ndarray, " step"]
    cosine: Float[np.ndarray, " step"]
    spearman: Float[np.ndarray, " step"]
    jaccard: Float[np.ndarray, " step"]
    settled: int
    tolerance: float
    chance: Float[np.ndarray, " step"]


@dataclass(frozen=True, eq=False)
class LagCurve:
    """The share of the relevance that lies each number of steps back, and how far back 90% of it reaches."""

    lags: Int[np.ndarray, " lag"]
    share: Float[np.ndarray, " lag"]
    reach: int


@dataclass(frozen=True, eq=False)
class Sequenced:
    """What is drawn of one sample.

    names: of the targets.
    scores: the scores explained, `(target,)`.
    steps: the output step of each target, where each has one.
    own: relevance of each output step's own features, where targets are consecutive steps that have some.
    ledger: terms that sum to the scores, empty where there are none.
    """

    relevance: Float[np.ndarray, "target time feature"]
    names: Sequence[str]
    scores: Float[np.ndarray, " target"]
    ledger: Mapping[str, Float[np.ndarray, " target"]]
    steps: Int[np.ndarray, " target"] | None = None
    own: Float[np.ndarray, "target feature"] | None = None
    settling: SettlingCurve | None = None
    horizon: LagCurve | None = None


def sequence_sheet(drawn: Sequenced, heading: str) -> Any:
    """Return a matplotlib Figure with the relevance of one sample, and the curves that there are.

    Up to three targets have a signed map over input step and feature each. For more, the map shows each
    output step's own features (or the mean of the targets), and a second one the mean |relevance| over the
    features for every output and input step. Below: settling, relevance against lag, the ledger.
    """
    from matplotlib.figure import Figure

    maps = len(drawn.names) if len(drawn.names) <= FEW else 2
    curves = [
        draw
        for draw, there in ((_settling, drawn.settling), (_horizon, drawn.horizon), (_ledger, drawn.ledger))
        if there
    ]
    heights = [MAP * maps, CURVE][: 1 + bool(curves)]
    figure = Figure(figsize=(WIDTH, sum(heights) + HEADING), layout="constrained")
    # Labels come from files and models: dollar signs must not be read as formulas.
    figure.suptitle(heading, fontsize=10, weight="bold", parse_math=False)
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    (_few if len(drawn.names) <= FEW else _many)(list(parts[0].subplots(maps, 1, squeeze=False)[:, 0]), drawn)
    if curves:
        for axis, draw in zip(parts[1].subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
            draw(axis, drawn)
            axis.tick_params(labelsize=7)
            axis.spines[["top", "right"]].set_visible(False)
    return figure


def _few(axes: Sequence[Any], drawn: Sequenced) -> None:
    for axis, relevance, name, score in zip(axes, drawn.relevance, drawn.names, drawn.scores, strict=True):
        _signed(axis, relevance, f"{name}: {score:.3g}", "input step")


def _many(axes: Sequence[Any], drawn: Sequenced) -> None:
    if drawn.own is None or drawn.steps is None:
        _signed(axes[0], drawn.relevance.mean(axis=0), "Relevance, mean of all targets", "input step")
    else:
        title = "Relevance of each output step's own features"
        _signed(axes[0], drawn.own, title, "output step", int(drawn.steps[0]))
    magnitude = np.abs(drawn.relevance).mean(axis=2)
    first = 0 if drawn.own is None or drawn.steps is None else int(drawn.steps[0])
    rows, columns = magnitude.shape
    image = axes[1].imshow(
        magnitude,
        aspect="auto",
        cmap=MAGNITUDE,
        interpolation="nearest",
        extent=(-0.5, columns - 0.5, first + rows - 0.5, first - 0.5),
    )
    _named(axes[1], "Which input step drives which output", "input step", "output step")
    axes[1].yaxis.get_major_locator().set_params(integer=True)
    if drawn.own is None:
        axes[1].set_ylabel("target", fontsize=8)
        if drawn.steps is not None and rows <= NAMED:
            axes[1].set_yticks(range(rows), [str(step) for step in drawn.steps])
            axes[1].set_ylabel("output step", fontsize=8)
    _bar(axes[1], image, "mean |relevance|")


def _signed(
    axis: Any, values: Float[np.ndarray, "step feature"], title: str, along: str, first: int = 0
) -> None:
    """Draw features upwards over steps, on a scale that is symmetric about zero."""
    limit, clipped = _limit(values)
    steps, features = values.shape
    group = -(-features // ROWS)
    rows = _strongest(values, group)
    image = axis.imshow(
        rows.T,
        aspect="auto",
        cmap=DIVERGING,
        vmin=-limit,
        vmax=limit,
        origin="lower",
        interpolation="nearest",
        extent=(first - 0.5, first + steps - 0.5, -0.5, rows.shape[1] * group - 0.5),
    )
    axis.set_ylim(-0.5, features - 0.5)
    _named(axis, title, along, f"feature (strongest of {group})" if group > 1 else "feature")
    axis.yaxis.get_major_locator().set_params(integer=True)
    _bar(axis, image, "relevance", "both" if clipped else "neither")


def _strongest(values: np.ndarray, group: int) -> np.ndarray:
    """Return, of each `group` features in a row, the value of largest size: a thin line is never skipped."""
    steps, features = values.shape
    padded = np.pad(values, ((0, 0), (0, -features % group))).reshape(steps, -1, group)
    return np.take_along_axis(padded, np.abs(padded).argmax(axis=2)[..., None], axis=2)[..., 0]


def _limit(values: np.ndarray) -> tuple[float, bool]:
    """Return the end of the scale, which a few outliers may not stretch, and whether values lie beyond it."""
    size = np.abs(values[values != 0])
    if not size.size:
        return 1.0, False
    limit = float(np.quantile(size, 0.995, method="higher"))
    return limit, limit < float(size.max())


def _named(axis: Any, title: str, x: str, y: str) -> None:
    axis.set_title(title, fontsize=9, loc="left", parse_math=False)
    axis.set_xlabel(x, fontsize=8)
    axis.set_ylabel(y, fontsize=8)
    axis.tick_params(labelsize=7)
    axis.xaxis.get_major_locator().set_params(integer=True)


def _bar(axis: Any, image: Any, label: str, extend: str = "neither") -> None:
    bar = axis.figure.colorbar(image, ax=axis, extend=extend, pad=0.01, fraction=0.04)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _settling(axis: Any, drawn: Sequenced) -> None:
    curve = drawn.settling
    assert curve is not None
    lines = (
        (curve.cosine, "cosine", "-"),
        (curve.spearman, "Spearman", "--"),
        (curve.jaccard, "Jaccard", ":"),
    )
    for (values, name, dashes), colour in zip(lines, CATEGORIES, strict=False):
        axis.plot(curve.steps, values, dashes, color=colour, lw=1.6, label=name)
    axis.axhline(1 - curve.tolerance, color="0.75", lw=0.8, zorder=0)
    axis.plot(curve.steps, curve.chance, color="0.6", lw=1, zorder=0, label="chance (cosine)")
    title = "Never settled"
    if curve.settled >= 0:
        axis.axvline(curve.settled, color="0.2", lw=1, ls="-.")
        title = f"Settled from step {curve.settled} on"
    _named(axis, title, "output step", "similarity to the steady state")
    low = axis.get_ylim()[0]
    axis.set_ylim(low, 1.02 + 0.15 * (1 - low))  # room for the legend above the curves
    axis.legend(fontsize=7, frameon=False, loc="upper center", ncols=4, handlelength=1.6, columnspacing=1)


def _horizon(axis: Any, drawn: Sequenced) -> None:
    curve = drawn.horizon
    assert curve is not None
    # Nothing lies ahead of a network that looks back only, and a long tail would leave no room for the rest.
    after = np.cumsum(curve.share[::-1])[::-1]
    inside = ((curve.lags >= 0) | (np.cumsum(curve.share) > TAIL)) & ((curve.lags <= 5) | (after > TAIL))
    axis.bar(curve.lags[inside], curve.share[inside], width=0.9, color=CATEGORIES[0])
    for end in {curve.reach, -curve.reach} if curve.lags[inside][0] < 0 else {curve.reach}:
        axis.axvline(end + np.copysign(0.5, end), color="0.2", lw=1, ls="-.")
    steps = "step" if curve.reach == 1 else "steps"
    title = f"{SHARE:.0%} of the relevance within {curve.reach} {steps}"
    _named(axis, title, "lag (steps back)", "share of |relevance|")


def _ledger(axis: Any, drawn: Sequenced) -> None:
    columns = len(drawn.names)
    stepwise = columns > FEW and drawn.own is not None and drawn.steps is not None
    at = drawn.steps if stepwise and drawn.steps is not None else np.arange(columns)
    _stacked(axis, at, drawn.ledger)
    few = columns <= FEW
    axis.plot(at, drawn.scores, "k_" if few else "k.", ms=14 if few else 3, label="score")
    axis.axhline(0, color="0.3", lw=0.8)
    by_step = drawn.steps is not None and len(set(drawn.steps.tolist())) == columns
    word = "output step" if by_step else "target"
    _named(axis, "Where each score comes from", word, "contribution to the score")
    if not stepwise and columns <= NAMED:
        _labelled(axis, at, drawn, by_step)
    axis.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def _stacked(axis: Any, at: np.ndarray, ledger: Mapping[str, np.ndarray]) -> None:
    """Draw the terms as bars on top of each other; those of either sign apart, so that none hides another."""
    ends = {1: np.zeros(len(at)), -1: np.zeros(len(at))}
    for k, (name, values) in enumerate(ledger.items()):
        base = np.where(values >= 0, ends[1], ends[-1])
        colour = CATEGORIES[k % len(CATEGORIES)]
        axis.bar(at, values, bottom=base, width=0.9, color=colour, label=name.replace("_", " "))
        for sign in ends:
            ends[sign] = ends[sign] + np.where(np.sign(values) == sign, values, 0)


def _labelled(axis: Any, at: np.ndarray, drawn: Sequenced, by_step: bool) -> None:
    """Name each column by its step, where each has one of its own, or by its target."""
    few = len(drawn.names) <= FEW
    labels = [str(step) for step in drawn.steps] if by_step and drawn.steps is not None else drawn.names
    short = [textwrap.shorten(label, 60, placeholder="…") for label in labels]
    axis.set_xticks(at, [textwrap.fill(label, 14) for label in short] if few else short, parse_math=False)
    axis.tick_params("x", rotation=0 if few or by_step else 90)
    axis.set_xlim(-1, len(labels))
