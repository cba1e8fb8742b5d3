"""Every source of models, offline; weights are random except in the tests that ask for `data`."""

import importlib.metadata
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
import transformers
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from chronocam.errors import ModelError
from chronocam.lab.models.digits import digits_net
from chronocam.media import ClipPreprocess
from chronocam.media.images import read_image
from chronocam.media.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, imagenet
from chronocam.models import Loaded, load, specs
from chronocam.models.hub import patient_only_online
from chronocam.models.sources import hf
from chronocam.models.specs import ModelRequest, resolve


class SmallNet(nn.Module):
    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images).mean((2, 3)))


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No host has an address, and nothing is cached; returns the folder of the caches."""

    def nowhere(*args: object, **kwargs: object) -> None:
        raise socket.gaierror("Name or service not known")

    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def refused(spec: str, *words: str, trust: bool = False) -> str:
    """Return the message of a refusal, which is one line and names the spec and `words`."""
    with pytest.raises(ModelError) as caught:
        load(spec, trust=trust)
    message = str(caught.value)
    assert "\n" not in message
    for word in (spec, *words):
        assert word in message
    return message


def same_outputs(one: nn.Module, other: nn.Module, size: int = 64) -> bool:
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.allclose(one.eval()(images), other(images))


def export(
    path: Path, *, model: nn.Module | None = None, size: tuple[int, ...] = (2, 3, 32, 32)
) -> nn.Module:
    model = (model or SmallNet()).eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (torch.randn(size),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    return model


# The registry


def test_importing_imports_no_framework() -> None:
    code = (
        "import sys, chronocam.models, chronocam.targets.labels\n"
        "from chronocam.models.specs import sources\n"
        "sources()\n"
        "heavy = ('torch', 'torchvision', 'timm', 'transformers', 'keras')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("spec", ["resnet50", "nowhere:x", "torchvision:", "a.jpg", "", "x.pt2@y:z"])
def test_unknown_forms_list_the_known_ones(spec: str) -> None:
    message = refused(spec)
    for source in specs.sources():
        assert source.listed() in message


def test_files_that_no_source_reads_are_known_by_name() -> None:
    refused("net.mlmodel", "a Core ML model, which chronocam does not read; export it to ONNX")
    refused("frozen.pb", "a frozen graph of TensorFlow 1")


def test_a_folder_is_known_by_what_it_holds(vit: tuple[Path, Any], tmp_path: Path) -> None:
    assert load(str(vit[0])).labels == ("cat", "dog")
    (tmp_path / "empty").mkdir()
    refused(str(tmp_path / "empty"), "is a folder that holds no model", "saved_model.pb")


@pytest.mark.parametrize(
    "spec",
    [
        "torchvision:resnet50",
        "timm:hf-hub:me/net.pt2",
        "hf:a/b.safetensors",
        "some dir/a.safetensors@torchvision:x",
        "C:\\nets\\a.pth@timm:x",
        "a.pt@python:a.b:c",
        "/x/a.pt2",
        "C:/x/a.pt",
        "python:a.b:c",
        "chronocam:digits",
    ],
)
def test_a_spec_belongs_to_one_source(spec: str) -> None:
    assert sum(re.fullmatch(source.pattern, spec) is not None for source in specs.sources()) == 1


def test_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match=r"needs timm .*pip install 'chronocam\[hub\]'"):
        load("timm:resnet18")
    assert "hub" in importlib.metadata.metadata("chronocam").get_all("Provides-Extra")


# torchvision


def test_torchvision_offline_names_the_file_and_the_ways_out(offline: Path) -> None:
    url = torchvision.models.get_model_weights("squeezenet1_1").DEFAULT.url
    checkpoints = str(offline / "torch" / "hub" / "checkpoints")
    refused("torchvision:squeezenet1_1", url, checkpoints, "PATH.safetensors@torchvision:squeezenet1_1")


def test_torchvision_uses_a_cached_checkpoint(offline: Path) -> None:
    weights = torchvision.models.get_model_weights("squeezenet1_1").DEFAULT
    model = torchvision.models.squeezenet1_1()
    checkpoint = offline / "torch" / "hub" / "checkpoints" / weights.url.rpartition("/")[2]
    checkpoint.parent.mkdir(parents=True)
    torch.save(model.state_dict(), checkpoint)
    loaded = load("torchvision:squeezenet1_1")
    assert loaded.spec == "torchvision:squeezenet1_1"
    assert not loaded.model.training
    assert loaded.labels == tuple(weights.meta["categories"])
    assert same_outputs(model, loaded.model)
    image = Image.effect_noise((300, 260), 80).convert("RGB")
    np.testing.assert_allclose(
        loaded.preprocess(image), weights.transforms()(image).numpy(), rtol=0, atol=1e-6
    )
    checkpoint.write_bytes(b"damaged")
    refused("torchvision:squeezenet1_1", weights.url)


def test_torchvision_unknown_name_suggests() -> None:
    refused("torchvision:resnet5O", "did you mean `resnet50`")
    refused("torchvision:zzz", "list_models")


@pytest.mark.parametrize(
    ("name", "preprocess", "labels"),
    [
        ("r3d_18", ((128, 171), (112, 112)), 400),
        ("fcn_resnet50", (520, None), 21),
        ("ssdlite320_mobilenet_v3_large", (None, None), 91),
    ],
)
def test_torchvision_clips_masks_and_boxes(name: str, preprocess: tuple[Any, Any], labels: int) -> None:
    source, request = resolve(f"torchvision:{name}")
    assert source.build is not None
    model, made, names = source.build(request)
    assert isinstance(model, nn.Module)
    picture = getattr(made, "frame", made)
    assert (picture.resize, picture.crop) == preprocess
    assert names is not None
    assert len(names) == labels
    assert (picture.mean == (0, 0, 0)) == (name == "ssdlite320_mobilenet_v3_large")


def test_torchvision_inception_takes_the_usual_normalisation() -> None:
    """Its published weights were trained on another one, to which the network converts by itself."""
    source, request = resolve("torchvision:googlenet")
    assert source.build is not None
    model, preprocess, _ = source.build(request)
    assert model.transform_input
    assert preprocess.mean == IMAGENET_MEAN


def test_torchvision_optical_flow_is_refused() -> None:
    refused("torchvision:raft_small", "pairs of pictures")


# timm


def test_timm_offline_names_the_repository(offline: Path) -> None:
    refused("timm:resnet18", "timm/resnet18", "PATH.safetensors@timm:resnet18")


def test_timm_uses_the_cache(offline: Path) -> None:
    model = timm.create_model("mobilenetv3_small_050")
    repository = model.pretrained_cfg["hf_hub_id"]
    snapshot = offline / "hub" / f"models--{repository.replace('/', '--')}" / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0")
    save_file(model.state_dict(), snapshot / "model.safetensors")
    loaded = load("timm:mobilenetv3_small_050")
    assert same_outputs(model, loaded.model)
    assert loaded.labels is not None
    assert loaded.labels[281] == "tabby, tabby cat"
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    image = Image.effect_noise((300, 260), 80).convert("RGB")
    np.testing.assert_allclose(loaded.preprocess(image), transform(image).numpy(), rtol=0, atol=1e-6)


def test_timm_unknown_name_suggests() -> None:
    refused("timm:resnet1O1", "did you mean `resnet101`")


def test_timm_border_crop_is_refused() -> None:
    config = timm.data.resolve_data_config({"crop_mode": "border"}, pretrained_cfg={"crop_mode": "border"})
    with pytest.raises(ModelError, match="crop mode `border`"):
        timm_source().translate(config, ModelRequest("timm:x", ("x",)))


def timm_source() -> Any:
    from chronocam.models.sources import timm as source

    return source


# Hugging Face


@pytest.fixture
def vit(tmp_path: Path) -> tuple[Path, Any]:
    """A tiny vision transformer with two labels, saved as transformers saves."""
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        id2label={0: "cat", 1: "dog"},
        label2id={"cat": 0, "dog": 1},
    )
    folder = tmp_path / "vit"
    model = transformers.ViTForImageClassification(config)
    model.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder, model.eval()


def test_a_folder_of_hf_is_loaded_with_labels_and_preprocessing(vit: tuple[Path, Any], offline: Path) -> None:
    folder, model = vit
    loaded = load(f"hf:{folder}")
    assert loaded.labels == ("cat", "dog")
    assert not loaded.model.training
    images = torch.randn(2, 3, 32, 32)
    assert torch.allclose(loaded.model(images).logits, model(images).logits, atol=1e-6)
    assert (loaded.preprocess.resize, loaded.preprocess.mean) == ((32, 32), (0.5, 0.5, 0.5))


def test_hf_half_precision_is_loaded_in_float32(vit: tuple[Path, Any]) -> None:
    folder, model = vit
    model.half().save_pretrained(folder)
    assert load(f"hf:{folder}").model.dtype == torch.float32


def test_hf_with_weights_missing_is_refused(vit: tuple[Path, Any]) -> None:
    folder, model = vit
    model.vit.save_pretrained(folder)  # without the pooler that the embedding is read from
    refused(f"hf:{folder}", "no trained weights for pooler.dense.bias")


def test_hf_pickled_weights_need_trust(vit: tuple[Path, Any], tmp_path: Path) -> None:
    folder, model = vit
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    refused(f"hf:{folder}", "--trust")
    assert load(f"hf:{folder}", trust=True).labels == ("cat", "dog")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    refused(f"hf:{folder}", "--trust")
    assert not (tmp_path / "ran").exists()


def test_hf_custom_code_needs_trust(vit: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = vit
    config = (folder / "config.json").read_text().replace('"model_type": "vit"', '"model_type": "mine"')
    (folder / "config.json").write_text(config.replace("{", '{"auto_map": {"AutoConfig": "mine.Config"},', 1))
    (folder / "mine.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")
    refused(f"hf:{folder}", "--trust")
    assert not (tmp_path / "ran").exists()


def test_an_incomplete_folder_of_hf_is_refused(vit: tuple[Path, Any]) -> None:
    folder, _ = vit
    (folder / "preprocessor_config.json").unlink()
    refused(f"hf:{folder}", "preprocessor_config.json")


def test_hf_says_what_it_could_not_fetch(offline: Path) -> None:
    refused("hf:nobody/nothing", "could not fetch `nobody/nothing`", "hf:FOLDER")
    assert constants.HF_HUB_OFFLINE is False


def test_the_hub_is_asked_patiently_only_online(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with patient_only_online():
        assert constants.HF_HUB_OFFLINE is True
    monkeypatch.setenv("https_proxy", "http://proxy:1")
    with patient_only_online():
        assert constants.HF_HUB_OFFLINE is False
    monkeypatch.delenv("https_proxy")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: [("address",)])
    with patient_only_online():
        assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize(
    "processor",
    [
        transformers.ViTImageProcessor(),
        transformers.ViTImageProcessor(do_normalize=False, resample=3),
        transformers.ViTImageProcessor(do_rescale=False, image_mean=[127.5] * 3, image_std=[127.5] * 3),
        transformers.DeiTImageProcessor(),
        transformers.ConvNextImageProcessor(size={"shortest_edge": 224}),
        transformers.ConvNextImageProcessor(size={"shortest_edge": 384}),
        transformers.BeitImageProcessor(),
        transformers.BitImageProcessor(),
        transformers.CLIPImageProcessor(),
        transformers.EfficientNetImageProcessor(),
        transformers.EfficientNetImageProcessor(
            rescale_offset=True, rescale_factor=1 / 127.5, include_top=False
        ),
        transformers.LevitImageProcessor(),
        transformers.MobileNetV2ImageProcessor(),
        transformers.MobileViTImageProcessor(),
        transformers.PoolFormerImageProcessor(),
    ],
    ids=lambda processor: type(processor).__name__,
)
@pytest.mark.parametrize("size", [(320, 240), (241, 400)])
def test_hf_processors_are_translated(processor: Any, size: tuple[int, int]) -> None:
    """Within a grey level or two, and a pixel where both round a crop's offset differently."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    image = Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8))
    theirs = processor(image, return_tensors="np")["pixel_values"][0]
    ours = hf.translate(processor, ModelRequest("hf:x", ("x",)))(image)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < np.ptp(theirs) * 2.1 / 255


def test_hf_processor_that_does_more_is_refused(vit: tuple[Path, Any]) -> None:
    folder, _ = vit
    transformers.PerceiverImageProcessor().save_pretrained(folder)
    refused(f"hf:{folder}", "PerceiverImageProcessor", "python:package.module:factory")


# Weights into an architecture


def test_safetensors_into_torchvision(tmp_path: Path) -> None:
    model = torchvision.models.squeezenet1_0()
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    loaded = load(f"{tmp_path}/a.safetensors@torchvision:squeezenet1_0")
    assert same_outputs(model, loaded.model)
    assert loaded.labels is not None
    assert len(loaded.labels) == 1000
    assert loaded.preprocess == imagenet()
    assert not loaded.model.training


def test_first_published_recipe_goes_with_own_weights(tmp_path: Path) -> None:
    save_file(torchvision.models.mobilenet_v2().state_dict(), tmp_path / "a.safetensors")
    assert load(f"{tmp_path}/a.safetensors@torchvision:mobilenet_v2").preprocess.resize == 256


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18", "torchvision:squeezenet1_1"])
def test_number_of_classes_comes_from_the_file(tmp_path: Path, name: str) -> None:
    source, request = resolve(name)
    assert source.build is not None
    model = source.build(replace(request, classes=7))[0]
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    loaded = load(f"{tmp_path}/a.safetensors@{name}")
    assert loaded.labels is None
    assert same_outputs(model, loaded.model)
    assert loaded.model.eval()(torch.randn(1, 3, 64, 64)).shape == (1, 7)


def test_weights_into_a_python_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module(tmp_path, monkeypatch, "factory_weights", "def make():\n    return SmallNet()\n")
    model = SmallNet()
    torch.save({"state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}, "a.pth")
    assert same_outputs(model, load("a.pth@python:factory_weights:make").model)


def test_weights_of_another_network(tmp_path: Path) -> None:
    save_file(torchvision.models.resnet18().state_dict(), tmp_path / "a.safetensors")
    message = refused(f"{tmp_path}/a.safetensors@torchvision:resnet34")
    assert re.search(r"\d+ missing \(layer1.2.conv1.weight, .*, …\)", message)
    assert "build the network as it was trained" in message
    message = refused(f"{tmp_path}/a.safetensors@torchvision:resnet50")
    assert re.search(
        r"\d+ of another shape \(layer1.0.conv1.weight \(64, 64, 3, 3\) for \(64, 64, 1, 1\), ", message
    )
    save_file({"extra": torch.zeros(1), **SmallNet().state_dict()}, tmp_path / "b.safetensors")
    refused(f"{tmp_path}/b.safetensors@chronocam:digits", "unexpected (")


def test_old_files_without_batch_counters(tmp_path: Path) -> None:
    model = torchvision.models.resnet18()
    kept = {key: value for key, value in model.state_dict().items() if "num_batches" not in key}
    torch.save(kept, tmp_path / "a.pt")
    assert same_outputs(model, load(f"{tmp_path}/a.pt@torchvision:resnet18").model)


def test_weights_need_an_architecture(tmp_path: Path) -> None:
    save_file(SmallNet().state_dict(), tmp_path / "a.safetensors")
    refused(f"{tmp_path}/a.safetensors@hf:x", "`hf:x` is not an architecture", "torchvision:NAME")
    refused(f"{tmp_path}/b.safetensors@torchvision:resnet18", "there is no file")
    (tmp_path / "a.safetensors").write_bytes(b"\xffdamaged")
    refused(f"{tmp_path}/a.safetensors@torchvision:resnet18", "cannot be read as weights")
    torch.save([1, 2], tmp_path / "a.pt")
    refused(f"{tmp_path}/a.pt@torchvision:resnet18", "holds a list")


def test_pickled_weights_run_no_code(tmp_path: Path) -> None:
    torch.save({"weights": Bomb(tmp_path / "ran")}, tmp_path / "a.pth")
    refused(f"{tmp_path}/a.pth@torchvision:resnet18", "--trust")
    assert not (tmp_path / "ran").exists()
    refused(f"{tmp_path}/a.pth@torchvision:resnet18", "holds a dict", trust=True)
    assert (tmp_path / "ran").exists()


# Exported and pickled networks


def test_exported_network_has_addressable_layers(tmp_path: Path) -> None:
    model = export(tmp_path / "a.pt2")
    loaded = load(f"{tmp_path}/a.pt2", trust=True)
    assert loaded.labels is None
    assert same_outputs(model, loaded.model, 32)
    seen: dict[str, tuple[int, ...]] = {}
    layers = dict(loaded.model.named_modules())
    for name in ("features", "features.0", "features.2", "head"):
        layers[name].register_forward_hook(
            lambda module, args, output, name=name: seen.update({name: tuple(output.shape)})
        )
    loaded.model(torch.randn(5, 3, 32, 32))
    grid = (5, 4, 30, 30)
    assert seen == {"features": grid, "features.0": grid, "features.2": grid, "head": (5, 5)}


def test_exported_network_obeys_its_hooks(tmp_path: Path) -> None:
    export(tmp_path / "a.pt2")
    model = load(f"{tmp_path}/a.pt2", trust=True).model
    model.features.register_forward_hook(lambda module, args, output: output * 0)
    assert torch.allclose(model(torch.randn(1, 3, 32, 32))[0], model.head.bias)


def test_exported_size_becomes_the_preprocessing(tmp_path: Path) -> None:
    export(tmp_path / "a.pt2", size=(2, 3, 28, 28))
    assert load(f"{tmp_path}/a.pt2", trust=True).preprocess == imagenet(28, 28)
    export(tmp_path / "b.pt2", size=(2, 3, 32, 40))
    assert load(f"{tmp_path}/b.pt2", trust=True).preprocess == imagenet(32, 40)
    export(tmp_path / "c.pt2", model=nn.Conv2d(1, 2, 3), size=(2, 1, 28, 28))
    assert load(f"{tmp_path}/c.pt2", trust=True).preprocess == imagenet(28, 28, 1)
    export(tmp_path / "e.pt2", model=nn.Conv3d(3, 2, 3), size=(2, 3, 8, 28, 32))
    assert load(f"{tmp_path}/e.pt2", trust=True).preprocess == ClipPreprocess(imagenet(28, 32), 8)
    export(
        tmp_path / "f.pt2", model=nn.Sequential(nn.Flatten(0, 1), nn.Conv2d(3, 2, 3)), size=(2, 8, 3, 28, 28)
    )
    assert load(f"{tmp_path}/f.pt2", trust=True).preprocess == ClipPreprocess(
        imagenet(28, 28), 8, "time channel"
    )
    export(tmp_path / "d.pt2", model=nn.Linear(6, 2), size=(2, 6))
    assert load(f"{tmp_path}/d.pt2", trust=True).preprocess == imagenet()


def test_exported_network_runs_no_code_without_trust(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the refusal is for: torch.export.load falls back to plain pickle for the sample inputs."""
    caplog.set_level("CRITICAL", logger="torch._export.serde.serialize")  # whose warning lacks an argument
    export(tmp_path / "plain.pt2")
    torch.save(((Bomb(tmp_path / "ran"),), {}), tmp_path / "inputs")
    with zipfile.ZipFile(tmp_path / "plain.pt2") as plain, zipfile.ZipFile(tmp_path / "a.pt2", "w") as bad:
        for name in plain.namelist():
            inputs = name.endswith("sample_inputs/model.pt")
            bad.writestr(name, (tmp_path / "inputs").read_bytes() if inputs else plain.read(name))
    refused(f"{tmp_path}/a.pt2", "can run any code", "--trust")
    assert not (tmp_path / "ran").exists()
    load(f"{tmp_path}/a.pt2", trust=True)
    assert (tmp_path / "ran").exists()


def test_what_is_no_exported_network(tmp_path: Path) -> None:
    (tmp_path / "a.pt2").write_bytes(b"\xffhello")
    refused(f"{tmp_path}/a.pt2", "is not an archive", "torch.export.save", trust=True)
    shutil.make_archive(str(tmp_path / "b"), "zip", tmp_path, "a.pt2")
    (tmp_path / "b.zip").rename(tmp_path / "b.pt2")
    refused(f"{tmp_path}/b.pt2", "is a zip archive that holds `a.pt2`", trust=True)
    refused(f"{tmp_path}/none.pt2", "there is no file")


def test_pickled_network_runs_no_code_without_trust(tmp_path: Path) -> None:
    torch.save(Bomb(tmp_path / "ran"), tmp_path / "a.pt")
    refused(f"{tmp_path}/a.pt", "can run any code", "a.pt@ARCHITECTURE", "--trust")
    assert not (tmp_path / "ran").exists()
    refused(f"{tmp_path}/a.pt", "holds a NoneType", trust=True)
    assert (tmp_path / "ran").exists()


def test_pickled_network_with_trust(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.9))
    torch.save(model, tmp_path / "a.pth")
    loaded = load(f"{tmp_path}/a.pth", trust=True)
    assert not loaded.model.training
    assert loaded.preprocess == imagenet()
    assert same_outputs(model, loaded.model)
    torch.save(model.state_dict(), tmp_path / "a.pth")
    refused(f"{tmp_path}/a.pth", "holds weights alone", "a.pth@torchvision:NAME", trust=True)
    (tmp_path / "a.pth").write_bytes(b"\xffdamaged")
    refused(f"{tmp_path}/a.pth", "cannot be unpickled", trust=True)


# Python


def write_module(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> None:
    """Write a module into the current folder, with `SmallNet` at hand."""
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, "small_net", sys.modules[__name__])
    (folder / f"{name}.py").write_text(f"from small_net import Loaded, Preprocess, SmallNet, nn\n{code}")


def test_python_factory_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
def bare():
    return SmallNet()

def full():
    return SmallNet(), Preprocess(None, (8, 8), (0.0,), (1.0,)), ["a", "b"]

def unlabelled():
    return SmallNet(), Preprocess(None, (8, 8), (0.0,), (1.0,)), None

def loaded():
    return Loaded(SmallNet(), Preprocess(None, (9, 9), (0.0,), (1.0,)), ("c",), "mine")
"""
    write_module(tmp_path, monkeypatch, "factory_forms", code)
    before = list(sys.path)
    bare = load("python:factory_forms:bare")
    assert sys.path == before
    assert (bare.preprocess, bare.labels, bare.model.training) == (imagenet(), None, False)
    full = load("python:factory_forms:full")
    assert (full.preprocess.crop, full.labels) == ((8, 8), ("a", "b"))
    assert load("python:factory_forms:unlabelled").labels is None
    ready = load("python:factory_forms:loaded")
    assert (ready.preprocess.crop, ready.labels, ready.spec) == (
        (9, 9),
        ("c",),
        "python:factory_forms:loaded",
    )


def test_python_factory_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
number = 3

def fails():
    raise RuntimeError("first line\\nsecond line")

def pair():
    return SmallNet(), None

def leaves():
    raise SystemExit(3)
"""
    write_module(tmp_path, monkeypatch, "factory_faults", code)
    (tmp_path / "factory_broken.py").write_text("def (")
    refused("python:factory_faults:fails", "RuntimeError: first line", "without arguments")
    refused("python:factory_faults:pair", "a tuple of SmallNet, NoneType", "(model, Preprocess, labels)")
    refused("python:factory_faults:fail", "did you mean `fails`")
    refused("python:factory_faults:number", "no function")
    refused("python:factory_absent:make", "cannot import `factory_absent`", str(tmp_path))
    refused("python:factory_broken:make", "SyntaxError")
    (tmp_path / "factory_leaves.py").write_text("import sys\nsys.exit('no licence')")
    refused("python:factory_faults:leaves", "SystemExit: 3", "without arguments")
    refused("python:factory_leaves:make", "SystemExit: no licence")


def test_a_file_of_the_current_folder_never_stands_in_for_an_installed_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "colorsys.py").write_text("raise AssertionError('shadowed')")
    write_module(
        tmp_path, monkeypatch, "factory_imports", "import colorsys\n\ndef make():\n    return SmallNet()\n"
    )
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    before = list(sys.path)
    load("python:factory_imports:make")
    assert sys.path == before


# Bundled


def test_bundled_digits() -> None:
    loaded = load("chronocam:digits")
    assert loaded.labels == tuple("0123456789")
    assert loaded.preprocess == Preprocess((96, 96), None, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    images = torch.from_numpy(loaded.preprocess(Image.new("RGB", (50, 40))))[None]
    assert (images == -1).all()
    assert loaded.model(images).shape == (1, 10)
    refused("chronocam:digit", "did you mean `digits`")


def test_weights_into_bundled_architecture(tmp_path: Path) -> None:
    model = digits_net()
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    assert same_outputs(model, load(f"{tmp_path}/a.safetensors@chronocam:digits").model, 96)


# Real weights


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_0"])
def test_real_weights_know_real_photographs(data: Path, name: str) -> None:
    loaded = load(f"{data}/imagenet/{name}.safetensors@torchvision:{name}")
    assert loaded.labels == tuple((data / "imagenet" / "classes.txt").read_text().splitlines())
    assert (loaded.preprocess.mean, loaded.preprocess.std) == (IMAGENET_MEAN, IMAGENET_STD)
    expected = {
        "burn_flamingo.jpg": "flamingo",
        "coral_bird.bmp": "chickadee",
        "coral_hot_dog.jpg": "hotdog",
        "coral_parrot.jpg": "macaw",
        "skimage_chelsea_cat.png": "Egyptian cat",
        "skimage_coffee.png": "espresso",
    }
    for photo, label in expected.items():
        images = torch.from_numpy(loaded.preprocess(read_image(data / "photos" / photo)))[None]
        with torch.no_grad():
            assert loaded.labels[int(loaded.model(images).argmax())] == label


def test_a_loaded_model_is_frozen() -> None:
    loaded = Loaded(None, imagenet(), None, "x")
    with pytest.raises(AttributeError):
        loaded.spec = "y"


def test_labels_that_the_model_carries_are_those_of_what_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "labelled_factory.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    model = nn.Sequential(nn.Conv2d(3, 2, 3))\n"
        "    model.labels = ['cat', 'dog']\n"
        "    return model\n"
    )
    monkeypatch.chdir(tmp_path)
    loaded = load("python:labelled_factory:net")
    assert loaded.labels == ("cat", "dog")
    assert loaded.model.labels == ["cat", "dog"]
