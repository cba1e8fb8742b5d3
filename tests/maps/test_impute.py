"""Hidden pixels are filled from those that stay."""

import numpy as np
import pytest

from chronocam.errors import InputError
from chronocam.maps.impute import imputed


def test_without_a_pixel_that_stays_there_is_nothing_to_fill_from() -> None:
    with pytest.raises(InputError, match="no pixel stays to fill the others from; leave at least one"):
        imputed(np.ones((1, 2, 2)), np.zeros((2, 2), bool))
