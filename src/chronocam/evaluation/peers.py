"""Methods of other libraries of the field, judged on the same inputs where they are installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from chronocam.errors import InputError, suggest
from chronocam.joint.scores import channel_axis_of
from chronocam.maps.resample import resample
from chronocam.methods import GradCAM, Saliency

LIBRARIES: Final = {"captum": "captum.attr", "torchcam": "torchcam.methods", "grad-cam": "pytorch_grad_cam"}


def is_peer(name: str) -> bool:
    """Say whether a name is of a method of another library, such as `captum:LayerGradCam`."""
    return ":" in name


def peers(name: str, model: Any, layers: Sequence[Any]) -> dict[str, Callable[[np.ndarray, Any], np.ndarray]]:
    """Return functions of a method of another library by their names: one for each of several layers.

    Raises InputError as `peer`.
    """
    at_layer = not name.startswith("captum:") or "Layer" in name or name.endswith(":GuidedGradCam")
    if len(layers) == 1 or not at_layer:
        return {name: peer(name, model, layers[0])}
    return {f"{name}@{layer}": peer(name, model, layer) for layer in layers}


def peer(name: str, model: Any, layer: Any) -> Callable[[np.ndarray, Any], np.ndarray]:
    """Return a function of inputs and a class that runs a method of another library.

    layer: the path of the layer; None is the one that Grad-CAM takes by itself.

    Raises InputError for an unknown library or method, and for one that is not installed.
    """
    library, _, method = name.partition(":")
    if library not in LIBRARIES:
        hint = suggest(library, list(LIBRARIES)) or f"; choose one of {', '.join(LIBRARIES)}"
        raise InputError(f"no library `{library}`{hint}")
    if not hasattr(model, "parameters"):
        raise InputError(f"`{name}` needs a PyTorch model, not a {type(model).__name__}")
    try:
        module = importlib.import_module(LIBRARIES[library])
    except ImportError as error:
        raise InputError(f"`{name}` needs the package {library}; pip install {library}") from error
    kind = getattr(module, method, None)
    if not isinstance(kind, type):
        raise InputError(f"{library} has no method `{method}`{suggest(method, dir(module))}")

    def explain(inputs: np.ndarray, target: Any) -> np.ndarray:
        import torch

        x = torch.as_tensor(inputs, device=next(model.parameters()).device)
        index = _index(target, name)
        path = layer or GradCAM(model).explain(x[:1], index).layer
        # Any of them leaves hooks or gradients behind on what it explains: it gets a copy.
        maps = _RUNS[library](kind, _copied(model), path, x, index)
        return _on_grid(np.asarray(maps, np.float32), x, _channels(model, x, target), name)

    return explain


def _index(target: Any, name: str) -> int:
    if not isinstance(target, (int, np.integer)):
        raise InputError(f"`{name}` explains one output by its index; the target is {target}")
    return int(target)


def _channels(model: Any, x: Any, target: Any) -> int:
    axis = channel_axis_of(Saliency(model), x[:1], target)
    if axis is None:
        raise InputError("methods of other libraries are judged on inputs with an axis of channels")
    return axis


def _on_grid(maps: np.ndarray, x: Any, axis: int, name: str) -> np.ndarray:
    """Return maps `(batch, *grid)` of what a method of another library returned.

    maps: for each input, or for each frame of clips that the layer has folded into the batch; those of the
        shape of the inputs are attributions, summed over the channels.
    """
    if maps.shape == tuple(x.shape):
        return np.asarray(maps.sum(axis=axis))
    grid = tuple(n for k, n in enumerate(x.shape) if k not in (0, axis))
    if axis == 2 and len(maps) == x.shape[0] * x.shape[1]:
        maps = maps.reshape(*x.shape[:2], *maps.shape[1:])
    if maps.ndim != 1 + len(grid) or len(maps) != len(x):
        raise InputError(f"`{name}` returned shape {maps.shape} for inputs of shape {tuple(x.shape)}")
    return np.asarray(resample(maps[:, None], grid, "linear"))[:, 0]


def _copied(model: Any) -> Any:
    from copy import deepcopy

    return deepcopy(model)


def _captum(kind: type, model: Any, path: str, x: Any, index: int) -> np.ndarray:
    of_layer = "Layer" in kind.__name__ or kind.__name__ == "GuidedGradCam"
    method = kind(model, model.get_submodule(path)) if of_layer else kind(model)
    attributions = method.attribute(x, target=index).detach()
    return np.asarray(attributions if attributions.shape == x.shape else attributions.sum(dim=1))


def _torchcam(kind: type, model: Any, path: str, x: Any, index: int) -> np.ndarray:
    with kind(model, path) as method:
        scores = model(x)
        maps = method(index, scores)[0]
    return np.asarray(maps.detach())


def _grad_cam(kind: type, model: Any, path: str, x: Any, index: int) -> np.ndarray:
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with kind(model=model, target_layers=[model.get_submodule(path)]) as method:
        maps = method(input_tensor=x, targets=[ClassifierOutputTarget(index)] * len(x))
    return np.asarray(maps)


_RUNS: Final = {"captum": _captum, "torchcam": _torchcam, "grad-cam": _grad_cam}
