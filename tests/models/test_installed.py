"""Networks and sources that other packages offer: folders `dist-info` with entry points."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from chronocam.errors import ModelError
from chronocam.models import load
from chronocam.models.sources.installed import offers

CODE = """
import torch
from torch import nn
from chronocam.media import Preprocess
from chronocam.models.specs import ModelSource

def tiny(*, weights=True):
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if weights:
        nn.init.ones_(net[0].weight)
    return net, Preprocess((8, 8), None, (0.5,) * 3, (0.5,) * 3), ("a", "b")

def whole():
    return tiny()[0]

def fails():
    raise RuntimeError("no luck\\nat all")

def named(request):
    return tiny()[0], None, (request.names[0], "b")

SOURCE = ModelSource("their:NAME", r"their:(\\w+)", named)
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the root of installed packages: one with code, importable as `their_nets`."""
    (tmp_path / "their_nets.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_nets", raising=False)
    return tmp_path


def install(root: Path, name: str, **groups: str) -> None:
    folder = root / f"{name.replace('-', '_')}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    text = "".join(f"[chronocam.{group}]\n{lines}\n" for group, lines in groups.items())
    (folder / "entry_points.txt").write_text(text)


def message_of(spec: str) -> str:
    """Return why a spec is refused, which is one line."""
    with pytest.raises(ModelError) as caught:
        load(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_network_of_another_package_loads_by_its_name(packages: Path) -> None:
    install(packages, "their-nets", models="tiny = their_nets:tiny\nwhole = their_nets:whole")
    loaded = load("chronocam:tiny")
    assert loaded.labels == ("a", "b")
    assert loaded.preprocess is not None
    assert loaded.preprocess.resize == (8, 8)
    assert (loaded.model[0].weight == 1).all()
    assert isinstance(load("chronocam:whole").model, nn.Module)


def test_weights_fill_the_architecture_of_another_package(packages: Path) -> None:
    install(packages, "their-nets", models="tiny = their_nets:tiny\nwhole = their_nets:whole")
    weights = {"0.weight": torch.full((2, 3, 3, 3), 2.0), "0.bias": torch.zeros(2)}
    save_file(weights, packages / "a.safetensors")
    assert (load(f"{packages}/a.safetensors@chronocam:tiny").model[0].weight == 2).all()
    assert "with its weights only" in message_of(f"{packages}/a.safetensors@chronocam:whole")


def test_unknown_specs_list_the_networks_of_every_package(packages: Path) -> None:
    install(packages, "their-nets", models="tiny = their_nets:tiny", sources="their = their_nets:SOURCE")
    message = message_of("nowhere:x")
    assert "tiny" in message
    assert "digits" in message
    assert "their:NAME" in message
    assert "chronocam:tiny" in message_of("chronocam:x")
    assert "did you mean `tiny`" in message_of("chronocam:tinny")


def test_a_broken_network_is_one_line_that_names_its_package(packages: Path) -> None:
    models = "gone = their_missing_module:net\nfails = their_nets:fails\nabsent = their_nets:absent [gpu]"
    install(packages, "their-nets", models=models)
    gone = message_of("chronocam:gone")
    assert "`gone` of their-nets cannot be imported" in gone
    assert "their_missing_module" in gone
    assert "pip install 'their-nets'" in gone
    assert "pip install 'their-nets[gpu]'" in message_of("chronocam:absent")
    assert "RuntimeError: no luck" in message_of("chronocam:fails")
    assert load("chronocam:digits").labels == tuple("0123456789")  # nothing else is spoilt


def test_a_source_of_another_package_loads_its_specs(packages: Path) -> None:
    install(packages, "their-nets", sources="their = their_nets:SOURCE")
    assert load("their:cat").labels == ("cat", "b")


def test_a_broken_source_spoils_no_other_spec(packages: Path) -> None:
    sources = "gone = their_missing_module:SOURCE\nwrong = their_nets:tiny"
    install(packages, "their-nets", sources=sources)
    assert load("chronocam:digits").labels == tuple("0123456789")
    message = message_of("nowhere:x")
    assert "`gone` of their-nets cannot be imported" in message
    assert "`their_nets:tiny` of their-nets is a function, not a ModelSource" in message


def test_another_package_cannot_take_over_a_name_of_ours(packages: Path) -> None:
    install(packages, "aaa-nets", models="digits = their_nets:tiny")
    install(packages, "zzz-nets", models="digits = their_nets:tiny")
    assert offers()["digits"].value == "chronocam.lab.models.bundled:digits"
