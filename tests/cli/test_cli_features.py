"""Features on the command line: arrays in, relevance, plots and JSON out, one-line errors."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import run
from PIL import Image

import chronocam as cc
from chronocam.models import load as load_model
from chronocam.sequence import LRP, IntegratedGradients, load
from chronocam.targets import MajorityVote, Step

FACTORY = """
import torch
from torch import nn
from chronocam.models import CNNLSTM

def make(per_step):
    torch.manual_seed(0)
    cnn = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = CNNLSTM(cnn, 8, 3, per_step=per_step).double().eval()
    model.labels = ("left", "right", "$up/down")
    return model

def steps():
    return make(True)

def last():
    return make(False)

def sick():
    model = make(True)
    with torch.no_grad():
        model.head.weight[:] = float("nan")
    return model

def pictures():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
"""
T, F = 9, 5


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feature_factory.py").write_text(FACTORY)
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", rng.normal(size=(T, F)))
    np.save(tmp_path / "b.npy", rng.normal(size=(T, F)).astype(np.float32))
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / "p.png")
    yield tmp_path
    sys.modules.pop("feature_factory", None)


def explain(*args: Any, model: str = "steps") -> Any:
    command = ["explain", *map(str, args), "--model", f"python:feature_factory:{model}", "--out", "out"]
    return run(*command)


def only(done: Any) -> dict[str, Any]:
    assert done.exit_code == 0, done.stderr
    (result,) = json.loads(done.stdout)["inputs"]
    (entry,) = result["sequences"]
    return dict(entry)


def test_default_is_lrp_of_the_class_predicted_at_each_step(folder: Path) -> None:
    entry = only(explain("a.npy", "--json"))
    expected = LRP(load_model("python:feature_factory:steps").model).explain(np.load("a.npy")[None])
    assert entry["method"] == "lrp"
    assert entry["steps"] == list(range(T))
    assert entry["votes"] == entry["indices"] == expected.votes[0].tolist()
    assert np.allclose(entry["scores"], expected.scores[0], rtol=0, atol=1e-12)
    assert np.allclose(np.sum(list(entry["ledger"].values()), axis=0), entry["scores"], rtol=0, atol=1e-9)
    assert set(entry["ledger"]) == {"input", "initial_state", "bias", "stabiliser"}
    settled = int(expected.settling().settled[0])
    assert entry["settling"]["step"] == (None if settled < 0 else settled)
    assert np.allclose(entry["settling"]["cosine"], expected.settling().similarity.cosine[0], atol=1e-6)
    assert entry["horizon"]["reach"] == int(expected.memory_horizon().reach()[0])
    assert abs(sum(entry["horizon"]["share"]) - 1) < 1e-4
    for place, own in zip(entry["top_features"], expected.own()[0], strict=True):
        order = np.argsort(-own)
        assert place["features"] == [int(f) for f in order if own[f] > 0]
        assert np.allclose(place["relevance"], own[place["features"]])
    assert np.allclose(load(entry["relevance"]).relevance, expected.relevance, rtol=0, atol=1e-12)
    assert Path(entry["sheet"]).read_bytes().startswith(b"\x89PNG")
    told = json.loads((folder / "out" / "a.json").read_text())
    assert told["sequences"] == [entry]
    assert (told["input"], told["model"]) == ("a.npy", "python:feature_factory:steps")


def test_steps_and_labels_choose_what_is_explained(folder: Path) -> None:
    entry = only(explain("a.npy", "--step", 3, "--step", "-1", "--target", "$up/down", "--json"))
    targets = [Step(3, 2), Step(-1, 2)]
    expected = LRP(load_model("python:feature_factory:steps").model).explain(np.load("a.npy")[None], targets)
    assert entry["targets"] == ["$up/down at step 3", f"$up/down at step {T - 1}"]
    assert entry["steps"] == [3, T - 1]
    assert np.allclose(load(entry["relevance"]).relevance, expected.relevance, rtol=0, atol=1e-12)
    assert entry["settling"] is None
    assert len(entry["top_features"]) == 2 * T
    assert Path(entry["relevance"]).name == "a.lrp.0-up-down.npz"


def test_every_method_and_target_has_files_of_its_own(folder: Path) -> None:
    options = ["--method", "gradient", "--method", "gradientxinput", "--target", "0", "--target", "right"]
    done = explain("a.npy", "b.npy", *options, "--json")
    assert done.exit_code == 0, done.stderr
    results = json.loads(done.stdout)["inputs"]
    assert [[(e["method"], set(e["indices"])) for e in r["sequences"]] for r in results] == [
        [(method, {index}) for method in ("gradient", "gradientxinput") for index in (0, 1)]
    ] * 2
    assert results[0]["sequences"][0]["ledger"] is None
    assert len(list((folder / "out").iterdir())) == 2 * (2 * 4 + 1)
    assert len(done.stderr.strip().splitlines()) == 2


def test_a_model_of_one_output_explains_its_prediction(folder: Path) -> None:
    entry = only(explain("a.npy", "--method", "smoothgrad", "--json", model="last"))
    assert len(entry["scores"]) == 1
    assert entry["steps"] is entry["votes"] is entry["settling"] is entry["horizon"] is None
    assert [place["step"] for place in entry["top_features"]] == list(range(T))
    refused = explain("a.npy", "--step", 2, model="last")
    assert refused.exit_code == 1
    assert "no time axis" in refused.stderr


def test_epsilon_and_baseline_are_those_of_the_methods(folder: Path) -> None:
    model, x = load_model("python:feature_factory:steps").model, np.load("a.npy")[None]
    entry = only(explain("a.npy", "--epsilon", "0.5", "--json"))
    assert np.allclose(
        load(entry["relevance"]).relevance, LRP(model, epsilon=0.5).explain(x).relevance, atol=1e-12
    )
    assert not np.allclose(load(entry["relevance"]).relevance, LRP(model).explain(x).relevance, atol=1e-6)
    methods = ["--method", "integratedgradients", "--method", "lrp"]
    done = explain("a.npy", *methods, "--baseline", "mean", "--json")
    assert done.exit_code == 0, done.stderr
    found, other = (load(e["relevance"]).relevance for e in json.loads(done.stdout)["inputs"][0]["sequences"])
    assert np.allclose(found, IntegratedGradients(model, baselines="mean").explain(x).relevance, atol=1e-12)
    assert np.allclose(other, LRP(model).explain(x).relevance, atol=1e-12)


def test_the_vote_of_features_is_one_target(folder: Path) -> None:
    entry = only(explain("a.npy", "--target", "vote", "--json"))
    expected = LRP(load_model("python:feature_factory:steps").model).explain(
        np.load("a.npy")[None], MajorityVote()
    )
    assert entry["targets"] == [str(expected.targets[0][0])]
    assert np.allclose(load(entry["relevance"]).relevance, expected.relevance, rtol=0, atol=1e-12)
    assert load(entry["relevance"]).targets == expected.targets
    assert Path(entry["relevance"]).name == "a.lrp.0-vote.npz"


def test_a_folder_stands_for_its_arrays(folder: Path) -> None:
    (folder / "set").mkdir()
    for name in ("y.npy", "x.NPY", ".hidden.npy"):
        (folder / "set" / name).write_bytes((folder / "a.npy").read_bytes())
    (folder / "set" / "readme.txt").write_text("about")
    done = explain("set", "a.npy", "--method", "gradient", "--json")
    assert done.exit_code == 0, done.stderr
    assert [r["input"] for r in json.loads(done.stdout)["inputs"]] == ["set/x.NPY", "set/y.npy", "a.npy"]


def write_bad(folder: Path) -> dict[str, str]:
    np.save("cube.npy", np.ones((2, 3, 4)))
    np.save("empty.npy", np.ones((0, F)))
    np.save("whole.npy", np.ones((T, F), dtype=int))
    hole = np.ones((T, F))
    hole[1, 2] = np.nan
    np.save("nan.npy", hole)
    np.save("pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (folder / "text.npy").write_text("1,2,3")
    (folder / "nothing.npy").write_bytes(b"")
    (folder / "cut.npy").write_bytes((folder / "a.npy").read_bytes()[:-8])
    np.savez(folder / "z.npz", a=hole)
    (folder / "z.npz").rename(folder / "zip.npy")
    np.save("wide.npy", np.ones((T, F + 1)))
    return {
        "cube.npy": "(2, 3, 4); expected (time, feature)",
        "empty.npy": "(0, 5); expected (time, feature)",
        "whole.npy": "holds int64; expected floating-point",
        "nan.npy": "holds 1 NaN or infinite values of 45",
        "pickle.npy": "pickled objects are refused",
        "text.npy": "cannot be read",
        "nothing.npy": "cannot be read",
        "cut.npy": "cannot be read",
        "zip.npy": "archive of arrays",
        "wide.npy": "(1, 9, 6)",
        "gone.npy": "there is no `gone.npy`",
        "gone*.npy": "nothing matches `gone*.npy`",
    }


def test_bad_arrays_are_one_line_each_and_the_others_go_on(folder: Path) -> None:
    told = write_bad(folder)
    done = explain(*told, "a.npy", "--method", "gradient", "--json")
    assert done.exit_code == 1
    results = json.loads(done.stdout)["inputs"]
    assert len(results) == len(told) + 1
    for result, (name, what) in zip(results, told.items(), strict=False):
        assert what in result["error"], name
        assert "\n" not in result["error"]
    assert "error" not in results[-1]
    assert len(list(filter(None, done.stderr.splitlines()))) == len(told) + 2


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["a.npy", "--method", "gradcam"], "gradcam makes maps of pictures and clips; for features choose"),
        (["p.png", "--method", "lrp"], "lrp explains features"),
        (["p.png", "--step", "1"], "--step is for sequences and clips, but"),
        (["p.png", "--epsilon", "1"], "--epsilon is for lrp"),
        (["a.npy", "--method", "gradient", "--epsilon", "1"], "--epsilon is for lrp, and gradient has none"),
        (["a.npy", "--baseline", "mean"], "--baseline is for integratedgradients, and lrp has none"),
        (["a.npy", "--target", "vote", "--step", "1"], "the vote counts all steps"),
        (["a.npy", "p.png"], "`p.png` is not a .npy file"),
        (["a.npy", "--layer", "lstm"], "--layer is for maps, but the inputs are arrays of features"),
        (["a.npy", "--align", "receptive_field"], "--align is for maps"),
        (
            ["a.npy", "--frames", "4"],
            "--frames is for clips and drives, but the inputs are arrays; drop",
        ),
        (["a.npy", "--target", "sideways"], "no label `sideways`"),
    ],
)
def test_what_does_not_fit_is_one_line(folder: Path, args: list[str], told: str) -> None:
    done = explain(*args, model="pictures" if args[0] == "p.png" else "steps")
    assert done.exit_code == 1
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("args", "model", "told"),
    [
        (["--step", "99"], "steps", "no step 99"),
        (["--target", "7"], "steps", "no class 7"),
        ([], "pictures", "(1, 9, 5)"),
        (["--method", "gradient"], "sick", "not finite"),
    ],
)
def test_what_the_model_does_not_have_is_told(folder: Path, args: list[str], model: str, told: str) -> None:
    done = explain("a.npy", *args, model=model)
    assert done.exit_code == 1
    assert told in done.stderr.splitlines()[0]


def test_a_method_of_both_kinds_is_the_one_of_the_input(folder: Path) -> None:
    done = explain("p.png", "--method", "smoothgrad", "--json", model="pictures")
    assert done.exit_code == 0, done.stderr
    (result,) = json.loads(done.stdout)["inputs"]
    assert [entry["layer"] for entry in result["maps"]] == ["input"]


SIGNALS = """
import torch
from torch import nn

class Turned(nn.Sequential):
    def forward(self, x):
        return super().forward(x.transpose(1, 2))

def make(kind=nn.Sequential):
    torch.manual_seed(0)
    layers = nn.Conv1d(3, 4, 7, 2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2)
    return kind(*layers).eval()

def turned():
    return make(Turned)

class Wave(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv1d(1, 4, 7, 2), nn.Linear(4, 2)
    def forward(self, x):
        return self.head(self.conv(x.unsqueeze(1)).relu().mean(2))

def wave():
    return Wave().eval()

class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.lift, self.head = nn.Linear(3, 4), nn.Linear(4, 2)
        self.block = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    def forward(self, x):
        return self.head(self.block(self.lift(x)).mean(1))

def steps():
    return Steps().eval()
"""


@pytest.mark.parametrize(("factory", "shape"), [("make", (3, 90)), ("make", (1, 3, 90)), ("turned", (90, 3))])
def test_a_signal_is_explained_along_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str, shape: tuple[int, ...]
) -> None:
    (tmp_path / "ecg_networks.py").write_text(SIGNALS)
    monkeypatch.chdir(tmp_path)
    signal = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.save("ecg.npy", signal)
    words = ["explain", "ecg.npy", "--model", f"python:ecg_networks:{factory}", "--target", "1", "--html"]
    done = run(*words, "--out", "out", "--json")
    assert done.exit_code == 0, done.output
    (result,) = json.loads(done.stdout)["inputs"]
    assert (result["samples"], result["channels"], result["diagnostics"]) == (90, 3, [])
    (entry,) = result["maps"]
    explanation = cc.load(entry["explanation"])
    namespace: dict[str, Any] = {}
    exec(SIGNALS, namespace)
    expected = cc.GradCAM(namespace[factory]()).explain(signal.reshape(1, *shape[-2:]), 1)
    np.testing.assert_allclose(explanation.maps, expected.maps, atol=1e-6)
    assert explanation.maps.shape == (1, 1, 42)
    assert Image.open(entry["picture"]).size == Image.open("out/ecg.gradcam.0-class-1.png").size == (960, 480)
    assert Path(result["sheet"]).is_file()
    assert (tmp_path / "out" / "ecg.html").is_file()


@pytest.mark.parametrize(("shape", "told"), [((2, 3, 90), "one signal per file"), ((5, 90), "5 channels")])
def test_what_is_no_signal_of_the_network_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], told: str
) -> None:
    (tmp_path / "ecg_networks.py").write_text(SIGNALS)
    monkeypatch.chdir(tmp_path)
    np.save("ecg.npy", np.ones(shape, np.float32))
    done = run("explain", "ecg.npy", "--model", "python:ecg_networks:make")
    assert done.exit_code == 1
    assert told in done.stderr.splitlines()[0]
    assert "ecg.npy" in done.stderr.splitlines()[0]


@pytest.mark.parametrize(
    ("factory", "name", "words", "cells"),
    [
        ("wave", "row.npy", [], 42),
        ("make", "table.csv", [], 42),
        ("steps", "table.csv", ["--method", "gradcam"], 90),  # without a convolution, by maps only if asked
    ],
)
def test_rows_tables_and_sequences_have_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str, name: str, words: list[str], cells: int
) -> None:
    (tmp_path / "ecg_networks.py").write_text(SIGNALS)
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).normal(size=(90, 3))
    np.save("row.npy", values[:, 0])
    np.savetxt("table.csv", values, delimiter=",", header="x,y,z", comments="")
    done = run(
        "explain", name, "--model", f"python:ecg_networks:{factory}", *words, "--target", "1", "--json"
    )
    assert done.exit_code == 0, done.output
    (result,) = json.loads(done.stdout)["inputs"]
    namespace: dict[str, Any] = {}
    exec(SIGNALS, namespace)
    x = {"wave": values[:, 0], "make": values.T, "steps": values}[factory][None].astype(np.float32)
    expected = cc.GradCAM(namespace[factory]()).explain(x, 1)
    found = cc.load(result["maps"][0]["explanation"])
    assert found.maps.shape == (1, 1, cells)
    np.testing.assert_allclose(found.maps, expected.maps, atol=1e-6)


def test_a_network_of_signals_asks_for_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ecg_networks.py").write_text(SIGNALS)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("photo.png")
    done = run("explain", "photo.png", "--model", "python:ecg_networks:make")
    assert done.exit_code == 1
    assert done.stderr.strip().endswith("takes signals; give arrays in .npy or .csv files")
