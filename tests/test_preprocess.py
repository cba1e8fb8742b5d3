from dataclasses import replace

import numpy as np
import pytest
import timm.data
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from chronocam.errors import MediaError
from chronocam.media.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, imagenet
from chronocam.models.sources.timm import translate
from chronocam.models.specs import Request

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
def test_equals_torchvision(size: tuple[int, int], interpolation: str, resize: int, crop: int) -> None:
    theirs = ImageClassification(crop_size=crop, resize_size=resize, interpolation=InterpolationMode(interpolation))
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
def test_equals_timm(size: tuple[int, int], crop_pct: float, mode: str, input_size: tuple[int, int, int]) -> None:
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
    ours = translate(config, Request("timm:x", ("x",)))(image)
    np.testing.assert_allclose(ours, theirs(image).numpy(), rtol=0, atol=1e-6)


def test_numbers_by_hand() -> None:
    image = Image.new("RGB", (1, 1), (255, 0, 51))
    plain = Preprocess(None, None, (0.5, 0.0, 0.1), (0.5, 1.0, 0.1))
    assert plain(image).ravel().tolist() == pytest.approx([1, 0, 1])
    assert replace(plain, order="bgr")(image).ravel().tolist() == pytest.approx([-0.6, 0, 9])
    assert replace(plain, scale=1.0, mean=(5.0, 0.0, 1.0))(image).ravel().tolist() == pytest.approx([500, 0, 500])


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
