"""Which layers a layer's output is made of, read off PyTorch's graph of one pass."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from torch import Tensor
from torch.autograd.graph import get_gradient_edge

TRIM: Final = 1
"""Rows or columns cut off at an end that move no map, as networks do whose kernels are even."""


def node_of(tensor: Tensor) -> Any:
    """Return the node of the graph at which a tensor's gradient arrives."""
    return get_gradient_edge(tensor).node


_MOVES = re.compile(
    r"(.*CopySlices|SliceScatterBackward\d*|(Flip|Rot90|Permute|Transpose|T|Roll|Index|IndexSelect|Gather|Take|Sort|Topk|Slice|Select|Split|"
    r"SplitWithSizes|Unbind|AsStrided|GridSampler[23]D|Fft\w*)Backward\d*)$"
)
"""Operations after which places may be in another order, or some may be left out."""


def before(node: Any) -> Iterator[Any]:
    """Yield the nodes that lead to this one."""
    seen, ahead = {node}, [node]
    while ahead:
        for one, _ in ahead.pop().next_functions:
            if one is not None and one not in seen:
                seen.add(one)
                ahead.append(one)
                yield one


def signed(n: int) -> int:
    """Return a number as it was given: nodes save negative ones as unsigned."""
    return (n + 2**63) % 2**64 - 2**63


def _moves(node: Any) -> bool:
    """Say whether a node may put places into another order, or leave any out."""
    name = node.name()
    if name.startswith("ConstantPadNd"):
        return min(map(signed, node._saved_pad)) < -TRIM
    if name.startswith("SliceBackward"):
        sizes, start = node._saved_self_sym_sizes, signed(node._saved_start or 0)
        size = sizes[signed(node._saved_dim)]
        first, last = slice(start, signed(node._saved_end)).indices(size)[:2]
        # A frame of a clip is not a row of a picture: each counts.
        return len(sizes) > 4 or node._saved_step != 1 or max(first, size - last) > TRIM
    if name.startswith("CatBackward"):
        # Side by side on a grid; features are joined on their channels, and tokens have three axes.
        axes = len(node._input_metadata[0].shape)
        return axes > 3 and signed(node._saved_dim) % axes > 1
    if name.startswith(("View", "UnsafeView")):
        return splits_grid(node._saved_self_sym_sizes, node._input_metadata[0].shape)
    return _MOVES.match(name) is not None


def splits_grid(before: Sequence[int], after: Sequence[int]) -> bool:
    """Say whether another shape has several axes for one of a grid, which may be put together anew."""
    return 4 <= len(before) < len(after) and tuple(before[-2:]) != tuple(after[-2:])


def keeps_places(output: Tensor) -> bool:
    """Say whether nothing that leads to an output may have put places into another order, or left any out."""
    return output.grad_fn is not None and not any(
        _moves(one) for one in [output.grad_fn, *before(output.grad_fn)]
    )


def that_keep_places(taps: Sequence[Tensor]) -> list[bool]:
    """Say of each tap whether it keeps places; see `keeps_places`."""
    keep: dict[Any, bool] = {}
    for tap in taps:
        ahead = [node_of(tap)]
        while ahead:
            node = ahead[-1]
            nodes = [one for one, _ in node.next_functions if one is not None]
            unknown = [one for one in nodes if one not in keep]
            if node not in keep and unknown:
                ahead += unknown
                continue
            keep[ahead.pop()] = not _moves(node) and all(keep[one] for one in nodes)
    return [keep[node_of(tap)] for tap in taps]


def nearest_numbered(nodes: Iterable[Any], numbers: Mapping[Any, int]) -> set[int]:
    """Return the numbers of the nodes that lead to some, with no other numbered node in between.

    nodes: where the search begins; those that are numbered themselves lead no further. None is passed over.
    """
    return {numbers[node] for node in until_numbered(nodes, numbers) if node in numbers}


def until_numbered(nodes: Iterable[Any], numbers: Mapping[Any, int]) -> set[Any]:
    """Return the nodes that lead to some, up to the first numbered ones; see `nearest_numbered`."""
    seen, ahead = set[Any](), list(nodes)
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node not in numbers:
            ahead.extend(one for one, _ in node.next_functions)
    return seen


_PICKS = re.compile(r"(Flip|Rot90|Roll|Index|IndexSelect|Gather|Take)Backward\d*$")


def picks(node: Any) -> bool:
    """Say whether a node may pick tokens in any order."""
    return _PICKS.match(node.name()) is not None


def multiplies(node: Any) -> bool:
    """Say whether a node multiplies matrices of which both are of the graph, as attention does."""
    both = all(one is not None for one, _ in node.next_functions) if node is not None else False
    return both and node.name().startswith("BmmBackward")


def swaps(node: Any, tokens: int) -> bool:
    """Say whether a node may swap rows and columns of so many tokens: no axis holds all of them, or most."""
    if not node.name().startswith(("Transpose", "Permute")):
        return False
    sizes = [n for n in node._input_metadata[0].shape if n > 1]
    return len(sizes) > 2 and not any(tokens < 2 * n <= 2 * tokens for n in sizes)


def _parents(node: Any, numbers: Mapping[Any, int]) -> tuple[int, ...]:
    return tuple(sorted(nearest_numbered((one for one, _ in node.next_functions), numbers)))


def all_parents(taps: Sequence[Tensor], inputs: Sequence[Tensor], scores: Tensor) -> list[tuple[int, ...]]:
    """Return the parents of each tap, and of the scores: numbers of taps, and −1 − k for input k."""
    nodes = [node_of(tap) for tap in taps]
    numbers = {node: at for at, node in enumerate(nodes)}
    numbers |= {node_of(x): -1 - at for at, x in enumerate(inputs) if x.requires_grad}
    return [_parents(node, numbers) for node in [*nodes, node_of(scores)]]
