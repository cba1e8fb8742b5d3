"""Which methods find what the score needs, where that is known because it was rendered.

Digits: each picture is rendered again without the digit that is explained. Measured are the pointing game on
its ink, how much of the positive evidence on the ink of both digits is on the right one, and the rank
correlation of what a map puts on the digit with how much the score falls where it is left out. Gestures: two
act at a time, and each clip is rendered again without the one whose action is explained, in all frames and in
each eighth of them. Measured are the share of the evidence on both actors that is on the right one, its rank
correlation with the fall over targets, how well evidence by frame tells the frames on which it acts from the
others (area under the curve), and the rank correlation of evidence by eighth with the fall where the actor is
missing there. Means with 95 % bootstrap intervals over targets.

Run it with `python -m benchmarks.masks_truth`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import click
import numpy as np
import torch
from scipy.ndimage import binary_dilation
from scipy.stats import spearmanr

import chronocam as cc
from chronocam.lab.data.gestures import world
from chronocam.metrics import bootstrap, temporal_auc

MAP_BUDGET = 256  # forward passes of a map by masks
EIGHTHS = 8  # parts of a clip in which an actor is missing
FRAMES, SIZE, SEED = 16, 64, 5
ON_INK = 2  # pixels around the ink that still count
PICTURES: Mapping[str, tuple[Any, dict[str, Any]]] = {
    "gradcam": (cc.GradCAM, {}),
    "fullgrad": (cc.FullGrad, {}),
    "integratedgradients": (cc.IntegratedGradients, {"steps": 20, "baseline": "blur"}),
    "ablationcam": (cc.AblationCAM, {}),
    "reciprocam": (cc.ReciproCAM, {}),
    "scorecam": (cc.ScoreCAM, {}),
    "rise": (cc.RISE, {"budget": MAP_BUDGET, "until": None, "cells": 8}),
    "occlusion": (cc.Occlusion, {}),
    "kernelshap, superpixels": (
        cc.KernelSHAP,
        {"budget": MAP_BUDGET, "until": None, "regions": "superpixels", "cells": 30},
    ),
    "lime": (cc.LIME, {"budget": MAP_BUDGET, "until": None}),
    "extremalperturbation": (cc.ExtremalPerturbation, {"steps": 40, "area": 0.08}),
}
CLIPS: Mapping[str, tuple[Any, dict[str, Any]]] = {
    "gradcam": (cc.GradCAM, {}),
    "integratedgradients": (cc.IntegratedGradients, {"steps": 20, "baseline": "blur"}),
    "ablationcam": (cc.AblationCAM, {}),
    "reciprocam": (cc.ReciproCAM, {}),
    "rise, cells of space-time": (
        cc.RISE,
        {"budget": MAP_BUDGET, "until": None, "cells": (4, 5, 5), "regions": "cells"},
    ),
    "rise, tubes": (cc.RISE, {"budget": MAP_BUDGET, "until": None, "cells": (4, 5, 5), "regions": "tubes"}),
    "occlusion": (cc.Occlusion, {"window": (4, 13, 13), "stride": (2, 7, 7)}),
    "kernelshap, frozen frames": (
        cc.KernelSHAP,
        {"budget": MAP_BUDGET, "until": None, "regions": "frames", "baseline": "freeze"},
    ),
    "extremalperturbation": (cc.ExtremalPerturbation, {"steps": 40}),
}


def of_digits(count: int) -> dict[str, list[dict[str, float]]]:
    """Return the measures of each method for each digit that the score falls without."""
    loaded = cc.models.load("chronocam:digits")
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    for index in range(count):
        scene, parts = cc.data.digits.parts(index, seed=5)
        masks = scene.masks[0]
        x = loaded.preprocess(scene.images[0])[None]
        with torch.no_grad():
            less = [loaded.preprocess(part.pixels) for part in parts[-2:]]
            scores = loaded.model(torch.as_tensor(np.stack([x[0], *less]))).numpy()
        for k, label in enumerate(map(int, scene.labels[0])):
            fall = float(scores[0, label] - scores[1 + k, label])
            for name, (method, options) in PICTURES.items():
                found = method(loaded.model, **options).explain(x, label).upsample()[0, 0].clip(0)
                inks = [binary_dilation(mask, iterations=ON_INK) for mask in masks]
                on = [float(found[ink].sum()) for ink in inks]
                rows[name].append(
                    {
                        "pointing": float(inks[k].flat[found.argmax()]),
                        "right digit": on[k] / max(sum(on), 1e-12),
                        "fall": fall,
                        "on it": on[k],
                    }
                )
    return rows


def of_gestures(count: int) -> dict[str, list[dict[str, float]]]:
    """Return the measures of each method for both actors of each clip."""
    loaded = cc.models.load("chronocam:gestures-3d")
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    for index in range(count):
        record = world.render(index, SEED, "test", FRAMES, SIZE, 2, world.Conditions())
        x = loaded.preprocess(record.pixels)[None]
        for k, label in enumerate(map(int, record.labels)):
            fall, by_part = falls(loaded, record.pixels, without(index, k), label)
            for name, (method, options) in CLIPS.items():
                found = method(loaded.model, **options).explain(x, label).upsample()[0, 0].clip(0)
                on = [float(found[actor].sum()) for actor in record.actor_masks]
                in_space = "frames" not in name
                evidence = found.reshape(EIGHTHS, -1).sum(1)
                rows[name].append(
                    {
                        "right actor": on[k] / max(sum(on), 1e-12) if in_space else np.nan,
                        "when it acts": float(temporal_auc(found.mean((1, 2)), record.active[k])),
                        "when it is needed": float(np.nan_to_num(spearmanr(evidence, by_part)[0])),
                        "fall": fall,
                        "on it": on[k] if in_space else np.nan,
                    }
                )
    return rows


def without(index: int, actor: int) -> np.ndarray:
    """Return a clip without one of its actors, all else the same."""
    asked = (index, SEED, "test", FRAMES, SIZE, 2, world.Conditions())
    return world.render(*asked, without=("first person", "second person")[actor]).pixels


def falls(loaded: Any, clip: np.ndarray, less: np.ndarray, label: int) -> tuple[float, np.ndarray]:
    """Return by how much a score falls in a clip without an actor, and where it is missing in each part."""
    length = FRAMES // EIGHTHS
    clips = [clip, less, *(clip.copy() for _ in range(EIGHTHS))]
    for part, mixed in enumerate(clips[2:]):
        mixed[part * length : (part + 1) * length] = less[part * length : (part + 1) * length]
    with torch.no_grad():
        inputs = torch.as_tensor(np.stack([loaded.preprocess(one) for one in clips]))
        scores = loaded.model(inputs)[:, label].numpy()
    return float(scores[0] - scores[1]), scores[0] - scores[2:]


def table(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Print the mean of each measure with its interval, by method."""
    for name, of_method in rows.items():
        cells = []
        for key in of_method[0]:
            values = np.array([row[key] for row in of_method])
            if key not in ("fall", "on it") and np.isfinite(values).all():
                cells.append(f"{key} {bootstrap(values)}")
        less, on = ([row[key] for row in of_method] for key in ("fall", "on it"))
        if np.isfinite(on).all():
            cells.append(f"rank correlation with the fall {spearmanr(less, on)[0]:.2f}")
        print(f"{name:28} {'; '.join(cells)}", flush=True)


@click.command()
@click.option("--pictures", default=20, show_default=True, help="None for 0.")
@click.option("--clips", default=10, show_default=True, help="None for 0.")
def main(pictures: int, clips: int) -> None:
    torch.set_num_threads(1)
    for title, run, count in (("digits", of_digits, pictures), ("gestures", of_gestures, clips)):
        if not count:
            continue
        start = time.process_time()
        rows = run(count)
        print(f"\n{title}, {len(next(iter(rows.values())))} targets, {time.process_time() - start:.0f} s")
        table(rows)


if __name__ == "__main__":
    main()
