"""Layers of a PyTorch model made random for a while, from the output down: the sanity check of maps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from chronocam.errors import InputError


def parameterised(model: nn.Module) -> list[str]:
    """Return the paths of the modules that hold parameters of their own, the top (registered last) first."""
    return [path for path, module in _parameterised(model)]


@contextmanager
def randomised(model: nn.Module, count: int, seed: int = 0) -> Iterator[list[str]]:
    """Make the top `count` modules of `parameterised(model)` random within the scope; gives their paths.

    They are initialised anew by their own `reset_parameters`; what has none, or is left as it was by it, is
    drawn from a normal distribution of its own mean and standard deviation. Every parameter and buffer is
    restored bit for bit on exit, also after an exception, and the random number generators are left as they
    were. The same `seed` gives the same weights, and one more module does not change those of the modules
    above it.

    Raises InputError for a count that the model does not have.
    Source: the cascading randomisation of Adebayo et al. 2018 (arXiv:1810.03292), section 3.
    """
    modules = _parameterised(model)
    if not 0 <= count <= len(modules):
        raise InputError(
            f"count is {count}; expected 0 to {len(modules)}, the modules of the model with parameters"
        )
    with _restored(model):
        with torch.no_grad(), _own_random_numbers(model, seed):
            for _, module in modules[:count]:
                _randomise(module)
        yield [path for path, _ in modules[:count]]


def _parameterised(model: nn.Module) -> list[tuple[str, nn.Module]]:
    held = [
        (path, m) for path, m in model.named_modules() if next(m.parameters(recurse=False), None) is not None
    ]
    return held[::-1]


def _randomise(module: nn.Module) -> None:
    before = [(p, p.detach().clone()) for p in module.parameters(recurse=False)]
    reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    if callable(reset):
        reset()
    for parameter, was in before:
        # A constant (a gain of 1, a bias of 0) is its own fresh start.
        if torch.equal(parameter, was) and parameter.numel() > 1 and parameter.is_floating_point():
            parameter.normal_(parameter.mean().item(), parameter.std().item())


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    kept: list[tuple[Any, str, Tensor, Tensor]] = [
        (held, name, tensor, tensor.detach().clone())
        for module in model.modules()
        for held in (module._parameters, module._buffers)
        for name, tensor in held.items()
        if tensor is not None
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for held, name, tensor, value in kept:
                held[name] = tensor
                tensor.copy_(value)


@contextmanager
def _own_random_numbers(model: nn.Module, seed: int) -> Iterator[None]:
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        for index in devices:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield
