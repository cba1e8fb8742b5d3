"""Which engine runs a model."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from chronocam.engines.base import Engine
from chronocam.engines.blackbox import BlackBoxEngine
from chronocam.errors import InputError, ModelError
from chronocam.types import BlackBox


def engine_for(
    model: Any, output_layer: Any = None, fast: bool = False, precision: str | None = None
) -> Engine:
    """Return the engine that runs `model`.

    model: a `torch.nn.Module`, a `keras.Model` or a `cc.blackbox`.
    output_layer: where scores are read (path, object or index); None for the model's output.
    fast, precision: whether a faster copy of a PyTorch model is run, and in what precision.

    Raises ModelError for any other kind of model, and InputError for another precision.

    Example:
        >>> engine = cc.engines.engine_for(model)
        >>> engine.framework, engine.resolve(0)
        ('torch', 'conv1')

    """
    # A model of a framework exists only where that framework was imported: nothing is imported to find out.
    # Keras comes first, since its models on PyTorch are modules as well.
    keras, torch = sys.modules.get("keras"), sys.modules.get("torch")
    engine: Engine
    if precision is not None and not (fast and precision == "bf16"):
        raise InputError(
            f'precision={precision!r}; expected "bf16", with fast=True, or None for the model\'s own'
        )
    of_keras = keras is not None and isinstance(model, getattr(keras, "Model", ()))
    of_torch = torch is not None and isinstance(model, torch.nn.Module) and not of_keras
    if fast and not of_torch:
        raise ModelError(f"fast=True is for PyTorch models, not for a {type(model).__name__}; leave it out")
    if fast:
        engine = import_module("chronocam.engines.torch.fast").FastEngine(model, output_layer, precision)
        return engine
    if isinstance(model, BlackBox):
        return BlackBoxEngine(model, output_layer)
    if of_keras:
        engine = import_module("chronocam.engines.keras.engine").KerasEngine(model, output_layer)
        return engine
    if of_torch:
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
