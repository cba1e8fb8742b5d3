"""A shard's inputs become rows: decoded ahead of the model, explained in batches, one row for each map."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from chronocam.errors import ChronocamError, InputError, first_line
from chronocam.runs.dataset.inputs import fetch
from chronocam.runs.dataset.inputs.base import Item
from chronocam.runs.dataset.plan import Plan, part_name
from chronocam.runs.dataset.rows import Rows, part_of
from chronocam.runs.job import MapJob

_THREADS: Final = 2


class Worker:
    """Explains shards of one plan; the model's layer is found once."""

    def __init__(self, plan: Plan, job: MapJob, batch_size: int, scope: ExitStack) -> None:
        from chronocam.joint.subject import share_subjects

        self.plan: Plan = plan
        self.job: MapJob = job
        self.batch_size: int = batch_size
        share_subjects(scope)
        self.pool: ThreadPoolExecutor = scope.enter_context(ThreadPoolExecutor(_THREADS))

    def run(self, shard: int) -> int:
        """Write the part of a shard, and return how many of its inputs failed."""
        rows = Rows(self.plan.settings.maps)
        first = shard * self.plan.settings.shard
        for batch in self._batches(self.plan.items(shard)):
            self._explain(rows, first, batch)
        self.plan.place.put(part_name(shard), part_of(rows))
        return rows.failures

    def _batches(self, items: Sequence[Item]) -> Iterator[list[tuple[int, Item, Any]]]:
        """Yield neighbours of one shape and, alone, each input that cannot be read."""
        batch: list[tuple[int, Item, Any]] = []
        for i, (item, value) in enumerate(self._ahead(items)):
            fits = isinstance(value, np.ndarray) and batch and batch[-1][2].shape == value.shape
            if batch and (not fits or len(batch) == self.batch_size):
                yield batch
                batch = []
            if isinstance(value, ChronocamError):
                yield [(i, item, value)]
            else:
                batch.append((i, item, value))
        if batch:
            yield batch

    def _ahead(self, items: Sequence[Item]) -> Iterator[tuple[Item, Any]]:
        waiting: deque[tuple[Item, Future[Any]]] = deque()
        for item in items:
            waiting.append((item, self.pool.submit(self._read, item)))
            if len(waiting) > 2 * self.batch_size:
                one, value = waiting.popleft()
                yield one, value.result()
        while waiting:
            one, value = waiting.popleft()
            yield one, value.result()

    def _read(self, item: Item) -> np.ndarray | ChronocamError:
        with TemporaryDirectory(prefix="chronocam-") as folder:
            try:
                return np.asarray(self.job.preprocess(self.job.read(fetch(item, Path(folder)))))
            except ChronocamError as error:
                return InputError(str(error).replace(folder, item.key))
            except Exception as error:  # whatever storage and decoders raise is a row of that input alone
                return InputError(f"`{item.key}` cannot be read ({first_line(error)})")

    def _explain(self, rows: Rows, first: int, batch: list[tuple[int, Item, Any]]) -> None:
        if isinstance(batch[0][2], ChronocamError):
            i, item, error = batch[0]
            rows.fail(item.key, first + i, str(error))
            return
        try:
            found = self._job(batch).explain(np.stack([value for *_, value in batch]))
        except ChronocamError as error:
            if len(batch) == 1:
                rows.fail(batch[0][1].key, first + batch[0][0], str(error))
                return
            for one in batch:
                self._explain(rows, first, [one])
            return
        for k, (i, item, _) in enumerate(batch):
            rows.add(item.key, first + i, found, k)

    def _job(self, batch: list[tuple[int, Item, Any]]) -> MapJob:
        """Return the job with the labels of the inputs as targets, where no target is given."""
        from chronocam.runs.targets import classes

        labels = [item.label for _, item, _ in batch]
        if self.plan.settings.targets or not all(labels):
            if any(labels) and not self.plan.settings.targets and len(labels) > 1:
                raise InputError("some inputs have labels, and others none")
            return self.job
        known = {label: classes(self.job.loaded, [label], ())[0] for label in dict.fromkeys(labels)}
        return replace(self.job, targets=np.array([vars(known[label])["which"] for label in labels]))
