"""One sequence through a PyTorch model: scores, gradients at points, layer-wise relevance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence, unpack_sequence
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from chronocam.engines.torch.modes import ThroughNoGrad
from chronocam.engines.torch.scope import as_found, couples_samples, differentiable_rnns, dtype_of
from chronocam.engines.torch.tensors import TARGETS_PER_PASS, main_output, vjp
from chronocam.errors import ChronocamError, InputError, ModelError, first_line
from chronocam.maps.arrays import to_numpy
from chronocam.sequence.base import Attribution, Sample
from chronocam.sequence.checks import closes, constant, no_rule, refuse_nan, refuse_other
from chronocam.sequence.torch.ledger import Ledger
from chronocam.sequence.torch.rules import FinalGate, Relevance
from chronocam.types import Outputs, Scored, Target

ROWS_PER_PASS = 16  # how many points and targets are differentiated at once: bounds the memory


@dataclass(frozen=True)
class Given:
    """What one sample gives the model: features `(time, feature)`, what else it takes, whether packed."""

    features: Tensor
    others: tuple[Any, ...] = ()
    packed: bool = False


def split(engine: Any, features: Any) -> list[Given]:
    """Return the samples of an array, of a tuple of one and what else the model takes, or of a PackedSequence.

    Raises InputError for other shapes, and for NaN.
    """
    if isinstance(features, PackedSequence):
        return [Given(_checked(engine.adapt(one)), packed=True) for one in unpack_sequence(features)]
    given, *others = features if isinstance(features, (tuple, list)) else (features,)
    if not isinstance(given, (Tensor, np.ndarray)):
        raise InputError(f"cannot explain a {type(given).__name__}; give features (batch, time, feature)")
    batch = engine.adapt(given)
    if batch.ndim != 3 or 0 in batch.shape:
        hint = ": give features[None]" if batch.ndim == 2 else ""
        raise InputError(f"features have shape {tuple(batch.shape)}; expected (batch, time, feature){hint}")
    batch = batch if batch.is_floating_point() else batch.to(dtype_of(engine.model))
    others = [_other(engine, x) for x in others]
    return [
        Given(_checked(one), tuple(_row(x, row, len(batch)) for x in others))
        for row, one in enumerate(batch.unbind(0))
    ]


def _other(engine: Any, x: Any) -> Any:
    """Return what else the model takes as tensors; integers stay where they are (lengths are wanted on the host)."""
    x = torch.from_numpy(x) if isinstance(x, np.ndarray) else x
    return engine.adapt(x) if isinstance(x, Tensor) and x.is_floating_point() else x


def _row(x: Any, row: int, samples: int) -> Any:
    return x[row : row + 1] if isinstance(x, Tensor) and x.shape[:1] == (samples,) else x


def _checked(features: Tensor) -> Tensor:
    refuse_nan(to_numpy(features))
    return features.detach()


class TorchSample(Sample):
    """One sequence bound to a model and its targets; see `Sample`."""

    def __init__(self, engine: Any, given: Given, target: Target, row: int, batch_first: bool) -> None:
        self.model: nn.Module = engine.model
        self.labels, self.given, self.target = engine.labels, given, target
        self.rows, self.batch_first = slice(row, row + 1), batch_first
        self.notes: list[str] = []
        if couples_samples(self.model):
            raise ModelError("BatchNorm in training mode mixes the samples; call model.eval() first")

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Leave the model as it was found, also after an exception."""
        with ExitStack() as stack:
            stack.enter_context(as_found(self.model))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(differentiable_rnns(self.model))
            yield

    @cached_property
    def features(self) -> np.ndarray:
        """The features `(time, feature)`."""
        return to_numpy(self.given.features)

    @cached_property
    def _clean(self) -> tuple[Tensor, Scored, bool]:
        """The logits at the features, their scores, and whether several points can be scored at once."""
        with torch.no_grad(), self._order_watched():
            raw, logits, gate = self._forward(self.given.features[None])
        if gate is not None:
            self.notes.append(f"scores are logits, read before the model's final {gate}")
        return logits, self._score(raw, logits, logits), isinstance(raw, Tensor)

    def gradients(
        self, points: Sequence[np.ndarray], weights: Sequence[float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores at `points`, and Σ_n weights_n ∂score/∂features at point n."""
        each = ROWS_PER_PASS if self._clean[2] else 1
        columns = len(self.scores)
        scores = np.zeros((len(points), columns))
        total = np.zeros((columns, *self.given.features.shape))
        # One row per point and target: a batch costs less than as many backward passes.
        rows = [(n, k) for n, weight in enumerate(weights) for k in range(columns if weight else 1)]
        depends = False
        for low in range(0, len(rows), each):
            part = rows[low : low + each]
            stacked = torch.from_numpy(np.stack([points[n] for n, _ in part])).to(self.given.features)
            found, leaf = self._scored(stacked)
            own = torch.stack([found[row, k] for row, (_, k) in enumerate(part)])
            (grads,) = torch.autograd.grad(own.sum(), leaf, allow_unused=True)
            depends = depends or grads is not None
            for row, (n, k) in enumerate(part):
                scores[n] = to_numpy(found[row].detach())
                if grads is not None:
                    total[k] += weights[n] * to_numpy(grads[row])
        if not depends:
            raise constant(scores.shape, self.given.features.shape)
        return scores, total.astype(self.features.dtype)

    def _scored(self, points: Tensor, *modes: TorchFunctionMode) -> tuple[Tensor, Tensor]:
        """Return the scores `(point, target)`, and the points from which they can be differentiated."""
        clean = self._clean[0]
        leaf = points.clone().requires_grad_()
        raw, logits, _ = self._forward(leaf.clone(), *modes)
        if len(points) == 1:
            scores = self._score(raw, logits, clean).values
        else:
            rows = [logits[n : n + 1] for n in range(len(points))]
            scores = torch.cat([self._score(row, row, clean).values for row in rows])
        if not scores.requires_grad:
            raise constant(scores.shape, points.shape)
        return scores, leaf

    def _columns(self, scores: Tensor, leaves: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Yield ∂score/∂leaf `(target, *leaf)` for some targets at a time."""
        eye = torch.eye(scores.shape[1], dtype=scores.dtype, device=scores.device)
        for columns in torch.split(eye, TARGETS_PER_PASS):
            found = vjp(scores, leaves, columns[:, None])
            yield [
                x.new_zeros(len(columns), *x.shape) if g is None else g
                for g, x in zip(found, leaves, strict=True)
            ]

    def propagated(self, epsilon: float) -> Attribution:
        """Return layer-wise relevance and its ledger.

        Raises ModelError where the surrogate's scores are not the model's, and where relevance does not add
        up.
        """
        ledger = Ledger(epsilon, self.given.features)
        scores, leaf = self._scored(self.given.features[None], Relevance(ledger))
        refuse_other(self.scores, to_numpy(scores.detach())[0], self._rounding)
        names, numbers = list(ledger.entries), list(ledger.entries.values())
        relevance, entries = [], []
        for grads, *others in self._columns(scores, [leaf, *numbers]):
            relevance.append(to_numpy((grads[:, 0] * leaf[0]).detach()))
            entries.append(np.stack([to_numpy(g).astype(float) for g in others]))
        found, terms = np.concatenate(relevance), np.concatenate(entries, axis=1)
        book = {"input": found.sum(axis=(1, 2), dtype=float), **dict(zip(names, terms, strict=True))}
        self._audit(book, np.abs(found).sum(axis=(1, 2), dtype=float))
        return Attribution(found, book)

    def _audit(self, book: dict[str, np.ndarray], mass: np.ndarray) -> None:
        if closes(self.scores, book, mass, self._rounding):
            return
        suspects: list[str] = []
        self._scored(self.given.features[None], Relevance(Ledger(0.0, self.given.features), suspects))
        raise no_rule(self.scores, book, suspects)

    @property
    def _rounding(self) -> float:
        return float(torch.finfo(self.given.features.dtype).eps)

    def _score(self, raw: Any, logits: Tensor, clean: Tensor) -> Scored:
        return self.target(Outputs(raw, lambda: logits, self.rows, self.labels, clean))

    def _forward(self, points: Tensor, *modes: TorchFunctionMode) -> tuple[Any, Tensor, str | None]:
        """Return what the model returns for points `(point, time, feature)`, its logits, and the gate after them."""
        final = FinalGate()
        with ExitStack() as stack:
            for mode in (*modes, final, ThroughNoGrad()) if torch.is_grad_enabled() else (final,):
                stack.enter_context(mode)
            raw = self._call(points)
        raw = pytree.tree_map(self._padded, raw, is_leaf=lambda x: isinstance(x, PackedSequence))
        main = main_output(raw)
        assert main is not None
        logits, gate = final.before(main)
        logits = logits if self.batch_first or logits.ndim < 3 else logits.transpose(0, 1)
        if logits.shape[0] != len(points):
            raise InputError(
                f"features {tuple(points.shape)} give outputs {tuple(logits.shape)}; expected one row for each of the "
                f"{len(points)} samples{'' if self.batch_first else ', or (time, batch, …)'}: see batch_first="
            )
        return raw, logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits, gate

    def _padded(self, output: Any) -> Any:
        return (
            pad_packed_sequence(output, self.batch_first)[0] if isinstance(output, PackedSequence) else output
        )

    def _call(self, points: Tensor) -> Any:
        call: Callable[..., Any] = getattr(self.model, "from_features", self.model)
        others = [self._repeated(x, len(points)) for x in self.given.others]
        inputs: Any = points if self.batch_first else points.transpose(0, 1)
        if self.given.packed:
            inputs = pack_sequence(list(points))
        try:
            return call(inputs, *others)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if isinstance(error, (ChronocamError, torch.OutOfMemoryError)):
                raise
            order = "(batch, time, feature)" if self.batch_first else "(time, batch, feature)"
            raise InputError(
                f"the model fails on features of shape {tuple(points.shape)}, given as {order} "
                f"({first_line(error)}); check their number and order, and batch_first="
            ) from error

    def _repeated(self, x: Any, count: int) -> Any:
        return x.expand(count, *x.shape[1:]) if isinstance(x, Tensor) and x.shape[:1] == (1,) else x

    @contextmanager
    def _order_watched(self) -> Iterator[None]:
        """Raise InputError where a recurrent layer takes the steps for a batch."""
        steps = len(self.given.features)

        def look(module: nn.Module, args: Any) -> None:
            x = args[0] if args else None
            if not isinstance(module, nn.RNNBase) or not isinstance(x, Tensor) or x.ndim != 3 or steps < 2:
                return
            time, batch = (x.shape[1], x.shape[0]) if module.batch_first else (x.shape[0], x.shape[1])
            if (time, batch) == (1, steps):
                raise InputError(
                    f"{type(module).__name__}(batch_first={module.batch_first}) gets {tuple(x.shape)} and takes the "
                    f"{steps} steps for a batch; give the method batch_first={not self.batch_first}, or mend the model"
                )

        with ExitStack() as stack:
            for module in self.model.modules():
                if isinstance(module, nn.RNNBase):
                    stack.callback(module.register_forward_pre_hook(look).remove)
            yield


SAMPLE = TorchSample
"""What `chronocam.sequence.run` binds each sample to."""
