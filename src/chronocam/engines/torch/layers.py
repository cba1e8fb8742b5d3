"""The modules of a PyTorch model by path, and the calls of them that are named `path#call`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any, SupportsIndex, TypeAlias

import torch
from torch import Tensor, nn

from chronocam.engines.names import child_at, split_call, split_entry, unknown_layer
from chronocam.engines.torch.replica import DISTRIBUTING, Copies, Replica
from chronocam.engines.torch.scope import attribute, lacks, loose_modules, walk
from chronocam.engines.torch.state import State
from chronocam.errors import LayerError, ModelError
from chronocam.layouts.base import Stem
from chronocam.types import INPUT

LayerLike: TypeAlias = "str | SupportsIndex | nn.Module"
"""A layer as users name it: its number, itself, or its path.

`layer4`; `relu#1` for its second call; `fpn[1]` or `fpn[p3]` for one of several outputs.
"""


class Layers(Mapping[str, nn.Module]):
    """The modules of a model by path, the model itself under the empty path.

    Wrappers (DataParallel, torch.compile) are looked through.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model: nn.Module = unwrap(model)
        if self.model is not model and (model._forward_hooks or model._forward_pre_hooks):
            raise ModelError(
                f"the {type(model).__name__} around the model is looked through, and has forward hooks of "
                f"its own; register them on the {type(self.model).__name__} inside"
            )
        if isinstance(self.model, torch.jit.ScriptModule):
            raise ModelError(
                "a TorchScript module hides its layers; give the Python module or a `.pt2` export"
            )
        loose = loose_modules(self.model)
        self._named = _Named(self.model, walk(self.model, loose.values()), loose)
        self._state: State | None = None
        self._begun: State | None = None

    def now(self) -> State:
        """Return the model as it is now; modules that were replaced take their paths."""
        state = self._state  # read once, since another thread may replace it
        if state is None or not state.holds():
            self._state = state = State(self._walked())
        return state

    @property
    def latest(self) -> State:
        """The model as it was when it was last looked at."""
        state = self._state
        return self.now() if state is None else state

    def begin(self) -> State:
        """Return the model as it is now, at the beginning of a call; the first pass need not look again."""
        self._begun = state = self.now()
        return state

    def begun(self) -> State:
        """Return the model as it was when the call began, for its first pass; for others as it is now."""
        state, self._begun = self._begun, None
        return self.now() if state is None else state

    def walk(self) -> Sequence[nn.Module]:
        """Return the modules that the model has now."""
        return self.now().modules

    def _walked(self) -> list[nn.Module]:
        modules = walk(self.model, self._named.loose)
        # Naming takes several times as long as walking, and models rarely change between two calls.
        if modules != self._named.modules:
            loose = loose_modules(self.model)
            modules = walk(self.model, loose.values())
            self._named = _Named(self.model, modules, loose)
        return modules

    @property
    def rows_of_blocks(self) -> dict[str, Any]:
        """The row of blocks that is near a layer (`engines.torch.blocks.Row`), as far as it was found out."""
        return self._named.rows_of_blocks

    def replica(self, state: State | None = None) -> Replica:
        """Return a replica of the model as it is now, with its layers by the same paths.

        state: what `now` returned just now.
        """
        if state is None:
            state = self.now()
        spare = state.spare
        # Each pass has copies of its own: those of an earlier one, or new ones while other threads run.
        # Asked whether there are any, another thread might take the last before they are taken here.
        try:
            copies = spare.pop()
        except IndexError:
            copies = Copies(state.members)
        return Replica(copies, self, spare)

    def __getitem__(self, layer: str) -> nn.Module:
        return self._named.by_path[split_entry(layer)[0]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._named.by_path)

    def __len__(self) -> int:
        return len(self._named.by_path)

    def resolve(self, layer: LayerLike) -> str:
        """Return the path of a layer. Raises LayerError for an unknown one."""
        self.walk()
        named, suffix = self._named, ""
        if isinstance(layer, nn.Module):
            path = named.paths.get(unwrap(layer), "")
            if not path:
                kind = type(layer).__name__
                raise LayerError(f"the given {kind} is not a layer of this {type(self.model).__name__}")
        elif isinstance(layer, Integral):
            path = child_at(int(layer), [name for name, _ in self.model.named_children()])
        elif layer == INPUT:
            return INPUT
        else:
            whole, call = split_call(_plain(str(layer)))
            path, _ = split_entry(whole)
            suffix = whole.removeprefix(path) + ("" if call is None else f"#{call}")
            if not path or path not in named.names:
                raise unknown_layer(layer, [path for path in named.names if path])
            path = named.paths[named.names[path]]
        if isinstance(named.by_path[path], torch.jit.ScriptModule):
            raise LayerError(f"layer `{path}` is TorchScript, which cannot be looked into; choose another")
        return path + suffix

    @property
    def labels(self) -> Sequence[str] | None:
        """The class names that the model carries.

        As `model.labels`, in `config.id2label` (Hugging Face), or by number in `model.names` (ultralytics).
        """
        if lacks(self.model, "labels") and lacks(self.model, "config") and lacks(self.model, "names"):
            return None
        labels: Sequence[str] | None = attribute(self.model, "labels")
        names = getattr(attribute(self.model, "config"), "id2label", attribute(self.model, "names"))
        if isinstance(names, (list, tuple)):
            names = dict(enumerate(names))
        known = isinstance(names, Mapping) and all(isinstance(key, int) for key in names)
        if labels is None and names and known and all(isinstance(one, str) for one in names.values()):
            return [names.get(i, f"class {i}") for i in range(max(names) + 1)]
        return labels

    @property
    def stem(self) -> Stem | None:
        """The first convolution; None for a model without any."""
        first = self._named.convolution
        return None if first is None else Stem(len(first.kernel_size), first.in_channels)

    @property
    def features(self) -> int | None:
        """How many features of each step a model of sequences takes; see `Engine.features`."""
        steps = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
        first = next((m for m in self.values() if isinstance(m, (nn.Linear, *steps))), None)
        if first is None or (self.stem is not None and self.stem.rank > 1):
            return None
        widths = {nn.Linear: "in_features", nn.MultiheadAttention: "embed_dim"}
        name = next((width for kind, width in widths.items() if isinstance(first, kind)), "input_size")
        return int(getattr(first, name))

    def kernels(self) -> dict[str, Tensor]:
        """Return the kernels `(filter, channel, *grid)` of the convolutions by path, in their order."""
        plain = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
        # Of a replica: a spectral norm in training mode takes a step each time its weight is read.
        copies = self.replica().items()
        return {path: module.weight for path, module in copies if isinstance(module, plain)}


class _Named:
    """The modules of a model by path: each by all its names, and each by its first.

    It is made as a whole, since other threads may ask meanwhile.
    """

    def __init__(self, model: nn.Module, modules: list[nn.Module], loose: Mapping[str, nn.Module]) -> None:
        self.modules = modules
        self.loose = list(loose.values())
        roots = {"": model, **loose}
        self.names: dict[str, nn.Module] = {
            _plain(path): module
            for prefix, root in roots.items()
            for path, module in root.named_modules(prefix=prefix, remove_duplicate=False)
        }
        self.paths: dict[nn.Module, str] = {}
        for path, module in self.names.items():
            self.paths.setdefault(module, path)
        self.rows_of_blocks: dict[str, Any] = {}
        self.by_path: dict[str, nn.Module] = {path: module for module, path in self.paths.items()}
        convolutions = (m for m in self.paths if isinstance(m, nn.modules.conv._ConvNd))
        self.convolution: Any = next(convolutions, None)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the module inside DataParallel, DistributedDataParallel and torch.compile wrappers."""
    # Wrappers nest: torch.compile(DataParallel(model)) is one in the other.
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, DISTRIBUTING):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _plain(path: str) -> str:
    """Return the path that a layer has without the compilation of the modules that hold it."""
    return ".".join(part for part in path.split(".") if part != "_orig_mod")
