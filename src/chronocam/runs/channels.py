"""Sheets of channels: feature maps of a picture, filters of a convolution, inputs that excite a channel."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import numpy as np

from chronocam.errors import InputError
from chronocam.runs.drives.networks import networks_of
from chronocam.runs.files import slug, write_json

if TYPE_CHECKING:
    from chronocam.features import FeatureMaps
    from chronocam.features.drawn import Drawn
    from chronocam.media import Preprocess
    from chronocam.models import Loaded

_SIDES: Final = (224, 224)  # of pictures whose size neither the model nor the call says


def draw_features(
    spec: str,
    photo: Path,
    layers: Sequence[str],
    channels: Sequence[int],
    count: int,
    scale: str,
    out: Path,
    trust: bool,
) -> Iterator[dict[str, Any]]:
    """Write a sheet of the feature maps of each layer, and yield its numbers."""
    from chronocam.features import feature_maps

    loaded = _loaded(spec, trust)
    inputs = _read(photo, loaded)
    count = max(count, len(set(channels)))  # channels that are named are drawn, whatever --count says
    for layer in dict.fromkeys(layers):
        maps = feature_maps(loaded.model, layer, inputs, list(dict.fromkeys(channels)) or None)
        numbers = {"input": str(photo), "layer": maps.layer, **_numbers(maps, count)}
        name = f"{slug(photo.stem)}.features.{slug(maps.layer)}"
        yield _written(maps, out, name, spec, numbers, count=count, scale=scale)


def draw_filters(
    spec: str, layer: str | None, count: int, frames: str, out: Path, trust: bool
) -> dict[str, Any]:
    """Write a sheet of the filters of a convolution, and return their norms."""
    from chronocam.features import filters
    from chronocam.media import Preprocess
    from chronocam.models import load

    loaded = load(spec, trust=trust)
    # Only pictures may have another order of colours than RGB; frames of clips never have.
    recipe = loaded.preprocess if isinstance(loaded.preprocess, Preprocess) else None
    bank = filters(loaded.model, layer, preprocess=recipe)
    norms = np.sqrt((bank.kernels**2).reshape(len(bank.kernels), -1).sum(axis=1))
    numbers = {"layer": bank.layer, "shape": list(bank.kernels.shape), "norms": norms.tolist()}
    return _written(bank, out, f"filters.{slug(bank.layer)}", spec, numbers, count=count, frames=frames)


def draw_maximised(
    spec: str,
    layer: str | None,
    channels: Sequence[str],
    size: int | None,
    settings: Mapping[str, float],
    out: Path,
    trust: bool,
) -> dict[str, Any]:
    """Write a sheet of inputs that maximise channels, and return how their activation rose."""
    from chronocam.features import activation_maximisation

    loaded = _loaded(spec, trust)
    names = [int(one) if re.fullmatch(r"-?\d+", one) else one for one in dict.fromkeys(channels)]
    shape, recipe = _input(loaded, size)
    best = activation_maximisation(
        loaded.model, layer, names, shape=shape, preprocess=recipe, **dict[str, Any](settings)
    )
    entries = [
        {"channel": number, "name": name, "start": curve[0], "end": curve[-1], "curve": curve.tolist()}
        for number, name, curve in zip(best.channels, best.names, best.curves, strict=True)
    ]
    numbers: dict[str, Any] = {"layer": best.layer, "shape": list(shape), "settings": dict(settings)}
    numbers |= {"channels": entries, "diagnostics": list(best.diagnostics)}
    name = f"maximise.{slug(best.layer)}.{slug('-'.join(map(str, best.channels)))}"
    return _written(best, out, name, spec, numbers)


def report_sheets(
    spec: str, sheets: Iterator[dict[str, Any]] | Sequence[dict[str, Any]], as_json: bool
) -> None:
    """Say on stderr which pictures were written, and print the numbers to stdout as JSON if asked to."""
    results = list(sheets)
    for result in results:
        click.echo(f"{result['layer']} → {result['picture']}", err=True)
        for finding in result.get("diagnostics", ()):
            click.echo(f"  {finding}", err=True)
    if as_json:
        click.echo(json.dumps({"model": spec, "results": results}, indent=2))


def _loaded(spec: str, trust: bool) -> Loaded:
    """Load a model of one picture or clip. Raises InputError for networks of several frames."""
    from chronocam.models import load

    loaded = load(spec, trust=trust)
    if networks_of(loaded.model) is not None:
        todo = "look at one of them in Python, with cc.features and the networks' attributes pose and depth"
        raise InputError(f"`{spec}` holds networks for depth and motion, which take several frames; {todo}")
    return loaded


def _read(photo: Path, loaded: Loaded) -> np.ndarray:
    """Return the picture or clip as the batch of one that the model takes."""
    from chronocam.media import ClipPreprocess, read_image

    recipe = loaded.preprocess
    if recipe is None:
        raise InputError(
            f"`{loaded.spec}` takes neither pictures nor clips; call cc.features.feature_maps in Python"
        )
    if isinstance(recipe, ClipPreprocess):
        return recipe(recipe.read(photo))[None]
    return recipe(read_image(photo))[None]


def _numbers(maps: FeatureMaps, count: int) -> dict[str, Any]:
    """Return what the JSON says of the strongest channels."""
    values = {number: maps.maps[0, maps.channels.index(number)] for number in maps.strongest(0, count)}
    channels = [
        {"channel": number, "strength": float(np.abs(one).mean()), "max": float(one.max())}
        for number, one in values.items()
    ]
    return {"grid": list(maps.maps.shape[2:]), "of": maps.of, "channels": channels}


def _input(loaded: Loaded, size: int | None) -> tuple[tuple[int, ...], Preprocess]:
    """Return the shape of one input, and the preprocessing that says how its colours are meant."""
    from PIL import Image

    from chronocam.media import ClipPreprocess

    recipe = loaded.preprocess
    if recipe is None:
        raise InputError(f"`{loaded.spec}` takes neither pictures nor clips; call cc.features in Python")
    if isinstance(recipe, ClipPreprocess):
        frame = _sized(recipe.frame, size)
        black = np.zeros((recipe.frames, *_SIDES, 3), np.uint8)
        return tuple(replace(recipe, frame=frame)(black).shape), frame
    recipe = _sized(recipe, size)
    return tuple(recipe(Image.new("RGB", _SIDES)).shape), recipe


def _sized(recipe: Preprocess, size: int | None) -> Preprocess:
    return recipe if size is None else replace(recipe, resize=(size, size), crop=None)


def _written(
    record: Drawn, out: Path, name: str, spec: str, numbers: dict[str, Any], **options: Any
) -> dict[str, Any]:
    """Write a record's sheet and numbers as NAME.png and NAME.json, and return the numbers."""
    picture = record.save(out / f"{name}.png", **options)
    numbers = {**numbers, "picture": str(picture)}
    write_json(out, name, {"model": spec, **numbers})
    return numbers
