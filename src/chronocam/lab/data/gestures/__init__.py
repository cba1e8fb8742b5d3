"""Rendered clips of people who wave, clap, smile, raise or lower an arm, with the truth of where and when."""

from chronocam.lab.data.gestures.folder import export
from chronocam.lab.data.gestures.motion import LABELS
from chronocam.lab.data.gestures.world import PHOTOS, Clips, Record, clip, clips, moments, parts

__all__ = ["LABELS", "PHOTOS", "Clips", "Record", "clip", "clips", "export", "moments", "parts"]
