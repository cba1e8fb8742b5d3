"""Pictures from arrays: colours, overlays, contact sheets.

What explanations are drawn with; sheets and videos of whole explanations come from their `plot` and `save`.
"""

from chronocam.render._overlay import draw_boxes, overlay, strength
from chronocam.render.clips import overlay_clip
from chronocam.render.sheets.drive import depth_pictures
from chronocam.render.sheets.pictures import contact_sheet, save_figure

__all__ = [
    "contact_sheet",
    "depth_pictures",
    "draw_boxes",
    "overlay",
    "overlay_clip",
    "save_figure",
    "strength",
]
