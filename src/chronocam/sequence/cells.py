"""LSTM, GRU and simple recurrent cells step by step, over arrays of any framework, by the rules of LRP.

Gates are held constant; cells, states and pre-activations share their relevance by the ledger's linear rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from chronocam.maps.arrays import held
from chronocam.sequence.ledger import Ledger, ratio
from chronocam.types import Array

State: TypeAlias = tuple[Array, ...]
Function: TypeAlias = Callable[[Array], Array]


class Weights(NamedTuple):
    """The weights of one part of a cell: W `(feature, units)`, U `(units, units)` and what is added."""

    features: Array
    state: Array
    bias: Array | None


@dataclass(frozen=True)
class Cell:
    """The weights of a cell, apart for its gates and for the signal that relevance goes through.

    step: one of the functions below.
    gates: side by side, with all that is added to them; None where there are none.
    signal: of the pre-activation of g or n; its bias is added to the features' part.
    gate: the function of the gates.
    bend: the function of the signal, and of an LSTM's cell.
    state_bias: in a GRU, what is added to the state's part of the signal.
    projection: `(units, output)`, by which an LSTM's h is multiplied; None for none.
    """

    step: Callable[[Ledger, Cell, Array, Array, State], State]
    gates: Weights | None
    signal: Weights
    gate: Function
    bend: Function
    state_bias: Array | None = None
    projection: Array | None = None


def inputs(ledger: Ledger, cell: Cell, x: Array) -> tuple[Array, Array]:
    """Return what the features give to the gates, held constant, and to the signal, of all steps at once."""
    signal = _plus(ledger, x @ cell.signal.features, cell.signal.bias)
    if cell.gates is None:
        return held(signal), signal
    gates = held(x) @ cell.gates.features
    return gates if cell.gates.bias is None else gates + cell.gates.bias, signal


def lstm(ledger: Ledger, cell: Cell, gates: Array, signal: Array, state: State) -> State:
    """Return the next h and c; gates in the order i, f, o.

    `c = f⊙c + i⊙g`, `h = o⊙tanh(c)`, `g = tanh(W x + U h + b)`; with a projection P, `h = P (o⊙tanh(c))`.
    """
    h, c = state
    # The gates are constants, so the cell is a weighted sum of c and g, and h is c times a constant.
    i, f, o = _gates(cell, gates, h, 3)
    z = signal + h @ cell.signal.state
    g = ledger.passed(z, cell.bend(held(z)))
    c = ledger.share(f * c + i * g)
    h = c * ratio(o * cell.bend(held(c)), c, o)
    return (h if cell.projection is None else ledger.share(h @ cell.projection)), c


def gru(ledger: Ledger, cell: Cell, gates: Array, signal: Array, state: State) -> State:
    """Return the next h; gates in the order r, z.

    `h = (1 − z)⊙n + z⊙h`, `n = tanh(W x + b + r⊙(U h + b′))`.
    """
    (h,) = state
    r, z = _gates(cell, gates, h, 2)
    y = signal + r * _plus(ledger, h @ cell.signal.state, cell.state_bias)
    n = ledger.passed(y, cell.bend(held(y)))
    return (ledger.share((1 - z) * n + z * h),)


def gru_reset_before(ledger: Ledger, cell: Cell, gates: Array, signal: Array, state: State) -> State:
    """Return the next h of a GRU that resets before the product: `n = tanh(W x + b + U (r⊙h))`."""
    (h,) = state
    r, z = _gates(cell, gates, h, 2)
    y = signal + (r * h) @ cell.signal.state
    n = ledger.passed(y, cell.bend(held(y)))
    return (ledger.share((1 - z) * n + z * h),)


def simple(ledger: Ledger, cell: Cell, gates: Array, signal: Array, state: State) -> State:
    """Return the next h: `h = tanh(W x + U h + b)`."""
    z = signal + state[0] @ cell.signal.state
    return (ledger.passed(z, cell.bend(held(z))),)


def _gates(cell: Cell, gates: Array, h: Array, count: int) -> list[Array]:
    """Return the gates, given what the features give to them, each by itself."""
    assert cell.gates is not None
    opened = cell.gate(gates + held(h) @ cell.gates.state)
    units = opened.shape[-1] // count
    return [opened[..., k * units : (k + 1) * units] for k in range(count)]


def _plus(ledger: Ledger, z: Array, bias: Array | None) -> Array:
    return z if bias is None else z + ledger.bias(bias, z)
