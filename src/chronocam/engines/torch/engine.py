"""The PyTorch engine: one forward pass, and a backward pass that ends at the layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from chronocam.engines.base import Call, LayerCall, Recording, Request, Score, child_at, unknown_layer
from chronocam.engines.torch.field import field_of, windows_between
from chronocam.engines.torch.modes import ThroughNoGrad
from chronocam.engines.torch.passes import TorchPass
from chronocam.engines.torch.probe import follows_in_time, probed_centers, rows_in_time
from chronocam.engines.torch.scope import as_found, device_of, dtype_of
from chronocam.engines.torch.tensors import (
    call_model,
    first_tensor,
    keep_output,
    own_copy,
    replace_tensor,
    split_call,
)
from chronocam.errors import InputError, LayerError, LayoutError, ModelError
from chronocam.layouts import Stem
from chronocam.types import INPUT, Array, Inputs, Window

_PASS_ON = (nn.Identity, nn.modules.dropout._DropoutNd)
_RESAMPLE = (nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd)


class TorchEngine:
    """Runs a `torch.nn.Module`. Wrappers (DataParallel, torch.compile) are looked through."""

    framework = "torch"
    channels_last = False

    def __init__(self, model: nn.Module, output_layer: Any = None) -> None:
        self.model = unwrap(model)
        if isinstance(self.model, torch.jit.ScriptModule):
            raise ModelError(
                "a TorchScript module hides its layers; give the Python module or a `.pt2` export"
            )
        self._names = {_plain(path): m for path, m in self.model.named_modules(remove_duplicate=False)}
        self._paths: dict[nn.Module, str] = {}
        for path, module in self._names.items():
            self._paths.setdefault(
                module, path
            )  # a module that is used under several names goes by the first
        self._modules = {path: module for module, path in self._paths.items()}
        self.output_layer = None if output_layer is None else self.resolve(output_layer)
        self._ends_in_softmax = False

    @property
    def labels(self) -> Sequence[str] | None:
        """The class names that the model carries: `model.labels`, or `model.config.id2label` (Hugging Face)."""
        labels = getattr(self.model, "labels", None)
        names = getattr(getattr(self.model, "config", None), "id2label", None)
        if labels is None and isinstance(names, Mapping) and names:
            labels = [names.get(i, f"class {i}") for i in range(max(names) + 1)]
        return labels

    @property
    def stem(self) -> Stem | None:
        """The first convolution; None for a model without any."""
        first = next((m for m in self._modules.values() if isinstance(m, nn.modules.conv._ConvNd)), None)
        return None if first is None else Stem(first.weight.ndim - 2, first.in_channels)

    def kernels(self) -> dict[str, Array]:
        """Return the kernels `(filter, channel, *grid)` of every convolution by path, in the order of the model."""
        plain = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
        return {path: module.weight for path, module in self._modules.items() if isinstance(module, plain)}

    def resolve(self, layer: Any) -> str:
        """Return the path of a layer given by path (`layer4`, `relu#1` for its second call), object or index.

        An index counts the model's top-level layers. Raises LayerError for an unknown one.
        """
        if isinstance(layer, nn.Module):
            path, call = self._paths.get(unwrap(layer), ""), None
            if not path:
                raise LayerError(
                    f"the given {type(layer).__name__} is not a layer of this {type(self.model).__name__}"
                )
        elif isinstance(layer, Integral):
            path, call = child_at(int(layer), [name for name, _ in self.model.named_children()]), None
        elif layer == INPUT:
            return INPUT
        else:
            path, call = split_call(_plain(str(layer)))
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
        stem = self.stem
        if stem is not None and x.ndim == stem.rank + 1 and x.shape[0] == stem.channels:
            raise InputError(
                f"inputs have shape {tuple(x.shape)} and no batch axis; expected "
                f"(batch, {', '.join(map(str, x.shape))}): give inputs[None]"
            )

    def trace(self, inputs: Inputs) -> list[LayerCall]:
        """Return the layers in the order in which they finish, from one forward pass without gradients."""
        calls: list[tuple[LayerCall, Tensor]] = []

        def note(path: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                tensor = first_tensor(output)
                if tensor is not None:
                    changes = not isinstance(module, _PASS_ON + _RESAMPLE)
                    call = LayerCall(path, type(module).__name__, tuple(tensor.shape), changes)
                    calls.append((call, tensor))

            return hook

        with as_found(self.model), torch.no_grad(), ExitStack() as hooks:
            for path, module in self._modules.items():
                if path and not isinstance(module, torch.jit.ScriptModule):
                    hooks.callback(module.register_forward_hook(note(path)).remove)
            final = first_tensor(call_model(self.model, pytree.tree_map(own_copy, inputs)))
        return [LayerCall(c.path, c.type, c.shape, c.changes and tensor is not final) for c, tensor in calls]

    def centers(self, inputs: Inputs, layer: str, grid: Sequence[int]) -> tuple[tuple[float, ...], ...]:
        """Return, per grid axis, the input coordinate at the centre of every cell's receptive field.

        Raises LayoutError where the layer's cells have no local receptive field.
        """
        given = first_tensor(inputs)
        if given is None:
            raise LayoutError('no floating-point input to place cells in; use align="half_pixel"')
        with as_found(self.model), torch.enable_grad():
            source = own_copy(given).requires_grad_()
            field = field_of(self._look(inputs, given, source, layer), source, len(grid), layer)
            if field is not None:
                return field.centers(grid)
            return probed_centers(
                partial(self._look, inputs, given, layer=layer), own_copy(given), grid, layer
            )

    def frame_centers(self, inputs: Inputs, layer: str, rows: int, frame_axis: int) -> tuple[float, ...]:
        """Return at which frame each of the first `rows` of a layer looks, where frames are folded into its batch."""
        given = first_tensor(inputs)
        if given is None:
            raise LayoutError('no floating-point input to place frames in; use align="half_pixel"')
        with as_found(self.model), torch.enable_grad():
            source = torch.randn_like(given).requires_grad_()
            return rows_in_time(self._look(inputs, given, source, layer)[:rows], source, frame_axis)

    def tokens_by_patch(self, inputs: Inputs, like: str, prefix: int, frame_axis: int) -> bool:
        """Say whether tokens follow each other in time, as the first layer with as many of them shows.

        There, before any attention, a token sees its own patch alone.
        """
        given = first_tensor(inputs)
        calls = self.trace(inputs)
        tokens = next(call.shape[:2] for call in calls if call.path == split_call(like)[0])
        first = next(call.path for call in calls if len(call.shape) == 3 and call.shape[:2] == tokens)
        if given is None:
            return False
        with as_found(self.model), torch.enable_grad():
            source = own_copy(given).requires_grad_()
            return follows_in_time(
                self._look(inputs, given, source, f"{first}#0"), source, prefix, frame_axis
            )

    def windows(
        self, inputs: Inputs, stages: Sequence[Sequence[str]], rank: int
    ) -> dict[str, tuple[Window, ...] | None]:
        """Return one layer per stage with its windows on the one before; see `Engine.windows`."""
        given = first_tensor(inputs)
        if given is None:
            return {layers[-1]: None for layers in stages}
        nodes: dict[str, Any] = {}
        counts: Counter[str] = Counter()

        def note(layer: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                tensor, call = first_tensor(output), split_call(layer)[1]
                if tensor is not None and call in (None, counts[layer]):
                    nodes[layer] = tensor.grad_fn
                counts[layer] += 1

            return hook

        with as_found(self.model), torch.enable_grad(), ThroughNoGrad(), ExitStack() as hooks:
            source = own_copy(given).requires_grad_()
            for layer in chain.from_iterable(stages):
                module = self._modules[split_call(layer)[0]]
                hooks.callback(module.register_forward_hook(note(layer)).remove)
            call_model(self.model, replace_tensor(inputs, given, source.clone()))
        return windows_between(
            [{layer: nodes.get(layer) for layer in layers} for layers in stages], source, rank
        )

    def _look(self, inputs: Inputs, given: Tensor, source: Tensor, layer: str) -> Tensor:
        """Return the output of `layer` with `source` in the place of the input `given`.

        No graph is built after the call of the layer that is asked for.
        """
        outputs: list[Tensor] = []
        path, call = split_call(layer)
        keep = keep_output(outputs)

        def hook(module: nn.Module, args: Any, output: Any) -> None:
            keep(module, args, output)
            if call is not None and len(outputs) > call:
                torch.set_grad_enabled(False)

        handle = self._modules[path].register_forward_hook(hook)
        try:
            with torch.enable_grad():
                call_model(self.model, replace_tensor(inputs, given, source.clone()))
        finally:
            handle.remove()
        return outputs[-1 if call is None else call]

    def record(self, inputs: Inputs, score: Score, request: Request) -> Recording:
        """Record one pass; see `Engine.record`. Raises LayerError for a layer that is not called."""
        with as_found(self.model):
            return TorchPass(self, inputs, request).run(score)

    def scores(
        self, inputs: Inputs, score: Score, call: Call | None = None, reads: Sequence[str] = ()
    ) -> Tensor:
        """Return the scores `(batch, target)` from a forward pass without a graph; see `Engine.scores`."""
        scores: Tensor = self.record(inputs, score, Request(reads=reads, call=call)).scores
        return scores


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
