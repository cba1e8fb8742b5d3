"""Scopes in which a PyTorch model can be looked into, and after which it is as it was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import chain
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Forward: TypeAlias = Callable[..., Any]
"""A module's `forward`: what it takes and returns is the model's own affair."""


def walk(model: nn.Module) -> list[nn.Module]:
    """Return every module of a model once, itself first; several times as fast as `model.modules()`."""
    modules, known = [model], {model}
    for module in modules:  # grows while it is walked
        for child in module._modules.values():
            if child is not None and child not in known:
                known.add(child)
                modules.append(child)
    return modules


@contextmanager
def as_found(model: nn.Module, modules: Sequence[nn.Module] | None = None) -> Iterator[None]:
    """Undo on exit, also after an exception, what a forward pass may change.

    Inference mode is left (nothing can be differentiated in it), compiled modules run eagerly so that hooks
    fire, autocast's weight cache is bypassed, and the buffers of modules in training mode (BatchNorm's
    running statistics) get their values back. The grad mode is restored whatever a hook sets it to.

    modules: those of the model, where they were walked already.
    """
    modules = walk(model) if modules is None else modules
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(torch.is_grad_enabled()))
        stack.enter_context(_buffers_kept(modules))
        for device_type in {"cpu", device_of(model).type}:
            if torch.is_autocast_enabled(device_type):
                # Weights cast while no graph is built must not be served to the caller's own training step.
                dtype = torch.get_autocast_dtype(device_type)
                stack.enter_context(torch.autocast(device_type, dtype=dtype, cache_enabled=False))
        if _some_compiled(modules):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


@contextmanager
def differentiable_rnns(model: nn.Module, modules: Sequence[nn.Module] | None = None) -> Iterator[None]:
    """Let recurrent layers in eval mode be differentiated on CUDA: cuDNN's cannot be.

    cuDNN is off only while such a layer runs; dropout and the rest of the model stay as they are.
    """
    scopes: list[AbstractContextManager[Any]] = []

    def enter(module: nn.Module, args: object) -> None:
        scopes.append(torch.backends.cudnn.flags(enabled=False))
        scopes[-1].__enter__()

    def leave(module: nn.Module, args: object, output: object) -> None:
        scopes.pop().__exit__(None, None, None)

    with ExitStack() as stack:
        for module in walk(model) if modules is None else modules:
            if isinstance(module, nn.RNNBase) and not module.training and device_of(module).type == "cuda":
                stack.callback(module.register_forward_pre_hook(enter).remove)
                stack.callback(module.register_forward_hook(leave, always_call=True).remove)
        yield


@contextmanager
def forward_replaced(wraps: Mapping[nn.Module, Callable[[Forward], Forward]]) -> Iterator[None]:
    """Let the modules run what `wraps` make of their `forward`; undone on exit, also after an exception.

    Hooks see a call before and after it, and cannot keep a module from running; its `forward` can.
    """
    before = [(module.__dict__, module.__dict__.get("forward")) for module in wraps]
    try:
        for module, wrap in wraps.items():
            module.__dict__["forward"] = wrap(module.forward)  # the instance's own: its class stays as it is
        yield
    finally:
        for attributes, own in before:
            attributes.pop("forward", None)
            if own is not None:
                attributes["forward"] = own


def device_of(model: nn.Module) -> torch.device:
    """Return where the model's first parameter or buffer is; the CPU for a model without any."""
    first = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the precision of the model's first floating-point parameter; float32 for a model without any."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


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


def _some_compiled(modules: Sequence[nn.Module]) -> bool:
    """Say whether a module is compiled: by `torch.compile`, by `module.compile()` or at its `forward`."""
    if any("_orig_mod" in m._modules or getattr(m, "_compiled_call_impl", None) is not None for m in modules):
        return True
    forwards = {getattr(type(m), "forward", None) for m in modules}
    forwards |= {m.__dict__["forward"] for m in modules if "forward" in m.__dict__}
    return any(hasattr(forward, "_torchdynamo_orig_callable") for forward in forwards)


@contextmanager
def _buffers_kept(modules: Sequence[nn.Module]) -> Iterator[None]:
    buffers: list[tuple[nn.Module, str, Tensor, Tensor]] = [
        (module, name, buffer, buffer.detach().clone())
        for module in modules
        if module.training
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    # The buffer goes back itself, with its values: an optimiser or a state_dict may hold on to it.
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                module._buffers[name] = buffer
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
