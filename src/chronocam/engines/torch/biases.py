"""What PyTorch modules add to what is proportional to their input."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from chronocam.engines.base import Adds
from chronocam.errors import ModelError

_LINEAR = (nn.Linear, nn.modules.conv._ConvNd)


def biases_of(layers: Mapping[str, nn.Module]) -> dict[str, Adds]:
    """Return what modules add; see `Engine.biases`."""
    terms: dict[str, Adds] = {}
    for path, module in layers.items():
        if isinstance(module, _LINEAR) and module.bias is not None:
            terms[path] = partial(_broadcast, module.bias, isinstance(module, nn.Linear))
        elif isinstance(module, nn.Hardtanh):  # ReLU6 is one
            terms[path] = partial(_flat, module.min_val, module.max_val)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) or _frozen(module):
            terms[_before_activation(path, module)] = partial(_broadcast, _shift(path, module), False)
    return terms


def _frozen(module: nn.Module) -> bool:
    """Say whether a module keeps the statistics that it normalises by, as a FrozenBatchNorm2d does."""
    kept = isinstance(getattr(module, "running_mean", None), Tensor)
    return kept and isinstance(getattr(module, "running_var", None), Tensor)


def _before_activation(path: str, module: nn.Module) -> str:
    """Return what returns a norm's own output: of timm's, which hold an activation, the dropout before it."""
    first = next(module.named_children(), None)
    return path if first is None else f"{path}.{first[0]}"


def _shift(path: str, norm: nn.Module) -> Tensor:
    mean, variance, weight, bias = (
        getattr(norm, name, None) for name in ("running_mean", "running_var", "weight", "bias")
    )
    if not isinstance(mean, Tensor) or not isinstance(variance, Tensor) or norm.training:
        raise ModelError(
            f"layer `{path}` normalises by the batch, so that it has no bias; call model.eval() first"
        )
    scale = torch.rsqrt(variance + float(getattr(norm, "eps", 0.0)))
    shift = -mean * (scale if weight is None else scale * weight)
    return shift if bias is None else shift + bias


def _broadcast(bias: Tensor, last: bool, output: Tensor) -> Tensor:
    return bias.detach() if last else bias.detach().reshape(-1, *[1] * (output.ndim - 2))


def _flat(low: float, high: float, output: Tensor) -> Tensor:
    return low * (output <= low).to(output.dtype) + high * (output >= high).to(output.dtype)
