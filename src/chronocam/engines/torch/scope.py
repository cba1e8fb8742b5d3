"""Scopes in which a PyTorch model can be looked into, and after which it is as it was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def as_found(model: nn.Module) -> Iterator[None]:
    """Undo on exit, also after an exception, what a forward pass may change.

    Inference mode is left (nothing can be differentiated in it), compiled modules run eagerly so that hooks
    fire, autocast's weight cache is bypassed, and the buffers of modules in training mode (BatchNorm's
    running statistics) get their values back. The grad mode is restored whatever a hook sets it to.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(torch.is_grad_enabled()))
        stack.enter_context(_buffers_kept(model))
        for device_type in {"cpu", device_of(model).type}:
            if torch.is_autocast_enabled(device_type):
                # Weights cast while no graph is built must not be served to the caller's own training step.
                dtype = torch.get_autocast_dtype(device_type)
                stack.enter_context(torch.autocast(device_type, dtype=dtype, cache_enabled=False))
        if any(_is_compiled(module) for module in model.modules()):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


@contextmanager
def differentiable_rnns(model: nn.Module) -> Iterator[None]:
    """Let recurrent layers in eval mode be differentiated on CUDA: cuDNN's cannot be.

    cuDNN is off only while such a layer runs; dropout and the rest of the model stay as they are.
    """
    scopes: list[Any] = []

    def enter(module: nn.Module, args: Any) -> None:
        scopes.append(torch.backends.cudnn.flags(enabled=False))
        scopes[-1].__enter__()

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        scopes.pop().__exit__(None, None, None)

    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, nn.RNNBase) and not module.training and device_of(module).type == "cuda":
                stack.callback(module.register_forward_pre_hook(enter).remove)
                stack.callback(module.register_forward_hook(leave, always_call=True).remove)
        yield


def device_of(model: nn.Module) -> torch.device:
    """Return where the model's first parameter or buffer is; the CPU for a model without any."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the precision of the model's first floating-point parameter; float32 for a model without any."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def couples_samples(model: nn.Module) -> bool:
    """Say whether a sample's score depends on the other samples: BatchNorm that uses the batch's statistics."""
    return any(
        isinstance(m, _BatchNorm) and (m.training or not m.track_running_stats) for m in model.modules()
    )


def _is_compiled(module: nn.Module) -> bool:
    return (
        hasattr(module, "_orig_mod")
        or getattr(module, "_compiled_call_impl", None) is not None
        or hasattr(module.forward, "_torchdynamo_orig_callable")
    )


@contextmanager
def _buffers_kept(model: nn.Module) -> Iterator[None]:
    kept = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        if module.training
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in kept:
                module._buffers[name] = buffer
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
