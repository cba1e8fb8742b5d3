"""What fusing layers does to maps of real networks: do they lie on the objects, and does the score follow?

For each annotated object: the share of the map's energy inside its mask, the pointing game, and the areas
under the curves of deletion (low is good) and insertion (high is good) of the class's probability, over blur.
Of three stages of a network, by LayerCAM and each way of fusing; beside Grad-CAM of the last stage.
Differences to Grad-CAM are paired, with 95 % bootstrap intervals over objects.

Needs the data that the tests use; see `benchmarks.localisation`. Run it with `python -m benchmarks.fusing`.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import numpy as np
import torch

import chronocam as cc
from benchmarks.localisation import annotated, truth
from chronocam.maps.fuse import FUSIONS
from chronocam.metrics import deletion, energy_inside, insertion, paired, pointing_game

if TYPE_CHECKING:
    from chronocam.models import Loaded

STAGES: Final = {
    "mobilenet_v2": ["features.6", "features.13", "features.18"],
    "squeezenet1_0": ["features.4", "features.7", "features.12"],
}
BASE: Final = "gradcam"


def explained(loaded: Loaded, x: np.ndarray, classes: list[int], stages: list[str]) -> dict[str, Any]:
    """Return an explanation for each way, by name."""
    targets = [cc.targets.Class(index) for index in classes]
    ways: dict[str, Any] = {BASE: cc.GradCAM(loaded.model, stages[-1])}
    ways["layercam"] = cc.LayerCAM(loaded.model, stages[-1])
    ways |= {f"layercam {how}": cc.LayerCAM(loaded.model, stages, fuse=how) for how in FUSIONS}
    return {name: method.explain(x, targets) for name, method in ways.items()}


def probability(model: torch.nn.Module, index: int, x: np.ndarray) -> np.ndarray:
    """Return the probability of a class."""
    with torch.inference_mode():
        return model(torch.as_tensor(x, dtype=torch.float32)).softmax(1)[:, index].numpy()


def judged(
    loaded: Loaded, data: Path, file: str, pairs: list[dict[str, Any]], stages: list[str]
) -> list[tuple[str, dict[str, float]]]:
    """Return the measures of each way for each object of a photo."""
    image = cc.media.read_image(data / "coco/images" / file)
    region = tuple(round(v) for v in loaded.preprocess.region(*image.size))
    size = (region[3] - region[1], region[2] - region[0])
    x = loaded.preprocess(image)[None]
    classes = sorted({pair["imagenet_index"] for pair in pairs})
    true = [(pair["imagenet_index"], truth(pair, data, region, True)) for pair in pairs]
    rows = []
    for name, explanation in explained(loaded, x, classes, stages).items():
        on_photo, on_input = explanation.upsample(size)[0], explanation.upsample()[0]
        faith = {}
        for k, index in enumerate(classes):
            score = partial(probability, loaded.model, index)
            faith[index] = {
                "deletion": float(deletion(score, x, on_input[k : k + 1]).area[0]),
                "insertion": float(insertion(score, x, on_input[k : k + 1]).area[0]),
            }
        for index, one in true:
            if one is not None:
                values = on_photo[classes.index(index)]
                where = {
                    "energy": float(energy_inside(values, one.mask)),
                    "pointing": float(pointing_game(values, one.mask)),
                }
                rows.append((name, {**where, **faith[index]}))
    return rows


@click.command()
@click.option("--network", "networks", multiple=True, type=click.Choice(list(STAGES)), help="Default: both.")
def main(networks: tuple[str, ...]) -> None:
    data, photos = annotated()
    for network in networks or STAGES:
        stages = STAGES[network]
        loaded = cc.models.load(f"{data / 'imagenet' / network}.safetensors@torchvision:{network}")
        found: dict[str, list[dict[str, float]]] = defaultdict(list)
        for file, pairs in photos.items():
            for name, row in judged(loaded, data, file, pairs, stages):
                found[name].append(row)
        print(f"\n{network}, {' + '.join(stages)}: {len(found[BASE])} objects")
        for name, rows in found.items():
            print(f"  {name}")
            for key in rows[0]:
                values, base = ([row[key] for row in each] for each in (rows, found[BASE]))
                print(f"    {key:10} {np.mean(values):.3f}   {paired(values, base)}")


if __name__ == "__main__":
    main()
