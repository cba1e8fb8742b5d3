"""Findings about maps of odometry in words, every one chosen by where intervals lie, and the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.claims.odometry.checks import Light, Noise, Randomised, Signs
from benchmarks.claims.odometry.measures import Movers, Walls
from benchmarks.claims.odometry.world import PARTS, Table
from benchmarks.claims.stats import plain, signed, verdict
from chronocam.metrics import Interval

EXACT = 1e-6
ROUNDING = 1e-5
PIECE = "one piece"
LOW = 0.2  # a rank correlation that little is left of
SIDES = ("above", "below", "undecided")


def sides(found: Mapping[str, Interval], level: float | int = 0) -> dict[str, list[str]]:
    """Sort rows by the side of `level` on which their whole interval lies."""
    sorted_: dict[str, list[str]] = {side: [] for side in SIDES}
    for row, interval in found.items():
        sorted_[verdict(interval, "above", "below", "undecided", level)].append(row)
    return sorted_


def column(table: Table, name: str) -> dict[str, Interval]:
    """Return one column of a table, of the rows that have it."""
    return {row: cells[name] for row, cells in table.items() if name in cells}


def columns(table: Table) -> list[str]:
    """Return the names of all columns."""
    return list(dict.fromkeys(name for cells in table.values() for name in cells))


def tally(table: Table, level: float | int = 0) -> dict[str, list[str]]:
    """Sort all cells of a table, as "row: column"."""
    return sides(
        {f"{row}: {name}": cell for row, cells in table.items() for name, cell in cells.items()}, level
    )


def outcome(found: Sequence[str], against: Sequence[str], total: int, what: str) -> str:
    """Say how far a claim comes out: for how many of `what`, and for how many the opposite holds."""
    if total and len(found) == total:
        return f"comes out for all {total} {what}"
    head = (
        f"comes out for {len(found)} of {total} {what}" if found else f"comes out for none of {total} {what}"
    )
    return f"{head}{f' (the opposite for {len(against)})' if against else ''}"


def listed(names: Iterable[str]) -> str:
    """Join names; `none` for none of them."""
    return "; ".join(names) or "none"


def by_column(table: Table, more: str, less: str, level: float | int = 0) -> str:
    """Say for each column which rows lie above and below a level."""
    told = []
    for name in columns(table):
        found = sides(column(table, name), level)
        both = ((less, found["below"]), (more, found["above"]))
        parts = [f"{word} for {listed(rows)}" for word, rows in both if rows]
        told.append(f"  - {name}: {', '.join(parts) or 'no telling'}.")
    return "\n".join(told)


def wall_words(walls: Walls) -> str:
    """Say where maps have less on a wall without texture."""
    told = []
    for part, found in walls.of.items():
        told.append(
            f"- Of the {part}, less on the wall than its share of the area: {_count(tally(found, 1), 'below')}."
        )
        told.append(by_column(found, "more than its share", "less than its share", 1))
        for other, than in (
            ("random", "a random map on the same grid"),
            ("centre prior", "the centre prior"),
            ("with its texture", "the map of the same drive with its texture, on the same wall"),
        ):
            told.append(f"  - Less than {than}: {_count(tally(walls.minus[part][other]), 'below')}.")
    return "\n".join([*told, *_wall_causes(walls)])


def _count(found: Mapping[str, Sequence[str]], side: str, what: str = "pairs of a map and a target") -> str:
    other = "above" if side == "below" else "below"
    return outcome(found[side], found[other], sum(map(len, found.values())), what)


def _wall_causes(walls: Walls) -> Iterable[str]:
    prior = verdict(
        walls.bare["centre prior"], "more than its share", "less than its share", "about its share", 1
    )
    yield (
        f"- Where walls are: the centre prior has {prior} on them ({walls.bare['centre prior']}), for reasons that "
        "have nothing to do with texture."
    )
    for layer, best in walls.possible.items():
        active = verdict(walls.active[layer], "more active than", "less active than", "about as active as", 1)
        cause = (
            "no cause by itself"
            if active.startswith("less")
            else "likely causes: biases, and what lies around"
        )
        yield (
            f"- At `{layer}` a faultless map on the grid, all that is not wall, still has {best} there: cells "
            f"reach over the outline. Whatever is asked, the layer is {active} elsewhere on the wall "
            f"({walls.active[layer]}): {cause}."
        )
    yield (
        "- Likely cause, tried: edges. A wall's outline is texture too, and layers look around their cells. Of the "
        "magnitude, less in the wall's interior than on all of it: "
        f"{_count(tally(walls.deeper), 'below')}; less there than the interior's share of the area: "
        f"{_count(tally(walls.interior, 1), 'below')}."
    )


def faithful_words(found: Mapping[str, Mapping[str, Table]]) -> str:
    """Say where the marked cells change outputs faster, by what they are replaced by and what they are held against."""
    told = []
    for baseline, tables in found.items():
        for name, values in tables.items():
            kind, beside = name.split(", ")
            if beside == PIECE:
                told.append(_piece(kind, baseline, values))
                continue
            faster = (
                "removed, outputs change faster" if kind == "deletion" else "put back, outputs return faster"
            )
            than = "a random map on the same grid" if beside == "random" else f"the {beside}"
            told.append(
                f"- {kind.capitalize()}, {baseline}: {faster} than with {than}: {_count(tally(values), 'above')}."
            )
            if baseline == next(iter(found)):
                told.append(by_column(values, "faster", "slower"))
    return "\n".join(told)


def _piece(kind: str, baseline: str, values: Table) -> str:
    centre, side = (set(sides(values[row])["above"]) for row in ("centre prior", "side prior"))
    parts = (
        (centre & side, "both for {}, where an order is rewarded for being in one piece"),
        (centre - side, "the one in the middle for {}, where the place counts"),
        (side - centre, "the one at the sides for {}, where the place counts"),
    )
    told = [
        words.format(listed(name for name in columns(values) if name in found))
        for found, words in parts
        if found
    ]
    return (
        f"- {kind.capitalize()}, {baseline}, tried: two bumps that know nothing, in the middle and at the sides. "
        f"Better than scattered random cells: {', and '.join(told) or 'neither'}."
    )


def mover_words(movers: Movers) -> str:
    """Say whether an object that moves by itself attracts maps of the negative loss."""
    told = []
    for part in PARTS:
        found = sides(column(movers.of, part), 1)
        told.append(
            f"- {part.capitalize()}: more on the object than its share of the area: {_count(found, 'above', 'maps')}. "
            f"More: {listed(found['above'])}. Less: {listed(found['below'])}."
        )
        for other, than in (
            ("without the object", "at the same place of the same drive without the object"),
            ("random", "a random map"),
            ("centre prior", "the centre prior"),
        ):
            beside = sides(column(movers.minus[other], part))
            told.append(f"  - More than {than}: {_count(beside, 'above', 'maps')}.")
    return "\n".join([*told, *_mover_causes(movers)])


def _mover_causes(movers: Movers) -> Iterable[str]:
    for name in ("error with the true depth and motion", "error with the networks' depth and motion"):
        side = verdict(
            movers.beside[name], "more than its share", "less than its share", "about its share", 1
        )
        yield f"- What is possible: the photometric {name} has {side} on the object ({movers.beside[name]})."
    same, where = (
        ("is, to rounding,", "Such a map tells where motion is read from, not where the error is.")
        if movers.mixture <= ROUNDING
        else ("is not", "This explains nothing.")
    )
    yield (
        f"- Likely cause in PoseNet, tried: the HiResCAM map of its loss {same} a mixture of the maps of its six "
        f"outputs, with one weight each (largest difference {movers.mixture:.1g} of the largest value). {where}"
    )
    for name, value in movers.powers.items():
        if name.startswith("squared"):
            other = movers.powers[name.replace("squared", "absolute")]
            side = verdict(value, "more than its share", "less than its share", "about its share", 1)
            gained = verdict(movers.gain[name], "more", "less", "not to be told apart")
            yield (
                f"- Likely cause in DepthNet, tried ({name.partition(', ')[2]}): the gradient of an absolute error "
                f"does not grow with the error. Magnitude on the object with the absolute error {other}, with the "
                f"squared one {value}: {side}, and {gained}: {signed(movers.gain[name])}."
            )


def sign_words(found: Signs) -> str:
    """Say whether signs flip."""
    exact = [arm for arm, value in found.opposite.items() if value <= EXACT]
    others = [f"{arm} ({value:.2g})" for arm, value in found.opposite.items() if value > EXACT]
    flipped = tally({arm: {"ry": cells["ry"]} for arm, cells in found.flipped.items()})
    same = sides(found.same, 0.5)
    return "\n".join(
        [
            f"- The map of −ry is minus the map of ry to {EXACT:g} for {listed(exact)}. It is another map for "
            f"{listed(others)}: LayerCAM keeps positive gradients only.",
            f"- The sum of HiResCAM at the last layer plus the bias is the output, to {found.exact:.1g} of it.",
            f"- In the mirror ry changes its sign in {found.turned['ry']} of the drives, and tz keeps it in "
            f"{found.turned['tz']}. The mirrored drive's map of ry, mirrored back, is like the map of −ry (rank "
            f"correlation above 0): {_count(flipped, 'above', 'maps')}; it is like the map of ry itself for "
            f"{listed(sides(found.kept)['above'])}.",
            f"- The sum of a map of ry has the sign of ry in more than half of the drives for {listed(same['above'])}; "
            f"in less for {listed(same['below'])}; cannot be told for {listed(same['undecided'])}.",
        ]
    )


def light_words(found: Light) -> str:
    """Say what a change of exposure does."""
    kept = tally(found.apart)
    louder = tally(found.louder)
    return "\n".join(
        [
            "- Outputs move by (mean |change| in standard deviations over drives): "
            + ", ".join(f"{name} {value}" for name, value in found.moved.items())
            + ".",
            "- A drive's maps stay more like themselves than like another drive's: "
            f"{_count(kept, 'above')}. Not "
            f"so, or cannot be told: {listed(kept['below'] + kept['undecided'])}.",
            f"- Maps become larger for {listed(louder['above'])}; smaller for {listed(louder['below'])}. An exposure "
            "changes all of a frame, and so there is no place at which it could attract a map.",
        ]
    )


def noise_words(found: Noise) -> str:
    """Say whether the gradient of the loss is too noisy."""
    trained, random = found.alike
    less = verdict(
        found.difference[trained],
        "less than for tz",
        "more than for tz",
        "and for tz as much, as far as can be told",
    )
    size = verdict(
        found.smaller, "smaller than", "larger than", "as large as (as far as can be told) that of", 0
    )
    steady = verdict(found.alike[trained]["loss"], "not too noisy to be read", "too noisy to be read",
                     "at the edge of what can be read", 0.5)  # fmt: skip
    near = found.cancelling[trained] < found.cancelling[random]
    return "\n".join(
        [
            f"- Maps of the loss agree under noise by {found.alike[trained]['loss']}, {less} "
            f"({found.alike[trained]['tz']}): they are {steady}.",
            f"- To first order the layer moves the loss by {found.moved[trained]['loss']} of itself; that is {size} "
            f"that of random weights ({found.moved[random]['loss']}).",
            f"- The gradients of single drives cancel {'more' if near else 'no more'} than before training: their mean "
            f"is {found.cancelling[trained]:.2f} of their length, with random weights {found.cancelling[random]:.2f}. "
            + (
                "Training ends where the mean over drives is smallest, not where any one drive's loss is: its gradient "
                "need not be small."
                if near
                else "Nothing here shows that training has come near a minimum."
            ),
        ]
    )


def random_words(found: Randomised) -> str:
    """Say what maps share with those of random weights."""
    told = []
    for name, values in (("Maps with signs", found.signed), ("Magnitudes", found.magnitude)):
        told.append(
            f"- {name}: rank correlation below {LOW:g}: {_count(tally(values, LOW), 'below')}; above 0 beyond doubt "
            f"for {listed(tally(values)['above'])}."
        )
    return "\n".join(told)


def table(found: Table, head: str, difference: bool = False) -> str:
    """Write a table of intervals; a dash where there is none."""
    names, write = columns(found), signed if difference else plain
    rows = [[row, *(write(cells[n]) if n in cells else "–" for n in names)] for row, cells in found.items()]
    return lines([head, *names], rows)


def lines(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write a table."""
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in [heads, ["---"] * len(heads), *rows])


def folded(summary: str, tables: Mapping[str, str]) -> str:
    """Write tables that open on a click."""
    body = "\n\n".join(f"{name}:\n\n{text}" for name, text in tables.items())
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"
