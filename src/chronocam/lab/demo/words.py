"""Figures as the demo's sentences say them."""

from chronocam.metrics import Interval


def percent(share: Interval) -> str:
    """Return a share with its interval: `60 % (58 to 63)`."""
    return f"{100 * share.mean:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f})"
