"""`load(spec)`: a model as its source gives it, with what is said of it and beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chronocam.detections.adapters import AdapterLike, adapter_for
from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.preprocess import Preprocess
from chronocam.models.sources.python import function_named
from chronocam.models.specs import Loaded, resolve, within
from chronocam.models.wants import Wants, beside, labels_of
from chronocam.types import BlackBox


def load(
    spec: str,
    *,
    trust: bool = False,
    preprocess: Preprocess | ClipPreprocess | Mapping[str, Any] | None = None,
    labels: Sequence[str] | str | Path | None = None,
    template: str | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    adapter: AdapterLike = None,
    boxes: str | None = None,
) -> Loaded:
    """Load the model that `spec` names, in eval mode, with its preprocessing and labels.

    spec: `torchvision:NAME`, `timm:NAME`, `hf:NAME-or-folder`, `PATH.safetensors@ARCHITECTURE`, `PATH.pt2`,
    `PATH/model.json`, `python:package.module:factory`, `chronocam:digits`, …; an unknown one is answered with
        all forms.
    trust: let files run code while they load; without it, a file that could is refused.
    preprocess: how inputs are prepared, or what of it is to be otherwise, as in
        `{"size": (66, 200), "range": (-1, 1), "channels": "bgr"}`: size, mean, std, scale, range, channels
        (rgb, bgr, grey, yuv, bgr2yuv), axes, frames. A `chronocam.json` beside the file may say the same, and
        labels; what is given here comes first.
    labels: the names of the outputs, or a file with a label per line. For a model of two towers (CLIP,
        SigLIP) they are texts, which make it a classifier.
    template: what such texts stand in; None is `"a photo of a {}."`.
    custom_objects: of a Keras file, classes of layers and functions of Lambda layers, by the name in it.
    adapter, boxes: how the rows of a detector are read, as of `cc.detect`, which then needs neither; a
        function may also be named, `package.module:function`.

    Raises ModelError, in one line, where the spec is unknown, what it names cannot be loaded or what is said
    of the inputs does not fit.

    Example:
        >>> loaded = cc.models.load("chronocam:digits")
        >>> loaded.preprocess.resize, loaded.labels[:3], loaded.model.training
        ((96, 96), ('0', '1', '2'), False)
    """
    source, request = resolve(within(spec))
    of_file = request.names[:1] != () and request.text.startswith(request.names[0])
    wants = beside(Path(request.names[0])) if of_file else Wants()
    if isinstance(preprocess, Mapping):
        wants = Wants.of(preprocess, f"`{spec}`").over(wants)
    if labels is not None:
        wants = replace(wants, labels=labels_of(labels))
    sized = (wants.size, wants.frames, wants.axes) != (None, None, None)
    request = replace(request, trust=trust, custom_objects=custom_objects or {}, sized=sized)
    model, recipe, names = source.load(request)
    if callable(getattr(model, "eval", None)):
        model.eval()
    whole = preprocess if isinstance(preprocess, (Preprocess, ClipPreprocess)) else None
    recipe = whole or wants.applied(recipe, f"`{spec}`")
    if isinstance(model, BlackBox) and recipe is not None:
        _told_axes(model, recipe)
    own = getattr(model, "labels", None)
    names = wants.labels or names or (None if own is None else tuple(own))
    if names is not None and (own is None or wants.labels is not None):
        model.labels = names  # so that targets can be given by name
    if template is not None:
        model.template = template
    if adapter is not None or boxes is not None:
        named = isinstance(adapter, str) and ":" in adapter
        model.box_adapter = adapter_for(model, function_named(str(adapter)) if named else adapter, boxes)
    return Loaded(model, recipe, names, spec)


def _told_axes(model: BlackBox, recipe: Preprocess | ClipPreprocess) -> None:
    """Tell a black box, whose layers say nothing, where the channels of its inputs are."""
    clips = isinstance(recipe, ClipPreprocess)
    frame = recipe.frame if isinstance(recipe, ClipPreprocess) else recipe
    rank = 3 if clips and getattr(recipe, "axes", "") == "channel time" else 2
    model.channels_last, model.stem = frame.channels == "last", (rank, len(frame.mean))
