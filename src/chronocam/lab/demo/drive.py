"""The demo's drive: motion and depth from frames alone, and what each output looks at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chronocam.records import DriveResult
from chronocam.runs.options import Options
from chronocam.runs.plan import plan

_SPEC = "chronocam:odometry"
_FRAMES = 16


def drive(out: Path, seed: int) -> Iterator[str]:
    """Explain a rendered drive, write its page, and yield lines to print."""
    from chronocam.lab.data.drives import export

    path = export(out / "drive", 1, seed=seed, split="test", frames=_FRAMES) / "sequences" / "00"
    targets = ("tz", "ry", "loss", "depth")
    job = plan(_SPEC, False, [str(path)], Options(targets=targets, frames=_FRAMES, out=out))
    result = job.run(path, "drive-00")
    assert isinstance(result, DriveResult)
    assert result.depth is not None
    yield f"A rendered drive of {_FRAMES} frames, by {_SPEC}, which learnt without labels:"
    yield f"  depth                Abs Rel {result.depth.abs_rel:.3f}, each frame scaled to the true median"
    yield f"  sheet and videos:    {out / 'drive-00.*'}"
