"""Targets make scores of a model's outputs: one per sample and target."""

from chronocam.targets._parse import parse
from chronocam.targets.boxes import Boxes
from chronocam.targets.classes import Class, Contrast, Predicted
from chronocam.targets.composed import Counter
from chronocam.targets.dense import Region
from chronocam.targets.keypoints import Keypoint
from chronocam.targets.masks import Mask
from chronocam.targets.regression import Deviation, NegativeLoss, Norm, Regression, Towards
from chronocam.targets.steps import EveryStep, MajorityVote, Step
from chronocam.targets.text import Caption, Similarity
from chronocam.targets.words import Phrase, Token

__all__ = [
    "Boxes",
    "Caption",
    "Class",
    "Contrast",
    "Counter",
    "Deviation",
    "EveryStep",
    "Keypoint",
    "MajorityVote",
    "Mask",
    "NegativeLoss",
    "Norm",
    "Phrase",
    "Predicted",
    "Region",
    "Regression",
    "Similarity",
    "Step",
    "Token",
    "Towards",
    "parse",
]
