"""The demo's sequence: a person who does one thing and then another, named at every step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from chronocam.lab.demo.gestures import RATE, clip_of
from chronocam.lab.demo.results import titled
from chronocam.records import ClipFeatureResult
from chronocam.runs.options import Options
from chronocam.runs.plan import plan

_SPEC = "chronocam:gestures-steps"


def steps(out: Path, seed: int) -> Iterator[str]:
    """Explain a rendered clip step by step through the LSTM, write its page, and yield a sentence."""
    from chronocam.media import write_clip

    pixels, labels = _rendered(seed)
    path = out / "steps.mp4"
    write_clip(path, clip_of(pixels, "").pixels, RATE)
    job = plan(_SPEC, False, [str(path)], Options(methods=("lrp",), frames=len(pixels), out=out))
    names = job.loaded.labels or ()
    half = len(pixels) // 2
    first, then = (names[label] for label in labels[:2])
    result = titled(job, path, "steps", f"one person: {first}, then {then}", ClipFeatureResult)
    (entry,) = result.sequences
    votes = [
        np.bincount((entry.votes or ())[part], minlength=len(names))
        for part in (slice(None, half), slice(half, None))
    ]
    said = ", then ".join(f"{names[int(v.argmax())]} at {v.max()} of {v.sum()}" for v in votes)
    yield f"One person, {first} for {half} frames, then {then}: an LSTM, asked at every step, says {said}."


def _rendered(seed: int) -> tuple[np.ndarray, list[int]]:
    """Return the frames of two clips with different gestures, end to end, and their labels."""
    from chronocam.lab.data.gestures import clips

    world: Any = clips(8, seed=seed)
    first, second = 0, next(i for i in range(1, 8) if world.labels[i, 0] != world.labels[0, 0])
    frames = np.concatenate([world.pixels[first], world.pixels[second]])
    return frames, [int(world.labels[i, 0]) for i in (first, second)]
