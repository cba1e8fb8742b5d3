"""Streams joined byte by byte, whose clock starts again: no frame is lost."""

from pathlib import Path

import numpy as np
import pytest
from clip_files import encode, numbers

from chronocam.media.clips.read import read_clip


def joined(folder: Path, *counts: int) -> tuple[Path, list[int]]:
    """Return a stream of several, and the numbers that its frames show."""
    paths = [encode(folder / f"{n}.ts", count) for n, count in enumerate(counts)]
    path = folder / "joined.ts"
    path.write_bytes(b"".join(one.read_bytes() for one in paths))
    return path, [number for count in counts for number in range(count)]


@pytest.mark.parametrize("counts", [(20, 20), (12, 30), (30, 12), (10, 10, 10)])
def test_all_frames_of_all_parts_in_order(tmp_path: Path, counts: tuple[int, ...]) -> None:
    path, expected = joined(tmp_path, *counts)
    clip = read_clip(path, len(expected))
    assert clip.indices.tolist() == list(range(len(expected)))
    assert numbers(clip) == expected
    assert np.allclose(clip.seconds, np.arange(len(expected)) / 25, atol=1e-4)


def test_a_span_of_the_second_part(tmp_path: Path) -> None:
    path, expected = joined(tmp_path, 20, 20)
    clip = read_clip(path, 4, start=1.0, end=1.4)
    assert clip.seconds[0] == 1.0
    assert numbers(clip) == [expected[index] for index in clip.indices]
    assert clip.indices.min() == 25


def test_one_part_alone_is_read_as_before(tmp_path: Path) -> None:
    clip = read_clip(encode(tmp_path / "one.ts", 20), 20)
    assert numbers(clip) == list(range(20))
