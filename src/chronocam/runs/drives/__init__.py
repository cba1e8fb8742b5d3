"""Drives: read, explained, drawn and written down."""
