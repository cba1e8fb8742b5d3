"""The tables of the page: what is compared with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product

import numpy as np

from benchmarks.claims.stats import apart, pooled, side
from benchmarks.claims.tables import Cell, Table
from benchmarks.claims.video.measures import METHODS, MOVED
from benchmarks.claims.video.results import LAST, Results
from benchmarks.claims.video.world import ARCHS
from chronocam.lab.data.gestures import LABELS
from chronocam.metrics import Interval

CLASSES = ("likelier", "other")
PHASES = ("before", "during", "after")
SPACE_TIME = ("energy", "pointing", "frame pointing", "IoU", "time IoU", "time AUC")
FIGURE = ("figure", "pointing figure")
RIGHT = ("answers", "as filmed", "right")
WITHOUT_TRUTH = ("random map", "centre prior")
WITHOUT_NETWORK = (*WITHOUT_TRUTH, MOVED)

Arms = Mapping[str, tuple[str, ...]]
"""By row: an architecture, a kind of measure, an arm, and the arm that is subtracted from it, if any."""


def tables(results: Results) -> dict[str, Table]:
    """Return every table by name, without cells that are undefined."""
    every: dict[str, Table] = {}
    for part in (_answers, _attention, _designs, _depth, _options, _trust):
        every |= part(results)
    return {
        name: {
            row: {column: cell for column, cell in cells.items() if _defined(cell)}
            for row, cells in rows.items()
        }
        for name, rows in every.items()
    }


def _defined(cell: Cell) -> bool:
    return not isinstance(cell, Interval) or not np.isnan(cell.mean)


def _table(results: Results, arms: Arms, measures: Sequence[str]) -> Table:
    def cell(arm: tuple[str, ...], measure: str) -> Interval:
        return results.change(*arm, measure) if len(arm) == 4 else results.mean(*arm, measure)

    return {row: {measure: cell(arm, measure) for measure in measures} for row, arm in arms.items()}


def _by_class(results: Results, arms: Arms, measure: str, clips: int) -> Table:
    labels = results.labels[:clips]
    return {
        row: {name: pooled(results.of(*arm, measure)[:, labels == c]) for c, name in enumerate(LABELS)}
        for row, arm in arms.items()
    }


def _answers(results: Results) -> dict[str, Table]:
    order = list(results.networks[ARCHS[0]]["answers"]["order"])
    accuracy = _by_class(
        results, {arch: (arch, *RIGHT[:2]) for arch in ARCHS}, RIGHT[2], results.settings.answers
    )
    for arch, row in accuracy.items():
        row["all"] = results.mean(arch, *RIGHT)
        row["classes of two actors on top"] = results.mean(arch, "pairs", "classes", "are the top two")
    return {
        "accuracy": accuracy,
        "accuracy, one design − another": {
            f"{a} − {b}": {"accuracy": results.between(a, b, *RIGHT)} for a, b in combinations(ARCHS, 2)
        },
        "order of frames": _table(results, {arch: (arch, "answers", "order") for arch in ARCHS}, order),
    }


def _attention(results: Results) -> dict[str, Table]:
    _, plain, attending = ARCHS
    both = results.right(plain, attending)
    rows = [("accuracy", RIGHT, slice(None))]
    rows += [(name, ("maps", LAST, name), slice(None)) for name in (*SPACE_TIME, *FIGURE)]
    rows += [(f"{name} on clips named right", ("maps", LAST, name), both) for name in ("energy", "pointing")]
    gains: Table = {}
    for label, place, clips in rows:
        without, attention = (results.of(arch, *place)[:, clips] for arch in (plain, attending))
        means = {plain: pooled(without), attending: pooled(attention)}
        gains[label] = {**means, "difference": apart(attention, without)}
    constant: Table = {}
    for name in SPACE_TIME:
        arms = {"through the weights": (LAST,), "weights detached": (f"{LAST} detached",)}
        arms["difference"] = (f"{LAST} detached", LAST)
        cells = _table(results, {label: (attending, "maps", *arm) for label, arm in arms.items()}, (name,))
        constant[name] = {label: row[name] for label, row in cells.items()}
    curves = {"attention weights": (attending, "maps", "weights")}
    curves |= {f"{arch}, {LAST}": (arch, "maps", LAST) for arch in ARCHS}
    curves |= {arm: (ARCHS[0], "maps", arm) for arm in WITHOUT_NETWORK}
    shares = _table(results, {"weights": (attending, "maps", "weights", "random map")}, PHASES[1:])["weights"]
    return {
        "attention over the frames": gains,
        "active frames": _active(results, attending),
        "phases": _table(results, curves, PHASES),
        "phases, weights − share of the frames": {
            "weights": {f"{phase} the action": cell for phase, cell in shares.items()}
        },
        "weights detached": constant,
    }


def _active(results: Results, arch: str) -> Table:
    """Return how well curves over the frames find active frames: on clips of one actor, and of two."""
    agreement = "rank correlation with weights"
    columns = {"one actor": ("maps", "AUC")}
    columns |= {f"two, {which} class": ("pairs", f"AUC, {which}") for which in CLASSES}
    columns["own against other's"] = ("pairs", "AUC apart, both")
    arms = ("contributions", "weights")
    table: Table = {
        arm: {label: results.mean(arch, kind, arm, name) for label, (kind, name) in columns.items()}
        for arm in arms
    }
    table["contributions − weights"] = {
        label: results.change(arch, kind, *arms, name) for label, (kind, name) in columns.items()
    }
    table["contributions"][agreement] = results.mean(arch, "maps", "contributions", agreement)
    for arm in (LAST, *WITHOUT_NETWORK):
        two = [results.of(arch, "pairs", arm, f"time AUC, {which}") for which in CLASSES]
        alone = [results.of(arch, "pairs", arm, f"time AUC apart, {which}") for which in CLASSES]
        values = [results.of(arch, "maps", arm, "time AUC"), *two, np.mean(alone, axis=0)]
        table[f"frame importance, {arm}"] = dict(zip(columns, map(pooled, values), strict=True))
    return table


def _contrasts(results: Results) -> Table:
    """Return what the designs are compared by: one arm or measure minus another, by architecture."""
    order = "accuracy on raise and lower: as filmed − shuffled"
    pairs = {order: ("answers", ("order", "as filmed"), ("order", "shuffled"))}
    for measure in ("energy", "pointing", "time AUC"):
        for other in WITHOUT_NETWORK:
            pairs[f"{measure}: map − {other}"] = ("maps", (LAST, measure), (other, measure))
    for which in CLASSES:
        own, wrong = ((LAST, f"{whose} actor, {which}") for whose in ("own", "wrong"))
        pairs[f"two actors, {which} class: own − wrong actor"] = ("pairs", own, wrong)
    for measure in ("insertion − deletion, cells", "insertion − deletion, frames"):
        for other in WITHOUT_TRUTH:
            pairs[f"{measure}: map − {other}"] = ("faithful", ("gradcam", measure), (other, measure))
    return {
        label: {arch: results.gap(arch, kind, one, other) for arch in ARCHS}
        for label, (kind, one, other) in pairs.items()
    }


def _designs(results: Results) -> dict[str, Table]:
    first, *others = ARCHS
    last = {arch: (arch, "maps", LAST) for arch in ARCHS}
    grids = {
        results.on_grid(arm, arch): (arch, "maps", arm)
        for arm in ("random map", "truth")
        for arch in ARCHS[:2]  # the grids of both LSTM networks are the same
    }
    prior_and_difference = {arm: (first, "maps", arm) for arm in WITHOUT_NETWORK[1:]}
    references = {arm: (first, "maps", arm) for arm in (*WITHOUT_NETWORK, "truth")}
    two: Table = {}
    for arch, which in product(ARCHS, CLASSES):
        cells = _table(results, {"": (arch, "pairs", LAST)}, [f"own actor, {which}", f"wrong actor, {which}"])
        two[f"{arch}, {which} class"] = {name.partition(",")[0]: cell for name, cell in cells[""].items()}
    return {
        "two actors": two,
        "contrasts": _contrasts(results),
        "where Grad-CAM lies": _table(results, {**last, **references}, ("energy", "figure")),
        "r3d − other designs": {
            name: {
                f"{first} − {other}": results.between(first, other, "maps", LAST, name) for other in others
            }
            for name in (*SPACE_TIME, *FIGURE)
        },
        **{
            f"{measure} by class": _by_class(
                results, {**last, **grids, **prior_and_difference}, measure, results.settings.maps
            )
            for measure in ("energy", "pointing")
        },
    }


def _depth(results: Results) -> dict[str, Table]:
    """Return maps of every stage beside a random map, and the first stage's beside the last one's."""
    measures = ("energy", "time AUC")
    above_random: dict[str, tuple[str, ...]] = {}
    first_last: dict[str, tuple[str, ...]] = {}
    beside: Table = {}  # only the side is noted: it is all that is claimed
    for arch, method in product(ARCHS, METHODS):
        stages = range(1, 1 + len(results.grids[arch]))
        for stage in stages:
            noise = results.on_grid("random map", arch, stage)
            above_random[f"{arch}, {method}@{stage}"] = (arch, "maps", f"{method}@{stage}", noise)
        row, first = f"{arch}, {method}", (arch, "maps", f"{method}@1")
        first_last[row] = (*first, f"{method}@{stages[-1]}")
        others = {arm: arm for arm in WITHOUT_NETWORK} | {
            "random map": results.on_grid("random map", arch, 1)
        }
        beside[row] = {}
        for measure, (label, arm) in product(measures, others.items()):
            above = side(results.change(*first, arm, measure)) == "above"
            beside[row][f"{measure} − {label}"] = "above" if above else "not above"
    return {
        "maps of every stage − random map": _table(results, above_random, measures),
        "first stage − last stage": _table(results, first_last, measures),
        "first stage − maps without a network": beside,
    }


def _options(results: Results) -> dict[str, Table]:
    aligned: dict[str, tuple[str, ...]] = {}
    pooled_otherwise: dict[str, tuple[str, ...]] = {}
    for arch in ARCHS:
        for stage in range(1, 1 + len(results.grids[arch])):
            usual, row = f"gradcam@{stage}", f"{arch}, stage {stage}"
            aligned[row] = (arch, "maps", f"{usual} align", usual)
            # r3d pools over the clip as it is, the others over each frame
            per_clip, per_frame = (usual, f"{usual} pool") if arch == "r3d" else (f"{usual} pool", usual)
            pooled_otherwise[row] = (arch, "maps", per_clip, per_frame)
    return {
        "receptive-field − half-pixel alignment": _table(results, aligned, SPACE_TIME),
        "weights per clip − per frame": _table(results, pooled_otherwise, (*SPACE_TIME, "flicker")),
    }


def _trust(results: Results) -> dict[str, Table]:
    arms: dict[str, tuple[str, ...]] = {}
    for arch in ARCHS:
        parts = [arm for arm in results.networks[arch]["made random"] if arm not in WITHOUT_TRUTH]
        arms[f"{arch}, random {parts[0]}"] = (arch, "made random", parts[0])
        arms[f"{arch}, everything random"] = (arch, "made random", parts[-1])
        arms[f"{arch}, the centre prior"] = (arch, "made random", "centre prior")
    still = {arch: (arch, "maps", LAST, "random map") for arch in ARCHS}
    return {
        "flicker, map − random map": _table(results, still, ("flicker",)),
        "randomised networks": _table(results, arms, ("Spearman",)),
    }
