"""The job of one call, by its inputs, its options and what the model takes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from chronocam.detections import finds_boxes
from chronocam.engines import engine_for
from chronocam.errors import InputError
from chronocam.methods._base import method_named
from chronocam.runs.clip_features import ClipFeatureJob
from chronocam.runs.clips import ClipJob
from chronocam.runs.device import load_on
from chronocam.runs.drives.job import DriveJob
from chronocam.runs.drives.networks import Networks, networks_of
from chronocam.runs.drives.read import FRAMES as DRIVE_FRAMES
from chronocam.runs.drives.targets import drive_targets
from chronocam.runs.features import FeatureJob
from chronocam.runs.inputs import holds_arrays, holds_videos
from chronocam.runs.job import Job
from chronocam.runs.layers import runs
from chronocam.runs.methods import RelevanceMakers, map_makers, relevance_makers
from chronocam.runs.options import Kind, Options, refuse_misfits
from chronocam.runs.pictures import PictureJob
from chronocam.runs.signals import SignalJob
from chronocam.runs.targets import at_steps, classes, scored
from chronocam.sequence import METHODS as SEQUENCE_METHODS
from chronocam.types import BlackBox

if TYPE_CHECKING:
    from chronocam.media import ClipPreprocess, Preprocess
    from chronocam.models import Loaded

FRAMES: Final = 16  # of a video that a model of pictures sees
_SAMPLES: Final = 16000  # of a waveform: a second of speech


def plan(
    spec: str,
    trust: bool,
    inputs: Sequence[str],
    options: Options,
    device: str | None = None,
    wants: Mapping[str, str] | None = None,
) -> Job:
    """Load the model and return the job that explains the inputs.

    device: where the model runs; None for where it is loaded.
    wants: what was said of its inputs and labels, as of `chronocam.models.load`.

    Options that do not fit are refused as early as they are known to: before the model is loaded, where the
    inputs or the methods alone say so.
    """
    # Loading a model may take minutes and a download, so that whatever is wrong already is said first.
    arrays = holds_arrays(inputs)
    if arrays:
        refuse_misfits(options, ["features", "signals"], "the inputs are arrays")
    elif options.relevance:
        refuse_misfits(options, ["clip features"], "the methods explain a clip's features")
    else:
        refuse_misfits(options, ["pictures", "clips", "drives"], "the methods make maps")
    relevance = relevance_makers(options) if options.relevance else {}
    loaded = load_on(device, spec, trust, wants)
    options = with_method(loaded, options)
    networks = networks_of(loaded.model)
    if networks is not None:
        if relevance:
            todo = "give videos or folders of frames, and methods of maps"
            raise InputError(f"`{spec}` explains drives by maps; {todo}")
        _refuse(options, "drives", loaded)
        return _drive_job(loaded, networks, options)
    if arrays:
        return _array_job(loaded, options)
    return _media_job(loaded, holds_videos(inputs), relevance, options)


def _of_places(loaded: Loaded, options: Options) -> str | None:
    """Return the method for boxes or regions, which keeps their place; None for classes."""
    boxes = options.min_score is not None or any(text.startswith("box:") for text in options.targets)
    if boxes or finds_boxes(loaded.model):
        return "odam"
    return "hirescam" if any(text.startswith("region:") for text in options.targets) else None


def with_method(loaded: Loaded, options: Options) -> Options:
    """Return options with the method that suits, where none is named and gradcam does not."""
    if options.methods:
        return options
    if isinstance(loaded.model, BlackBox):  # shows its scores alone
        return replace(options, methods=("occlusion",))
    method = _of_places(loaded, options)
    return options if method is None else replace(options, methods=(method,))


def map_job(loaded: Loaded, videos: bool, options: Options) -> PictureJob | ClipJob:
    """Return the job that explains pictures or clips by maps.

    videos: whether the inputs of a model of pictures are videos.

    Raises InputError for a model that takes neither, and for methods that make no maps.
    """
    if networks_of(loaded.model) is not None or loaded.preprocess is None:
        raise InputError(f"`{loaded.spec}` takes neither pictures nor clips; `chronocam explain` does others")
    for name in options.methods:
        if name in SEQUENCE_METHODS:
            raise InputError(f"{name} makes no maps; choose methods such as gradcam")
        method_named(name)
    return _media_job(loaded, videos, {}, options)


def _refuse(options: Options, kind: Kind, loaded: Loaded) -> None:
    refuse_misfits(options, [kind], f"`{loaded.spec}` takes {kind}")


def _array_job(loaded: Loaded, options: Options) -> FeatureJob | SignalJob:
    """Return the job for arrays: of signals, for a network of those, or where the methods make maps alone."""
    maps = bool(options.methods) and not set(options.methods) & set(SEQUENCE_METHODS)
    maps = maps and not _has_features(loaded.model)
    signals = takes_signals(loaded.model) or _takes_waveforms(loaded.model)
    if options.relevance or not (maps or signals):
        refuse_misfits(options, ["features"], "the inputs are arrays of features")
        return _feature_job(loaded, relevance_makers(options), options)
    _refuse(options, "signals", loaded)
    return SignalJob(
        loaded=loaded,
        out=options.out,
        draws=options.pictures is not False,
        targets=classes(loaded, options.targets, options.steps) or None,
        methods=map_makers(options),
        layers=_layers(loaded, options),
        align=options.align,
    )


def takes_signals(model: Any) -> bool:
    """Say whether a network begins with a convolution over time."""
    stem = engine_for(model).stem
    return stem is not None and stem.rank == 1


def _takes_waveforms(model: Any) -> bool:
    """Say whether a network begins with a convolution over a spectrum that it makes of a row of samples."""
    stem = engine_for(model).stem
    return stem is not None and stem.rank == 2 and runs(model, np.zeros((1, _SAMPLES), np.float32))


def _feature_job(loaded: Loaded, methods: RelevanceMakers, options: Options) -> FeatureJob:
    return FeatureJob(
        loaded=loaded,
        out=options.out,
        draws=options.pictures is not False,
        targets=classes(loaded, options.targets, options.steps),
        methods=methods,
        steps=options.steps,
    )


def _media_job(
    loaded: Loaded, videos: bool, relevance: RelevanceMakers, options: Options
) -> PictureJob | ClipJob:
    from chronocam.media import Preprocess

    recipe = loaded.preprocess
    if relevance and (isinstance(recipe, Preprocess) or not _has_features(loaded.model)):
        raise InputError(
            f"{', '.join(relevance)} explains features, arrays (time, feature) in .npy files, or clips "
            "through a model with `features` and `from_features`, such as CNNLSTM; "
            f"`{loaded.spec}` has neither: choose gradcam for maps"
        )
    if recipe is None:
        raise InputError(
            f"`{loaded.spec}` takes features; give arrays (time, feature) in .npy files, or a folder of them"
        )
    if not isinstance(recipe, Preprocess):
        return _clip_job(loaded, recipe, relevance, options)
    if takes_signals(loaded.model):
        raise InputError(f"`{loaded.spec}` takes signals; give arrays in .npy or .csv files")
    # Pictures among videos are then refused one by one, as a model of clips does.
    if videos:
        if recipe.assumption and (clips := _of_frames(loaded.model)) is not None:
            return _clip_job(replace(loaded, preprocess=clips), clips, relevance, options)
        return _clip_job(*_frame_by_frame(loaded, recipe), relevance, options)
    _refuse(options, "pictures", loaded)
    _check_prompt(loaded, options)
    return PictureJob(
        loaded=loaded,
        out=options.out,
        draws=options.pictures is not False,
        preprocess=recipe,
        targets=scored(classes(loaded, options.targets, options.steps), options.min_score) or None,
        methods=map_makers(options),
        layers=_layers(loaded, options),
        align=options.align,
        fast=options.fast,
        precision=options.precision,
        batch_size=options.batch_size or 1,
        prompt=options.prompt,
    )


def _check_prompt(loaded: Loaded, options: Options) -> None:
    """Raise InputError for a prompt that the model does not take, or without one that it needs."""
    prompted = getattr(loaded.model, "prompted", None)
    if options.prompt is None:
        if prompted is not None and prompted.needed:
            raise InputError(f'`{loaded.spec}` takes a picture with a prompt; give --prompt "What is this?"')
        return
    if prompted is None:
        speaks = callable(getattr(loaded.model, "generate", None))
        why = "has no processor for pictures with a prompt (processor.save_pretrained writes one)"
        raise InputError(f"`{loaded.spec}` {why if speaks else 'does not generate text'}; drop --prompt")
    if not options.targets:
        raise InputError(
            "--prompt asks for a text; name what to explain of it: --target token:0, or word:dog"
        )


def _clip_job(
    loaded: Loaded, recipe: ClipPreprocess, relevance: RelevanceMakers, options: Options
) -> ClipJob:
    _refuse(options, "clip features" if relevance else "clips", loaded)
    targets = classes(loaded, options.targets, options.steps)
    common: dict[str, Any] = {
        "loaded": loaded,
        "out": options.out,
        "draws": options.pictures is not False,
        "preprocess": replace(recipe, frames=options.frames or recipe.frames),
        "layers": _layers(loaded, options),
        "align": options.align,
        "fast": options.fast,
        "precision": options.precision,
        "start": options.start,
        "end": options.end,
        "frames": recipe.frames,
    }
    if relevance:
        if len(options.layers) > 1:
            raise InputError("relevance is carried to one layer; give --layer once, or leave it out")
        sequences = _feature_job(loaded, relevance, options)
        return ClipFeatureJob(**common, targets=targets, methods=list(relevance), sequences=sequences)
    return ClipJob(**common, targets=at_steps(targets, options.steps), methods=map_makers(options))


def _drive_job(loaded: Loaded, networks: Networks, options: Options) -> DriveJob:
    from chronocam.media import Preprocess

    recipe = loaded.preprocess
    if not isinstance(recipe, Preprocess) or recipe.channels != "first" or len(recipe.mean) != 3:
        raise InputError(
            f"`{loaded.spec}` comes with a {type(recipe).__name__}; expected a Preprocess of a frame, RGB "
            "channels first"
        )
    targets = drive_targets(options.targets, networks, loaded.spec)
    layers = networks.layers(options.layers)
    for part in layers.keys() - {target.network for target in targets}:
        raise InputError(f"--layer names a layer of the network for {part}, which no target uses; drop it")
    return DriveJob(
        loaded=loaded,
        out=options.out,
        preprocess=recipe,
        networks=networks,
        targets=targets,
        methods=list(dict.fromkeys(options.methods)),
        layers=layers,
        align=options.align,
        frames=options.frames or DRIVE_FRAMES,
        start=options.start,
        intrinsics=options.intrinsics,
    )


def _has_features(model: Any) -> bool:
    return callable(getattr(model, "features", None)) and callable(getattr(model, "from_features", None))


def _of_frames(model: object) -> ClipPreprocess | None:
    """Return how clips are prepared for a bare PyTorch network that takes frames first; None for others."""
    from chronocam.models.recipes import clip_recipe

    torch = sys.modules.get("torch")
    return clip_recipe(model) if torch is not None and isinstance(model, torch.nn.Module) else None


def _frame_by_frame(loaded: Loaded, recipe: Preprocess) -> tuple[Loaded, ClipPreprocess]:
    """Return a model of pictures as one of clips of 16 frames."""
    from chronocam.media import ClipPreprocess
    from chronocam.models import PerFrame

    framework = engine_for(loaded.model).framework
    if framework != "torch":
        todo = "give pictures, or wrap it as a model of clips (keras.layers.TimeDistributed, cc.blackbox)"
        raise InputError(
            f"`{loaded.spec}` takes pictures, and only PyTorch models see videos frame by frame; {todo}"
        )
    clips = ClipPreprocess(recipe, FRAMES, "time channel")
    return replace(loaded, model=PerFrame(loaded.model).eval(), preprocess=clips), clips


def _layers(loaded: Loaded, options: Options) -> list[str | list[str]] | None:
    """Return the paths of layers as they are named in the model that was loaded, in one list to be fused.

    Raises InputError for --fuse with fewer than two layers.
    """
    # PerFrame needs torch, so it is imported only where a model is wrapped; layers keep the inner names.
    home: Any = sys.modules.get("chronocam.models.per_frame")
    if home is not None and isinstance(loaded.model, home.PerFrame):
        paths = [f"model.{path}" for path in map(engine_for(loaded.model.model).resolve, options.layers)]
    else:
        paths = [engine_for(loaded.model).resolve(layer) for layer in options.layers]
    if options.fuse is None:
        return [*paths] or None
    if len(paths) < 2:
        raise InputError("--fuse makes one map of several layers; give --layer for each, or drop --fuse")
    return [paths]
