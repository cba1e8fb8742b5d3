"""Files that are not what their name says, or no models: one line each says so, and what it advises works."""

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import chronocam as cc
from chronocam.errors import ModelError

CODE = """
from torch import nn
class Small(nn.Module):
    def __init__(self, classes=3, channels=3):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(4, classes)
    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))
def fixed(): return Small()
def counted(num_classes=3): return Small(num_classes)
"""
ARCH = "@python:odd_nets:fixed"
NAMES = ("a.pth", "a.ckpt", "a.safetensors", "a.onnx", "a.tflite", "a.h5", "a.keras", "a.pt2")


@pytest.fixture(autouse=True)
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.chdir(tmp_path)
    Path("odd_nets.py").write_text(CODE)
    torch.manual_seed(0)
    return cc.models.load("python:odd_nets:fixed").model


def error(spec: str, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        cc.models.load(spec, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def scores(model: nn.Module, channels: int = 3) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.rand(2, channels, 16, 16, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty; copy or fetch it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "Git LFS.*; git lfs pull fetches"),
        (b"\n<!DOCTYPE html>\n<html><head>", "page of the web.*; fetch it again, by the address"),
        (b'{"error": "not found"}', 'is text .*not found"}.*; fetch it again'),
        (b"\x1f\x8b\x08\0\0", "is a gzip archive; unpack it"),
    ],
)
def test_what_was_fetched_is_no_model(name: str, content: bytes, words: str) -> None:
    Path(name).write_bytes(content)
    for spec in (name, name + ARCH):
        assert re.search(words, error(spec))
    assert re.search(words, error(name, trust=True))


def test_an_archive_of_a_model_is_unpacked(net: nn.Module) -> None:
    torch.save(net.state_dict(), "w.pth")
    for name in ("zipped.pth", "zipped.zip"):
        with ZipFile(name, "w") as archive:
            archive.write("w.pth", "inner/w.pth")
        assert "is a zip archive that holds `inner/w.pth`; unpack it" in error(name + ARCH)
    with ZipFile("zipped.pth") as archive:
        archive.extractall()
    assert torch.equal(scores(cc.models.load(f"inner/w.pth{ARCH}").model), scores(net))
    Path("half.pth").write_bytes(Path("w.pth").read_bytes()[:-100])
    assert "the file breaks off" in error(f"half.pth{ARCH}")


def as_torch(net: nn.Module, name: str) -> None:
    torch.save(net.state_dict(), name)


def as_old_torch(net: nn.Module, name: str) -> None:
    torch.save(net.state_dict(), name, _use_new_zipfile_serialization=False)


def as_safetensors(net: nn.Module, name: str) -> None:
    save_file(net.state_dict(), name)


@pytest.mark.parametrize("write", [as_torch, as_old_torch, as_safetensors])
@pytest.mark.parametrize(
    "name", ["a.safetensors", "a.pth", "a.onnx", "a.h5", "a.keras", "a.tflite", "a.PTH", "a"]
)
def test_a_wrong_name_is_told_and_the_right_one_works(
    net: nn.Module, name: str, write: Callable[[nn.Module, str], None]
) -> None:
    write(net, name)
    right = (".safetensors",) if write is as_safetensors else (".pth",)
    if not name.lower().endswith(right):
        said = error(name + ARCH)
        assert "in spite of its name; rename it to a" in said
        name = shutil.move(name, said.rpartition("rename it to ")[2])
    assert torch.equal(scores(cc.models.load(name + ARCH).model), scores(net))


@pytest.mark.filterwarnings("ignore")
def test_programs_under_other_names(net: nn.Module) -> None:
    onnx = pytest.importorskip("onnx")
    exported = torch.export.export(net.eval(), (torch.rand(1, 3, 8, 8),))
    torch.export.save(exported, "net.pt2")
    shutil.copy("net.pt2", "net.pt")
    assert "the file is what torch.export wrote, in spite of its name; rename it to net.pt2" in error(
        "net.pt"
    )
    assert "a whole network, which needs no architecture; give it as net.pt2" in error(f"net.pt2{ARCH}")
    torch.onnx.export(net, (torch.rand(1, 3, 8, 8),), "net.onnx", dynamo=False)
    assert onnx.load("net.onnx").graph.node
    shutil.copy("net.onnx", "net.bin")
    assert "the file is an ONNX model, in spite of its name; rename it to net.onnx" in error("net.bin")
    Path("net.pkl").write_bytes(pickle.dumps({"a": 1}))
    assert "is a pickle that torch.save did not write; load it in a python: factory" in error("net.pkl")
    np.save("net.npy", np.ones(3))
    assert "is an array, without a network" in error("net.npy")


def test_code_and_other_files_are_told(net: nn.Module) -> None:
    Path("dir").mkdir()
    for spec, words in {
        "odd_nets.py": "python:odd_nets:FACTORY",
        "./odd_nets.py:fixed": "python:odd_nets:fixed",
        "dir/nets.py": "python:dir.nets:FACTORY",
    }.items():
        assert error(spec).endswith(f"is code; name the function in it that returns a model: {words}")
    assert torch.equal(scores(cc.models.load("python:odd_nets:fixed").model)[:0], scores(net)[:0])
    Path("a.dat").write_bytes(b"\x01\x02")
    assert "the file is of an unknown kind; expected one of .pth, .pt," in error("a.dat")
    assert "is a folder that holds no model; expected saved_model.pb" in error("dir")


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_folder_of_weights_in_parts(net: nn.Module, index: bool, kind: str) -> None:
    Path("net").mkdir()
    weights, stem = net.state_dict(), "model" if kind == "safetensors" else "pytorch_model"
    places = {key: f"{stem}-0000{1 + i // 2}-of-00002.{kind}" for i, key in enumerate(weights)}
    for name in set(places.values()):
        part = {key: weights[key] for key, place in places.items() if place == name}
        if kind == "bin":
            torch.save(part, f"net/{name}")
        else:
            save_file(part, f"net/{name}")
    path = f"net/{stem}.{kind}.index.json"
    Path(path).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    spec = path if index else "net"
    assert f"holds weights alone, 4 tensors from `body.0.bias` on; name their architecture: {spec}@" in error(
        spec
    ).replace("body.0.weight", "body.0.bias").replace(path, spec)
    assert torch.equal(scores(cc.models.load(spec + ARCH).model), scores(net))
    for other in ("../secret.safetensors", "gone.safetensors", 3):
        Path(path).write_text(json.dumps({"weight_map": {"a": other}}))
        assert f"names the file `{other}`, which is not beside it; fetch all files" in error(spec + ARCH)
    Path(path).write_text("[" * 9)
    assert "expected an index with a weight_map" in error(spec + ARCH)


def test_a_folder_with_one_file_of_weights(net: nn.Module) -> None:
    Path("net").mkdir()
    torch.save(net.state_dict(), "net/best.pth")
    assert torch.equal(scores(cc.models.load(f"net{ARCH}").model), scores(net))
    torch.save(net.state_dict(), "net/last.pth")
    assert "holds no model" in error("net")


def test_what_of_several_is_meant_is_asked_and_the_line_works(net: nn.Module) -> None:
    torch.save({"generator": net.state_dict(), "judge": {"w": torch.ones(2)}}, "two.pth")
    said = error(f"two.pth{ARCH}")
    exec(said.rpartition("save those that are meant: ")[2], {"torch": torch})
    assert torch.equal(scores(cc.models.load(f"one.pth{ARCH}").model), scores(net))
    torch.save(torch.optim.Adam(net.parameters()).state_dict(), "adam.pth")
    assert "that is an optimizer's state; give the state_dict()" in error(f"adam.pth{ARCH}").replace(
        "state: give", "state; give"
    )


def test_a_network_beside_its_history_is_loaded_with_trust(net: nn.Module) -> None:
    torch.save({"net": net, "epoch": 3}, "run.pth")
    assert "can run any code" in error("run.pth")
    assert torch.equal(scores(cc.models.load("run.pth", trust=True).model), scores(net))


@pytest.mark.parametrize("arch", [ARCH, "@python:odd_nets:counted"])
def test_the_number_of_classes_is_that_of_the_file(net: nn.Module, arch: str) -> None:
    other = type(net)(7).eval()
    torch.save({"state_dict": other.state_dict()}, "seven.pth")
    assert torch.equal(scores(cc.models.load(f"seven.pth{arch}").model), scores(other))


@pytest.mark.parametrize("classes", [3, 7])
def test_a_network_of_grey_pictures_gets_grey_pictures(net: nn.Module, classes: int) -> None:
    other = type(net)(classes, 1).eval()
    torch.save(other.state_dict(), "grey.pth")
    loaded = cc.models.load(f"grey.pth{ARCH}")
    assert torch.equal(scores(loaded.model, 1), scores(other, 1))
    assert len(loaded.preprocess.mean) == 1


def test_what_is_missing_or_too_much_is_named(net: nn.Module) -> None:
    weights = net.state_dict()
    torch.save({**weights, "extra.w": torch.ones(2)}, "more.pth")
    assert "1 unexpected (extra.w); build the network as it was trained: more.pth@python:" in error(
        f"more.pth{ARCH}"
    )
    del weights["head.bias"]
    torch.save(weights, "less.pth")
    assert "1 missing (head.bias)" in error(f"less.pth{ARCH}")
    torch.save(type(net)(3, 4).state_dict(), "four.pth")
    assert "body.0.weight (4, 4, 3, 3) for (4, 3, 3, 3)" in error(f"four.pth{ARCH}")


@pytest.mark.parametrize("safe", [True, False])
def test_a_folder_of_timm(safe: bool) -> None:
    timm = pytest.importorskip("timm")
    hub: Any = pytest.importorskip("timm.models._hub")
    model = timm.create_model("resnet10t", pretrained=False, num_classes=3).eval()
    named = {"num_classes": 3, "label_names": ["ant", "bee", "cat"]}
    hub.save_for_hf(model, "net", model_config=named, safe_serialization=safe)
    loaded, x = cc.models.load("net"), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.model(x), model(x))
    assert loaded.labels == ("ant", "bee", "cat")
    for path in Path("net").iterdir():
        path.write_bytes(path.read_bytes() if path.suffix == ".json" else b"")
    assert "cannot be loaded" in error("net")
