"""What is done to the inputs of one call: by what they are, what the model takes, and what is options for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from chronocam.errors import InputError
from chronocam.runs.clip_features import ClipFeatureJob
from chronocam.runs.clips import ClipJob
from chronocam.runs.drives.job import DriveJob
from chronocam.runs.drives.networks import Networks, networks_of
from chronocam.runs.drives.read import FRAMES as OF_DRIVES
from chronocam.runs.drives.targets import drive_targets
from chronocam.runs.features import FeatureJob, holds_features
from chronocam.runs.inputs import holds_videos
from chronocam.runs.job import Job
from chronocam.runs.options import (
    Options,
    map_makers,
    refuse_mixed,
    refuse_of_drives,
    refuse_of_maps,
    refuse_of_relevance,
    relevance_makers,
)
from chronocam.runs.pictures import PictureJob
from chronocam.runs.targets import at_steps, classes

FRAMES = 16  # that a model of pictures is shown of a video


def plan(spec: str, trust: bool, inputs: Sequence[str], options: Options) -> Job | FeatureJob | DriveJob:
    """Load the model and return how the inputs are explained. What does not fit is told before anything is loaded."""
    from chronocam.models import load

    of_features = holds_features(inputs)
    if of_features:
        refuse_of_maps(options)
    elif options.relevance:
        refuse_mixed(options)
    else:
        refuse_of_relevance(options)
    methods = relevance_makers(options) if of_features or options.relevance else {}
    loaded = load(spec, trust=trust)
    networks = networks_of(loaded.model)
    if networks is None and options.intrinsics is not None:
        raise InputError(f"--intrinsics is for networks for depth and motion, and `{spec}` is none; drop it")
    if networks is not None:
        if of_features or options.relevance:
            raise InputError(
                f"`{spec}` explains drives by maps; give videos or folders of frames, and methods of maps"
            )
        return _of_drives(loaded, networks, options)
    if of_features:
        return FeatureJob(
            loaded, classes(loaded, options.targets, options.steps), methods, options.steps, options.out
        )
    return _of_media(loaded, inputs, options, methods)


def _of_media(loaded: Any, inputs: Sequence[str], options: Options, methods: Any) -> Job:
    from chronocam.media import ClipPreprocess

    if methods and not (isinstance(loaded.preprocess, ClipPreprocess) and _has_features(loaded.model)):
        raise InputError(
            f"{', '.join(methods)} explains features, arrays (time, feature) in .npy files, or clips through a model "
            f"with `features` and `from_features`, such as CNNLSTM; `{loaded.spec}` is none: choose gradcam for maps"
        )
    if loaded.preprocess is None:
        raise InputError(
            f"`{loaded.spec}` takes features; give arrays (time, feature) in .npy files, or a folder of them"
        )
    if not isinstance(loaded.preprocess, ClipPreprocess) and holds_videos(inputs):
        loaded = _frame_by_frame(loaded)
    targets = classes(loaded, options.targets, options.steps)
    if not isinstance(loaded.preprocess, ClipPreprocess):
        if options.of_clips:
            clips = "--frames, --start, --end, --pool and --step are for clips"
            raise InputError(f"`{loaded.spec}` takes pictures; {clips}")
        return PictureJob(
            loaded, targets or None, map_makers(options), _layers(loaded, options), options.align, options.out
        )
    wanted = loaded.preprocess.frames
    loaded = replace(loaded, preprocess=replace(loaded.preprocess, frames=options.frames or wanted))
    how = _layers(loaded, options), options.align, options.out, options.start, options.end, wanted
    if methods:
        part = FeatureJob(loaded, targets, methods, options.steps, options.out)
        return ClipFeatureJob(loaded, targets, list(methods), *how, part)
    return ClipJob(loaded, at_steps(targets, options.steps), map_makers(options), *how)


def _of_drives(loaded: Any, networks: Networks, options: Options) -> DriveJob:
    from chronocam.media import Preprocess

    refuse_of_drives(options)
    recipe = loaded.preprocess
    if not isinstance(recipe, Preprocess) or recipe.channels != "first" or len(recipe.mean) != 3:
        given = type(recipe).__name__
        raise InputError(
            f"`{loaded.spec}` comes with a {given}; expected a Preprocess of a frame, RGB channels first"
        )
    targets, layers = drive_targets(options.targets, networks, loaded.spec), networks.layers(options.layers)
    for part in layers.keys() - {target.network for target in targets}:
        raise InputError(f"--layer names one of the network for {part}, but no target is of it; drop it")
    return DriveJob(
        loaded,
        networks,
        targets,
        list(dict.fromkeys(options.methods)),
        layers,
        options.align,
        options.frames or OF_DRIVES,
        options.start,
        options.intrinsics,
        options.out,
    )


def _has_features(model: Any) -> bool:
    return callable(getattr(model, "features", None)) and callable(getattr(model, "from_features", None))


def _frame_by_frame(loaded: Any) -> Any:
    """Return a model of pictures as one of clips of 16 frames."""
    from chronocam.media import ClipPreprocess
    from chronocam.models import PerFrame

    return replace(
        loaded,
        model=PerFrame(loaded.model).eval(),
        preprocess=ClipPreprocess(loaded.preprocess, FRAMES, "time channel"),
    )


def _layers(loaded: Any, options: Options) -> list[str] | None:
    from chronocam.engines import engine_for

    home: Any = sys.modules.get("chronocam.models.per_frame")  # where it is not loaded, no model is of it
    if home is not None and isinstance(
        loaded.model, home.PerFrame
    ):  # layers are named as in the model of pictures
        return [
            f"model.{path}" for path in map(engine_for(loaded.model.model).resolve, options.layers)
        ] or None
    return [engine_for(loaded.model).resolve(layer) for layer in options.layers] or None
