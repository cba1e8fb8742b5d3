"""Seeded splits in which clips cut from one video stay together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np


class LabelledFile(NamedTuple):
    """A clip's file and the name of its class."""

    path: Path
    label: str


SPLITS: Final = ("train", "validation", "test")

HELD_OUT: Final = 0.15
"""Share of each class that is tested on, and then of the rest that is validated on."""

_UCF: Final = re.compile(r"v_\w+_g\d+(?=_c\d+$)")
_HMDB: Final = re.compile(r".+(?=_[a-z]_[cn]m_np\d+_\w\w_\w+_\d+$)")


def divide(
    clips: Sequence[LabelledFile], share: float, seed: int
) -> tuple[list[LabelledFile], list[LabelledFile]]:
    """Return the clips to train on and those to hold out; clips of one video stay together.

    At least one is held out where a class has two sources.
    """
    rng = np.random.default_rng(seed)
    train: list[LabelledFile] = []
    held_out: list[LabelledFile] = []
    for members in _grouped(clips, lambda clip: clip.label):
        sources = _grouped(members, lambda clip: source(clip.path.stem))
        quota = max(1, round(share * len(members))) if len(sources) > 1 else 0
        taken = 0
        # Whole videos are held out until the quota is reached: clips of one video look so alike that a
        # network that has seen one knows the others. The last video of a class is left for training.
        for place in rng.permutation(len(sources)):
            fits = taken < quota and taken + len(sources[place]) < len(members)
            (held_out if fits else train).extend(sources[place])
            taken += len(sources[place]) * fits
    return sorted(train), sorted(held_out)


def source(stem: str) -> str:
    """Return the video that a clip was cut from, as UCF101 and HMDB51 name it, or the clip's own name."""
    match = _UCF.match(stem) or _HMDB.match(stem)
    return match.group() if match else stem


def limits(train: int | None, held_out: int | None) -> dict[str, int | None]:
    """Return the most samples of every split; half as many validate as are held out to test. None is all."""
    half = None if held_out is None else held_out // 2
    return dict(zip(SPLITS, (train, half, held_out), strict=True))


def thin(count: int, limit: int | None, seed: int) -> list[int]:
    """Return the places of at most `limit` of `count` clips, chosen by the seed, in order."""
    if limit is None or count <= limit:
        return list(range(count))
    return sorted(np.random.default_rng(seed).permutation(count)[:limit].tolist())


def _grouped(clips: Iterable[LabelledFile], key: Callable[[LabelledFile], str]) -> list[list[LabelledFile]]:
    groups: defaultdict[str, list[LabelledFile]] = defaultdict(list)
    for clip in clips:
        groups[key(clip)].append(clip)
    return [groups[name] for name in sorted(groups)]
