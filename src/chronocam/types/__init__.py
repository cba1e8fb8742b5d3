"""The contracts that the stages share: arrays, what a target sees and returns, what a method is given."""

from chronocam.types.arrays import (
    INPUT,
    Array,
    BlackBox,
    Change,
    Inputs,
    LayerLike,
    Media,
    Model,
    Pool,
    Rows,
    Targets,
)
from chronocam.types.captures import Capture, Need, Stage, View, Window
from chronocam.types.findings import Finding
from chronocam.types.targets import BoxInfo, Outputs, Scored, Target, TargetInfo, WordsInfo

__all__ = [
    "INPUT",
    "Array",
    "BlackBox",
    "BoxInfo",
    "Capture",
    "Change",
    "Finding",
    "Inputs",
    "LayerLike",
    "Media",
    "Model",
    "Need",
    "Outputs",
    "Pool",
    "Rows",
    "Scored",
    "Stage",
    "Target",
    "TargetInfo",
    "Targets",
    "View",
    "Window",
    "WordsInfo",
]
