"""`chronocam maximise SPEC`: inputs that excite a channel, or a class, as much as they can."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from chronocam.errors import InputError
from chronocam.runs.job import slug
from chronocam.runs.sheets import JSON, OUT, TRUST, network, tell, write_sheet

_SIDES: Final = (224, 224)  # of pictures where neither the model nor the call says another size


@click.command("maximise", context_settings={"show_default": True})
@click.argument("spec")
@click.option("--layer", help="Dotted path.  [default: the model's output, whose channels are classes]")
@click.option(
    "--channel", "channels", multiple=True, required=True, help="Number; of the output a label too."
)
@click.option(
    "--size", type=click.IntRange(min=8), help="Height and width in pixels.  [default: the model's]"
)
@click.option("--steps", default=128, help="Of gradient ascent.")
@click.option("--rate", default=0.05, help="Length of a step, in units of the input.")
@click.option("--jitter", default=8, help="Pixels that the input is moved by at most before each look.")
@click.option("--spectrum", default=0.7, help="By which power of the frequency fine detail is held back.")
@click.option("--variation", default=0.3, help="Weight of the total variation.")
@click.option("--norm", default=0.01, help="Weight of the squared length.")
@click.option("--seed", default=0, help="Of the noise that it begins with, and of the jitter.")
@OUT
@JSON
@TRUST
def command(
    spec: str,
    layer: str | None,
    channels: Sequence[str],
    size: int | None,
    out: Path,
    as_json: bool,
    trust: bool,
    **options: Any,
) -> None:
    """Draw inputs that maximise the mean activation of channels of the model SPEC, by gradient ascent from noise.

    OUT gets a sheet with the inputs and the curves of the activation, and the same as JSON.
    """
    from chronocam.features import activation_maximisation

    loaded = network(spec, trust)
    numbers = [int(one) if re.fullmatch(r"-?\d+", one) else one for one in dict.fromkeys(channels)]
    shape, preprocess = _input(loaded, size)
    found = activation_maximisation(
        loaded.model, layer, numbers, shape=shape, preprocess=preprocess, **options
    )
    entries = [
        {"channel": number, "name": name, "start": curve[0], "end": curve[-1], "curve": curve.tolist()}
        for number, name, curve in zip(found.channels, found.names, found.curves, strict=True)
    ]
    name = f"maximise.{slug(found.layer)}.{slug('-'.join(map(str, found.channels)))}"
    result = {"layer": found.layer, "shape": list(shape), "settings": options, "channels": entries}
    result["diagnostics"] = list(found.diagnostics)
    tell(spec, [write_sheet(found, out, name, spec, result)], as_json)


def _input(loaded: Any, size: int | None) -> tuple[tuple[int, ...], Any]:
    """Return the shape of one input, and the preprocessing that says how its colours are meant."""
    import numpy as np
    from PIL import Image

    from chronocam.media import ClipPreprocess, Preprocess

    preprocess = loaded.preprocess
    if isinstance(preprocess, ClipPreprocess):
        frame = _sized(preprocess.frame, size)
        black = np.zeros((preprocess.frames, *_SIDES, 3), np.uint8)
        return tuple(replace(preprocess, frame=frame)(black).shape), frame
    if isinstance(preprocess, Preprocess):
        preprocess = _sized(preprocess, size)
        return tuple(preprocess(Image.new("RGB", _SIDES)).shape), preprocess
    raise InputError(f"`{loaded.spec}` takes neither pictures nor clips; call cc.features in Python")


def _sized(preprocess: Any, size: int | None) -> Any:
    return preprocess if size is None else replace(preprocess, resize=(size, size), crop=None)
