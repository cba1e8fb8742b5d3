"""The architectures: of torchvision, timm and transformers, small where they can be, with random weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import torch

from benchmarks.zoo.check import Built
from benchmarks.zoo.outcome import Case

SIZE: Final = (96, 128)
"""Height and width of pictures, where a network takes any."""

CLASSES: Final = 10


def noise(*shape: int) -> torch.Tensor:
    """Return noise that does not depend on what was drawn before."""
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))


def torchvision_cases(every: bool) -> Iterator[Case]:
    """Yield the classifiers, video networks and segmentation networks of torchvision."""
    from torchvision import models

    parts = {
        "torchvision": models.list_models(module=models),
        "video": models.list_models(module=models.video),
        "segmentation": models.list_models(module=models.segmentation),
    }
    for part, names in parts.items():
        chosen = names if every else smallest(names, lambda name: models.get_model_builder(name).__module__)
        for name in chosen:
            family = models.get_model_builder(name).__module__.rpartition(".")[2]
            yield Case(part, family, f"torchvision {name}")


def torchvision(name: str, part: str) -> Built:
    """Build a network of torchvision."""
    from torchvision import models

    options: dict[str, Any] = {"weights": None, "num_classes": CLASSES}
    size = SIZE
    if part == "segmentation":
        options["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        options |= {"init_weights": False, "aux_logits": True}
        size = (160, 160)
    if name.startswith("vit"):
        size = (224, 224) if "14" in name else (96, 96)
        options["image_size"] = size[0]
    if name.startswith("maxvit"):
        size = (224, 224)
    model = models.get_model(name, **options)
    if part == "video":
        side = 224 if name.startswith(("mvit", "s3d")) else 64
        return Built(model, noise(3, 16, side, side))
    return Built(model, noise(3, *size), dense=part == "segmentation")


def smallest(names: list[str], family: Callable[[str], str]) -> list[str]:
    """Return one name of each family, the one that sounds smallest."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(family(name), []).append(name)
    return [min(group, key=size_by_name) for group in kinds.values()]


WORDS: Final = (
    "test",
    "atto",
    "femto",
    "pico",
    "nano",
    "zepto",
    "xx?s(mall)?|xxt",
    "xtiny|x_?tiny|xs",
    "tiny|_t0?[_\\d]|_t$|mini",
    "s0|_s[_\\d]|_s$|small|b0|a0|_0",
)


LARGE: Final = r"(^|_)(x?large|l|h|g|huge|giant|enormous|so400m)(_|\d|$)|\dgf"


def size_by_name(name: str) -> tuple[int, int, str]:
    """Return what orders the variants of a family from small to large, as far as their names say."""
    if re.search(LARGE, name):
        return len(WORDS) + 1, 0, name
    word = next((at for at, pattern in enumerate(WORDS) if re.search(pattern, name)), len(WORDS))
    numbers = [int(one) for one in re.findall(r"\d+", name)]
    return word, sum(numbers[:2]), name


def timm_cases(every: bool) -> Iterator[Case]:
    """Yield, of each of timm's modules, the smallest model of each first word of a name, or all models."""
    import timm

    for module in timm.list_modules():
        names = timm.list_models(module=module)
        for name in names if every else smallest(names, first_word):
            yield Case("timm", module, f"timm {name}")


def first_word(name: str) -> str:
    """Return the letters that a name begins with, which tell the kinds of networks of a module apart."""
    return re.match(r"[a-z]*", name.removeprefix("test_"))[0]


def timm_model(name: str) -> Built:
    """Build a network of timm at the smallest size, and with the fewest blocks, that it takes."""
    import timm

    config = timm.get_pretrained_cfg(name)
    channels, *_, largest = tuple(config.input_size) if config is not None else (3, 224, 224)
    sides = [side for side in (96, 128, 192) if side < largest]
    for options in ({"depth": 3}, {}):
        for side in sides:
            with suppress(Exception):  # not every network takes another size, or a number of blocks
                model = timm.create_model(name, num_classes=CLASSES, img_size=side, **options)
                with torch.no_grad():
                    model.eval()(noise(channels, side, side))
                return Built(model, noise(channels, side, side))
    model = timm.create_model(name, num_classes=CLASSES).eval()
    if not hasattr(model, "patch_embed"):
        size = (192, 192) if "inception" in name else SIZE  # whose convolutions without padding take more
        with suppress(Exception), torch.no_grad():
            model(noise(channels, *size))
            return Built(model, noise(channels, *size))
    return Built(model, noise(channels, largest, largest))


HF_PARTS: Final = {
    "hf": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "video": "MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES",
    "segmentation": "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES",
}

SMALL: Final[dict[str, Any]] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}


WIDE: Final = ("levit", "pvt", "segformer")
"""Networks whose widths differ from stage to stage."""

SIDES: Final = {"swin": 128, "donut-swin": 128, "perceiver": 24}
"""Sides of the pictures of networks that cannot take such ones."""

OPTIONS: Final[dict[tuple[str, str], dict[str, Any]]] = {
    ("swin", ""): {"window_size": 4},
    ("donut-swin", ""): {"window_size": 4},
    ("beit", "segmentation"): {"out_indices": [1, 2, 3, 4], "num_hidden_layers": 4},
    ("data2vec-vision", "segmentation"): {"out_indices": [1, 2, 3, 4], "num_hidden_layers": 4},
    ("dpt", "segmentation"): {
        "num_hidden_layers": 4,
        "backbone_out_indices": [0, 1, 2, 3],
        "neck_hidden_sizes": [16, 32, 64, 64],
        "fusion_hidden_size": 32,
    },
    ("sapiens2", "segmentation"): {
        "head_config": {"upsample_out_channels": [32, 16], "conv_out_channels": [16]},
    },
    ("perceiver", ""): {
        "num_blocks": 2,
        "num_self_attends_per_block": 1,
        "num_self_attention_heads": 4,
        "num_cross_attention_heads": 1,
        "num_latents": 3,
        "d_latents": 60,
    },
    ("efficientnet", ""): {"width_coefficient": 0.5, "depth_coefficient": 0.5, "hidden_dim": 640},
}
"""What further options of configurations have to be, by the kind of network and the part."""


def hf_cases(every: bool) -> Iterator[Case]:
    """Yield the classifiers of pictures and clips, and the segmentation networks, of transformers."""
    from transformers.models.auto import modeling_auto

    for part, mapping in HF_PARTS.items():
        for kind, classes in getattr(modeling_auto, mapping).items():
            for name in [classes] if isinstance(classes, str) else classes:
                yield Case(part, kind, f"transformers {name}")


def hf(kind: str, name: str, part: str) -> Built:
    """Build a network of transformers from a small configuration."""
    import transformers

    side = SIDES.get(kind, 96)
    if part == "video":
        config, x = clip_config(kind)
    else:
        config = small_config(kind, side, part)
        free = not any(
            hasattr(config, name) for name in ("num_attention_heads", "num_heads", "vision_config")
        )
        x = noise(3, *SIZE) if free and kind not in SIDES else noise(3, side, side)
    config.num_labels = CLASSES
    return Built(getattr(transformers, name)(config), x, dense=part == "segmentation")


def small_config(kind: str, side: int, part: str) -> Any:
    """Return a configuration with few and narrow layers."""
    from transformers import AutoConfig

    default = AutoConfig.for_model(kind)
    vision = getattr(default, "vision_config", None)
    if vision is not None:
        inner = {**SMALL, "image_size": side}
        options: dict[str, Any] = {"vision_config": inner}
        return type(default)(**options)
    options = dict(OPTIONS.get((kind, part), OPTIONS.get((kind, ""), {})))
    if kind not in WIDE and isinstance(getattr(default, "num_attention_heads", None), int):
        options = {key: value for key, value in SMALL.items() if hasattr(default, key)} | options
    if isinstance(getattr(default, "depths", None), (list, tuple)) and kind != "textnet":
        options["depths"] = [2 if kind == "swin" else 1] * len(default.depths)
    image = getattr(default, "image_size", None)
    if isinstance(image, int):
        options["image_size"] = side
    elif isinstance(image, (list, tuple)):
        options["image_size"] = (side, side)
    return type(default)(**options)


def clip_config(kind: str) -> tuple[Any, torch.Tensor]:
    """Return a small configuration of a video network, and a clip `(batch, time, channel, height, width)`."""
    from transformers import AutoConfig

    options: dict[str, Any] = {**SMALL, "num_frames": 8, "image_size": 64}
    if kind == "vjepa2":
        options = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "frames_per_clip": 8}
        options |= {"crop_size": 64, "pred_hidden_size": 48, "pred_num_attention_heads": 4}
        options |= {"pred_num_hidden_layers": 1, "num_pooler_layers": 1}
    if kind == "videoprism_vision_model":
        options |= {"image_size": 72}
        del options["num_hidden_layers"]
        options |= {"num_spatial_layers": 2, "num_temporal_layers": 1, "num_auxiliary_layers": 1}
    side = 72 if kind == "videoprism_vision_model" else 64
    return AutoConfig.for_model(kind, **options), noise(8, 3, side, side)


def build(case: Case) -> Built:
    """Build the network of a case."""
    library, name = case.name.split()
    if library == "torchvision":
        return torchvision(name, case.part)
    return timm_model(name) if library == "timm" else hf(case.family, name, case.part)
