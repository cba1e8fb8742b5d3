"""Worlds with known truth, generated where they are needed."""

from chronocam.lab.data import digits, drives, gestures

__all__ = ["digits", "drives", "gestures"]
