"""A model from one of its layers on, in any framework: what came before the layer is kept, not run again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any, Generic, TypeVar

import numpy as np

from chronocam.engines.misfit import out_of_memory
from chronocam.engines.names import split_call
from chronocam.engines.recording import Result, Score
from chronocam.errors import InputError, LayerError, first_line
from chronocam.maps.arrays import like, namespace, placed, to_numpy, widen
from chronocam.types import INPUT, Array, Inputs

# How far an output may move when a batch is run twice over: kernels differ a little from one batch size to
# the next (TF32, bfloat16), and a tensor that is repeated along a wrong axis moves it by its own size.
_TOLERANCE = 0.02

Node = TypeVar("Node")
"""What a framework's models are made of: modules, or layers and operations."""

Run = Callable[..., Any]
"""What a node does when it is called; what it takes and returns is the model's own affair."""


class Recorder(Generic[Node]):
    """Notes what every node returned before a layer did, and the layer itself.

    calls: of the outermost nodes alone, since what these call will not be called either. Nodes that hold the
        layer must run again, so they are not to go through a recorder.
    reached: whether the layer returned, in the call that is asked for.
    """

    def __init__(self, layer: Node, call: int | None, copied: Callable[[Any], Any]) -> None:
        self.calls: defaultdict[Node, list[Any]] = defaultdict(list)
        self.reached: bool = False
        self._layer = layer
        self._call = call
        self._copied = copied
        self._numbers = count()
        self._within = False  # a node whose output is noted

    def around(self, node: Node, run: Run) -> Run:
        """Return what a node shall do instead."""
        return partial(self._noted, node, run)

    def _noted(self, node: Node, run: Run, *args: Any, **kwargs: Any) -> Any:
        if self._within or (self.reached and node is not self._layer):
            return run(*args, **kwargs)
        self._within = True
        try:
            output = run(*args, **kwargs)
        finally:
            self._within = False
        counts = node is self._layer and self._call in (None, next(self._numbers))
        if counts or not self.reached:
            # A copy, since the model may go on to write into what the node returned.
            self.calls[node].append(self._copied(output))
        self.reached |= counts
        return output


class Stored:
    """What a node returned in one call, and which axis of each tensor in it holds the samples."""

    def __init__(self, output: Any, axes: Sequence[int | None]) -> None:
        self.output = output
        self.axes = axes


class Rest(ABC, Generic[Node]):
    """The rest of a model after one of its layers; see `chronocam.engines.Resumed`."""

    def __init__(self, inputs: Inputs, samples: int | None, layer: str) -> None:
        if samples is None:
            raise InputError("no floating-point input, so the number of samples is unknown; give one")
        if layer == INPUT:
            raise LayerError("nothing comes before the input: score changed inputs, or name a layer")
        self.activations: Sequence[Array] = []
        self._inputs = inputs
        self._samples = samples
        self._layer = layer
        self._call = split_call(layer)[1]
        self._stored: dict[Node, list[Stored]] = {}
        self._takes_more = True  # than the samples that were given

    def __call__(self, activations: Array | Sequence[Array], score: Score) -> Array:
        """Return the scores `(change · batch, target)` for changed activations; see `Resumed`."""
        changed = list(activations) if isinstance(activations, (list, tuple)) else [activations]
        calls, rows = len(self.activations), len(self.activations[0])
        if len(changed) != calls or len(changed[0]) % rows or not len(changed[0]):
            raise InputError(
                f"got activations for {len(changed)} calls of layer `{self._layer}`, the first with "
                f"{len(changed[0])} rows; expected {calls}, and a multiple of {rows} rows"
            )
        if not self._takes_more and len(changed[0]) > rows:
            raise InputError(
                "the model takes no larger batch than was given; score one change after the other"
            )
        return self._scored(changed, len(changed[0]) // rows, score)

    def without(self, channels: Sequence[int], axis: int, calls: int, score: Score) -> Array:
        """Return the scores `(channel · batch, target)` without each channel; see `Resumed`."""
        xp = namespace(self.activations[0])
        stay = [xp.concat([x] * len(channels)) for x in self.activations[:-calls]]
        changed = [self._ablated(x, np.asarray(channels), axis) for x in self.activations[-calls:]]
        return self([*stay, *changed], score)

    def _ablated(self, x: Array, channels: np.ndarray, axis: int) -> Array:
        """Return copies of what the layer returned, one after the other, each without one of the channels."""
        xp, shape = namespace(x), [1] * (len(x.shape) + 1)
        shape[0], shape[axis + 1] = len(channels), x.shape[axis]
        off = placed(np.eye(x.shape[axis], dtype=bool)[channels].reshape(shape), x)
        copies = xp.where(off, xp.zeros_like(x[None, :1]), x[None])
        return xp.reshape(copies, (-1, *x.shape[1:]))

    def masked(self, masks: np.ndarray, score: Score) -> Array:
        """Return the scores `(mask · batch, target)` through each mask; see `Resumed`."""
        xp = namespace(self.activations[0])
        stay = [xp.concat([x] * len(masks)) for x in self.activations[:-1]]
        return self([*stay, self._through(self.activations[-1], masks)], score)

    def _through(self, x: Array, masks: np.ndarray) -> Array:
        """Return copies of what the layer returned, one after the other, each times one of the masks."""
        each = like(masks[:, None, None], x)
        return namespace(x).reshape(x[None] * each, (-1, *x.shape[1:]))

    @abstractmethod
    def _recorded(self, times: int) -> tuple[Recorder[Node], list[Array], Result]:
        """Run the whole model on the inputs, `times` over; return what each call of the layer gave, too."""

    @abstractmethod
    def _run(self, changed: Sequence[Array], times: int) -> Result:
        """Run what follows the layer, for the samples `times` over."""

    @abstractmethod
    def _scored(self, changed: Sequence[Array], times: int, score: Score) -> Array:
        """Return the scores of what follows the layer, as the engine gives scores."""

    @abstractmethod
    def _tensors(self, output: Any) -> list[Array]:
        """Return the tensors in what a node returned, in the order in which they are repeated."""

    def _keep(self, recorder: Recorder[Node], activations: list[Array], result: Result) -> None:
        """Store what came before the layer, in such a way that the rest of the model follows from it."""
        self.activations = activations
        if not recorder.reached:
            raise LayerError(
                f"layer `{self._layer}` was not called where the model can be resumed; choose a layer that "
                "the forward pass uses (`chronocam layers SPEC`)"
            )
        self._store(recorder.calls, self._first_axis)
        if self._difference(result) is None:
            return
        # Which axis holds the samples was guessed wrong somewhere: 8 rows of one sample may be its frames, or
        # the same for every batch, as embedded positions are. Twice the samples show it.
        try:
            doubled = self._recorded(2)[0].calls
            twice = (tensor for node in recorder.calls for x in doubled[node] for tensor in self._tensors(x))
            self._store(recorder.calls, lambda tensor: _doubled_axis(tensor, next(twice)))
            difference = self._difference(result)
        except Exception as error:  # whatever the model raises that takes no more samples
            if out_of_memory(error):
                raise
            difference = first_line(error)
        self._takes_more = difference is None
        if difference is not None and self._difference(result, 1) is not None:
            raise LayerError(
                f"from layer `{self._layer}` on the model does not run as it does as a whole ({difference}); "
                f"{self._remedy()}"
            )

    def _remedy(self) -> str:
        """Return what may help where the model cannot be run from the layer on."""
        return "score whole inputs, or choose another layer"

    def _store(self, calls: Mapping[Node, Sequence[Any]], axis: Callable[[Array], int | None]) -> None:
        self._stored = {
            node: [Stored(output, [axis(x) for x in self._tensors(output)]) for output in outputs]
            for node, outputs in calls.items()
        }

    def _first_axis(self, tensor: Array) -> int | None:
        return 0 if len(tensor.shape) and tensor.shape[0] % self._samples == 0 else None

    def _difference(self, result: Result, times: int = 2) -> str | None:
        """Run copies of the layer's own activations; say why the model's output is not there as often."""
        xp = namespace(self.activations[0])
        try:
            again = self._run([xp.concat([x] * times) for x in self.activations], times)
        except Exception as error:  # whatever the model raises where shapes do not fit
            if out_of_memory(error):
                raise
            return first_line(error)
        same = _same(self._values(result), self._values(again), self._samples, times)
        return None if same else "its output differs"

    def _values(self, result: Result) -> list[np.ndarray]:
        floats = [x for x in self._tensors(result.raw) if "float" in str(x.dtype)]
        return [to_numpy(widen(x)) for x in floats]


def replaying(stored: Sequence[Stored], repeated: Callable[[Stored], Any], run: Run) -> Run:
    """Return what a node does instead: it gives what is stored, call by call, and then runs."""
    queue = deque(stored)

    def replayed(*args: Any, **kwargs: Any) -> Any:
        return repeated(queue.popleft()) if queue else run(*args, **kwargs)

    return replayed


class Counting:
    """What a layer's outputs go through: `change(n, output)` in the n-th call that counts."""

    def __init__(self, call: int | None, change: Callable[[int, Array], Array]) -> None:
        self._call = call
        self._change = change
        self._calls = 0

    def __call__(self, output: Array) -> Array:
        """Return the output, changed where the call counts."""
        number, self._calls = self._calls, self._calls + 1
        if self._call is None:
            return self._change(number, output)
        return self._change(0, output) if number == self._call else output

    def undo(self) -> None:
        """Take back the last call."""
        self._calls -= 1


def _doubled_axis(once: Array, twice: Array) -> int | None:
    axes = enumerate(zip(once.shape, twice.shape, strict=True))
    return next((axis for axis, (n, m) in axes if n and m == 2 * n), None)


def _copied(x: np.ndarray, y: np.ndarray, samples: int, times: int) -> np.ndarray:
    """Return `x` once or twice, as `y` has to be: what loses its axis for one sample has it for two."""
    if times == 1:
        return x
    if samples == 1 and y.shape == (2, *x.shape):
        return np.stack([x, x])
    return np.concatenate([x, x]) if x.ndim and samples in (len(x), len(y) // 2) else x


def _same(once: Sequence[np.ndarray], again: Sequence[np.ndarray], samples: int, times: int) -> bool:
    """Say whether `again` holds `once`, or that twice: in the rows of each array, or in a list per sample."""
    if len(again) == len(once):
        pairs = zip(once, again, strict=True)
        expected = [_copied(x, y, samples, times) for x, y in pairs]
    elif len(again) == times * len(once):
        expected = [*once] * times
    else:
        return False
    return all(
        x.shape == y.shape and np.allclose(x, y, rtol=0, atol=_TOLERANCE * _largest(x), equal_nan=True)
        for x, y in zip(expected, again, strict=True)
    )


def _largest(x: np.ndarray) -> float:
    """Return the size of the largest finite value."""
    return float(np.abs(x).max(initial=0, where=np.isfinite(x)))
