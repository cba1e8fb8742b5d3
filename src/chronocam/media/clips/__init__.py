"""Clips: reading, sampling, preparing and writing them."""
