"""Networks of clips: what each wants, equal to what its own library does; weights are random."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
import transformers
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import get_model_weights

from chronocam.errors import ModelError
from chronocam.media import ClipPreprocess, Preprocess
from chronocam.models import load
from chronocam.models.specs import resolve

FRAMES = {
    "r3d_18": 16,
    "mc3_18": 16,
    "r2plus1d_18": 16,
    "s3d": 16,
    "mvit_v1_b": 16,
    "mvit_v2_s": 16,
    "swin3d_t": 32,
    "swin3d_s": 32,
    "swin3d_b": 32,
}


def noise(frames: int, width: int = 80, height: int = 50) -> np.ndarray:
    """Frames that differ, smooth enough that two ways to shrink them agree."""
    small = np.random.default_rng(0).integers(0, 256, (frames, 6, 8, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((width, height), 3)) for one in small])


def build(name: str) -> Any:
    source, request = resolve(f"torchvision:{name}")
    assert source.build is not None
    with torch.device("meta"):  # the architecture without its memory
        return source.build(request)


@pytest.mark.parametrize("name", FRAMES)
def test_torchvision_prepares_as_its_preset(name: str) -> None:
    _, preprocess, labels = build(name)
    assert isinstance(preprocess, ClipPreprocess)
    assert preprocess.frames == FRAMES[name]
    assert labels is not None
    assert (len(labels), labels[5], labels[7]) == (400, "archery", "arranging flowers")
    clip = noise(FRAMES[name], 200, 300)
    preset = next(iter(get_model_weights(name))).transforms()
    theirs = preset(torch.from_numpy(clip).permute(0, 3, 1, 2)).numpy()
    ours = preprocess(clip)
    assert ours.shape == theirs.shape == (3, FRAMES[name], *preset.crop_size)
    apart = np.abs(ours - theirs)
    assert apart.max() < 1.01 / 255 / min(preset.std)
    assert (apart > 1e-5).mean() < 1e-3


def test_weights_into_a_torchvision_video_network(tmp_path: Path) -> None:
    """With its own number of classes.

    The forward is that of the network itself, on its own preset's input.
    """
    torch.manual_seed(0)
    own = torchvision.models.get_model("mc3_18", weights=None, num_classes=4).eval()
    save_file(own.state_dict(), tmp_path / "w.safetensors")
    loaded = load(f"{tmp_path}/w.safetensors@torchvision:mc3_18")
    assert loaded.labels is None
    assert isinstance(loaded.preprocess, ClipPreprocess)
    x = torch.from_numpy(loaded.preprocess(noise(16)))[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(x), own(x))


# transformers


def tiny(kind: str, **changes: Any) -> Any:
    shared = {"image_size": 32, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    shared |= {
        "intermediate_size": 32,
        "id2label": {1: "clap", 0: "wave"},
        "label2id": {"wave": 0, "clap": 1},
    }
    if kind == "Vivit":
        shared |= {"tubelet_size": [2, 8, 8], "num_frames": 4}
    else:
        shared |= {"patch_size": 8, "num_frames": 6 if kind == "VideoMAE" else 3}
    config = getattr(transformers, f"{kind}Config")(**(shared | changes))
    torch.manual_seed(0)
    return getattr(transformers, f"{kind}ForVideoClassification")(config).eval()


SIZES = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}


@pytest.mark.parametrize(
    ("kind", "processor", "frames"),
    [
        ("VideoMAE", transformers.VideoMAEImageProcessor(**SIZES), 6),
        ("VideoMAE", transformers.VideoMAEVideoProcessor(**SIZES), 6),
        (
            "Timesformer",
            transformers.VideoMAEImageProcessor(**SIZES, image_mean=[0.45] * 3, image_std=[0.225] * 3),
            3,
        ),
        ("Vivit", transformers.VivitImageProcessor(**SIZES), 4),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "to_dict") else str(value),
)
def test_hf_video_folder(tmp_path: Path, kind: str, processor: Any, frames: int) -> None:
    own = tiny(kind)
    own.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = load(f"hf:{tmp_path}")
    assert loaded.labels == loaded.model.labels == ("wave", "clap")
    assert isinstance(loaded.preprocess, ClipPreprocess)
    assert (loaded.preprocess.frames, loaded.preprocess.axes) == (frames, "time channel")
    clip = noise(frames)
    theirs = processor([Image.fromarray(frame) for frame in clip], return_tensors="pt")["pixel_values"]
    ours = loaded.preprocess(clip)
    assert ours.shape == theirs.shape[1:]
    assert np.abs(ours - theirs[0].numpy()).max() < np.ptp(theirs.numpy()) * 2.1 / 255
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(theirs).logits, own(theirs).logits)


def refused(spec: str, *words: str) -> None:
    with pytest.raises(ModelError) as caught:
        load(spec)
    message = str(caught.value)
    assert "\n" not in message
    for word in (spec, *words):
        assert word in message


def test_hf_video_without_processor_is_refused_and_without_classifier_embeds(tmp_path: Path) -> None:
    tiny("VideoMAE").videomae.save_pretrained(tmp_path)
    refused(f"hf:{tmp_path}", "cannot be loaded", "preprocessor_config.json")
    transformers.VideoMAEImageProcessor(**SIZES).save_pretrained(tmp_path)
    loaded = load(f"hf:{tmp_path}")
    assert loaded.labels is None
    assert isinstance(loaded.preprocess, ClipPreprocess)


def test_hf_processor_that_does_more_is_refused(tmp_path: Path) -> None:
    tiny("VideoMAE").save_pretrained(tmp_path)
    transformers.PerceiverImageProcessor().save_pretrained(tmp_path)
    refused(f"hf:{tmp_path}", "PerceiverImageProcessor prepares clips", "ClipPreprocess")


def test_python_factory_of_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from torch import nn\nfrom chronocam.media import ClipPreprocess, Preprocess\n"
    code += "from chronocam.models import Loaded\n\n\ndef net():\n"
    code += "    frame = Preprocess(None, (8, 8), (0.0,), (1.0,))\n"
    code += "    return Loaded(nn.Conv3d(1, 2, 1), ClipPreprocess(frame, 5), None, 'mine')\n"
    (tmp_path / "clip_factory.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    preprocess = load("python:clip_factory:net").preprocess
    assert preprocess == ClipPreprocess(Preprocess(None, (8, 8), (0.0,), (1.0,)), 5)
