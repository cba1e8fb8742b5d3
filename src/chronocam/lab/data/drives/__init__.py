"""Drives of a moving camera: rendered ones with exact depth and motion, and real ones from files."""

from chronocam.lab.data.drives.world import SCENES, drive, drives, parts
from chronocam.lab.data.drives.write import export
from chronocam.media.drives import Drive, count_frames, find_drives, read_drive

__all__ = [
    "SCENES",
    "Drive",
    "count_frames",
    "drive",
    "drives",
    "export",
    "find_drives",
    "parts",
    "read_drive",
]
