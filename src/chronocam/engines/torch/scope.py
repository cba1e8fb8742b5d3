"""What a PyTorch model is looked into in, and what is known of it beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_DEPTH: Final = 3  # how deep lists and dicts within each other are looked into


def walk(model: nn.Module, more: Iterable[nn.Module] = ()) -> list[nn.Module]:
    """Return every module of a model, and of more, once, itself first; faster than `model.modules()`."""
    modules = list(dict.fromkeys([model, *more]))
    known = set(modules)
    for module in modules:  # grows while it is walked
        for child in module._modules.values():
            if child is not None and child not in known:
                known.add(child)
                modules.append(child)
    return modules


def loose_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return by path the modules that are kept in plain lists, tuples and dicts, where PyTorch has no names.

    They run like others; only their parameters are not the model's.
    """
    known, found, roots = set(walk(model)), dict[str, nn.Module](), [("", model)]
    for prefix, root in roots:  # grows while it is walked
        own = [(path, m) for path, m in root.named_modules(prefix=prefix) if not _is_of_torch(m)]
        attributes = [(f"{path}.{name}", value) for path, m in own for name, value in vars(m).items()]
        for path, value in attributes:
            for rest, module in _held(value, _DEPTH):
                if module not in known:
                    at = f"{path}{rest}".removeprefix(".")
                    found[at] = module
                    known.update(walk(module))
                    roots.append((at, module))
    return found


def _is_of_torch(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.")


def _held(value: object, depth: int) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules in a value, lists and dicts within each other, with what leads to each."""
    if isinstance(value, nn.Module):
        yield "", value
    elif depth and isinstance(value, (list, tuple, dict)):
        parts = dict(enumerate(value)) if isinstance(value, (list, tuple)) else value
        for key, part in parts.items():
            for rest, module in _held(part, depth - 1):
                yield f".{key}{rest}", module


def settle(scope: ExitStack, model: nn.Module) -> None:
    """Enter, for as long as `scope` is, what a model can be looked into in.

    Inference mode is left (nothing can be differentiated in it), and autocast's weight cache is bypassed. The
    grad mode is restored in the end, whatever a hook sets it to.
    """
    if torch.is_inference_mode_enabled():
        scope.enter_context(torch.inference_mode(False))
    scope.enter_context(torch.set_grad_enabled(torch.is_grad_enabled()))
    for device_type in {"cpu", device_of(model).type}:
        if torch.is_autocast_enabled(device_type):
            # Weights cast while no graph is built must not be served to the caller's own training step.
            dtype = torch.get_autocast_dtype(device_type)
            scope.enter_context(torch.autocast(device_type, dtype=dtype, cache_enabled=False))


def device_of(model: nn.Module) -> torch.device:
    """Return where the model's first parameter or buffer is; the CPU for a model without any."""
    first = _first(model)
    first = next(model.buffers(), None) if first is None else first
    return torch.device("cpu") if first is None else first.device


def kind_of(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return the device and the precision of what a model takes."""
    first = _first(model)
    if first is not None and first.is_floating_point():
        return first.device, first.dtype
    return device_of(model), dtype_of(model)


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the precision of the model's first floating-point parameter; float32 for a model without any."""
    first = _first(model, floating=True)
    return torch.float32 if first is None else first.dtype


def _first(model: nn.Module, floating: bool = False) -> Tensor | None:
    """Return the first of `model.parameters()`, or of floating-point ones, without a walk through all."""
    ahead: list[nn.Module | None] = [model]
    while ahead:
        module = ahead.pop()
        if module is not None:
            for parameter in module._parameters.values():
                if parameter is not None and (not floating or parameter.is_floating_point()):
                    return parameter
            ahead.extend(reversed(module._modules.values()))
    return None


def couples_samples(model: nn.Module, modules: Sequence[nn.Module] | None = None) -> bool:
    """Say whether a sample's score depends on the others: BatchNorm that uses the batch's statistics."""
    return any(
        isinstance(m, _BatchNorm) and (m.training or not m.track_running_stats)
        for m in (walk(model) if modules is None else modules)
    )


def training_note(modules: Sequence[nn.Module]) -> str | None:
    """Return a note where modules in training mode change scores: by chance, or by the other samples."""
    names = dict.fromkeys(type(m).__name__ for m in modules if m.training and _differs_in_training(m))
    if not names:
        return None
    return (
        f"the model is in training mode ({', '.join(list(names)[:4])}): maps depend on the other samples or "
        "on chance, and are not of the network that predicts; call model.eval() first"
    )


def _differs_in_training(module: nn.Module) -> bool:
    if isinstance(module, _BatchNorm):
        return True
    # Dropout, stochastic depth and what drops paths have a probability; recurrent layers and attention too.
    drops = "drop" in type(module).__name__.lower() or type(module).__name__ == "StochasticDepth"
    names = ("p", "drop_prob", "drop_rate", "rate") if drops else ("dropout",)
    rates = [getattr(module, name, None) for name in names]
    return any(isinstance(rate, (int, float)) and rate > 0 for rate in rates)


def lacks(model: nn.Module, name: str) -> bool:
    """Say that a model has no such attribute, without the error that PyTorch makes up for that each time."""
    kind, held = type(model), vars(model)
    if kind.__getattr__ is not nn.Module.__getattr__:  # as of a wrapper that asks the model inside
        return not hasattr(model, name)
    if name in held or hasattr(kind, name):
        return False
    return not (name in held["_modules"] or name in held["_parameters"] or name in held["_buffers"])


def attribute(model: nn.Module, name: str) -> Any:
    """Return an attribute of a model; None where it has none."""
    return None if lacks(model, name) else getattr(model, name, None)
