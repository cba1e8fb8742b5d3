"""Every attention of a pass, tapped: what it mixed, and the gradients at what it returned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from chronocam.engines.torch.attention import Mixing
from chronocam.engines.torch.taps import Cut, Tap
from chronocam.maps.attended import Attended

Gradients = Callable[[Sequence[Tensor]], list[Tensor | None]]
"""Returns ∂score/∂tensor for every target, `(target, *shape)`; None where nothing connects."""


class TappedAttention:
    """Taps what every attention returns, so that the graph may begin there.

    sources: of each call, see `Attended`.
    """

    def __init__(self, cut: Cut | None) -> None:
        self._tap = Tap(None, cut)
        self._calls: list[Mixing] = []
        self.sources: list[tuple[int, int]] = []
        self._numbers: dict[Any, int] = {}  # of the calls, by the nodes of the graph that go on from them

    def __len__(self) -> int:
        return len(self._calls)

    def see(self, mixing: Mixing) -> Tensor:
        """Take note of a call, and return what goes on in the place of its output."""
        asks = mixing.softmax if mixing.query is None else mixing.query
        self.sources.append((self._latest(asks), self._latest(mixing.value)))
        fresh = self._tap.capture(mixing.output)
        self._numbers[fresh.grad_fn] = len(self._calls)
        for name in ("output", "value", "query", "key", "softmax"):
            x = getattr(mixing, name)
            setattr(mixing, name, None if x is None else x.detach())
        self._calls.append(mixing)
        return fresh

    def _latest(self, tensor: Tensor | None) -> int:
        """Return which call's output a tensor is made of, the last of several; −1 for none."""
        ahead, seen, latest = [None if tensor is None else tensor.grad_fn], set[Any](), -1
        while ahead:
            node = ahead.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if node in self._numbers:
                latest = max(latest, self._numbers[node])
            else:
                ahead.extend(before for before, _ in node.next_functions)
        return latest

    def attended(self, gradients: Gradients, calls: slice = slice(None)) -> tuple[Attended, ...]:
        """Return some of the calls, with the gradients at what they returned."""
        found = gradients(self._tap.outputs[calls])
        every = zip(self._calls[calls], found, self.sources[calls], strict=True)
        return tuple(_attended(mixing, gradient, sources) for mixing, gradient, sources in every)


def _attended(mixing: Mixing, gradients: Tensor | None, sources: tuple[int, int]) -> Attended:
    return Attended(
        mixing.values,
        lambda: mixing.weights,
        None if gradients is None else torch.stack([mixing.outputs(g) for g in gradients]),
        None if mixing.query is None else mixing.by_head(mixing.query),
        None if mixing.key is None else mixing.by_head(mixing.key),
        mixing.join,
        sources,
    )
