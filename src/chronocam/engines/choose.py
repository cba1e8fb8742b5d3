"""Which engine runs a model."""

from __future__ import annotations

import sys
from collections.abc import Mapping
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
    raise _no_model(model)


def _no_model(given: Any) -> ModelError:
    """Return the error for what no engine runs, with what its giver may have meant."""
    kind = f"{type(given).__module__}.{type(given).__qualname__}".removeprefix("builtins.")
    hint = "expected a torch.nn.Module, a keras.Model or cc.blackbox(f)"
    if kind.startswith("tf_keras."):
        kind, hint = f"{kind} of Keras 2", "save it as .keras or .h5 and load it with Keras 3"
    elif kind.startswith("torch.export."):
        hint = "give torch.export.unflatten(exported)"
    elif isinstance(given, str):
        kind, hint = f"str, `{given}`", f"load the model that it names: cc.models.load({given!r})"
    elif isinstance(given, Mapping):
        hint = "of weights, give the model that they are for, after model.load_state_dict(weights)"
    elif isinstance(given, type) or type(given).__name__ == "function":
        kind = "class" if isinstance(given, type) else kind
        hint = f"give the model that it makes, {given.__name__}(…), or cc.blackbox(f) of a function"
    return ModelError(f"cannot explain {'an' if kind[0] in 'aeio' else 'a'} {kind}; {hint}")
