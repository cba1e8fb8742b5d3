"""The page docs/odometry.md: findings, tables, words."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.claims.odometry.checks import Light, Noise, Randomised, Signs
from benchmarks.claims.odometry.measures import INSIDE, Movers, Walls
from benchmarks.claims.odometry.real import Real
from benchmarks.claims.odometry.words import (
    EXACT,
    LOW,
    PIECE,
    column,
    faithful_words,
    folded,
    light_words,
    lines,
    listed,
    mover_words,
    noise_words,
    outcome,
    random_words,
    sign_words,
    table,
    tally,
    wall_words,
)
from benchmarks.claims.odometry.world import SHALLOW, Table
from benchmarks.claims.stats import plain

PAIRS = "pairs of a map and a target"


@dataclass(frozen=True)
class Results:
    """Everything that was measured."""

    walls: Walls
    faithful: dict[str, dict[str, Table]]
    movers: Movers
    signs: Signs
    light: Light
    noise: Noise
    randomised: Randomised
    real: Sequence[Real]


def findings(found: Results) -> str:
    """Say in a line each what comes out."""
    wall, motion = (found.walls.of["magnitude"], found.walls.minus["magnitude"]["with its texture"])
    gone, possible = found.faithful["blur"], found.movers.beside["error with the true depth and motion"]
    alone = _only(found.movers.minus["without the object"], "negative part")
    exact = [arm for arm, value in found.signs.opposite.items() if value <= EXACT]
    loss, tz = (found.noise.alike["trained"][name] for name in ("loss", "tz"))
    low = tally(found.randomised.signed, LOW)
    told = [
        "**Maps for motion have less on a wall without texture than its share of the area**: "
        f"{_below(wall, 1)}; less than on the same wall with its texture: {_below(motion)}.",
        f"**Outputs change faster as the marked cells are removed** than with random ones: "
        f"{_above(gone['deletion, random'])}; than with those in the middle: {_above(gone['deletion, centre prior'])}. "
        f"As they are put back, outputs return faster than with random ones: {_above(gone['insertion, random'])}; than "
        f"with those in the middle: {_above(gone['insertion, centre prior'])}.",
        "**An object that moves by itself attracts the maps of the negative loss**: of the negative part, which "
        f"is what raises the loss, {_above(_only(found.movers.of, 'negative part'), 1, 'maps')}, and against the same "
        f"place without the object {_above(alone, 0, 'maps')}; of the magnitude, "
        f"{_above(_only(found.movers.of, 'magnitude'), 1, 'maps')}. The error itself, by the true depth and motion, "
        f"has {possible} times its share there.",
        f"**The sign of a map for yaw flips with the sign of the target**: exactly for {listed(exact)}; in the mirror "
        f"(rank correlation above 0) {_above(_only(found.signs.flipped, 'ry'), 0, 'maps')}.",
        f"**The gradient of the loss under noise**: maps of copies agree by {loss}, those of tz by {tz}.",
        f"**Random weights** leave rank correlations below {LOW:g}: "
        f"{outcome(low['below'], low['above'], sum(map(len, low.values())), PAIRS)}.",
    ]
    told.append(
        "Where a claim does not come out, its section says what the likely cause is, and what was tried."
    )
    return "\n".join(f"- {line}" for line in told)


def _only(values: Table, name: str) -> Table:
    return {row: {name: cell} for row, cell in column(values, name).items()}


def _above(values: Table, level: float | int = 0, what: str = PAIRS) -> str:
    found = tally(values, level)
    return outcome(found["above"], found["below"], sum(map(len, found.values())), what)


def _below(values: Table, level: float | int = 0) -> str:
    found = tally(values, level)
    return outcome(found["below"], found["above"], sum(map(len, found.values())), PAIRS)


def page(found: Results, record: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """Return the page."""
    head = Path(__file__).with_name("page.md").read_text(encoding="utf-8")
    return head.format(
        **told,
        findings=findings(found),
        shallow=SHALLOW,
        network=_network(record),
        figures=_figures(record),
        **_of_walls(found.walls),
        **_of_faithfulness(found.faithful),
        **_of_movers(found.movers),
        **_of_checks(found),
        real=_real(found.real),
    )


def _network(record: Mapping[str, Any]) -> str:
    width, height = reversed(record["size"])
    return (
        f"DepthNet of width {record['depth_width']:g} and PoseNet of width {record['pose_width']:g}, frames of {width} "
        f"× {height}, trained for {record['best epoch'] + 1} epochs on {record['drives']['train']:,} drives. Figures "
        "on the test split, from the networks' own record:"
    )


def _figures(record: Mapping[str, Any]) -> str:
    parts = []
    for part in record.get("held-out", {}).values():
        names = list(next(iter(part.values())))
        rows = [
            [arm, *("{:.3f} [{:.3f}, {:.3f}]".format(*row[n]) for n in names)] for arm, row in part.items()
        ]
        parts.append(lines(["", *names], rows))
    return "\n\n".join(parts) or "(the record holds none)"


def _of_walls(found: Walls) -> dict[str, Any]:
    bare = dict(found.bare)
    bare |= {f"faultless on the grid of {layer}": value for layer, value in found.possible.items()}
    bare |= {f"activity of {layer}": value for layer, value in found.active.items()}
    differences = {
        f"{part}, minus {other}": table(values, "map", difference=True)
        for part, others in found.minus.items()
        for other, values in others.items()
    }
    return {
        "walls_count": found.area.count,
        "wall_area": found.area,
        "wall_magnitude": table(found.of["magnitude"], "map"),
        "wall_positive": table(found.of["positive part"], "map"),
        "wall_bare": lines(["", "energy over area"], [[n, plain(v)] for n, v in bare.items()]),
        "wall_differences": folded("Paired differences", differences),
        "inside": INSIDE,
        "wall_interior": table(found.interior, "map"),
        "wall_words": wall_words(found),
    }


def _of_faithfulness(found: Mapping[str, Mapping[str, Table]]) -> dict[str, Any]:
    tables = {
        f"{baseline}: {name}": table(values, f"gain over {_other(name)}", difference=True)
        for baseline, of in found.items()
        for name, values in of.items()
    }
    first = "blur: deletion, random"
    return {
        "faithful_count": next(iter(next(iter(found["blur"].values())).values()))["tz"].count,
        "faithful_first": f"Deletion, blurred, over a random map:\n\n{tables.pop(first)}",
        "faithful_rest": folded("Insertion, the mean, and the centre prior", tables),
        "faithful_words": faithful_words(found),
    }


def _other(name: str) -> str:
    beside = name.split(", ")[1]
    return f"random, {SHALLOW}" if beside == PIECE else beside


def _of_movers(found: Movers) -> dict[str, Any]:
    beside = found.beside | {f"DepthNet's map: {name}": value for name, value in found.powers.items()}
    return {
        "mover_count": found.area.count,
        "mover_area": found.area,
        "movers": table(found.of, "map"),
        "mover_beside": lines(["", "energy over area"], [[n, plain(v)] for n, v in beside.items()]),
        "mover_differences": folded(
            "Paired differences",
            {f"minus {n}": table(t, "map", difference=True) for n, t in found.minus.items()},
        ),
        "mover_words": mover_words(found),
    }


def _of_checks(found: Results) -> dict[str, Any]:
    same = {
        arm: {**found.signs.flipped.get(arm, {}), "sign of the sum": value}
        for arm, value in found.signs.same.items()
    }
    turned = {arm: {**cells, **same.get(arm, {})} for arm, cells in found.signs.flipped.items()} | same
    both = {
        arm: {**cells, **{f"{n}, two drives": v for n, v in found.light.strangers[arm].items()}}
        for arm, cells in found.light.alike.items()
    }
    noisy = {
        name: {**{f"{n}: agreement": v for n, v in cells.items()},
               **{f"{n}: first-order change": v for n, v in found.noise.moved[name].items()}}
        for name, cells in found.noise.alike.items()
    }  # fmt: skip
    weights = {
        arm: {**cells, **{f"{n}, magnitude": v for n, v in found.randomised.magnitude[arm].items()}}
        for arm, cells in found.randomised.signed.items()
    }
    return {
        "signs": table(turned, "map"),
        "sign_words": sign_words(found.signs),
        "light": table(both, "map"),
        "louder": table(found.light.louder, "map", difference=True),
        "light_words": light_words(found.light),
        "noise": table(noisy, "weights"),
        "noise_count": found.noise.smaller.count,
        "noise_words": noise_words(found.noise),
        "randomised": table(weights, "map"),
        "random_words": random_words(found.randomised),
    }


def _real(found: Sequence[Real]) -> str:
    if not found:
        return "## 8. Real frames\n\nNot measured: no folder was given (`--real`)."
    rows = [
        [
            f"{one.name}: {arm}",
            *(plain(values[arm]) if arm in values else "–" for values in one.figures.values()),
        ]
        for one in found
        for arm in dict.fromkeys(arm for values in one.figures.values() for arm in values)
    ]
    spoken = [
        f"- {one.name}: {len(one.pixels)} frames; maps of tz agree under noise by {one.steady}; all of it took "
        f"{one.seconds:.1f} s."
        for one in found
    ]
    return "\n".join(
        [
            "## 8. Real frames",
            "",
            "Real frames, networks trained on the rendered world only (expected poor). Frames of 640 × 480 are read at "
            "the networks' width and cut to the rows in the middle; depth after median scaling, positions "
            "after scaling.",
            "",
            lines(["", *found[0].figures], rows),
            "",
            "\n".join(spoken),
            "",
            "![Real frames and maps of tz and ry](images/odometry-real.png)",
        ]
    )


def again(options: str, record: Mapping[str, Any], seconds: float) -> str:
    """Tell how the networks and the page are made."""
    return "\n".join(
        [
            "The networks:",
            "",
            f"    {record.get('command', '(the record holds no command)')}",
            "",
            f"This page, in {seconds / 60:.1f} minutes of one core's time ({platform.machine()}, "
            f"torch {torch.__version__}):",
            "",
            f"    python -m benchmarks.claims.odometry{options}",
        ]
    )
