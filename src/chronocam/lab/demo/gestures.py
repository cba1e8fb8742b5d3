"""The demo's clips: two people who do different things at once, seen by the three bundled networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from chronocam.lab.demo.words import percent
from chronocam.runs.entries import map_entry
from chronocam.runs.files import write_json

NETWORKS: Final = {"gestures-3d": "3D", "gestures-lstm": "LSTM", "gestures-attention": "LSTM with attention"}
"""The bundled networks, and what the page calls their maps."""

_SPECS: Final = f"chronocam:{', '.join(NETWORKS)}"

RATE: Final = 8  # frames per second
_SHOWN: Final = 3  # clips with a page


def gestures(out: Path, count: int, seed: int) -> Iterator[str]:
    """Explain both gestures of rendered clips, keep some for pages, and yield a sentence."""
    from chronocam.lab.data.gestures import clips
    from chronocam.models import load

    world = clips(count, seed=seed, actors=2)
    networks = {name: load(f"chronocam:{name}") for name in NETWORKS}
    for number in range(min(count, _SHOWN)):
        _show(networks, world, number, out)
    maps = {
        NETWORKS[name]: _explained(loaded, world.pixels, world.labels).upsample()
        for name, loaded in networks.items()
    }
    hits = {name: percent(_pointing(values, world)) for name, values in (maps | _baselines(world)).items()}
    yield (
        f"Two people in each of {count} clips: Grad-CAM has its maximum on the one who makes the gesture "
        f"asked for in {', '.join(f'{share} of clips ({name})' for name, share in hits.items())}."
    )


def _explained(loaded: Any, pixels: np.ndarray, classes: np.ndarray) -> Any:
    from chronocam import GradCAM

    return GradCAM(loaded.model).explain(
        np.stack([loaded.preprocess(one) for one in pixels]), np.asarray(classes)
    )


def _pointing(maps: np.ndarray, world: Any) -> Any:
    from chronocam.metrics import bootstrap, pointing_game

    return bootstrap(pointing_game(maps, world.actor_masks, rank=3).mean(axis=1))


def _baselines(world: Any) -> dict[str, np.ndarray]:
    from chronocam.metrics import centre_prior, random_maps

    shape = world.actor_masks.shape
    noise = random_maps(shape[0] * shape[1], (8, 8, 8), shape[2:]).reshape(shape)
    return {"random map": noise, "centre": np.broadcast_to(centre_prior(shape[2:]), shape)}


def _show(networks: dict[str, Any], world: Any, number: int, out: Path) -> None:
    """Keep a clip with the maps of all networks, for what is done and for what nobody does."""
    labels = next(iter(networks.values())).labels
    done = world.labels[number]
    name = f"clip-{number + 1}"
    clip = clip_of(world.pixels[number], f"{name}: {' and '.join(labels[one] for one in done)}")
    classes = np.array([[*done, next(i for i in range(len(labels)) if i not in done)]])
    maps = []
    for network, loaded in reversed(networks.items()):
        explanation = _explained(loaded, world.pixels[number : number + 1], classes)
        kept = explanation.save(out / f"{name}-{network}.npz", [clip])
        maps.append(map_entry(explanation, 0, kept, called=NETWORKS[network]))
    write_json(out, name, {"model": _SPECS, "input": clip.path.name, "maps": [one.to_json() for one in maps]})


def clip_of(pixels: np.ndarray, name: str) -> Any:
    """Return rendered frames, enlarged, as a clip of that name."""
    from chronocam.media import Clip

    frames = np.arange(len(pixels))
    return Clip(_enlarged(pixels), frames / RATE, float(RATE), frames, Path(name))


def _enlarged(pixels: np.ndarray, times: int = 4) -> np.ndarray:
    from PIL import Image

    size = pixels.shape[2] * times, pixels.shape[1] * times
    frames = (Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC) for frame in pixels)
    return np.stack([np.asarray(frame) for frame in frames])
