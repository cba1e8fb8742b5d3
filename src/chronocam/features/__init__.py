"""The channels of a network: their maps of a picture, their kernels, the inputs that excite them most.

Class activation maps show where; these show what a channel responds to.
"""

from chronocam.features.ascent import Maximised, activation_maximisation
from chronocam.features.kernels import Filters, filters
from chronocam.features.maps import FeatureMaps, feature_maps

__all__ = ["FeatureMaps", "Filters", "Maximised", "activation_maximisation", "feature_maps", "filters"]
