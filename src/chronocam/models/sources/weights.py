"""`PATH.safetensors@ARCHITECTURE`: weights alone, into an architecture that another source builds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from chronocam.errors import few, first_line
from chronocam.models.checkpoints import (
    INDEX,
    SUFFIXES,
    Weights,
    described,
    fitted,
    is_scripted,
    read,
    safe_weights,
    wanted_instead,
    weights_in,
    whole_weights,
)
from chronocam.models.specs import PATH, Model, ModelRequest, ModelSource, Parts, need, resolve, sources
from chronocam.models.wants import Wants


def _load(request: ModelRequest) -> Parts:
    weights = _read(request)
    source, inner = resolve(request.names[1])
    if source.build is None:
        forms = ", ".join(source.form for source in sources() if source.build is not None)
        raise request.error(f"`{inner.text}` is not an architecture", f"expected one of {forms}")
    parts = source.build(inner)
    weights = fitted(parts[0].state_dict(), weights)
    grey = _first_of_grey(parts[0].state_dict(), weights)
    classes = _other_classes(parts[0].state_dict(), weights, grey)
    if classes is not None:
        parts = source.build(replace(inner, classes=classes))
    model, recipe, labels = parts
    _reshape(
        model, weights, [*grey, *(_reshaped(model.state_dict(), weights) if classes is not None else ())]
    )
    _fill(model, weights, request)
    names = labels if classes is None or labels is None or len(labels) == classes else None
    return model, Wants(channels="grey").applied(recipe, f"`{request.text}`") if grey else recipe, names


def _read(request: ModelRequest) -> Weights:
    path = request.file()
    if path.suffix.lower() == ".safetensors":
        return safe_weights(path, request)
    if path.name.endswith(INDEX):
        return whole_weights(path, request)
    if is_scripted(path):
        raise request.error(
            "is TorchScript, a whole network and no weights alone",
            f"give it without an architecture ({path}), or save its state_dict()",
        )
    content = read(path, request) if not request.trust else _unpickled(path, request)
    weights = weights_in(content)
    if weights is None:
        raise request.error(f"holds {described(content)}", wanted_instead(content, path))
    return weights


def _unpickled(path: Path, request: ModelRequest) -> object:
    """Return what a trusted file holds; a network gives its weights."""
    torch = need("torch", "torch")
    try:
        content = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # a damaged file, or a class that is not importable here
        raise request.error(
            f"cannot be read as weights ({first_line(error)})", "leave out trust, which weights do not need"
        ) from error
    if isinstance(content, dict):
        return {key: _stated(value, torch) for key, value in content.items()}
    return _stated(content, torch)


def _stated(value: object, torch: ModuleType) -> object:
    return value.state_dict() if isinstance(value, torch.nn.Module) else value


def _first_of_grey(own: Weights, weights: Weights) -> list[str]:
    """Return the kernel of the first convolution, where the file has it for grey pictures."""
    kernels = [key for key in own if own[key].ndim == 4][:1]
    return [
        key
        for key in kernels
        if key in weights and own[key].shape[1] == 3 and weights[key].shape == _with_channel(own[key].shape)
    ]


def _with_channel(shape: Sequence[int]) -> tuple[int, ...]:
    return (shape[0], 1, *shape[2:])


def _reshape(model: Model, weights: Weights, keys: Sequence[str]) -> None:
    """Give parameters of convolutions and linear layers the shapes that they have in a file."""
    torch = need("torch", "torch")
    for key in keys:
        path, _, name = key.rpartition(".")
        module, shape = model.get_submodule(path), weights[key].shape
        if not hasattr(module, "out_features") and not hasattr(module, "out_channels"):
            continue
        setattr(module, name, torch.nn.Parameter(torch.zeros(shape)))
        if name == "weight":
            kind = "features" if hasattr(module, "out_features") else "channels"
            setattr(module, f"out_{kind}", shape[0])
            setattr(module, f"in_{kind}", shape[1] * getattr(module, "groups", 1))


def _other_classes(own: Weights, weights: Weights, others: Sequence[str]) -> int | None:
    """Return the number of classes in the file, where that alone, and what is known, differs."""
    differ = [(own[key].shape, weights[key].shape) for key in _reshaped(own, weights) if key not in others]
    numbers = {tuple(theirs[:1]) for _, theirs in differ}
    alone = len(numbers) == 1 and all(ours[1:] == theirs[1:] for ours, theirs in differ)
    return next(iter(numbers))[0] if alone else None


def _fill(model: Model, weights: Weights, request: ModelRequest) -> None:
    """Load strictly, but for BatchNorm's batch counters: old files lack them and inference ignores them."""
    own = model.state_dict()
    faults = {
        "missing": [key for key in own if key not in weights and not key.endswith("num_batches_tracked")],
        "unexpected": [key for key in weights if key not in own],
        "of another shape": [
            f"{key} {tuple(weights[key].shape)} for {tuple(own[key].shape)}"
            for key in _reshaped(own, weights)
        ],
    }
    problem = ", ".join(f"{len(keys)} {what} ({few(keys)})" for what, keys in faults.items() if keys)
    if problem:
        path, known = request.names[0], sum(key in weights for key in own)
        build = f"build the network as it was trained: {path}@python:module:factory"
        todo = build if 2 * known > len(own) else "check the architecture"
        raise request.error(f"the weights do not fit: {problem}", todo)
    model.load_state_dict(weights, strict=False)


def _reshaped(own: Weights, weights: Weights) -> list[str]:
    return [key for key in own if key in weights and own[key].shape != weights[key].shape]


SOURCE = ModelSource(
    "PATH.safetensors|.pth|.pt|.ckpt|.tar|.bin@ARCHITECTURE",
    rf"({PATH}\.(?:{SUFFIXES}))@(.+)",
    _load,
    about="weights of your own in an architecture of any of these sources",
)
