"""What is done to the inputs of one call: by what they are, what the model takes, and what is asked for."""

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
    Asked,
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


def planned(spec: str, trust: bool, inputs: Sequence[str], asked: Asked) -> Job | FeatureJob | DriveJob:
    """Load the model and return how the inputs are explained. What does not fit is told before anything is loaded."""
    from chronocam.models import load

    of_features = holds_features(inputs)
    if of_features:
        refuse_of_maps(asked)
    elif asked.relevance:
        refuse_mixed(asked)
    else:
        refuse_of_relevance(asked)
    methods = relevance_makers(asked) if of_features or asked.relevance else {}
    loaded = load(spec, trust=trust)
    networks = networks_of(loaded.model)
    if networks is None and asked.intrinsics is not None:
        raise InputError(f"--intrinsics is for networks for depth and motion, and `{spec}` is none; drop it")
    if networks is not None:
        if of_features or asked.relevance:
            raise InputError(
                f"`{spec}` explains drives by maps; give videos or folders of frames, and methods of maps"
            )
        return _of_drives(loaded, networks, asked)
    if of_features:
        return FeatureJob(
            loaded, classes(loaded, asked.targets, asked.steps), methods, asked.steps, asked.out
        )
    return _of_media(loaded, inputs, asked, methods)


def _of_media(loaded: Any, inputs: Sequence[str], asked: Asked, methods: Any) -> Job:
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
    targets = classes(loaded, asked.targets, asked.steps)
    if not isinstance(loaded.preprocess, ClipPreprocess):
        if asked.of_clips:
            clips = "--frames, --start, --end, --pool and --step are for clips"
            raise InputError(f"`{loaded.spec}` takes pictures; {clips}")
        return PictureJob(
            loaded, targets or None, map_makers(asked), _layers(loaded, asked), asked.align, asked.out
        )
    wanted = loaded.preprocess.frames
    loaded = replace(loaded, preprocess=replace(loaded.preprocess, frames=asked.frames or wanted))
    how = _layers(loaded, asked), asked.align, asked.out, asked.start, asked.end, wanted
    if methods:
        part = FeatureJob(loaded, targets, methods, asked.steps, asked.out)
        return ClipFeatureJob(loaded, targets, list(methods), *how, part)
    return ClipJob(loaded, at_steps(targets, asked.steps), map_makers(asked), *how)


def _of_drives(loaded: Any, networks: Networks, asked: Asked) -> DriveJob:
    from chronocam.media import Preprocess

    refuse_of_drives(asked)
    recipe = loaded.preprocess
    if not isinstance(recipe, Preprocess) or recipe.channels != "first" or len(recipe.mean) != 3:
        given = type(recipe).__name__
        raise InputError(
            f"`{loaded.spec}` comes with a {given}; expected a Preprocess of a frame, RGB channels first"
        )
    targets, layers = drive_targets(asked.targets, networks, loaded.spec), networks.layers(asked.layers)
    for part in layers.keys() - {target.network for target in targets}:
        raise InputError(f"--layer names one of the network for {part}, but no target is of it; drop it")
    return DriveJob(
        loaded,
        networks,
        targets,
        list(dict.fromkeys(asked.methods)),
        layers,
        asked.align,
        asked.frames or OF_DRIVES,
        asked.start,
        asked.intrinsics,
        asked.out,
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


def _layers(loaded: Any, asked: Asked) -> list[str] | None:
    from chronocam.engines import engine_for

    home: Any = sys.modules.get("chronocam.models.per_frame")  # where it is not loaded, no model is of it
    if home is not None and isinstance(
        loaded.model, home.PerFrame
    ):  # layers are named as in the model of pictures
        return [f"model.{path}" for path in map(engine_for(loaded.model.model).resolve, asked.layers)] or None
    return [engine_for(loaded.model).resolve(layer) for layer in asked.layers] or None
