"""Whether a map of a class lies on the clip that shows it: two real clips in one, side by side or in turn.

For each ordered pair of real clips and each of their two classes: the share of the map's positive values on
the half that shows the class; 1/2 by chance. With a real network of Kinetics, and with each of its weight
tensors shuffled as the control. Means with 95 % bootstrap intervals over the pairs; the clips are few, so
that intervals are of these clips and not of all.

Needs the data that the tests use; see `benchmarks/localisation.py`. Run it with
`python -m benchmarks.composites`.
"""

from __future__ import annotations

import importlib.util
import os
from collections import defaultdict
from collections.abc import Iterator
from copy import deepcopy
from itertools import permutations
from pathlib import Path
from types import ModuleType

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import track

import chronocam as cc
from chronocam.metrics import bootstrap, energy_inside

CLIPS = {
    "arm_wrestling.mp4": "arm wrestling",
    "carving_ice.mp4": "carving ice",
    "dog_eating.mp4": "training dog",
    "pancake.mkv": "flipping pancake",
}
METHODS = ("gradcam", "hirescam", "layercam", "gradcam++", "eigencam")
LAYERS = (None, "blocks.3")


def network(folder: Path) -> tuple[torch.nn.Module, list[str]]:
    """Return the network and its labels."""
    spec = importlib.util.spec_from_file_location("movinet_a0", folder / "movinet_a0.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.movinet().eval(), (folder / "kinetics600.txt").read_text().splitlines()


def shuffled(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy with the numbers of every weight tensor in another order."""
    copy, rng = deepcopy(model), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.copy_(
                parameter.flatten()[torch.randperm(parameter.numel(), generator=rng)].view_as(parameter)
            )
    return copy


def composites(clips: dict[str, np.ndarray]) -> Iterator[tuple[str, str, str, np.ndarray, np.ndarray]]:
    """Yield how two clips are joined, both labels, the whole, and where the first of them is."""
    for (one, a), (other, b) in permutations(clips.items(), 2):
        for how, axis in (("side by side", 3), ("one after the other", 1)):
            whole = np.concatenate([a, b], axis=axis)
            mask = np.zeros(whole.shape[1:], bool)
            mask[(slice(None), slice(None), slice(0, 172)) if axis == 3 else slice(0, a.shape[1])] = True
            yield how, CLIPS[one], CLIPS[other], whole, mask


def shares(
    model: torch.nn.Module, labels: list[str], clips: dict[str, np.ndarray], console: Console
) -> dict[str, list[float]]:
    """Return the share of each composite by how it is joined and the method."""
    found: dict[str, list[float]] = defaultdict(list)
    for how, a, b, whole, mask in track(list(composites(clips)), "Composites", console=console):
        for layer in LAYERS:
            layers = None if layer is None else [layer]
            methods = METHODS if layer is None else METHODS[:3]
            explained = cc.explain(
                model, whole[None], [labels.index(a), labels.index(b)], methods=methods, layers=layers
            )
            for name, explanation in explained.items():
                maps = explanation.upsample()[0]
                own = np.mean([energy_inside(maps[0], mask, 3), energy_inside(maps[1], ~mask, 3)])
                found[f"{how:20} {name:12} {explanation.layer}"].append(float(own))
    return found


@click.command()
@click.option("--frames", default=16, show_default=True)
def main(frames: int) -> None:
    data = Path(os.environ.get("CHRONOCAM_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    model, labels = network(data / "kinetics")
    pictures = cc.media.Preprocess((172, 172), None, (0.0,) * 3, (1.0,) * 3)
    recipe = cc.media.ClipPreprocess(pictures, frames)
    clips = {name: recipe(recipe.read(data / "kinetics" / name)) for name in CLIPS}
    console = Console(stderr=True)
    for title, one in (("trained", model), ("weights shuffled", shuffled(model))):
        print(title)
        for name, values in sorted(shares(one, labels, clips, console).items()):
            above = np.mean(np.array(values) > 0.5)
            print(f"  {name:52} {bootstrap(values)}   above 1/2 in {above:.0%} of {len(values)}")


if __name__ == "__main__":
    main()
