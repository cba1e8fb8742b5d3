"""The last row of blocks of a transformer, and what its head makes of the tokens of each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from chronocam.engines.names import split_call
from chronocam.engines.recording import Score
from chronocam.engines.resumption import Counting, Recorder, Stored, replaying
from chronocam.engines.scoped import scoped
from chronocam.engines.torch.attended import TappedAttention
from chronocam.engines.torch.attention import AttentionSeen, Mixing
from chronocam.engines.torch.forward import ForwardPass
from chronocam.engines.torch.scope import walk
from chronocam.engines.torch.taps import Cut
from chronocam.engines.torch.tensors import first_tensor, own_copy, replace_tensor
from chronocam.errors import ChronocamError, ModelError
from chronocam.maps.attended import Attended
from chronocam.types import Inputs

_LISTS = (nn.ModuleList, nn.Sequential)

Vjp = Callable[[Tensor, Sequence[Tensor]], list[Tensor | None]]
"""Returns ∂score/∂tensor for every target; None where nothing connects."""


class Blocks:
    """The blocks of a pass: their tokens, and what came before the last of them returned.

    Each block's tokens are given to the model in the place of the last one's, and what follows scores them:
    averaged over all tokens, each place the same; as they are where the model pools them by attention, whose
    own weights then count.
    """

    def __init__(self, forward: ForwardPass, inputs: Inputs, row: Row, tapped: TappedAttention) -> None:
        self._forward = forward
        self._inputs = inputs
        self._row = row.paths
        self._axes = row.axes
        self._tapped = tapped
        self._tokens: list[Tensor] = []
        self._spans: list[slice] = []  # which calls of attention are within
        last = forward.layers[self._row[-1]]
        self._recorder = Recorder(last, split_call(self._row[-1])[1], partial(pytree.tree_map, own_copy))
        every = [m for m in forward.layers.walk() if m is last or last not in walk(m)]
        self._skipped = [m for m in every if not isinstance(m, torch.jit.ScriptModule)]

    def watch(self) -> None:
        """Note what the replica's modules return, up to the last block."""
        replica = self._forward.replica
        for module in self._skipped:
            replica.replace(module, partial(self._recorder.around, module))
        for path in dict.fromkeys(split_call(path)[0] for path in self._row):
            replica.hook_before(path, self._before)
            replica.hook(path, self._after)

    def _before(self, module: nn.Module, args: object) -> None:
        self._spans.append(slice(len(self._tapped), -1))

    def _after(self, module: nn.Module, args: object, output: object) -> None:
        tokens = first_tensor(output)
        assert tokens is not None
        self._spans[-1] = slice(self._spans[-1].start, len(self._tapped))
        self._tokens.append(tokens)

    def attended(self, score: Score, vjp: Vjp) -> tuple[tuple[Attended, ...], ...]:
        """Return the attention of every block, with the gradients of what the head makes of its tokens."""
        if self._pools():
            found = tuple(self._pooled(tokens, score, vjp) for tokens, _ in self._last_stage())
            # A tower may pool its tokens where the head that scores reads them as they are.
            if any(call.gradients is not None for calls in found for call in calls):
                return found
        return tuple(self._averaged(tokens, span, score, vjp) for tokens, span in self._last_stage())

    def _last_stage(self) -> list[tuple[Tensor, slice]]:
        """Return the tokens, and the calls, of the blocks whose tokens the head can take."""
        shape = self._tokens[-1].shape
        pairs = zip(self._tokens, self._spans, strict=True)
        return [(tokens, span) for tokens, span in pairs if tokens.shape == shape]

    def _pooled(self, tokens: Tensor, score: Score, vjp: Vjp) -> tuple[Attended, ...]:
        after = self._tapped.of_input[self._spans[-1].stop :]  # those of the calls that are made once more
        tail = TappedAttention(Cut(), of_input=after)
        scores = scoped(self._tail)(tokens.detach(), score, tail)
        return tail.attended(partial(vjp, scores))

    def _averaged(self, tokens: Tensor, span: slice, score: Score, vjp: Vjp) -> tuple[Attended, ...]:
        mean = tokens.mean(self._axes, keepdim=True).expand_as(tokens)
        scores = scoped(self._tail)(mean, score, None)
        return self._tapped.attended(partial(vjp, scores), span)

    def _pools(self) -> bool:
        """Say whether attention pools the tokens of the last block. Raises ModelError for a decoder."""
        first, end = self._spans[0].start, self._spans[-1].stop
        pools = [keys for _, keys in self._tapped.sources[end:] if any(first <= call < end for call in keys)]
        if len(pools) > 1:
            raise ModelError(
                f"{len(pools)} attentions read the tokens of `{self._row[-1]}`, as in a decoder, and LeGrad "
                "is defined for one; choose attentionrelevance"
            )
        return bool(pools)

    def _tail(self, scope: ExitStack, tokens: Tensor, score: Score, tail: TappedAttention | None) -> Tensor:
        """Return the scores of what follows the last block, for other tokens of it."""
        forward = copy.copy(self._forward)
        forward.settled, forward.notes = True, []
        forward.start(scope)
        scope.enter_context(torch.set_grad_enabled(True))
        if tail is not None:
            scope.enter_context(AttentionSeen(tail.see))
        for module, outputs in self._recorder.calls.items():
            stored = [Stored(output, ()) for output in outputs]
            forward.replica.replace(module, partial(replaying, stored, _copied))
        changed = Counting(split_call(self._row[-1])[1], lambda number, x: tokens)
        forward.replica.hook(self._row[-1], partial(_changed, changed))
        forward.watch(scope)
        result = forward.result(forward.run(pytree.tree_map(own_copy, self._inputs)))
        assert result is not None  # the pass has settled whether a gate is looked for
        return score(result)


def _copied(stored: Stored) -> Any:
    return pytree.tree_map(own_copy, stored.output)


def _changed(change: Callable[[Tensor], Tensor], module: nn.Module, args: object, output: object) -> object:
    tensor = first_tensor(output)
    assert tensor is not None
    return replace_tensor(output, tensor, change(tensor))


@dataclass(frozen=True)
class Row:
    """The blocks of a row by path, in their order, and the axes of what they return that count the tokens."""

    paths: Sequence[str]
    axes: tuple[int, ...]


def row_of_blocks(forward: ForwardPass, inputs: Inputs, near: str) -> Row:
    """Return the row of blocks that attend, by path (`path#call` where one is called several times).

    A block is a module of a list or sequence of which others attend too: of the last row that returns tokens
    shaped as the layer `near` does, or else shares most of its path. Where there is none, it is the outermost
    module that attends and returns tokens shaped like those it gets. Raises ModelError where there is none
    either.
    """
    try:  # one sample cannot be mistaken for one token of many
        seen = scoped(_seen)(forward, _first(inputs))
    except (RuntimeError, ValueError, IndexError, ChronocamError):
        seen = scoped(_seen)(forward, inputs)
    rows: dict[str, list[str]] = {}
    for path in dict.fromkeys(path for within, _ in seen.attentions for path in within):
        rows.setdefault(path.rpartition(".")[0], []).append(path)
    lists = {path for path, module in forward.layers.items() if isinstance(module, _LISTS)}
    in_rows = {
        path
        for parent, row in rows.items()
        if parent in lists and len(row) > 1 and not seen.beside(row)
        for path in row
    }
    found: list[tuple[str, Mixing]] = []
    for within, mixing in seen.attentions:
        inner = next((path for path in reversed(within) if path in in_rows), None)
        block = inner or next((path for path in within if path in seen.keep), None)
        found += [] if block is None else [(block, mixing)]
    if not found:
        raise ModelError(
            "no row of blocks with attention was found, whose tokens could be scored one by one; choose "
            "attentionrelevance or gradcam"
        )
    shapes = seen.shapes
    wanted = shapes.get(split_call(near)[0])
    _, (last, mixing) = max(
        enumerate(found), key=lambda one: (shapes[one[1][0]] == wanted, _shared(one[1][0], near), one[0])
    )
    axes = _token_axes(last, shapes[last], mixing)
    if last in in_rows:
        return Row(rows[last.rpartition(".")[0]], axes)
    calls = [path for path, _ in found].count(last)
    return Row([last] if calls == 1 else [f"{last}#{number}" for number in range(calls)], axes)


def _first(inputs: Inputs) -> Inputs:
    first = first_tensor(inputs)
    samples = 0 if first is None else len(first)
    return pytree.tree_map_only(Tensor, lambda x: x[:1] if x.ndim and len(x) == samples else x, inputs)


def _token_axes(path: str, shape: tuple[int, ...], mixing: Mixing) -> tuple[int, ...]:
    """Return the axes of a block's output that count tokens. Raises ModelError where that is not known."""
    rows, heads, queries, channels = mixing.outputs(mixing.output).shape
    width = heads * channels if mixing.join is None else mixing.join.shape[0]
    if len(shape) == 3:
        return (0,) if shape[:2] == (queries, rows) and queries != rows else (1,)
    if len(shape) > 3 and width in (shape[1], shape[-1]):
        return tuple(range(1, len(shape) - 1)) if shape[-1] == width else tuple(range(2, len(shape)))
    raise ModelError(
        f"block `{path}` returns {shape}; expected tokens of {width} channels, (batch, token, channel): "
        "choose attentionrelevance or gradcam"
    )


def _shared(path: str, near: str) -> int:
    """Return how many parts two paths begin with in common."""
    pairs = zip(path.split("."), near.split("."), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


@dataclass
class _Seen:
    """What one pass recorded.

    attentions: each with the modules that it is within, the outermost first. shapes: of what modules return.
    keep: those that return tokens shaped like those they get. given: to modules.
    """

    attentions: list[tuple[list[str], Mixing]] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    keep: set[str] = field(default_factory=set)
    given: dict[str, Tensor] = field(default_factory=dict)

    def beside(self, row: Sequence[str]) -> bool:
        """Say whether modules of a row stand side by side: they get the same tokens."""
        given = [id(self.given[path]) for path in row if path in self.given]
        return len(set(given)) < len(given)


def _seen(scope: ExitStack, forward: ForwardPass, inputs: Inputs) -> _Seen:
    seen, within = _Seen(), list[str]()

    def see(mixing: Mixing) -> Tensor:
        seen.attentions.append((list(within), mixing))
        return mixing.output

    def leave(path: str, module: nn.Module, args: object, output: object) -> None:
        within.pop()
        given, returned = first_tensor(args), first_tensor(output)
        seen.shapes[path] = () if returned is None else tuple(returned.shape)
        if given is not None:
            seen.given[path] = given
        if given is not None and len(seen.shapes[path]) == 3 and seen.shapes[path] == tuple(given.shape):
            seen.keep.add(path)

    forward.start(scope)
    scope.enter_context(torch.no_grad())
    scope.enter_context(AttentionSeen(see))
    for path in filter(None, forward.layers):
        forward.replica.hook_before(path, lambda module, args, path=path: within.append(path))
        forward.replica.hook(path, partial(leave, path))
    forward.run(pytree.tree_map(own_copy, inputs))
    return seen
