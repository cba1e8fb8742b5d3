"""The layers of a model: what each returns for one sample, and on which grid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from chronocam.engines import engine_for
from chronocam.errors import InputError, LayerError
from chronocam.jsonable import JsonRecord
from chronocam.runs.drives.networks import networks_of

if TYPE_CHECKING:
    from chronocam.models import Loaded

_STEPS = 16  # stands in for the length of a sequence of any length
_LENGTH = 512  # and for that of a signal


@dataclass(frozen=True)
class LayerRow(JsonRecord):
    """One layer of a listing.

    path: its dotted path in the model.
    type: the name of its class.
    shape: of its output for one sample, with the batch axis.
    grid: of its output; empty where it has none.
    default: whether it is explained where no layer is named.
    """

    path: str
    type: str
    shape: tuple[int, ...]
    grid: tuple[int, ...]
    default: bool


def layer_rows(loaded: Loaded) -> list[LayerRow]:
    """Return the layers of a model in the order in which they run, those of each network of several."""
    networks, noise = networks_of(loaded.model), noise_for(loaded)
    if networks is None:
        return _rows(loaded.model, noise)
    rows: list[LayerRow] = []
    for part, network in networks.parts.items():
        frames = 1 + len(networks.offsets) if part == "pose" else 1
        named = networks.default_layers(part)
        own = _rows(network, np.concatenate([noise] * frames, axis=1), named[0] if named else None)
        rows.extend(replace(row, path=networks.called(part, row.path)) for row in own)
    return rows


def _rows(model: Any, noise: np.ndarray, default: str | None = None) -> list[LayerRow]:
    from chronocam.joint.layers.candidates import traced_layers
    from chronocam.joint.layers.default_layer import default_layer
    from chronocam.joint.look.look import look_at
    from chronocam.joint.look.subject import Subject

    look = look_at(Subject(model), noise)
    if default is None:
        with suppress(LayerError):  # a network of sequences has layers, and none with a grid
            default = default_layer(look)
    return [
        LayerRow(path, layer.type, tuple(layer.shape), layer.grid or (), path == default)
        for path, layer in traced_layers(look).items()
    ]


def noise_for(loaded: Loaded) -> np.ndarray:
    """Return one sample of noise, of the shape that the model takes."""
    from PIL import Image

    from chronocam.media import ClipPreprocess, Preprocess

    rng, preprocess = np.random.default_rng(0), loaded.preprocess
    shape = getattr(loaded.model, "input_shape", None)  # which Keras models know
    if preprocess is None and shape:
        own = [_STEPS if side is None else side for side in shape[1:]]
        return rng.standard_normal((1, *own), dtype=np.float32)
    if preprocess is None or (isinstance(preprocess, Preprocess) and preprocess.assumption):
        for signal in _signals(loaded.model):
            noise = rng.standard_normal((1, *signal), dtype=np.float32)
            if runs(loaded.model, noise):
                return noise
    if preprocess is None:
        todo = "name an array of them, chronocam doctor SPEC ARRAY.npy"
        raise InputError(f"nothing says what shape the features of `{loaded.spec}` have; {todo}")
    if isinstance(preprocess, ClipPreprocess):
        return preprocess(rng.integers(0, 256, (preprocess.frames, 256, 256, 3), dtype=np.uint8))[None]
    return np.asarray(preprocess(Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8))))[None]


def _signals(model: Any) -> Iterator[tuple[int, int]]:
    """Yield the shapes of signals and sequences that a model may take, as its first layers say."""
    engine = engine_for(model)
    stem, features = engine.stem, engine.features
    if stem is not None and stem.rank == 1:
        yield stem.channels, _LENGTH
        yield _LENGTH, stem.channels
    elif stem is None and features is not None:
        yield _STEPS, features


def runs(model: Any, noise: np.ndarray) -> bool:
    """Say whether a model takes inputs of this shape."""
    engine = engine_for(model)
    try:
        engine.trace(engine.adapt(noise))
    except InputError:
        return False
    return True
