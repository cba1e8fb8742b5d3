"""Pictures from arrays: colours, overlays, contact sheets."""

from chronocam.render.overlay import draw_boxes, overlay, strength, to_pictures
from chronocam.render.sheet import contact_sheet, save_figure

__all__ = ["contact_sheet", "draw_boxes", "overlay", "save_figure", "strength", "to_pictures"]
