"""Methods of other libraries of the field, judged on the same inputs where they are installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from chronocam.errors import InputError, suggest
from chronocam.maps.resample import resample

LIBRARIES: Final = {"captum": "captum.attr", "torchcam": "torchcam.methods", "grad-cam": "pytorch_grad_cam"}


def is_peer(name: str) -> bool:
    """Say whether a name is of a method of another library, such as `captum:LayerGradCam`."""
    return ":" in name


def peer(name: str, model: Any, layer: Any) -> Callable[[np.ndarray, Any], np.ndarray]:
    """Return a function of inputs and a class that runs a method of another library.

    layer: the path of the layer; None is the one that Grad-CAM takes by itself.

    Raises InputError for an unknown library or method, and for one that is not installed.
    """
    library, _, method = name.partition(":")
    if library not in LIBRARIES:
        hint = suggest(library, list(LIBRARIES)) or f"; choose one of {', '.join(LIBRARIES)}"
        raise InputError(f"no library `{library}`{hint}")
    try:
        module = importlib.import_module(LIBRARIES[library])
    except ImportError as error:
        raise InputError(f"`{name}` needs the package {library}; pip install {library}") from error
    made = getattr(module, method, None)
    if not isinstance(made, type):
        raise InputError(f"{library} has no method `{method}`{suggest(method, dir(module))}")

    def explain(inputs: np.ndarray, target: Any) -> np.ndarray:
        import torch

        from chronocam.methods import GradCAM

        x = torch.as_tensor(inputs, device=next(model.parameters()).device)
        path = layer or GradCAM(model).explain(x[:1], target).layer
        # Any of them leaves hooks or gradients behind on what it explains: it gets a copy.
        maps = _RUNS[library](made, _copied(model), path, x, int(target))
        return resample(np.asarray(maps, np.float32), x.shape[2:], "linear")[:, 0]

    return explain


def _copied(model: Any) -> Any:
    from copy import deepcopy

    return deepcopy(model)


def _captum(made: type, model: Any, path: str, x: Any, index: int) -> np.ndarray:
    of_layer = "Layer" in made.__name__ or made.__name__ == "GuidedGradCam"
    method = made(model, model.get_submodule(path)) if of_layer else made(model)
    attributions = method.attribute(x, target=index)
    return np.asarray(attributions.detach().sum(dim=1, keepdim=True))


def _torchcam(made: type, model: Any, path: str, x: Any, index: int) -> np.ndarray:
    with made(model, path) as method:
        scores = model(x)
        maps = method(index, scores)[0]
    return np.asarray(maps.detach())[:, None]


def _grad_cam(made: type, model: Any, path: str, x: Any, index: int) -> np.ndarray:
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with made(model=model, target_layers=[model.get_submodule(path)]) as method:
        maps = method(input_tensor=x, targets=[ClassifierOutputTarget(index)] * len(x))
    return np.asarray(maps)[:, None]


_RUNS: Final = {"captum": _captum, "torchcam": _torchcam, "grad-cam": _grad_cam}
