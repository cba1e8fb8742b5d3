"""The last row of blocks of a Keras transformer, and what its head makes of the tokens of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, pairwise
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import keras
import numpy as np

from chronocam.engines.keras.attended import AttentionCalls
from chronocam.engines.keras.attention import LAYERS, OUTPUT, part
from chronocam.engines.keras.backend import Backend
from chronocam.engines.keras.layers import (
    Node,
    Nodes,
    Run,
    Wrap,
    first_tensor,
    graph_of,
    nodes_of,
    replace_tensor,
)
from chronocam.engines.keras.program import Passed, Program
from chronocam.engines.keras.resume import recording
from chronocam.engines.keras.taps import Change, after, all_frames
from chronocam.engines.misfit import out_of_memory
from chronocam.engines.names import split_call
from chronocam.engines.recording import Result, Score
from chronocam.engines.resumption import Counting, Recorder, Stored, replaying
from chronocam.errors import ModelError
from chronocam.types import Array, Inputs

BLOCKS: Final = "#blocks"

Call: TypeAlias = tuple[str, int]
"""The path of a node, and the number of one of its calls."""

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """Blocks in their order.

    ends: the calls that return their tokens. within: the calls of attention of each.
    pool: the call of attention that pools the tokens of the last block; None where none does.
    together: whether what follows takes the tokens of all blocks as one batch.
    """

    ends: Sequence[Call]
    within: Sequence[Sequence[Call]]
    pool: Call | None = None
    together: bool = False

    @property
    def calls(self) -> list[list[Call]]:
        """The calls of attention of which a block's score is differentiated, as `BlockProgram` taps them."""
        if self.pool is None:
            return [list(calls) for calls in self.within]
        return [[(self.pool[0], number)] for number in range(len(self.ends))]

    @property
    def paths(self) -> list[str]:
        """The paths of all of these."""
        return list(dict.fromkeys(path for calls in self.calls for path, _ in calls))


class BlockProgram(Program):
    """A pass after which each block's tokens are given to the model in the place of the last one's.

    The tokens are replaced by their mean, the same at each place; not where the model pools them by
    attention, whose weights then count themselves. No gradient flows from one block to the one before, nor
    from the model's own outputs. What the model makes of the tokens of each block is among the outputs that
    scores read, under `BLOCKS`.
    """

    def __init__(self, whole: Program, row: Row) -> None:
        vars(self).update(vars(whole))
        self._whole = whole
        self._row = row
        self.parts = tuple(part(path, name) for path in row.paths for name in (OUTPUT, "value", "weights"))
        self.layers = (*whole.layers, *self.parts)
        self.state = whole.state, row.together

    def forward(
        self,
        inputs: Inputs,
        change: Change = lambda layer, tensor: tensor,
        around: Mapping[str, Sequence[Wrap]] = MappingProxyType({}),
    ) -> Passed:
        """Run the model, then what follows the last block for the tokens of each; these make the scores."""
        path, number = self._row.ends[-1]
        last, pools = self.nodes[path], self._row.pool is not None
        recorder: Recorder[Any] = Recorder(last, number, _stopped)
        # Layers around the last block run again for the tokens of each block; outputs of all others that ran
        # before it are replayed.
        replayed = {at: node for at, node in self.nodes.items() if node is last or not _holds(node, last)}
        ends = {f"{at}#{n}": (at, n) for at, n in self._row.ends}
        tokens: dict[Call, Array] = {}

        def cut(layer: str, x: Array) -> Array:
            if layer not in ends:
                return change(layer, x)
            tokens[ends[layer]] = x
            return keras.ops.stop_gradient(x)

        noting = {at: [partial(recording, recorder, node)] for at, node in replayed.items()}
        first = self._tapping((*ends, *self._whole.layers, *(() if pools else self.parts)))
        passed, tails = first.forward(inputs, cut, noting), list[Any]()
        seen = passed.activations
        given = [tokens[end] if pools else _averaged(tokens[end]) for end in self._row.ends]
        count = len(given) if self._row.together else 1
        for x in [keras.ops.concatenate(given)] if count > 1 else given:
            again = {at: [_replaying(recorder.calls[node])] for at, node in replayed.items()}
            again[path].append(after(_put(Counting(number, partial(_instead, x)))))
            tail = self._tapping(self.parts if pools else ()).forward(inputs, change, again)
            tails += _each(tail.seen, count, given[0].shape[0] * count)
            for layer, calls in tail.activations.items():
                seen.setdefault(layer, []).extend(calls)
        outputs = {**passed.outputs, BLOCKS: tails}
        return Passed(passed.raw, passed.logits, outputs, {layer: seen[layer] for layer in self.layers})

    def _tapping(self, layers: Sequence[str]) -> Program:
        program = copy(self._whole)
        program.layers = tuple(layers)
        return program


class BlockScore:
    """A score whose values are those of the model, and whose gradients those of all blocks.

    Blocks are summed, so that one backward pass serves all of them.

    block: scores what the model makes of the tokens of a block, for the classes that `score` has chosen.
    """

    def __init__(self, score: Score, block: Score) -> None:
        self._score = score
        self._block = block

    def __call__(self, result: Result) -> Array:
        """Return the scores `(batch, target)`."""
        own = self._score(result)
        each = sum(self._block(Passed.of(seen).result) for seen in result.outputs[BLOCKS])
        return own + (each - keras.ops.stop_gradient(each))

    def classes(self, result: Result) -> np.ndarray | None:
        """Return the classes whose logits are scored, as those of the model alone; see `PassScore`."""
        ask = getattr(self._score, "classes", None)
        classes: np.ndarray | None = None if ask is None else ask(result)
        return classes

    def differentiated(self, passed: Passed) -> list[Passed]:
        """Return what the model makes of each block's tokens, whose logits have the gradients."""
        return [Passed.of(seen) for seen in passed.outputs[BLOCKS]]


def _each(seen: Any, count: int, rows: int) -> list[Any]:
    """Return what scores are made of for each of `count` batches that ran as one of so many rows."""
    tensors = [x for x in keras.tree.flatten(seen) if hasattr(x, "shape")]
    if count > 1 and any(tuple(x.shape[:1]) != (rows,) for x in tensors):
        raise ModelError("the model's outputs are not one row for each sample")
    own = rows // count
    return [
        keras.tree.map_structure(
            lambda x, at=at: x[at * own : (at + 1) * own] if count > 1 and hasattr(x, "shape") else x, seen
        )
        for at in range(count)
    ]


def _averaged(tokens: Array) -> Array:
    axes = tuple(range(1, len(tokens.shape) - 1))
    return keras.ops.broadcast_to(keras.ops.mean(tokens, axes, keepdims=True), tokens.shape)


def _stopped(output: Any) -> Any:
    return keras.tree.map_structure(
        lambda x: keras.ops.stop_gradient(x) if hasattr(x, "shape") else x, output
    )


def _instead(x: Array, number: int, old: Array) -> Array:
    return x


def _put(counting: Counting) -> Callable[[object], object]:
    def put(output: object) -> object:
        old = first_tensor(output)
        return replace_tensor(output, old, counting(old))

    return put


def _replaying(outputs: Sequence[Any]) -> Wrap:
    stored = [Stored(output, ()) for output in outputs]
    return lambda node, run: replaying(stored, lambda one: one.output, run)


def _holds(node: Node, inner: Node) -> bool:
    return any(one is inner for one in nodes_of(node).values())


@dataclass
class _Seen:
    """What one pass recorded.

    attentions: each call of attention, and the calls that it ran within, the outermost first.
    shapes: of the first tensor that each call took and returned.
    """

    attentions: list[tuple[Call, list[Call]]] = field(default_factory=list)
    shapes: dict[Call, tuple[Shape, Shape]] = field(default_factory=dict)


def row_of_blocks(
    backend: Backend, program: Program, inputs: Inputs, near: str, calls: AttentionCalls
) -> Row:
    """Return the row of blocks that attend: of the last that returns tokens shaped as `near` does, if any.

    A block is a layer beside others of its class that attend, each of which returns tokens shaped like those
    it gets; or, in the graph of a functional model, what lies between two tensors through which all goes.
    Raises ModelError where there is none, and for a decoder.
    """
    seen = _seen(backend, program, inputs)
    rows = [*_nested(program.nodes, seen), *_flat(program, seen)]
    rows = rows or _alone(seen)
    if not rows:
        raise ModelError(
            "no row of blocks with attention was found, whose tokens could be scored one by one; choose "
            "attentionrelevance or gradcam"
        )
    wanted = {given for call, (_, given) in seen.shapes.items() if call[0] == split_call(near)[0]}
    order = calls.numbered

    def rank(row: Row) -> tuple[bool, int]:
        return seen.shapes[row.ends[-1]][1] in wanted, order.index(row.within[-1][-1])

    row = _with_pool(max(rows, key=rank), calls)
    return replace(row, together=_run_together(backend, program, inputs, row))


def _run_together(backend: Backend, program: Program, inputs: Inputs, row: Row) -> bool:
    """Say whether what follows the last block runs on the tokens of all blocks as one batch.

    It does not where something of the batch's own size from before joins the tokens.
    """
    if row.pool is not None or len(row.ends) < 2:
        return False
    tried = BlockProgram(program, replace(row, together=True))

    def run(inputs: Inputs) -> None:
        tried.forward(inputs)

    try:
        backend.once(run, tried, inputs)
    except Exception as error:  # whatever the model raises where shapes do not fit
        if out_of_memory(error):
            raise
        return False
    return True


def _with_pool(row: Row, calls: AttentionCalls) -> Row:
    order = calls.numbered
    first, end = order.index(row.within[0][0]), order.index(row.within[-1][-1]) + 1
    within = set(range(first, end))
    readers = [at for at in range(end, len(order)) if within.intersection(calls.sources[at][1])]
    if len(readers) > 1:
        raise ModelError(
            f"{len(readers)} attentions read the tokens of `{row.ends[-1][0]}`, as in a decoder, and LeGrad "
            "is defined for one; choose attentionrelevance"
        )
    return Row(row.ends, row.within, order[readers[0]] if readers else None)


def _seen(backend: Backend, program: Program, inputs: Inputs) -> _Seen:
    seen, within, counts = _Seen(), list[Call](), Counter[str]()

    def around(path: str, node: Node, call: Run) -> Run:
        def run(*args: object, **options: object) -> object:
            own = path, counts[path]
            counts[path] += 1
            if isinstance(node, LAYERS):
                seen.attentions.append((own, list(within)))
            within.append(own)
            output = call(*args, **options)
            within.pop()
            shapes = (first_tensor((args, options)), first_tensor(output))
            given, returned = (() if x is None else tuple(x.shape) for x in shapes)
            seen.shapes[own] = given, returned
            return output

        return run

    def once(inputs: Inputs) -> None:
        seen.attentions.clear()
        counts.clear()
        wraps: dict[str, list[Wrap]] = {
            path: [*all_frames(node), partial(around, path)] for path, node in program.nodes.items()
        }
        program.run(inputs, wraps)

    backend.once(once, program, inputs)
    return seen


def _keeps(seen: _Seen, call: Call) -> bool:
    given, returned = seen.shapes[call]
    return len(returned) > 2 and given == returned


def _nested(nodes: Nodes, seen: _Seen) -> list[Row]:
    """Return the rows of layers of one class beside each other that attend, the outermost of each."""
    found: dict[tuple[str, type, Shape], dict[Call, list[Call]]] = {}
    for own, within in seen.attentions:
        for call in within:
            if _keeps(seen, call):
                kind = call[0].rpartition("/")[0], type(nodes[call[0]]), seen.shapes[call][1]
                found.setdefault(kind, {}).setdefault(call, []).append(own)
    rows = [row for row in found.values() if len(row) > 1]
    inner = {call for row in rows for call in row if any(_inside(call, o) for r in rows for o in r)}
    return [Row(list(row), list(row.values())) for row in rows if not inner.intersection(row)]


def _inside(call: Call, other: Call) -> bool:
    return call[0].startswith(f"{other[0]}/")


def _alone(seen: _Seen) -> list[Row]:
    """Return the outermost layers that attend and keep the shape of tokens, each by itself."""
    outer = [
        (own, next((call for call in within if _keeps(seen, call)), None)) for own, within in seen.attentions
    ]
    groups = groupby(outer, key=lambda pair: pair[1])
    return [Row([block], [[own for own, _ in group]]) for block, group in groups if block is not None]


def _flat(program: Program, seen: _Seen) -> list[Row]:
    """Return the rows of blocks in the graphs of functional models, whose layers lie side by side."""
    holders = dict.fromkeys(own[0].rpartition("/")[0] for own, _ in seen.attentions)
    found = []
    for holder in holders:
        graph = graph_of(program.nodes[holder] if holder else program.model)
        if graph is not None:
            row = _row_in(graph, {id(node): path for path, node in program.nodes.items()}, seen)
            found += [] if row is None else [row]
    return found


def _row_in(graph: Any, paths: Mapping[int, str], seen: _Seen) -> Row | None:
    """Return the blocks of a functional graph.

    Each begins with self-attention, and ends with the last tensor before the next one through which all
    goes: what no later operation goes past. The last block ends as the one before does, with as many
    operations after its attention; alone, where its residual is added.
    """
    by_depth = graph._nodes_by_depth
    ran = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    numbers, calls = Counter[str](), list[Call]()
    for node in ran:
        path = paths.get(id(node.operation), "")
        calls.append((path, numbers[path]))
        numbers[path] += 1
    cuts = _cuts(ran)
    starts = [at for at, call in enumerate(calls) if _attends_to_itself(ran[at], call, seen)]
    ends = [max((cut for cut in cuts if a < cut < b), default=-1) for a, b in pairwise(starts)]
    if -1 in ends or not starts:
        return None
    after_last = [cut for cut in cuts if cut > starts[-1] and _keeps_tokens(ran[cut], ran[starts[-1]])]
    alike = starts[-1] + ends[-1] - starts[-2] if ends else -1
    sums = [cut for cut in after_last if len(ran[cut].input_tensors) > 1]
    end = alike if alike in after_last else max(sums, default=-1)
    if end < 0:
        return None
    shape = tuple(ran[end].output_tensors[0].shape)
    pairs = [
        (calls[at], [calls[start]])
        for start, at in zip(starts, [*ends, end], strict=True)
        if tuple(ran[at].output_tensors[0].shape) == shape
    ]
    return Row([call for call, _ in pairs], [within for _, within in pairs])


def _cuts(ran: Sequence[Any]) -> list[int]:
    """Return which operations all goes through: those past which no tensor from before is used."""
    last_use = {id(x): at for at, node in enumerate(ran) for x in node.input_tensors}
    cuts, latest = list[int](), -1
    for at, node in enumerate(ran):
        if latest <= at:
            cuts.append(at)
        latest = max([latest, *(last_use.get(id(x), -1) for x in node.output_tensors)])
    return cuts


def _attends_to_itself(node: Any, call: Call, seen: _Seen) -> bool:
    if not isinstance(node.operation, LAYERS) or all(call != own for own, _ in seen.attentions):
        return False
    return len({tuple(x.shape)[:-1] for x in (*node.input_tensors, node.output_tensors[0])}) == 1


def _keeps_tokens(node: Any, attention: Any) -> bool:
    return tuple(node.output_tensors[0].shape) == tuple(attention.output_tensors[0].shape)
