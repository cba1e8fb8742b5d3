"""Drives on disk: KITTI, RGB-D folders and videos."""

from chronocam.media.drives.read import count_frames, find_drives, read_drive
from chronocam.media.drives.record import Drive

__all__ = ["Drive", "count_frames", "find_drives", "read_drive"]
