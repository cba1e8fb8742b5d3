"""Engines: the only code that touches a model, one file per framework."""

from chronocam.engines.base import Engine, LayerCall, Recording, engine_for

__all__ = ["Engine", "LayerCall", "Recording", "engine_for"]
