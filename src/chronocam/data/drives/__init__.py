"""Drives of a moving camera: rendered ones whose depth and motion are known exactly, and real ones from files."""

from chronocam.data.drives.read import count_frames, find_drives, read_drive
from chronocam.data.drives.record import Drive
from chronocam.data.drives.world import SCENES, drive, drives
from chronocam.data.drives.write import export

__all__ = ["SCENES", "Drive", "count_frames", "drive", "drives", "export", "find_drives", "read_drive"]
