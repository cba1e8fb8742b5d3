"""`chronocam features PHOTO`: what the channels of a layer answer to a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from chronocam.errors import InputError
from chronocam.runs.job import slug
from chronocam.runs.sheets import JSON, OUT, TRUST, network, tell, write_sheet


@click.command("features")
@click.argument("photo", type=click.Path(path_type=Path))
@click.option("--model", "spec", required=True, help="Model spec, such as torchvision:resnet50.")
@click.option("--layer", "layers", multiple=True, required=True, help="Dotted path; one sheet per layer.")
@click.option(
    "--channel", "channels", multiple=True, type=int, help="Number of a channel; the strongest if none."
)
@click.option(
    "--count", type=click.IntRange(min=1), default=16, show_default=True, help="Channels that are drawn."
)
@click.option(
    "--scale",
    type=click.Choice(["all", "channel"]),
    default="all",
    show_default=True,
    help="One scale of colours for all channels, or one for each.",
)
@OUT
@JSON
@TRUST
def command(
    photo: Path,
    spec: str,
    layers: Sequence[str],
    channels: Sequence[int],
    count: int,
    scale: str,
    out: Path,
    as_json: bool,
    trust: bool,
) -> None:
    """Draw the feature maps of PHOTO: a picture per channel of a layer, strongest first, under its number.

    OUT gets a sheet per layer and the strength (mean |activation|) and maximum of each channel drawn as JSON;
    a clip is drawn as frames in a row. `chronocam layers SPEC` lists the layers.
    """
    from chronocam.features import feature_maps

    loaded = network(spec, trust)
    inputs = _read(photo, loaded)
    results = []
    for layer in dict.fromkeys(layers):
        found = feature_maps(loaded.model, layer, inputs, list(dict.fromkeys(channels)) or None)
        shown = max(count, len(set(channels)))
        numbers = {"input": str(photo), "layer": found.layer, **_numbers(found, shown)}
        name = f"{slug(photo.stem)}.features.{slug(found.layer)}"
        results.append(write_sheet(found, out, name, spec, numbers, count=shown, scale=scale))
    tell(spec, results, as_json)


def _read(photo: Path, loaded: Any) -> Any:
    """Return the batch of one that the model takes."""
    from chronocam.media import ClipPreprocess, Preprocess, read_image

    if isinstance(loaded.preprocess, ClipPreprocess):
        return loaded.preprocess(loaded.preprocess.read(photo))[None]
    if not isinstance(loaded.preprocess, Preprocess):
        raise InputError(
            f"`{loaded.spec}` takes neither pictures nor clips; call cc.features.feature_maps in Python"
        )
    return loaded.preprocess(read_image(photo))[None]


def _numbers(found: Any, count: int) -> dict[str, Any]:
    import numpy as np

    maps = {number: found.maps[0, found.channels.index(number)] for number in found.strongest(0, count)}
    channels = [
        {"channel": number, "strength": float(np.abs(values).mean()), "max": float(values.max())}
        for number, values in maps.items()
    ]
    return {"grid": list(found.maps.shape[2:]), "of": found.of, "channels": channels}
