"""Which frames are sampled."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clip_files import HEIGHT, UNEVEN, WIDTH, encode, numbers

from chronocam.media.clips.read import read_clip
from chronocam.media.clips.sample import SAMPLINGS, Sampler, Timeline, fit

av = pytest.importorskip("av")


# Which frames


def test_there_are_b_frames(plain: Path) -> None:
    with av.open(str(plain)) as container:
        pts = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert pts != sorted(pts), "the other tests would prove less"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"frames": 4}, [0, 19, 39, 59]),
        ({"frames": 1}, [0]),
        ({"frames": 60}, list(range(60))),
        ({"frames": 4, "sampling": "midpoint"}, [7, 22, 37, 52]),
        ({"frames": 1, "sampling": "midpoint"}, [30]),
        ({"frames": 5, "sampling": "contiguous"}, [0, 1, 2, 3, 4]),
        ({"frames": 5, "sampling": "contiguous", "fps": 5}, [0, 5, 10, 15, 20]),
        ({"frames": 4, "sampling": "contiguous", "fps": 50}, [0, 0, 1, 1]),
        ({"frames": 3, "fps": 5}, [0, 25, 55]),  # ticks 0 to 11: 0, 5, 11
        ({"frames": 2, "sampling": "midpoint", "fps": 5}, [15, 45]),  # ticks 3 and 9
        ({"frames": 3, "start": 0.4}, [10, 34, 59]),
        ({"frames": 3, "end": 0.4}, [0, 4, 9]),
        ({"frames": 3, "start": 0.41, "end": 0.81}, [10, 15, 20]),  # what is on the screen at 0.41 counts
        ({"frames": 2, "sampling": "midpoint", "start": 0.4, "end": 0.8}, [12, 17]),
        ({"frames": 3, "sampling": "contiguous", "start": 2.0}, [50, 51, 52]),
        ({"frames": 3, "sampling": "contiguous", "start": 1.0, "fps": 2.5}, [25, 35, 45]),
        ({"frames": 2, "end": 99}, [0, 59]),
        ({"frames": 2, "sampling": "midpoint", "end": 99}, [15, 45]),
        ({"frames": 1, "start": 0.997}, [24]),
        ({"frames": 2, "start": 1.0, "end": 1.0 + 1e-9}, [25, 25]),
    ],
)
def test_samples_of_a_clip_with_a_constant_rate(
    plain: Path, arguments: dict[str, Any], expected: list[int]
) -> None:
    clip = read_clip(plain, **arguments)
    assert numbers(clip) == expected
    assert clip.indices.tolist() == expected
    np.testing.assert_allclose(clip.seconds, np.array(expected) / 25, atol=1e-6)
    assert (clip.rate, clip.path) == (25.0, plain)
    assert clip.pixels.shape == (len(expected), HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"frames": 5}, [0, 2, 4, 4, 7]),  # at 0, 610, 1220, 1830 and 2440 ms
        ({"frames": 2, "sampling": "midpoint", "end": 2.0}, [2, 4]),  # 500, 1500 ms
        ({"frames": 4, "sampling": "contiguous"}, [0, 1, 2, 3]),
        ({"frames": 5, "sampling": "contiguous", "fps": 2}, [0, 2, 3, 4, 5]),
        ({"frames": 2, "sampling": "contiguous", "start": 0.5}, [2, 3]),
        ({"frames": 2, "start": 1.0, "end": 2.4}, [3, 5]),
        ({"frames": 3, "start": 1.2, "end": 1.9}, [4, 4, 4]),  # one frame is on the screen all the time
    ],
)
def test_samples_of_a_clip_with_uneven_times(
    uneven: Path, arguments: dict[str, Any], expected: list[int]
) -> None:
    clip = read_clip(uneven, **arguments)
    assert numbers(clip) == expected
    assert clip.indices.tolist() == expected
    np.testing.assert_allclose(clip.seconds, np.array(UNEVEN)[expected] / 1000, atol=1e-4)


def test_rate_of_uneven_frames_is_their_average(uneven: Path) -> None:
    assert read_clip(uneven, 1).rate == pytest.approx(7 / 2.44, rel=0.01)


def shown(times: np.ndarray, moment: float, slack: float) -> int:
    """The obvious way: look at every frame."""
    found = 0
    for number, time in enumerate(times):
        if time <= moment + slack:
            found = number
    return found


@pytest.mark.parametrize("seed", range(20))
def test_samplings_equal_a_slow_replica(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.concatenate([[0.0], np.cumsum(rng.uniform(0.02, 0.4, 40))])
    line = Timeline(times, float(times[-1]) + 0.1, 5.0, 1e-6, len(times))
    begin, stop = sorted(rng.uniform(0, times[-1], 2).tolist())
    count = int(rng.integers(2, 30))
    first, slack = shown(times, begin, line.slack), line.slack
    span = [n for n in range(first, len(times)) if n == first or times[n] < stop - slack]
    ticks = [begin + k / 7 for k in range(1000) if k == 0 or begin + k / 7 < stop - slack]

    def choose(sampling: str, fps: float | None = None) -> list[int]:
        return Sampler(count, sampling, fps, begin, stop).choose(line).tolist()

    apart = (times[span[-1]] - times[first]) / (count - 1)
    assert choose("uniform") == [shown(times, times[first] + k * apart, slack) for k in range(count)]
    part = (stop - begin) / count
    assert choose("midpoint") == [
        min(shown(times, begin + (k + 0.5) * part, slack), span[-1]) for k in range(count)
    ]
    assert choose("contiguous") == [span[k % len(span)] for k in range(count)]
    at_ticks = [shown(times, tick, slack) for tick in ticks]
    assert choose("contiguous", 7.0) == [at_ticks[k % len(ticks)] for k in range(count)]


@pytest.mark.parametrize("rate", [24, 25, 30, 60])
@pytest.mark.parametrize("fraction", [Fraction(1), Fraction(1000, 1001)])
def test_times_rounded_to_milliseconds_lose_no_frame(rate: int, fraction: Fraction) -> None:
    exact = rate * fraction
    times = np.array([round(1000 * n / exact) / 1000 for n in range(200)])
    line = Timeline(times, float(times[-1] + 1 / exact), float(exact), 0.001, 200)
    for sampling in SAMPLINGS:
        assert Sampler(200, sampling).choose(line).tolist() == list(range(200))
        assert Sampler(200, sampling, float(exact)).choose(line).tolist() == list(range(200))
    for count in range(1, 200):
        assert max(Sampler(200, "contiguous", end=float(count / exact)).choose(line)) == count - 1


def test_a_slideshow_shows_a_picture_until_the_next(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", 3, pts=[0, 5000, 10000], tick=Fraction(1, 1000))
    clip = read_clip(path, 3, "contiguous", fps=0.25)
    assert clip.indices.tolist() == [0, 0, 1]  # at 0, 4 and 8 s


# Loops


def test_a_short_clip_loops(tmp_path: Path) -> None:
    clip = read_clip(encode(tmp_path / "a.mp4", 3), 8, "contiguous")
    assert numbers(clip) == [0, 1, 2, 0, 1, 2, 0, 1]
    np.testing.assert_allclose(clip.seconds, np.array([0, 1, 2, 0, 1, 2, 0, 1]) / 25, atol=1e-6)
    assert clip.duplicates.tolist() == [False] * 3 + [True] * 5
    assert clip.unique.tolist() == [0, 1, 2]
    assert clip.first.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert len(clip) == 8


def test_places_of_duplicates_are_places_in_the_clip(tmp_path: Path) -> None:
    clip = read_clip(encode(tmp_path / "a.mp4", 40), 5, start=1.4, sampling="contiguous", fps=50)
    assert clip.indices.tolist() == [35, 35, 36, 36, 37]
    assert clip.unique.tolist() == [0, 2, 4]
    assert clip.first.tolist() == [0, 0, 2, 2, 4]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_clip_of_one_frame_gives_that_frame(tmp_path: Path, sampling: str) -> None:
    clip = read_clip(encode(tmp_path / "a.mp4", 1), 3, sampling)
    assert numbers(clip) == [0, 0, 0]
    assert clip.seconds.tolist() == [0, 0, 0]
    assert clip.unique.tolist() == [0]


def test_enough_frames_have_no_duplicates(plain: Path) -> None:
    clip = read_clip(plain, 60)
    assert not clip.duplicates.any()
    assert clip.unique.tolist() == list(range(60))


def test_the_longer_side_of_a_picture_is_rounded_down() -> None:
    assert fit(100, 3, 5) == (100, 166)  # of 166.7
    assert fit(100, 5, 3) == (166, 100)
