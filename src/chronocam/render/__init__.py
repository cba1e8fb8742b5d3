"""Pictures from arrays: colours, overlays, contact sheets, videos."""

from chronocam.render.clip_sheet import Evidence, clip_sheet
from chronocam.render.clip_video import side_by_side
from chronocam.render.clips import overlay_clip, pace, to_clips
from chronocam.render.drive_sheet import Curve, DriveSheet, Strip, Track, depth_pictures, drive_sheet
from chronocam.render.feature_sheet import Tile, feature_sheet, rasterised
from chronocam.render.overlay import draw_boxes, overlay, relative, strength, to_pictures
from chronocam.render.sequence_sheet import LagCurve, Sequenced, SettlingCurve, sequence_sheet
from chronocam.render.sheet import contact_sheet, save_figure

__all__ = [
    "Curve",
    "DriveSheet",
    "Evidence",
    "LagCurve",
    "Sequenced",
    "SettlingCurve",
    "Strip",
    "Tile",
    "Track",
    "clip_sheet",
    "contact_sheet",
    "depth_pictures",
    "draw_boxes",
    "drive_sheet",
    "feature_sheet",
    "overlay",
    "overlay_clip",
    "pace",
    "rasterised",
    "relative",
    "save_figure",
    "sequence_sheet",
    "side_by_side",
    "strength",
    "to_clips",
    "to_pictures",
]
