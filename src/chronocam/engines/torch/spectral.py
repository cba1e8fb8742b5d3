"""Convolutions of many rows over a small grid as products of matrices, with a third of the multiplications.

After a discrete Fourier transform a convolution is one product per frequency, of all channels with all
kernels. Over a small grid the transform is itself a product with a small matrix, so no FFT is needed. Real
inputs need only half of the frequencies. Those of the last axis are shifted by half a step: then none of them
is real, and all are treated alike. A complex product is made of three real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, reduce
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.overrides import TorchFunctionMode

_RANKS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}
# What a number in a transform costs, in multiplications of a product of matrices; measured.
_OF_INPUT = 4
_OF_KERNEL = 48
_GAIN = 1.2  # the least speed-up worth another way of rounding
_AT_ONCE = 2**22  # numbers in the transform of the kernels that are held at once: they stay in the cache


class Axis(NamedTuple):
    """An axis of a convolution: of its input, of its kernel, and how many zeros are put before and after."""

    size: int
    kernel: int
    padding: int

    @property
    def outputs(self) -> int:
        """How many places it returns."""
        return self.size + 2 * self.padding - self.kernel + 1

    @property
    def period(self) -> int:
        """A period at which the wrap-around of a periodic convolution reaches no returned place."""
        return self.size + self.padding

    @property
    def taps(self) -> int:
        """How many products a direct convolution takes, without those with padding."""
        starts = np.arange(self.outputs) - self.padding
        return int((np.minimum(starts + self.kernel, self.size) - np.maximum(starts, 0)).sum())


class Spectral(TorchFunctionMode):
    """Computes convolutions by their spectrum where that is faster; outputs differ by rounding alone."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        rank, output = _RANKS.get(func), None
        if rank and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu"):
            output = convolved(rank, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if output is None else output


def convolved(
    rank: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor | None:
    """Return a convolution, as `torch.conv2d` and its like; None where it would not be faster this way."""
    ones = (1,) * rank
    if (
        groups != 1
        or _each(stride, rank) != ones
        or _each(dilation, rank) != ones
        or isinstance(padding, str)
    ):
        return None
    if not _are_plain(input, weight) or input.ndim != rank + 2:
        return None
    sizes = zip(input.shape[2:], weight.shape[2:], _each(padding, rank), strict=True)
    axes = tuple(Axis(*each) for each in sizes)
    possible = len(input) and all(axis.padding < axis.kernel for axis in axes)
    if not possible or not _is_faster(axes, len(input), *weight.shape[:2]):
        return None
    output = _by_spectrum(input, weight, axes)
    return output if bias is None else output + bias.view(-1, *ones)


def _by_spectrum(input: Tensor, weight: Tensor, axes: tuple[Axis, ...]) -> Tensor:
    (rows, channels), outputs = input.shape[:2], len(weight)
    at_once = max(1, _AT_ONCE // (channels * outputs))
    matrices = (torch.from_numpy(m).to(input.dtype) for m in _matrices(axes))
    of_input, of_kernel, back = (torch.split(m, at_once) for m in matrices)
    places, taps = input.reshape(rows * channels, -1).T, weight.reshape(outputs * channels, -1).T
    output = input.new_zeros(rows * outputs, prod(axis.outputs for axis in axes))
    # A few frequencies at a time, in the same memory, so that the transformed kernels stay in the cache.
    x, w, y = (
        input.new_empty(len(back[0]), *s) for s in ((rows, channels), (outputs, channels), (rows, outputs))
    )
    for a, b, c in zip(of_input, of_kernel, back, strict=True):
        some = len(c)
        torch.mm(a, places, out=x[:some].view(some, -1))
        torch.mm(b, taps, out=w[:some].view(some, -1))
        torch.bmm(x[:some], w[:some].mT, out=y[:some])
        output.addmm_(y[:some].view(some, -1).T, c)
    return output.view(rows, outputs, *(axis.outputs for axis in axes))


def _each(number: int | Sequence[int], rank: int) -> tuple[int, ...]:
    return (number,) * rank if isinstance(number, int) else tuple(number) * (rank // len(number))


def _are_plain(*tensors: Tensor) -> bool:
    """Say whether tensors are ordinary ones on the CPU, all in single or all in double precision."""
    (first, *_), kinds = tensors, (torch.float32, torch.float64)
    return first.dtype in kinds and all(
        type(x) in (Tensor, nn.Parameter)
        and x.device.type == "cpu"
        and x.dtype == first.dtype
        and not is_functorch_wrapped_tensor(x)
        for x in tensors
    )


def _is_faster(axes: Sequence[Axis], rows: int, outputs: int, channels: int) -> bool:
    """Say whether there are so many fewer multiplications for each row that the detour pays."""
    direct = outputs * channels * prod(axis.taps for axis in axes)
    inputs, places = prod(axis.size for axis in axes), prod(axis.outputs for axis in axes)
    kernels = outputs * channels * (1 + _OF_KERNEL / rows)
    transforms = _OF_INPUT * (channels * inputs + outputs * places)
    by_spectrum = 3 * prod(_periods(axes)) / 2 * (kernels + transforms)
    return direct >= _GAIN * by_spectrum


def _periods(axes: Sequence[Axis]) -> list[int]:
    """Return a period for each axis. The last one is even, since half of its frequencies are left out."""
    *others, last = (axis.period for axis in axes)
    return [*others, last + last % 2]


@lru_cache(maxsize=16)
def _matrices(axes: tuple[Axis, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the matrices that transform inputs and kernels, and products back; each `(product, place)`."""
    periods = _periods(axes)
    frequencies = [np.arange(period) / period for period in periods]
    frequencies[-1] = (np.arange(periods[-1] // 2) + 0.5) / periods[-1]

    def waves(places: Sequence[np.ndarray]) -> np.ndarray:
        each = zip(frequencies, places, strict=True)
        return reduce(np.kron, [np.exp(2j * np.pi * np.outer(f, at)) for f, at in each])

    x = waves([-np.arange(axis.size) for axis in axes])
    w = waves([np.arange(axis.kernel) - axis.padding for axis in axes])
    y = waves([np.arange(axis.outputs) for axis in axes]) * 2 / prod(periods)
    # With x = a + ib and w = c + id, xw is (k₁ − k₃) + i (k₁ + k₂), where k₁ = (a + b) c, k₂ = a (d − c) and
    # k₃ = b (c + d).
    return (
        np.concatenate([x.real + x.imag, x.real, x.imag]),
        np.concatenate([w.real, w.imag - w.real, w.real + w.imag]),
        np.concatenate([y.real - y.imag, -y.imag, -y.real]),
    )
