"""What keeps the layers of a PyTorch model, or its gradients, from view; looked for where something fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import torch
from torch import Tensor, fx, nn

from chronocam.errors import ModelError

QUANTISED: Final = (
    "no gradient passes what is quantised: explain the floating-point model that it was made from, or a "
    "layer before it by a method without gradients, such as eigencam"
)
_FLAT: Final = (
    "the model is one graph without layers, as the module() of an exported program is; give "
    "torch.export.unflatten(exported)"
)
_INFERENCE: Final = (
    "the model runs under torch.inference_mode(), which leaves nothing to differentiate; take it out of "
    "forward, or put torch.no_grad() in its place"
)
_MADE_IN_INFERENCE: Final = (
    "the model holds tensors that were made under torch.inference_mode(), which no gradient passes; make or "
    "load it outside of that"
)
_REENTRANT: Final = (
    "the model checkpoints activations with use_reentrant=True, and no gradient of a layer can be taken "
    "through that; switch checkpointing off, or give it use_reentrant=False"
)
_SHARDED: Final = (
    "the weights are shards, which fully_shard() gathers for the model's own modules alone, and a copy of "
    "them is explained; load the full state dict into a model that is not sharded"
)

_OVERWRITTEN = (
    "the model overwrites in place what its gradients are made of, and cannot be trained either; write "
    "`x = x * 2` for `x *= 2`, and use inplace=False"
)


def obstacle(model: nn.Module, modules: Iterable[nn.Module]) -> str | None:
    """Return what about a model keeps layers or gradients from view, and what to do; None for a usual one."""
    modules = list(modules)
    quantised = next((m for m in modules if ".quantized" in type(m).__module__), None)
    if quantised is not None:
        return f"{type(quantised).__name__} is quantised, and {QUANTISED}"
    if any(isinstance(module, torch.jit.ScriptModule) for module in modules):
        return "a part of it is a TorchScript module, whose layers are hidden; give the Python module"
    nodes = model.graph.nodes if isinstance(model, fx.GraphModule) else ()
    return _FLAT if any(isinstance(node.target, torch._ops.OpOverload) for node in nodes) else None


def unlike_scores(raw: Tensor) -> str:
    """Return why a tensor that a model returns holds no scores, and what to do."""
    numbers = f"{str(raw.dtype).removeprefix('torch.')} numbers"
    if raw.is_nested:
        return "the model returns a nested tensor; let it return outputs.to_padded_tensor(0.0)"
    if raw.is_quantized:
        return f"the model returns {numbers}, and {QUANTISED}"
    sparse, column = raw.layout != torch.strided, "[:, 0]" if raw.ndim > 1 else ""
    if not (sparse or raw.is_complex()):
        return (
            f"the model returns {numbers}, as of an argmax, through which no gradient passes; name "
            "output_layer=, the layer that gives the scores before it"
        )
    kind, done = ("a sparse tensor", "to_dense") if sparse else (numbers, "abs")
    return (
        f"the model returns {kind}, not scores; give a callable target, such as "
        f"lambda outputs: outputs.{done}(){column}"
    )


_REASONS: Final = {
    "use_reentrant": _REENTRANT,
    "Inference tensors cannot be saved": _MADE_IN_INFERENCE,
    "modified by an inplace operation": _OVERWRITTEN,
    "mixed torch.Tensor and DTensor": _SHARDED,
}
"""Why a model cannot be explained, by what is said in PyTorch's own error."""


def reason_of(error: Exception) -> str | None:
    """Return what about the model makes PyTorch raise an error, and what to do; None for other errors."""
    return next((reason for sign, reason in _REASONS.items() if sign in str(error)), None)


def refuse_model(error: RuntimeError) -> None:
    """Raise ModelError in the place of PyTorch's own error where it is the model that has no gradients."""
    reason = reason_of(error)
    if reason is not None:
        raise ModelError(reason) from error


def refuse_cut_off(scores: Tensor, in_inference: bool) -> None:
    """Raise ModelError where scores depend on no layer because of how the model runs.

    in_inference: whether layers returned tensors of the model's own inference mode.
    """
    if in_inference or scores.is_inference():
        raise ModelError(_INFERENCE)
    if any(node.name() == "CheckpointFunctionBackward" for node in _graph(scores)):
        raise ModelError(_REENTRANT)


def _graph(scores: Tensor) -> Iterator[torch.autograd.graph.Node]:
    """Yield every operation that scores come out of."""
    waiting, seen = [scores.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting += [before for before, _ in node.next_functions]
