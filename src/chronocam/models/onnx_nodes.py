"""Operations of ONNX that onnx2torch lacks, as modules that it puts into its copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

import torch
from torch import nn

from chronocam.models.specs import need

DOMAIN: Final = "/"
"""Where these operations are registered: nodes of it bear their own name, without that of a domain."""

_ORDER: Final = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""The gates of PyTorch (i f g o, r z n) by their place in ONNX (i o f c, z r h)."""

RECURRENT: Final = tuple(_ORDER)

_FORMS: Final = (
    "QuantizeLinear",
    "DequantizeLinear",
    "Softmax",
    "LogSoftmax",
    "Sigmoid",
    "Reshape",
    "Flatten",
    "Squeeze",
)
"""What scores go through that come out."""

_ACTIVATIONS: Final = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


class Recurrent(nn.Module):
    """An LSTM, GRU or RNN of ONNX, whose steps are `(direction, batch, hidden)` each unless joined.

    alone: whether the graph has a name for the steps only, and none for the last states.
    joined: whether the steps are `(batch, direction · hidden)`.
    """

    def __init__(self, cell: nn.LSTM | nn.GRU | nn.RNN, *, alone: bool, joined: bool) -> None:
        super().__init__()
        self.cell, self.alone, self.joined = cell, alone, joined

    def forward(
        self, x: torch.Tensor, h: torch.Tensor | None = None, c: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Return Y, with the last states where the graph has names for them; x: `(time, batch, feature)`."""
        # A network that was exported for one batch has states of that size, which begin alike.
        first = tuple(
            s if s.shape[1] == x.shape[1] else s[:, :1].expand(-1, x.shape[1], -1).contiguous()
            for s in (h, c)
            if s is not None
        )
        states = None if not first else first if isinstance(self.cell, nn.LSTM) else first[0]
        steps, last = self.cell(x, states)
        apart = steps.unflatten(-1, (-1, self.cell.hidden_size)).transpose(1, 2)
        y = steps if self.joined else apart
        if self.alone:
            return y
        return (y, *last) if isinstance(last, tuple) else (y, last)


class Gelu(nn.Module):
    """x Φ(x), or its approximation by a tanh."""

    def __init__(self, approximate: str) -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the activation."""
        return nn.functional.gelu(x, approximate=self.approximate)


class Slice(nn.Module):
    """Cuts out, with bounds that are known or come with the input."""

    def __init__(self, bounds: Sequence[list[int] | None]) -> None:
        super().__init__()
        self.bounds = bounds

    def forward(self, x: torch.Tensor, *bounds: torch.Tensor | None) -> torch.Tensor:
        """Return what lies between the starts and the ends; then come axes and steps."""
        lists = [None if one is None else one.tolist() for one in bounds] or self.bounds
        starts, ends, axes, steps = [*lists, None, None][:4]
        for at, (start, end) in enumerate(zip(starts or (), ends or (), strict=True)):
            axis = at if axes is None else axes[at]
            places = range(x.shape[axis])[slice(start, end, 1 if steps is None else steps[at])]
            x = x.index_select(axis, torch.tensor(places, dtype=torch.long, device=x.device))
        return x


class Quantize(nn.Module):
    """Rounds to integers q = x / step + zero, whose slope is that of the line that they follow.

    It ends with the integers, as where a ReLU was merged into it, but not in scores: those are merely stored.
    """

    def __init__(self, axis: int, *, scores: bool) -> None:
        super().__init__()
        self.axis, self.scores = axis, scores

    def forward(self, x: torch.Tensor, step: torch.Tensor, zero: torch.Tensor | None = None) -> torch.Tensor:
        """Return the integers as real numbers."""
        kind = torch.iinfo(torch.uint8 if zero is None else zero.dtype)
        steps = x / _along(step, x, self.axis)
        shift = 0 if zero is None else _along(zero, x, self.axis)
        exact = steps + shift if self.scores else (steps + shift).clamp(kind.min, kind.max)
        rounded = (steps.round() + shift).clamp(kind.min, kind.max)
        return exact + (rounded - exact).detach()


class Dequantize(nn.Module):
    """x = step (q - zero)."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: torch.Tensor, step: torch.Tensor, zero: torch.Tensor | None = None) -> torch.Tensor:
        """Return what the integers stand for."""
        shift = 0 if zero is None else _along(zero, x, self.axis).to(step.dtype)
        return (x.to(step.dtype) - shift) * _along(step, x, self.axis)


def _along(values: torch.Tensor, x: torch.Tensor, axis: int) -> torch.Tensor:
    """Return one value, or one for each place of an axis, so that it fits x."""
    return values if values.numel() == 1 else values.reshape([-1] + [1] * (x.ndim - 1 - axis % x.ndim))


def _recurrent(node: Any, graph: Any) -> Any:
    kind, options = node.operation_type, node.attributes
    names = [*node.input_values, *[""] * 8][:8]
    _refuse_what_differs(kind, options, names)
    common: Any = need("onnx2torch.utils.common", "onnx")
    kernel, state = (common.get_const_value(name, graph) for name in names[1:3])
    bias = common.get_const_value(names[3], graph) if names[3] else None
    both = len(kernel) == 2
    nonlinear = {"nonlinearity": "relu"} if options.get("activations", [""])[0].lower() == "relu" else {}
    cell = getattr(nn, kind)(
        kernel.shape[2], state.shape[2], bidirectional=both, bias=bias is not None, **nonlinear
    )
    for way, suffix in enumerate(("", "_reverse")[: len(kernel)]):
        parts = {"weight_ih_l0": kernel[way], "weight_hh_l0": state[way]}
        if bias is not None:
            parts["bias_ih_l0"], parts["bias_hh_l0"] = bias[way].chunk(2)
        for name, value in parts.items():
            gates = value.chunk(len(_ORDER[kind]))
            getattr(cell, name + suffix).data = torch.cat([gates[place] for place in _ORDER[kind]])
    module = Recurrent(cell, alone=len(node.output_values) == 1, joined="joined" in options)
    return _made(module, node, (names[0], *names[5:7]))


def _refuse_what_differs(kind: str, options: Any, names: list[str]) -> None:
    """Raise NotImplementedError for what PyTorch's cells do not do."""
    usual = [_ACTIVATIONS[kind]] + [["Relu"]] * (kind == "RNN")
    own = options.get("activations")
    if own is not None and not any(own in (some, 2 * some) for some in usual):
        raise NotImplementedError(f"{kind} with the activations {', '.join(own)}")
    if kind == "GRU" and not options.get("linear_before_reset"):
        raise NotImplementedError("GRU that resets before it multiplies")
    if options.get("direction") == "reverse":
        raise NotImplementedError(f"{kind} that goes backwards alone")
    if extra := [name for name in ("clip", "input_forget", "layout") if options.get(name)]:
        raise NotImplementedError(f"{kind} with {extra[0]}")
    if names[4] or names[7]:
        raise NotImplementedError(f"{kind} with lengths or peepholes")


def _slice(node: Any, graph: Any) -> Any:
    known = [node.attributes.get(name) for name in ("starts", "ends", "axes")]
    return _made(Slice(known), node, node.input_values)


def _gelu(node: Any, graph: Any) -> Any:
    return _made(Gelu(node.attributes.get("approximate", "none")), node, node.input_values)


def _quantize(node: Any, graph: Any) -> Any:
    quantize = Quantize(node.attributes.get("axis", 1), scores=_are_scores(node.output_values[0], graph))
    return _made(quantize, node, node.input_values)


def _are_scores(name: str, graph: Any) -> bool:
    """Say whether a value, unless for its form, is an output of the graph."""
    takers = [node for node in graph.nodes.values() if name in node.input_values]
    forms = all(node.operation_type in _FORMS for node in takers)
    return name in graph.output_values or (
        bool(takers) and forms and all(_are_scores(node.output_values[0], graph) for node in takers)
    )


def _dequantize(node: Any, graph: Any) -> Any:
    return _made(Dequantize(node.attributes.get("axis", 1)), node, node.input_values)


def _made(module: nn.Module, node: Any, inputs: tuple[str, ...]) -> Any:
    common: Any = need("onnx2torch.utils.common", "onnx")
    while inputs and not inputs[-1]:
        inputs = inputs[:-1]
    return common.OperationConverterResult(module, common.OnnxMapping(inputs, node.output_values))


CONVERTERS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    **dict.fromkeys(_ORDER, _recurrent),
    "Gelu": _gelu,
    "Slice": _slice,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
}


@cache
def register() -> None:
    """Tell onnx2torch of these operations, once."""
    registry: Any = need("onnx2torch.node_converters.registry", "onnx")
    for name, converter in CONVERTERS.items():
        registry.add_converter(name, 1, DOMAIN)(converter)
