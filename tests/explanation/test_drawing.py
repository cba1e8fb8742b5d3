"""Overlays, plots and files of pictures."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from explained import GREY, RNG, blob, explanation
from helpers import one_line
from PIL import Image
from torch import nn

import chronocam as cc
from chronocam.errors import InputError
from chronocam.types import TargetInfo


def test_an_overlay_colours_only_where_the_map_is() -> None:
    e = explanation(blob(at=(1, 2)), input_size=(16, 24))
    ((picture,),) = e.overlay(GREY)
    assert picture.shape == (16, 24, 3)
    assert picture.dtype == np.uint8
    changed = (picture != 128).any(2)
    strength = e.upsample()[0, 0] / 2
    assert changed[4:8, 8:12].all()
    assert not changed[strength < 1e-6].any()
    assert changed.sum() < changed.size / 2
    moved = explanation(blob(at=(3, 5)), input_size=(16, 24)).overlay(GREY)[0][0]
    assert (moved[12:, 20:] != 128).any(2).all()
    assert (moved[4:8, 8:12] == 128).all()
    from matplotlib import colormaps

    row, column = np.unravel_index(strength.argmax(), strength.shape)
    opacity = 0.7 * strength[row, column]
    expected = (1 - opacity) * 128 + opacity * 255 * np.array(colormaps["inferno"](strength[row, column])[:3])
    np.testing.assert_allclose(picture[row, column], expected, atol=1)


def test_overlay_options_change_the_pixels() -> None:
    maps = np.concatenate([blob(), blob() / 4])
    e, pictures = explanation(maps, input_size=(16, 24)), GREY.repeat(2, axis=0)
    base = np.stack([row[0] for row in e.overlay(pictures)])
    np.testing.assert_array_equal(base[0], base[1])  # each sample has its own scale
    np.testing.assert_array_equal(e.overlay(pictures, alpha=0.0)[0][0], GREY[0])
    for options in ({"cmap": "jet"}, {"alpha": 0.2}, {"scope": "batch"}, {"scope": (0.0, 4.0)}):
        other = np.stack([row[0] for row in e.overlay(pictures, **options)])
        assert np.abs(other.astype(int) - base).max() > 20, options
    batch = e.overlay(pictures, scope="batch")
    assert np.abs(batch[1][0].astype(int) - 128).max() < np.abs(batch[0][0].astype(int) - 128).max()
    with pytest.raises(InputError, match="no colour map `jett`"):
        e.overlay(pictures, cmap="jett")


def test_targets_of_a_sample_share_one_scale() -> None:
    maps = blob(target=2)
    maps[0, 1] /= 4
    strong, weak = explanation(maps, input_size=(16, 24)).overlay(GREY)[0]
    assert np.abs(strong.astype(int) - 128).max() > np.abs(weak.astype(int) - 128).max() > 5


def test_signed_maps_are_drawn_in_two_colours() -> None:
    maps = blob(at=(1, 1))
    maps[0, 0, 3, 4] = -2
    ((picture,),) = explanation(maps, input_size=(16, 24)).overlay(GREY)
    up, down = picture[5:7, 5:7].mean((0, 1)), picture[13:15, 17:19].mean((0, 1))
    assert up[0] > up[2] + 20  # red
    assert down[2] > down[0] + 20  # blue


def test_pictures_in_many_forms() -> None:
    e = explanation(blob(batch=2), input_size=(16, 24))
    pictures = RNG.integers(0, 256, (2, 16, 24, 3), dtype=np.uint8)
    expected = np.stack([row[0] for row in e.overlay(pictures)])
    floats = torch.from_numpy(pictures / 255).float()
    for given in (
        list(pictures),
        [Image.fromarray(p) for p in pictures],
        np.moveaxis(pictures, -1, 1),
        torch.from_numpy(pictures),
        floats,
        floats.permute(0, 3, 1, 2),
    ):
        found = np.stack([row[0] for row in e.overlay(given)])
        assert np.abs(found.astype(int) - expected).max() <= 1
    large = e.overlay([Image.fromarray(p).resize((48, 40)) for p in pictures])
    assert large[0][0].shape == (40, 48, 3)
    assert (
        (large[0][0] != np.asarray(Image.fromarray(pictures[0]).resize((48, 40)))).any(2)[12:18, 18:22].all()
    )


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (GREY.repeat(3, axis=0), ["3 images for 2 samples"]),
        (Image.fromarray(GREY[0]), ["batch"]),
        (np.zeros((2, 16, 24, 5)), ["(16, 24, 5)", "(height, width, 3)"]),
        ("cat.jpg", ["a str", "batch"]),
    ],
)
def test_pictures_that_do_not_fit(inputs: Any, words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        explanation(blob(batch=2)).overlay(inputs)
    one_line(error, *words)


SIGNALS = np.zeros((2, 3, 40))
SIGNALS[0, 1, 10], SIGNALS[1, :, 30] = 1, -1


def test_signals_are_drawn_as_curves_with_the_map_behind_them() -> None:
    maps = np.zeros((2, 1, 8))
    maps[0, 0, 2], maps[1, 0, 6] = 1, 2  # cells of 5 samples in time, from 10 and from 30 on
    e = explanation(maps, input_size=(40,))
    for signals in (SIGNALS, SIGNALS.transpose(0, 2, 1), list(SIGNALS)):
        (one,), (other,) = e.overlay(signals, alpha=1.0)
        assert one.shape == other.shape == (480, 960, 3)
        for picture, place in ((one, 12), (other, 32)):
            warm = picture[..., 0].astype(int) - picture[..., 2] > 60
            assert abs(np.flatnonzero(warm[5]).mean() / 24 - (place + 0.5)) < 0.5  # 24 pixels a sample
            assert not warm[:, : (place - 12) * 24].any()
            assert not warm[:, (place + 12) * 24 :].any()
        # Away from the map the curve is light where it is: flat at first, below or above at its peak.
        bare = explanation(0 * maps, input_size=(40,)).overlay(signals)
        for row, sample, band, height in ((0, 10, slice(160, 320), 16), (1, 30, slice(0, 160), 144)):
            light = bare[row][0][band, round((sample + 0.5) * 24)].min(-1) > 200
            assert abs(np.flatnonzero(light).mean() - height) < 4
    assert len(e.plot(SIGNALS).axes) == len(e.plot().axes) == 2


def test_signals_are_kept_beside_their_maps_and_have_pages(tmp_path: Path) -> None:
    e = explanation(RNG.random((2, 1, 8)), input_size=(40,), centers=(tuple(range(0, 40, 5)),))
    back = cc.load(e.save(tmp_path / "a.npz", SIGNALS))
    assert back.maps.shape == (2, 1, 8)
    assert [still.size for still in back.pictures] == [(480, 960)] * 2
    assert back.save(tmp_path / "a.html").stat().st_size > 10_000
    for wrong, words in ((SIGNALS[..., :30], "(30, 3)"), (SIGNALS[:1], "got 1 signals for 2"), (3, "a int")):
        with pytest.raises(InputError) as error:
            e.overlay(wrong)
        one_line(error, words)


def test_a_sheet_of_a_volume_counts_slices_and_that_of_a_clip_frames() -> None:
    for shape, unit in (((1, 1, 8, 9, 9), "slice"), ((1, 3, 8, 9, 9), "frame")):
        net = nn.Sequential(
            nn.Conv3d(shape[1], 2, 3, padding=1), nn.AdaptiveAvgPool3d(1), nn.Flatten()
        ).eval()
        x = torch.rand(shape)
        figure = cc.GradCAM(net).explain(x, 0).plot(x)
        texts = [text.get_text() for text in figure.findobj(lambda one: hasattr(one, "get_text"))]
        assert {f"{unit}s", f"{unit} 0"} <= set(texts)


def test_plot_shows_every_sample_and_target() -> None:
    maps = RNG.random((2, 3, 4, 6))
    e = explanation(maps, input_size=(16, 24))
    pictures = RNG.integers(0, 256, (2, 16, 24, 3), dtype=np.uint8)
    figure = e.plot(pictures)
    shown = [axis.images[0].get_array() for axis in figure.axes]
    expected = [picture for row in e.overlay(pictures) for picture in row]
    assert len(shown) == 6
    for one, other in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [f"class {k}\n{3 * i + k:.3g}" for i in range(2) for k in range(3)]
    assert "gradcam at layer4" in figure.get_suptitle()
    bare = [axis.images[0].get_array() for axis in e.plot().axes]
    for one, other in zip(bare, e.upsample().reshape(6, 16, 24), strict=True):
        np.testing.assert_allclose(one, other)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".PNG"])
def test_saved_pictures_depend_on_the_map(suffix: str, tmp_path: Path) -> None:
    pixels = []
    for at in ((0, 0), (3, 5)):
        e = explanation(blob(at=at), input_size=(16, 24))
        path = e.save(tmp_path / f"{at[0]}{suffix}", GREY)
        pixels.append(np.asarray(Image.open(path).convert("RGB")).astype(int))
    difference = np.abs(pixels[0] - pixels[1]).sum(2)
    height, width = difference.shape
    assert difference[: height // 2, : width // 2].max() > 60
    assert difference[height // 2 :, width // 2 :].max() > 60
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"0{suffix}", f"3{suffix}"]


@pytest.mark.parametrize("suffix", [".pdf", ".svg"])
def test_saved_vector_graphics(suffix: str, tmp_path: Path) -> None:
    path = explanation(blob()).save(tmp_path / f"map{suffix}", GREY)
    assert path.read_bytes()[:5] in (b"%PDF-", b"<?xml")


def test_names_with_formulas_are_drawn_as_they_are(tmp_path: Path) -> None:
    e = explanation(blob(), targets=((TargetInfo("$\\frac{", 0),),))
    assert e.save(tmp_path / "map.png").exists()
    assert "$\\frac{" in e.plot().axes[0].get_title()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("grid", [(4, 6), (2, 4, 6)])
@pytest.mark.filterwarnings("error")
def test_maps_that_are_not_finite_are_drawn_as_nothing_there(tmp_path: Path, grid: Any, bad: float) -> None:
    whole = explanation(np.random.default_rng(0).normal(size=(1, 1, *grid)))
    maps = whole.maps.copy()
    maps[..., 0, 0] = 0
    spoilt = replace(whole, maps=np.where(maps == 0, np.float32(bad), maps))
    grey = np.full((1, *whole.input_size, 3), 128, np.uint8)
    nothing = replace(whole, maps=maps).overlay(grey)[0][0]
    np.testing.assert_array_equal(spoilt.overlay(grey)[0][0], nothing)
    for name in ("a.html", "a.png", "a.npz"):
        assert spoilt.save(tmp_path / name).is_file()
    spoilt.normalize()


@pytest.mark.parametrize("grid", [(2, 2), (2, 2, 2)])
def test_bare_maps_of_huge_inputs_are_drawn_small(tmp_path: Path, grid: Any) -> None:
    huge = replace(explanation(np.ones((1, 1, *grid))), input_size=(*(4,) * (len(grid) - 2), 4096, 8192))
    tracemalloc.start()
    huge.save(tmp_path / "a.png")
    assert tracemalloc.get_traced_memory()[1] < 150 * 2**20
    tracemalloc.stop()


def bars(figure: Any) -> list[list[str]]:
    """Return the labels of the colour bars of a sheet."""
    children = [child for axis in figure.axes for child in axis.child_axes]
    return [[label.get_text() for label in child.get_xticklabels()] for child in children]


def test_colour_bars_have_the_raw_values_at_their_ends() -> None:
    maps = np.ones((2, 1, 4, 6), np.float32) * np.array([4, 2], np.float32)[:, None, None, None]
    sheet = explanation(maps, input_size=(16, 24)).plot(np.stack([GREY[0]] * 2))
    assert bars(sheet) == [["0", "4"], ["0", "2"]]
    signed = explanation(-3 * np.ones((1, 1, 4, 6), np.float32), input_size=(16, 24))
    assert bars(signed.plot()) == bars(signed.plot(GREY)) == [["−3", "0", "3"]]
    (image,) = signed.plot().axes[0].images
    assert image.get_clim() == (-3, 3)


def test_samples_with_one_map_each_share_rows() -> None:
    figure = explanation(blob(batch=6), input_size=(16, 24)).plot()
    assert len(figure.axes) == 6
    columns = {round(axis.get_position().x0, 3) for axis in figure.axes}
    assert len(columns) <= 4
    assert figure.get_figwidth() > 2 * 3
