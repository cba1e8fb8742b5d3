"""The demo's drive: motion and depth from frames alone, and what each output looks at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chronocam.lab.demo.results import titled
from chronocam.records import DriveResult
from chronocam.runs.options import Options
from chronocam.runs.plan import plan

_SPEC = "chronocam:odometry"
_FRAMES = 16


def drive(out: Path, seed: int) -> Iterator[str]:
    """Explain a rendered drive, write its page, and yield a sentence."""
    from chronocam.lab.data.drives import export

    path = export(out / "drive", 1, seed=seed, split="test", frames=_FRAMES) / "sequences" / "00"
    targets = ("tz", "ry", "loss", "depth")
    job = plan(_SPEC, False, [str(path)], Options(targets=targets, frames=_FRAMES, out=out))
    result = titled(job, path, "drive-00", "a drive between walls", DriveResult)
    assert result.depth is not None
    assert result.depth.abs_rel is not None
    yield (
        f"A drive of {_FRAMES} frames, by networks that learnt without labels: depth is off by "
        f"{100 * result.depth.abs_rel:.0f} % on average, each frame scaled to the true median."
    )
