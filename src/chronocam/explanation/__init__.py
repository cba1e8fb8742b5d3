"""Explanations: raw maps with what they explain, as a record, as pictures and as a file."""

from chronocam.explanation.parts import COPIES, concatenate, on_one_grid
from chronocam.explanation.record import PAGE, Explanation, load

__all__ = ["COPIES", "PAGE", "Explanation", "concatenate", "load", "on_one_grid"]
