"""`PATH.pt` or `PATH.pth` alone: a whole network, pickled or as TorchScript."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from warnings import catch_warnings

from chronocam.errors import ModelError, first_line
from chronocam.models.checkpoints import (
    INDEX,
    SUFFIXES,
    Inert,
    described,
    is_scripted,
    read,
    safe_weights,
    wanted_instead,
    weights_in,
    whole_weights,
)
from chronocam.models.recipes import recipe_of
from chronocam.models.specs import PATH, Model, ModelRequest, ModelSource, Parts, need
from chronocam.types import BlackBox

_HIDES: Final = "TorchScript hides its layers: for those give the Python module or a .pt2 export"


def _load(request: ModelRequest) -> Parts:
    path = request.file()
    if path.suffix.lower() == ".safetensors":
        raise _no_network(safe_weights(path, request), request)
    if path.name.endswith(INDEX):
        raise _no_network(whole_weights(path, request), request)
    if is_scripted(path):
        return _scripted(path, request)
    if not request.trust:
        raise _refusal(path, request)
    torch = need("torch", "torch")
    try:
        model: Model = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # a damaged file, or a class that is not importable here
        raise request.error(f"cannot be unpickled ({first_line(error)})", "expected a network") from error
    if isinstance(model, dict):  # as detectors are published: the network beside its history
        networks = [value for value in model.values() if isinstance(value, torch.nn.Module)]
        named = model.get("model")
        only = networks[0] if len(networks) == 1 else model
        model = named.float() if isinstance(named, torch.nn.Module) else only
    if not isinstance(model, torch.nn.Module):
        raise _no_network(model, request)
    return model, recipe_of(model, request), None


def _scripted(path: Path, request: ModelRequest) -> Parts:
    request.insist_on_trust(
        "a TorchScript file is a program, which runs when it is called",
        "give weights an architecture (PATH.pth@ARCHITECTURE)",
    )
    torch = need("torch", "torch")
    try:
        with catch_warnings(action="ignore", category=FutureWarning):  # that torch.export is to be used
            script = torch.jit.load(path, map_location="cpu").eval()
    except Exception as error:  # a damaged file, another version
        raise request.error(
            f"cannot be read ({first_line(error)})", "expected what torch.jit.save wrote"
        ) from error

    def scores(*arrays: Any) -> Any:
        with torch.no_grad():
            return script(*map(torch.from_numpy, arrays))

    return BlackBox(scores, why=_HIDES), recipe_of(script, request), None


def _refusal(path: Path, request: ModelRequest) -> ModelError:
    """Return why a file is not loaded: it holds weights alone, or a network that needs its code."""
    try:
        content = read(path, request)
    except ModelError:
        content = Inert()
    parts = content.values() if isinstance(content, dict) else [content]
    if weights_in(content) is None and any(isinstance(part, Inert) for part in parts):
        return request.untrusted(
            "a pickled network can run any code while it is loaded",
            f"give its weights an architecture ({request.text}@ARCHITECTURE)",
        )
    return _no_network(content, request)


def _no_network(content: object, request: ModelRequest) -> ModelError:
    """Return the error for a file that holds no network: weights want an architecture."""
    weights = weights_in(content)
    if weights is None:
        return request.error(
            f"holds {described(content)}, no network", wanted_instead(content, Path(request.names[0]))
        )
    first, count = next(iter(weights)), len(weights)
    return request.error(
        f"holds weights alone, {count} tensors from `{first}` on",
        f"name their architecture: {request.text}@torchvision:NAME, @timm:NAME or @python:module:factory",
    )


SOURCE = ModelSource(
    "PATH.pt|.pth|.ckpt",
    rf"({PATH}\.(?:{SUFFIXES}))",
    _load,
    about="a pickled network or TorchScript, both programs: they need --trust",
)
