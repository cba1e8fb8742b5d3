"""Clips drawn: one scale, true times, looped frames once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chronocam.errors import InputError, MediaError
from chronocam.explanation import Explanation
from chronocam.maps.frames import frame_importance, frame_spans, merge_copies
from chronocam.media import Clip, read_clip
from chronocam.render import overlay, overlay_clip
from chronocam.render.clips import pace, to_clips
from chronocam.render.sheets.clip import Evidence, Times, clip_sheet
from chronocam.render.video import side_by_side
from chronocam.types import TargetInfo


def clip(indices: list[int], rate: float | None = 10.0, size: tuple[int, int] = (12, 16)) -> Clip:
    numbers = np.array(indices)
    pixels = np.broadcast_to(
        (numbers * 20 + 40).astype(np.uint8)[:, None, None, None], (len(numbers), *size, 3)
    ).copy()
    return Clip(pixels, numbers / (rate or 1.0), rate, numbers, Path("clip.mp4"))


def explanation(maps: np.ndarray, input_size: tuple[int, int, int], **more: object) -> Explanation:
    batch, targets = maps.shape[:2]
    infos = tuple(tuple(TargetInfo(f"class {k}", k) for k in range(targets)) for _ in range(batch))
    return Explanation(
        maps.astype(np.float32),
        np.full((batch, targets), 1.5, np.float32),
        infos,
        "gradcam",
        "layer4",
        input_size,
        **more,
    )


# Curves


def test_frame_importance_by_hand() -> None:
    maps = np.zeros((1, 3, 2, 2, 2), np.float32)
    maps[0, 0, 0], maps[0, 0, 1, 0, 0], maps[0, 0, 1, 1, 1] = (
        1,
        12,
        -7,
    )  # 4 and 12; the negative does not count
    maps[0, 1] = -1
    maps[0, 2, 1] = 5
    np.testing.assert_allclose(frame_importance(maps)[0], [[0.25, 0.75], [0, 0], [0, 1]])
    np.testing.assert_allclose(
        explanation(maps, (8, 4, 4)).frame_importance()[0], [[0.25, 0.75], [0, 0], [0, 1]]
    )
    with pytest.raises(InputError, match="have no time"):
        Explanation(
            maps[:, :, 0], np.zeros((1, 3)), ((TargetInfo("a"),) * 3,), "m", "l", (4, 4)
        ).frame_importance()


def test_copies_are_averaged() -> None:
    maps = np.arange(5, dtype=np.float32).reshape(1, 5, 1, 1)
    merged = merge_copies(maps, clip([7, 8, 7, 8, 7]).first)
    np.testing.assert_allclose(merged[0, :, 0, 0], [(0 + 2 + 4) / 3, (1 + 3) / 2])
    np.testing.assert_array_equal(merge_copies(maps, np.arange(5)), maps)


def test_frame_spans_touch_every_frame() -> None:
    assert frame_spans(2, 16) == ((0, 7), (8, 15))
    assert frame_spans(2, 5) == ((0, 2), (2, 4))
    assert frame_spans(4, 2) == ((0, 0), (0, 0), (1, 1), (1, 1))


# Overlays


def test_overlay_is_that_of_each_frame_with_the_upsampled_map() -> None:
    maps = np.random.default_rng(0).integers(0, 4, (1, 2, 2, 3, 3))
    maps[0, 0] = np.minimum(maps[0, 0], 2)  # one scale for both targets: this one reaches two thirds of it
    one, source = explanation(maps, (4, 12, 16)), clip([0, 1, 2, 3])
    drawn = one.overlay([source])[0]
    fine = one.upsample()[0] / 3
    for target in range(2):
        assert drawn[target].shape == (4, 12, 16, 3)
        for k in range(4):
            expected = overlay(source.pixels[k], fine[target, k])
            assert np.abs(drawn[target][k].astype(int) - expected).max() <= 2


def test_overlay_shares_the_scale_over_time() -> None:
    """A slice with a tenth of the evidence must not look like the one with all of it, unless asked to."""
    maps = np.ones((1, 1, 2, 2, 2))
    maps[0, 0, 0] = 0.1
    one, black = explanation(maps, (2, 4, 4)), np.zeros((1, 2, 4, 4, 3), np.uint8)
    dim, bright = (frame.mean() for frame in one.overlay(black)[0][0])
    assert bright > 20 * dim
    dim, bright = (frame.mean() for frame in one.overlay(black, scope="frame")[0][0])
    assert bright == dim


def test_looped_frames_are_drawn_once_with_the_mean_map() -> None:
    maps = np.zeros((1, 1, 4, 1, 1))
    maps[0, 0, :, 0, 0] = [1.0, 0.2, 0.5, 0.4]
    looped = clip([3, 4, 3, 4], size=(2, 2))
    (drawn,) = explanation(maps, (4, 2, 2)).overlay([looped])[0]
    assert len(drawn) == 2
    bound = np.quantile(maps.astype(np.float32), 0.995)
    for k, value in enumerate(((1.0 / bound).clip(0, 1) / 2 + 0.25 / bound, 0.3 / bound)):
        expected = overlay(looped.pixels[k], np.full((2, 2), value, np.float32))
        assert np.abs(drawn[k].astype(int) - expected).max() <= 1


def test_one_negative_value_colours_the_whole_clip() -> None:
    values = np.full((2, 2, 2), 0.5, np.float32)
    values[1, 0, 0] = -0.5
    grey = clip([0, 1], size=(2, 2))
    red, mixed = overlay_clip(grey, values, alpha=1.0)
    assert (
        red[..., 0].astype(int) > red[..., 2] + 30
    ).all()  # not inferno, though this frame has no negative value
    assert mixed[0, 0, 2] > mixed[0, 0, 0] + 30


def test_clips_of_every_kind_of_batch() -> None:
    ramp = np.arange(4 * 5 * 6 * 3, dtype=np.uint8).reshape(4, 5, 6, 3)
    batches = [ramp], ramp[None], ramp[None].transpose(0, 1, 4, 2, 3), ramp[None].transpose(0, 4, 1, 2, 3)
    for batch in (*batches, ramp[None].transpose(0, 4, 1, 2, 3) / np.float32(255)):
        (one,) = to_clips(batch, 4)
        np.testing.assert_array_equal(one.pixels, ramp)
        assert one.rate is None
    stacked = ramp.transpose(1, 2, 0, 3).reshape(1, 5, 6, 12)
    for pictures in (ramp, ramp.transpose(0, 3, 1, 2), stacked, stacked.transpose(0, 3, 1, 2)):
        (one,) = to_clips(pictures, 4)  # frames as rows, and stacked in the channels
        np.testing.assert_array_equal(one.pixels, ramp)
    stretched = to_clips(ramp[None] * np.float32(3) - 100, 4)[0].pixels
    assert (stretched.min(), stretched.max()) == (0, 255)  # by one range for all frames
    assert stretched[0].max() < 255
    three = np.arange(3 * 3 * 5 * 6, dtype=np.uint8).reshape(3, 3, 5, 6)  # time first where both fit
    np.testing.assert_array_equal(to_clips(three[None], 3)[0].pixels, three.transpose(0, 2, 3, 1))
    with pytest.raises(InputError, match="a list of clips"):
        to_clips(clip([0, 1]), 2)
    with pytest.raises(InputError, match="a clip has 3 frames; the maps are of 4"):
        to_clips([clip([0, 1, 2])], 4)
    with pytest.raises(InputError, match=r"a clip has shape \(4, 5, 6, 2\)"):
        to_clips(np.zeros((1, 4, 5, 6, 2)), 4)
    with pytest.raises(InputError, match=r"a clip has shape \(7, 5, 6\)"):
        to_clips(np.zeros((1, 7, 5, 6)), 4)
    with pytest.raises(InputError, match="got 2 clips for 1 samples"):
        explanation(np.ones((1, 1, 2, 2, 2)), (2, 4, 4)).overlay(np.zeros((2, 2, 4, 4, 3), np.uint8))


# Times


def test_pace_is_the_clips_own() -> None:
    assert pace(clip([0, 5, 10, 15], rate=10.0)) == pytest.approx(2)  # every half second
    assert pace(clip([3, 4, 3, 4], rate=25.0)) == pytest.approx(25)
    assert pace(clip([0, 1], rate=None)) == 8
    assert pace(clip([4, 4])) == 8


def test_slices_last_as_long_as_their_frames() -> None:
    spread = Times(clip([0, 5, 10, 15], rate=10.0))
    assert spread.interval(0, 1) == pytest.approx((0, 1))
    assert spread.interval(2, 3) == pytest.approx((1, 2))
    assert spread.labels(np.array([1])) == ["0.50 s"]
    copied = Times(clip([0, 0, 1, 1], rate=10.0))
    assert copied.interval(0, 1) == pytest.approx((0, 0.1))
    assert copied.interval(1, 2) == pytest.approx((0, 0.2))
    looped = Times(clip([3, 4, 3, 4]))  # the source runs twice: no time axis, but frames
    assert (looped.word, looped.interval(1, 2)) == ("frame", (0, 2))
    assert Times(clip([0, 1], rate=None)).labels(np.array([1])) == ["frame 1"]
    assert Times(clip([6, 6])).interval(0, 1) == pytest.approx((0.6, 0.7))


# Sheets and videos


def test_sheet_steps_over_the_spans() -> None:
    source = clip(list(range(0, 40, 4)), rate=10.0)
    shares = np.array([0.2, 0.8])
    maps = [Evidence(f"$wave$ {k}", source.pixels, shares, ((0, 3), (4, 9))) for k in range(2)]
    figure = clip_sheet([(source, maps)], "a $heading")
    images = [axis for axis in figure.axes if axis.images]
    assert len(images) == 3 * 8  # the frames and two maps, eight of ten frames
    (curve,) = (axis for axis in figure.axes if not axis.images)
    assert [line.get_xdata()[[0, -1]].tolist() for line in curve.lines[:2]] == [[0, 1.6], [1.6, 4.0]]
    assert [max(line.get_ydata()) for line in curve.lines] == pytest.approx([0.2, 0.8] * 2)
    assert curve.get_xlabel() == "seconds"
    assert {"$wave$ 0", "a $heading", "3.60 s"} <= {text.get_text() for text in figure.texts}
    bare = clip_sheet([(source, maps)], plain=False)
    assert len([axis for axis in bare.axes if axis.images]) == 2 * 8


def test_plot_has_a_block_per_sample_and_uses_given_spans() -> None:
    maps = np.random.default_rng(0).random((2, 1, 2, 3, 3))
    given = explanation(maps, (4, 8, 8), frame_spans=((0, 0), (1, 3)))
    figure = given.plot(np.zeros((2, 4, 8, 8, 3), np.uint8))
    curves = [axis for axis in figure.axes if not axis.images]
    assert len(curves) == 2
    assert [line.get_xdata()[[0, -1]].tolist() for line in curves[0].lines] == [[0, 1], [1, 4]]
    even = explanation(maps, (4, 8, 8)).plot()
    assert [line.get_xdata()[[0, -1]].tolist() for line in even.axes[-1].lines] == [[0, 2], [2, 4]]


def test_clips_are_saved_in_every_form(tmp_path: Path) -> None:
    source = clip([0, 5, 10, 15], rate=10.0, size=(32, 48))
    maps = np.random.default_rng(0).random((1, 2, 2, 3, 3))
    one, two = explanation(maps[:, :1], (4, 32, 48)), explanation(maps, (4, 32, 48))
    for suffix in (".mp4", ".gif", ".webp"):
        back = read_clip(one.save(tmp_path / f"one{suffix}", [source]), 4)
        assert back.pixels.shape == (4, 32, 48, 3)
        assert back.seconds == pytest.approx([0, 0.5, 1, 1.5], abs=0.02)
        assert np.abs(back.pixels - one.overlay([source])[0][0].astype(float)).mean() < 12
    wide = read_clip(two.save(tmp_path / "two.mp4", [source]), 4)
    assert wide.pixels.shape[2] >= 2 * 48
    assert Image.open(two.save(tmp_path / "sheet.png", [source])).width > 400
    with pytest.raises(InputError, match="a video shows one clip; this explanation holds 2"):
        explanation(maps.repeat(2, 0), (4, 32, 48)).save(tmp_path / "x.mp4", [source, source])
    with pytest.raises(MediaError, match=r"expected \.npz or one of \.html, \.mp4, \.gif"):
        two.save(tmp_path / "x.avi", [source])
    image = Explanation(
        np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1)), ((TargetInfo("a"),),), "m", "l", (4, 4)
    )
    with pytest.raises(MediaError, match=r"cannot save as `x\.mp4`"):
        image.save(tmp_path / "x.mp4", [np.zeros((4, 4, 3), np.uint8)])


def test_side_by_side_shows_names_and_the_moment() -> None:
    source = clip([0, 1, 2, 3], size=(90, 200))
    shares = np.array([0.0, 1.0])
    maps = [Evidence(name, source.pixels, shares, ((0, 1), (2, 3))) for name in ("wave", "clap " * 40)]
    frames = list(side_by_side(source, maps))
    assert len(frames) == 4
    band = (frames[0].shape[0] - 90) // 2
    assert frames[0].shape == (90 + 2 * band, 2 * 200 + 6, 3)
    for k, frame in enumerate(frames):
        np.testing.assert_array_equal(frame[band:-band, :200], source.pixels[k])
        assert frame[:band, :200].max() > 200  # the name
        line = frame[-band + 2 :, :200].astype(int)
        heads = np.flatnonzero((line > 240).all(axis=(0, 2)))
        assert abs(heads.mean() - (k + 0.5) / 4 * 199) < 3
        bar = (line[-6] == [245, 166, 35]).all(axis=-1)
        assert not bar[:95].any()
        assert bar[105:195].mean() > 0.9


def test_a_clip_may_be_the_list_of_its_frames() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (4, 5, 6, 3), np.uint8)
    for frames in ([Image.fromarray(one) for one in pixels], list(pixels), tuple(pixels)):
        (one,) = to_clips([frames], 4)
        np.testing.assert_array_equal(one.pixels, pixels)
    with pytest.raises(InputError, match="a clip has 3 frames"):
        to_clips([list(pixels[:3])], 4)
    with pytest.raises(InputError, match="a clip is one Image; expected its frames"):
        to_clips([Image.fromarray(pixels[0])], 4)
    with pytest.raises(InputError, match="an image is a list; expected a PIL image or an array"):
        to_clips([[[1]]], 1)
