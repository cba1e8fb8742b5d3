"""Every measure of one network, or of what its maps must beat: a value per clip, under the name of an arm."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np

from benchmarks.claims.video.world import Network, World, batches
from chronocam.maps.resample import resample
from chronocam.metrics import (
    centre_prior,
    deletion,
    energy_inside,
    flicker,
    frame_importance,
    insertion,
    localisation,
    motion_test,
    pointing_game,
    random_maps,
    randomisation_curve,
    temporal_auc,
    temporal_iou,
)
from chronocam.metrics.random_weights import parameterised, randomised

Measured: TypeAlias = dict[str, dict[str, np.ndarray]]
"""By arm and measure, one value per clip."""

METHODS = ("gradcam", "layercam", "hirescam")
MOVED = "frame difference"
MIRRORED = {3: 4, 4: 3}
"""The two classes that are each other with the frames in reverse."""


def joined(parts: Sequence[Measured]) -> Measured:
    """Join the measures of batches of clips."""
    return {
        arm: {name: np.concatenate([part[arm][name] for part in parts]) for name in names}
        for arm, names in parts[0].items()
    }


def judge(
    maps: np.ndarray, masks: np.ndarray, figures: np.ndarray, active: np.ndarray
) -> dict[str, np.ndarray]:
    """Compare maps `(clip, time, height, width)` at the size of the clips with the truth.

    masks: of the action, shaped like the maps. figures: of the whole actor. active: `(clip, time)`.
    """
    visible = masks.any(axis=(-2, -1))
    pointed = (pointing_game(maps, masks) * visible).sum(axis=-1) / np.maximum(visible.sum(axis=-1), 1)
    curves = frame_importance(maps)
    return {
        "energy": energy_inside(maps, masks, 3),
        "pointing": pointing_game(maps, masks, 3),
        "frame pointing": np.where(visible.any(axis=-1), pointed, np.nan),
        "figure": energy_inside(maps, figures, 3),
        "pointing figure": pointing_game(maps, figures, 3),
        "IoU": localisation(maps, masks, 3).mask_iou,
        "time IoU": temporal_iou(curves, active),
        "time AUC": temporal_auc(curves, active),
        "flicker": flicker(maps),
        **phases(curves, active),
    }


def phases(curves: np.ndarray, active: np.ndarray) -> dict[str, np.ndarray]:
    """Return which part of curves `(clip, time)` that sum to 1 lies before, during and after the action."""
    begun = np.logical_or.accumulate(active, axis=1)
    ended = ~np.logical_or.accumulate(active[:, ::-1], axis=1)[:, ::-1]
    when = {"before": ~begun, "during": begun & ~ended, "after": ended}
    return {name: (curves * frames).sum(axis=1) for name, frames in when.items()}


def judge_pairs(
    maps: np.ndarray, actors: np.ndarray, masks: np.ndarray, active: np.ndarray, order: np.ndarray
) -> dict[str, np.ndarray]:
    """Compare maps for the classes of both actors, `(clip, actor, time, height, width)`, with either actor.

    order: the actors of each clip, the one whose class has the higher score first, `(clip, 2)`.
    """
    own, cross = energy_inside(maps, actors, 3), energy_inside(maps, actors[:, ::-1], 3)
    curves, both = frame_importance(maps), own + cross
    measures = {
        "own actor": own,
        "wrong actor": cross,
        "own share": np.where(both > 0, own / np.where(both > 0, both, 1), np.nan),
        "own action": energy_inside(maps, masks, 3),
        "wrong action": energy_inside(maps, masks[:, ::-1], 3),
        "pointing own": pointing_game(maps, actors, 3),
        "pointing wrong": pointing_game(maps, actors[:, ::-1], 3),
        "time AUC": temporal_auc(curves, active),
        "time AUC apart": auc_apart(curves, active),
    }
    return in_order(measures, order)


def in_order(measures: dict[str, np.ndarray], order: np.ndarray) -> dict[str, np.ndarray]:
    """Name measures `(clip, actor)` by the actor's class: `likelier` if its score is higher, else `other`."""
    ordered = {name: np.take_along_axis(values, order, axis=1) for name, values in measures.items()}
    return {
        f"{name}, {which}": values[:, place]
        for name, values in ordered.items()
        for place, which in enumerate(("likelier", "other"))
    }


def auc_apart(curves: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Return the AUC of frames on which only the own actor acts, against those on which only the other does.

    curves, active: `(clip, actor, time)`. NaN where one of them never acts alone.
    """
    alone = active[:, 0] ^ active[:, 1]
    areas = np.full(curves.shape[:2], np.nan)
    for clip, frames in enumerate(alone):
        if frames.any():
            areas[clip] = temporal_auc(curves[clip][:, frames], active[clip][:, frames])
    return areas


def answers(network: Network, world: World) -> Measured:
    """Whether the network names the class; with frames changed too, for the two that differ in order only."""
    count, labels = world.settings.answers, world.labels[: world.settings.answers]
    right = [network.logits(network.inputs(world.single.pixels[rows])).argmax(1) for rows in batches(count)]
    ordered = np.flatnonzero(np.isin(labels, list(MIRRORED)))
    motion = [_motion(network, world, ordered[rows]) for rows in batches(len(ordered))]
    return {"as filmed": {"right": (np.concatenate(right) == labels).astype(float)}, **joined(motion)}


def _motion(network: Network, world: World, clips: np.ndarray) -> Measured:
    inputs, labels = network.inputs(world.single.pixels[clips]), world.labels[clips]

    def right(classes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        return lambda changed: (network.logits(changed).argmax(1) == classes).astype(float)

    axis = 3 - network.channels
    test = motion_test(right(labels), inputs, axis, shuffles=2)
    mirrored = right(np.array([MIRRORED[label] for label in labels]))(np.flip(inputs, axis))
    return {
        "order": {
            "as filmed": test.as_is,
            "shuffled": test.shuffled,
            "frozen": test.frozen,
            "reversed": test.backwards,
            "reversed, named as its mirror": mirrored,
        }
    }


def maps(network: Network, world: World) -> Measured:
    """Maps of the true class by method and stage, also with one option changed; attention where it exists."""
    stages = [1 + i for i in range(len(network.stages))]
    variants: list[tuple[str, dict[str, Any]]] = [
        ("", {"layers": stages, "methods": METHODS}),
        (" pool", {"layers": stages, "pool": "frame" if network.arch == "r3d" else "clip"}),
        (" align", {"layers": stages, "align": "receptive_field"}),
    ]
    if network.arch == "cnn-lstm-attention":
        variants.append((" detached", {"detach_attention": True}))
    return joined([_maps(network, world, variants, rows) for rows in batches(world.settings.maps)])


def _maps(
    network: Network, world: World, variants: Sequence[tuple[str, dict[str, Any]]], rows: slice
) -> Measured:
    clips = world.single
    inputs, active = network.inputs(clips.pixels[rows]), clips.active[rows, 0]
    truth = (clips.masks[rows, 0], clips.actor_masks[rows, 0], active)
    measured: Measured = {}
    for suffix, options in variants:
        for name, explanation in network.explain(inputs, world.labels[rows], **options).items():
            measured[name + suffix] = judge(explanation.upsample()[:, 0], *truth)
            if (attention := explanation.attention) is not None and not suffix:
                measured["weights"] = {
                    "AUC": temporal_auc(attention.weights, active),
                    **phases(attention.weights, active),
                }
                measured["contributions"] = {
                    "AUC": temporal_auc(attention.contributions[:, 0], active),
                    "rank correlation with weights": attention.agreement[:, 0],
                }
    return measured


def pairs(network: Network, world: World) -> Measured:
    """Maps for the classes of both actors of a clip."""
    return joined([_pairs(network, world, rows) for rows in batches(world.settings.pairs)])


def _pairs(network: Network, world: World, rows: slice) -> Measured:
    clips, measured = world.pairs, {}
    inputs, labels, active = network.inputs(clips.pixels[rows]), clips.labels[rows], clips.active[rows]
    top_two = np.sort(np.argsort(network.logits(inputs), axis=1)[:, -2:], axis=1)
    measured["classes"] = {"are the top two": (top_two == np.sort(labels, axis=1)).all(axis=1).astype(float)}
    for name, explanation in network.explain(inputs, labels, methods=METHODS[:2]).items():
        order = np.argsort(-explanation.scores, axis=1)
        truth = (clips.actor_masks[rows], clips.masks[rows], active)
        measured[name] = judge_pairs(explanation.upsample(), *truth, order)
        if (attention := explanation.attention) is not None:
            for arm, curves in (
                ("weights", attention.weights[:, None]),
                ("contributions", attention.contributions),
            ):
                measured[arm] = _in_time(np.broadcast_to(curves, active.shape), active, order)
    return measured


def _in_time(curves: np.ndarray, active: np.ndarray, order: np.ndarray) -> dict[str, np.ndarray]:
    apart = auc_apart(curves, active)
    areas = {"AUC": temporal_auc(curves, active), "AUC apart": apart}
    return {**in_order(areas, order), "AUC apart, both": apart.mean(axis=1)}


def faithful(network: Network, world: World) -> Measured:
    """Insertion and deletion of cells of space and time, and of frames, beside maps that know nothing."""
    count, steps = world.settings.faithful, world.settings.steps
    inputs, labels = network.inputs(world.single.pixels[:count]), world.labels[:count]
    explanation = network.explain(inputs, labels)[f"gradcam@{len(network.stages)}"]
    grid = explanation.maps.shape[2:]
    arms = {
        "gradcam": explanation.upsample()[:, 0],
        "random map": random_maps(count, grid, world.size),
        "centre prior": np.broadcast_to(centre_prior(world.size), (count, *world.size)),
    }

    def probability(changed: np.ndarray) -> np.ndarray:
        logits = network.logits(changed.astype(np.float32))
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (shares / shares.sum(axis=1, keepdims=True))[np.arange(count), labels]

    measured: Measured = {arm: {} for arm in arms}
    for arm, values in arms.items():
        for what, order, baseline in (
            ("cells", values, "blur"),
            ("frames", frame_importance(values), "freeze"),
        ):
            for name, run in (("insertion", insertion), ("deletion", deletion)):
                options: dict[str, Any] = {"channels": network.channels, "baseline": baseline, "steps": steps}
                measured[arm][f"{name}, {what}"] = run(probability, inputs, order, **options).area
            measured[arm][f"insertion − deletion, {what}"] = (
                measured[arm][f"insertion, {what}"] - measured[arm][f"deletion, {what}"]
            )
    return measured


def made_random(network: Network, world: World) -> Measured:
    """How alike maps stay as the parts of the network are made random, from the output down."""
    count = world.settings.faithful
    inputs, labels = network.inputs(world.single.pixels[:count]), world.labels[:count]
    name = f"gradcam@{len(network.stages)}"

    def now() -> np.ndarray:
        return network.explain(inputs, labels)[name].maps[:, 0]

    reference, model = now(), network.loaded.model
    grid = reference.shape[1:]
    others = {
        "random map": random_maps(count, grid, grid),
        "centre prior": np.broadcast_to(centre_prior(grid), reference.shape),
    }
    # parts come from the output down, and every step includes those before it
    done, groups = 0, groupby(parameterised(model), lambda path: _part(network, path))
    for part, paths in groups:
        done += len(list(paths))
        with randomised(model, done, network.seed):
            others[part] = now()
    curve = randomisation_curve(reference, list(others.values()), 3)
    return {
        arm: {"Spearman": spearman, "SSIM": ssim}
        for arm, spearman, ssim in zip(others, curve.spearman, curve.ssim, strict=True)
    }


def _part(network: Network, path: str) -> str:
    for number, stage in enumerate(network.stages, 1):
        if path.startswith(f"{stage}."):
            return f"stage {number}"
    return path.removeprefix("backbone.").partition(".")[0]


MEASURES: dict[str, Callable[[Network, World], Measured]] = {
    "answers": answers,
    "maps": maps,
    "pairs": pairs,
    "faithful": faithful,
    "made random": made_random,
}
"""What is measured of every network."""


def named(grid: Sequence[int]) -> str:
    return "×".join(map(str, grid))


def beside(world: World, grids: Sequence[Sequence[int]]) -> dict[str, Measured]:
    """Judge what maps must beat, and the truth itself as the grids can show it, as maps of the same clips."""
    clips, parts = world.single, []
    for rows in batches(world.settings.maps):
        masks = clips.masks[rows]
        truth = (masks[:, 0], clips.actor_masks[rows, 0], clips.active[rows, 0])
        references = {
            **_references(masks, world, grids, rows.start),
            MOVED: moved(clips.pixels[rows])[:, None],
        }
        parts.append({name: judge(maps[:, 0], *truth) for name, maps in references.items()})
    return {"maps": joined(parts), "pairs": _beside_pairs(world, grids)}


def _beside_pairs(world: World, grids: Sequence[Sequence[int]]) -> Measured:
    clips, parts = world.pairs, []
    for rows in batches(world.settings.pairs):
        truth = (clips.actor_masks[rows], clips.masks[rows], clips.active[rows])
        order = np.tile((0, 1), (len(truth[0]), 1))
        references = _references(clips.masks[rows], world, grids, rows.start)
        references[MOVED] = np.broadcast_to(moved(clips.pixels[rows])[:, None], clips.masks[rows].shape)
        parts.append({name: judge_pairs(maps, *truth, order) for name, maps in references.items()})
    return joined(parts)


def _references(
    masks: np.ndarray, world: World, grids: Sequence[Sequence[int]], seed: int
) -> dict[str, np.ndarray]:
    """Return maps shaped like `masks`, `(clip, actor, time, height, width)`."""
    references = {"centre prior": np.broadcast_to(centre_prior(world.size), masks.shape)}
    for grid in grids:
        noise = random_maps(masks.shape[0] * masks.shape[1], grid, world.size, seed)
        references[f"random map {named(grid)}"] = noise.reshape(masks.shape)
        references[f"truth {named(grid)}"] = np.asarray(resample(_coarse(masks, grid), world.size, "linear"))
    return references


def moved(pixels: np.ndarray) -> np.ndarray:
    """Return how much every pixel differs from the frame before: a map that no network has a part in."""
    grey = pixels.mean(axis=-1, dtype=np.float32)
    return np.abs(np.diff(grey, axis=1, prepend=grey[:, :1]))


def _coarse(masks: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Return the share of every cell of a grid that a mask fills."""
    shape = masks.shape[:2]
    for cells, size in zip(grid, masks.shape[2:], strict=True):
        shape = (*shape, cells, size // cells)
    return masks.reshape(shape).mean(axis=(3, 5, 7), dtype=np.float32)


def stacked(parts: Sequence[Measured]) -> Measured:
    """Put the measures of networks that differ in their seed together: `(network, clip)`."""
    networks: Measured = defaultdict(dict)
    for arm, names in parts[0].items():
        for name in names:
            networks[arm][name] = np.stack([part[arm][name] for part in parts])
    return dict(networks)
