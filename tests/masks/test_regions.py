"""Kinds of regions are known by their names."""

import numpy as np
import pytest

import chronocam.masks.regions as regions
from chronocam.errors import InputError
from chronocam.masks.regions import KINDS, Frames, Regions, regions_of


def test_a_kind_without_a_name_of_its_own_replaces_none() -> None:
    class Shared(Regions):
        """What several kinds may share."""

    class Shifted(Frames):
        """Frames, counted from elsewhere."""

    assert KINDS["frames"] is Frames
    assert {Shared, Shifted}.isdisjoint(KINDS.values())


def test_every_kind_is_imported_by_name() -> None:
    assert {kind.__name__ for kind in KINDS.values()} <= set(regions.__all__)


def test_what_a_kind_must_define_is_named() -> None:
    class Bare(Regions):
        """Nothing."""

    with pytest.raises(NotImplementedError, match=r"Bare must define draw\(x, rng\)"):
        Bare(None).draw(np.zeros((1, 3, 8, 8)), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        ("superpixels", (1, 3, 8), r"a grid of \(8,\); superpixels are of pictures"),
        ("tubes", (1, 3, 8, 8), r'a grid of \(8, 8\); regions="tubes" is for clips'),
        ("frames", (1, 3, 8, 8), r'a grid of \(8, 8\); regions="frames" is for clips and sequences'),
        ("features", (1, 3, 8, 8), r'a grid of \(8, 8\); regions="features" is for sequences'),
    ],
)
def test_inputs_of_another_kind_are_refused(kind: str, shape: tuple[int, ...], message: str) -> None:
    pytest.importorskip("skimage")
    with pytest.raises(InputError, match=message):
        regions_of(kind, None).draw(np.zeros(shape), np.random.default_rng(0))


@pytest.mark.parametrize(("kind", "shape"), [("superpixels", (1, 3, 8, 8)), ("tubes", (1, 3, 4, 8, 8))])
def test_values_without_a_colour_are_refused(kind: str, shape: tuple[int, ...]) -> None:
    pytest.importorskip("skimage")
    with pytest.raises(InputError, match="inputs hold NaN or infinity, which have no colour"):
        regions_of(kind, None).draw(np.full(shape, np.nan), np.random.default_rng(0))


@pytest.mark.parametrize("pieces", [0, 2.5, True, (2, 2, 2), "4"])
def test_pieces_that_are_no_numbers_for_the_axes_are_refused(pieces: object) -> None:
    with pytest.raises(InputError, match=r"expected a positive whole number, or one for each of 2 axes"):
        regions_of("cells", pieces).draw(np.zeros((1, 3, 8, 8)), np.random.default_rng(0))
