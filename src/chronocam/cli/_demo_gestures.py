"""The demo's clips: two people who do different things at once, seen by the three bundled networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

NETWORKS = ("gestures-3d", "gestures-lstm", "gestures-attention")
RATE = 8  # frames per second of the videos written


def gestures(out: Path, count: int, seed: int) -> Iterator[str]:
    """Explain both gestures of generated clips, write videos and sheets, and yield what is to be told."""
    from chronocam.data.gestures import clips
    from chronocam.models import load

    world = clips(count, seed=seed, actors=2)
    yield f"Maxima on the one who does it, over {count} clips of two people, with 95 % interval:"
    for name in NETWORKS:
        loaded = load(f"chronocam:{name}")
        explanation = _explained(loaded, world)
        yield f"  {name:20} {_pointing(explanation.upsample(), world)}"
        _show(loaded, world, out / name)
    for name, maps in _baselines(world).items():
        yield f"  {name:20} {_pointing(maps, world)}"
    yield f"  videos and contact sheets: {out / 'gestures-*'}"


def _explained(loaded: Any, world: Any) -> Any:
    from chronocam import GradCAM

    inputs = np.stack([loaded.preprocess(pixels) for pixels in world.pixels])
    return GradCAM(loaded.model).explain(inputs, np.asarray(world.labels))


def _pointing(maps: np.ndarray, world: Any) -> Any:
    from chronocam.metrics import bootstrap, pointing_game

    return bootstrap(pointing_game(maps, world.actor_masks, rank=3).mean(axis=1))


def _baselines(world: Any) -> dict[str, np.ndarray]:
    from chronocam.metrics import centre_prior, random_maps

    shape = world.actor_masks.shape
    noise = random_maps(shape[0] * shape[1], (8, 8, 8), shape[2:]).reshape(shape)
    return {"random map": noise, "centre prior": np.broadcast_to(centre_prior(shape[2:]), shape)}


def _show(loaded: Any, world: Any, path: Path) -> None:
    """Write the first clip with its maps: a video, and a sheet."""
    from chronocam import GradCAM

    clip = _clip(world.pixels[0])
    explanation = GradCAM(loaded.model).explain(loaded.preprocess(clip)[None], world.labels[:1])
    explanation.save(path.with_suffix(".mp4"), [clip])
    explanation.save(path.with_suffix(".png"), [clip])


def _clip(pixels: np.ndarray) -> Any:
    from chronocam.media import Clip

    frames = np.arange(len(pixels))
    return Clip(_enlarged(pixels), frames / RATE, float(RATE), frames, Path("gestures"))


def _enlarged(pixels: np.ndarray, times: int = 4) -> np.ndarray:
    return pixels.repeat(times, axis=1).repeat(times, axis=2)
