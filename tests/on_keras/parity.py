"""`parity.py save FOLDER NAME…` writes networks; `parity.py maps FOLDER OUT NAME…` writes their maps."""

import sys
from pathlib import Path

import keras
import numpy as np
from networks import LARGE, SMALL, samples

import chronocam as cc

CAMS = ("gradcam", "hirescam", "gradcam++", "layercam")
METHODS = (*CAMS, "saliency", "guidedbackprop")
NETWORKS = SMALL | LARGE


def save(folder: Path, names: list[str]) -> None:
    for name in names:
        model = NETWORKS[name][0]()
        model.save(folder / f"{name}.keras")
        np.save(folder / f"{name}.x.npy", samples(NETWORKS[name][2]))
        pairs = enumerate(zip(model.weights, model.get_weights(), strict=True))
        weights = {f"{i:04d}|{v.path}": w for i, (v, w) in pairs}
        np.savez(folder / f"{name}.npz", **weights)


def maps(folder: Path, out: Path, names: list[str]) -> None:
    found: dict[str, np.ndarray] = {}
    for name in names:
        _, layer, shape = NETWORKS[name]
        model = keras.saving.load_model(folder / f"{name}.keras")
        places = [None] if layer is None else [layer, None]
        made = cc.explain(
            model, samples(shape), [0, 2], methods=CAMS if name in LARGE else METHODS, layers=places
        )
        *_, default = (e.layer for e in made.values() if e.method == "gradcam")
        for key, explanation in made.items():
            if key.partition("@")[2] in ("", layer):
                found[f"{name} {explanation.method}"] = explanation.maps
        found[f"{name} scores"] = next(iter(made.values())).scores
        found[f"{name} default"] = np.array(default)
    np.savez(out, **found)


if __name__ == "__main__":
    action, folder, *rest = sys.argv[1:]
    if action == "save":
        save(Path(folder), rest)
    else:
        maps(Path(folder), Path(rest[0]), rest[1:])
