"""Worlds with known truth, generated where they are needed."""
