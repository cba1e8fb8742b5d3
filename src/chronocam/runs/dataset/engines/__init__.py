"""How the shards of a run are shared out: one file for each engine, which hands out numbers and no more.

Whatever the engine, a `Worker` writes the parts, so that what is promised of them rests on no engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from chronocam.runs.dataset.engines import local, ray
from chronocam.runs.dataset.plan import Plan
from chronocam.runs.dataset.work import Means
from chronocam.runs.job import MapJob

Engine: TypeAlias = Callable[[Plan, Means, MapJob], None]
"""Writes every part that is missing. The job is loaded already, for an engine that works in this process."""

ENGINES: Final[dict[str, Engine]] = {"local": local.run, "ray": ray.run}
