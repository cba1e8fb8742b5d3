"""Views of pictures: what they show, and how maps lie that come back from them."""

import numpy as np
import pytest
import torch

from chronocam.errors import InputError
from chronocam.maps.views import PictureView, mean_of_views, views_named

RAMPS = np.stack([np.tile(np.arange(20.0)[:, None], 30), np.tile(np.arange(30.0), (20, 1))])[None]
EVERY = views_named("flip+scale+crop")


@pytest.mark.parametrize("view", EVERY, ids=str)
def test_what_a_view_shows_comes_back_to_its_place(view: PictureView) -> None:
    back = view.back(view.of(RAMPS))
    shown = view.covers(20, 30).astype(bool)
    np.testing.assert_allclose(back[:, :, shown], RAMPS[:, :, shown], atol=0.5)
    inner = shown & view.covers(24, 34)[2:-2, 2:-2].astype(bool)
    inner[[0, -1]] = inner[:, [0, -1]] = False
    inner &= np.roll(shown, 1, 0) & np.roll(shown, -1, 0) & np.roll(shown, 1, 1) & np.roll(shown, -1, 1)
    np.testing.assert_allclose(back[:, :, inner], RAMPS[:, :, inner], atol=1e-9)


def test_a_part_fills_the_picture() -> None:
    """Of 10 columns the part from 0.2 to 1 is columns 2 to 9: pixel i shows 2 + 0.8 (i + 0.5) − 0.5."""
    x = np.tile(np.arange(10.0), (10, 1))[None, None]
    shown = PictureView(columns=(0.2, 1.0)).of(x)[0, 0, 0]
    np.testing.assert_allclose(shown, np.minimum(2 + 0.8 * (np.arange(10) + 0.5) - 0.5, 9))
    np.testing.assert_array_equal(PictureView(mirrored=True).of(x), x[..., ::-1])


def test_each_cell_is_the_mean_of_the_views_that_show_it() -> None:
    views = [PictureView(), PictureView(rows=(0.0, 0.5))]
    one, two = torch.ones(1, 1, 4, 3), torch.full((1, 1, 4, 3), 5.0)
    found = mean_of_views(views, [one, two])
    np.testing.assert_allclose(found[0, 0], [[3] * 3, [3] * 3, [1] * 3, [1] * 3])


@pytest.mark.parametrize(("names", "count"), [("flip", 2), ("scale", 3), ("crop+flip", 10), ("crop", 5)])
def test_names_of_views(names: str, count: int) -> None:
    views = views_named(names)
    assert views[0] == PictureView()
    assert len(set(views)) == len(views) == count


def test_unknown_views_are_refused() -> None:
    with pytest.raises(InputError, match="no views `flop`; did you mean `flip`"):
        views_named("scale+flop")
    with pytest.raises(InputError, match="no views ``; choose flip, scale, crop, or several joined by"):
        views_named("")
