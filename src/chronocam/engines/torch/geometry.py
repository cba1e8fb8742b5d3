"""What the cells of a PyTorch layer see of its input: read from the graph, or probed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from chronocam.engines.base import LayerCall, Sight
from chronocam.engines.geometry import Centers
from chronocam.engines.names import split_call, split_entry
from chronocam.engines.recording import Feed
from chronocam.engines.scoped import scoped
from chronocam.engines.torch.field import field_of, windows_between
from chronocam.engines.torch.graph import keeps_places
from chronocam.engines.torch.layers import Layers
from chronocam.engines.torch.modes import ThroughNoGrad
from chronocam.engines.torch.probe import extent_of, follows_in_time, noise_like, probed_centers, rows_in_time
from chronocam.engines.torch.scope import settle
from chronocam.engines.torch.tensors import (
    call_model,
    first_tensor,
    keep_output,
    own_copy,
    replace_tensor,
    tensor_at,
)
from chronocam.errors import InputError, LayoutError
from chronocam.types import Inputs, Window

_NO_GRAPH = (LayoutError, InputError, RuntimeError, ValueError, IndexError)


class TorchGeometry:
    """The verbs of `Geometry`, for an engine that holds the modules and traces their calls."""

    layers: Layers
    feed: Feed

    @property
    def may_move(self) -> bool:
        """Whether the model may move places."""
        raise NotImplementedError

    def trace(self, inputs: Inputs) -> list[LayerCall]:
        """Return the layers in the order in which they finish."""
        raise NotImplementedError

    def centers(self, inputs: Inputs, layer: str, grid: Sequence[int]) -> tuple[Centers, ...]:
        """Return, per grid axis, the input coordinate at the centre of every cell's receptive field.

        Raises LayoutError where the layer's cells have no local receptive field.
        """
        main = first_tensor(inputs)
        if main is None:
            raise LayoutError('no floating-point input to place cells in; use align="half_pixel"')

        def centers(scope: ExitStack) -> tuple[Centers, ...]:
            source = self._differentiably(scope, main)
            field = field_of(self._look(inputs, main, source, layer), source, len(grid), layer)
            if field is not None:
                return field.centers(grid)
            return probed_centers(partial(self._look, inputs, main, layer=layer), own_copy(main), grid, layer)

        return scoped(centers)()

    def sight(self, inputs: Inputs, layer: str, rank: int) -> Sight:
        """Return what a layer sees of the input, as the graph says; see `Geometry.sight`.

        Nothing is known where no graph can be had: a model may leave PyTorch on the way, need too much
        memory, or take no batch of another size.
        """
        main = first_tensor(inputs)
        if main is None:
            return Sight()

        def found(scope: ExitStack) -> Sight:
            # Of noise, since flat regions of a picture may leave units dead that see them.
            source = self._differentiably(scope, noise_like(main))
            scope.enter_context(ThroughNoGrad())
            output = self._look(inputs, main, source, layer)
            try:
                field = field_of(output, source, rank, layer)
            except LayoutError:
                field = None
            windows = None if field is None else field.windows
            if keeps_places(output):
                return Sight(windows)
            return Sight(windows, False, extent_of(output, source))

        with suppress(*_NO_GRAPH):
            return scoped(found)()
        return Sight()

    def frame_centers(self, inputs: Inputs, layer: str, rows: int, frame_axis: int) -> tuple[float, ...]:
        """Return the frame at which each of the first `rows` of a layer with folded frames looks."""
        main = first_tensor(inputs)
        if main is None:
            raise LayoutError('no floating-point input to place frames in; use align="half_pixel"')

        def found(scope: ExitStack) -> tuple[float, ...]:
            source = self._differentiably(scope, noise_like(main))
            return rows_in_time(self._look(inputs, main, source, layer)[:rows], source, frame_axis)

        return scoped(found)()

    def tokens_by_patch(self, inputs: Inputs, like: str, prefix: int, frame_axis: int) -> bool:
        """Say whether tokens follow each other in time, as the first layer with as many of them shows.

        There, before any attention, a token sees its own patch alone.
        """
        main = first_tensor(inputs)
        calls = self.trace(inputs)
        tokens = next(call.shape[:2] for call in calls if call.path == split_call(like)[0])
        first = next(call.path for call in calls if len(call.shape) == 3 and call.shape[:2] == tokens)
        if main is None:
            return False

        def follows(scope: ExitStack) -> bool:
            source = self._differentiably(scope, main)
            return follows_in_time(self._look(inputs, main, source, f"{first}#0"), source, prefix, frame_axis)

        return scoped(follows)()

    def _differentiably(self, scope: ExitStack, x: Tensor) -> Tensor:
        """Let gradients be taken in this scope, and return a copy of `x` from which a graph begins."""
        settle(scope, self.layers.model)
        scope.enter_context(torch.enable_grad())
        return own_copy(x).requires_grad_()

    def windows(
        self, inputs: Inputs, stages: Sequence[Sequence[str]], rank: int
    ) -> dict[str, tuple[Window, ...] | None]:
        """Return one layer per stage with its windows on the one before; see `Geometry.windows`."""
        main = first_tensor(inputs)
        if main is None:
            return {layers[-1]: None for layers in stages}
        nodes: dict[str, Node | None] = {}
        counts: Counter[str] = Counter()

        def note(layer: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: object, output: object) -> None:
                tensor, call = tensor_at(output, split_entry(layer)[1]), split_call(layer)[1]
                if tensor is not None and call in (None, counts[layer]):
                    nodes[layer] = tensor.grad_fn
                counts[layer] += 1

            return hook

        def found(scope: ExitStack) -> dict[str, tuple[Window, ...] | None]:
            source = self._differentiably(scope, main)
            scope.enter_context(ThroughNoGrad())
            replica = self.layers.replica()
            for layer in chain.from_iterable(stages):
                replica.hook(layer, note(layer))
            call_model(replica.model, self.feed(replace_tensor(inputs, main, source.clone())))
            chosen = [{layer: nodes.get(layer) for layer in layers} for layers in stages]
            return windows_between(chosen, source, rank)

        return scoped(found)()

    def _look(self, inputs: Inputs, main: Tensor, source: Tensor, layer: str) -> Tensor:
        """Return the output of `layer` with `source` in the place of the input `main`.

        No graph is built after the call of the layer that is asked for.
        """
        outputs: list[Tensor] = []
        (path, entry), call = split_entry(layer), split_call(layer)[1]
        keep = keep_output(outputs, entry)

        def hook(module: nn.Module, args: object, output: object) -> None:
            keep(module, args, output)
            if call is not None and len(outputs) > call:
                torch.set_grad_enabled(False)

        replica = self.layers.replica()
        replica.hook(path, hook)
        with torch.enable_grad():
            call_model(replica.model, self.feed(replace_tensor(inputs, main, source.clone())))
        return outputs[-1 if call is None else call]
