"""A PyTorch model as the methods see it: run over points, as it is or by the rules of LRP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence, unpack_sequence
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from chronocam.engines.scoped import scoped
from chronocam.engines.torch.layers import Layers
from chronocam.engines.torch.modes import ThroughNoGrad, differentiable_rnns
from chronocam.engines.torch.replica import Replica
from chronocam.engines.torch.scope import couples_samples, dtype_of, settle
from chronocam.engines.torch.tensors import first_tensor, main_output
from chronocam.errors import ChronocamError, InputError, ModelError, first_line
from chronocam.joint.inputs.batches import Shared
from chronocam.maps.arrays import to_numpy
from chronocam.sequence.checks import checked, misshapen
from chronocam.sequence.ledger import Ledger
from chronocam.sequence.sample import PassResult, SampleInputs, SequenceModel
from chronocam.sequence.torch.rules import FinalGate, RelevanceMode, own_rules, ruled

if TYPE_CHECKING:
    from chronocam.engines.torch.engine import TorchEngine
    from chronocam.types import Inputs


def split(engine: TorchEngine, features: Inputs) -> list[SampleInputs]:
    """Return the samples of an array, of a tuple of it and other inputs, or of a PackedSequence.

    Raises InputError for other shapes, and for NaN.
    """
    if isinstance(features, PackedSequence):
        samples = unpack_sequence(features)
        return [SampleInputs(checked(to_numpy(engine.adapt(x))), packed=True) for x in samples]
    first, *others = features if isinstance(features, (tuple, list)) else (features,)
    if not isinstance(first, (Tensor, np.ndarray)):
        raise InputError(f"cannot explain a {type(first).__name__}; give features (batch, time, feature)")
    batch = engine.adapt(first)
    if batch.ndim != 3 or 0 in batch.shape:
        raise misshapen(first)
    batch = batch if batch.is_floating_point() else batch.to(dtype_of(engine.model))
    others = [_other(engine, x) for x in others]
    return [
        SampleInputs(checked(x), tuple(_row(other, row, len(batch)) for other in others))
        for row, x in enumerate(to_numpy(batch))
    ]


def _other(engine: TorchEngine, x: object) -> Any:
    """Return what else the model takes as tensors; integers, such as lengths, stay on the host."""
    if isinstance(x, Shared):
        return Shared(_other(engine, x.array))
    x = torch.from_numpy(x) if isinstance(x, np.ndarray) else x
    return engine.adapt(x) if isinstance(x, Tensor) and x.is_floating_point() else x


def _row(x: object, row: int, samples: int) -> Any:
    if isinstance(x, Shared):
        return x.array
    return x[row : row + 1] if isinstance(x, Tensor) and x.shape[:1] == (samples,) else x


class TorchSequenceModel(SequenceModel):
    """A module bound to what one sample gives it; see `SequenceModel`."""

    # A module may move its rows to any axis, so that a row cannot have numbers of its own in the ledger.
    copies = False

    def __init__(
        self,
        engine: TorchEngine,
        inputs: SampleInputs,
        batch_first: bool,
        labels: Sequence[str] | None = None,
    ) -> None:
        self.source = engine.model
        self.module: nn.Module = engine.model
        self.layers: Layers = engine.layers
        self.labels = engine.labels if labels is None else labels
        self.inputs = inputs
        self.batch_first = batch_first
        if couples_samples(self.module):
            raise ModelError("BatchNorm in training mode mixes the samples; call model.eval() first")
        self._like = engine.adapt(torch.from_numpy(inputs.features))
        self.rounding = float(torch.finfo(self._like.dtype).eps)

    def settle(self, scope: ExitStack) -> None:
        """Let gradients be taken for as long as `scope` is entered."""
        settle(scope, self.module)
        scope.enter_context(torch.enable_grad())

    def array(self, values: np.ndarray) -> Tensor:
        """Return values as a tensor where and in the precision that the module takes."""
        return torch.from_numpy(values).to(self._like)

    def look(self, points: np.ndarray | None = None) -> PassResult:
        """Return what the module returns for points, or the features, without gradients."""
        with torch.no_grad():
            if points is not None:
                return self.forward(self.array(points))
            return self.forward(self.array(self.inputs.features)[None], order_watched=True)

    def together(self, samples: Sequence[SampleInputs]) -> np.ndarray | None:
        """Return the logits of samples of one shape that run together; None where they cannot."""
        # With lengths, one row's padding may hang on the other's length.
        if self.inputs.packed or self.inputs.others:
            return None
        try:
            return to_numpy(self.look(np.stack([sample.features for sample in samples])).logits)
        except InputError as error:
            if error.__cause__ is None:  # the model ran, but did not return one row for each sample
                raise
            return None

    def stackable(self, raw: object) -> bool:
        """Say whether several points can be run at once: their rows can be taken out of one tensor."""
        return isinstance(raw, Tensor)

    def suspects(self) -> list[str]:
        """Return the operations without a rule through which relevance does not add up."""
        suspects: list[str] = []
        ones = [self.array(np.ones(1)).requires_grad_() for _ in range(3)]
        points = self.array(self.inputs.features)[None].requires_grad_()
        self.forward(points, Ledger(0.0, ones), suspects)
        return suspects

    def forward(
        self,
        points: Tensor,
        ledger: Ledger | None = None,
        suspects: list[str] | None = None,
        order_watched: bool = False,
    ) -> PassResult:
        """Return what the module returns for points `(point, time, feature)`; see `SequenceModel`.

        suspects: collects the names of the operations without a rule, if given. order_watched: whether
        recurrent layers that take the steps for a batch are an error.
        """
        final = FinalGate()
        replica = self.layers.replica()
        if order_watched:
            self._watch_order(replica)
        # The rules hold leaves constant, as parameters are: the points must not be one.
        raw = scoped(self._run)(replica, points.clone(), final, ledger, suspects)
        raw = pytree.tree_map(self._padded, raw, is_leaf=lambda x: isinstance(x, PackedSequence))
        if isinstance(raw, Tensor) and not raw.ndim and len(points) == 1:  # one sample's value, squeezed
            raw = raw[None]
        main, unclear = _main_of(raw)
        logits, gate = final.before(main)
        turned = not self.batch_first and logits.ndim >= 3
        logits = logits.transpose(0, 1) if turned else logits
        if logits.shape[0] != len(points):
            raise InputError(
                f"features {tuple(points.shape)} give outputs {tuple(logits.shape)}; expected one row for "
                f"each of the {len(points)} samples{'' if self.batch_first else ', or (time, batch, …)'}: "
                "see batch_first="
            )
        halves = logits.dtype in (torch.float16, torch.bfloat16)
        return PassResult(raw, logits.float() if halves else logits, gate, int(turned), unclear)

    def _run(
        self,
        scope: ExitStack,
        replica: Replica,
        points: Tensor,
        final: FinalGate,
        ledger: Ledger | None,
        suspects: list[str] | None,
    ) -> Any:
        scope.callback(replica.close)
        modes: list[TorchFunctionMode | None] = [differentiable_rnns(self.layers.walk())]
        if ledger is not None:
            relevance = RelevanceMode(ledger, suspects)
            modes.append(relevance)
            for module, rule in own_rules(self.layers.walk()):
                replica.replace(module, partial(ruled, relevance, replica.of(module), rule))
        modes.append(final)
        if torch.is_grad_enabled():
            modes.append(ThroughNoGrad())
        for mode in modes:
            if mode is not None:
                scope.enter_context(mode)
        return self._call(replica.model, points)

    def _padded(self, output: object) -> object:
        if isinstance(output, PackedSequence):
            return pad_packed_sequence(output, self.batch_first)[0]
        return output

    def _call(self, model: nn.Module, points: Tensor) -> Any:
        call: Callable[..., Any] = getattr(model, "from_features", model)
        others = [_repeated(x, len(points)) for x in self.inputs.others]
        turned = points if self.batch_first else points.transpose(0, 1)
        try:
            return call(pack_sequence(list(points)) if self.inputs.packed else turned, *others)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if isinstance(error, (ChronocamError, torch.OutOfMemoryError)):
                raise
            order = "(batch, time, feature)" if self.batch_first else "(time, batch, feature)"
            raise InputError(
                f"the model fails on features of shape {tuple(points.shape)}, given as {order} "
                f"({first_line(error)}); check their number and order, and batch_first="
            ) from error

    def _watch_order(self, replica: Replica) -> None:
        """Let a recurrent layer raise InputError where it takes the steps for a batch."""
        steps = len(self.inputs.features)

        def look(module: nn.RNNBase, args: tuple[object, ...]) -> None:
            x = args[0] if args else None
            if not isinstance(x, Tensor) or x.ndim != 3 or steps < 2:
                return
            # One sample is given: where the steps stand for the batch, the axes are swapped.
            time, batch = (x.shape[1], x.shape[0]) if module.batch_first else (x.shape[0], x.shape[1])
            if (time, batch) == (1, steps):
                raise InputError(
                    f"{type(module).__name__}(batch_first={module.batch_first}) gets {tuple(x.shape)} and "
                    f"takes the {steps} steps for a batch; give the method "
                    f"batch_first={not self.batch_first}, or mend the model"
                )

        for path, module in replica.items():
            if isinstance(module, nn.RNNBase):
                replica.hook_before(path, look)


def _main_of(raw: Any) -> tuple[Tensor, ModelError | None]:
    """Return the main output; where none of several is, the first, and the error for targets of classes."""
    try:
        main = main_output(raw)
        assert main is not None
        return main, None
    except ModelError as error:
        first = first_tensor(raw)
        if first is None:
            raise
        return first, error


def _repeated(x: object, count: int) -> Any:
    return x.expand(count, *x.shape[1:]) if isinstance(x, Tensor) and x.shape[:1] == (1,) else x


MODEL = TorchSequenceModel
"""What `chronocam.sequence.run` binds each sample to."""
