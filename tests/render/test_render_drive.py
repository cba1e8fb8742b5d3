"""Sheets of drives and depth as colours."""

from typing import Any

import numpy as np
import pytest

from chronocam.errors import InputError
from chronocam.render import depth_pictures
from chronocam.render.sheets.drive import DriveSheet, OutputCurve, PathTrack, Strip, drive_sheet


def sheet(**more: Any) -> DriveSheet:
    pictures = [np.full((4, 8, 3), value, np.uint8) for value in (10, 20, 30)]
    usual: dict[str, Any] = {
        "columns": ["frame 0", "frame 1", "frame 2"],
        "rows": [Strip("target frame", pictures), Strip("$tz$", pictures[::-1])],
        "moments": np.array([0.0, 1.0, 2.0]),
        "clock": "frame",
    }
    return DriveSheet(**usual | more)


def test_rows_stand_under_their_columns() -> None:
    figure = drive_sheet(sheet(), "a drive")
    shown = [int(axis.images[0].get_array().flat[0]) for axis in figure.axes]
    assert shown == [10, 20, 30, 30, 20, 10]
    first, fourth = figure.axes[0].get_position(), figure.axes[3].get_position()
    assert first.x0 == pytest.approx(fourth.x0)
    assert first.y0 > fourth.y1
    width, height = figure.get_size_inches()
    assert first.width * width / (first.height * height) == pytest.approx(2)  # as the pictures
    assert {"a drive", "frame 1", "target frame", "$tz$"} <= {text.get_text() for text in figure.texts}


def test_the_path_has_one_scale_and_shows_the_truth() -> None:
    track = PathTrack(
        np.array([[0, 0, 0], [0.1, 5, 2.0]]), np.array([[0, 0, 0], [0.3, 5, 2.5]]), "scaled by 3"
    )
    figure = drive_sheet(sheet(path=track), "a drive")
    axis = figure.axes[-1]
    network, truth, start = axis.lines
    np.testing.assert_array_equal(network.get_xydata(), [[0, 0], [0.1, 2]])  # x and z; y is down
    np.testing.assert_array_equal(truth.get_xydata(), [[0, 0], [0.3, 2.5]])
    np.testing.assert_array_equal(start.get_xydata(), [[0, 0]])
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    assert right - left == pytest.approx(high - low)
    assert left < 0 < 0.3 < right
    assert low < 0 < 2.5 < high
    assert "scaled by 3" in axis.get_xlabel()
    assert len(drive_sheet(sheet(path=PathTrack(track.positions)), "").axes[-1].lines) == 2


def test_curves_are_drawn_with_their_truth_and_do_not_lie_on_each_other() -> None:
    values = np.array([1.0, -1, 2])
    curves = [OutputCurve(f"output {k}", k * values, values if k == 1 else None) for k in range(1, 6)]
    figure = drive_sheet(sheet(curves=curves, clock="seconds"), "a drive")
    axes = figure.axes[-5:]
    np.testing.assert_array_equal(axes[1].lines[0].get_ydata(), 2 * values)
    np.testing.assert_array_equal(axes[0].lines[1].get_ydata(), values)
    assert axes[0].get_title(loc="left") == "output 1"
    assert axes[4].get_xlabel() == "seconds"
    boxes = [axis.get_position() for axis in figure.axes]
    for k, one in enumerate(boxes):
        assert one.x0 >= 0
        assert one.y0 >= 0
        assert one.x1 <= 1
        assert one.y1 <= 1
        for other in boxes[:k]:
            apart = min(one.x1, other.x1) <= max(one.x0, other.x0) or min(one.y1, other.y1) <= max(
                one.y0, other.y0
            )
            assert apart


def test_a_sheet_needs_a_picture_per_column() -> None:
    with pytest.raises(InputError, match="2 pictures for 3 columns"):
        drive_sheet(sheet(rows=[Strip("few", [np.zeros((2, 2, 3), np.uint8)] * 2)]), "")
    with pytest.raises(InputError, match="nothing to draw"):
        drive_sheet(sheet(rows=[]), "")


def test_near_is_bright_and_unknown_grey() -> None:
    depth = np.array([[[1.0, 2, 4, 8, 0, np.inf]], [[16, 8, 4, 2, np.nan, 1]]])
    drawn = depth_pictures(depth)
    assert drawn.shape == (2, 1, 6, 3)
    assert (drawn[0, 0, 4:] == 128).all()
    assert (drawn[1, 0, 4] == 128).all()
    bright = drawn.sum(axis=-1, dtype=int)
    assert bright[0, 0, 0] > bright[0, 0, 1] > bright[0, 0, 2] > bright[0, 0, 3]
    np.testing.assert_array_equal(drawn[0, 0, 1:4], drawn[1, 0, 3:0:-1])  # one scale for both frames
    # By the logarithm: between 1 and 16, 4 is in the middle.
    from matplotlib import colormaps

    at_4 = depth_pictures(depth, (1.0, 16.0))[0, 0, 2]
    np.testing.assert_allclose(at_4, np.rint(255 * np.array(colormaps["magma"](0.5)[:3])), atol=2)
    np.testing.assert_array_equal(
        depth_pictures(depth, (2.0, 16.0))[0, 0, 0], depth_pictures(depth, (2.0, 16.0))[0, 0, 1]
    )


def test_depth_of_one_value_or_none_is_drawn() -> None:
    assert np.unique(depth_pictures(np.full((1, 2, 2), 3.0)).reshape(-1, 3), axis=0).shape == (1, 3)
    assert (depth_pictures(np.zeros((1, 2, 2))) == 128).all()
