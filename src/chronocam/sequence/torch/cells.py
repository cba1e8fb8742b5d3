"""LSTM and GRU step by step, with gates held constant and relevance shared by the linear rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from chronocam.errors import ModelError
from chronocam.sequence.torch.ledger import Ledger, ratio

State = tuple[Tensor, ...]


class LSTMCell:
    """c = f⊙c + i⊙g, h = o⊙tanh(c), g = tanh(W x + U h + b); rows of the weights in the order i, f, g, o."""

    def __init__(self, ledger: Ledger, weights: Sequence[Tensor]) -> None:
        self.ledger = ledger
        w, u, *biases = weights
        gates = [0, 1, 3]
        self.w_gates, self.w_signal = _rows(w, 4, gates), _rows(w, 4, [2])
        self.u_gates, self.u_signal = _rows(u, 4, gates), _rows(u, 4, [2])
        self.b_gates = _rows(biases[0] + biases[1], 4, gates) if biases else None
        self.b_signal = _rows(biases[0] + biases[1], 4, [2]) if biases else None

    def inputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the features give to the gates, held constant, and to g, of all steps at once."""
        gates = F.linear(x.detach(), self.w_gates, self.b_gates)
        return gates, _plus(self.ledger, F.linear(x, self.w_signal), self.b_signal)

    def step(self, gates: Tensor, signal: Tensor, state: State) -> State:
        """Return the next h and c."""
        h, c = state
        i, f, o = torch.sigmoid(gates + F.linear(h.detach(), self.u_gates)).chunk(3, dim=-1)
        z = signal + F.linear(h, self.u_signal)
        g = self.ledger.passed(z, torch.tanh(z.detach()))
        c = self.ledger.share(f * c + i * g)
        return c * ratio(o * torch.tanh(c.detach()), c, o), c


class GRUCell:
    """h = (1 − z)⊙n + z⊙h, n = tanh(W x + b + r⊙(U h + b′)); rows of the weights in the order r, z, n."""

    def __init__(self, ledger: Ledger, weights: Sequence[Tensor]) -> None:
        self.ledger = ledger
        (w, u), biases = weights[:2], weights[2:]
        self.w_gates, self.w_signal = _rows(w, 3, [0, 1]), _rows(w, 3, [2])
        self.u_gates, self.u_signal = _rows(u, 3, [0, 1]), _rows(u, 3, [2])
        self.b_gates = _rows(biases[0] + biases[1], 3, [0, 1]) if biases else None
        self.b_signal = _rows(biases[0], 3, [2]) if biases else None
        self.b_state = _rows(biases[1], 3, [2]) if biases else None

    def inputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the features give to the gates, held constant, and to n, of all steps at once."""
        gates = F.linear(x.detach(), self.w_gates, self.b_gates)
        return gates, _plus(self.ledger, F.linear(x, self.w_signal), self.b_signal)

    def step(self, gates: Tensor, signal: Tensor, state: State) -> State:
        """Return the next h."""
        (h,) = state
        r, z = torch.sigmoid(gates + F.linear(h.detach(), self.u_gates)).chunk(2, dim=-1)
        y = signal + r * _plus(self.ledger, F.linear(h, self.u_signal), self.b_state)
        n = self.ledger.passed(y, torch.tanh(y.detach()))
        return (self.ledger.share((1 - z) * n + z * h),)


Cell = type[LSTMCell] | type[GRUCell]


def recurrent(
    ledger: Ledger,
    cell: Cell,
    x: Tensor,
    states: State,
    weights: Sequence[Tensor],
    layers: int,
    directions: int,
) -> tuple[Tensor, State]:
    """Run a stack of layers over `x` `(time, batch, feature)` from states `(layer·direction, batch, hidden)`.

    weights: of every layer and direction in turn, W, U and, where there are biases, both of them.
    Returns the outputs `(time, batch, direction·hidden)` and the last states.
    """
    each = len(weights) // (layers * directions)
    ends: list[State] = []
    for layer in range(layers):
        outputs = []
        for backwards in range(directions):
            k = layer * directions + backwards
            own = cell(ledger, weights[k * each : (k + 1) * each])
            found, end = _run(own, x.flip(0) if backwards else x, tuple(ledger.state(s[k]) for s in states))
            outputs.append(found.flip(0) if backwards else found)
            ends.append(end)
        x = torch.cat(outputs, dim=-1) if directions > 1 else outputs[0]
    return x, tuple(torch.stack(parts) for parts in zip(*ends, strict=True))


def _run(cell: LSTMCell | GRUCell, x: Tensor, state: State) -> tuple[Tensor, State]:
    gates, signal = cell.inputs(cell.ledger.signal(x))
    outputs = []
    for at in zip(gates.unbind(0), signal.unbind(0), strict=True):
        state = cell.step(*at, state)
        outputs.append(state[0])
    return torch.stack(outputs), state


def fused(ledger: Ledger, cell: Cell, args: Sequence[Any]) -> tuple[Tensor, ...]:
    """Return what `torch.lstm` or `torch.gru` does for these arguments, padded or packed."""
    packed = isinstance(args[1], Tensor) and not args[1].is_floating_point()
    if packed:
        x, sizes, hx, weights, _, layers, dropout, training, bidirectional = args
        if int(sizes.max()) > 1:
            raise ModelError("the model packs several sequences out of one sample; LRP follows one at a time")
        x, batch_first = x[:, None], False
    else:
        x, hx, weights, _, layers, dropout, training, bidirectional, batch_first = args
    states = tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)
    _refuse(states, layers, dropout, training)
    x = x.transpose(0, 1) if batch_first else x
    outputs, ends = recurrent(ledger, cell, x, states, weights, layers, 2 if bidirectional else 1)
    outputs = outputs[:, 0] if packed else outputs.transpose(0, 1) if batch_first else outputs
    return (outputs, *ends)


def single(ledger: Ledger, cell: Cell, args: Sequence[Any]) -> Any:
    """Return what `torch.lstm_cell` or `torch.gru_cell` does: one step of `x` `(batch, feature)`."""
    x, hx, *weights = args
    states = tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)
    own = cell(ledger, [w for w in weights if w is not None])
    end = own.step(*own.inputs(ledger.signal(x)), tuple(ledger.state(s) for s in states))
    return end if len(end) > 1 else end[0]


def _refuse(states: State, layers: int, dropout: float, training: bool) -> None:
    if len({state.shape[-1] for state in states}) > 1:
        raise ModelError("LRP has no rule for an LSTM with projections (proj_size); give one without")
    if training and dropout and layers > 1:
        raise ModelError("the LSTM or GRU drops units at random in training mode; call model.eval() first")


def _rows(weight: Tensor, parts: int, which: Sequence[int]) -> Tensor:
    chunks = weight.detach().chunk(parts)
    return torch.cat([chunks[k] for k in which]) if len(which) > 1 else chunks[which[0]]


def _plus(ledger: Ledger, z: Tensor, bias: Tensor | None) -> Tensor:
    return z if bias is None else z + ledger.bias(bias)
