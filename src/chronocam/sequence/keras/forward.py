"""A Keras model as the methods see it: run over points, as it is or by the rules of LRP, and compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np

from chronocam.engines.keras.compiled import compiled
from chronocam.engines.keras.gates import gate_of, noting_logits
from chronocam.engines.keras.layers import Wrap, frames_at_once, is_float, nodes_of
from chronocam.engines.keras.program import Program, call_model, main_output
from chronocam.errors import ChronocamError, InputError, first_line
from chronocam.joint.inputs.batches import unwrapped
from chronocam.maps.arrays import held, to_numpy
from chronocam.sequence.checks import checked, misshapen
from chronocam.sequence.keras.rules import rule_of, ruled, suspecting
from chronocam.sequence.ledger import Ledger
from chronocam.sequence.rules import RULES
from chronocam.sequence.sample import PassResult, SampleInputs, SequenceModel
from chronocam.types import Array, Inputs

if TYPE_CHECKING:
    from chronocam.engines.keras.engine import KerasEngine

_ROUNDING: Final = {"float64": 2.2e-16, "float32": 1.2e-7, "float16": 9.8e-4, "bfloat16": 7.8e-3}


def split(engine: KerasEngine, features: Inputs) -> list[SampleInputs]:
    """Return the samples of an array, or of a tuple of one and what else the model takes.

    Raises InputError for other shapes, and for NaN.
    """
    first, *others = features if isinstance(features, (tuple, list)) else (features,)
    if not hasattr(first, "shape"):
        raise InputError(f"cannot explain a {type(first).__name__}; give features (batch, time, feature)")
    if len(first.shape) != 3 or 0 in first.shape:
        raise misshapen(first)
    plain, shared = unwrapped((first, *others))
    adapted = engine.adapt(plain if others else first)
    batch, *rest = [to_numpy(x) for x in (adapted if others else (adapted,))]
    batch = batch.astype(keras.config.floatx()) if batch.dtype.kind in "iub" else batch
    checked(batch)
    return [
        SampleInputs(
            one, tuple(x if at in shared else x[row : row + 1] for at, x in enumerate(rest, start=1))
        )
        for row, one in enumerate(batch)
    ]


class KerasSequenceModel(SequenceModel):
    """A Keras model bound to what one sample gives it; see `SequenceModel`."""

    copies = True

    def __init__(
        self,
        engine: KerasEngine,
        inputs: SampleInputs,
        batch_first: bool,
        labels: Sequence[str] | None = None,
    ) -> None:
        if not batch_first:
            raise InputError("batch_first=False is for PyTorch; Keras models take (batch, time, feature)")
        self.labels = engine.labels if labels is None else labels
        self.inputs = inputs
        self.source = engine.model
        self._model = engine.model
        self._nodes = nodes_of(engine.model)
        self._program = Program(engine.model, self._nodes, ())
        used = {getattr(node, "compute_dtype", "float64") for node in (*self._nodes.values(), self._model)}
        # On JAX and PyTorch, Keras computes some of its operations in float32 when the rest is float64.
        least = _ROUNDING["float64" if keras.backend.backend() == "tensorflow" else "float32"]
        self.rounding = max(least, *(_ROUNDING.get(dtype, 0.0) for dtype in used))

    def settle(self, scope: ExitStack) -> None:
        """Nothing but the calls of the model is to be prepared."""

    def array(self, values: np.ndarray) -> Array:
        """Return values as a tensor of Keras' backend."""
        return keras.ops.convert_to_tensor(values)

    def look(self, points: np.ndarray | None = None) -> PassResult:
        """Return what the model returns for points, or the features, without gradients."""
        return self.forward(self.array(self.inputs.features[None] if points is None else points))

    def stackable(self, raw: object) -> bool:
        """Say whether several points can be run at once: one tensor of scores, and no states to keep."""
        return is_float(raw) and not any(getattr(node, "stateful", False) for node in self._nodes.values())

    def forward(self, points: Array, ledger: Ledger | None = None) -> PassResult:
        """Return what the model returns for points `(point, time, feature)`; see `SequenceModel`."""
        others = [repeated_to(points.shape[0], x) for x in self.inputs.others]
        entries = () if ledger is None else ledger.entries
        epsilon = None if ledger is None else ledger.epsilon
        if keras.backend.backend() == "torch":
            return run(self._program, points, entries, others, epsilon)
        shapes = tuple((tuple(x.shape), str(x.dtype)) for x in (points, *others))
        key = ("sequence", epsilon, shapes, *RULES.items())
        return compiled(self._program, key, lambda: _PASSES[keras.backend.backend()](self._program, epsilon))(
            points, entries, others
        )

    def suspects(self) -> list[str]:
        """Return the layers and operations without a rule through which relevance does not add up."""
        suspects: list[str] = []
        inner = {path.rpartition("/")[0] for path in self._nodes}

        def watched(path: str, node: keras.Operation) -> Wrap | None:
            return None if path in inner or rule_of(node) is not None else suspecting(suspects, path)

        intercepted_call(self._program, self.array(self.inputs.features[None]), self.inputs.others, watched)
        return suspects or ["an operation within the model's own call"]


def run(
    program: Program,
    points: Array,
    entries: Sequence[Array],
    others: Sequence[Array],
    epsilon: float | None,
    variables: Sequence[Array] | None = None,
) -> PassResult:
    """Run a model over points `(point, time, feature)`; see `SequenceModel.forward`.

    entries: those of the ledger, of which epsilon is the stabiliser; none for the model as it is. variables:
    the values of the model's variables; None for those that they have.
    """
    if epsilon is None:
        return intercepted_call(program, points, others, lambda path, node: None, variables=variables)
    ledger = Ledger(epsilon, entries)
    # What the model takes besides is constant: its relevance is that of a bias.
    others = [ledger.bias(x, x) if is_float(x) else x for x in others]
    return intercepted_call(program, points, others, partial(ruled, ledger), held, variables)


def intercepted_call(
    program: Program,
    points: Array,
    others: Sequence[Array],
    wrap: Callable[[str, keras.Operation], Wrap | None],
    gated: Callable[[Array], Array] = lambda output: output,
    variables: Sequence[Array] | None = None,
) -> PassResult:
    """Run a model over points `(point, time, feature)`.

    others: what it takes besides, for one point or for all. wrap: what each node's call goes through. gated:
    what is done to the outputs of gates. variables: as for `run`.
    """
    gates: dict[str, list[tuple[Array, Array]]] = {}
    wraps: dict[str, list[Wrap]] = {}
    for path, node in program.nodes.items():
        name = gate_of(node)
        around = [
            frames_at_once if type(node) is keras.layers.TimeDistributed else None,
            wrap(path, node),
            None if name is None else noting_logits(gates.setdefault(name, []), gated),
        ]
        if some := [one for one in around if one is not None]:
            wraps[path] = some
    raw = _called(program, points, others, variables, wraps)
    main = main_output(raw)
    final = [(before, name) for name, pairs in gates.items() for after, before in pairs if after is main]
    logits, gate = final[-1] if final else (main, None)
    if logits.shape[0] != points.shape[0]:
        raise InputError(
            f"features {tuple(points.shape)} give outputs {tuple(logits.shape)}; expected one row for each "
            f"of the {points.shape[0]} samples"
        )
    logits = keras.ops.cast(logits, "float32") if "float16" in str(logits.dtype) else logits
    return PassResult(raw, logits, gate)


def repeated_to(rows: int, x: Array) -> Array:
    """Return what is given for one row as a tensor of so many rows."""
    x = keras.ops.convert_to_tensor(x)
    return x if x.shape[0] == rows else keras.ops.repeat(x, rows, axis=0)


def _called(
    program: Program,
    points: Array,
    others: Sequence[Array],
    variables: Sequence[Array] | None,
    wraps: Mapping[str, Sequence[Wrap]],
) -> Any:
    repeated = [repeated_to(points.shape[0], x) for x in others]
    mapping = None if variables is None else list(zip(program.model.variables, variables, strict=True))
    try:
        with keras.StatelessScope(mapping):  # what the model remembers stays as it is
            return program.run((points, *repeated) if repeated else points, wraps, call_model)
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        if isinstance(error, ChronocamError):
            raise
        raise InputError(
            f"the model fails on features of shape {tuple(points.shape)} ({first_line(error)}); expected "
            "(batch, time, feature): check their number and order"
        ) from error


class SequencePass:
    """One pass of a model, compiled when it is first called; what cannot be compiled is run as it is.

    The way back is compiled with it: a framework differentiates a compiled function as a whole.
    """

    def __init__(self, program: Program, epsilon: float | None) -> None:
        self.program = program
        self.epsilon = epsilon
        self.rules: tuple[Any, ...] = tuple(RULES.values())
        self.gate: str | None = None
        self.traceable: bool = True

    def __call__(self, points: Array, entries: Sequence[Array], others: Sequence[Array]) -> PassResult:
        """Run the pass; see `run`."""
        if self.traceable:
            try:
                raw, logits = self.compiled(points, entries, others)
            except ChronocamError as error:
                if not isinstance(error, InputError):
                    raise
            except Exception:
                pass
            else:
                return PassResult(raw, logits, self.gate)
            # A model that decides by values cannot be traced; what is wrong with others is said below.
            self.traceable = False
        return run(self.program, points, entries, others, self.epsilon)

    def compiled(
        self, points: Array, entries: Sequence[Array], others: Sequence[Array]
    ) -> tuple[Array, Array]:
        """Return the raw output and the logits from the compiled pass."""
        raise NotImplementedError

    def _traced(
        self, variables: Sequence[Array], points: Array, entries: Sequence[Array], others: Sequence[Array]
    ) -> tuple[Array, Array]:
        result = run(self.program, points, entries, others, self.epsilon, variables)
        self.gate = result.gate  # known from the trace, and not returned by it
        return result.raw, result.logits


class JAXSequencePass(SequencePass):
    """A pass compiled by XLA.

    The variables' values are among its arguments: as constants they would take long to compile.
    """

    def __init__(self, program: Program, epsilon: float | None) -> None:
        super().__init__(program, epsilon)
        self.function: Any = import_module("jax").jit(self._traced)

    def compiled(
        self, points: Array, entries: Sequence[Array], others: Sequence[Array]
    ) -> tuple[Array, Array]:
        """Return the raw output and the logits from the compiled pass."""
        return self.function([v.value for v in self.program.model.variables], points, entries, others)


class TensorFlowSequencePass(SequencePass):
    """A pass as a graph of TensorFlow; the variables are held, so that no gradient leads to them."""

    def __init__(self, program: Program, epsilon: float | None) -> None:
        super().__init__(program, epsilon)
        self.function: Any = import_module("tensorflow").function(self._held, autograph=False)

    def _held(self, points: Array, entries: Sequence[Array], others: Sequence[Array]) -> tuple[Array, Array]:
        return self._traced([held(v.value) for v in self.program.model.variables], points, entries, others)

    def compiled(
        self, points: Array, entries: Sequence[Array], others: Sequence[Array]
    ) -> tuple[Array, Array]:
        """Return the raw output and the logits from the compiled pass."""
        return self.function(points, entries, others)


_PASSES: Mapping[str, type[SequencePass]] = {"tensorflow": TensorFlowSequencePass, "jax": JAXSequencePass}

MODEL = KerasSequenceModel
"""What `chronocam.sequence.run` binds each sample to."""
