"""Function modes: what is seen and replaced while a PyTorch model runs, without patching the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Function: TypeAlias = Callable[..., Any]
Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]

_SOFTMAX = {F.softmax, F.log_softmax, torch.softmax, torch.log_softmax, Tensor.softmax, Tensor.log_softmax}
_ATTEND = {F.softmax, torch.softmax, Tensor.softmax}
_RELU = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_IN_PLACE = {F.relu_, torch.relu_, Tensor.relu_}


class SoftmaxSeen(TorchFunctionMode):
    """Remembers the last softmax (or log-softmax), so that the logits before it can be read."""

    def __init__(self) -> None:
        super().__init__()
        self.result: Tensor | None = None
        self.logits: Tensor | None = None

    def __torch_function__(
        self, func: Function, types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _SOFTMAX:
            self.result = result
            self.logits = args[0] if args else (kwargs or {})["input"]
        return result


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
        return None if func is torch._C._set_grad_enabled else func(*args, **(kwargs or {}))


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
    ones = torch.ones_like(values[:, 0])
    softmax = bool((values >= 0).all()) and torch.allclose(values.sum(1), ones, atol=2e-2)
    log_softmax = bool((values <= 0).all()) and torch.allclose(values.exp().sum(1), ones, atol=2e-2)
    return softmax or log_softmax
