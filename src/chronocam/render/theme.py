"""The colours of everything that is drawn: each is chosen here, for pictures, sheets and pages alike."""

from __future__ import annotations

from typing import Final

SEQUENTIAL: Final = "inferno"
"""For values that are not negative."""

WARM: Final = "warm"
"""The same over a picture: without the dark end, which would be a stain."""

DIVERGING: Final = "RdBu_r"
"""For signed values: blue below zero, red above."""

MAGNITUDE: Final = "viridis"
"""For magnitudes that stand beside signed values, where the two must not be confused."""

DEPTH: Final = "magma"
"""For depth, near ones bright."""

BOX: Final = "#00e5ff"
"""For a box around a region: cyan, which none of the maps above holds."""

BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
)
CATEGORIES: Final = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
"""For lines and bars side by side: those of Okabe and Ito, which colour-blind people can distinguish."""
