"""`PATH/model.json`: what `chronocam train` wrote, and the weights beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from chronocam.errors import MediaError, first_line
from chronocam.jsonable import Json, read_json
from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.preprocess import Preprocess
from chronocam.models.loading import load
from chronocam.models.specs import PATH, Model, ModelRequest, ModelSource, Parts, need

_WIDEST: Final = 8192  # units of a recurrent network: half a billion weights

IMAGES: Final = "chronocam images 1"
KERAS_IMAGES: Final = "chronocam keras images 1"
VIDEO: Final = "chronocam video 1"
ODOMETRY: Final = "chronocam odometry 1"
"""Stand in the records that this reads."""


def _load(request: ModelRequest) -> Parts:
    record = _record(request)
    try:
        if record["format"] == KERAS_IMAGES:
            return _keras_images(record, request)
        net, preprocess, labels = BUILT[record["format"]](record)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        problem = f"the record is damaged ({type(error).__name__}: {first_line(error)})"
        raise request.error(problem, "train again") from error
    _fill(net, request.file().with_suffix(".safetensors"), request)
    return net, preprocess, labels


def _keras_images(record: Json, request: ModelRequest) -> Parts:
    """Return the network that Keras saved beside the record, without running code in it, on any backend."""
    options: Json = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in record["preprocess"].items()
    }
    preprocess = Preprocess(crop=None, **options)
    labels = tuple(str(label) for label in record["labels"])
    path = request.file().with_suffix(".keras")
    _insist_on_weights(path, request)
    return load(str(path)).model, preprocess, labels


def _video(record: Json) -> Parts:
    nets = need("chronocam.lab.models.video", "torch")
    labels = tuple(str(label) for label in record["labels"])
    if not 0 < int(record["hidden"]) <= _WIDEST:
        raise ValueError(f"hidden is {record['hidden']}; expected at most {_WIDEST}")
    net = nets.video_net(record["arch"], record["backbone"], len(labels), record["hidden"])
    return net, recipe(record), labels


def _images(record: Json) -> Parts:
    nets = need("chronocam.lab.models.images", "torch")
    labels = tuple(str(label) for label in record["labels"])
    height, width = record["size"]
    colours = tuple(record["mean"]), tuple(record["std"])
    preprocess = Preprocess(record["resize"], (height, width), *colours, record["interpolation"])
    return nets.image_net(record["arch"], len(labels)), preprocess, labels


def odometry_parts(record: Json) -> Parts:
    """Return the networks for depth and motion that a record describes, with random weights."""
    nets = need("chronocam.lab.models.odometry", "torch")
    net = nets.described(record)
    return net, picture(record), net.pose.labels


BUILT: Final[dict[str, Callable[[Json], Parts]]] = {
    IMAGES: _images,
    VIDEO: _video,
    ODOMETRY: odometry_parts,
}


def picture(record: Json) -> Preprocess:
    """Return the preprocessing of one frame that a record holds."""
    return Preprocess(tuple(record["size"]), None, tuple(record["mean"]), tuple(record["std"]))


def recipe(record: Json) -> ClipPreprocess:
    """Return the preprocessing of clips that a record holds."""
    return ClipPreprocess(picture(record), record["frames"], record["axes"], record["sampling"])


def _record(request: ModelRequest) -> Json:
    try:
        record = read_json(request.file())
    except MediaError as error:
        raise request.error(str(error), "expected model.json") from error
    if not isinstance(record, dict) or record.get("format") not in (*BUILT, KERAS_IMAGES):
        raise request.error(
            "does not describe a trained network", "expected the model.json of `chronocam train`"
        )
    return record


def _insist_on_weights(path: Path, request: ModelRequest) -> None:
    if not path.is_file():
        raise request.error(f"there is no file `{path}`", "the weights belong beside the record")


def _fill(net: Model, path: Path, request: ModelRequest) -> None:
    _insist_on_weights(path, request)
    try:
        net.load_state_dict(need("safetensors.torch", "torch").load_file(path))
    except Exception as error:  # a damaged file, or weights of another network
        problem = f"`{path.name}` does not hold the weights of this network ({first_line(error)})"
        raise request.error(problem, "keep the two files that were written together") from error


SOURCE = ModelSource("PATH/model.json", rf"({PATH}\.json)", _load, about="what `chronocam train` wrote")
