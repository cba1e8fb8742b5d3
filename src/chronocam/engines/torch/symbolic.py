"""The graph of a PyTorch model, written down without touching what other threads run."""

from __future__ import annotations

from inspect import Parameter, signature

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from chronocam.engines.torch.layers import Layers
from chronocam.engines.torch.replica import Forward, Replica


class _Tracer(fx.Tracer):
    """Follows a replica of a model down to modules of PyTorch, and to norms that do more than theirs.

    `trace` of the base class replaces methods of `nn.Module`, and so of all models, while it runs: here the
    modules of the replica have a `forward` of their own, and nodes of the graph for parameters and buffers.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.root = model
        self.tensor_attrs = {}
        self.submodule_paths: dict[nn.Module, str] = {}

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return bool(path) and (isinstance(module, _BatchNorm) or super().is_leaf_module(module, path))

    def written(self) -> fx.Graph:
        """Return the graph of the model. Raises what the model raises where no graph can be followed."""
        layers = Layers(self.root)
        replica = layers.replica()
        try:
            for path, module in layers.items():
                self._put_in(replica, path, module)
            output = replica.model(*map(self._input, signature(self.root.forward).parameters.values()))
        finally:
            replica.close()
        self.create_node("output", "output", (self.create_arg(output),), {})
        return self.graph

    def _put_in(self, replica: Replica, path: str, module: nn.Module) -> None:
        blank = replica.of(module)
        self.submodule_paths[blank] = path
        for kind in ("_parameters", "_buffers"):
            nodes = {name: self._read(path, name, x) for name, x in getattr(module, kind).items()}
            replica.put(module, kind, nodes)
        replica.replace(module, lambda forward: self._called(blank, forward))

    def _read(self, path: str, name: str, x: torch.Tensor | None) -> fx.Proxy | None:
        return None if x is None else self.create_proxy("get_attr", f"{path}.{name}".lstrip("."), (), {})

    def _called(self, module: nn.Module, forward: Forward) -> Forward:
        return lambda *args, **kwargs: self.call_module(module, forward, args, kwargs)

    def _input(self, parameter: Parameter) -> fx.Proxy:
        return self.create_proxy("placeholder", parameter.name, (), {})


def graph_of(model: nn.Module) -> fx.Graph | None:
    """Return the graph of a model; None where it does what no tracer follows."""
    try:
        return _Tracer(model).written()
    except Exception:  # whatever the model does
        return None
