import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from chronocam.errors import MediaError
from chronocam.media import images
from chronocam.media.images import find_images, read_image, write_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def read_array(path: Path) -> np.ndarray:
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def one_line_error(path: Path, *words: str) -> None:
    with pytest.raises(MediaError) as caught:
        read_image(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), "expected", *words):
        assert word in message


# What a camera or an editor writes


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 1))
    image.putpixel((0, 0), RED)
    image.putpixel((1, 0), BLUE)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn a quarter clockwise
    pixels = read_array(saved(image, tmp_path / "a.png", exif=exif))
    assert pixels.tolist() == [[list(RED)], [list(BLUE)]]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    path = saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "a.jpg")
    assert np.abs(read_array(path).astype(int) - RED).max() < 4


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (257, 1), (32896, 128), (65535, 255)])
def test_16_bit_is_scaled(tmp_path: Path, value: int, expected: int) -> None:
    values = np.full((2, 3), value, np.uint16)
    for suffix in (".png", ".tif"):
        path = saved(Image.fromarray(values), tmp_path / f"a{suffix}")
        assert Image.open(path).mode.startswith("I;16")
        assert (read_array(path) == expected).all()


def test_32_bit_of_16_bit_values_is_scaled(tmp_path: Path) -> None:
    path = saved(Image.fromarray(np.array([[0, 257, 65535]], np.int32)), tmp_path / "a.tif")
    assert Image.open(path).mode == "I"
    assert read_array(path)[0, :, 0].tolist() == [0, 1, 255]


def test_32_bit_beyond_16_bit_ends_at_its_peak(tmp_path: Path) -> None:
    path = saved(Image.fromarray(np.array([[-5, 500_000, 1_000_000]], np.int32)), tmp_path / "a.tif")
    assert read_array(path)[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0, 1e6])
def test_float_grey_finds_its_scale(tmp_path: Path, white: float) -> None:
    values = np.array([[0, 0.2, 1, np.nan]], np.float32) * np.float32(white)
    path = saved(Image.fromarray(values), tmp_path / "a.tif")
    assert read_array(path)[0, :, 0].tolist() == [0, 51, 255, 0]


def test_all_black_16_bit(tmp_path: Path) -> None:
    assert not read_array(saved(Image.fromarray(np.zeros((2, 2), np.uint16)), tmp_path / "a.png")).any()


def test_grey_and_bilevel(tmp_path: Path) -> None:
    assert (read_array(saved(Image.new("L", (2, 2), 77), tmp_path / "a.png")) == 77).all()
    assert (read_array(saved(Image.new("1", (2, 2), 1), tmp_path / "b.png")) == 255).all()


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    half = read_array(saved(Image.new("RGBA", (1, 1), (255, 0, 0, 128)), tmp_path / "a.png"))
    assert np.abs(half[0, 0].astype(int) - (255, 127, 127)).max() <= 1
    clear = read_array(saved(Image.new("LA", (1, 1), (0, 0)), tmp_path / "b.png"))
    assert clear[0, 0].tolist() == list(WHITE)


def test_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*GREEN, *RED])
    image.putpixel((1, 0), 1)
    pixels = read_array(saved(image, tmp_path / "a.png", transparency=0))
    assert pixels[0].tolist() == [list(WHITE), list(RED)]


def test_palette_without_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (1, 1))
    image.putpalette(GREEN)
    assert read_array(saved(image, tmp_path / "a.gif")).tolist() == [[list(GREEN)]]


def test_a_picture_of_one_pixel_is_read(tmp_path: Path) -> None:
    assert read_image(saved(Image.new("RGB", (1, 1), BLUE), tmp_path / "a.png")).size == (1, 1)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_animation_gives_its_first_frame(tmp_path: Path, suffix: str) -> None:
    first, second = Image.new("RGB", (4, 4), RED), Image.new("RGB", (4, 4), BLUE)
    path = tmp_path / f"a{suffix}"
    first.save(path, save_all=True, append_images=[second])
    assert np.abs(read_array(path).astype(int) - RED).max() < 8


def test_photographs_are_read(data: Path) -> None:
    paths = find_images([data / "photos"])
    assert len(paths) > 10
    assert all(np.asarray(read_image(path)).std() > 0 for path in paths)


# What is not a picture


def test_missing_file_and_folder(tmp_path: Path) -> None:
    one_line_error(tmp_path / "none.png", "does not exist")
    one_line_error(tmp_path, "is a folder")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_what_is_no_picture(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    one_line_error(path, "cannot be read as a picture")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".tif", ".webp", ".bmp"])
def test_truncated_and_damaged_files_are_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(Image.fromarray(noise), tmp_path / f"a{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    one_line_error(path)


def test_a_picture_too_large_to_unpack_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(Image.new("L", (100, 100)), tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    one_line_error(path, "smaller")


# Writing


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF", ".gif"])
def test_arrays_come_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    pixels = np.array([[RED, GREEN], [BLUE, WHITE]], np.uint8)
    write_image(path, pixels)
    assert (read_array(path) == pixels).all()


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_formats_come_close(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(path, Image.new("RGB", (16, 16), (10, 120, 200)))
    assert np.abs(read_array(path).astype(int) - (10, 120, 200)).max() < 8


def test_grey_and_transparent_arrays(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.full((2, 3), 9, np.uint8))
    assert (read_array(tmp_path / "a.png") == 9).all()
    clear = np.zeros((2, 3, 4), np.uint8)
    write_image(tmp_path / "b.png", clear)
    assert (np.asarray(Image.open(tmp_path / "b.png")) == clear).all()
    write_image(tmp_path / "b.jpg", clear)
    assert (read_array(tmp_path / "b.jpg") == 255).all()


def test_unknown_suffix_lists_known_ones(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"cannot write `\.xyz`.*\.jpg, \.png, \.tif"):
        write_image(tmp_path / "a.xyz", np.zeros((2, 2), np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2)), np.zeros(4, np.uint8), np.zeros((2, 2, 2), np.uint8), np.zeros((0, 2), np.uint8)],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(MediaError, match="expected uint8"):
        write_image(tmp_path / "a.png", array)


def test_failed_write_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    write_image(path, Image.new("RGB", (1, 1), RED))

    def half(self: Image.Image, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(MediaError, match="No space left"):
        write_image(path, Image.new("RGB", (1, 1), BLUE))
    assert read_array(path).tolist() == [[list(RED)]]
    assert list(tmp_path.iterdir()) == [path]


# Finding


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "odd[1].png", "deep/c.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_folder_gives_its_pictures_sorted(folder: Path) -> None:
    assert names(find_images([folder])) == ["a.JPG", "b.png", "odd[1].png"]


def test_files_are_taken_as_named(folder: Path) -> None:
    asked = [folder / "notes.txt", str(folder / "odd[1].png")]
    assert names(find_images(asked)) == ["notes.txt", "odd[1].png"]


def test_patterns_match_files_and_brackets_are_literal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(find_images([str(folder / "*")])) == ["a.JPG", "b.png", "odd[1].png"]
    monkeypatch.chdir(folder)
    assert names(find_images(["?.png"])) == ["b.png"]
    assert names(find_images(["**/*.png"])) == ["b.png", "c.png", "odd[1].png"]


def test_each_file_once_in_order(folder: Path) -> None:
    assert names(find_images([folder / "b.png", folder])) == ["b.png", "a.JPG", "odd[1].png"]


@pytest.mark.parametrize(
    ("arg", "words"),
    [("none.png", "there is no"), ("*.bmp", "nothing matches"), ("empty", "no pictures in")],
)
def test_nothing_found_names_the_argument(folder: Path, arg: str, words: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(MediaError, match="expected") as caught:
        find_images([folder, folder / arg])
    assert words in str(caught.value)
    assert str(folder / arg) in str(caught.value)


# What a small file claims


def claiming(path: Path, width: int, height: int) -> Path:
    """Write a PNG of some hundred bytes that says it has 16-bit grey of this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + rows)
    return path


@pytest.mark.parametrize("size", [(8193, 8192), (2**26 + 1, 1)])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    one_line_error(claiming(tmp_path / "a.png", *size), "×", "at most 67,108,864")


@pytest.mark.parametrize("dtype", [">u2", "<u2", "<i4", "<f4"])
def test_deep_pictures_of_several_parts_are_scaled_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    values = np.random.default_rng(0).integers(0, 70_000 if dtype == "<i4" else 60_000, (9, 7)).astype(dtype)
    image = Image.fromarray(values.astype(values.dtype.newbyteorder("=")))
    monkeypatch.setattr(images, "_PART", 14)
    scale = max(65535, int(values.max()))
    expected = np.round(values.astype(float) * (255 / scale)).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(images._to_8_bits(image)), expected)
