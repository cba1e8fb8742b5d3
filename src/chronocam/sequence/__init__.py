"""Relevance through recurrent networks: which feature at which step drove which output.

explanation = cc.sequence.LRP(model).explain(features, cc.targets.EveryStep())

Methods are one file each. Importing this imports no framework.
"""

from chronocam.sequence.base import METHODS, SequenceMethod
from chronocam.sequence.deletion import FeatureDeletion
from chronocam.sequence.explanation import SequenceExplanation, load
from chronocam.sequence.gradient import Gradient
from chronocam.sequence.gradientxinput import GradientXInput
from chronocam.sequence.integratedgradients import IntegratedGradients
from chronocam.sequence.ledger import Ledger
from chronocam.sequence.lrp import LRP
from chronocam.sequence.rules import register_rule
from chronocam.sequence.sample import Attribution, Sample
from chronocam.sequence.settling import Horizon, Settling, Similarity
from chronocam.sequence.smoothgrad import SmoothGrad

__all__ = [
    "LRP",
    "METHODS",
    "Attribution",
    "FeatureDeletion",
    "Gradient",
    "GradientXInput",
    "Horizon",
    "IntegratedGradients",
    "Ledger",
    "Sample",
    "SequenceExplanation",
    "SequenceMethod",
    "Settling",
    "Similarity",
    "SmoothGrad",
    "load",
    "register_rule",
]
