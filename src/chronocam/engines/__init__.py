"""Engines: the only code that touches a model, one file per framework."""

from chronocam.engines.base import Clips, Engine, LayerCall, Recording, engine_for

__all__ = ["Clips", "Engine", "LayerCall", "Recording", "engine_for"]
