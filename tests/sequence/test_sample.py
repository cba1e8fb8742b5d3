"""A sample is run in passes of a few rows each, and what all of them say counts, not the last one alone."""

import numpy as np
from torch import Tensor, nn

from chronocam.sequence import IntegratedGradients
from chronocam.sequence.sample import ROWS_PER_PASS


class Fades(nn.Module):
    """A unit that is off below 100, and that features near 1 do not reach at all."""

    def forward(self, x: Tensor) -> Tensor:
        if 0.9 < x.abs().max() < 10:
            return x.new_zeros(len(x), 1)
        return (x.sum((1, 2)) - 100).relu()[:, None]


def test_one_pass_that_depends_on_the_features_is_enough() -> None:
    method = IntegratedGradients(Fades().eval(), steps=ROWS_PER_PASS + 4)
    found = method.explain(np.ones((1, 2, 2), np.float32), lambda outputs: outputs[:, 0])
    assert not found.relevance.any()  # the unit is off all the way, but the score depends on the features
