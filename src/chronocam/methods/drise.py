"""D-RISE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chronocam.errors import TargetError
from chronocam.masks.regions.base import Pieces
from chronocam.methods.rise import RISE
from chronocam.targets._parse import Several
from chronocam.targets.boxes import BoxesOf
from chronocam.types import Target


@dataclass(kw_only=True, eq=False)
class DRISE(RISE):
    """D-RISE: RISE of boxes, by how much the most alike row of the masked picture is like each.

    The score of a mask is max over rows of IoU · cosine of the class probabilities · objectness, over all
    rows
    before suppression. No gradient is taken, so that any detector will do, a `cc.blackbox` with `adapter=`
    too.

    cells: as of RISE; None is 16 × 16.

    Source: Petsiuk et al. 2021 (arXiv:2006.03204), eq. 1 to 6; masks and their weights are those of `RISE`.

    Example:
    >>> cc.DRISE(detector, until=None, budget=60).explain(photos, cc.targets.Boxes(top=1)).maps.shape
    (2, 1, 32, 32)
    """

    cells: Pieces = (16, 16)
    name: ClassVar[str] = "drise"

    def retarget(self, target: Target) -> Target:
        """Return how much the most alike row is like each box. Raises TargetError for other targets."""
        if isinstance(target, BoxesOf):
            return target.similar()
        if isinstance(target, Several):
            return Several([self.retarget(one) for one in target.targets])
        raise TargetError("D-RISE is for boxes; give cc.targets.Boxes(…), or take RISE for other targets")
