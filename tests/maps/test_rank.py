"""Rank correlation, against SciPy and by hand."""

import numpy as np
import pytest
from scipy.stats import rankdata

from chronocam.maps.rank import ranks, spearman


@pytest.mark.parametrize("shape", [(1,), (2,), (9,), (3, 8), (2, 3, 50)])
@pytest.mark.parametrize("values", [2, 5, 1000])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def testranks_are_those_of_scipy(shape: tuple[int, ...], values: int, dtype: type) -> None:
    x = np.random.default_rng(values).integers(0, values, shape).astype(dtype)
    np.testing.assert_array_equal(ranks(x), rankdata(x, axis=-1))


def test_ties_share_their_mean_rank() -> None:
    np.testing.assert_array_equal(ranks(np.array([3.0, 1.0, 3.0, 3.0, 2.0])), [4, 1, 4, 4, 2])
    np.testing.assert_array_equal(ranks(np.array([0.0, -0.0, np.inf, -np.inf])), [2.5, 2.5, 4, 1])


def test_a_row_with_nan_has_noranks() -> None:
    x = np.array([[1.0, np.nan, 2.0], [1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(ranks(x), rankdata(x, axis=-1))
    assert np.isnan(spearman(x, x)).tolist() == [True, False]


def test_constants_have_no_correlation() -> None:
    assert np.isnan(spearman(np.ones(4), np.arange(4.0)))
    assert spearman(np.arange(4.0), np.arange(4.0)[::-1]) == pytest.approx(-1)
