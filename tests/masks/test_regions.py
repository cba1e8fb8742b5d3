"""Kinds of regions are known by their names."""

import chronocam.masks.regions as regions
from chronocam.masks.regions import KINDS, Frames, Regions


def test_a_kind_without_a_name_of_its_own_replaces_none() -> None:
    class Shared(Regions):
        """What several kinds may share."""

    class Shifted(Frames):
        """Frames, counted from elsewhere."""

    assert KINDS["frames"] is Frames
    assert {Shared, Shifted}.isdisjoint(KINDS.values())


def test_every_kind_is_imported_by_name() -> None:
    assert {kind.__name__ for kind in KINDS.values()} <= set(regions.__all__)
