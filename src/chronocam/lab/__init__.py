"""Worlds with known truth, training, and networks trained on them."""
