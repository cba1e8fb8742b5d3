"""Targets: what makes a score, one per sample and target, of a model's outputs."""

from chronocam.targets.classes import Class, Contrast, Counter, Predicted
from chronocam.targets.dense import Region
from chronocam.targets.parse import parse
from chronocam.targets.regression import NegativeLoss, Norm, Regression

__all__ = [
    "Class",
    "Contrast",
    "Counter",
    "NegativeLoss",
    "Norm",
    "Predicted",
    "Region",
    "Regression",
    "parse",
]
