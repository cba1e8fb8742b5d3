"""Long clips: what sees the frames one by one runs on a few of them at a time, and the gradients stay exact.

The module that gets all frames folded into the batch runs once without a graph. Its result is where the graph
of the rest begins. Given the gradient there, each chunk runs once more from the layer on, with a graph of its
own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from chronocam.engines.names import split_entry
from chronocam.engines.torch.layers import Layers
from chronocam.engines.torch.replica import Forward, Replica
from chronocam.engines.torch.taps import Cut, Tap
from chronocam.engines.torch.tensors import vjp
from chronocam.errors import LayerError, ModelError


class Chunks:
    """One pass in chunks of `size` of all `rows` frames, for the layers that `taps` are at.

    features: what the module returned for all frames; a leaf of the graph where `differentiate`.
    inner: the taps inside the module.
    """

    def __init__(self, rows: int, size: int, taps: Mapping[str, Tap], differentiate: bool) -> None:
        self.rows: int = rows
        self.size: int = size
        self.taps: Mapping[str, Tap] = taps
        self.differentiate: bool = differentiate
        self.inner: dict[str, Tap] = {}
        self.features: Tensor | None = None
        self.path: str = ""
        self._run: Callable[[Tensor], Any]
        self._frames: Tensor
        self._running = False

    def cut(self, replica: Replica, layers: Layers) -> None:
        """Let the outermost module of a replica that holds a tap and gets all frames run in chunks.

        Its `forward` is replaced: a hook sees a call, and cannot make several of one.
        """
        parts = [split_entry(layer)[0].split(".") for layer in self.taps]
        paths = dict.fromkeys(".".join(part[:end]) for part in parts for end in range(1, len(part) + 1))
        modules = {path: layers[layers.resolve(path)] for path in paths}
        for module, path in {module: path for path, module in modules.items()}.items():
            replica.replace(module, partial(self._wrap, path, module))

    def _wrap(self, path: str, module: nn.Module, forward: Forward) -> Forward:
        return partial(self._forward, path, module, forward)

    def _forward(self, path: str, module: nn.Module, forward: Forward, *args: Any, **kwargs: Any) -> Any:
        # Every module on the way to a tap comes here. Which of them sees all frames folded into the batch
        # shows only when it is called: the first with so many rows is the outermost. Within it, chunks run
        # as usual.
        frames = args[0] if args else None
        if self._running or not isinstance(frames, Tensor) or len(frames) != self.rows:
            return forward(*args, **kwargs)
        if self.features is not None:
            problem = f"`{self.path}` and then `{path}` get all frames"
            raise LayerError(
                f"{problem}, and chunk_frames= works for one look at them; explain one layer at a time"
            )
        if frames.requires_grad:
            raise LayerError(
                f"chunk_frames= keeps no gradient before `{path}`; explain the layers before it without"
            )
        if any(m.training for m in module.modules()):
            raise ModelError(
                f"`{path}` is in training mode, where a second look differs; call model.eval() first"
            )
        self.path, self._frames, self._run = path, frames, lambda chunk: forward(chunk, *args[1:], **kwargs)
        self.inner = {layer: tap for layer, tap in self.taps.items() if layer.startswith(f"{path}.")}
        self.features = self._first_look(path)
        if not self.differentiate:
            return self.features
        # From here on there is a graph, and its leaf is these features: taps after them must not cut again.
        torch.set_grad_enabled(True)
        for tap in self.taps.values():
            if tap.cut is not None:
                tap.cut.leaf_exists = True
        return self.features.requires_grad_().clone()

    def _first_look(self, path: str) -> Tensor:
        features: list[Tensor] = []
        calls: dict[str, list[list[Tensor]]] = {layer: [] for layer in self.inner}
        cuts = {layer: tap.cut for layer, tap in self.inner.items()}
        for chunk in torch.split(self._frames, self.size):
            output = self._look(chunk, None)
            if not isinstance(output, Tensor) or len(output) != len(chunk):
                raise LayerError(
                    f"`{path}` does not return one row per frame; chunk_frames= cannot cut there"
                )
            features.append(output)
            for layer, tap in self.inner.items():
                calls[layer].append(tap.outputs)
        # Taps hold one chunk at a time; joined, their outputs are those of all frames, as without chunks.
        for layer, tap in self.inner.items():
            tap.cut, tap.outputs = cuts[layer], [torch.cat(each) for each in zip(*calls[layer], strict=True)]
        return torch.cat(features)

    def _look(self, chunk: Tensor, cut: Cut | None) -> Any:
        for tap in self.inner.values():
            tap.restart(cut)
        self._running = True
        try:
            with torch.no_grad():  # left by the first tap where there is a cut
                return self._run(chunk)
        finally:
            self._running = False

    def gradients(self, upstream: Tensor) -> dict[str, list[Tensor | None]]:
        """Return `(target, *shape)` per call of the layers inside, given the gradients at the features."""
        # The second look overwrites what the taps recorded in the first, which the recording still needs.
        before = {layer: (tap.cut, tap.outputs) for layer, tap in self.inner.items()}
        parts = list(self._second_look(upstream))
        for layer, tap in self.inner.items():
            tap.cut, tap.outputs = before[layer]
        for layer, tap in self.inner.items():
            if len(tap.outputs) > len(parts[0][layer]):
                raise LayerError(
                    f"`{layer}` is also called outside `{self.path}`; name the call: `{layer}#0`"
                )
        return {
            layer: [
                None if calls[0] is None else torch.cat(calls, dim=1)
                for calls in zip(*(part[layer] for part in parts), strict=True)
            ]
            for layer in self.inner
        }

    def _second_look(self, upstream: Tensor) -> Iterator[dict[str, list[Tensor | None]]]:
        for chunk, above in zip(
            torch.split(self._frames, self.size), torch.split(upstream, self.size, dim=1), strict=True
        ):
            features = self._look(chunk, Cut())
            outputs = [t for tap in self.inner.values() for t in tap.outputs]
            flat = iter(vjp(features, outputs, above))
            yield {layer: [next(flat) for _ in tap.outputs] for layer, tap in self.inner.items()}
