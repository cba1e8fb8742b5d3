"""Explanations: raw maps with what they explain, as a record, as pictures and as a file."""

from chronocam.explanation.record import COPIES, PAGE, Explanation, concatenate, load, on_one_grid

__all__ = ["COPIES", "PAGE", "Explanation", "concatenate", "load", "on_one_grid"]
