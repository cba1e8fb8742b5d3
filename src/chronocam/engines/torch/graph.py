"""Which layers a layer's output is made of, read off PyTorch's graph of one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.autograd.graph import get_gradient_edge


def node_of(tensor: Tensor) -> Any:
    """Return the node of the graph at which a tensor's gradient arrives."""
    return get_gradient_edge(tensor).node


_MOVES = {
    f"{name}Backward0"
    for name in (
        "Flip",
        "Rot90",
        "Permute",
        "Transpose",
        "Roll",
        "Index",
        "IndexSelect",
        "Gather",
        "FftR2C",
        "FftC2C",
    )
}
"""Operations after which places may be in another order."""


def _until(node: Any, numbers: Mapping[Any, int]) -> tuple[tuple[int, ...], bool]:
    """Return the numbers of the nodes that lead to this one with no other numbered node in between.

    And whether places may be in another order than there.
    """
    found: set[int] = set()
    seen, ahead = {node}, [node]
    while ahead:
        for before, _ in ahead.pop().next_functions:
            if before is None or before in seen:
                continue
            seen.add(before)
            if before in numbers:
                found.add(numbers[before])
            else:
                ahead.append(before)
    return tuple(sorted(found)), any(one.name() in _MOVES for one in seen - {node})


def all_parents(
    taps: Sequence[Tensor], inputs: Sequence[Tensor], scores: Tensor
) -> list[tuple[tuple[int, ...], bool]]:
    """Return the parents of each tap, and of the scores: numbers of taps, and −1 − k for input k.

    And whether, somewhere between the inputs and there, places may have been put into another order.
    """
    nodes = [node_of(tap) for tap in taps]
    numbers = {node: at for at, node in enumerate(nodes)}
    numbers |= {node_of(x): -1 - at for at, x in enumerate(inputs) if x.requires_grad}
    known: list[tuple[tuple[int, ...], bool]] = []
    for node in [*nodes, node_of(scores)]:
        parents, moved = _until(node, numbers)
        known.append((parents, moved or any(known[at][1] for at in parents if 0 <= at < len(known))))
    return known
