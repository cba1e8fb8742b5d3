"""Measures of maps, one file per kind; a class with a `name` is found by being defined."""

from chronocam.evaluation.measures.base import MEASURES, Measure, measure_named, measures_named
from chronocam.evaluation.measures.coherency import ADCC, ARCC, Coherency
from chronocam.evaluation.measures.deletion import Deletion, Insertion
from chronocam.evaluation.measures.drop import Drop, Gain, Increase
from chronocam.evaluation.measures.focus import Focus
from chronocam.evaluation.measures.localisation import Energy, MaxBoxAcc, Pointing, PxAP
from chronocam.evaluation.measures.randomisation import EfficientRandomisation, Randomisation, RandomLogit
from chronocam.evaluation.measures.road import ROAD
from chronocam.evaluation.measures.sensitivity import AverageSensitivity, MaxSensitivity, Stability
from chronocam.evaluation.measures.shape import Complexity, Flicker, Sparseness
from chronocam.evaluation.measures.subsets import Infidelity, MuFidelity
from chronocam.evaluation.measures.temporal import TemporalAUC, TemporalIoU

__all__ = [
    "ADCC",
    "ARCC",
    "MEASURES",
    "ROAD",
    "AverageSensitivity",
    "Coherency",
    "Complexity",
    "Deletion",
    "Drop",
    "EfficientRandomisation",
    "Energy",
    "Flicker",
    "Focus",
    "Gain",
    "Increase",
    "Infidelity",
    "Insertion",
    "MaxBoxAcc",
    "MaxSensitivity",
    "Measure",
    "MuFidelity",
    "Pointing",
    "PxAP",
    "RandomLogit",
    "Randomisation",
    "Sparseness",
    "Stability",
    "TemporalAUC",
    "TemporalIoU",
    "measure_named",
    "measures_named",
]
