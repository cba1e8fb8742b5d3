"""Copies of a layer's output, each without one channel, that stand for themselves as long as they can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from chronocam.engines.torch.repeated import Repeated


class Ablated(Repeated):
    """A stored tensor `(row, channel, …)` that stands for copies of itself, one channel of each set to zero.

    What is linear in the channels differs between copies by what one channel adds: the whole is computed once
    and not once per copy. What works on each channel by itself, and leaves zeros zero, is done once too. For
    anything else the copies are made.
    """

    _channels: Tensor

    @classmethod
    def without(cls, stored: Tensor, channels: Tensor) -> Ablated:
        """Return what stands for one copy without each of the channels, one after the other."""
        ablated = cls.of(stored, len(channels), 0)
        assert isinstance(ablated, Ablated)
        ablated._channels = channels
        return ablated

    def copies(self) -> Tensor:
        """Return the copies; the same ones each time, since a model may write into them."""
        if self._copies is None:
            stored, channels = self._stored, self._channels
            off = channels[:, None] == torch.arange(stored.shape[1], device=channels.device)
            laid = off.view(len(channels), 1, -1, *[1] * (stored.ndim - 2))
            self._copies = stored[None].masked_fill(laid, 0).flatten(0, 1)
        return self._copies


def _convolved(
    func: Callable[..., Tensor],
    x: Ablated,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """Return a convolution of the whole, less that of each channel."""
    stored, channels = x._stored, x._channels
    if groups != 1 or stored.ndim != weight.ndim:
        return None
    whole = func(stored, weight, bias, stride, padding, dilation)
    one = weight[:, channels].transpose(0, 1).reshape(-1, 1, *weight.shape[2:])
    parts = func(stored[:, channels], one, None, stride, padding, dilation, len(channels))
    parts = parts.view(len(stored), len(channels), *whole.shape[1:]).transpose(0, 1)
    return (whole - parts).flatten(0, 1)


def _linear(
    func: Callable[..., Tensor], x: Ablated, weight: Tensor, bias: Tensor | None = None
) -> Tensor | None:
    """Return a linear layer of rows `(row, channel)`, less what each channel adds."""
    if x._stored.ndim != 2:
        return None
    parts = x._stored[:, x._channels].T[:, :, None] * weight[:, x._channels].T[:, None]
    return (func(x._stored, weight, bias) - parts).flatten(0, 1)


def _pooled(func: Callable[..., Tensor], x: Ablated, *args: Any, **kwargs: Any) -> Tensor:
    return Ablated.without(func(x._stored, *args, **kwargs), x._channels)


def _mean(
    func: Callable[..., Tensor],
    x: Ablated,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    **kwargs: Any,
) -> Tensor | None:
    """Return the mean over axes of the grid."""
    dims = [dim] if isinstance(dim, int) else list(dim or ())
    if not dims or any(axis % x._stored.ndim < 2 for axis in dims):
        return None
    return Ablated.without(func(x._stored, dim, keepdim, **kwargs), x._channels)


def _flattened(
    func: Callable[..., Tensor], x: Ablated, start_dim: int = 0, end_dim: int = -1
) -> Tensor | None:
    """Return rows of channels of a grid of one cell."""
    if start_dim != 1 or end_dim != -1 or prod(x._stored.shape[2:]) != 1:
        return None
    return Ablated.without(func(x._stored, 1), x._channels)


def _kept(func: Callable[..., Tensor], x: Ablated, p: float, training: bool, inplace: bool) -> Tensor | None:
    """Return what dropout gives that is switched off."""
    return None if training else x


Ablated._rules = {
    **dict.fromkeys((torch.conv1d, torch.conv2d, torch.conv3d), _convolved),
    **dict.fromkeys((F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d), _pooled),
    **dict.fromkeys((torch.mean, Tensor.mean), _mean),
    **dict.fromkeys((torch.flatten, Tensor.flatten), _flattened),
    F.linear: _linear,
    F.dropout: _kept,
}
