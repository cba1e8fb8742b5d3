"""A model as it is: what is known of it until its modules, their settings or their hooks change."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import Any

from torch import Tensor, nn

from chronocam.engines.structure import Hashed, Structure
from chronocam.engines.torch.pooled import Head
from chronocam.engines.torch.replica import TABLES, Copies
from chronocam.engines.torch.scope import couples_samples, training_note

_NO_SETTINGS = vars(nn.Module()).keys() - {"training", "_buffers", "_modules", "_parameters"}
"""Attributes that every module has and that are not settings, such as its hooks."""


class State:
    """A model as it is, but for the numbers in its weights, which may change.

    modules: all of them, the model first. spare: copies of them that no pass is using. heads: what was proven
        to follow layers.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._structure = Structure(modules, nn.Module, _NO_SETTINGS, TABLES)
        self.modules = modules
        self.spare: list[Copies] = []
        self.heads: dict[str, Head] = {}

    def holds(self) -> bool:
        """Say whether the model is so still: told in few steps, as every pass asks."""
        return self._structure.holds()

    @property
    def fingerprint(self) -> Hashed:
        """What tells the model from itself after a change of its layers or settings, though not of hooks."""
        return self._structure.fingerprint

    @cached_property
    def members(self) -> dict[nn.Module, dict[str, Any]]:
        """What each module holds in its attributes."""
        return dict(zip(self.modules, self._structure.members, strict=True))

    @cached_property
    def couples(self) -> bool:
        """Whether a sample's score depends on the others."""
        return couples_samples(self.modules[0], self.modules)

    @cached_property
    def training_note(self) -> str | None:
        """What is to be said of modules in training mode."""
        return training_note(self.modules)

    @cached_property
    def hooked_backward(self) -> bool:
        """Whether backward hooks of the model get gradients of what layers took."""
        return any(m._backward_hooks or m._backward_pre_hooks for m in self.modules)

    @cached_property
    def recurrent(self) -> list[nn.RNNBase]:
        """The recurrent layers."""
        return [m for m in self.modules if isinstance(m, nn.RNNBase)]

    @cached_property
    def tensors(self) -> list[Tensor]:
        """All parameters and buffers."""
        held = chain.from_iterable(chain(m._parameters.values(), m._buffers.values()) for m in self.modules)
        return [tensor for tensor in held if tensor is not None]

    @cached_property
    def hooks(self) -> list[int]:
        """The numbers of the forward hooks."""
        tables = [table for m in self.modules for table in (m._forward_pre_hooks, m._forward_hooks)]
        return [key for table in tables for key in table.copy()]
