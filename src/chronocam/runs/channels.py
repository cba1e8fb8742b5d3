"""Sheets of channels: feature maps of a picture, filters of a convolution, inputs that excite a channel."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import numpy as np

from chronocam.errors import InputError
from chronocam.jsonable import JsonRecord
from chronocam.media.files import distinct
from chronocam.runs.drives.networks import networks_of
from chronocam.runs.files import slug, write_json
from chronocam.runs.terminal import put_json, say

if TYPE_CHECKING:
    from chronocam.features import FeatureMaps
    from chronocam.media import Preprocess
    from chronocam.models import Loaded

_S = TypeVar("_S", bound=JsonRecord)

_SIDES: Final = (224, 224)  # of pictures whose size neither the model nor the call says


@dataclass(frozen=True, kw_only=True)
class ChannelEntry(JsonRecord):
    """A channel of a feature map.

    strength: its mean |activation|.
    """

    channel: int
    strength: float
    max: float


@dataclass(frozen=True, kw_only=True)
class FeatureSheet(JsonRecord):
    """The feature maps of a layer.

    of: how many channels it has.
    """

    input: str
    layer: str
    grid: tuple[int, ...]
    of: int
    channels: list[ChannelEntry]
    picture: str


@dataclass(frozen=True, kw_only=True)
class FilterSheet(JsonRecord):
    """The filters of a convolution."""

    layer: str
    shape: tuple[int, ...]
    norms: list[float]
    picture: str


@dataclass(frozen=True, kw_only=True)
class RiseEntry(JsonRecord):
    """How the activation of one channel rose."""

    channel: int
    name: str
    start: float
    end: float
    curve: list[float]


@dataclass(frozen=True, kw_only=True)
class MaximisedSheet(JsonRecord):
    """Inputs that maximise channels."""

    layer: str
    shape: tuple[int, ...]
    settings: Mapping[str, float]
    channels: list[RiseEntry]
    diagnostics: tuple[str, ...]
    picture: str


Sheet: TypeAlias = FeatureSheet | FilterSheet | MaximisedSheet
"""What is written about one sheet."""


def draw_features(
    spec: str,
    photo: Path,
    layers: Sequence[str],
    channels: Sequence[int],
    count: int,
    scale: str,
    out: Path,
    trust: bool,
) -> list[FeatureSheet]:
    """Write a sheet of the feature maps of each layer, and return its numbers."""
    from chronocam.features import feature_maps

    loaded = _loaded(spec, trust)
    inputs = _read(photo, loaded)
    count = max(count, len(set(channels)))  # channels that are named are drawn, whatever --count says
    sheets = []
    taken: set[str] = set()
    for layer in dict.fromkeys(layers):
        maps = feature_maps(loaded.model, layer, inputs, list(dict.fromkeys(channels)) or None)
        name = f"{slug(photo.stem)}.features.{distinct(slug(maps.layer), taken)}"
        sheet = FeatureSheet(
            input=str(photo),
            layer=maps.layer,
            grid=maps.maps.shape[2:],
            of=maps.of,
            channels=_strongest(maps, count),
            picture=str(maps.save(out / f"{name}.png", count=count, scale=scale)),
        )
        sheets.append(_written(sheet, out, name, spec))
    return sheets


def draw_filters(
    spec: str, layer: str | None, count: int, frames: str, out: Path, trust: bool
) -> FilterSheet:
    """Write a sheet of the filters of a convolution, and return their norms."""
    from chronocam.features import filters
    from chronocam.media import Preprocess
    from chronocam.models import load

    loaded = load(spec, trust=trust)
    # Only pictures may have another order of colours than RGB; frames of clips never have.
    recipe = loaded.preprocess if isinstance(loaded.preprocess, Preprocess) else None
    bank = filters(loaded.model, layer, preprocess=recipe)
    norms = np.sqrt((bank.kernels**2).reshape(len(bank.kernels), -1).sum(axis=1))
    name = f"filters.{slug(bank.layer)}"
    sheet = FilterSheet(
        layer=bank.layer,
        shape=bank.kernels.shape,
        norms=norms.tolist(),
        picture=str(bank.save(out / f"{name}.png", count=count, frames=frames)),
    )
    return _written(sheet, out, name, spec)


def draw_maximised(
    spec: str,
    layer: str | None,
    channels: Sequence[str],
    size: int | None,
    settings: Mapping[str, float],
    out: Path,
    trust: bool,
) -> MaximisedSheet:
    """Write a sheet of inputs that maximise channels, and return how their activation rose.

    settings: the keyword arguments of `activation_maximisation`.
    """
    from chronocam.features import activation_maximisation

    loaded = _loaded(spec, trust)
    names = [int(one) if re.fullmatch(r"-?\d+", one) else one for one in dict.fromkeys(channels)]
    shape, recipe = _input(loaded, size)
    options: dict[str, Any] = {"shape": shape, "preprocess": recipe, **settings}
    best = activation_maximisation(loaded.model, layer, names, **options)
    name = f"maximise.{slug(best.layer)}.{slug('-'.join(map(str, best.channels)))}"
    rises = zip(best.channels, best.names, best.curves.tolist(), strict=True)
    sheet = MaximisedSheet(
        layer=best.layer,
        shape=shape,
        settings=settings,
        channels=[
            RiseEntry(channel=number, name=label, start=curve[0], end=curve[-1], curve=curve)
            for number, label, curve in rises
        ],
        diagnostics=best.diagnostics,
        picture=str(best.save(out / f"{name}.png")),
    )
    return _written(sheet, out, name, spec)


def report_sheets(spec: str, sheets: Sequence[Sheet], as_json: bool) -> None:
    """Say on stderr which pictures were written, and print the numbers to stdout as JSON where asked to."""
    for sheet in sheets:
        findings = sheet.diagnostics if isinstance(sheet, MaximisedSheet) else ()
        say(f"{sheet.layer} → {sheet.picture}", *(f"  {finding}" for finding in findings))
    if as_json:
        data = {"model": spec, "results": [sheet.to_json() for sheet in sheets]}
        put_json(data)


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


def _strongest(maps: FeatureMaps, count: int) -> list[ChannelEntry]:
    values = {number: maps.maps[0, maps.channels.index(number)] for number in maps.strongest(0, count)}
    return [
        ChannelEntry(channel=number, strength=float(np.abs(one).mean()), max=float(one.max()))
        for number, one in values.items()
    ]


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


def _written(sheet: _S, out: Path, name: str, spec: str) -> _S:
    """Write the numbers of a sheet as NAME.json, and return the sheet."""
    write_json(out, name, {"model": spec, **sheet.to_json()})
    return sheet
