"""Every attention of a pass, tapped: what it mixed, and the gradients at what it returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chronocam.engines.torch.attention import Mixing
from chronocam.engines.torch.graph import multiplies, picks, swaps, until_numbered
from chronocam.engines.torch.taps import Cut, Tap
from chronocam.maps.attended import Attended, Origins, Sources, latest

Gradients = Callable[[Sequence[Tensor]], list[Tensor | None]]
"""Returns ∂score/∂tensor for every target, `(target, *shape)`; None where nothing connects."""


class TappedAttention:
    """Taps what every attention returns, so that the graph may begin there.

    of_input: of each call of an earlier pass, whose graph began at the input; None where this one's does.
    sources, origins, in_order: of each call, see `Attended`.
    """

    def __init__(
        self, cut: Cut | None, origins: bool = False, of_input: Sequence[tuple[bool, bool]] | None = ()
    ) -> None:
        self._with_origins = origins
        self._from_input = of_input is None
        self.of_input: list[tuple[bool, bool]] = list(of_input or ())
        self.mixes_unseen: bool = False  # whether tokens are multiplied with each other before some attention
        self._tap = Tap(None, cut)
        self._calls: list[Mixing] = []
        self.sources: list[tuple[Sources, Sources]] = []
        self.origins: list[tuple[Origins, Origins]] = []
        self._before: list[set[int]] = []
        self.in_order: list[bool] = []
        self._numbers: dict[Any, int] = {}  # of the calls, by the nodes of the graph that go on from them

    def __len__(self) -> int:
        return len(self._calls)

    def see(self, mixing: Mixing) -> Tensor:
        """Take note of a call, and return what goes on in the place of its output."""
        asks = mixing.softmax if mixing.query is None else mixing.query
        asked, given = (ways_to(x, self._numbers) for x in (asks, mixing.value))
        of_queries, of_keys = (
            {self._numbers[node] for node in way if node in self._numbers} for way in (asked, given)
        )
        self.sources.append((latest(of_queries, self._before), latest(of_keys, self._before)))
        self.mixes_unseen |= any(map(multiplies, given))
        if self._from_input:
            self.of_input.append(
                (self._lead_from_input(asked, of_queries), self._lead_from_input(given, of_keys))
            )
        self._before.append(of_queries | of_keys)
        both = (
            (None if asks is None else mixing.by_head(asks), asked, of_queries),
            (mixing.values, given, of_keys),
        )
        (of_asked, first), (of_given, second) = (self._origins(*one) for one in both)
        self.origins.append((of_asked, of_given))
        self.in_order.append(first and second)
        fresh = self._tap.capture(mixing.output)
        self._numbers[fresh.grad_fn] = len(self._calls)
        for name in ("output", "value", "query", "key", "softmax"):
            x = getattr(mixing, name)
            setattr(mixing, name, None if x is None else x.detach())
        self._calls.append(mixing)
        return fresh

    def end(self) -> None:
        """Take it for unknown which tokens are the input's, where no graph leads from there to any."""
        if not any(map(any, self.of_input)):
            self.of_input = []

    def _lead_from_input(self, way: set[Any], calls: set[int]) -> bool:
        """Say whether tokens are made of the input, or of what such tokens asked for in attention.

        way: the nodes of the graph that lead to them. calls: the attentions among these.
        """
        begins = any(not isinstance(getattr(node, "variable", nn.Parameter()), nn.Parameter) for node in way)
        return begins or any(self.of_input[call][0] for call in calls)

    def _origins(self, tokens: Tensor | None, way: set[Any], calls: set[int]) -> tuple[Origins, bool]:
        """Return which token of which call each token is made of, and whether they are in order.

        See `Attended`. None where they are those of the latest call one for one, as far as their number and
        the graph say, and where one is made of several. way: the nodes of the graph that lead to them.
        """
        if not calls or tokens is None:
            return None, True
        latest = max(calls)
        before = self._calls[latest].outputs(self._calls[latest].output)
        rows, count = tokens.shape[0], tokens.shape[2]
        same, picked = before.shape[2] == count, any(map(picks, way))
        moved = picked or any(swaps(node, count) for node in way)
        if before.shape[0] != rows or not (moved or (self._with_origins and not same)):
            return None, True
        # Two gradients tell where each token went: of the sum of all places, and of the sum in which each
        # place is weighted by its number. Their ratio at a token is the number of its place. Channels are
        # added up with random weights, since their plain sum may be constant behind a LayerNorm.
        along = torch.randn(tokens.shape[-1], generator=torch.Generator().manual_seed(0)).to(tokens)
        sums = (tokens * along).sum((0, 1, 3))
        numbers = torch.arange(1, count + 1).to(sums)
        once, numbered = (self._straight(total, calls) for total in (sums.sum(), (sums * numbers).sum()))
        origins = np.full((count, 2), -1)
        # The latest call first: where it has made all of them, what was before does not count.
        for call, a, b in reversed(list(zip(sorted(calls), once, numbered, strict=True))):
            places = _places(*(self._calls[call].outputs(g).transpose(0, 2).flatten(1) for g in (a, b)))
            if places is None:
                return None, not (same and picked)
            for token, place in places:
                if origins[place, 0] < 0:
                    origins[place] = call, token
            if (origins[:, 0] >= 0).all():
                break
        return origins, _in_order(origins)

    def _straight(self, total: Tensor, calls: set[int]) -> list[Tensor]:
        """Return the gradients at the outputs of some calls, along paths that lead through no other call."""
        arrived: dict[int, Tensor] = {}

        def stop(gradients: tuple[Tensor, ...], call: int) -> tuple[Tensor, ...]:
            (arrived[call],) = gradients
            return (torch.zeros_like(arrived[call]),)

        in_order = sorted(calls)
        with ExitStack() as scope:
            for call in in_order:
                node = self._tap.passed[call].grad_fn
                assert node is not None  # a clone of what the tap keeps
                scope.callback(node.register_prehook(partial(stop, call=call)).remove)
            outputs = [self._tap.outputs[call] for call in in_order]
            torch.autograd.grad(total, outputs, retain_graph=True)
        return [arrived[call] for call in in_order]

    def attended(self, gradients: Gradients, calls: slice = slice(None)) -> tuple[Attended, ...]:
        """Return some of the calls, with the gradients at what they returned."""
        pulled = gradients(self._tap.outputs[calls])
        of_input = [*self.of_input, *[(True, True)] * len(self)][: len(self)]
        how = self.sources[calls], self.origins[calls], self.in_order[calls], of_input[calls]
        return tuple(_attended(*one) for one in zip(self._calls[calls], pulled, *how, strict=True))


def made_of(tensor: Tensor | None, numbers: Mapping[Any, int]) -> set[int]:
    """Return the numbers of the nodes that a tensor is made of, with no other of them in between."""
    return {numbers[node] for node in ways_to(tensor, numbers) if node in numbers}


def ways_to(tensor: Tensor | None, numbers: Mapping[Any, int]) -> set[Any]:
    """Return the nodes of the graph that lead to a tensor, up to the first numbered ones."""
    return until_numbered([] if tensor is None else [tensor.grad_fn], numbers)


def _in_order(origins: np.ndarray) -> bool:
    """Say whether tokens follow each other as those that they are made of; new ones may be anywhere."""
    return all((np.diff(origins[origins[:, 0] == call, 1]) > 0).all() for call in {*origins[:, 0]} - {-1})


def _places(once: Tensor, numbered: Tensor) -> list[tuple[int, int]] | None:
    """Return pairs of a token and the place that it went to, of gradients `(token, …)` in two passes.

    The second is the first times the place's number, from 1. None where a token went to several places, or
    two to one.
    """
    sizes = (once * once).sum(1)
    ratios = (once * numbered).sum(1) / torch.where(sizes > 0, sizes, 1)
    whole = ratios.round()
    apart = ((numbered - whole[:, None] * once) ** 2).sum(1) > 0.01 * sizes
    used = torch.nonzero(sizes)[:, 0].tolist()
    places = [int(whole[token]) - 1 for token in used]
    if apart.any() or len(set(places)) < len(places):
        return None
    return list(zip(used, places, strict=True))


def _attended(
    mixing: Mixing,
    gradients: Tensor | None,
    sources: tuple[Sources, Sources],
    origins: tuple[Origins, Origins],
    in_order: bool,
    of_input: tuple[bool, bool],
) -> Attended:
    return Attended(
        mixing.values,
        lambda: mixing.weights,
        None if gradients is None else torch.stack([mixing.outputs(g) for g in gradients]),
        None if mixing.query is None else mixing.by_head(mixing.query),
        mixing.keys,
        mixing.join,
        sources,
        origins,
        in_order,
        of_input,
    )
