"""An engine may know nothing of what cells see: it is asked all the same, and refuses in one line."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from chronocam.engines import Geometry, engine_for, geometry_of
from chronocam.errors import LayoutError


def test_an_engine_without_geometry_is_asked_all_the_same() -> None:
    engine: Any = SimpleNamespace(framework="mlx")
    geometry = geometry_of(engine)
    for ask in (
        lambda: geometry.centers(None, "conv", (3,)),
        lambda: geometry.frame_centers(None, "conv", 2, 1),
    ):
        with pytest.raises(LayoutError, match=r'mlx models; use align="half_pixel"'):
            ask()
    with pytest.raises(LayoutError, match="layout=VideoTokens"):
        geometry.tokens_by_patch(None, "block", 0, 1)
    assert geometry.windows(None, [["a", "b"], ["c"]], 2) == {"b": None, "c": None}


def test_an_engine_with_geometry_is_that_itself() -> None:
    engine = engine_for(nn.Sequential(nn.Conv2d(3, 2, 3, 2)))
    assert isinstance(engine, Geometry)
    assert geometry_of(engine) is engine
    assert geometry_of(engine).centers(torch.rand(1, 3, 9, 9), "0", (4, 4))[0] == (1.0, 3.0, 5.0, 7.0)
