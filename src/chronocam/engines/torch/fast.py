"""A faster copy of a model: norms folded into convolutions, channels last, bfloat16 if asked for."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from inspect import Parameter, signature
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils import _pytree as pytree

from chronocam.engines.recording import Recording, Request, Score
from chronocam.engines.structure import Hashed
from chronocam.engines.torch.engine import TorchEngine
from chronocam.engines.torch.layers import LayerLike, Layers
from chronocam.engines.torch.numbers import Numbers
from chronocam.engines.torch.state import State
from chronocam.engines.torch.symbolic import graph_of
from chronocam.errors import LayerError, ModelError
from chronocam.types import Inputs

_NORM_OF: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}
_FOLDED = "folded_convolution"
_BF16 = (
    "the model was run in bfloat16 (precision=): scores and maps are rounded to 2 or 3 digits, and where "
    "classes are close another one may be predicted; leave precision out to be sure"
)


class FastEngine(TorchEngine):
    """Runs a copy of a model; see `chronocam.methods.Method` for `fast` and `precision`."""

    def __init__(self, model: nn.Module, output_layer: LayerLike | None, precision: str | None) -> None:
        self._given = Layers(model)
        self._precision = precision
        self._asked: set[str] = set()
        self._copy = _copy_of(self._given.now(), precision)
        super().__init__(self._copy.model)
        self.layers = _OfCopy(self._copy.model)
        self.output_layer = None if output_layer is None else self.resolve(output_layer)

    def resolve(self, layer: LayerLike) -> str:
        """Return the path of a layer of the model that was given. Raises LayerError for a folded one."""
        path = self._given.resolve(layer)
        self._asked.add(path)
        self._refuse_folded()
        return path

    def adapt(self, inputs: Inputs) -> Inputs:
        """Return inputs as tensors on the device and in the precision of the copy, as the model is now."""
        # Each call begins here, so that a model that was trained meanwhile is copied anew.
        latest = _copy_of(self._given.now(), self._precision)
        if latest is not self._copy:
            self._copy, self.layers, self.model = latest, _OfCopy(latest.model), latest.model
            self._refuse_folded()
        last = torch.channels_last

        def lay(x: Any) -> Any:
            return x.contiguous(memory_format=last) if isinstance(x, Tensor) and x.ndim == 4 else x

        return pytree.tree_map(lay, super().adapt(inputs))

    def _refuse_folded(self) -> None:
        for path in self._asked.copy():  # other threads may ask meanwhile
            norm = self._copy.folded.get(path.split("#")[0])
            if norm is not None:
                raise LayerError(
                    f"fast=True folds the norm `{norm}` into layer `{path}`, whose own output is then never "
                    f"computed; name `{norm}`, or leave fast out"
                )

    def _recorded(self, scope: ExitStack, inputs: Inputs, score: Score, request: Request) -> Recording:
        for path in request.reads:
            self.resolve(path)
        recording = super()._recorded(scope, inputs, score, request)
        return recording if self._precision is None else replace(recording, notes=(*recording.notes, _BF16))


class _OfCopy(Layers):
    """The layers of a copy, which nobody else has: it need not be asked whether it changed."""

    def now(self) -> State:
        """Return the copy as it is."""
        state = self._state
        return super().now() if state is None else state


@dataclass(frozen=True)
class _Copy:
    """A copy of a model as it was.

    folded: the path of the norm that each convolution took in, by its path.
    settings: the fingerprint of the model that it is of. numbers: those in its weights.
    """

    model: nn.Module
    folded: dict[str, str]
    settings: Hashed
    numbers: Numbers

    def is_of(self, state: State) -> bool:
        """Say whether the model is as it was when it was copied."""
        alike = self.settings == state.fingerprint and not state.hooks
        return alike and self.numbers.are_in(state.tensors)


_COPIES: WeakKeyDictionary[nn.Module, dict[str | None, _Copy]] = WeakKeyDictionary()
_MEETING = Lock()


def _copy_of(state: State, precision: str | None) -> _Copy:
    """Return the copy of a model, made once and again after each change; it is dropped with the model."""
    copies = _COPIES.setdefault(state.modules[0], {})
    known = copies.get(precision)
    if known is not None and known.is_of(state):
        return known
    made = _made(state, precision)
    with _MEETING:
        # Threads that made one at the same time go on with the first: those with one engine need the same.
        if copies.get(precision) is known:
            copies[precision] = made
        return copies[precision]


def _made(state: State, precision: str | None) -> _Copy:
    model, numbers = state.modules[0], Numbers(state.tensors)
    if len({tensor.device for tensor in state.tensors}) != 1:
        raise ModelError("fast=True copies a model that is on one device, with weights; leave fast out")
    if state.hooks:
        raise ModelError("fast=True runs a copy, and the model has forward hooks of its own; leave fast out")
    try:
        made = copy.deepcopy(model)
    except Exception as error:
        raise ModelError(f"fast=True could not copy the model ({error}); leave fast out") from error
    folded = _foldable(made)
    for conv, norm in folded.items():
        before, after = made.get_submodule(conv), made.get_submodule(norm)
        assert isinstance(before, _ConvNd)
        assert isinstance(after, _BatchNorm)
        # In the place of the norm, whose output it gives.
        made.set_submodule(norm, _in_place_of(after, fuse_conv_bn_eval(before, after)))
        made.set_submodule(conv, nn.Identity())
    made = made.to(memory_format=torch.channels_last)
    if precision is not None:
        made = made.to(torch.bfloat16)
    return _Copy(made, folded, state.fingerprint, numbers)


def _foldable(model: nn.Module) -> dict[str, str]:
    """Return the norm by each convolution that only it uses, as the graph of the model proves."""
    # Where an argument may be left out, the traced way through the model need not be the one that is run.
    parameters = signature(model.forward).parameters.values()
    if any(p.default is not Parameter.empty or p.kind is p.VAR_KEYWORD for p in parameters):
        return {}
    graph = graph_of(model)
    if graph is None:
        return {}
    nodes = list(graph.nodes)
    paths = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    calls = Counter(str(node.target) for node in nodes if node.op == "call_module")
    read = {str(node.target).rpartition(".")[0] for node in nodes if node.op == "get_attr" and node.users}

    def once(path: str) -> bool:
        return calls[path] == 1 and paths[id(model.get_submodule(path))] == 1 and path not in read

    folded = {}
    for node in nodes:
        before = node.args[0] if node.op == "call_module" and len(node.args) == 1 else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        conv, norm = str(before.target), str(node.target)
        if _norm_of(model.get_submodule(conv), model.get_submodule(norm)) and once(conv) and once(norm):
            folded[conv] = norm
    return folded


def _norm_of(conv: nn.Module, norm: nn.Module) -> bool:
    """Say whether a norm scales and shifts what a convolution returns, by numbers that are known."""
    if type(conv) not in _NORM_OF or not isinstance(norm, _NORM_OF[type(conv)]):
        return False
    known = not norm.training and norm.running_mean is not None and norm.running_var is not None
    return known and (type(norm) is _NORM_OF[type(conv)] or _begins_as_norm(norm) is not None)


def _begins_as_norm(norm: nn.Module) -> tuple[fx.Graph, fx.Node] | None:
    """Return the graph of a norm of a model's own kind and where its input is normalised by its statistics.

    What comes after that, such as an activation, may be anything. None where the graph does not prove it.
    """
    graph = graph_of(norm)
    if graph is None:
        return None
    given, *others = [node for node in graph.nodes if node.op == "placeholder"]
    scaled = [node for node in graph.nodes if node.target is F.batch_norm]
    if others or len(scaled) != 1:
        return None
    signature_of = signature(F.batch_norm).bind(*scaled[0].args, **scaled[0].kwargs)
    signature_of.apply_defaults()
    asked = signature_of.arguments
    names = ("running_mean", "running_var", "weight", "bias")
    own = all(isinstance(asked[n], fx.Node) and asked[n].target == n for n in names)
    plain = own and asked["training"] is False and asked["eps"] == norm.eps and asked["input"] is given
    return (graph, scaled[0]) if plain else None


def _in_place_of(norm: nn.Module, conv: nn.Module) -> nn.Module:
    """Return what does as a norm did behind its convolution: that with both in one, and what else it does."""
    found = None if type(norm) in _NORM_OF.values() else _begins_as_norm(norm)
    if found is None:
        return conv
    graph, scaled = found
    norm.add_module(_FOLDED, conv)
    with graph.inserting_before(scaled):
        scaled.replace_all_uses_with(graph.call_module(_FOLDED, (scaled.args[0],)))
    graph.erase_node(scaled)
    made = fx.GraphModule(norm, graph)
    made.graph.eliminate_dead_code()
    made.recompile()
    return made
