"""Worlds with known truth, generated where they are needed."""

from chronocam.data import digits

__all__ = ["digits"]
