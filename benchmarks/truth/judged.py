"""Who is judged: every method of the library, those of other libraries that are installed, and controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import nn

import chronocam as cc
from benchmarks.truth.keras_copy import tf_keras_vis
from benchmarks.truth.worlds import Case, World
from chronocam.errors import LayerError
from chronocam.evaluation.panel import edges
from chronocam.evaluation.peers import peer
from chronocam.metrics import centre_prior, random_maps

Judged: TypeAlias = Callable[[Case], np.ndarray]
"""Takes a case and returns a map on the input's grid, or a curve over the frames."""

BUDGET: Final = 256  # forward passes of a map by random masks
OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "rise": {"budget": BUDGET, "until": None},
    "kernelshap": {"budget": BUDGET, "until": None},
    "lime": {"budget": BUDGET, "until": None},
    "extremalperturbation": {"steps": 40},
    "sscam": {"samples": 4},
    "iscam": {"steps": 4},
    "temporalmask": {"steps": 60},
}
"""Of methods whose own take too long for so many inputs; all others are as they come."""

SIGNED: Final = ("gradcam", "hirescam", "layercam")
"""Methods that are also judged without the cut at zero that a class's map ends in."""

SLOW: Final = (
    *("rise", "kernelshap", "lime", "extremalperturbation", "blurig", "occlusion", "sscam", "iscam"),
    "temporalmask",
)
"""Methods of many passes: of the clips they are judged on the first network alone."""

CAPTUM: Final = (
    *("LayerGradCam", "Saliency", "InputXGradient", "IntegratedGradients", "GuidedBackprop"),
    *("GuidedGradCam", "Deconvolution", "DeepLift", "LayerGradientXActivation"),
)
TORCHCAM: Final = ("GradCAM", "GradCAMpp", "SmoothGradCAMpp", "XGradCAM", "LayerCAM", "ScoreCAM")
GRAD_CAM: Final = (
    *("GradCAM", "HiResCAM", "GradCAMElementWise", "GradCAMPlusPlus", "XGradCAM", "AblationCAM", "ScoreCAM"),
    *("EigenCAM", "EigenGradCAM", "LayerCAM", "FullGrad", "KPCA_CAM", "FEM", "ShapleyCAM"),
)
PEERS: Final = (
    *(f"captum:{name}" for name in CAPTUM),
    *(f"torchcam:{name}" for name in TORCHCAM),
    *(f"grad-cam:{name}" for name in GRAD_CAM),
)


class _Output(nn.Module):
    """A network whose output is a batch of logits: of one step, where it has one for each."""

    def __init__(self, inner: nn.Module, step: int | None) -> None:
        super().__init__()
        self.inner = inner
        self.step = step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.inner(x)
        out = out["logits"] if isinstance(out, dict) else out
        return out if self.step is None else out[:, self.step]


def judged(world: World) -> dict[str, Judged]:
    """Return all who can be asked for a map of the cases of a world."""
    found: dict[str, Judged] = {}
    if world.cases[0].inputs.ndim > 3:
        names = [name for name in cc.methods.METHODS if not (world.quick and name in SLOW)]
        found |= {name: _method(world, name) for name in names}
        found |= {f"{name}, signed": _method(world, name, signed=True) for name in SIGNED}
    if world.cases[0].features is not None:
        found |= {f"sequence.{name}": _relevance(world, name) for name in cc.sequence.METHODS}
    if getattr(world.model, "attention", None) is not None:
        found["attention weights"] = lambda case: _attention(world.model, case)
    output = _Output(world.model, world.step).eval()
    found |= {name: _peer(output, name) for name in PEERS}
    if world.title == "Digits":
        found |= tf_keras_vis(world.model)
    return found | {
        "random map": lambda case: random_maps(1, _coarse(case), _grid(case), seed=case.number)[0],
        "centre prior": lambda case: centre_prior(_grid(case)),
        "edges": lambda case: edges(_laid(case)),
    }


def _method(world: World, name: str, **options: Any) -> Judged:
    options = {**OPTIONS.get(name, {}), **options}
    if name == "expectedgradients":
        options["baseline"] = np.concatenate([case.inputs for case in world.cases])

    def explain(case: Case) -> np.ndarray:
        method = cc.methods.METHODS[name](world.model, **options)
        return np.asarray(method.explain(case.inputs, case.target).upsample()[0, 0])

    return explain


def _relevance(world: World, name: str) -> Judged:
    def explain(case: Case) -> np.ndarray:
        method = cc.sequence.METHODS[name](world.model)
        return np.asarray(method.explain(case.features, case.target).relevance[0, 0].sum(axis=-1))

    return explain


def _attention(model: nn.Module, case: Case) -> np.ndarray:
    with torch.inference_mode():
        return np.asarray(model(torch.from_numpy(case.inputs))["attention"][0])


def _peer(model: nn.Module, name: str) -> Judged:
    explain: list[Any] = []

    def of(case: Case) -> np.ndarray:
        if case.inputs.ndim == 3:
            return _of_sequence(model, name, case)
        if not explain:
            explain.append(peer(name, model, None))
        return np.asarray(explain[0](case.inputs, case.index)[0])

    return of


def _of_sequence(model: nn.Module, name: str, case: Case) -> np.ndarray:
    """Return what captum attributes to each step of an input without places."""
    import captum.attr

    library, _, method = name.partition(":")
    if library != "captum" or "Layer" in method or method == "GuidedGradCam":
        raise LayerError("it needs a grid")
    x = torch.from_numpy(case.inputs)
    values = getattr(captum.attr, method)(model).attribute(x, target=case.index)
    return np.asarray(values.detach()[0].sum(axis=-1))


def _laid(case: Case) -> np.ndarray:
    """Return the input with its channels first."""
    x = case.inputs[0]
    if x.ndim == 4 and x.shape[1] == 3:
        return np.moveaxis(x, 1, 0)
    return x.T if x.ndim == 2 else x


def _grid(case: Case) -> tuple[int, ...]:
    return tuple(_laid(case).shape[1:])


def _coarse(case: Case) -> tuple[int, ...]:
    """Return a grid of cells for noise, about that of a layer."""
    grid = _grid(case)
    return tuple(n if len(grid) == 1 or (len(grid) == 3 and k == 0) else n // 8 for k, n in enumerate(grid))
