"""A page shows explanations of the same inputs side by side, and no others."""

import numpy as np
import pytest
from explained import explanation

from chronocam.errors import InputError
from chronocam.render.page.items import items_of


def test_nothing_to_show_is_refused() -> None:
    with pytest.raises(InputError, match="there is nothing to show: give at least one explanation"):
        items_of({})


def test_explanations_of_other_samples_are_refused() -> None:
    one, two = explanation(np.ones((1, 1, 4, 4))), explanation(np.ones((2, 1, 4, 4)))
    with pytest.raises(InputError, match=r"different samples \(a has 1, b has 2\); give those of the same"):
        items_of({"a": one, "b": two})


def test_a_picture_and_a_clip_are_not_shown_together() -> None:
    picture, clip = explanation(np.ones((1, 1, 4, 4))), explanation(np.ones((1, 1, 2, 4, 4)))
    with pytest.raises(InputError, match=r"b explains inputs \(.*\), another \(.*\); show them apart"):
        items_of({"a": picture, "b": clip})
