from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm.data
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification, VideoClassification

from chronocam.errors import MediaError
from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, imagenet, placed
from chronocam.models.sources.timm import translate
from chronocam.models.specs import ModelRequest

SIZES = [(1, 1), (7, 5), (31, 64), (33, 64), (97, 41), (224, 224), (255, 256), (301, 227)]


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def ramp(width: int, height: int) -> Image.Image:
    """Red tells the column, green the row, blue that it is picture at all."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 255)], axis=-1).astype(np.uint8))


# The same numbers as the networks were trained on


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize(("resize", "crop"), [(37, 32), (36, 33), (32, 32), (24, 33), (24, 32)])
def test_preprocessing_equals_torchvision(
    size: tuple[int, int], interpolation: str, resize: int, crop: int
) -> None:
    theirs = ImageClassification(
        crop_size=crop, resize_size=resize, interpolation=InterpolationMode(interpolation)
    )
    ours = Preprocess(resize, (crop, crop), IMAGENET_MEAN, IMAGENET_STD, interpolation)
    image = noise(*size)
    result = ours(image)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, theirs(image).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("crop_pct", [0.875, 0.95, 1.0])
@pytest.mark.parametrize(
    ("mode", "input_size"), [("center", (3, 33, 33)), ("squash", (3, 33, 33)), ("squash", (3, 40, 28))]
)
def test_preprocessing_equals_timm(
    size: tuple[int, int], crop_pct: float, mode: str, input_size: tuple[int, int, int]
) -> None:
    config = {
        "input_size": input_size,
        "interpolation": "bicubic",
        "mean": IMAGENET_MEAN,
        "std": (0.5, 0.25, 0.2),
        "crop_pct": crop_pct,
        "crop_mode": mode,
    }
    theirs = timm.data.create_transform(**config, is_training=False)
    image = noise(*size)
    ours = translate(config, ModelRequest("timm:x", ("x",)))(image)
    np.testing.assert_allclose(ours, theirs(image).numpy(), rtol=0, atol=1e-6)


def test_numbers_by_hand() -> None:
    image = Image.new("RGB", (1, 1), (255, 0, 51))
    plain = Preprocess(None, None, (0.5, 0.0, 0.1), (0.5, 1.0, 0.1))
    assert plain(image).ravel().tolist() == pytest.approx([1, 0, 1])
    assert replace(plain, order="bgr")(image).ravel().tolist() == pytest.approx([-0.6, 0, 9])
    assert replace(plain, scale=1.0, mean=(5.0, 0.0, 1.0))(image).ravel().tolist() == pytest.approx(
        [500, 0, 500]
    )


def test_one_channel_is_grey() -> None:
    image = noise(9, 8)
    result = Preprocess(None, None, (0.0,), (1.0,))(image)
    assert result.shape == (1, 8, 9)
    np.testing.assert_allclose(result[0] * 255, np.asarray(image.convert("L")), atol=1e-4)


def test_channels_last_is_the_same_transposed() -> None:
    first = imagenet(32, 32)
    last = replace(first, channels="last")(noise(50, 40))
    assert last.flags.c_contiguous
    assert (last.transpose(2, 0, 1) == first(noise(50, 40))).all()


@pytest.mark.parametrize(
    "change",
    [
        {"resize": 40},
        {"resize": (36, 36)},
        {"resize": None},
        {"crop": (31, 32)},
        {"crop": None},
        {"mean": (0.0, 0.0, 0.0)},
        {"std": (1.0, 1.0, 1.0)},
        {"interpolation": "nearest"},
        {"scale": 1.0},
        {"channels": "last"},
        {"order": "bgr"},
        {"antialias": False},
    ],
)
def test_every_field_matters(change: dict[str, object]) -> None:
    before = Preprocess(36, (32, 32), IMAGENET_MEAN, IMAGENET_STD)
    image = noise(60, 50)
    old, new = before(image), replace(before, **change)(image)
    assert old.shape != new.shape or not np.allclose(old, new)


def test_the_view_is_what_is_normalised() -> None:
    preprocess = imagenet(32, 32)
    view = preprocess.view(noise(50, 70))
    assert view.size == (32, 32)
    expected = (np.asarray(view) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    np.testing.assert_allclose(preprocess(noise(50, 70)), expected.transpose(2, 0, 1), atol=1e-5)


def test_arrays_and_paths_are_taken_as_pictures_are(tmp_path: Path) -> None:
    preprocess, picture = imagenet(32, 32), noise(50, 70)
    picture.save(tmp_path / "a.png")
    for given in (np.asarray(picture), tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(preprocess(given), preprocess(picture))
    grey = np.asarray(picture.convert("L"))
    np.testing.assert_array_equal(preprocess(grey), preprocess(Image.fromarray(grey)))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (torch.zeros(3, 8, 8), r"array of torch\.float32 \(3, 8, 8\)"),
        (np.zeros((8, 8, 3), np.float32), "array of float32"),
        (np.zeros((3, 8, 8), np.uint8), r"uint8 \(3, 8, 8\)"),
        ([1, 2], "a list is not a picture"),
    ],
)
def test_what_is_no_picture_is_told_in_one_line(given: object, words: str) -> None:
    with pytest.raises(MediaError, match=f"{words}.*expected uint8.*PIL image"):
        imagenet(32, 32)(given)


def test_imagenet_recipe_follows_the_input() -> None:
    assert imagenet() == Preprocess(256, (224, 224), IMAGENET_MEAN, IMAGENET_STD)
    assert imagenet(32, 48)(noise(60, 50)).shape == (3, 32, 48)
    assert imagenet(28, 28, channels=1)(noise(60, 50)).shape == (1, 28, 28)


# The way back


@pytest.mark.parametrize("size", [(200, 150), (150, 201), (97, 240), (64, 64)])
@pytest.mark.parametrize("resize", [36, 150, (50, 80), None])
def test_region_and_box_against_a_ramp(size: tuple[int, int], resize: int | tuple[int, int] | None) -> None:
    """Each pixel of the ramp tells where it lies, so the view itself says which region it shows."""
    preprocess = Preprocess(resize, (32, 30), IMAGENET_MEAN, IMAGENET_STD)
    x0, y0, x1, y1 = preprocess.region(*size)
    seen = np.asarray(preprocess.view(ramp(*size))).astype(float)
    step_x, step_y = (x1 - x0) / 30, (y1 - y0) / 32
    columns = x0 + (np.arange(30) + 0.5) * step_x - 0.5
    rows = y0 + (np.arange(32) + 0.5) * step_y - 0.5
    np.testing.assert_allclose(seen[16, 2:-2, 0], columns[2:-2], atol=0.8)
    np.testing.assert_allclose(seen[2:-2, 15, 1], rows[2:-2], atol=0.8)
    assert preprocess.to_original((0, 0, 30, 32), size) == pytest.approx((x0, y0, x1, y1))
    inner = preprocess.to_original((10, 4, 12, 5), size)
    assert inner == pytest.approx((x0 + 10 * step_x, y0 + 4 * step_y, x0 + 12 * step_x, y0 + 5 * step_y))


def test_a_marker_comes_back_to_its_place() -> None:
    image = Image.new("RGB", (400, 300))
    image.paste((255, 255, 255), (120, 200, 152, 216))
    preprocess = Preprocess(150, (120, 120), IMAGENET_MEAN, IMAGENET_STD)
    rows, columns = np.nonzero(np.asarray(preprocess.view(image))[..., 0] > 127)
    box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert preprocess.to_original(tuple(map(int, box)), (400, 300)) == (120, 200, 152, 216)


def test_added_black_lies_outside_the_picture() -> None:
    preprocess = Preprocess(None, (10, 10), IMAGENET_MEAN, IMAGENET_STD)
    assert preprocess.region(4, 7) == (-3, -1, 7, 9)
    blue = np.asarray(preprocess.view(ramp(4, 7)))[..., 2]
    assert np.argwhere(blue).min(axis=0).tolist() == [1, 3]
    assert np.argwhere(blue).max(axis=0).tolist() == [7, 6]


def test_without_resize_and_crop_all_is_seen() -> None:
    assert Preprocess(None, None, IMAGENET_MEAN, IMAGENET_STD).region(31, 17) == (0, 0, 31, 17)


# Refusals


def test_channels_must_agree() -> None:
    with pytest.raises(MediaError, match="one value per channel"):
        Preprocess(None, None, (0.5, 0.5), (0.5, 0.5))
    with pytest.raises(MediaError, match="one value per channel"):
        Preprocess(None, None, IMAGENET_MEAN, (0.5,))


def test_unknown_interpolation_lists_known_ones() -> None:
    with pytest.raises(MediaError, match=r"unknown interpolation `cubic`.*bicubic"):
        Preprocess(None, None, IMAGENET_MEAN, IMAGENET_STD, "cubic")


def test_a_thread_of_pixels_is_not_blown_up() -> None:
    with pytest.raises(MediaError, match="1 x 10000 picture would be enlarged to 256 x 2560000"):
        imagenet()(Image.new("RGB", (1, 10000)))


# Clips


def frames(count: int, width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(60, 50), (171, 128), (200, 300), (33, 97), (640, 360)])
@pytest.mark.parametrize(
    ("resize", "crop"), [((128, 171), (112, 112)), ((64,), (56, 56)), ((40, 40), (48, 36))]
)
def test_clips_equal_torchvision_video(
    size: tuple[int, int], resize: tuple[int, ...], crop: tuple[int, int]
) -> None:
    """Equal but where a value lies halfway between two 8-bit ones and both round it differently."""
    theirs = VideoClassification(crop_size=crop, resize_size=resize, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    side = resize[0] if len(resize) == 1 else resize
    frame = Preprocess(side, crop, IMAGENET_MEAN, IMAGENET_STD, antialias=False)
    clip = frames(3, *size)
    expected = theirs(torch.from_numpy(clip).permute(0, 3, 1, 2)).numpy()
    ours = ClipPreprocess(frame, 3)(clip)
    assert ours.shape == expected.shape == (3, 3, *crop)
    assert ours.dtype == np.float32
    apart = np.abs(ours - expected)
    assert apart.max() < 1.01 / 255 / min(IMAGENET_STD)
    assert (apart > 1e-5).mean() < 1e-3
    smooth = ClipPreprocess(replace(frame, antialias=True), 3)(clip)
    shrinks = size in ((200, 300), (640, 360))
    assert not shrinks or (np.abs(smooth - expected) > 1e-5).mean() > 0.5


def test_neighbours_by_hand() -> None:
    """Of four columns, two are taken: each the mean of the two in its middle; of two rows, three."""
    image = Image.fromarray(np.array([[0, 100, 50, 200], [0, 100, 50, 200]], np.uint8))
    halved = Preprocess((2, 2), None, (0.0,), (1.0,), scale=1.0, antialias=False)(image)
    np.testing.assert_array_equal(halved[0], [[50, 125], [50, 125]])
    column = Image.fromarray(np.array([[0], [60]], np.uint8))
    grown = Preprocess((4, 1), None, (0.0,), (1.0,), scale=1.0, antialias=False)(column)
    np.testing.assert_array_equal(grown[0, :, 0], [0, 15, 45, 60])


def test_axes_of_a_clip() -> None:
    frame = imagenet(32, 32)
    clip = frames(4, 50, 40)
    time_first = ClipPreprocess(frame, 4, "time channel")(clip)
    assert time_first.shape == (4, 3, 32, 32)
    for k in range(4):
        np.testing.assert_array_equal(time_first[k], frame(Image.fromarray(clip[k])))
    channel_first = ClipPreprocess(frame, 4)(clip)
    assert channel_first.flags.c_contiguous
    np.testing.assert_array_equal(channel_first, time_first.transpose(1, 0, 2, 3))


def test_clips_are_seen_like_their_frames() -> None:
    frame = Preprocess(40, (32, 30), IMAGENET_MEAN, IMAGENET_STD)
    whole, clip = ClipPreprocess(frame, 2), frames(2, 60, 50)
    np.testing.assert_array_equal(whole.view(clip)[1], np.asarray(frame.view(Image.fromarray(clip[1]))))
    assert whole.region(60, 50) == frame.region(60, 50)
    assert whole.to_original((1, 2, 3, 4), (60, 50)) == frame.to_original((1, 2, 3, 4), (60, 50))
    grey = ClipPreprocess(Preprocess(None, None, (0.0,), (1.0,)), 2)
    assert grey(clip).shape == (1, 2, 50, 60)
    assert grey.view(clip).shape == (2, 50, 60, 3)


def test_clips_are_read_as_the_network_wants(tmp_path: Path) -> None:
    for k in range(9):
        Image.new("RGB", (8, 8), (20 * k, 0, 0)).save(tmp_path / f"{k}.png")
    preprocess = ClipPreprocess(Preprocess(None, None, (0.0,) * 3, (1.0,) * 3), 3)
    assert preprocess.read(tmp_path).indices.tolist() == [0, 4, 8]
    assert preprocess.read(tmp_path, start=2, end=5).indices.tolist() == [2, 3, 4]
    assert replace(preprocess, sampling="contiguous").read(tmp_path).indices.tolist() == [0, 1, 2]
    assert replace(preprocess, frames=2).read(tmp_path).indices.tolist() == [0, 8]
    clip = preprocess.read(tmp_path)
    np.testing.assert_array_equal(preprocess(clip), preprocess(clip.pixels))


def test_clips_of_another_kind_are_refused() -> None:
    preprocess = ClipPreprocess(imagenet(32, 32), 4)
    with pytest.raises(MediaError, match=r"a clip has 5 frames; expected 4.*frames=4"):
        preprocess(frames(5, 40, 40))
    with pytest.raises(
        MediaError, match=r"uint8 \(3, 4, 40, 40\); expected uint8 \(time, height, width, 3\)"
    ):
        preprocess(frames(4, 40, 40).transpose(3, 0, 1, 2))
    with pytest.raises(MediaError, match="float32"):
        preprocess(frames(4, 40, 40).astype(np.float32))
    with pytest.raises(MediaError, match="expected one of channel time, time channel"):
        ClipPreprocess(imagenet(), 4, "time")
    with pytest.raises(MediaError, match="at least 1"):
        ClipPreprocess(imagenet(), 0)
    with pytest.raises(MediaError, match=r"unknown sampling `uniformly`.*`uniform`"):
        ClipPreprocess(imagenet(), 4, sampling="uniformly")
    with pytest.raises(MediaError, match='channels="last"'):
        ClipPreprocess(replace(imagenet(), channels="last"), 4)
    with pytest.raises(MediaError, match="antialias=False with `bicubic`"):
        Preprocess(None, None, IMAGENET_MEAN, IMAGENET_STD, "bicubic", antialias=False)


# A view laid over the picture


@pytest.mark.parametrize(
    ("region", "rows", "columns"),
    [((1, 2, 4, 5), (2, 5), (1, 4)), ((-2, -1, 3, 3), (0, 3), (0, 3)), ((4, 3, 9, 8), (3, 6), (4, 7))],
)
def test_a_view_lies_where_it_was_taken_and_what_is_outside_is_left_out(region, rows, columns):
    left, top, right, bottom = region
    whole = np.zeros((2, 6, 7, 1), int)
    view = 1 + np.arange(2 * (bottom - top) * (right - left)).reshape(2, bottom - top, right - left, 1)
    laid = placed(whole, view, region)
    inside = (slice(*rows), slice(*columns))
    np.testing.assert_array_equal(
        laid[:, inside[0], inside[1]],
        view[:, rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left],
    )
    laid[:, inside[0], inside[1]] = 0
    assert not laid.any()
    assert not whole.any()


@pytest.mark.parametrize(
    "fields",
    [{"resize": "9"}, {"resize": (4, 0.5)}, {"crop": (0, 4)}, {"mean": ("a",)}, {"std": (float("nan"),)}],
)
def test_a_recipe_is_made_of_numbers(fields: dict[str, Any]) -> None:
    with pytest.raises(MediaError, match="expected whole numbers of pixels, and numbers"):
        Preprocess(**{"resize": 8, "crop": None, "mean": (0.5,), "std": (1.0,)} | fields)


def test_more_frames_than_can_be_held_are_refused_before_any_is_read():
    with pytest.raises(MediaError, match="100000 frames of 112 × 112"):
        ClipPreprocess(imagenet(112, 112), 100_000).read("none.mp4")
