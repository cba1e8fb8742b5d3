"""One machine: this process, or several others that share the parts by their locks."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from subprocess import PIPE, Popen
from typing import Final

from chronocam.errors import ChronocamError
from chronocam.runs.dataset.plan import Plan, part_name
from chronocam.runs.dataset.work import Means, Worker, cores
from chronocam.runs.job import MapJob
from chronocam.runs.terminal import say, track

_PAUSE: Final = 0.5  # seconds, until parts that others are at are looked for again
_HELPER: Final = "chronocam.runs.dataset.engines.helper"


def run(plan: Plan, means: Means, job: MapJob) -> None:
    """Write every part that is missing, in this process or in `means.workers` others."""
    workers, there = means.workers or 1, len(plan.pending())
    count = min(workers, there)
    if 0 < count < workers:
        say(f"{there} parts are left for {workers} workers; a smaller --shard gives work to more of them")
    if count > 1:
        _run_processes(plan, means, count)
        return
    worker = Worker(plan, job, means.batch_size)
    while pending := plan.pending():
        work_through(worker, track(pending, "Explaining"))


def work_through(worker: Worker, shards: Iterable[int]) -> None:
    """Write the parts of shards, but for those that others are at; pauses where they are at all of them."""
    if not sum(worker.write(shard) for shard in shards):
        time.sleep(_PAUSE)


def dealt(pending: Sequence[int], k: int, count: int) -> list[int]:
    """Return all shards, first those of worker `k` of so many: where there are no locks they meet late."""
    own = pending[k::count]
    others = sorted({*pending} - {*own}, reverse=True)
    return [*own, *others]


def _run_processes(plan: Plan, means: Means, count: int) -> None:
    pending = plan.pending()
    with ExitStack() as scope:
        processes = [_started(plan, means, k, count) for k in range(count)]
        for one in processes:
            scope.enter_context(one)
            scope.callback(one.kill)
        for shard in track(pending, "Explaining"):
            while part_name(shard) not in plan.place.names() and any(one.poll() is None for one in processes):
                time.sleep(_PAUSE)
        if plan.pending():
            messages = [text for one in processes if one.stdout and (text := one.stdout.read().strip())]
            reason = f"{count} processes were ended before their work was; run the same command again"
            raise ChronocamError(messages[0] if messages else reason)


def _started(plan: Plan, means: Means, k: int, count: int) -> Popen[str]:
    """Start a process that works at the plan for as long as its input is open."""
    threads = str(max(1, cores() // count))
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {"OMP_NUM_THREADS": threads, **os.environ, "PYTHONPATH": paths}
    own = replace(means, device=_device(means.device, k))
    process = Popen([sys.executable, "-m", _HELPER], stdin=PIPE, stdout=PIPE, text=True, env=environment)
    task = {"out": plan.place.url, "k": k, "count": count, "means": asdict(own)}
    if process.stdin is not None:
        process.stdin.write(json.dumps(task) + "\n")
        process.stdin.flush()
    return process


def _device(device: str | None, k: int) -> str | None:
    """Return the device of a worker: `cuda` without a number is all of them in turn."""
    if device != "cuda":
        return device
    import torch

    return f"cuda:{k % torch.cuda.device_count()}"
