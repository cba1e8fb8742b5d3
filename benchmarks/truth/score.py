"""How well what maps have on the parts of a scene agrees with what the parts are worth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from benchmarks.claims.tables import Table
from benchmarks.truth.judged import Judged
from benchmarks.truth.worlds import World
from chronocam.errors import first_line
from chronocam.maps.rank import spearman
from chronocam.metrics import bootstrap
from chronocam.metrics.comparisons import paired

MEASURES: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "rank": lambda on, falls: _or_nothing(spearman(on, falls)),
    "linear": lambda on, falls: _or_nothing(_pearson(on, falls)),
    "first": lambda on, falls: float(on.argmax() == falls.argmax()),
}
"""Spearman's correlation, Pearson's, and whether the part with most of the map is the one worth most."""


@dataclass(eq=False)
class Scores:
    """Values by world and kind, measure and method: one for each scene.

    cannot: why a method has none, by method and world.
    """

    values: dict[str, dict[str, dict[str, np.ndarray]]] = field(default_factory=dict)
    cannot: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, world: World, judged: Mapping[str, Judged], track: Callable[..., Iterable[str]]) -> None:
        """Judge every method on every case of a world."""
        for kind in world.kinds:
            self.values[_titled(world, kind)] = {measure: {} for measure in MEASURES}
        for name in track(list(judged)):
            try:
                self._method(world, name, judged[name])
            except Exception as error:  # whatever another library raises is why it has no value
                self.cannot[name][world.title] = f"{type(error).__name__}: {first_line(error)}"

    def _method(self, world: World, name: str, explain: Judged) -> None:
        found: dict[tuple[str, str], list[float]] = defaultdict(list)
        for case in world.cases:
            shown = np.asarray(explain(case), np.float64)
            for kind, parts in case.sets.items():
                if kind == "space" and shown.ndim < parts.masks.ndim - 1:
                    continue  # a curve over the frames says nothing of places
                on = parts.on(shown)
                for measure, agree in MEASURES.items():
                    found[kind, measure].append(agree(on, parts.falls))
        for (kind, measure), values in found.items():
            self.values[_titled(world, kind)][measure][name] = np.array(values)

    def tables(self) -> dict[str, Table]:
        """Return a table for each measure and kind: methods by worlds, means with intervals over scenes."""
        tables: dict[str, Table] = {}
        for title, measures in self.values.items():
            kind, _, world = title.partition(": ")
            for measure, rows in measures.items():
                table = tables.setdefault(f"{kind}: {measure}", {})
                for name, values in rows.items():
                    table.setdefault(name, {})[world] = bootstrap(values)
        return tables | self._sides()

    def _sides(self, measure: str = "rank") -> dict[str, Table]:
        """Return which methods are not told apart from the best, and which are not above a random map."""
        tables: dict[str, Table] = {}
        for title, measures in self.values.items():
            kind, _, world = title.partition(": ")
            rows = measures[measure]
            best = max(rows, key=lambda name: float(rows[name].mean()))
            table = tables.setdefault(f"{kind}: sides", {})
            for name, values in rows.items():
                says = "best" if name == best or paired(rows[best], values).low <= 0 else ""
                if name != "random map" and paired(values, rows["random map"]).low <= 0:
                    says = "chance"
                table.setdefault(name, {})[world] = says
        return tables


def _titled(world: World, kind: str) -> str:
    return f"{kind}: {world.title}"


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else 0.0


def _or_nothing(value: float) -> float:
    """Return 0 for a map that has the same on every part: it says nothing of them."""
    return float(np.nan_to_num(value))
