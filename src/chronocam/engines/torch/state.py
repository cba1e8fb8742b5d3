"""A snapshot of a model, and what is known of it until its modules, their settings or their hooks change."""

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
    """A snapshot of a model: its modules, their settings and hooks. Values of weights may change.

    Each fact is found out once and belongs to the snapshot, so that all of them are dropped together with it,
    and no fact needs a check of its own.

    modules: all of them, the model first. spare: copies of them that no pass is using. heads: what was proven
        to follow a layer, by its path. of_input: of each attention, whether its queries and its keys are
        tokens of the input; None until a pass has shown it. mixes_unseen: whether that pass has multiplied
        tokens with each other outside of attention that is seen.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        # Hooks are not settings, but a changed hook makes another model for passes: tables are watched.
        self._structure = Structure(modules, nn.Module, _NO_SETTINGS, TABLES)
        self.modules = modules
        self.spare: list[Copies] = []
        self.heads: dict[str, Head] = {}
        self.of_input: tuple[tuple[bool, bool], ...] | None = None
        self.mixes_unseen: bool = False

    def holds(self) -> bool:
        """Say whether the model has not changed since. Fast, since every call asks."""
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
        """A note about modules in training mode; None where none is."""
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
        """The ids of the forward hooks, those before and after modules."""
        tables = [table for m in self.modules for table in (m._forward_pre_hooks, m._forward_hooks)]
        return [key for table in tables for key in table.copy()]
