"""Clips that many tests read."""

from fractions import Fraction
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames at 25 a second, B-frames, a keyframe every 12."""
    from clip_files import encode  # not on top: it skips where PyAV is missing

    return encode(tmp_path_factory.mktemp("clips") / "plain.mp4")


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames at uneven times, B-frames."""
    from clip_files import UNEVEN, encode

    path = tmp_path_factory.mktemp("clips") / "uneven.mp4"
    return encode(path, len(UNEVEN), pts=UNEVEN, tick=Fraction(1, 1000))
