"""`PATH/model.json`: what `chronocam train video` wrote, and the weights beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from chronocam.media.preprocess import Preprocess
from chronocam.media.preprocess_clip import ClipPreprocess
from chronocam.models.specs import PATH, Parts, Request, Source, first_line, need

FORMAT: Final = "chronocam video 1"
"""Stands in the records that this reads."""


def _load(request: Request) -> Parts:
    record, nets = _record(request), need("chronocam.models.video_nets", "torch")
    try:
        labels = tuple(str(label) for label in record["labels"])
        net = nets.video_net(record["arch"], record["backbone"], len(labels), record["hidden"])
        preprocess = recipe(record)
    except (KeyError, TypeError, ValueError) as error:
        problem = f"the record is damaged ({type(error).__name__}: {first_line(error)})"
        raise request.error(problem, "train again") from error
    _fill(net, request.file().with_suffix(".safetensors"), request)
    return net, preprocess, labels


def recipe(record: Mapping[str, Any]) -> ClipPreprocess:
    """Return the preprocessing that a record holds."""
    frame = Preprocess(tuple(record["size"]), None, tuple(record["mean"]), tuple(record["std"]))
    return ClipPreprocess(frame, record["frames"], record["axes"], record["sampling"])


def _record(request: Request) -> Mapping[str, Any]:
    try:
        record = json.loads(request.file().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise request.error(f"cannot be read as JSON ({first_line(error)})", "expected model.json") from error
    if not isinstance(record, Mapping) or record.get("format") != FORMAT:
        raise request.error("is no record of a trained network", "expected the model.json of `chronocam train video`")
    return record


def _fill(net: Any, path: Path, request: Request) -> None:
    if not path.is_file():
        raise request.error(f"there is no file `{path}`", "the weights belong beside the record")
    try:
        net.load_state_dict(need("safetensors.torch", "torch").load_file(path))
    except Exception as error:  # a damaged file, or weights of another network
        problem = f"`{path.name}` does not hold the weights of this network ({first_line(error)})"
        raise request.error(problem, "keep the two files that were written together") from error


SOURCE = Source("PATH/model.json", rf"({PATH}\.json)", _load)
