"""Worlds with known truth, generated where they are needed."""

from chronocam.data import digits, gestures

__all__ = ["digits", "gestures"]
