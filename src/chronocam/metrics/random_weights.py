"""Make the layers of a PyTorch model random for a while, from the output down, to see whether maps notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from inspect import isfunction, signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from chronocam.errors import InputError

_INITIALISERS = [
    f for f in vars(nn.init).values() if isfunction(f) and "generator" in signature(f).parameters
]
_DRAWS = {
    *_INITIALISERS,
    torch.bernoulli,
    torch.multinomial,
    torch.normal,
    torch.rand,
    torch.randint,
    torch.randn,
    torch.randperm,
    Tensor.bernoulli,
    Tensor.bernoulli_,
    Tensor.exponential_,
    Tensor.multinomial,
    Tensor.normal_,
    Tensor.random_,
    Tensor.uniform_,
}
_LIKE = {torch.rand_like: Tensor.uniform_, torch.randn_like: Tensor.normal_}


def parameterised(model: nn.Module) -> list[str]:
    """Return the paths of the modules that hold parameters of their own, the top (registered last) first.

    Example:
    >>> cc.metrics.parameterised(model)
    ['fc', 'conv2', 'conv1']
    """
    return [path for path, module in _parameterised(model)]


@contextmanager
def randomised(model: nn.Module, count: int, seed: int = 0) -> Iterator[list[str]]:
    """Make the top `count` modules of `parameterised(model)` random within the scope, and give their paths.

    They are initialised anew by their own `reset_parameters`; what has none, or is left as it was by it, is
    drawn from a normal distribution of its own mean and standard deviation. Every parameter and buffer is
    restored bit for bit on exit, also after an exception, and the global random numbers are neither drawn nor
    seeded. The same `seed` gives the same weights, and one more module does not change those of the modules
    above it. Other threads that run the model meet the random weights; `random_copy` leaves the model alone.

    Raises InputError for more modules than the model has.
    Source: the cascading randomisation of Adebayo et al. 2018 (arXiv:1810.03292), section 3.

    Example:
    >>> before = model.fc.weight.clone()
    >>> with cc.metrics.randomised(model, 1):
    ...     torch.equal(model.fc.weight, before)
    False
    >>> torch.equal(model.fc.weight, before)
    True
    """
    modules = _some(model, count)
    with _restored(model):
        with torch.no_grad(), _OwnNumbers(seed):
            for _, module in modules:
                _randomise(module)
        yield [path for path, _ in modules]


def random_copy(model: nn.Module, count: int, seed: int = 0, alone: bool = False) -> nn.Module:
    """Return a copy of the model whose top `count` modules are random, as in `randomised`.

    alone: the last of them alone.

    The model itself is never changed, so that other threads may go on with it; the copy takes its memory
    once more.

    Raises InputError for more modules than the model has.

    Example:
    >>> copy = cc.metrics.random_copy(model, 1)
    >>> torch.equal(copy.fc.weight, model.fc.weight), torch.equal(copy.conv2.weight, model.conv2.weight)
    (False, True)
    """
    copy = deepcopy(model)
    modules = _some(copy, count)
    with torch.no_grad(), _OwnNumbers(seed):
        for _, module in modules[-1:] if alone else modules:
            _randomise(module)
    return copy


def _some(model: nn.Module, count: int) -> list[tuple[str, nn.Module]]:
    modules = _parameterised(model)
    if not 0 <= count <= len(modules):
        raise InputError(
            f"count is {count}; expected 0 to {len(modules)}, the modules of the model with parameters"
        )
    return modules[:count]


def _parameterised(model: nn.Module) -> list[tuple[str, nn.Module]]:
    modules = list(model.named_modules())[::-1]
    return [(path, m) for path, m in modules if next(m.parameters(recurse=False), None) is not None]


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
    # A pass may write into a tensor (running statistics) or put another in its place, so both are restored:
    # which tensor stands under the name, and its values.
    before: list[tuple[Any, str, Tensor, Tensor]] = [
        (tensors, name, tensor, tensor.detach().clone())
        for module in model.modules()
        for tensors in (module._parameters, module._buffers)
        for name, tensor in tensors.items()
        if tensor is not None
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensors, name, tensor, values in before:
                tensors[name] = tensor
                tensor.copy_(values)


class _OwnNumbers(TorchFunctionMode):
    """Draws from numbers of its own: the global ones are those of all threads."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _LIKE:
            return _LIKE[func](torch.empty_like(*args, **kwargs), generator=self._of(args[0].device))
        if func in _DRAWS and kwargs.get("generator") is None:
            like = args[0] if args and isinstance(args[0], Tensor) else None
            device = torch.device(kwargs.get("device") or "cpu") if like is None else like.device
            kwargs["generator"] = self._of(device)
        return func(*args, **kwargs)

    def _of(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]
