"""Regression: what maps mark as positive raises the output, and what they mark as negative lowers it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import chronocam as cc
from benchmarks.claims.tables import Table
from chronocam.evaluation.case import Case
from chronocam.metrics import bootstrap, random_maps
from chronocam.targets import Regression

SHARE = 0.1  # of the cells that are blurred
METHODS = (
    "gradcam",
    "hirescam",
    "layercam",
    "inputxgradient",
    "integratedgradients",
    "saliency",
    "occlusion",
)
RANDOM = 5  # random orders


def steering(data: Path) -> Table:
    """Return how the angle changes; pictures and their mirror images count as one each."""
    import keras

    model = keras.saving.load_model(data / "pilotnet.keras")
    x = np.load(data / "inputs.npz")["x"].astype(np.float32)
    pairs = np.stack([x, x[:, :, ::-1]], axis=1)
    layer = [one.name for one in model.layers if type(one).__name__ == "Conv2D"][2]
    return _moved(model, pairs, layer, channels=-1)


def age(data: Path, faces: list[np.ndarray]) -> Table:
    """Return how the age changes, in years."""
    spec = importlib.util.spec_from_file_location("age_net", data / "age_net.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(data / "age_net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from safetensors.torch import load_file

    model = module.AgeNet()
    model.load_state_dict(load_file(data / "age_net.safetensors"), strict=False)
    x = np.stack(faces).transpose(0, 3, 1, 2)[:, None]
    return _moved(model.eval(), x, None, channels=1)


def faces(data: Path) -> list[np.ndarray]:
    """Return pictures of faces, 112 × 112, 0 to 1."""
    from skimage import data as pictures

    found = [Image.open(path) for path in sorted((data / "real/emotion").glob("*.png"))]
    found.append(Image.fromarray(pictures.astronaut()[40:250, 120:330]))
    return [np.asarray(one.convert("RGB").resize((112, 112)), np.float32) / 255 for one in found]


def _moved(model: Any, groups: np.ndarray, layer: str | None, channels: int) -> Table:
    """Return the change of the output where each method's most positive and most negative cells are blurred.

    groups: inputs `(picture, version, …)`; versions of one picture are no evidence of their own.
    """
    flat = groups.reshape(-1, *groups.shape[2:])
    output = _output(model)
    before = output(flat)
    table: Table = {}
    chance = np.mean([_removed(output, flat, _noise(flat, channels, k), channels) for k in range(RANDOM)], 0)
    for method in METHODS:
        places = {} if method in METHODS[3:] else {"conv_layer": layer}
        explained = cc.methods.METHODS[method](model, **places).explain(flat, Regression())
        maps = explained.upsample()[:, 0]
        moved = {
            "most positive": _removed(output, flat, maps, channels) - before,
            "most negative": _removed(output, flat, -maps, channels) - before,
            "random places": chance - before,
        }
        for name in ("most positive", "most negative"):
            moved[f"{name} − random places"] = moved[name] - moved["random places"]
        table[method] = {
            name: bootstrap(values.reshape(groups.shape[:2]).mean(axis=1)) for name, values in moved.items()
        }
    return table


def _removed(
    output: Callable[[np.ndarray], np.ndarray], x: np.ndarray, maps: np.ndarray, channels: int
) -> np.ndarray:
    """Return the output where the highest cells of each map are blurred."""
    changed = []
    for one, values in zip(np.moveaxis(x, channels, 1), maps, strict=True):
        case = Case(one, 0.0, 0.0, None, 0, None, seed=0)
        ranks = case.cells(values).rank[0].reshape(values.shape)
        changed.append(case.hidden(ranks >= round(SHARE * ranks.size), "blur").make())
    return output(np.moveaxis(np.stack(changed), 1, channels))


def _noise(x: np.ndarray, channels: int, seed: int) -> np.ndarray:
    size = np.moveaxis(x, channels, 1).shape[2:]
    return random_maps(len(x), tuple(max(2, n // 8) for n in size), size, seed=seed)


def _output(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    def of(x: np.ndarray) -> np.ndarray:
        if hasattr(model, "predict_on_batch"):
            return np.asarray(model.predict_on_batch(x)).reshape(len(x))
        import torch

        with torch.inference_mode():
            return model(torch.from_numpy(np.ascontiguousarray(x))).numpy().reshape(len(x))

    return of
