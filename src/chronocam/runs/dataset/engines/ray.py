"""A cluster of Ray: actors take shard numbers, and write the parts themselves."""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import ExitStack, suppress
from socket import create_connection
from typing import Any, Final

from chronocam.errors import ChronocamError, InputError, first_line
from chronocam.runs.dataset.inputs.base import need
from chronocam.runs.dataset.place import Place
from chronocam.runs.dataset.plan import Plan, part_name, read_plan
from chronocam.runs.dataset.work import Means, Worker
from chronocam.runs.job import MapJob
from chronocam.runs.terminal import track

_TRIES: Final = 3  # more, of a shard whose worker ends
_SECONDS: Final = 10.0  # until a cluster answers
_PAUSE: Final = 0.5  # seconds, while others are at all that is left


def run(plan: Plan, means: Means, job: MapJob) -> None:
    """Write every part that is missing, by actors on a cluster; without one, a local one is started."""
    ray = need("ray", "ray")
    if not plan.pending():
        return
    with ExitStack() as scope:
        if not ray.is_initialized():
            _connect(ray, means.address)
            scope.callback(ray.shutdown)
        crew = _Crew(ray, plan, means)
        scope.callback(crew.end)
        while pending := plan.pending():
            crew.write(pending)


class _Crew:
    """The actors of a run: what each is at, and which have nothing to do."""

    def __init__(self, ray: Any, plan: Plan, means: Means) -> None:
        kind = "GPU" if means.device is not None and means.device.startswith("cuda") else "CPU"
        there = int(ray.cluster_resources().get(kind, 0))
        count = min(means.workers or max(there, 1), len(plan.pending()))
        needs = {"num_cpus": 1, "num_gpus": 1 if kind == "GPU" else 0}
        actor = ray.remote(max_restarts=-1, max_task_retries=_TRIES, **needs)(_Actor)
        place = plan.place.path("")[:-1]
        self.ray = ray
        self.plan = plan
        self.actors = [actor.remote(place, means, os.getcwd()) for _ in range(count)]  # noqa: PTH109
        self.idle: deque[Any] = deque()
        # A shard goes to an actor that has answered: for some there may be no room on the cluster.
        self.tasks: dict[Any, tuple[Any, int | None]] = {
            one.ready.remote(): (one, None) for one in self.actors
        }

    def write(self, shards: list[int]) -> None:
        """Have the parts of shards written, but for those that other runs are at.

        Raises ChronocamError where parts were written and are not there.
        """
        left, shards_done = deque(shards), set[int]()
        for _ in track(shards, "Explaining"):
            shard = None
            while shard is None:
                while left and self.idle:
                    actor, next_shard = self.idle.popleft(), left.popleft()
                    self.tasks[actor.write.remote(next_shard)] = actor, next_shard
                (task, *_), _ = self.ray.wait([*self.tasks])
                actor, shard = self.tasks.pop(task)
                if _result(self.ray, task, shard) and shard is not None:
                    shards_done.add(shard)
                self.idle.append(actor)
        if not shards_done:
            time.sleep(_PAUSE)
        elif shards_done & {*self.plan.pending()}:
            todo = "give a folder or a URL that all machines of the cluster share"
            raise ChronocamError(f"parts of `{self.plan.place.url}` are written elsewhere; {todo}")

    def end(self) -> None:
        """End the actors."""
        for actor in self.actors:
            self.ray.kill(actor)


def _connect(ray: Any, address: str | None) -> None:
    host, _, port = (address or "").rpartition(":")
    try:
        if host and port.isdigit() and "://" not in host:  # Ray would wait for minutes on a closed port
            create_connection((host.strip("[]"), int(port)), _SECONDS).close()
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"no cluster at `{address}` ({first_line(error)}); start it, or drop address"
        ) from error


def _result(ray: Any, task: Any, shard: int | None) -> bool:
    try:
        return bool(ray.get(task))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ChronocamError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        todo = "look at the memory of its machine, or use a smaller batch"
        what = "a worker ends before it begins" if shard is None else f"{part_name(shard)} ends its workers"
        raise ChronocamError(f"{what} ({first_line(error)}); {todo}") from error


class _Actor:
    """A worker in a process of the cluster; it loads the model when it is first asked for a part.

    An actor that fails while it is made could not say why.
    """

    def __init__(self, url: str, means: Means, folder: str) -> None:
        self.url = url
        self.means = means
        self.worker: Worker | None = None
        with suppress(
            OSError
        ):  # specs name files as the caller saw them; other machines may have no such folder
            os.chdir(folder)

    def ready(self) -> bool:
        """Say that the process is there."""
        return True

    def write(self, shard: int) -> bool:
        """Write the part of a shard; False where another run is at it."""
        if self.worker is None:
            self.worker = Worker.load(read_plan(Place(self.url)), self.means)
        return self.worker.write(shard)
