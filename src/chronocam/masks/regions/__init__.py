"""What is masked together: one file per kind."""

from chronocam.masks.regions.base import KINDS, Regions, regions_of
from chronocam.masks.regions.cells import Cells
from chronocam.masks.regions.features import Features
from chronocam.masks.regions.frames import Frames
from chronocam.masks.regions.smooth import Smooth
from chronocam.masks.regions.superpixels import Superpixels
from chronocam.masks.regions.tubes import Tubes

__all__ = ["KINDS", "Cells", "Features", "Frames", "Regions", "Smooth", "Superpixels", "Tubes", "regions_of"]
