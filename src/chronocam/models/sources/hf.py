"""`hf:NAME-or-folder`: image and video classifiers and embedding networks of the transformers library."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from PIL import Image

from chronocam.errors import ModelError, TargetError, first_line
from chronocam.jsonable import Json
from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.files import is_folder
from chronocam.media.preprocess import Preprocess
from chronocam.models.hub import patient_only_online
from chronocam.models.prompts import OnlyPrompted, Prompted
from chronocam.models.sources.timm import translate as translate_timm
from chronocam.models.specs import Model, ModelRequest, ModelSource, Parts, need

Processor: TypeAlias = Any
"""What prepares pictures or clips in the transformers library."""

Config: TypeAlias = Any
"""What the transformers library knows about a network."""

_PROBE_FRAMES: Final = 2


def _load(request: ModelRequest) -> Parts:
    transformers = need("transformers", "hub")
    (name,) = request.names
    options = {"trust_remote_code": request.trust, "local_files_only": is_folder(name)}
    try:
        with patient_only_online():
            config = transformers.AutoConfig.from_pretrained(name, **options)
            kind = _kind(transformers, config)
            of_clips = type(config) in transformers.MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING
            video = of_clips and kind is not transformers.AutoModelForImageClassification
            processor = _processor(transformers, name, options, video=video)
            model = _model(kind, request, options)
            if kind is transformers.AutoModelForZeroShotImageClassification:
                tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options)
                model.tokenize, model.tokenizer = Tokenize(tokenizer, config), tokenizer
            if kind is transformers.AutoModelForImageTextToText:
                model.tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options)
                model.prompted = _prompted(transformers, name, options, model)
    except ModelError:
        raise
    except Exception as error:  # missing files, no network, code that needs trust: each has its own class
        raise _refusal(request, error) from error
    if video:
        preprocess: Preprocess | ClipPreprocess = _clip_preprocess(processor, config, request)
    elif getattr(model, "prompted", None) is None:
        preprocess = _preprocess(processor, request)
    else:
        preprocess = _translated(processor, request) or OnlyPrompted(None, None, (0.0,) * 3, (1.0,) * 3)
    classifies = "Classification" in type(model).__name__
    return model, preprocess, _labels(model.config) if classifies else None


def _kind(transformers: ModuleType, config: Config) -> Any:
    """Return the class that loads a network: as a classifier, unless it was saved as what embeds pictures."""
    saved = (config.architectures or [""])[0]
    speaks = transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING.get(type(config), None)
    if saved == getattr(speaks, "__name__", None):
        return transformers.AutoModelForImageTextToText
    if saved.endswith("ForImageClassification") or "VideoClassification" in saved:
        pass
    elif type(config) in transformers.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING:
        return transformers.AutoModelForZeroShotImageClassification
    elif saved == getattr(transformers.MODEL_MAPPING.get(type(config), None), "__name__", None):
        return transformers.AutoModel
    if type(config) in transformers.MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING:
        return transformers.AutoModelForVideoClassification
    return transformers.AutoModelForImageClassification


class Tokenize:
    """Makes the inputs of a text tower of a list of texts."""

    def __init__(self, tokenizer: Processor, config: Config) -> None:
        self._tokenizer = tokenizer
        self._longest = min(tokenizer.model_max_length, config.text_config.max_position_embeddings)
        # SigLIP was trained on texts that all have this length, and that attend to what fills them up.
        self._filled: bool = config.model_type.startswith("siglip")

    def __call__(self, texts: Sequence[str]) -> dict[str, Any]:
        """Return the tokens, each text a row. Raises TargetError for a text longer than the tower takes."""
        for text, numbers in zip(texts, self._tokenizer(list(texts))["input_ids"], strict=True):
            if len(numbers) > self._longest:
                raise TargetError(
                    f"caption {text!r} has {len(numbers)} tokens, and the model takes {self._longest}; "
                    "give a shorter one"
                )
        options: dict[str, Any] = {"padding": True}
        if self._filled:
            options = {"padding": "max_length", "max_length": self._longest}
        tokens = dict(self._tokenizer(list(texts), return_tensors="pt", **options))
        return {"input_ids": tokens["input_ids"]} if self._filled else tokens


def _prompted(transformers: ModuleType, name: str, options: dict[str, bool], model: Model) -> Prompted | None:
    """Return what puts pictures and prompts together; None where nothing saved says how."""
    try:
        processor = transformers.AutoProcessor.from_pretrained(name, **options)
    except (OSError, ValueError):
        return None
    if not isinstance(processor, transformers.ProcessorMixin):
        return None
    names = ("image_token_id", "image_token_index")
    number = next((one for key in names if (one := getattr(model.config, key, None)) is not None), None)
    mark = None if number is None else processor.tokenizer.convert_ids_to_tokens(number)
    return Prompted(processor, getattr(processor, "image_token", None) or mark if mark else None)


def _processor(transformers: ModuleType, name: str, options: dict[str, bool], *, video: bool) -> Processor:
    """Return the image processor, which most video networks have too, or their video processor."""
    try:
        return transformers.AutoImageProcessor.from_pretrained(name, **options)
    except (OSError, ValueError):
        if not video:
            raise
        return transformers.AutoVideoProcessor.from_pretrained(name, **options)


def _model(kind: Any, request: ModelRequest, options: dict[str, bool]) -> Model:
    """Load in float32, and unless trusted from safetensors only: pickled weights can run code."""
    model, report = kind.from_pretrained(
        request.names[0], output_loading_info=True, use_safetensors=None if request.trust else True, **options
    )
    if missing := sorted(report["missing_keys"]):
        raise request.error(f"has no trained weights for {missing[0]}", "expected a fine-tuned model")
    return model.float()


def _refusal(request: ModelRequest, error: Exception) -> ModelError:
    (name,) = request.names
    if is_folder(name):
        return request.error(
            f"cannot be loaded ({first_line(error)})",
            "expected config.json, preprocessor_config.json and model.safetensors in the folder; "
            "pickled weights and custom code need trust=True (--trust)",
        )
    return request.error(
        f"could not fetch `{name}` from the Hugging Face hub ({first_line(error)})",
        "check the name, fetch it once online, or give a folder that save_pretrained wrote: hf:FOLDER",
    )


def _labels(config: Config) -> tuple[str, ...]:
    return tuple(config.id2label[index] for index in sorted(config.id2label))


def _preprocess(processor: Processor, request: ModelRequest) -> Preprocess:
    """Translate a processor. Raises ModelError for one that cannot be."""
    preprocess = _translated(processor, request)
    if preprocess is None:
        raise _unsupported(processor, request, "pictures", "Preprocess")
    return preprocess


def _translated(processor: Processor, request: ModelRequest) -> Preprocess | None:
    """Translate a processor, and check the translation on a picture: some do more than their fields say."""
    try:
        preprocess = translate(processor, request)
        if _agree(preprocess(_probe()), processor(_probe(), return_tensors="np")["pixel_values"][0]):
            return preprocess
    except (KeyError, TypeError, ValueError):  # no size, no pixel_values, other channels
        pass
    return None


def _clip_preprocess(processor: Processor, config: Config, request: ModelRequest) -> ClipPreprocess:
    """Translate a processor of clips, and check the translation on two frames that differ."""
    frames = [_probe(), _probe().transpose(Image.Transpose.ROTATE_180)]
    try:
        frame = translate(processor, request)
        ours = ClipPreprocess(frame, _PROBE_FRAMES, "time channel")(np.stack(list(map(np.asarray, frames))))
        if _agree(ours, processor(frames, return_tensors="pt")["pixel_values"][0].numpy()):
            return ClipPreprocess(frame, int(config.num_frames), "time channel")
    # no size, no pixel_values, frames counted otherwise
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
    ):
        pass
    raise _unsupported(processor, request, "clips", "ClipPreprocess")


def _agree(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return bool(ours.shape == theirs.shape and np.abs(ours - theirs).max() < 0.02 * np.ptp(theirs))


def _unsupported(processor: Processor, request: ModelRequest, what: str, ours: str) -> ModelError:
    return request.error(
        f"{type(processor).__name__} prepares {what} in a way that is not supported",
        f"give model and {ours} through python:package.module:factory",
    )


def translate(processor: Processor, request: ModelRequest) -> Preprocess:
    """Translate the fields that image processors share, and the extra ones of those that do more."""
    if hasattr(processor, "data_config"):
        return translate_timm(processor.data_config, request)
    fields = processor.to_dict()
    resize, crop = _geometry(fields)
    scale, mean, std = _values(fields)
    resample = Image.Resampling(fields.get("resample", Image.Resampling.BILINEAR)).name.lower()
    order: Literal["rgb", "bgr"] = "bgr" if fields.get("do_flip_channel_order") else "rgb"
    return Preprocess(resize, crop, mean, std, resample, scale, order=order)


def _geometry(fields: Json) -> tuple[int | tuple[int, int] | None, tuple[int, int] | None]:
    """Return resize and crop."""
    crop = _pair(fields["crop_size"]) if fields.get("do_center_crop") else None
    if not fields.get("do_resize"):
        return None, crop
    short, share = fields["size"].get("shortest_edge"), fields.get("crop_pct")
    if short is None:
        return _pair(fields["size"]), crop
    if share is None:
        return _enlarged(short, fields), crop
    if short >= 384 and crop is None:  # ConvNeXT takes the whole picture from 384 on
        return (short, short), None
    return int(short / share), crop or (short, short)


def _enlarged(short: int, fields: Json) -> int:
    """Return the shorter side to resize to, which LeViT gives for the crop instead."""
    return int(256 / 224 * short) if "Levit" in fields.get("image_processor_type", "") else short


def _values(fields: Json) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """Return scale, mean and std.

    EfficientNet and ViViT may shift by one, the former may divide by std twice.
    """
    scale = fields.get("rescale_factor", 1 / 255) if fields.get("do_rescale") else 1.0
    normalise = fields.get("do_normalize")
    mean = np.asarray(fields["image_mean"] if normalise else [0.0, 0.0, 0.0])
    std = np.asarray(fields["image_std"] if normalise else [1.0, 1.0, 1.0])
    if fields.get("do_rescale") and (fields.get("rescale_offset") or fields.get("offset")):
        mean = mean + 1
    if fields.get("include_top"):
        std = std * np.asarray(fields["image_std"])
    return float(scale), tuple(mean.tolist()), tuple(std.tolist())


def _pair(size: dict[str, int]) -> tuple[int, int]:
    return size["height"], size["width"]


def _probe() -> Image.Image:
    """Return a picture whose channels change along different directions, smoothly."""
    across, down = np.meshgrid(np.linspace(0, 255, 320), np.linspace(0, 255, 240))
    return Image.fromarray(np.stack([across, down, (across + 255 - down) / 2], axis=-1).astype(np.uint8))


SOURCE = ModelSource(
    "hf:NAME-or-folder", r"hf:(.+)", _load, about="networks of the Hugging Face hub, or a folder of one"
)
