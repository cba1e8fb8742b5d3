"""Pictures from arrays: colours, overlays, contact sheets, videos."""

from chronocam.render._overlay import draw_boxes, overlay, relative, strength, to_pictures
from chronocam.render.clips import overlay_clip, pace, to_clips
from chronocam.render.sheets.clip import Evidence, clip_sheet
from chronocam.render.sheets.drive import Curve, DriveSheet, Strip, Track, depth_pictures, drive_sheet
from chronocam.render.sheets.features import Tile, feature_sheet, rasterised
from chronocam.render.sheets.pictures import contact_sheet, save_figure
from chronocam.render.sheets.sequence import LagCurve, Sequenced, SettlingCurve, sequence_sheet
from chronocam.render.video import side_by_side

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
