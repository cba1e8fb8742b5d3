"""All values of all networks, asked for by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.claims.stats import Values, apart, difference, each, pooled
from benchmarks.claims.video.measures import MEASURES, MOVED, Measured, beside, named, stacked
from benchmarks.claims.video.world import ARCHS, Network, Settings, World
from chronocam.metrics import Interval

LAST = "gradcam@4"
"""The usual map: Grad-CAM at the last stage."""

ON_GRIDS = ("random map", "truth")
REFERENCES = (*ON_GRIDS, "centre prior", MOVED)


@dataclass(frozen=True)
class Results:
    """Values by architecture, kind of measure, arm and measure; grids and training seeds by architecture.

    labels: the class of every clip with one actor
    commands: those that trained the networks
    """

    settings: Settings
    labels: np.ndarray
    commands: list[str]
    seeds: dict[str, list[int]]
    grids: dict[str, list[tuple[int, ...]]]
    networks: dict[str, dict[str, Measured]]
    beside: dict[str, Measured]

    def of(self, arch: str, kind: str, arm: str, measure: str) -> Values:
        """Return values `(network, clip)`; `random map` and `truth` are those on the last stage's grid."""
        if kind in self.beside and arm.startswith(REFERENCES):
            arm = self.on_grid(arm, arch) if arm in ON_GRIDS else arm
            return self.beside[kind][arm][measure][None]
        return self.networks[arch][kind][arm][measure]

    def on_grid(self, reference: str, arch: str, stage: int = 4) -> str:
        return f"{reference} {named(self.grids[arch][stage - 1])}"

    def mean(self, arch: str, kind: str, arm: str, measure: str) -> Interval:
        return pooled(self.of(arch, kind, arm, measure))

    def change(self, arch: str, kind: str, arm: str, other: str, measure: str) -> Interval:
        """Return arm − other for the same networks."""
        return self.gap(arch, kind, (arm, measure), (other, measure))

    def gap(self, arch: str, kind: str, one: tuple[str, str], other: tuple[str, str]) -> Interval:
        """Return one arm and measure − another for the same networks."""
        return difference(self.of(arch, kind, *one), self.of(arch, kind, *other))

    def between(
        self, arch: str, other: str, kind: str, arm: str, measure: str, right: bool = False
    ) -> Interval:
        """Return arch − other for one arm; with `right`, on clips that all networks of both name right."""
        clips = self.right(arch, other) if right else slice(None)
        return apart(
            self.of(arch, kind, arm, measure)[:, clips], self.of(other, kind, arm, measure)[:, clips]
        )

    def right(self, *archs: str) -> np.ndarray:
        """Return which of the clips for maps all networks of these architectures name right."""
        right = [self.of(arch, "answers", "as filmed", "right")[:, : self.settings.maps] for arch in archs]
        return np.flatnonzero(np.concatenate(right).all(axis=0))

    def values(self) -> dict[str, Any]:
        """Return every mean with its interval, of all networks of an architecture and of each."""
        alone = {
            kind: {arm: {name: v[None] for name, v in names.items()} for arm, names in measured.items()}
            for kind, measured in self.beside.items()
        }
        return {
            arch: {
                kind: {
                    arm: {name: _numbers(values) for name, values in names.items()}
                    for arm, names in measured.items()
                }
                for kind, measured in kinds.items()
            }
            for arch, kinds in {**self.networks, "beside": alone}.items()
        }


def _numbers(values: Values) -> dict[str, Any]:
    numbers = {"pooled": _rounded(pooled(values))}
    if len(values) > 1:
        numbers["by training seed"] = [_rounded(interval) for interval in each(values)]
    return numbers


def _rounded(interval: Interval | None) -> list[float] | None:
    if interval is None or np.isnan(interval.mean):
        return None
    return [*(round(value, 4) for value in (interval.mean, interval.low, interval.high)), interval.count]


def measure(networks: Sequence[Network], world: World) -> Results:
    """Take every measure of every network."""
    jobs = [(network, kind) for network in networks for kind in MEASURES]
    measured: dict[str, dict[str, list[Measured]]] = {arch: {kind: [] for kind in MEASURES} for arch in ARCHS}
    for network, kind in track(jobs, "Measuring", console=Console(stderr=True), transient=True):
        measured[network.arch][kind].append(MEASURES[kind](network, world))
    grids = {network.arch: _grids(network, world) for network in networks}
    return Results(
        world.settings,
        world.labels,
        [network.command for network in networks],
        {arch: [network.seed for network in networks if network.arch == arch] for arch in ARCHS},
        grids,
        {arch: {kind: stacked(parts) for kind, parts in kinds.items()} for arch, kinds in measured.items()},
        beside(world, sorted({grid for each in grids.values() for grid in each})),
    )


def _grids(network: Network, world: World) -> list[tuple[int, ...]]:
    stages = list(range(1, 1 + len(network.stages)))
    explained = network.explain(network.inputs(world.single.pixels[:1]), 0, layers=stages)
    return [tuple(explanation.maps.shape[2:]) for explanation in explained.values()]
