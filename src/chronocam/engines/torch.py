"""The PyTorch engine: one forward pass, and a backward pass that ends at the layer."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from chronocam.engines.base import LayerCall, Recording, Score, unknown_layer
from chronocam.engines.torch_field import field_of
from chronocam.engines.torch_modes import GuidedReLUs, SoftmaxSeen, ThroughNoGrad, looks_like_probabilities
from chronocam.engines.torch_scope import as_found, couples_samples, device_of, dtype_of
from chronocam.errors import InputError, LayerError, LayoutError, ModelError
from chronocam.types import INPUT, Inputs

TARGETS_PER_PASS = 16  # how many targets' backward passes are batched: bounds the memory of many classes
_PASS_ON = (nn.Identity, nn.modules.dropout._DropoutNd)
_RESAMPLE = (nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd)
_CALL = re.compile(r"(?P<path>.*)#(?P<call>\d+)$")
_BEFORE_SOFTMAX = "scores are logits, read before the model's final softmax"
_NO_SOFTMAX = "scores look like probabilities and no final softmax was found; name output_layer="


class TorchEngine:
    """Runs a `torch.nn.Module`. Wrappers (DataParallel, torch.compile) are looked through."""

    channels_last = False

    def __init__(self, model: nn.Module, output_layer: Any = None) -> None:
        self.model = unwrap(model)
        if isinstance(self.model, torch.jit.ScriptModule):
            raise ModelError("a TorchScript module hides its layers; give the Python module or a `.pt2` export")
        self._names = {_plain(path): m for path, m in self.model.named_modules(remove_duplicate=False)}
        self._paths: dict[nn.Module, str] = {}
        for path, module in self._names.items():
            self._paths.setdefault(module, path)  # a module that is used under several names goes by the first
        self._modules = {path: module for module, path in self._paths.items()}
        self.output_layer = None if output_layer is None else self.resolve(output_layer)
        self._softmax_ends_it: bool | None = None

    @property
    def labels(self) -> Sequence[str] | None:
        """The class names that the model carries: `model.labels`, or `model.config.id2label` (Hugging Face)."""
        labels = getattr(self.model, "labels", None)
        names = getattr(getattr(self.model, "config", None), "id2label", None)
        if labels is None and isinstance(names, Mapping) and names:
            labels = [names.get(i, f"class {i}") for i in range(max(names) + 1)]
        return labels

    def resolve(self, layer: Any) -> str:
        """Return the path of a layer given by path (`layer4`, `relu#1` for its second call), object or index.

        An index counts the model's top-level layers. Raises LayerError for an unknown one.
        """
        if isinstance(layer, nn.Module):
            path, call = self._paths.get(unwrap(layer), ""), None
            if not path:
                raise LayerError(f"the given {type(layer).__name__} is not a layer of this {type(self.model).__name__}")
        elif isinstance(layer, Integral):
            children = [name for name, _ in self.model.named_children()]
            if not -len(children) <= int(layer) < len(children):
                raise LayerError(f"no layer {layer}; the model has {len(children)} top-level layers")
            path, call = children[int(layer)], None
        elif layer == INPUT:
            return INPUT
        else:
            path, call = _split(_plain(str(layer)))
            if not path or path not in self._names:
                raise unknown_layer(layer, [path for path in self._names if path])
            path = self._paths[self._names[path]]
        if isinstance(self._modules[path], torch.jit.ScriptModule):
            raise LayerError(f"layer `{path}` is TorchScript, which cannot be looked into; choose another")
        return path if call is None else f"{path}#{call}"

    def adapt(self, inputs: Inputs) -> Inputs:
        """Return inputs as tensors on the model's device, floating-point ones in its precision.

        Raises InputError for arrays that are not numbers, and for an image without a batch axis.
        """
        device, dtype = device_of(self.model), dtype_of(self.model)

        def convert(x: Any) -> Any:
            if isinstance(x, np.ndarray):
                if x.dtype.kind not in "fiub":
                    raise InputError(f"inputs have dtype {x.dtype}; expected numbers")
                x = torch.from_numpy(np.ascontiguousarray(x))
            if not isinstance(x, Tensor):
                return x
            return x.to(device=device, dtype=dtype if x.is_floating_point() else x.dtype)

        converted = pytree.tree_map(convert, dict(inputs) if isinstance(inputs, Mapping) else inputs)
        if isinstance(converted, Tensor):
            self._refuse_unbatched(converted)
        return converted

    def _refuse_unbatched(self, x: Tensor) -> None:
        # PyTorch's convolutions take an unbatched input without a word, and the map would be of no sample.
        conv = next((m for m in self._modules.values() if isinstance(m, nn.modules.conv._ConvNd)), None)
        if conv is not None and x.ndim == conv.weight.ndim - 1 and x.shape[0] == conv.in_channels:
            raise InputError(
                f"inputs have shape {tuple(x.shape)} and no batch axis; expected "
                f"(batch, {', '.join(map(str, x.shape))}): give inputs[None]"
            )

    def trace(self, inputs: Inputs) -> list[LayerCall]:
        """Return the layers in the order in which they finish, from one forward pass without gradients."""
        calls: list[tuple[LayerCall, Tensor]] = []

        def note(path: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                tensor = _first_tensor(output)
                if tensor is not None:
                    changes = not isinstance(module, _PASS_ON + _RESAMPLE)
                    call = LayerCall(path, type(module).__name__, tuple(tensor.shape), changes)
                    calls.append((call, tensor))

            return hook

        with as_found(self.model), torch.no_grad(), ExitStack() as hooks:
            for path, module in self._modules.items():
                if path and not isinstance(module, torch.jit.ScriptModule):
                    hooks.callback(module.register_forward_hook(note(path)).remove)
            final = _first_tensor(_call(self.model, pytree.tree_map(_own, inputs)))
        return [LayerCall(c.path, c.type, c.shape, c.changes and tensor is not final) for c, tensor in calls]

    def centers(self, inputs: Inputs, layer: str, grid: Sequence[int]) -> tuple[tuple[float, ...], ...]:
        """Return, per grid axis, the input coordinate at the centre of every cell's receptive field.

        Raises LayoutError where the layer's cells have no local receptive field.
        """
        given = _first_tensor(inputs)
        if given is None:
            raise LayoutError('no floating-point input to place cells in; use align="half_pixel"')
        outputs: list[Tensor] = []
        path, call = _split(layer)
        with as_found(self.model), torch.enable_grad(), ExitStack() as scope:
            source = _own(given).requires_grad_()
            scope.callback(self._modules[path].register_forward_hook(_keep(outputs)).remove)
            _call(self.model, _replace(inputs, given, source.clone()))
            return field_of(outputs[-1 if call is None else call], source, len(grid), layer).centers(grid)

    def record(
        self,
        inputs: Inputs,
        score: Score,
        layers: Sequence[str],
        *,
        gradients: Sequence[str] = (),
        guided: Sequence[str] = (),
        curvature: Sequence[str] = (),
        call: Callable[[Any, Inputs], Any] | None = None,
    ) -> Recording:
        """Record one pass; see `Engine.record`. Raises LayerError for a layer that is not called."""
        differentiate = bool(gradients or guided or curvature)
        with as_found(self.model):
            pass_ = _Pass(self, inputs, layers, call, guided=bool(guided), differentiate=differentiate)
            found = pass_.run(score, gradients, guided, curvature)
            activations = {layer: [t.detach() for t in pass_.taps[layer].seen] for layer in layers}
            return Recording(pass_.scores.detach(), activations, **found, notes=tuple(pass_.notes))


class _Cut:
    """Whether some tap of a pass has made its output the leaf at which the graph begins."""

    made = False


class _Tap:
    """A forward hook that captures a layer's output and lets the graph begin there.

    The first tap to fire cuts the graph: its output becomes a leaf, and gradients are recorded from there on.
    What goes on into the model is a clone, so that in-place operations after the layer cannot overwrite what
    was captured.
    """

    def __init__(self, call: int | None, cut: _Cut | None) -> None:
        self.call = call
        self.calls = 0
        self.cut = cut
        self.seen: list[Tensor] = []

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        self.calls += 1
        if self.call is not None and self.calls - 1 != self.call:
            return None
        tensor = _first_tensor(output)
        if tensor is None:
            raise LayerError(f"a {type(module).__name__} returns no floating-point tensor; choose another layer")
        fresh = self.capture(tensor)
        return fresh if output is tensor else _replace(output, tensor, fresh)

    def capture(self, tensor: Tensor) -> Tensor:
        """Keep `tensor` and return what the model goes on with."""
        if self.cut is not None:
            torch.set_grad_enabled(True)
            if not (self.cut.made and tensor.requires_grad):
                tensor = tensor.detach().requires_grad_()
                self.cut.made = True
        self.seen.append(tensor)
        return tensor.clone()


class _Pass:
    """One forward pass with taps, and the backward passes from its scores."""

    def __init__(
        self,
        engine: TorchEngine,
        inputs: Inputs,
        layers: Sequence[str],
        call: Callable[[Any, Inputs], Any] | None,
        *,
        guided: bool,
        differentiate: bool,
    ) -> None:
        self.engine, self.layers, self.call = engine, layers, call
        self.inputs = inputs
        self.differentiate = differentiate
        self.through_no_grad = False
        self.relus = GuidedReLUs() if guided else None
        self.plain = engine.output_layer is None and call is None  # scores are read from the model's output
        self.couples = couples_samples(engine.model)
        self.notes: list[str] = []
        self.taps: dict[str, _Tap] = {}

    def run(
        self, score: Score, gradients: Sequence[str], guided: Sequence[str], curvature: Sequence[str]
    ) -> dict[str, dict[str, list[Tensor]]]:
        """Run the model, score its outputs, and return what is recorded of each, by layer, one array per call.

        No graph is built before the first layer. Where that leaves a layer without a gradient, it may lie before
        or within the model's own no_grad(), or within a fused inference path: then all is run once more with a
        graph from the start.
        """
        found = self._attempt(score, gradients, guided, curvature)
        connected = {*found["gradients"], *found["guided"]} == {*gradients, *guided}
        if not (connected and all(tap.seen for tap in self.taps.values())):
            self.through_no_grad = True
            found = self._attempt(score, gradients, guided, curvature)
        for layer, tap in self.taps.items():
            if not tap.seen:
                raise LayerError(
                    f"layer `{layer}` was called {tap.calls} times, so nothing was recorded there; "
                    "choose a layer that the forward pass uses (`chronocam layers SPEC`)"
                )
        return found

    def _attempt(
        self, score: Score, gradients: Sequence[str], guided: Sequence[str], curvature: Sequence[str]
    ) -> dict[str, dict[str, list[Tensor]]]:
        self.notes.clear()
        self._forward(score)
        return {
            "gradients": self._backward(gradients),
            "curvature": self._curvature(curvature),
            "guided": self._guided(guided),
        }

    def _forward(self, score: Score) -> None:
        engine, model = self.engine, self.engine.model
        cut = _Cut() if self.differentiate else None
        self.taps = {layer: _Tap(_split(layer)[1], cut) for layer in self.layers}
        output: list[Tensor] = []
        softmax = SoftmaxSeen() if engine._softmax_ends_it else None
        with ExitStack() as scope:
            grad = self.through_no_grad or (INPUT in self.layers and self.differentiate)
            scope.enter_context(torch.set_grad_enabled(grad))
            for mode in (self.relus, softmax, ThroughNoGrad() if self.through_no_grad else None):
                if mode is not None:
                    scope.enter_context(mode)
            for layer in self.layers:
                if layer != INPUT:
                    module = engine._modules[_split(layer)[0]]
                    scope.callback(module.register_forward_hook(self.taps[layer]).remove)
            if engine.output_layer is not None:
                module = engine._modules[_split(engine.output_layer)[0]]
                scope.callback(module.register_forward_hook(_keep(output)).remove)
            inputs = pytree.tree_map(_own, self.inputs)
            if INPUT in self.layers:
                inputs = self._tapped(inputs)
            raw = (self.call or _call)(model, inputs)
            if engine.output_layer is not None:
                raw = self._read(output)
            if self._must_look_behind_softmax(raw):
                engine._softmax_ends_it = True
            else:
                self.scores = score(raw, lambda: self._logits(raw, softmax))
                return
        self._forward(score)

    def _read(self, output: list[Tensor]) -> Tensor:
        layer = str(self.engine.output_layer)
        call = _split(layer)[1]
        if len(output) <= (call or 0):
            raise LayerError(f"output layer `{layer}` returned no scores; choose another")
        return output[-1 if call is None else call]

    def _tapped(self, inputs: Inputs) -> Inputs:
        first = _first_tensor(inputs)
        if first is None:
            raise InputError("no floating-point input to differentiate; explain a layer: give conv_layer=")
        return _replace(inputs, first, self.taps[INPUT].capture(first))

    def _must_look_behind_softmax(self, raw: Any) -> bool:
        engine = self.engine
        if engine._softmax_ends_it is not None or not self.plain:
            return False
        main = _main_output(raw, strict=False)
        return main is not None and looks_like_probabilities(main)

    def _logits(self, raw: Any, softmax: SoftmaxSeen | None) -> Tensor:
        main = _main_output(raw)
        assert main is not None
        if softmax is not None and softmax.result is main and softmax.logits is not None:
            self.notes.append(_BEFORE_SOFTMAX)
            main = softmax.logits
        elif self.plain and looks_like_probabilities(main):
            self.engine._softmax_ends_it = False
            self.notes.append(_NO_SOFTMAX)
        return main.float() if main.dtype in (torch.float16, torch.bfloat16) else main

    def _guided(self, layers: Sequence[str]) -> dict[str, list[Tensor]]:
        """Return gradients whose backward pass goes through guided ReLUs."""
        if self.relus is None:
            return {}
        if not self.relus.seen:
            self.notes.append("the model calls no ReLU: guided backpropagation equals the plain gradient")
        self.relus.on = True
        try:
            return self._backward(layers)
        finally:
            self.relus.on = False

    def _backward(self, layers: Sequence[str]) -> dict[str, list[Tensor]]:
        """Return ∂score/∂activations for every target, `(target, *shape)` per call of each layer that has one."""
        tensors = [t for layer in layers for t in self.taps[layer].seen]
        if not tensors:
            return {}
        columns = self._columns()
        starts = range(0, len(columns), TARGETS_PER_PASS)
        parts = [self._vjp(tensors, columns[i : i + TARGETS_PER_PASS]) for i in starts]
        joined = iter(
            [None if part[0] is None else self._own_sample(torch.cat(part)) for part in zip(*parts, strict=True)]
        )
        found = {layer: [next(joined) for _ in self.taps[layer].seen] for layer in layers}
        return {
            layer: [_or_zeros(g, t, self.scores) for g, t in zip(gradients, self.taps[layer].seen, strict=True)]
            for layer, gradients in found.items()
            if any(g is not None for g in gradients)
        }

    def _columns(self) -> Tensor:
        """Return one cotangent per backward pass: one-hot over targets, and over samples where they couple."""
        batch, targets = self.scores.shape
        eye = torch.eye(targets, dtype=self.scores.dtype, device=self.scores.device)
        if not self.couples:
            return eye[:, None, :].expand(targets, batch, targets)
        own = torch.eye(batch, dtype=eye.dtype, device=eye.device)
        return (eye[:, None, None, :] * own[None, :, :, None]).reshape(targets * batch, batch, targets)

    def _own_sample(self, gradients: Tensor) -> Tensor:
        """Where samples couple, keep of every sample's gradient the part at its own activations."""
        if not self.couples:
            return gradients
        batch, targets = self.scores.shape
        if gradients.shape[1] != batch:
            raise ModelError(
                f"BatchNorm in training mode mixes the samples, and a layer returns {tuple(gradients.shape[1:])}, "
                f"which is not one row for each of {batch} samples; call model.eval() first"
            )
        split = gradients.reshape(targets, batch, *gradients.shape[1:])
        return torch.stack([split[:, i, i] for i in range(batch)], dim=1)

    def _vjp(self, tensors: list[Tensor], columns: Tensor) -> list[Tensor | None]:
        """Return vector-Jacobian products `(column, *shape)` for each tensor; None where nothing connects."""
        if not self.scores.requires_grad:
            return [None] * len(tensors)
        grad = partial(torch.autograd.grad, self.scores, tensors, retain_graph=True, allow_unused=True)
        if len(columns) == 1:
            return [None if g is None else g[None] for g in grad(columns[0])]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # operators without a batching rule are only slower
                return list(grad(columns, is_grads_batched=True))
        except RuntimeError:  # an operator that cannot be batched
            each = [grad(column) for column in columns]
            return [None if part[0] is None else torch.stack(part) for part in zip(*each, strict=True)]

    def _curvature(self, layers: Sequence[str]) -> dict[str, list[Tensor]]:
        """Return the Hessian of every score times the activations, by differentiating the gradient once more."""
        return {
            layer: [self._own_sample(self._hessian_product(t)) for t in self.taps[layer].seen]
            for layer in layers
            if self.scores.requires_grad
        }

    def _hessian_product(self, tensor: Tensor) -> Tensor:
        products = []
        for column in self._columns():
            (first,) = torch.autograd.grad(self.scores, tensor, column, create_graph=True, allow_unused=True)
            second = None
            if first is not None and first.requires_grad:
                (second,) = torch.autograd.grad(first, tensor, tensor.detach(), retain_graph=True, allow_unused=True)
            products.append(torch.zeros_like(tensor) if second is None else second)
        return torch.stack(products).detach()


def unwrap(model: nn.Module) -> nn.Module:
    """Return the module inside DataParallel, DistributedDataParallel and torch.compile wrappers."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _plain(path: str) -> str:
    """Return the path that a layer has without the compilation of the modules that hold it."""
    return ".".join(part for part in path.split(".") if part != "_orig_mod")


def _split(layer: str) -> tuple[str, int | None]:
    """Split `relu#1` into the path and the number of the call."""
    match = _CALL.match(layer)
    return (match["path"], int(match["call"])) if match else (layer, None)


def _call(model: nn.Module, inputs: Inputs) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def _own(x: Any) -> Any:
    """Return a copy of `x`: free of the caller's graph and inference mode, and the model's to write into."""
    return x.detach().clone() if isinstance(x, Tensor) else x


def _keep(seen: list[Tensor]) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        tensor = _first_tensor(output)
        if tensor is not None:
            seen.append(tensor)

    return hook


def _first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output if output.is_floating_point() else None
    return next((x for x in pytree.tree_leaves(output) if isinstance(x, Tensor) and x.is_floating_point()), None)


def _replace(output: Any, old: Tensor, new: Tensor) -> Any:
    return pytree.tree_map(lambda x: new if x is old else x, output)


def _main_output(raw: Any, strict: bool = True) -> Tensor | None:
    """Return the tensor that holds the scores: `logits`, or the only tensor; the first of a plain tuple."""
    if isinstance(raw, Tensor):
        return raw
    logits = raw.get("logits") if isinstance(raw, Mapping) else getattr(raw, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    tensors = [x for x in pytree.tree_leaves(raw) if isinstance(x, Tensor) and x.is_floating_point()]
    if len(tensors) == 1 or (tensors and isinstance(raw, (tuple, list))):
        return tensors[0]
    if not strict:
        return None
    what = f"a {type(raw).__name__} with {sorted(raw)}" if isinstance(raw, Mapping) else f"a {type(raw).__name__}"
    raise ModelError(
        f"the model returns {what}, not one tensor of scores; name output_layer= or give a callable target"
    )


def _or_zeros(gradient: Tensor | None, tensor: Tensor, scores: Tensor) -> Tensor:
    return tensor.new_zeros(scores.shape[1], *tensor.shape) if gradient is None else gradient
