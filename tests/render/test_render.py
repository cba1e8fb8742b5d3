"""Pictures: every argument shows, and nothing is drawn where nothing was found."""

import numpy as np
import pytest
from PIL import Image

from chronocam.errors import InputError, MediaError
from chronocam.media.files import replace_file
from chronocam.render import contact_sheet, draw_boxes, overlay, save_figure, strength
from chronocam.render._overlay import to_pictures

GREY = np.full((4, 6, 3), 100, dtype=np.uint8)


def test_zero_leaves_the_picture_alone_and_one_shows_the_colour():
    value = np.zeros((4, 6), dtype=np.float32)
    value[1, 2] = 1
    drawn = overlay(GREY, value, alpha=0.5)
    untouched = np.ones((4, 6), dtype=bool)
    untouched[1, 2] = False
    assert (drawn[untouched] == 100).all()
    # The top of inferno is (252, 255, 164): half of it, and half of the grey.
    np.testing.assert_allclose(drawn[1, 2], [176, 178, 132], atol=1)


def test_signed_maps_get_red_and_blue():
    value = np.zeros((4, 6), dtype=np.float32)
    value[0, 0], value[3, 5] = 1, -1
    drawn = overlay(GREY, value, alpha=1.0).astype(int)
    assert drawn[0, 0, 0] > drawn[0, 0, 2] + 50
    assert drawn[3, 5, 2] > drawn[3, 5, 0] + 50
    assert (drawn[1, 1] == 100).all()


def test_colour_map_by_name():
    value = np.ones((4, 6), dtype=np.float32)
    assert not np.array_equal(overlay(GREY, value, "jet"), overlay(GREY, value))
    with pytest.raises(InputError, match="no colour map `rainbows`"):
        overlay(GREY, value, "rainbows")


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan"), "half"])
def test_an_opacity_that_is_none_is_refused(alpha):
    with pytest.raises(InputError, match=f"alpha is {alpha}; expected an opacity from 0 to 1"):
        overlay(np.zeros((2, 2, 3), np.uint8), np.ones((2, 2)), alpha=alpha)


def test_strength_shares_a_scale_in_its_scope_and_keeps_signs():
    maps = np.zeros((2, 2, 2, 2), dtype=np.float32)
    maps[0, 0], maps[0, 1], maps[1, 0] = 4, -1, 2
    np.testing.assert_allclose(strength(maps)[:, :, 0, 0], [[1, -0.25], [1, 0]])
    np.testing.assert_allclose(strength(maps, "batch")[:, :, 0, 0], [[1, -0.25], [0.5, 0]])
    np.testing.assert_allclose(strength(maps, (0.0, 8.0))[:, :, 0, 0], [[0.5, -0.125], [0.25, 0]])


def test_one_extreme_pixel_does_not_hide_the_rest():
    maps = np.ones((1, 1, 100, 100), dtype=np.float32)
    maps[0, 0, 0, 0] = 1000
    assert strength(maps)[0, 0, 50, 50] == 1
    sparse = np.zeros((1, 1, 100, 100), dtype=np.float32)
    sparse[0, 0, 0, 0] = 5  # fewer pixels than the percentile leaves out
    assert strength(sparse)[0, 0, 0, 0] == 1


def test_pictures_of_every_kind_of_batch():
    ramp = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    for batch in (
        [Image.fromarray(ramp)],
        ramp[None],
        ramp.transpose(2, 0, 1)[None],
        ramp[None] / np.float32(255),
    ):
        np.testing.assert_array_equal(to_pictures(batch)[0], ramp)
    stretched = to_pictures((ramp[None].astype(np.float32) - 30) * 3)[0]
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert to_pictures(np.zeros((1, 4, 6)))[0].shape == (4, 6, 3)
    with pytest.raises(InputError, match="give a batch"):
        to_pictures(Image.fromarray(ramp))
    with pytest.raises(InputError, match="an image has shape"):
        to_pictures(np.zeros((1, 7, 4, 6)))


def test_boxes_are_outlines():
    drawn = draw_boxes(np.zeros((20, 30, 3), dtype=np.uint8), [(5, 4, 25, 16)])
    assert drawn[4, 5].any()
    assert drawn[15, 24].any()
    assert not drawn[10, 15].any()
    assert not drawn[17, 26].any()


def test_sheet_shows_labels_as_they_are(tmp_path):
    figure = contact_sheet([[GREY, GREY[:, :3]]], [["a $\\frac{1}{0}$ <script>", "b"]], "head $x")
    assert [axis.get_title() for axis in figure.axes] == ["a $\\frac{1}{0}$ <script>", "b"]
    path = save_figure(figure, tmp_path / "deep" / "sheet.png")
    width = Image.open(path).width
    assert width > 100
    assert [p.name for p in path.parent.iterdir()] == ["sheet.png"]
    assert Image.open(save_figure(figure, tmp_path / "fine.png", dpi=220)).width == 2 * width


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        replace_file(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]
    assert path.read_text() == "old"
    with pytest.raises(MediaError, match="cannot write"):
        replace_file(path / "below" / "y.txt", lambda temporary: temporary.write_text(""))


def test_a_heading_longer_than_the_pictures_below_it_takes_several_lines() -> None:
    figure = contact_sheet([[np.zeros((20, 40, 3), np.uint8)]], [["a"]], "of a layer with a long name " * 4)
    figure.draw_without_rendering()
    (heading,) = [text for text in figure.texts if "layer" in text.get_text()]
    extent = heading.get_window_extent()
    assert extent.x0 >= 0
    assert extent.x1 <= figure.bbox.width
    assert extent.height > 2 * heading.get_fontsize()
