"""Detectors: their rows before suppression, which of them are kept, and what was found."""

from chronocam.detections.adapters import ADAPTERS, Adapter, adapter_for, finds_boxes
from chronocam.detections.record import Detection, Detections
from chronocam.detections.rows import Rows
from chronocam.detections.suppress import Kept, Suppression

__all__ = [
    "ADAPTERS",
    "Adapter",
    "Detection",
    "Detections",
    "Kept",
    "Rows",
    "Suppression",
    "adapter_for",
    "finds_boxes",
]
