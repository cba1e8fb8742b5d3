"""Taps: forward hooks that capture what layers return, and let the graph begin there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from chronocam.engines.names import split_call
from chronocam.engines.torch.obstacles import QUANTISED
from chronocam.engines.torch.tensors import as_leaf, levels, replace_tensor, tensor_at
from chronocam.errors import LayerError


@dataclass
class Cut:
    """Whether some tap of a pass has made its output the leaf at which the graph begins, or need not."""

    leaf_exists: bool = False


class Tap:
    """A forward hook that captures a layer's output and lets the graph begin there.

    call: which call counts; None for all. entry: what leads to one of several outputs, see `tensor_at`.
    outputs: what the layer returned, per call. passed: the clones that the model went on with.
    levels: how the other levels of a pyramid are named, where none was.
    in_inference: whether the layer ran in the model's own inference mode.

    The first tap to fire cuts the graph: its output becomes a leaf, and gradients are recorded from there on.
    What goes on into the model is a clone, so that in-place operations after the layer cannot overwrite what
    was captured. Without a cut no graph is built.
    """

    def __init__(self, call: int | None, cut: Cut | None, entry: Sequence[str] = ()) -> None:
        self.call: int | None = call
        self.entry = entry
        self.cut = cut
        self.restart(cut)

    def restart(self, cut: Cut | None) -> None:
        """Forget what was seen."""
        self.cut = cut
        self.calls: int = 0
        self.outputs: list[Tensor] = []
        self.passed: list[Tensor] = []
        self.levels: list[str] = []
        self.in_inference: bool = False

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Capture what `module` returned, if this call is the one that counts."""
        self.calls += 1
        if self.call is not None and self.calls - 1 != self.call:
            return None
        tensor = tensor_at(output, self.entry)
        if tensor is None:
            quantised = any(isinstance(x, Tensor) and x.is_quantized for x in pytree.tree_leaves(output))
            todo = QUANTISED if quantised else "choose another layer"
            raise LayerError(f"a {type(module).__name__} returns no floating-point tensor; {todo}")
        self.levels = [] if self.entry else levels(output, tensor)
        fresh = self.capture(tensor)
        return fresh if output is tensor else replace_tensor(output, tensor, fresh)

    def undo(self) -> None:
        """Forget the last call."""
        self.calls -= 1
        if self.call in (None, self.calls):
            self.outputs.pop()
            self.passed.pop()

    def capture(self, tensor: Tensor) -> Tensor:
        """Keep `tensor` and return what the model goes on with."""
        self.in_inference |= tensor.is_inference()
        if self.cut is not None:
            # The model runs without a graph until here; the scope around the pass turns it off again. A later
            # tap is part of the graph already, unless it lies on a branch that the first does not lead to.
            torch.set_grad_enabled(True)
            if not (self.cut.leaf_exists and tensor.requires_grad):
                tensor = as_leaf(tensor)
                self.cut.leaf_exists = True
        self.outputs.append(tensor)
        self.passed.append(tensor.clone())
        return self.passed[-1]


def note_of_levels(layer: str, tap: Tap) -> tuple[str, ...]:
    """Return the note that a layer returns several feature maps, of which the first is explained."""
    if len(tap.levels) < 2:
        return ()
    return (
        f"layer `{layer}` returns {len(tap.levels)} feature maps; the first is explained, "
        f"{tuple(tap.outputs[-1].shape)}: name `{split_call(layer)[0]}{tap.levels[1]}` for the next",
    )
