"""Whether the values of a model's weights have changed."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

_DTYPE: Final = attrgetter("dtype")
_LARGE: Final = 2048  # words
_APART: Final = 509  # words; a prime, so that no row or column of a weight is as long


class Numbers:
    """A digest of the values of tensors, to be compared with their values later.

    Writing through `.data` or a shared array leaves no trace but the numbers, so all are read each time.
    Small tensors are taken as they are. Of large ones words of 64 bits are added up, those that are `_APART`
    from each other: only changes that cancel out there are missed, as of two words that change places.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._strided = [at for at, x in enumerate(tensors) if x.ndim > 1]
        self._places = self._places_of(tensors)
        # Dense tensors are read in place; others have to be copied each time.
        dense = [_in_memory(x) for x in tensors]
        self._scattered = [x.detach() for x, flat in zip(tensors, dense, strict=True) if flat is None]
        octets = [_octets(flat) for flat in dense if flat is not None]
        large = [_words(one) for one in octets if len(one) >= 8 * _LARGE]
        self._words = [words for words, _ in large]
        self._small = [one for one in octets if len(one) < 8 * _LARGE] + [rest for _, rest in large]
        self._digest = self._read()

    def are_in(self, tensors: Sequence[Tensor]) -> bool:
        """Say whether tensors, as many and of the same shapes, hold the same numbers at the same places."""
        return self._places_of(tensors) == self._places and self._read() == self._digest

    def _places_of(self, tensors: Sequence[Tensor]) -> list[object]:
        """Return where tensors lie, and how those of several axes do.

        What was read of their memory is kept from being given away, so that a tensor on another device lies
        elsewhere.
        """
        several = [tensors[at] for at in self._strided]
        return [
            list(map(Tensor.data_ptr, tensors)),
            list(map(_DTYPE, tensors)),
            list(map(Tensor.stride, several)),
        ]

    @torch.no_grad()
    def _read(self) -> bytes:
        """Return bytes that change with any bit of the tensors."""
        parts: list[Any] = [words.sum(0) for words in self._words]
        parts += [*self._small, *(_octets(x.contiguous().view(-1)) for x in self._scattered)]
        if any(isinstance(part, Tensor) for part in parts):  # to be read from their device at once
            parts = [torch.cat([part.view(torch.uint8) for part in parts]).numpy(force=True)]
        return b"".join(parts)


def _in_memory(tensor: Tensor) -> Tensor | None:
    """Return the numbers of a tensor in the order in which they lie in memory, without a copy, or None."""
    order = sorted(range(tensor.ndim), key=lambda axis: tensor.stride(axis), reverse=True)
    laid = tensor.detach().permute(order)
    return laid.view(-1) if laid.is_contiguous() else None


def _octets(flat: Tensor) -> Any:
    """Return memory as an array, which is added up twice as fast; on a device as a tensor."""
    octets = flat.view(torch.uint8)
    return octets.numpy() if octets.device.type == "cpu" else octets


def _words(octets: Any) -> tuple[Any, Any]:
    """Return words of 64 bits, in rows, and what is left over."""
    end = len(octets) // (8 * _APART) * 8 * _APART
    words = octets[:end].view(torch.int64 if isinstance(octets, Tensor) else np.int64)
    return words.reshape(-1, _APART), octets[end:]
