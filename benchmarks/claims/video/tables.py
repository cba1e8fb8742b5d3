"""The tables of the page: what is compared with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from benchmarks.claims.stats import apart, pooled, side
from benchmarks.claims.tables import Table
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

Arm = tuple[str, str, str]
"""An architecture, a kind of measure, and an arm."""


def tables(results: Results) -> dict[str, Table]:
    """Return every table by name."""
    found: dict[str, Table] = {}
    for part in (_answers, _attention, _designs, _depth, _options, _trust):
        found |= part(results)
    return {name: {row: _defined(cells) for row, cells in of.items()} for name, of in found.items()}


def _defined(cells: Mapping[str, Interval | str]) -> dict[str, Interval | str]:
    return {name: cell for name, cell in cells.items() if isinstance(cell, str) or not np.isnan(cell.mean)}


def _means(results: Results, arms: Mapping[str, Arm], measures: Sequence[str]) -> Table:
    return {row: {name: results.mean(*arm, name) for name in measures} for row, arm in arms.items()}


def _changes(results: Results, arms: Mapping[str, tuple[Arm, str]], measures: Sequence[str]) -> Table:
    """Return arm − other, for the same networks, of rows that name an arm and the other one."""
    return {
        row: {name: results.change(*arm, other, name) for name in measures}
        for row, (arm, other) in arms.items()
    }


def _answers(results: Results) -> dict[str, Table]:
    labels = results.labels[: results.settings.answers]
    right = {arch: results.of(arch, *RIGHT) for arch in ARCHS}
    order = list(results.networks[ARCHS[0]]["answers"]["order"])
    return {
        "accuracy": {
            arch: {
                "all": pooled(values),
                **{label: pooled(values[:, labels == c]) for c, label in enumerate(LABELS)},
                "classes of two actors on top": results.mean(arch, "pairs", "classes", "are the top two"),
            }
            for arch, values in right.items()
        },
        "accuracy, one design − another": {
            f"{a} − {b}": {"accuracy": results.between(a, b, *RIGHT)} for a, b in combinations(ARCHS, 2)
        },
        "order of frames": _means(results, {arch: (arch, "answers", "order") for arch in ARCHS}, order),
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
        gains[label] = {
            plain: pooled(without),
            attending: pooled(attention),
            "difference": apart(attention, without),
        }
    constant = {
        name: {
            "through the weights": results.mean(attending, "maps", LAST, name),
            "weights detached": results.mean(attending, "maps", f"{LAST} detached", name),
            "difference": results.change(attending, "maps", f"{LAST} detached", LAST, name),
        }
        for name in SPACE_TIME
    }
    curves = {"attention weights": (attending, "maps", "weights")}
    curves |= {f"{arch}, {LAST}": (arch, "maps", LAST) for arch in ARCHS}
    curves |= {arm: (ARCHS[0], "maps", arm) for arm in WITHOUT_NETWORK}
    frames = {
        f"{name} the action": results.gap(attending, "maps", ("weights", name), ("random map", name))
        for name in PHASES[1:]
    }
    return {
        "attention over the frames": gains,
        "active frames": _active(results, attending),
        "phases": _means(results, curves, PHASES),
        "phases, weights − share of the frames": {"weights": frames},
        "weights detached": constant,
    }


def _active(results: Results, arch: str) -> Table:
    """Return how well curves over the frames tell active frames: on clips of one actor, and of two."""
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


def contrasts(results: Results) -> Table:
    """Return what the designs are compared by: one arm or measure minus another, by architecture."""
    last = ("maps", LAST)
    pairs = {
        "accuracy on raise and lower: as filmed − shuffled": (
            "answers",
            ("order",) * 2,
            ("as filmed", "shuffled"),
        )
    }
    for measure in ("energy", "pointing", "time AUC"):
        for other in WITHOUT_NETWORK:
            pairs[f"{measure}: map − {other}"] = (last[0], (last[1], other), (measure,) * 2)
    for which in CLASSES:
        actors = (f"own actor, {which}", f"wrong actor, {which}")
        pairs[f"two actors, {which} class: own − wrong actor"] = ("pairs", (LAST,) * 2, actors)
    for what in ("cells", "frames"):
        measure = f"insertion − deletion, {what}"
        for other in WITHOUT_TRUTH:
            pairs[f"{measure}: map − {other}"] = ("faithful", ("gradcam", other), (measure,) * 2)
    return {
        label: {arch: results.gap(arch, kind, *zip(arms, measures, strict=True)) for arch in ARCHS}
        for label, (kind, arms, measures) in pairs.items()
    }


def _designs(results: Results) -> dict[str, Table]:
    first, *others = ARCHS
    labels = results.labels[: results.settings.maps]
    arms = {arch: (arch, "maps", LAST) for arch in ARCHS}
    arms |= {
        results.on_grid(arm, arch): (arch, "maps", arm)
        for arm in ("random map", "truth")
        for arch in ARCHS[:2]
    }
    arms |= {arm: (first, "maps", arm) for arm in WITHOUT_NETWORK[1:]}
    two = {
        f"{arch}, {which} class": {
            f"{whose} actor": results.mean(arch, "pairs", LAST, f"{whose} actor, {which}")
            for whose in ("own", "wrong")
        }
        for arch in ARCHS
        for which in CLASSES
    }
    rows = {arch: (arch, "maps", LAST) for arch in ARCHS}
    rows |= {arm: (first, "maps", arm) for arm in (*WITHOUT_NETWORK, "truth")}
    return {
        "two actors": two,
        "contrasts": contrasts(results),
        "where Grad-CAM lies": _means(results, rows, ("energy", "figure")),
        "r3d − other designs": {
            name: {
                f"{first} − {other}": results.between(first, other, "maps", LAST, name) for other in others
            }
            for name in (*SPACE_TIME, *FIGURE)
        },
        **{
            f"{measure} by class": {
                row: {
                    label: pooled(results.of(*arm, measure)[:, labels == c]) for c, label in enumerate(LABELS)
                }
                for row, arm in arms.items()
            }
            for measure in ("energy", "pointing")
        },
    }


def _depth(results: Results) -> dict[str, Table]:
    """Return maps of every stage beside a random map, and those of the first stage beside those of the last."""
    measures = ("energy", "time AUC")
    above_random: dict[str, tuple[Arm, str]] = {}
    last: dict[str, tuple[Arm, str]] = {}
    beside: Table = {}
    for arch in ARCHS:
        for method in METHODS:
            for stage in range(1, 1 + len(results.grids[arch])):
                arm = (arch, "maps", f"{method}@{stage}")
                above_random[f"{arch}, {method}@{stage}"] = (arm, results.on_grid("random map", arch, stage))
            first = (arch, "maps", f"{method}@1")
            last[f"{arch}, {method}"] = (first, f"{method}@{len(results.grids[arch])}")
            others = {arm: arm for arm in WITHOUT_NETWORK} | {
                "random map": results.on_grid("random map", arch, 1)
            }
            beside[f"{arch}, {method}"] = {
                f"{name} − {label}": "above"
                if side(results.change(*first, other, name)) == "above"
                else "not above"
                for name in measures
                for label, other in others.items()
            }
    return {
        "maps of every stage − random map": _changes(results, above_random, measures),
        "first stage − last stage": _changes(results, last, measures),
        "first stage − maps without a network": beside,
    }


def _options(results: Results) -> dict[str, Table]:
    stages = [(arch, stage) for arch in ARCHS for stage in range(1, 1 + len(results.grids[arch]))]
    aligned = {
        f"{arch}, stage {stage}": ((arch, "maps", f"gradcam@{stage} align"), f"gradcam@{stage}")
        for arch, stage in stages
    }
    return {
        "receptive-field − half-pixel alignment": _changes(results, aligned, SPACE_TIME),
        "weights per clip − per frame": {
            f"{arch}, stage {stage}": {
                name: results.per_clip(arch, stage, name) for name in (*SPACE_TIME, "flicker")
            }
            for arch, stage in stages
        },
    }


def _trust(results: Results) -> dict[str, Table]:
    randomised: Table = {}
    for arch in ARCHS:
        parts = [arm for arm in results.networks[arch]["made random"] if arm not in WITHOUT_TRUTH]
        arms = {
            f"random {parts[0]}": parts[0],
            "everything random": parts[-1],
            "the centre prior": "centre prior",
        }
        randomised |= {
            f"{arch}, {label}": {"Spearman": results.mean(arch, "made random", arm, "Spearman")}
            for label, arm in arms.items()
        }
    still = {arch: ((arch, "maps", LAST), "random map") for arch in ARCHS}
    return {
        "flicker, map − random map": _changes(results, still, ("flicker",)),
        "randomised networks": randomised,
    }
