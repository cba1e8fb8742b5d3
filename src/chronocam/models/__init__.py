"""Models by spec, each with its preprocessing and labels; importing this imports no framework."""

from chronocam.models.specs import Loaded, load

__all__ = ["Loaded", "load"]
