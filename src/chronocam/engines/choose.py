"""Which engine runs a model."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from chronocam.engines.base import Engine
from chronocam.engines.blackbox import BlackBox, BlackBoxEngine
from chronocam.errors import ModelError


def engine_for(model: Any, output_layer: Any = None) -> Engine:
    """Return the engine that runs `model`.

    model: a `torch.nn.Module`, a `keras.Model` or a `cc.blackbox`.
    output_layer: where scores are read (path, object or index); None for the model's output.

    Raises ModelError for any other kind of model.

    Example:
        >>> engine = cc.engines.engine_for(model)
        >>> engine.framework, engine.resolve(0)
        ('torch', 'conv1')

    """
    # A model of a framework exists only where that framework was imported: nothing is imported to find out.
    # Keras comes first, since its models on PyTorch are modules as well.
    keras, torch = sys.modules.get("keras"), sys.modules.get("torch")
    engine: Engine
    if isinstance(model, BlackBox):
        return BlackBoxEngine(model, output_layer)
    if keras is not None and isinstance(model, getattr(keras, "Model", ())):
        engine = import_module("chronocam.engines.keras.engine").KerasEngine(model, output_layer)
        return engine
    if torch is not None and isinstance(model, torch.nn.Module):
        engine = import_module("chronocam.engines.torch.engine").TorchEngine(model, output_layer)
        return engine
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    if kind.startswith("tf_keras."):
        raise ModelError(
            f"cannot explain a {kind} of Keras 2; save it as .keras or .h5 and load it with Keras 3"
        )
    if kind.startswith("torch.export."):
        raise ModelError(f"cannot explain a {kind}; give torch.export.unflatten(exported)")
    raise ModelError(f"cannot explain a {kind}; expected a torch.nn.Module, a keras.Model or cc.blackbox(f)")
