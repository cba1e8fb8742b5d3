"""What is masked together: one file per kind."""

from chronocam.masks.regions.base import KINDS, Regions, regions_of
from chronocam.masks.regions.cells import Cells
from chronocam.masks.regions.frames import Frames
from chronocam.masks.regions.smooth import Smooth
from chronocam.masks.regions.superpixels import Superpixels

__all__ = ["KINDS", "Cells", "Frames", "Regions", "Smooth", "Superpixels", "regions_of"]
