"""Relevance through recurrent networks: which feature at which step drove which output.

explanation = cc.sequence.LRP(model).explain(features, cc.targets.EveryStep())

Methods are one file each, and a method of your own is registered by being defined. Importing this imports no
framework.
"""

from collections.abc import Mapping
from types import MappingProxyType

from chronocam.sequence import run as _run  # noqa: F401  # what `SequenceMethod.explain` calls
from chronocam.sequence.base import METHODS as _METHODS
from chronocam.sequence.base import SequenceMethod
from chronocam.sequence.explanation import SequenceExplanation, load
from chronocam.sequence.gradient import Gradient
from chronocam.sequence.gradientxinput import GradientXInput
from chronocam.sequence.integratedgradients import IntegratedGradients
from chronocam.sequence.lrp import LRP
from chronocam.sequence.settling import Horizon, Settling, Similarity
from chronocam.sequence.smoothgrad import SmoothGrad

METHODS: Mapping[str, type[SequenceMethod]] = MappingProxyType(_METHODS)
"""Every relevance method by its name."""

__all__ = [
    "LRP",
    "METHODS",
    "Gradient",
    "GradientXInput",
    "Horizon",
    "IntegratedGradients",
    "SequenceExplanation",
    "SequenceMethod",
    "Settling",
    "Similarity",
    "SmoothGrad",
    "load",
]
