"""A stored tensor in the place of several copies of itself."""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


class Repeated(Tensor):
    """A stored tensor that stands for several copies of itself along the batch.

    Most of what the modules before a layer returned is only handed on to modules that do not run either. So
    the copies are made where something computes with them; facts such as the shape need none.
    """

    _stored: Tensor
    _repeats: tuple[int, ...]
    _copies: Tensor | None

    @classmethod
    def of(cls, stored: Tensor, times: int, axis: int | None) -> Repeated:
        """Return what stands for `times` copies one after the other along `axis`; for one if that is None."""
        repeated: Repeated = stored.as_subclass(cls)
        repeated._stored = stored
        repeated._repeats = tuple(times if i == axis else 1 for i in range(stored.ndim))
        repeated._copies = None
        return repeated

    def copies(self) -> Tensor:
        """Return the copies; the same ones each time, since a model may write into them."""
        if self._copies is None:
            self._copies = self._stored.repeat(self._repeats)
        return self._copies

    def standing(self) -> Tensor:
        """Return one number in the shape, type and place of the copies."""
        shape = [n * times for n, times in zip(self._stored.shape, self._repeats, strict=True)]
        return self._stored.new_empty(()).expand(shape)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        # Facts are read off a stand-in of one number; anything else gets the copies, as plain tensors.
        with torch._C.DisableTorchFunctionSubclass():
            real = methodcaller("standing" if func in _FACTS else "copies")
            args, kwargs = pytree.tree_map_only(Repeated, real, (args, kwargs or {}))
        return func(*args, **kwargs)


_GETTERS = (
    "shape",
    "ndim",
    "dtype",
    "device",
    "layout",
    "requires_grad",
    "is_cuda",
    "is_sparse",
    "is_nested",
)
_METHODS = ("size", "dim", "numel", "is_floating_point", "is_complex", "__len__")
_FACTS = {
    *(getattr(Tensor, name).__get__ for name in _GETTERS),
    *(getattr(Tensor, name) for name in _METHODS),
}
