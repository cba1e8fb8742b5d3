"""`PATH.safetensors@ARCHITECTURE`: weights alone, into an architecture that another source builds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

from chronocam.errors import first_line
from chronocam.models.checkpoints import (
    SUFFIXES,
    Weights,
    described,
    fitted,
    is_scripted,
    read,
    safe_weights,
    weights_in,
)
from chronocam.models.specs import PATH, Model, ModelRequest, ModelSource, Parts, need, resolve, sources


def _load(request: ModelRequest) -> Parts:
    weights = _read(request)
    source, inner = resolve(request.names[1])
    if source.build is None:
        forms = ", ".join(source.form for source in sources() if source.build is not None)
        raise request.error(f"`{inner.text}` is not an architecture", f"expected one of {forms}")
    parts = source.build(inner)
    weights = fitted(parts[0].state_dict(), weights)
    classes = _other_classes(parts[0].state_dict(), weights)
    if classes is not None:
        parts = source.build(replace(inner, classes=classes))
    _fill(parts[0], weights, request)
    return parts


def _read(request: ModelRequest) -> Weights:
    path = request.file()
    if path.suffix == ".safetensors":
        return safe_weights(path, request)
    if is_scripted(path):
        raise request.error(
            "is TorchScript, a whole network and no weights alone",
            f"give it without an architecture ({path}), or save its state_dict()",
        )
    content = read(path, request) if not request.trust else _unpickled(path, request)
    weights = weights_in(content)
    if weights is None:
        raise request.error(
            f"holds {described(content)}",
            "expected a dict of tensors, or a checkpoint with one as `state_dict` or `model`",
        )
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


def _other_classes(own: Weights, weights: Weights) -> int | None:
    """Return the number of classes in the file, where that alone differs from the architecture."""
    differ = [(own[key].shape, weights[key].shape) for key in _reshaped(own, weights)]
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
    problem = ", ".join(f"{len(keys)} {what} ({_few(keys)})" for what, keys in faults.items() if keys)
    if problem:
        raise request.error(f"the weights do not fit: {problem}", "check the architecture")
    model.load_state_dict(weights, strict=False)


def _reshaped(own: Weights, weights: Weights) -> list[str]:
    return [key for key in own if key in weights and own[key].shape != weights[key].shape]


def _few(keys: list[str], limit: int = 3) -> str:
    return ", ".join(keys[:limit]) + (", …" if len(keys) > limit else "")


SOURCE = ModelSource(
    "PATH.safetensors|.pth|.pt|.ckpt|.tar|.bin@ARCHITECTURE",
    rf"({PATH}\.(?:safetensors|{SUFFIXES}))@(.+)",
    _load,
    about="weights of your own in an architecture of any of these sources",
)
