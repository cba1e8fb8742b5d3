"""What a network's channels are: their maps of a picture, their kernels, the inputs that excite them most.

Neighbours of class activation maps, which say where; these say what for.
"""

from chronocam.features.ascent import Maximised, activation_maximisation
from chronocam.features.kernels import Filters, filters
from chronocam.features.maps import FeatureMaps, feature_maps

__all__ = ["FeatureMaps", "Filters", "Maximised", "activation_maximisation", "feature_maps", "filters"]
