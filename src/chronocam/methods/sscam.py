"""SS-CAM."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from chronocam.errors import check_real, check_whole
from chronocam.maps.arrays import like
from chronocam.methods.scorecam import ScoreCAM, scaled, through
from chronocam.types import Change, View


@dataclass(kw_only=True, eq=False)
class SSCAM(ScoreCAM):
    """SS-CAM: Score-CAM with scores averaged over noisy masks.

    samples: how many noisy copies of each mask; the paper takes 35.
    noise: standard deviation of the Gaussian noise, of masks from 0 to 1.
    seed: of the noise.

    Source: Wang et al. 2020 (arXiv:2006.14255), section 3, its first variant.

    Example:
    >>> cc.SSCAM(model, "conv2", samples=3).explain(images, "dog").maps.shape
    (2, 1, 8, 8)
    """

    samples: int = 10
    noise: float = 0.2
    seed: int = 0
    name: ClassVar[str] = "sscam"

    def __post_init__(self) -> None:
        check_whole("samples", self.samples, "at least one noisy mask")
        check_real("noise", self.noise, "a standard deviation, such as 0.2")
        check_whole("seed", self.seed, "a whole number from 0", least=0)
        super().__post_init__()

    def looks(self, view: View, channels: Iterable[int]) -> Iterator[Change]:
        """Yield the input seen through noisy copies of each channel."""
        activations, rng = view.captures[0].activations, np.random.default_rng(self.seed)
        for channel in channels:
            mask = scaled(view.upsample(activations[:, channel : channel + 1]))
            for _ in range(self.samples):
                draw = self.noise * rng.standard_normal((1, *mask.shape[1:]))
                yield view.on_main(partial(through, mask + like(draw, mask)))
