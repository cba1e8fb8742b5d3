"""Who gestures: looks and proportions, from pools that the splits do not share."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SPLITS = ("train", "validation", "test")

CELLS = 40
"""The range of every property is cut into this many cells, each owned by one split."""

_OWNERS = (0, 0, 1, 0, 2, 0, 0, 2)  # of the cells, over and over: five, one and two of eight

_SKIN = ((0.98, 0.85, 0.75), (0.93, 0.74, 0.60), (0.82, 0.60, 0.43), (0.64, 0.43, 0.29), (0.44, 0.28, 0.19))
_HAIR = ((0.08, 0.07, 0.08), (0.26, 0.16, 0.10), (0.45, 0.20, 0.10), (0.80, 0.62, 0.32), (0.72, 0.71, 0.70))
STYLES = ("short", "fringe", "long", "bun", "curls", "cap", "bald")
PATTERNS = ("plain", "plain", "hoops", "stripes", "checks")


@dataclass(frozen=True)
class Identity:
    """One person. Lengths are in heights of the head, colours in 0 to 1."""

    split: str
    properties: dict[str, float]
    """Every continuous property as drawn, in 0 to 1: no value of one split can occur in another."""
    style: str
    pattern: str
    sleeves: bool

    def between(self, name: str, low: float, high: float) -> float:
        """Return a property on a scale of its own."""
        return low + (high - low) * self.properties[name]

    @property
    def shoulder(self) -> float:
        """Half the distance of the shoulder joints."""
        return self.between("shoulder", 0.44, 0.56)

    @property
    def upper(self) -> float:
        """Length of the upper arm."""
        return self.between("upper", 0.60, 0.72)

    @property
    def fore(self) -> float:
        """Length of the forearm."""
        return self.between("fore", 0.54, 0.64)

    @property
    def girth(self) -> float:
        """Thickness of limbs and trunk, 1 on average."""
        return self.between("girth", 0.88, 1.16)

    @property
    def skin(self) -> Float[np.ndarray, " 3"]:
        """Colour of face and hands."""
        return _ramp(_SKIN, self.properties["skin"])

    @property
    def hair(self) -> Float[np.ndarray, " 3"]:
        """Colour of hair and brows."""
        return _ramp(_HAIR, self.properties["hair"])

    @property
    def cloth(self) -> Float[np.ndarray, " 3"]:
        """Main colour of the clothes."""
        return _hue(
            self.properties["hue"], self.between("strength", 0.3, 0.9), self.between("tone", 0.3, 0.95)
        )

    @property
    def trim(self) -> Float[np.ndarray, " 3"]:
        """Colour of the pattern, of a cap, of cuffs: far from the main one in hue or in tone."""
        hue = (self.properties["hue"] + self.between("trim", 0.25, 0.75)) % 1
        return _hue(hue, self.between("strength", 0.6, 0.2), self.between("tone", 0.95, 0.35))


_PROPERTIES = (
    *("shoulder", "upper", "fore", "girth", "jaw", "eyes", "brows", "mouth", "hand"),
    *("skin", "hair", "volume", "hue", "strength", "tone", "trim", "period"),
)


def draw_identity(rng: np.random.Generator, split: str) -> Identity:
    """Draw a person of one split."""
    owner = SPLITS.index(split)
    cells = [cell for cell in range(CELLS) if _OWNERS[cell % len(_OWNERS)] == owner]
    # the tenth at either end of a cell stays empty: no two splits come arbitrarily close
    places = (rng.choice(cells, len(_PROPERTIES)) + rng.uniform(0.1, 0.9, len(_PROPERTIES))) / CELLS
    return Identity(
        split=split,
        properties=dict(zip(_PROPERTIES, places.tolist(), strict=True)),
        style=STYLES[rng.integers(len(STYLES))],
        pattern=PATTERNS[rng.integers(len(PATTERNS))],
        sleeves=bool(rng.random() < 0.5),
    )


def _ramp(stops: tuple[tuple[float, ...], ...], place: float) -> Float[np.ndarray, " 3"]:
    at = place * (len(stops) - 1)
    lower = min(int(at), len(stops) - 2)
    mixed: np.ndarray = np.asarray(stops[lower]) + (at - lower) * np.subtract(stops[lower + 1], stops[lower])
    return mixed


def _hue(hue: float, saturation: float, value: float) -> Float[np.ndarray, " 3"]:
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value))
