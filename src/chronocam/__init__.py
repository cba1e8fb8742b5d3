"""chronocam: where and when a vision model looked."""

__version__ = "0.1.0"
