"""Worlds with known truth, and drives in files: the public names of `chronocam.lab.data`."""

import sys

from chronocam.lab.data import digits, drives, gestures

__all__ = ["digits", "drives", "gestures"]

# `import chronocam.data.drives` gives the lab's own module, and no second copy of its classes.
for _module in (digits, drives, gestures):
    sys.modules[f"{__name__}.{_module.__name__.rpartition('.')[2]}"] = _module
