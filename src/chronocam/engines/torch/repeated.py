"""A stored tensor in the place of several copies of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import methodcaller
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Rule: TypeAlias = Callable[..., Tensor | None]
"""What a function does to a stand-in in place of its copies; None for what it does not cover."""


class Repeated(Tensor):
    """A stored tensor that stands for several copies of itself along the batch.

    Most of what the modules before a layer returned is only handed on to modules that do not run either. So
    the copies are made where something computes with them; facts such as the shape need none.
    """

    _rules: ClassVar[Mapping[Callable[..., Any], Rule]] = MappingProxyType({})
    """What a kind of copies needs to be made only once for all of them."""
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
        rule = cls._rules.get(func)
        if rule is not None and args and isinstance(args[0], cls) and args[0]._copies is None:
            with torch._C.DisableTorchFunctionSubclass():
                result = rule(func, *args, **(kwargs or {}))
            if result is not None:
                return result
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
