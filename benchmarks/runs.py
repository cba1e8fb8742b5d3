"""Data-set runs: what kills lose, the rate beside plain forward passes, memory, cost by size, bytes on disk.

All inputs are generated. `python -m benchmarks.runs` measures everything, each in a process of its own;
`python -m benchmarks.runs kills` one of them.
"""

from __future__ import annotations

import io
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
import numpy as np

if TYPE_CHECKING:
    from chronocam.runs.dataset.inputs.base import Item
    from chronocam.runs.dataset.plan import Plan
    from chronocam.runs.dataset.work import Worker
    from chronocam.runs.job import MapJob

NETS = """
import torch
from torch import nn
from torchvision.models import get_model
from chronocam.media import Preprocess

def net(width, kernel, side):
    torch.manual_seed(0)
    body = nn.Conv2d(3, width, kernel, kernel), nn.ReLU()
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)
    recipe = Preprocess((side, side), None, (0.5,) * 3, (0.5,) * 3)
    return nn.Sequential(*body, *head), recipe, [f"class {k}" for k in range(10)]

def small():
    return net(32, 4, 64)

def grid():
    return net(8, 8, 56)

def mobilenet():
    torch.manual_seed(0)
    recipe = Preprocess(232, (224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return get_model("mobilenet_v2", weights=None), recipe, [f"class {k}" for k in range(1000)]
"""


def kills() -> str:
    """Kill runs without a chance to tidy up at random moments, then finish them and count their rows."""
    import chronocam as cc
    from chronocam.runs.dataset.place import Place

    photos, times = 2000, 100
    write_photos("photos", photos)
    rng, start = random.Random(0), time.perf_counter()

    def run(out: str) -> Any:
        return cc.runs.run("photos", "python:nets:small", out, shard=16, trust=True)

    # Everything is imported by now, so that a child is at work at once.
    write_photos("few", 4)
    cc.runs.run("few", "python:nets:small", "first", trust=True)
    outs, killed, amid = 1, 0, 0
    while killed < times:
        child = os.fork()
        if child == 0:
            run(f"out-{outs}")
            os._exit(0)
        time.sleep(rng.uniform(0.1, 1.5))
        if os.waitpid(child, os.WNOHANG)[0]:
            outs += 1
            continue
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        killed += 1
        amid += any(name.startswith(".") for name in Place(f"out-{outs}").names())
    counts = [Counter(run(f"out-{k + 1}").to_pandas(["key"])["key"]) for k in range(outs)]
    lost, rows = sum(photos - len(count) for count in counts), sum(count.total() for count in counts)
    repeated = rows - sum(map(len, counts))
    seconds = time.perf_counter() - start
    return (
        f"{killed} × kill -9 in {outs} runs over {photos} photos, {amid} of them amid a part: {lost} inputs "
        f"lost, {repeated} repeated ({seconds:.0f} s)"
    )


def photos() -> str:
    """Return the rate over photos of MobileNetV2."""
    write_photos("photos", 2080)
    return rate("photos", "python:nets:mobilenet", shard=80)


def clips() -> str:
    """Return the rate over clips of a small 3D network."""
    write_clips("clips", 220)
    return rate("clips", "chronocam:gestures-3d", shard=20)


def rate(inputs: str, spec: str, shard: int) -> str:
    """Return the rate of a run as a share of that of decoding and plain forward passes, by turns."""
    import torch

    torch.set_num_threads(1)
    plan, job = planned(inputs, spec, shard)
    run, plain = worker_of(plan, job), forward_alone(plan, job)
    run.write(0)  # the first time is not counted
    plain(0)
    spent: list[tuple[float, float]] = []
    for number in plan.pending():
        start = time.process_time()
        plain(number)
        middle = time.process_time()
        run.write(number)
        spent.append((middle - start, time.process_time() - middle))
    floor, whole = (np.array(values) for values in zip(*spent, strict=True))
    shares = 100 * floor / whole
    count = len(spent) * shard
    return (
        f"{100 * floor.sum() / whole.sum():.1f} % of the rate of decoding and plain passes over {count} "
        f"{inputs} (turns {shares.min():.0f} to {shares.max():.0f} %); {1000 * whole.sum() / count:.1f} ms "
        f"of CPU each against {1000 * floor.sum() / count:.1f}"
    )


def memory() -> str:
    """Return the peak of memory of runs over more and more photos."""
    import chronocam as cc

    write_photos("photos", 5000, (120, 160))
    peaks = []
    for count, names in ((500, "00[0-4]*"), (1000, "00*"), (2000, "0[01]*"), (5000, "*")):
        table = cc.runs.run(f"photos/{names}.jpg", "python:nets:small", f"out-{count}", shard=250, trust=True)
        assert len(table) == count
        peaks.append(f"{count} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    return f"peak resident memory after runs over more photos: {', '.join(peaks)}"


def linear() -> str:
    """Return what rows cost where model and decoding cost next to nothing."""
    costs = []
    for count in (1000, 10_000, 100_000):
        plan, job = faked(count, shard=1000)
        worker = worker_of(plan, job)
        start = time.process_time()
        for number in plan.pending():
            worker.write(number)
        costs.append(f"{count} {1e6 * (time.process_time() - start) / count:.0f} µs")
    return f"CPU per row of a model that costs nothing: {', '.join(costs)}"


def plans() -> str:
    """Return how long a plan of a million inputs takes."""
    from chronocam.runs.dataset.inputs import find_items

    count = 1_000_000
    names = [f"{k // 1000:03d}/photo-{k:07d}.jpg" for k in range(count)]
    Path("list.csv").write_text(
        "path,label\n" + "".join(f"{name},{k % 10}\n" for k, name in enumerate(names))
    )
    for k, name in enumerate(names):
        if k % 1000 == 0:
            Path("million", name).parent.mkdir(parents=True)
        os.close(os.open(f"million/{name}", os.O_CREAT | os.O_WRONLY))
    took = []
    for argument in ("list.csv", "million"):
        start = time.process_time()
        items = find_items([argument], clips=False)
        found = time.process_time()
        plan = frozen(items, f"plan-of-{argument}", 1024)
        end = time.process_time()
        plan.items(500)
        took.append(
            f"{argument} {found - start:.1f} s to find and {end - found:.1f} s to freeze, "
            f"{1000 * (time.process_time() - end):.0f} ms to read a shard"
        )
    return f"plan of {count} inputs, CPU: {'; '.join(took)}"


def sizes() -> str:
    """Return the bytes on disk of rows with maps of 7 × 7, of a network over smooth noise."""
    from pyarrow.parquet import ParquetFile

    count = 20_000
    plan, job = faked(count, shard=1000, network=True)
    worker = worker_of(plan, job)
    for number in plan.pending():
        worker.write(number)
    columns: Counter[str] = Counter()
    for name in plan.parts:
        meta = ParquetFile(plan.place.path(name)).metadata
        for group in range(meta.num_row_groups):
            for k in range(meta.num_columns):
                one = meta.row_group(group).column(k)
                columns[one.path_in_schema] += one.total_compressed_size
    whole = sum(Path(plan.place.path(name)).stat().st_size for name in plan.parts)
    most = ", ".join(f"{name} {size / count:.1f}" for name, size in columns.most_common(6))
    return (
        f"{whole / count:.1f} bytes a row over {count} rows ({most}): {whole / count / 1000:.3f} GB for a "
        f"million, of which maps {columns['map'] / count / 1000:.3f} GB"
    )


MEASURES: dict[str, Callable[[], str]] = {
    one.__name__: one for one in (kills, photos, clips, memory, linear, plans, sizes)
}


def write_photos(folder: str, count: int, size: tuple[int, int] = (480, 640)) -> None:
    """Write JPEG files of smooth noise: 64 that differ, under as many names as are asked for."""
    from PIL import Image

    draw, files = np.random.default_rng(0), []
    for _ in range(64):
        coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), np.uint8))
        data = io.BytesIO()
        coarse.resize(size[::-1], Image.Resampling.BICUBIC).save(data, "JPEG", quality=90)
        files.append(data.getvalue())
    Path(folder).mkdir()
    for k in range(count):
        Path(folder, f"{k:05d}.jpg").write_bytes(files[k % len(files)])


def write_clips(folder: str, count: int) -> None:
    """Write videos of moving noise, 24 frames of 160 × 120: 8 that differ, under many names."""
    import chronocam as cc

    draw, files = np.random.default_rng(0), []
    for k in range(8):
        still = draw.integers(0, 256, (30, 80, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        cc.media.write_clip(f"{k}.mp4", np.stack([still[:, 4 * t : 4 * t + 160] for t in range(24)]), 12)
        files.append(Path(f"{k}.mp4").read_bytes())
    Path(folder).mkdir()
    for k in range(count):
        Path(folder, f"{k:05d}.mp4").write_bytes(files[k % len(files)])


def planned(inputs: str, spec: str, shard: int) -> tuple[Plan, MapJob]:
    """Return the plan of a run over a folder, and its job."""
    import chronocam as cc
    from chronocam.media import ClipPreprocess
    from chronocam.runs.dataset.inputs import find_items
    from chronocam.runs.dataset.plan import Settings
    from chronocam.runs.plan import map_job

    loaded = cc.models.load(spec, trust=True)
    settings = Settings(model=spec, clips=isinstance(loaded.preprocess, ClipPreprocess), shard=shard)
    items = find_items([inputs], settings.clips)
    return frozen(items, "out", shard), map_job(loaded, settings.clips, settings.options())


def frozen(items: Sequence[Item], out: str, shard: int) -> Plan:
    """Return the plan of inputs in a folder that is made for it."""
    from chronocam.media import Preprocess
    from chronocam.runs.dataset.place import Place
    from chronocam.runs.dataset.plan import Settings, freeze

    recipe = Preprocess(None, None, (0.5,) * 3, (0.5,) * 3)
    return freeze(Place(out), items, Settings(model="fake", shard=shard), "", recipe, resume=True)


def worker_of(plan: Plan, job: MapJob) -> Worker:
    """Return what writes the parts of a plan."""
    from chronocam.runs.dataset.work import Worker

    return Worker(plan, job, batch_size=16)


def forward_alone(plan: Plan, job: MapJob) -> Callable[[int], None]:
    """Return what decodes a shard as a run does, and passes it through the model."""
    import torch

    worker, model = worker_of(plan, job), job.loaded.model

    def forward(_rows: Any, _first: int, batch: Sequence[Any]) -> None:
        with torch.inference_mode():
            model(torch.from_numpy(np.stack([one.value for one in batch])))

    vars(worker)["_explain"] = forward
    return lambda shard: (worker._rows(shard), None)[1]


def faked(count: int, shard: int, network: bool = False) -> tuple[Plan, MapJob]:
    """Return a plan of inputs that exist nowhere, and a job that makes them up.

    network: whether a network explains smooth noise; else every batch has the same explanation.
    """
    import chronocam as cc
    from chronocam.runs.dataset.inputs.base import Item
    from chronocam.runs.dataset.plan import Settings
    from chronocam.runs.plan import map_job

    names = [f"/data/photos/{k // 1000:03d}/IMG_{k:07d}.jpg" for k in range(count)]
    plan = frozen([Item(name, "file", name) for name in names], f"faked-{count}-{network}", shard)
    job: Any = map_job(cc.models.load("python:nets:grid", trust=True), False, Settings(model="").options())
    same = np.zeros((3, 56, 56), np.float32)

    def noise(path: Path) -> np.ndarray:
        draw = np.random.default_rng(int(path.stem[4:]))
        return draw.standard_normal((3, 14, 14), np.float32).repeat(4, 1).repeat(4, 2)

    vars(job)["read"] = noise if network else lambda path: same
    vars(job)["preprocess"] = AsItIs()
    if not network:
        known: dict[int, Any] = {}
        explain = job.explain
        vars(job)["explain"] = lambda batch: (
            known.get(len(batch)) or known.setdefault(len(batch), explain(batch))
        )
    return plan, job


class AsItIs:
    """Prepares nothing."""

    assumption = None

    def __call__(self, array: np.ndarray) -> np.ndarray:
        return array


@click.command()
@click.argument("measure", type=click.Choice(list(MEASURES)), required=False)
def main(measure: str | None) -> None:
    if measure is None:
        for name in MEASURES:
            subprocess.run([sys.executable, "-m", "benchmarks.runs", name], check=False)
        return
    with TemporaryDirectory(prefix="chronocam-benchmark-") as folder:
        os.chdir(folder)
        sys.path.insert(0, folder)
        Path("nets.py").write_text(NETS)
        print(f"{measure}: {MEASURES[measure]()}")
        os.chdir("/")


if __name__ == "__main__":
    main()
