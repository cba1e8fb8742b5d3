"""A shard's inputs become rows: decoded ahead of the model, explained in batches, one row for each map."""

from __future__ import annotations

import errno
import os
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np

from chronocam.errors import ChronocamError, InputError, MediaError, TargetError, first_line
from chronocam.runs.dataset.inputs import fetched
from chronocam.runs.dataset.inputs.base import Item, is_url
from chronocam.runs.dataset.plan import Plan, part_name
from chronocam.runs.dataset.rows import Rows
from chronocam.runs.dataset.weights import weights_digest
from chronocam.runs.job import MapJob

_REMOTE: Final = 16  # threads that wait for inputs from elsewhere
_HELD: Final = 4  # batches of inputs that are decoded and not yet explained, at most
_EXHAUSTED: Final = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE}


@dataclass(frozen=True)
class Means:
    """With what a run is done, which changes nothing in its rows.

    batch_size: how many inputs go through the model at once.
    device: where the model runs; None for where it is loaded.
    trust: whether the model's files may run code.
    workers: how many processes work; None for what the engine thinks fit.
    address: of a cluster.
    """

    batch_size: int = 16
    device: str | None = None
    trust: bool = False
    workers: int | None = None
    address: str | None = None


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Ready(NamedTuple):
    """An input that is ready for the model: its number in the shard, and the class of its label."""

    number: int
    item: Item
    value: np.ndarray
    target: int | None


class Worker:
    """Explains shards of one plan; the model's layer is found once."""

    def __init__(self, plan: Plan, job: MapJob, batch_size: int) -> None:
        self.plan: Plan = plan
        self.job: MapJob = job
        self.batch_size: int = batch_size
        self._labels: dict[str, int | TargetError] = {}

    @classmethod
    def load(cls, plan: Plan, means: Means) -> Worker:
        """Return a worker with a model of its own. Raises InputError where that has other weights."""
        from chronocam.runs.device import load_on
        from chronocam.runs.plan import map_job

        settings = plan.settings
        loaded = load_on(means.device, settings.model, means.trust, settings.wants)
        job = map_job(loaded, settings.clips, settings.options())
        if weights_digest(job.loaded.model) != plan.header.weights:
            todo = "seed what makes them, or save them to a file"
            raise InputError(f"each time `{settings.model}` is loaded it has other weights; {todo}")
        return cls(plan, job, means.batch_size)

    def write(self, shard: int) -> bool:
        """Write the part of a shard unless it is there; say whether this or another run has done so.

        False says that another run is at it.
        """
        place, name = self.plan.place, part_name(shard)
        with place.claim(name) as free:
            if free and name not in place.names():
                place.put(name, self._rows(shard).part())
            return free

    def _rows(self, shard: int) -> Rows:
        rows = Rows(self.plan.settings.maps)
        first = shard * self.plan.settings.shard
        for batch in self._batches(self.plan.items(shard), rows, first):
            self._explain(rows, first, batch)
        return rows

    def _batches(self, items: Sequence[Item], rows: Rows, first: int) -> Iterator[list[_Ready]]:
        """Yield inputs of one shape; those that cannot be read get their row here."""
        buckets: defaultdict[Any, list[_Ready]] = defaultdict(list)
        for number, (item, value) in enumerate(self._ahead(items)):
            if isinstance(value, ChronocamError):
                rows.fail(item.key, first + number, str(value))
                continue
            array, target = value
            batch = buckets[array.shape, target is None]
            batch.append(_Ready(number, item, array, target))
            if len(batch) == self.batch_size:
                yield buckets.pop((array.shape, target is None))
            elif sum(map(len, buckets.values())) > _HELD * self.batch_size:
                yield buckets.pop(max(buckets, key=lambda key: len(buckets[key])))
        yield from buckets.values()

    def _ahead(self, items: Sequence[Item]) -> Iterator[tuple[Item, Any]]:
        remote = any(is_url(item.url) for item in items)
        pool = ThreadPoolExecutor(_REMOTE if remote else min(cores(), 8))
        queue: deque[tuple[Item, Future[Any]]] = deque()
        try:
            for item in items:
                queue.append((item, pool.submit(self._read, item)))
                if len(queue) > self.batch_size + (_REMOTE if remote else 0):
                    one, value = queue.popleft()
                    yield one, value.result()
            while queue:
                one, value = queue.popleft()
                yield one, value.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _read(self, item: Item) -> tuple[np.ndarray, int | None] | ChronocamError:
        """Return the model's input and the class of the label, or why there are none."""
        path = None
        try:
            target = self._target(item)
            with fetched(item) as path:
                return np.asarray(self.job.preprocess(self.job.read(path))), target
        except Exception as error:  # whatever storage and decoders raise is a row of that input alone
            if _is_exhausted(error):
                todo = "make room, and run the same command again"
                raise MediaError(f"cannot go on at `{item.key}` ({first_line(error)}); {todo}") from error
            if isinstance(error, ChronocamError):
                return type(error)(str(error).replace(str(path), item.key))
            return InputError(f"`{item.key}` cannot be read ({first_line(error)})")

    def _target(self, item: Item) -> int | None:
        if self.plan.settings.targets or not item.label:
            return None
        index = self._labels.get(item.label)
        if index is None:
            index = self._labels[item.label] = label_index(self.job, item.label)
        if isinstance(index, TargetError):
            raise index
        return index

    def _explain(self, rows: Rows, first: int, batch: list[_Ready]) -> None:
        job = self.job
        if batch[0].target is not None:
            job = replace(job, targets=np.array([one.target for one in batch]))
        try:
            explanations = job.explain(np.stack([one.value for one in batch]))
        except ChronocamError as error:
            if len(batch) == 1:
                rows.fail(batch[0].item.key, first + batch[0].number, str(error))
            else:
                for one in batch:
                    self._explain(rows, first, [one])
            return
        for k, one in enumerate(batch):
            rows.add(one.item.key, first + one.number, explanations, k)


def label_index(job: MapJob, label: str) -> int | TargetError:
    """Return the class that a label names, or why it names none."""
    from chronocam.runs.targets import index_of

    try:
        return index_of(label, job.loaded.labels)
    except TargetError as error:
        return error


def _is_exhausted(error: BaseException | None) -> bool:
    """Say whether this machine, and not the input, is the reason of an error."""
    while error is not None:
        if getattr(error, "errno", None) in _EXHAUSTED:
            return True
        error = error.__cause__ or error.__context__
    return False
