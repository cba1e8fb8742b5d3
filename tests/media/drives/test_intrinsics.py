"""A camera is four numbers or a matrix, and nothing else."""

import numpy as np
import pytest

from chronocam.errors import MediaError
from chronocam.media.drives.intrinsics import check_intrinsics


def test_four_numbers_are_the_matrix() -> None:
    matrix = [[2.0, 0.0, 4.0], [0.0, 3.0, 5.0], [0.0, 0.0, 1.0]]
    np.testing.assert_array_equal(check_intrinsics([2, 3, 4, 5]), matrix)
    np.testing.assert_array_equal(check_intrinsics(matrix), matrix)


@pytest.mark.parametrize("camera", ["2,3,4,5", [2, 3, "x", 5], [[1, 0], [0]]])
def test_what_is_no_numbers_is_refused(camera: object) -> None:
    with pytest.raises(MediaError, match="camera are not numbers; expected fx, fy, cx, cy or a 3 x 3 matrix"):
        check_intrinsics(camera, "camera")
