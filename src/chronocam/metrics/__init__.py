"""Measures of maps: per-sample values, their confidence intervals, and the baselines to set them beside.

Importing this imports no framework; `randomised`, which makes a PyTorch model random for a while, does.
"""

from typing import TYPE_CHECKING

from chronocam._lazy import lazily as _lazily
from chronocam.metrics._deletion import Curve, deletion, insertion
from chronocam.metrics._localisation import (
    Localisation,
    box_iou,
    energy_inside,
    largest_region,
    localisation,
    pointing_game,
)
from chronocam.metrics.agreement import Agreement, noise_agreement
from chronocam.metrics.baselines import centre_prior, random_maps
from chronocam.metrics.comparisons import Difference, holm, paired, samples_needed
from chronocam.metrics.drop import average_drop, average_gain, highlighted, increase_in_confidence
from chronocam.metrics.intervals import Interval, bootstrap
from chronocam.metrics.motion import Motion, motion_test
from chronocam.metrics.sanity import Randomisation, randomisation_curve, rank_correlation, ssim
from chronocam.metrics.stability import flicker, sparseness
from chronocam.metrics.temporal import active_frames, frame_importance, temporal_auc, temporal_iou

if TYPE_CHECKING:
    from chronocam.metrics.random_weights import parameterised, random_copy, randomised
else:
    __getattr__, __dir__ = _lazily(
        __name__, {".random_weights": ["parameterised", "random_copy", "randomised"]}
    )

__all__ = [
    "Agreement",
    "Curve",
    "Difference",
    "Interval",
    "Localisation",
    "Motion",
    "Randomisation",
    "active_frames",
    "average_drop",
    "average_gain",
    "bootstrap",
    "box_iou",
    "centre_prior",
    "deletion",
    "energy_inside",
    "flicker",
    "frame_importance",
    "highlighted",
    "holm",
    "increase_in_confidence",
    "insertion",
    "largest_region",
    "localisation",
    "motion_test",
    "noise_agreement",
    "paired",
    "parameterised",
    "pointing_game",
    "random_copy",
    "random_maps",
    "randomisation_curve",
    "randomised",
    "rank_correlation",
    "samples_needed",
    "sparseness",
    "ssim",
    "temporal_auc",
    "temporal_iou",
]
