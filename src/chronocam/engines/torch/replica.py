"""Replicas of PyTorch models: the modules are copies, the parameters are the model's own.

All that a pass does to a model is done to its replica, as `DataParallel` does to its own: hooks, other
forwards, the statistics of BatchNorm. So another thread that runs the model meets none of it, nothing has to
be undone afterwards, and an interrupt leaves nothing behind.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from types import MethodType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from chronocam.engines.structure import Snapshot
from chronocam.engines.twins import Twins

Forward: TypeAlias = Callable[..., Any]
"""A module's `forward`: what it takes and returns is the model's own affair."""

Hook: TypeAlias = Callable[..., object]
"""A forward hook: `(module, args, output)`, and what takes the output's place or None."""

Taps: TypeAlias = list[tuple[Hook, Callable[[], object]]]
"""The taps of a layer with hooks of its own, each with what takes back its last call."""

_VALUES = {bool, int, float, str, type(None)}
_NO_PARTS: dict[str, Any] = {"_modules": None}
DISTRIBUTING = nn.DataParallel, nn.parallel.DistributedDataParallel
"""What runs copies of its `module` elsewhere."""

TABLES = frozenset({"_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"})
"""What modules keep their hooks in."""

ACTING: set[int] = set()
"""The numbers of hooks, which PyTorch gives once, that were seen to change what they see."""

_OF_ALL = {*vars(nn.Module()), "forward"}  # what every module has, and is not looked through


class Copies:
    """The copies of a model's modules, which serve several passes, one after the other.

    hooked are the modules with forward hooks of their own.

    members: what each module holds in its attributes, the model first; unchanged as long as the copies are in
        use. What these values hold in turn may change: see `_is_plain`.

    What a module holds besides its submodules may lead to others (lists of modules, bound methods, hooks);
    what the copy holds leads to their copies. What is compiled runs as it was written, since hooks do not
    fire in compiled code.
    """

    def __init__(self, members: Mapping[nn.Module, dict[str, Any]]) -> None:
        self.modules: list[nn.Module] = list(members)
        self._members = members
        modules = self.modules
        self.hooked: list[nn.Module] = [m for m in modules if m._forward_hooks]
        self.of: dict[nn.Module, nn.Module] = {m: _blank(m) for m in modules}
        wrappers = {m for m in modules if "_orig_mod" in m._modules}
        filled = (m for m in modules if m not in wrappers and not isinstance(m, torch.jit.ScriptModule))
        self._own = {m: self.of[m] for m in filled}
        self.of |= {m: self.of[m.get_submodule("_orig_mod")] for m in wrappers}
        # Filling every copy before each pass would be slow. Only those are filled anew that a pass may have
        # changed; a snapshot of the others shows whether they are still as they were.
        self._refilled = self._own
        self._lasting: Snapshot | None = None
        self._buffers: dict[int, Tensor] = {}

    def fill(self) -> None:
        """Let each copy hold what its module holds now."""
        if not self._refilled:
            return
        self._buffers.clear()
        twins = Twins(nn.Module, lambda module: self.of.get(module, module))
        for module, blank in self._refilled.items():
            self._fill(blank, module, twins)
        if self._lasting is None:
            self._find_lasting()

    def clear(self) -> None:
        """Drop what a pass has left in the copies; modules of PyTorch leave nothing."""
        if self._lasting is None or not self._lasting.holds():
            self._find_lasting()
        for module, blank in self._refilled.items():
            if not _is_of_library(module):
                object.__setattr__(blank, "__dict__", {})

    def _find_lasting(self) -> None:
        """Find the copies that a pass leaves as they are: they need not be filled again."""
        lasting = {m: copy for m, copy in self._own.items() if _is_plain(m) and self._is_filled(m, copy)}
        self._refilled = {m: copy for m, copy in self._own.items() if m not in lasting}
        members = [vars(copy) for copy in lasting.values()]
        own = [one[name] for one in members for name in ("_modules", *TABLES)]
        self._lasting = Snapshot(list(lasting.values()), members, own)

    def _is_filled(self, module: nn.Module, blank: nn.Module) -> bool:
        """Say whether a copy holds what its plain module holds."""
        own, copied = module.__dict__, blank.__dict__
        if parts := own["_modules"]:
            copies = [(name, self.of.get(part, part)) for name, part in parts.items()]
            if copies != list(copied["_modules"].items()):
                return False
            own, copied = own | _NO_PARTS, copied | _NO_PARTS
        try:
            # In one step, which takes what is the same for equal.
            return [*own.values()] == [*copied.values()]
        except Exception:  # tensors or arrays in the place of plain values
            return False

    def _fill(self, blank: nn.Module, module: nn.Module, twins: Twins) -> None:
        # Filled from the snapshot and not from the module: another thread may have changed that since, and
        # may change it back before anyone asks.
        attributes, copies = self._members[module].copy(), self.of
        object.__setattr__(blank, "__dict__", attributes)
        if attributes["_modules"]:
            children = attributes["_modules"].copy()
            attributes["_modules"] = {name: copies.get(child, child) for name, child in children.items()}
        for hooks in TABLES:
            # A table of its own, also an empty one: models may hook their layers while they run, as those of
            # Hugging Face do to collect hidden states.
            own_hooks = attributes[hooks].copy()
            if own_hooks:
                own_hooks = OrderedDict((key, _noted(key, twins.of(hook))) for key, hook in own_hooks.items())
            attributes[hooks] = own_hooks
        library = _is_of_library(module)
        # Modules of PyTorch write into their buffers in training mode alone, others may at any time.
        if attributes["_buffers"] and (attributes["training"] or not library):
            attributes["_buffers"] = {name: self._cloned(x) for name, x in module._buffers.items()}
        if not library:
            attributes["_parameters"] = module._parameters.copy()
            attributes["_buffers"] = attributes["_buffers"].copy()
            for name in attributes.keys() - _OF_ALL:
                attributes[name] = twins.of(attributes[name])
        if isinstance(module, nn.RNNBase):
            attributes["_flat_weights"] = list(module._flat_weights)  # that weight norm writes into
        _run_as_written(attributes, blank, twins)

    def _cloned(self, buffer: Tensor | None) -> Tensor | None:
        """Return a copy of a buffer; the same one for each module that holds it."""
        if buffer is None:
            return None
        if id(buffer) not in self._buffers:
            self._buffers[id(buffer)] = buffer.detach().clone()
        return self._buffers[id(buffer)]


class Replica(Mapping[str, nn.Module]):
    """A model of copies, for one pass, with its `layers` by path.

    spare: where the copies go when they are no longer needed.
    """

    def __init__(self, copies: Copies, layers: Mapping[str, nn.Module], spare: list[Copies]) -> None:
        self._layers = layers
        self._copies = copies.of
        self._hooked = copies.hooked
        self._undo: list[Callable[[], object]] = [lambda: spare.append(copies), copies.clear]
        self._taps: dict[nn.Module, Taps] | None = None
        # The outputs that the model's own hooks are looking at. What they run meanwhile is not recorded: it
        # is not part of this pass.
        self._passed_on: list[object] = []
        copies.fill()
        self.model: nn.Module = self._copies[copies.modules[0]]

    def __getitem__(self, layer: str) -> nn.Module:
        return self._copies[self._layers[layer]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def of(self, module: nn.Module) -> nn.Module:
        """Return the copy of a module."""
        return self._copies[module]

    def hook(self, layer: str, hook: Hook) -> None:
        """Let the copy of a layer call a forward hook."""
        module = self._layers[layer]
        hooks = self._copies[module]._forward_hooks.copy()
        hooks[-1 - len(hooks)] = hook  # PyTorch gives its own hooks numbers from 0 on
        self.put(module, "_forward_hooks", hooks)

    def tap(self, layer: str, hook: Hook, undo: Callable[[], object]) -> None:
        """Let the copy of a layer call a forward hook whose result the model's own hooks see too.

        They may keep what they get, for a later layer to read. Where they return something else, that is what
        the layer returns: then `undo` takes back what the hook did, and it is called once more.
        """

        def outside(module: nn.Module, args: object, output: object) -> object:
            return None if self._passed_on else hook(module, args, output)

        if self._taps is None:
            self._taps = self._bracketed()
        taps = self._taps.get(self._layers[layer])
        if taps is None:
            self.hook(layer, outside)
        else:
            taps.append((hook, undo))

    def _bracketed(self) -> dict[nn.Module, Taps]:
        """Let taps come before and after the model's own hooks; return the layers with any, without taps."""
        every: dict[nn.Module, Taps] = {module: [] for module in self._hooked}
        for module, taps in every.items():
            self._bracket(self._copies[module], taps)
        return every

    def _bracket(self, hooked: nn.Module, taps: Taps) -> None:
        def through(module: nn.Module, args: object, output: object) -> object:
            for tap, _ in taps:
                result = tap(module, args, output)
                output = output if result is None else result
            return output

        def before_others(module: nn.Module, args: object, output: object) -> object:
            result = output if self._passed_on else through(module, args, output)
            self._passed_on.append(result)
            return result

        def after_others(module: nn.Module, args: object, output: object) -> object:
            if output is self._passed_on.pop() or self._passed_on:
                return None
            for _, undo in taps:
                undo()
            return through(module, args, output)

        hooked._forward_hooks = hooked._forward_hooks.copy()
        self._undo.append(hooked.register_forward_hook(before_others, prepend=True).remove)
        self._undo.append(hooked.register_forward_hook(after_others).remove)

    def hook_before(self, layer: str, hook: Callable[..., object]) -> None:
        """Let the copy of a layer call a hook before it runs."""
        hooked = self[layer]
        hooked._forward_pre_hooks = hooked._forward_pre_hooks.copy()
        self._undo.append(hooked.register_forward_pre_hook(hook).remove)

    def replace(self, module: nn.Module, wrap: Callable[[Forward], Forward]) -> None:
        """Let the copy of a module run what `wrap` makes of its `forward`.

        Hooks see a call before and after it, and cannot keep a module from running; its `forward` can.
        """
        replaced = self._copies[module]
        attributes, before = replaced.__dict__, replaced.__dict__.get("forward")
        attributes["forward"] = wrap(replaced.forward)
        undo = (
            partial(attributes.__setitem__, "forward", before)
            if before
            else partial(attributes.pop, "forward")
        )
        self._undo.append(undo)

    def put(self, module: nn.Module, name: str, value: object) -> None:
        """Let the copy of a module hold another value in an attribute that it has."""
        attributes = self._copies[module].__dict__
        self._undo.append(partial(attributes.__setitem__, name, attributes[name]))
        attributes[name] = value

    def close(self) -> None:
        """Drop what was put in: it leads back to the copies, and all would wait for the garbage collector."""
        while self._undo:
            self._undo.pop()()
        self._taps = None


def _is_of_library(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.modules.")


def _is_plain(module: nn.Module) -> bool:
    """Say whether what a module holds shows in its attributes alone, so that a change of it shows, too."""
    attributes = module.__dict__
    if "forward" in attributes or isinstance(module, nn.RNNBase) or any(map(attributes.get, TABLES)):
        return False
    if hasattr(type(module).forward, "_torchdynamo_orig_callable"):
        return False
    if _is_of_library(module):
        return not (attributes["training"] and attributes["_buffers"])
    own = any(
        x is not None for x in chain(attributes["_parameters"].values(), attributes["_buffers"].values())
    )
    return not own and all(type(attributes[name]) in _VALUES for name in attributes.keys() - _OF_ALL)


def _noted(key: int, hook: Hook) -> Hook:
    """Return a hook that is noted where it changes what it sees, and does not only look."""
    if key in ACTING:
        return hook

    def run(*args: object) -> object:
        result = hook(*args)
        if result is not None:
            ACTING.add(key)
        return result

    return run


def _run_as_written(attributes: dict[str, Any], blank: nn.Module, twins: Twins) -> None:
    if isinstance(blank, DISTRIBUTING):
        # It would copy the copy once more, for threads and processes that are not waiting for it.
        attributes["forward"] = attributes["_modules"]["module"]
        return
    attributes.pop("_compiled_call_impl", None)
    own = attributes.get("forward")
    forward: Any = own or type(blank).forward
    compiled = getattr(forward, "_torchdynamo_orig_callable", None)
    if own is not None:
        attributes["forward"] = twins.of(compiled or forward)
    elif compiled is not None:
        attributes["forward"] = MethodType(compiled, blank)


def _blank(module: nn.Module) -> nn.Module:
    # TorchScript keeps its modules where they cannot be replaced, and writes into buffers in training mode.
    if isinstance(module, torch.jit.ScriptModule):
        return copy.deepcopy(module) if module.training else module
    blank: nn.Module = object.__new__(type(module))
    return blank
