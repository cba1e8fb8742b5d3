"""However the shards are shared out, the rows are the same, and what ends a worker costs no input."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

import chronocam as cc
from chronocam.runs.dataset.engines.local import dealt

# A worker that meets a file called `deadly` for the first time ends as one that is killed does.
NETS = """
import os, signal, sys, time
from pathlib import Path
import torch
from torch import nn
from chronocam.media import Preprocess

class Deadly(nn.Module):
    def forward(self, x):
        if Path(sys.argv[0]).name in ("helper.py", "default_worker.py"):
            time.sleep(float(os.environ.get("SLOW", 0)))
            if Path("deadly").exists():
                Path("deadly").unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return x

def deadly():
    torch.manual_seed(0)
    body = Deadly(), nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*body, nn.Linear(4, 3)), Preprocess((32, 32), None, (0.5,) * 3, (0.5,) * 3), None

def unseeded():
    net, recipe, _ = deadly()
    torch.seed()
    nn.init.normal_(net[-1].weight)
    return net, recipe, None
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for k in range(12):
        picture = np.random.default_rng(k).integers(0, 255, (40, 40, 3)).astype(np.uint8)
        cc.media.write_image(tmp_path / f"shots/{k:02}.png", picture)
    (tmp_path / "shots/05.png").write_bytes(b"no picture")
    (tmp_path / "worked.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def explained(out: str, spec: str = "python:worked:deadly", **options: Any) -> Any:
    return cc.runs.run("shots", spec, out, targets=[0, 2], shard=2, trust=True, **options).to_pandas()


def test_shards_are_dealt_so_that_workers_without_locks_meet_late() -> None:
    assert dealt([0, 1, 2, 3, 4], 0, 2) == [0, 2, 4, 3, 1]
    assert dealt([0, 1, 2, 3, 4], 1, 2) == [1, 3, 4, 2, 0]


@pytest.mark.slow
def test_processes_write_what_one_does_and_go_on_where_one_of_them_is_killed(place: Path) -> None:
    alone = explained("alone")
    (place / "deadly").touch()
    assert_frame_equal(explained("shared", workers=2, batch_size=16), alone)
    assert not (place / "deadly").exists()


@pytest.mark.slow
def test_what_a_process_cannot_do_is_said_by_the_run(place: Path) -> None:
    with pytest.raises(cc.errors.ChronocamError, match="each time `python:worked:unseeded` is loaded"):
        explained("out", "python:worked:unseeded", workers=2)


def test_an_engine_that_does_not_exist_and_an_address_without_a_cluster_are_refused(place: Path) -> None:
    with pytest.raises(cc.errors.InputError, match="no engine `rai`; did you mean `ray`"):
        explained("out", engine="rai")
    with pytest.raises(cc.errors.InputError, match="give engine ray too"):
        explained("out", address="127.0.0.1:6379")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


DRIVER = """
import sys
import chronocam as cc
how = {"shard": 2, "trust": True, "engine": "ray", "address": sys.argv[1]}
cc.runs.run("shots", "python:worked:deadly", "killed", [0, 2], **how)
"""


@pytest.mark.slow
def test_a_cluster_of_two_nodes_loses_and_repeats_nothing_where_a_worker_or_the_driver_is_killed(
    place: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = explained("alone")
    (place / "deadly").touch()
    assert_frame_equal(explained("cluster", engine="ray", address=cluster.address), alone)
    assert not (place / "deadly").exists()

    # The driver ends once some parts are there, and the run goes on from these.
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, cluster.address], cwd=place)
    parts: list[Path] = []
    while len(parts) < 2 and driver.poll() is None:
        time.sleep(0.05)
        parts = sorted((place / "killed").glob("part-*.parquet"))
    driver.kill()
    driver.wait()
    written = {part: part.stat().st_mtime_ns for part in parts}
    assert written
    assert_frame_equal(explained("killed", engine="ray", address=cluster.address), alone)
    assert written == {part: part.stat().st_mtime_ns for part in parts}


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_refused(place: Path) -> None:
    with pytest.raises(cc.errors.InputError, match=r"no cluster at `127\.0\.0\.1:1`"):
        explained("out", engine="ray", address="127.0.0.1:1")
