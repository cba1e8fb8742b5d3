"""Measures of maps: per-sample values, their confidence intervals, and the baselines to set them beside."""

from chronocam.metrics.baselines import centre_prior, random_maps
from chronocam.metrics.intervals import Interval, bootstrap
from chronocam.metrics.localisation import box_iou, energy_inside, pointing_game

__all__ = ["Interval", "bootstrap", "box_iou", "centre_prior", "energy_inside", "pointing_game", "random_maps"]
