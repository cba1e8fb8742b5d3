"""How well a map is known, on pages and on sheets."""

import base64
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import chronocam as cc
from chronocam.render.page.items import items_of
from chronocam.render.page.packed import ZERO
from chronocam.types import TargetInfo

GRIDS = [(8,), (4, 4), (3, 4, 4)]


def known(grid: tuple[int, ...], half: float) -> cc.Explanation:
    """A map that rises from -1 to 1, of which each cell is known to the same half-width."""
    maps = np.linspace(-1, 1, int(np.prod(grid)), dtype=np.float32).reshape(1, 1, *grid)
    size = tuple(4 * n for n in grid) if len(grid) < 3 else (grid[0], 16, 16)
    made = cc.Explanation(maps, np.ones((1, 1), np.float32), ((TargetInfo("dog"),),), "rise", "input", size)
    return replace(made, interval=np.full_like(maps, half))


def values(shown: Any) -> np.ndarray:
    """The cells of the first map on a page, as shares of the scale."""
    assert shown.signed[0]
    steps = np.frombuffer(zlib.decompress(base64.b64decode(shown.bytes[0])), np.uint8).astype(float)
    return (steps - ZERO) / 127 * shown.gains[0]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_a_page_shows_what_is_sure_on_the_scale_of_the_map(grid: tuple[int, ...]) -> None:
    (item,) = items_of({"rise": known(grid, 0.3)})
    assert [one.label for one in item.maps] == ["rise", "rise, surely"]
    plain, sure = item.maps
    assert plain.targets[0].scale == sure.targets[0].scale
    assert "Known to ±0.3 (95 %)" in plain.targets[0].sentence
    assert "Known" not in sure.targets[0].sentence


@pytest.mark.parametrize("half", [0.0, np.inf])
def test_what_is_exact_or_unknown_has_no_second_map(half: float) -> None:
    (item,) = items_of({"rise": known((4, 4), half)})
    assert [one.label for one in item.maps] == ["rise"]


def test_each_cell_is_drawn_nearer_to_zero_by_its_half_width() -> None:
    explanation = known((4, 4), 0.3)
    sample = explanation.on_page(0)
    sure = sample.surely
    assert sure is not None
    expected = np.sign(explanation.maps) * np.maximum(np.abs(explanation.maps) - 0.3, 0)
    np.testing.assert_allclose(sure.maps, expected, atol=1e-6)
    (item,) = items_of({"rise": explanation})
    scale = item.maps[0].targets[0].scale
    assert scale is not None
    np.testing.assert_allclose(values(item.maps[1]) * float(scale), expected.ravel(), atol=0.02)
    assert "75 % of the cells are surely not zero" in item.maps[0].targets[0].sentence


def test_a_sheet_says_how_well_its_maps_are_known() -> None:
    titles = [str(known((4, 4), half).plot()._suptitle) for half in (0.3, np.inf)]
    assert "known to ±0.3 (95 %)" in titles[0]
    assert "known" not in titles[1]
