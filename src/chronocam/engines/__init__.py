"""Engines: the only code that touches a model, one folder per framework."""

from chronocam.engines.base import Adds, Engine, LayerCall, Learned, Sight, TextTower
from chronocam.engines.choose import engine_for
from chronocam.engines.geometry import Geometry, geometry_of
from chronocam.engines.recording import Call, ClipOptions, Recording, Request, Result, Resumed, Score
from chronocam.types import BlackBox

__all__ = [
    "Adds",
    "BlackBox",
    "Call",
    "ClipOptions",
    "Engine",
    "Geometry",
    "LayerCall",
    "Learned",
    "Recording",
    "Request",
    "Result",
    "Resumed",
    "Score",
    "Sight",
    "TextTower",
    "engine_for",
    "geometry_of",
]
