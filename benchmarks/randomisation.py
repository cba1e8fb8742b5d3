"""Do maps change when weights become random? Four ways to ask, on rendered digits.

Cascading (Adebayo et al. 2018), one layer at a time, smooth (means over noisy inputs) and efficient (the rise
of the map's entropy; both Hedström et al. 2024), with 95 % intervals over scenes. Run it with `python -m
benchmarks.randomisation`.
"""

from __future__ import annotations

import click
import numpy as np
import torch

import chronocam as cc
from chronocam.evaluation import EfficientRandomisation, Measure, Randomisation

METHODS = ("gradcam", "layercam", "eigencam", "guidedbackprop", "guidedgradcam", "inputxgradient", "saliency")
FORMS: dict[str, Measure] = {
    "cascading": Randomisation(),
    "independent": Randomisation(shares=(0.1, 0.5, 1.0), independent=True),
    "smooth": Randomisation(noises=5),
    "efficient": EfficientRandomisation(),
}


@click.command()
@click.option("--scenes", default=12, show_default=True)
def main(scenes: int) -> None:
    torch.set_num_threads(1)
    loaded = cc.models.load("chronocam:digits")
    world = cc.data.digits.scenes(scenes, seed=5)
    x = np.stack([loaded.preprocess(image) for image in world.images])
    targets = [int(label) for label in world.labels[:, 0]]
    for title, form in FORMS.items():
        result = cc.evaluate(loaded.model, x, targets, methods=METHODS, measures=[form])
        print(f"\n{title}: {form}, {result.passes} forward passes")
        for line in result.lines:
            print(f"  {line.row.method:22} {line.interval}", flush=True)


if __name__ == "__main__":
    main()
