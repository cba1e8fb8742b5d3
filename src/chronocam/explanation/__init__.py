"""Explanations: raw maps with what they explain, as a record, as pictures and as a file."""

from chronocam.explanation.record import PAGE, Explanation, concatenate, load

__all__ = ["PAGE", "Explanation", "concatenate", "load"]
