"""IS-CAM."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from chronocam.errors import check_whole
from chronocam.methods.scorecam import ScoreCAM, scaled, through
from chronocam.types import Change, View


@dataclass(kw_only=True, eq=False)
class ISCAM(ScoreCAM):
    """IS-CAM: Score-CAM with scores averaged over the masks at 1/n, 2/n, … 1 of their strength.

    steps: n.

    Source: Naidu et al. 2020 (arXiv:2010.03023), eq. 4 and 5.

    Example:
    >>> cc.ISCAM(model, "conv2", steps=3).explain(images, "dog").maps.shape
    (2, 1, 8, 8)
    """

    steps: int = 10
    name: ClassVar[str] = "iscam"

    def __post_init__(self) -> None:
        check_whole("steps", self.steps, "at least one")
        super().__post_init__()

    def looks(self, view: View, channels: Iterable[int]) -> Iterator[Change]:
        """Yield the input seen through each channel, ever more clearly."""
        activations = view.captures[0].activations
        for channel in channels:
            mask = scaled(view.upsample(activations[:, channel : channel + 1]))
            for step in range(1, self.steps + 1):
                yield view.on_main(partial(through, mask * (step / self.steps)))
