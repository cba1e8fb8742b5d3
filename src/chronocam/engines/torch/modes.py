"""Function modes: what is seen and replaced while a PyTorch model runs, without patching the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from chronocam.engines.torch.graph import TRIM, splits_grid

Function: TypeAlias = Callable[..., Any]
Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]

_SIGMOIDS_IN_PLACE = {torch.sigmoid_, Tensor.sigmoid_}
_COPIES = {Tensor.clone, torch.clone, Tensor.view_as, Tensor.detach, Tensor.requires_grad_}
# In another precision, or kept off 0 and 1 for the sake of a logarithm, probabilities stay what they are.
_COPIES |= {Tensor.to, Tensor.float, Tensor.double, Tensor.half, Tensor.bfloat16, Tensor.type, Tensor.type_as}
_COPIES |= {Tensor.clamp, Tensor.clamp_min, Tensor.clamp_max, Tensor.clip, torch.clamp, torch.clip}
_GATES = {
    **dict.fromkeys((F.softmax, torch.softmax, torch.special.softmax, Tensor.softmax), "softmax"),
    **dict.fromkeys((F.log_softmax, torch.log_softmax, Tensor.log_softmax), "log_softmax"),
    **dict.fromkeys((F.sigmoid, torch.sigmoid, torch.special.expit, Tensor.sigmoid), "sigmoid"),
    **dict.fromkeys(_SIGMOIDS_IN_PLACE, "sigmoid"),
}
_DENSE: Final = 8  # gates of dense outputs that are kept in mind: as many masks may be returned together
_ATTEND = {F.softmax, torch.softmax, Tensor.softmax}
_RNNS = {torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu}
_DROPOUT = {
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
}
_DRAWS_IN_PLACE = {Tensor.bernoulli_, Tensor.uniform_, Tensor.normal_, Tensor.exponential_}
_DRAWS = {torch.multinomial, Tensor.multinomial, torch.randperm, torch.rand, torch.randn, torch.randint}
_RELU = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_IN_PLACE = {F.relu_, torch.relu_, Tensor.relu_}


_KERNEL = 3  # places on one side: what a kernel of 7 × 7 needs, and no more than it needs
_MOVES = {
    "T",
    "__getitem__",
    "__setitem__",
    "as_strided",
    "chunk",
    "einsum",
    "flip",
    "fliplr",
    "flipud",
    "gather",
    "grid_sample",
    "grid_sampler",
    "index_select",
    "mT",
    "moveaxis",
    "movedim",
    "narrow",
    "permute",
    "roll",
    "rot90",
    "select",
    "slice_scatter",
    "sort",
    "split",
    "swapaxes",
    "swapdims",
    "take",
    "tensor_split",
    "topk",
    "transpose",
    "unbind",
    "unfold",
}


_VIEWS = {"reshape", "unflatten", "view"}
_JOINS = {"cat", "concat", "concatenate"}


class MovesSeen(TorchFunctionMode):
    """Sees whether a function is called that may put places into another order, leave some out, or add many.

    any: whether one was, of a tensor that may have a grid.
    """

    def __init__(self) -> None:
        super().__init__()
        self.any: bool = False

    def __torch_function__(
        self, func: Function, types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        name = func.__name__
        if name == "__get__":  # of a property, such as x.T
            name = getattr(getattr(func, "__self__", None), "__name__", "")
        if name == "pad":
            pad = (args[1:] or ((kwargs or {}).get("pad", ()),))[0]
            self.any |= max(pad, default=0) > _KERNEL or min(pad, default=0) < -TRIM
        result = func(*args, **(kwargs or {}))
        moves = name in _MOVES or "fft" in name
        if moves and not (
            isinstance(args[0], Tensor) and (args[0].ndim < 3 or _is_trimmed(name, args, result))
        ):
            self.any = True
        if name in _VIEWS and isinstance(args[0], Tensor):
            self.any |= splits_grid(args[0].shape, result.shape)
        if name in _JOINS and isinstance(result, Tensor) and result.ndim > 3:
            dim = (args[1:] or ((kwargs or {}).get("dim", (kwargs or {}).get("axis", 0)),))[0]
            self.any |= dim % result.ndim > 1  # on a grid, and not of features or samples
        return result


def _is_trimmed(name: str, args: Sequence[Any], result: Any) -> bool:
    """Say whether a row or column was cut off at an end of a picture, and no more."""
    if name != "__getitem__" or not isinstance(result, Tensor) or result.ndim != args[0].ndim:
        return False
    index = args[1] if isinstance(args[1], tuple) else (args[1],)
    plain = all(one is Ellipsis or (isinstance(one, slice) and one.step in (None, 1)) for one in index)
    return (
        plain
        and result.ndim < 5
        and all(n - m <= TRIM for n, m in zip(args[0].shape, result.shape, strict=True))
    )


class GatesSeen(TorchFunctionMode):
    """Remembers softmaxes, log-softmaxes and sigmoids that may be a model's last, and the logits before each.

    Those are all of rows, and the last few of outputs with a grid. A sigmoid of `(batch, row, values)`, as of
    a detector's boxes, is left alone: not all of the values are of classes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[tuple[Tensor, int, Tensor, str]] = []
        # What is inside, such as attention, need not be kept alive.
        self._dense: deque[tuple[Tensor, int, Tensor, str]] = deque(maxlen=_DENSE)

    @property
    def _seen(self) -> list[tuple[Tensor, int, Tensor, str]]:
        """All that is remembered, of each kind the last first."""
        return [*reversed(self._rows), *reversed(self._dense)]

    def _remember(self, result: Tensor, logits: Tensor, gate: str) -> None:
        seen = self._rows if result.ndim <= 2 else self._dense
        seen.append((result, result._version, logits, gate))

    def __torch_function__(
        self, func: Function, types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        gate = _GATES.get(func)
        if gate is None:
            result = func(*args, **(kwargs or {}))
            return self._same(result, args[0]) if func in _COPIES else result
        logits = args[0] if args else (kwargs or {})["input"]
        if func in _SIGMOIDS_IN_PLACE:
            logits = logits.clone()
        result = func(*args, **(kwargs or {}))
        if result.ndim != 3 or gate != "sigmoid":
            self._remember(result, logits, gate)
        return result

    def _same(self, result: Tensor, source: Tensor) -> Tensor:
        """Remember a copy of a gate's output, such as a layer that is looked at passes on, and return it."""
        for seen, version, logits, gate in self._seen:
            if seen is source and seen._version == version:
                self._remember(result, logits, gate)
                break
        return result

    def before(self, output: Tensor) -> tuple[Tensor, str] | None:
        """Return the logits that a gate turned into `output`, and the gate's name; None if no gate made it.

        The gate's own output counts in another shape too, as after `squeeze`; changed in place it does not.
        """
        for result, version, logits, gate in self._seen:
            if result._version != version:
                continue
            if result is output or _same_values(result, output):
                return logits.reshape(output.shape), gate
            column = _column_of(result, output) if gate == "softmax" else None
            if column is not None:
                # p = e^y / (e^y + Σ of the others) is the sigmoid of y − log Σ.
                others = torch.cat([logits[:, :column], logits[:, column + 1 :]], dim=1)
                return (logits[:, column] - others.logsumexp(1)).reshape(output.shape), "sigmoid"
        return None


def _same_values(result: Tensor, output: Tensor) -> bool:
    """Say whether `output` is a view of all of `result`, in the same order."""
    if not (type(result) is type(output) is Tensor) or result.numel() != output.numel():
        return False
    in_order = result.is_contiguous() and output.is_contiguous() and result.dtype == output.dtype
    return in_order and result.numel() > 0 and result.data_ptr() == output.data_ptr()


def _column_of(result: Tensor, output: Tensor) -> int | None:
    """Return which column of `(batch, classes)` an output is a view of; None where it is none."""
    plain = type(result) is type(output) is Tensor and result.ndim == 2 and result.shape[1] > 1
    if not plain or output.numel() != len(result) or output.dtype != result.dtype:
        return None
    if output.untyped_storage().data_ptr() != result.untyped_storage().data_ptr() or result.stride(1) != 1:
        return None
    column = int(output.storage_offset() - result.storage_offset())
    if not (0 <= column < result.shape[1] and torch.equal(output.reshape(-1), result[:, column])):
        return None
    return column if looks_like_probabilities(result) else None  # of classes, and not over the batch


class FrameAttention(TorchFunctionMode):
    """Remembers softmax results that are one weight per frame: `(batch, time)`, or with an axis of length 1.

    With `detach` the model goes on with weights that carry no gradient to where they come from.
    """

    def __init__(self, frames: int, detach: bool) -> None:
        super().__init__()
        self.frames: int = frames
        self.detach: bool = detach
        self.on: bool = True
        self.weights: list[Tensor] = []

    def end(self, output: Tensor | None) -> None:
        """Stop recording: softmaxes inside a target, and the model's own output, are not frame attention."""
        self.on = False
        # A model over 5 frames and 5 classes that ends in a softmax returns what looks like frame attention.
        self.weights = [weights for weights in self.weights if weights is not output]

    def __torch_function__(
        self, func: Function, types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.on and func in _ATTEND and self._is_one_per_frame(result):
            if self.detach:
                result = result.detach().requires_grad_(torch.is_grad_enabled())
            self.weights.append(result)
        return result

    def _is_one_per_frame(self, result: Tensor) -> bool:
        if self.frames < 2 or result.ndim not in (2, 3) or result[0].numel() != self.frames:
            return False
        # A softmax over another axis than time does not sum to 1 here. Half precision rounds the sums.
        sums = result.detach().float().flatten(1).sum(1)
        return torch.allclose(sums, torch.ones_like(sums), atol=1e-2)


class ThroughNoGrad(TorchFunctionMode):
    """Ignores what switches gradients off or on while it runs: the model's own `torch.no_grad()` blocks."""

    def __torch_function__(
        self, func: Function, types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        if func is torch._C._set_grad_enabled:
            return None
        kwargs = kwargs or {}
        with torch.set_grad_enabled(torch.is_grad_enabled() and kwargs.get("out") is None):
            return func(*args, **kwargs)  # what writes into `out=`, as spectral norms do, has no gradient


class DifferentiableRNNs(TorchFunctionMode):
    """Lets recurrent layers in eval mode be differentiated on CUDA; cuDNN's can be in training mode alone.

    They run in training mode without dropout, which gives the same. twice: cuDNN has no second derivative, so
    they run step by step.
    """

    def __init__(self, twice: bool = False) -> None:
        super().__init__()
        self.twice: bool = twice

    def __torch_function__(
        self, func: Function, types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        if func in _RNNS and _by_cudnn(args[0]):
            # (data, sizes, start, weights, …) of packed sequences, (input, start, weights, …) of others.
            packed = isinstance(args[1], Tensor) and not args[1].is_floating_point()
            dropout, training = (6, 7) if packed else (5, 6)
            if not args[training]:
                args = (*args[:dropout], 0.0, True, *args[training + 1 :])
            if self.twice:
                operator = getattr(torch.ops.aten, func.__name__)
                return (operator.data if packed else operator.input).decompose(*args)
        return func(*args, **(kwargs or {}))


def differentiable_rnns(modules: Iterable[nn.Module], twice: bool = False) -> DifferentiableRNNs | None:
    """Return the mode where some module needs it: any mode makes every operation slower."""
    recurrent = (m for m in modules if isinstance(m, nn.RNNBase) and not m.training)
    return DifferentiableRNNs(twice) if any(_by_cudnn(x) for m in recurrent for x in m.parameters()) else None


def _by_cudnn(x: Tensor) -> bool:
    return x.is_cuda


class WithoutChance(TorchFunctionMode):
    """Switches dropout off, and draws what else is drawn from numbers of its own: passes can be compared.

    The global random numbers are those of all threads, so they are neither seeded nor put back.
    """

    def __init__(self) -> None:
        super().__init__()
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_function__(
        self, func: Function, types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DROPOUT:
            return func(args[0] if args else kwargs["input"], training=False)
        if func in _DRAWS_IN_PLACE and kwargs.get("generator") is None:
            kwargs["generator"] = self._generator(args[0].device)
        elif func in _DRAWS and kwargs.get("generator") is None:
            given = next((x for x in (*args[:1], kwargs.get("input")) if isinstance(x, Tensor)), None)
            device = kwargs.get("device") if given is None else given.device
            kwargs["generator"] = self._generator(torch.device(device or torch.get_default_device()))
        return func(*args, **kwargs)

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(0)
        return self._generators[device]


class GuidedReLUs(TorchFunctionMode):
    """Runs every ReLU so that, while `on`, only positive gradients of positive inputs pass backward.

    The forward values are those of the model. `count` counts the ReLUs met.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on = False
        self.count: int = 0

    def __torch_function__(
        self, func: Function, types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        kwargs = kwargs or {}
        ceiling = _ceiling(func, kwargs)
        if ceiling is None:
            return func(*args, **kwargs)
        self.count += 1
        x = args[0] if args else kwargs["input"]
        y = _GuidedReLU.apply(x, ceiling, self)
        in_place = func in _IN_PLACE or kwargs.get("inplace", args[1] if len(args) > 1 else False)
        return x.copy_(y) if in_place else y


def _ceiling(func: Function, kwargs: Kwargs) -> float | None:
    """Return where a ReLU is clipped above (ReLU6 at 6, others nowhere), or None for any other function."""
    if func is F.hardtanh and kwargs["min_val"] == 0:  # the module nn.ReLU6 is one
        return float(kwargs["max_val"])
    return 6.0 if func is F.relu6 else torch.inf if func in _RELU else None


class _GuidedReLU(torch.autograd.Function):
    generate_vmap_rule = True  # the backward passes of several targets are batched

    @staticmethod
    def forward(x: Tensor, ceiling: float, mode: GuidedReLUs) -> Tensor:
        return x.clamp(0, ceiling)

    @staticmethod
    def setup_context(ctx: Any, inputs: Args, output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.ceiling, ctx.mode = inputs[1], inputs[2]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (output,) = ctx.saved_tensors
        passed = grads[0] * ((output > 0) & (output < ctx.ceiling))
        return passed.clamp(min=0) if ctx.mode.on else passed, None, None


def looks_like_probabilities(outputs: Tensor) -> bool:
    """Say whether the rows of `(batch, classes)` could have come out of a softmax or a log-softmax."""
    if outputs.ndim != 2 or outputs.shape[1] < 2 or not outputs.is_floating_point():
        return False
    values = outputs.detach().float()
    low, high = torch.stack(values.aminmax()).tolist() if values.numel() else (0.0, 0.0)
    if low >= 0:
        sums = values.sum(1)
    elif high <= 0:
        sums = values.exp().sum(1)
    else:
        return False
    return torch.allclose(sums, torch.ones_like(sums), atol=2e-2)


def may_be_gated(outputs: Tensor) -> bool:
    """Say whether outputs could have come out of a softmax, a log-softmax or a sigmoid."""
    if not outputs.is_floating_point() or not outputs.numel():
        return False
    low, high = torch.stack(outputs.detach().aminmax()).tolist()
    if outputs.ndim > 2:
        return high <= 0 or 0 <= low <= high <= 1
    return 0 <= low <= high <= 1 or (not low < 0 < high and looks_like_probabilities(outputs))
