"""A PyTorch model from one of its layers on: what finished before the layer is kept, and not run again."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from chronocam.engines.base import Result, Score
from chronocam.engines.torch.forward import ForwardPass
from chronocam.engines.torch.layers import split_call
from chronocam.engines.torch.repeated import Repeated
from chronocam.engines.torch.scope import Forward, as_found, couples_samples, forward_replaced, walk
from chronocam.engines.torch.tensors import first_tensor, own_copy, replace_tensor
from chronocam.errors import InputError, LayerError, ModelError, first_line
from chronocam.types import INPUT, Inputs

# How far scores may move when a batch is run twice over: kernels differ a little from one batch size to the
# next (TF32, bfloat16), and a tensor that was repeated along a wrong axis moves them by their own size.
_TOLERANCE = 0.02


class Resumed:
    """The rest of a model after one of its layers; `resumed(activations, score)` runs it.

    activations: what the layer returned for the inputs, one per call, in its native layout.
    """

    def __init__(self, forward: ForwardPass, inputs: Inputs, layer: str) -> None:
        first = first_tensor(inputs)
        if first is None:
            raise InputError("no floating-point input, so the number of samples is unknown; give one")
        if layer == INPUT:
            raise LayerError("nothing comes before the input: score changed inputs, or name a layer")
        self._forward = forward
        self._inputs = inputs
        self._samples = len(first)
        self._layer = layer
        self._module = forward.layers[layer]
        self._call = split_call(layer)[1]
        self._modules = forward.layers.walk()
        if couples_samples(forward.layers.model, self._modules):
            raise ModelError("BatchNorm in training mode mixes the samples; call model.eval() first")
        self.activations: list[Tensor] = []
        self._stored: dict[nn.Module, list[_Stored]] = {}
        with as_found(forward.layers.model, self._modules), torch.no_grad():
            self._record()

    def __call__(self, activations: Tensor | Sequence[Tensor], score: Score) -> Tensor:
        """Return the scores `(change · batch, target)` for changed activations.

        activations: one array per call of the layer, or the only one; `(change · row, …)` where the layer
            returned `(row, …)`, all rows of the first change first.
        """
        changed = [activations] if isinstance(activations, Tensor) else list(activations)
        calls, rows = len(self.activations), len(self.activations[0])
        if len(changed) != calls or len(changed[0]) % rows or not len(changed[0]):
            raise InputError(
                f"got activations for {len(changed)} calls of layer `{self._layer}`, the first with "
                f"{len(changed[0])} rows; expected {calls}, and a multiple of {rows} rows"
            )
        with as_found(self._forward.layers.model, self._modules), torch.no_grad():
            return score(self._run(changed, len(changed[0]) // rows))

    def _record(self) -> None:
        """Store what came before the layer, in such a way that the rest of the model follows from it."""
        recorder, result = self._recorded(self._inputs, self.activations)
        if not recorder.reached:
            raise LayerError(
                f"layer `{self._layer}` was not called where the model can be resumed; choose a layer that the "
                "forward pass uses (`chronocam layers SPEC`)"
            )
        calls = recorder.calls
        self._stored = {m: [_Stored(x, self._samples) for x in outputs] for m, outputs in calls.items()}
        if self._difference(result) is None:
            return
        # Which axis holds the samples was guessed wrong somewhere: 8 rows of one sample may be its frames, or
        # the same for every batch, as embedded positions are. Twice the samples show it.
        doubled = self._recorded(self._repeated_inputs(2), [])[0].calls
        for module, outputs in calls.items():
            pairs = zip(outputs, doubled[module], strict=True)
            self._stored[module] = [_Stored(output, self._samples, twice) for output, twice in pairs]
        difference = self._difference(result)
        if difference is not None:
            raise LayerError(
                f"from layer `{self._layer}` on the model does not run as it does as a whole ({difference}); "
                "call model.eval(), or choose another layer"
            )

    def _recorded(self, inputs: Inputs, activations: list[Tensor]) -> tuple[_Recorder, Result]:
        while True:
            recorder = _Recorder(self._modules, self._module, self._call)
            activations.clear()
            with (
                forward_replaced(recorder.wraps),
                self._at_layer(partial(_kept, activations)),
                self._forward.watching(),
            ):
                raw = self._forward.run(pytree.tree_map(own_copy, inputs))
                result = self._forward.result(raw)
                if result is not None:
                    return recorder, result

    def _run(self, changed: Sequence[Tensor], times: int) -> Result:
        """Run what follows the layer, for the samples `times` over."""
        wraps = {module: partial(_replayed, stored, times) for module, stored in self._stored.items()}
        with (
            forward_replaced(wraps),
            self._at_layer(lambda number, x: own_copy(changed[number])),
            self._forward.watching(),
        ):
            raw = self._forward.run(self._repeated_inputs(times))
            raw = pytree.tree_map_only(Repeated, Repeated.copies, raw)
            result = self._forward.result(raw)
        assert result is not None  # the recording has looked behind a softmax already
        return result

    @contextmanager
    def _at_layer(self, change: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
        """Let what the layer returns in its n-th call that counts go through `change(n, …)`."""
        numbers = count()

        def hook(module: nn.Module, args: object, output: object) -> object:
            number = next(numbers)
            if self._call is not None and number != self._call:
                return None
            tensor = first_tensor(output)
            if tensor is None:
                kind = type(module).__name__
                raise LayerError(f"a {kind} returns no floating-point tensor; choose another layer")
            return replace_tensor(output, tensor, change(number if self._call is None else 0, tensor))

        handle = self._module.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def _repeated_inputs(self, times: int) -> Inputs:
        def repeated(x: Tensor) -> Tensor:
            return Repeated.of(x, times, 0 if x.ndim and len(x) == self._samples else None)

        return pytree.tree_map_only(Tensor, repeated, self._inputs)

    def _difference(self, result: Result) -> str | None:
        """Run two copies of the layer's own activations; say where the model's output is not there twice."""
        try:
            twice = self._run([torch.cat([x, x]) for x in self.activations], 2)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            return first_line(error)
        same = _same(_floats(result.raw), _floats(twice.raw), self._samples)
        return None if same else "its output differs"


class _Recorder:
    """Replaces the `forward` of modules to note what each returned before the layer did, and the layer itself.

    calls: of the outermost modules alone, since what these call will not be called either. Modules that hold
        the layer must run again, so theirs are not noted.
    reached: whether the layer returned, in the call that is asked for.
    """

    def __init__(self, modules: Sequence[nn.Module], layer: nn.Module, call: int | None) -> None:
        self.calls: defaultdict[nn.Module, list[Any]] = defaultdict(list)
        self.reached = False
        self._layer = layer
        self._call = call
        self._numbers = count()
        self._within = False  # a module whose output is noted
        wrapped = [m for m in modules if m is layer or layer not in walk(m)]
        self.wraps = {m: partial(self._wrap, m) for m in wrapped if not isinstance(m, torch.jit.ScriptModule)}

    def _wrap(self, module: nn.Module, forward: Forward) -> Forward:
        return partial(self._run, module, forward)

    def _run(self, module: nn.Module, forward: Forward, *args: Any, **kwargs: Any) -> Any:
        if self._within or (self.reached and module is not self._layer):
            return forward(*args, **kwargs)
        self._within = True
        try:
            output = forward(*args, **kwargs)
        finally:
            self._within = False
        counts = module is self._layer and self._call in (None, next(self._numbers))
        if counts or not self.reached:
            # A copy, since the model may go on to write into what the module returned.
            self.calls[module].append(pytree.tree_map(own_copy, output))
        self.reached |= counts
        return output


class _Stored:
    """What a module returned in one call, and which axis of each tensor in it holds the samples.

    twice: what the module returned for twice the samples; None to take the first axis, where it fits.
    """

    def __init__(self, output: Any, samples: int, twice: Any = None) -> None:
        self.output = output
        tensors = _tensors(output)
        if twice is None:
            self.axes = [0 if x.ndim and len(x) % samples == 0 else None for x in tensors]
        else:
            self.axes = [_doubled_axis(*pair) for pair in zip(tensors, _tensors(twice), strict=True)]

    def repeated(self, times: int) -> Any:
        """Return the output for the samples `times` over; what is not per sample stays as it is."""
        axes = iter(self.axes)
        return pytree.tree_map_only(Tensor, lambda x: Repeated.of(x, times, next(axes)), self.output)


def _doubled_axis(once: Tensor, twice: Tensor) -> int | None:
    axes = enumerate(zip(once.shape, twice.shape, strict=True))
    return next((axis for axis, (n, m) in axes if m == 2 * n and n), None)


def _replayed(stored: Sequence[_Stored], times: int, forward: Forward) -> Forward:
    """Return a `forward` that gives what is stored, call by call, and then runs."""
    queue = deque(stored)

    def run(*args: Any, **kwargs: Any) -> Any:
        return queue.popleft().repeated(times) if queue else forward(*args, **kwargs)

    return run


def _kept(activations: list[Tensor], number: int, x: Tensor) -> Tensor:
    activations.append(x.clone())
    return x


def _tensors(output: Any) -> list[Tensor]:
    return [x for x in pytree.tree_leaves(output) if isinstance(x, Tensor)]


def _floats(raw: Any) -> list[Tensor]:
    return [x.float() for x in _tensors(raw) if x.is_floating_point()]


def _same(once: Sequence[Tensor], twice: Sequence[Tensor], samples: int) -> bool:
    """Say whether `twice` holds `once` two times over: in the rows of each tensor, or in a list per sample."""
    if len(twice) == 2 * len(once):
        expected = [*once, *once]
    elif len(twice) == len(once):
        pairs = zip(once, twice, strict=True)
        expected = [torch.cat([x, x]) if x.ndim and samples in (len(x), len(y) // 2) else x for x, y in pairs]
    else:
        return False
    return all(
        x.shape == y.shape
        and torch.allclose(
            x, y, rtol=0, atol=_TOLERANCE * float(x.abs().max()) if x.numel() else 0, equal_nan=True
        )
        for x, y in zip(expected, twice, strict=True)
    )
