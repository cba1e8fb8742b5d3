"""Do maps of transformers lie on what they are asked for? Rendered worlds, trained networks, known truth.

Every scene or clip holds two things, and both are explained: two digits, two gestures of two persons, two
captions. For each method: is the map's maximum on the thing (pointing), which share of the map's energy is
on it, and which share of the energy on both things is on the one that was asked for (own); 1/2 where a
map knows no class. Then own once more with every weight of the network drawn anew, and the rank
correlation of those maps with the trained network's. Means with 95 % bootstrap intervals over scenes or
clips; only those whose two things the network ranks first count. What a thing covers is its ink, or the
acting arms and faces; a token is 12 pixels of 96 wide, or 8 of 64.

Run it with `python -m benchmarks.transformers` (`--network colours` for one of the three).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
import torch

import chronocam as cc
from chronocam.lab.train.transformers import CAPTIONS
from chronocam.metrics import (
    bootstrap,
    centre_prior,
    energy_inside,
    parameterised,
    pointing_game,
    random_copy,
    random_maps,
    rank_correlation,
)

NETWORKS = ("digits-vit", "gestures-transformer", "colours")
METHODS = ("legrad", "attentionrelevance", "gradeclip", "gradientxattention", "rollout", "gradcam")


@dataclass(frozen=True)
class Samples:
    """What is looked at: inputs, two targets each, where the two things are, and which kind of pair it is."""

    inputs: torch.Tensor
    targets: Sequence[tuple[Any, Any]]
    masks: np.ndarray  # (sample, thing, *grid)
    kinds: Sequence[str]


def digits(loaded: Any, count: int) -> Samples:
    world = cc.data.digits.scenes(count, seed=7)
    inputs = torch.from_numpy(np.stack([loaded.preprocess(image) for image in world.images]))
    return Samples(inputs, [(int(a), int(b)) for a, b in world.labels], world.masks, ["all"] * count)


def gestures(loaded: Any, count: int) -> Samples:
    world = cc.data.gestures.clips(count, seed=7, actors=2)
    inputs = torch.from_numpy(np.stack([loaded.preprocess(clip) for clip in world.pixels]))
    return Samples(inputs, [(int(a), int(b)) for a, b in world.labels], world.masks, ["all"] * count)


def colours(loaded: Any, count: int) -> Samples:
    world = cc.data.digits.scenes(count, seed=7, coloured=True)
    inputs = torch.from_numpy(np.stack([loaded.preprocess(image) for image in world.images]))
    captions = [(cc.targets.Caption(a), cc.targets.Caption(b)) for a, b in world.captions]
    assert world.colours is not None
    alike = zip(
        world.labels[:, 0] == world.labels[:, 1], world.colours[:, 0] == world.colours[:, 1], strict=True
    )
    kinds = [
        "one number, two inks" if number else "one ink, two numbers" if ink else "neither alike"
        for number, ink in alike
    ]
    return Samples(inputs, captions, world.masks, kinds)


WORLDS = {"digits-vit": digits, "gestures-transformer": gestures, "colours": colours}


@torch.inference_mode()
def known(name: str, model: torch.nn.Module, samples: Samples) -> Iterator[int]:
    """Yield the numbers of the samples whose two things the network ranks first."""
    if name == "colours":
        embedded = torch.nn.functional.normalize(model.encode_text(model.tokenize(CAPTIONS)), dim=1)
        logits = torch.cat([model(part) for part in samples.inputs.split(50)]) @ embedded.T
        asked = [tuple(CAPTIONS.index(target.text) for target in pair) for pair in samples.targets]
    else:
        logits = torch.cat([model(part) for part in samples.inputs.split(50)])
        asked = [tuple(pair) for pair in samples.targets]
    for number, (best, pair) in enumerate(zip(logits.topk(2, dim=1).indices.tolist(), asked, strict=True)):
        if set(best) == set(pair):
            yield number


def maps_of(model: torch.nn.Module, samples: Samples, rows: Sequence[int]) -> dict[str, np.ndarray]:
    """Return the maps `(sample, thing, *grid)` of every method, at the inputs' size."""
    x, targets = samples.inputs[rows], [samples.targets[row] for row in rows]
    if all(isinstance(target, int) for pair in targets for target in pair):
        explained = cc.explain(model, x, np.array(targets), methods=METHODS)
        return {name: explanation.upsample() for name, explanation in explained.items()}
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for one, pair in zip(x, targets, strict=True):  # captions are of all samples of a call
        for name, explanation in cc.explain(model, one[None], list(pair), methods=METHODS).items():
            found[name].append(explanation.upsample()[0])
    return {name: np.stack(maps) for name, maps in found.items()}


def controls(samples: Samples, rows: Sequence[int], grid: Sequence[int]) -> dict[str, np.ndarray]:
    """Return noise on the grid of tokens, and a bump in the middle."""
    size = samples.masks.shape[2:]
    noise = random_maps(2 * len(rows), grid, size, 0).reshape(len(rows), 2, *size)
    return {"(random)": noise, "(centre)": np.broadcast_to(centre_prior(size), noise.shape)}


def own_share(maps: np.ndarray, masks: np.ndarray, rank: int) -> np.ndarray:
    """Return, per sample, the share of the energy on both things that is on the one asked for."""
    on_own, on_other = energy_inside(maps, masks, rank), energy_inside(maps, masks[:, ::-1], rank)
    both = on_own + on_other
    return np.where(both > 0, on_own / np.where(both > 0, both, 1), 0.5).mean(1)


def judged(maps: np.ndarray, masks: np.ndarray) -> dict[str, np.ndarray]:
    """Return each measure per sample, the mean of its two things."""
    rank = masks.ndim - 2
    return {
        "pointing": pointing_game(maps, masks, rank).mean(1),
        "energy": energy_inside(maps, masks, rank).mean(1),
        "own": own_share(maps, masks, rank),
    }


def print_rows(title: str, rows: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    print(f"\n{title}")
    for name, measures in rows.items():
        print(f"  {name:20} " + "   ".join(f"{key} {bootstrap(values)}" for key, values in measures.items()))


def network(name: str, count: int) -> None:
    loaded = cc.models.load(f"chronocam:{name}")
    samples = WORLDS[name](loaded, count)
    rows = list(known(name, loaded.model, samples))
    masks = samples.masks[rows]
    rank = masks.ndim - 2
    maps = maps_of(loaded.model, samples, rows)
    grid = cc.LeGrad(loaded.model).explain(samples.inputs[:1], samples.targets[0][0]).maps.shape[2:]
    anew = maps_of(random_copy(loaded.model, len(parameterised(loaded.model))), samples, rows)
    every = {**maps, **controls(samples, rows, grid)}
    table = {key: judged(values, masks) for key, values in every.items()}
    for key, values in anew.items():
        table[key]["own, random weights"] = own_share(values, masks, rank)
        table[key]["rank correlation"] = rank_correlation(values, maps[key], rank).mean(1)
    print_rows(f"{name}: {len(rows)} of {count} samples, tokens on a grid of {tuple(grid)}", table)
    for kind in sorted(set(samples.kinds)) if len(set(samples.kinds)) > 1 else []:
        of_kind = np.array([samples.kinds[row] == kind for row in rows])
        own = {key: {"own": own_share(values[of_kind], masks[of_kind], rank)} for key, values in maps.items()}
        print_rows(f"{name}, {kind}: {of_kind.sum()}", own)


@click.command()
@click.option("--network", "names", multiple=True, type=click.Choice(NETWORKS), help="Default: all.")
@click.option("--count", default=150, show_default=True, help="Scenes or clips.")
def main(names: tuple[str, ...], count: int) -> None:
    for name in names or NETWORKS:
        network(name, count)


if __name__ == "__main__":
    main()
