"""`chronocam layers SPEC`: the layers that can be explained."""

from __future__ import annotations

import json
from typing import Any

import click
import numpy as np

from chronocam.runs.drives.networks import networks_of

_STEPS = 16  # of a sequence of any length


@click.command("layers")
@click.argument("spec")
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
@click.option("--trust", is_flag=True, help="Let the model's files run code.")
def command(spec: str, as_json: bool, trust: bool) -> None:
    """List the layers of the model SPEC: path, type, output shape and grid; `*` marks the default.

    Networks for depth and motion have a default each.
    """
    from chronocam.models import load

    rows = _rows(load(spec, trust=trust))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    width = max(len(row["path"]) for row in rows)
    for row in rows:
        grid = " × ".join(map(str, row["grid"])) if row["grid"] else "-"
        mark = "*" if row["default"] else " "
        shape = ", ".join(map(str, row["shape"]))
        click.echo(f"{mark} {row['path']:{width}}  {row['type']:24}  ({shape})  {grid}")


def _rows(loaded: Any) -> list[dict[str, Any]]:
    networks, noise = networks_of(loaded.model), _noise(loaded)
    if networks is None:
        return _of_one(loaded.model, noise)
    frames = {"pose": [noise] * (1 + len(networks.offsets)), "depth": [noise]}
    rows = []
    for part, network in networks.parts.items():
        named = networks.default_layers(part)
        for row in _of_one(network, np.concatenate(frames[part], axis=1), named[0] if named else None):
            rows.append({**row, "path": networks.called(part, row["path"])})
    return rows


def _of_one(model: Any, noise: np.ndarray, default: str | None = None) -> list[dict[str, Any]]:
    from chronocam.engines import engine_for
    from chronocam.joint.default_layer import default_layer, grid_of
    from chronocam.joint.inputs import main_array
    from chronocam.layouts import Site, input_grid

    engine = engine_for(model)
    inputs = engine.adapt(noise)
    shape = tuple(main_array(inputs).shape)
    default, grid = default or default_layer(engine, inputs), input_grid(shape, engine.channels_last)
    return [
        {
            "path": call.path,
            "type": call.type,
            "shape": list(call.shape),
            "grid": list(
                grid_of(Site(call.path, call.shape, shape[0], grid, channels_last=engine.channels_last)) or ()
            ),
            "default": call.path == default,
        }
        for call in engine.trace(inputs)
    ]


def _noise(loaded: Any) -> np.ndarray:
    """Return one sample that looks like nothing, of the shape that the model wants."""
    from PIL import Image

    from chronocam.media import ClipPreprocess

    rng, preprocess = np.random.default_rng(0), loaded.preprocess
    if preprocess is None:  # of Keras, where a model says what it takes
        shape = [_STEPS if side is None else side for side in loaded.model.input_shape[1:]]
        return rng.standard_normal((1, *shape), dtype=np.float32)
    if isinstance(preprocess, ClipPreprocess):
        return preprocess(rng.integers(0, 256, (preprocess.frames, 256, 256, 3), dtype=np.uint8))[None]
    return np.asarray(preprocess(Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8))))[None]
