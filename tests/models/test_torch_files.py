"""Files of PyTorch as people have them: weights are seen without trust, and none runs code."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
import torchvision
from helpers import one_line, run
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import chronocam as cc
from chronocam.errors import LayerError, ModelError

CODE = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(4, classes)
    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))

def small(): return Small()
def grey(): return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(2048, 2))
"""
ARCH = "@python:own_nets:small"


class Settings:
    """A class of a script that others do not have."""


class Bomb:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return eval, ("__import__('pathlib').Path('ran').mkdir()",)


class SystemBomb:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("ran",)


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_nets.py").write_text(CODE)
    torch.manual_seed(0)
    return cc.models.load("python:own_nets:small").model


def saved(content: object, name: str, *, old: bool = False) -> str:
    torch.save(content, name, _use_new_zipfile_serialization=not old)
    return name


def scores(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)))


def prefixed(net: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in net.state_dict().items()}


def lightning(net: nn.Module) -> dict[str, Any]:
    """What Lightning writes: with the loss's weights, hyperparameters of any class and an optimizer."""
    return {
        "epoch": 3,
        "state_dict": prefixed(net, "model.") | {"loss.weight": torch.ones(3)},
        "hyper_parameters": argparse.Namespace(rate=np.float64(0.1), path=Path("x"), of=Settings()),
        "optimizer_states": [torch.optim.Adam(net.parameters()).state_dict()],
    }


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.pth", lambda net: net.state_dict()),
        ("a.ckpt", lightning),
        ("a.pth.tar", lambda net: {"epoch": 1, "arch": "small", "state_dict": prefixed(net, "module.")}),
        ("b.pth", lambda net: {"model_state_dict": net.state_dict(), "args": Settings()}),
        ("c.pth", lambda net: {"model": prefixed(net, "module.net."), "optimizer": {"lr": 1}}),
        ("d.pth", lambda net: {"weights of the net": net.state_dict(), "step": 4}),
        ("e.bin", lambda net: prefixed(net, "_orig_mod.")),
        ("f.pt", lambda net: {"bomb": Bomb(), "state_dict": net.state_dict()}),
    ],
)
@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
def test_weights_are_found_without_trust(
    net: nn.Module, name: str, make: Callable[[nn.Module], object], old: bool
) -> None:
    loaded = cc.models.load(saved(make(net), name, old=old) + ARCH)
    assert torch.equal(scores(loaded.model), scores(net))
    assert not Path("ran").exists()


@pytest.mark.parametrize("bomb", [Bomb(), SystemBomb()])
@pytest.mark.parametrize("arch", ["", ARCH])
def test_a_bomb_in_the_place_of_weights_does_not_go_off(net: nn.Module, bomb: object, arch: str) -> None:
    for content in (bomb, {"state_dict": bomb}, {"model": bomb}):
        with pytest.raises(ModelError, match=r"run any code|without running code|holds"):
            cc.models.load(saved(content, "bad.ckpt") + arch)
    assert not Path("ran").exists()


def test_weights_alone_are_told_at_once(net: nn.Module) -> None:
    with pytest.raises(ModelError) as caught:
        cc.models.load(saved(lightning(net), "a.ckpt"))
    assert str(caught.value) == (
        "`a.ckpt`: holds weights alone, 5 tensors from `model.body.0.weight` on; name their architecture: "
        "a.ckpt@torchvision:NAME, @timm:NAME or @python:module:factory"
    )


def test_safetensors_alone_are_weights_too(net: nn.Module) -> None:
    save_file(net.state_dict(), "a.safetensors")
    with pytest.raises(ModelError, match=r"holds weights alone, 4 tensors .*a\.safetensors@torchvision:NAME"):
        cc.models.load("a.safetensors")


def test_what_the_hint_says_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = torchvision.models.squeezenet1_1(num_classes=4)
    saved({"state_dict": prefixed(model, "module.model.")}, "net.tar")
    loaded = cc.models.load("net.tar@torchvision:squeezenet1_1")
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(loaded.model(x), model.eval()(x))


def test_a_whole_network_needs_trust(net: nn.Module) -> None:
    with pytest.raises(ModelError, match=r"can run any code while it is loaded; .* trust=True \(--trust\)"):
        cc.models.load(saved(net, "whole.pth"))
    assert torch.equal(scores(cc.models.load("whole.pth", trust=True).model), scores(net))
    assert torch.equal(scores(cc.models.load(f"whole.pth{ARCH}", trust=True).model), scores(net))
    with pytest.raises(ModelError, match=r"holds a pickled .*Small"):
        cc.models.load(f"whole.pth{ARCH}")
    saved({"epoch": 2, "model": net.half()}, "wrapped.pt")  # as detectors are published
    assert scores(cc.models.load("wrapped.pt", trust=True).model).dtype == torch.float32


def test_what_holds_no_weights_is_said(net: nn.Module) -> None:
    with pytest.raises(ModelError, match=r"holds a dict with `a` \(a int\), `b` \(a list\), no network"):
        cc.models.load(saved({"a": 1, "b": []}, "odd.pt"))
    with pytest.raises(ModelError, match=r"4 missing .*check the architecture"):
        cc.models.load(saved({"x.y": torch.ones(1)}, "odd.pt") + ARCH)


def test_torchscript_is_a_program(net: nn.Module) -> None:
    torch.jit.script(net).save("net.pt")
    with pytest.raises(ModelError, match=r"a TorchScript file is a program.*--trust"):
        cc.models.load("net.pt")
    with pytest.raises(ModelError, match="is TorchScript, a whole network"):
        cc.models.load(f"net.pt{ARCH}")


def test_torchscript_is_explained_by_masks_and_says_why_not_by_layers(net: nn.Module) -> None:
    torch.jit.trace(net, torch.rand(1, 3, 32, 32)).save("net.pt")
    loaded = cc.models.load("net.pt", trust=True)
    x = torch.rand(1, 3, 32, 32)
    how: dict[str, Any] = {"baseline": "zero"}
    maps = cc.Occlusion(loaded.model, **how).explain(x, 1).maps
    np.testing.assert_allclose(maps, cc.Occlusion(net, **how).explain(x, 1).maps, atol=1e-6)
    with pytest.raises(LayerError, match=r"TorchScript hides its layers: .* a \.pt2 export; choose a method"):
        cc.GradCAM(loaded.model).explain(x, 1)


def test_torchscript_on_the_command_line(net: nn.Module) -> None:
    torch.jit.script(net).save("net.pt")
    Image.effect_noise((40, 40), 90).convert("RGB").save("photo.png")
    result = run("explain", "photo.png", "--model", "net.pt", "--trust", "--target", "1")
    assert result.exit_code == 0, result.stderr
    assert "occlusion" in Path("chronocam-out/photo.json").read_text()


def test_a_bare_grey_network_gets_grey_pictures(net: nn.Module) -> None:
    preprocess = cc.models.load("python:own_nets:grey").preprocess
    assert preprocess(Image.new("RGB", (50, 40))).shape == (1, 32, 32)


def packed_again(path: str, extra: dict[str, bytes]) -> None:
    """Write an archive anew, its entries deflated, as tools for archives do."""
    with ZipFile(path) as whole:
        entries = {name: whole.read(name) for name in whole.namelist()}
    with ZipFile(path, "w", ZIP_DEFLATED) as packed:
        for name, data in (entries | extra).items():
            packed.writestr(name, data)


def test_weights_in_an_archive_that_was_packed_again_are_the_same(net: nn.Module) -> None:
    torch.save(net.state_dict(), "net.pth")
    packed_again("net.pth", {})
    loaded = cc.models.load("net.pth" + ARCH).model
    assert all(torch.equal(one, net.state_dict()[key]) for key, one in loaded.state_dict().items())


def test_an_archive_that_would_fill_the_memory_is_refused(net: nn.Module) -> None:
    torch.save(net.state_dict(), "net.pth")
    packed_again("net.pth", {"net/data/99": bytes(2 * 10**8)})
    with pytest.raises(ModelError) as error:
        cc.models.load("net.pth" + ARCH)
    one_line(error, "net/data/99", "200,000,000 bytes")


def test_names_of_classes_that_are_no_names_are_left_out(net: nn.Module) -> None:
    torch.save(
        {"state_dict": net.state_dict(), "of": Settings()}, "net.pth", _use_new_zipfile_serialization=False
    )
    path = Path("net.pth")
    path.write_bytes(path.read_bytes().replace(b"\nSettings\n", b"\nSet\0ings\n"))
    loaded = cc.models.load("net.pth" + ARCH).model
    assert torch.equal(scores(loaded), scores(net))
