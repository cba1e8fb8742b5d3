"""What an adapter owes: the rows of a family of detectors, and which of them are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from chronocam.detections.rows import Rows, Size
from chronocam.detections.suppress import Suppression


@dataclass(frozen=True, eq=False)
class Adapter:
    """How the boxes of one family of detectors are read.

    model: the detector.
    """

    model: Any

    name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = ()
    """Modules whose outputs are read, by path."""

    @classmethod
    def fits(cls, model: Any) -> bool:
        """Say whether a model is of this family."""
        return False

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of each level, on which boxes are explained; empty where a gradient has to tell."""
        return ()

    @property
    def suppression(self) -> Suppression:
        """Which rows are kept."""
        return Suppression()

    def rows(self, raw: Any, read: Mapping[str, Any], sizes: Sequence[Size]) -> list[Rows]:
        """Return the rows of each image.

        raw: what the model returned. read: what the modules that are read returned. sizes: of the images, as
            they were given.
        """
        raise NotImplementedError(f"{type(self).__name__} must define rows(raw, read, sizes)")
