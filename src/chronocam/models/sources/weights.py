"""`PATH.safetensors@ARCHITECTURE`: weights alone, into an architecture that another source builds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from chronocam.errors import ModelError, first_line
from chronocam.models.specs import PATH, Model, ModelRequest, ModelSource, Parts, need, resolve, sources

Weights: TypeAlias = Mapping[str, Any]


def _load(request: ModelRequest) -> Parts:
    weights = _read(request)
    source, inner = resolve(request.names[1])
    if source.build is None:
        forms = ", ".join(source.form for source in sources() if source.build is not None)
        raise request.error(f"`{inner.text}` is not an architecture", f"expected one of {forms}")
    parts = source.build(inner)
    classes = _other_classes(parts[0].state_dict(), weights)
    if classes is not None:
        parts = source.build(replace(inner, classes=classes))
    _fill(parts[0], weights, request)
    return parts


def _read(request: ModelRequest) -> Weights:
    path = request.file()
    try:
        if path.suffix == ".safetensors":
            weights: Weights = need("safetensors.torch", "torch").load_file(path)
            return weights
        content = need("torch", "torch").load(path, map_location="cpu", weights_only=not request.trust)
    except ModelError:
        raise
    except Exception as error:  # a damaged file, or a pickle that wants to run code
        raise request.error(
            f"cannot be read as weights ({first_line(error)})",
            "expected a dict of tensors; a file that holds more needs trust=True (--trust)",
        ) from error
    return _unwrap(content, request)


def _unwrap(content: object, request: ModelRequest) -> Weights:
    """Return the weights of a checkpoint, without its wrapper and without DataParallel's prefix."""
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(hasattr(value, "shape") for value in content.values()):
        raise request.error(f"holds a {type(content).__name__}", "expected a dict of tensors")
    prefix = "module." if all(key.startswith("module.") for key in content) else ""
    return {key.removeprefix(prefix): value for key, value in content.items()}


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
    "PATH.safetensors|.pth|.pt@ARCHITECTURE",
    rf"({PATH}\.(?:safetensors|pth|pt))@(.+)",
    _load,
    about="weights of your own in an architecture of any of these sources",
)
