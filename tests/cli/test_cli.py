"""The command line as a user meets it: files, JSON, exit status, one-line errors."""

import json
import re
import sys
import unicodedata

import numpy as np
import pytest
from helpers import run
from PIL import Image

import chronocam as cc
from chronocam.runs.files import slug

FACTORY = """
import torch
from torch import nn
from chronocam.media import Preprocess

def net():
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.Conv2d(8, 8, 3, padding=1)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), *head).eval()
    preprocess = Preprocess(resize=40, crop=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
    return model, preprocess, ("cat", "../dog", "<b>emu</b>")

def sick():
    model, preprocess, labels = net()
    with torch.no_grad():
        model[0].weight[0] = float("nan")
    return model, preprocess, labels
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cli_factory.py").write_text(FACTORY)
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (48, 64, 3)), ("b.jpg", (64, 48, 3))):
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    yield tmp_path
    sys.modules.pop("cli_factory", None)


def explain(*args):
    return run("explain", *args, "--model", "python:cli_factory:net")


def test_explain_writes_overlays_sheet_and_json(folder):
    done = explain(
        "a.png",
        "--target",
        "cat",
        "--target",
        "2",
        "--method",
        "gradcam",
        "--method",
        "layercam",
        "--layer",
        "1",
        "--layer",
        "3",
        "--out",
        "out",
        "--json",
    )
    assert done.exit_code == 0, done.stderr
    (result,) = json.loads(done.stdout)["inputs"]
    assert [(m["method"], m["layer"], m["target"]) for m in result["maps"]] == [
        (method, layer, target)
        for layer in "13"
        for method in ("gradcam", "layercam")
        for target in ("cat", "<b>emu</b>")
    ]
    files = {p.name for p in (folder / "out").iterdir()}
    assert len(files) == 8 + 4 + 2
    assert {"a.json", "a.sheet.png", "a.gradcam-3.1-b-emu-b.png", "a.gradcam-3.npz"} <= files
    assert json.loads((folder / "out" / "a.json").read_text())["maps"] == result["maps"]
    assert result["seen"] == [9.6, 4.8, 54.4, 43.2] or len(result["seen"]) == 4


def test_numbers_in_json_are_those_of_the_library(folder):
    import chronocam as cc

    done = explain("a.png", "--target", "0", "--out", "out", "--json")
    (entry,) = json.loads(done.stdout)["inputs"][0]["maps"]
    loaded = cc.models.load("python:cli_factory:net")
    x = loaded.preprocess(cc.media.read_image("a.png"))[None]
    explanation = cc.GradCAM(loaded.model).explain(x, 0)
    assert entry["score"] == pytest.approx(float(explanation.scores[0, 0]))
    if explanation.boxes()[0][0]:
        expected = loaded.preprocess.to_original(explanation.boxes()[0][0][0], (64, 48))
        np.testing.assert_allclose(entry["boxes"][0], expected, atol=0.01)


def test_overlay_covers_what_the_network_saw_and_dims_the_rest(folder):
    explain("a.png", "--method", "saliency", "--out", "out")
    original = np.asarray(Image.open("a.png")).astype(int)
    drawn = np.asarray(Image.open(next((folder / "out").glob("a.saliency.*.png")))).astype(int)
    assert drawn.shape == original.shape
    assert np.abs(drawn[:, :5] - original[:, :5] * 0.45).max() <= 1
    inner = np.abs(drawn[10:-10, 15:-15] - original[10:-10, 15:-15])
    assert inner.max() > 20  # a map is drawn
    assert np.median(inner) < 60  # over the picture, which still shows


def test_folders_and_patterns_and_equal_names(folder):
    (folder / "more").mkdir()
    Image.open("a.png").save(folder / "more" / "a.png")
    done = explain("more", "[ab].*", "--out", "out")
    assert done.exit_code == 0, done.stderr
    assert sorted(p.name for p in (folder / "out").glob("*.json")) == ["a-2.json", "a.json", "b.json"]


def test_a_bad_input_is_reported_and_the_others_go_on(folder):
    done = explain("a.png", "broken.png", "missing.png", "b.jpg", "--out", "out", "--json")
    assert done.exit_code == 1
    results = json.loads(done.stdout)["inputs"]
    assert ["error" in r for r in results] == [False, True, True, False]
    assert "broken.png" in results[1]["error"]
    assert "missing.png" in results[2]["error"]
    assert done.stderr.strip().splitlines()[-1].startswith("chronocam: 2 of 4 inputs")
    assert "Traceback" not in done.stderr


def test_weights_that_are_not_numbers_are_an_error(folder):
    done = run("explain", "a.png", "--model", "python:cli_factory:sick", "--out", "out")
    assert done.exit_code == 1
    assert "not finite" in done.stderr
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--target", "dodo"), "dodo"),
        (("--target", "3"), "no class 3; the model has 3 outputs"),
        (("--layer", "9"), "no layer `9`"),
        (("--layer", "6"), "no grid"),
    ],
)
def test_one_line_errors_name_the_value(folder, args, told):
    done = explain("a.png", *args, "--out", "out")
    assert done.exit_code == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_usage_errors_exit_with_2(folder):
    assert run("explain", "a.png").exit_code == 2
    assert explain("a.png", "--method", "gradcamm").exit_code == 2
    assert explain("a.png", "--align", "left").exit_code == 2
    assert run("explian").exit_code == 2


def test_unknown_model_lists_the_forms(folder):
    done = run("explain", "a.png", "--model", "resnet50")
    assert done.exit_code == 1
    assert "torchvision:" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_align_changes_the_picture(folder):
    for align in ("half_pixel", "receptive_field"):
        explain("a.png", "--target", "0", "--align", align, "--out", align)
    half, true = (
        Image.open(next((folder / a).glob("a.gradcam.*.png"))) for a in ("half_pixel", "receptive_field")
    )
    assert not np.array_equal(np.asarray(half), np.asarray(true))


def test_layers_lists_grids_and_marks_the_default(folder):
    done = run("layers", "python:cli_factory:net", "--json")
    assert done.exit_code == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [(r["path"], r["grid"]) for r in rows] == [
        ("0", [8, 8]),
        ("1", [8, 8]),
        ("2", [8, 8]),
        ("3", [8, 8]),
        ("4", []),
        ("5", []),
        ("6", []),
    ]
    assert [r["path"] for r in rows if r["default"]] == ["3"]
    marked = [
        line for line in run("layers", "python:cli_factory:net").stdout.splitlines() if line.startswith("*")
    ]
    assert len(marked) == 1
    assert "ReLU" in marked[0]


STEPS = """
import torch
from torch import nn

from chronocam.media import ClipPreprocess, Preprocess

class Net(nn.Module):
    def __init__(self, stepped):
        super().__init__()
        self.stepped = stepped
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.fc = nn.Linear(8, 5)

    def one(self, x):
        return self.fc(self.conv2(self.conv1(x).relu()).relu().mean((2, 3)))

    def forward(self, x):
        if self.stepped:
            return torch.stack([self.one(x[:, t]) for t in range(x.shape[1])], 1).mean(1)
        return self.one(x.flatten(0, 1)).reshape(*x.shape[:2], -1).mean(1)

def made(stepped, frames):
    picture = Preprocess((32, 32), None, (0.5,) * 3, (0.5,) * 3, channels="first")
    return Net(stepped).eval(), ClipPreprocess(picture, frames, "time channel"), None

def stepped8():
    return made(True, 8)

def folded4():
    return made(False, 4)
"""


@pytest.mark.parametrize(("name", "frames"), [("stepped8", 8), ("folded4", 4)])
def test_layers_lists_the_grids_that_explain_has_and_each_layer_once(folder, name, frames):
    (folder / f"steps_{name}.py").write_text(STEPS)
    done = run("layers", f"python:steps_{name}:{name}", "--json")
    assert done.exit_code == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [(row["path"], row["grid"], row["default"]) for row in rows] == [
        ("conv1", [frames, 16, 16], False),
        ("conv2", [frames, 8, 8], True),
        ("fc", [], False),
    ]
    net = cc.models.load(f"python:steps_{name}:{name}").model
    maps = cc.GradCAM(net).explain(np.ones((1, frames, 3, 32, 32), np.float32)).maps
    assert list(maps.shape[2:]) == rows[1]["grid"]


@pytest.mark.parametrize(
    "text", ["../../etc/passwd", "a/b\\c", "<script>", "", "..", "x" * 300, "猫" * 80, "é" * 99, "bad\udcff"]
)
def test_slugs_are_plain_file_names(text):
    name = slug(text)
    assert name not in ("", ".", "..")
    assert not set(name) & set('/\\<>:"|?*')
    assert len(name.encode()) <= 80


def test_slugs_of_long_names_that_begin_alike_differ():
    assert slug("layer" * 30 + "1") != slug("layer" * 30 + "2")


@pytest.mark.slow
def test_demo_says_a_sentence_about_each_result_and_figures_beside_baselines(tmp_path):
    done = run("demo", "--out", tmp_path, "--scenes", "60", "--clips", "30")
    assert done.exit_code == 0, done.stderr
    coffee, photographer, tie, suit = done.stdout.splitlines()[1:5]
    assert "A cup of coffee. Says espresso, 95 %: the evidence lies in the middle" in coffee
    assert "Says tripod" in photographer
    assert "Bow tie, 4" in tie
    assert "Suit, 1" in suit
    figures = [int(share) for share in re.findall(r"(\d+) % \(", done.stdout)]
    gradcam, noise, centre, deep, lstm, attention, clip_noise, clip_centre = figures
    assert gradcam > max(noise, centre) + 30
    assert min(lstm, attention) > max(clip_noise, clip_centre) + 20
    assert deep > max(clip_noise, clip_centre)
    assert Image.open(tmp_path / "digits.png").width > 300
    for name in ("gestures-3d", "gestures-lstm", "gestures-attention"):
        assert cc.load(tmp_path / f"clip-2-{name}.npz").maps.shape[:2] == (1, 3)
    assert f"Open {tmp_path / 'index.html'}" in done.stdout
    pages = {path.name for path in tmp_path.glob("*.html")}
    assert pages == {
        "index.html",
        "a-cup-of-coffee.html",
        "a-man-in-a-car.html",
        "a-photographer.html",
        "digits.html",
        "steps.html",
        "drive-00.html",
        *(f"clip-{i}.html" for i in (1, 2, 3)),
    }


def test_real_photos_with_real_weights(data, tmp_path):
    weights = data / "imagenet" / "mobilenet_v2.safetensors"
    photo = data / "photos" / "gradcam_both_dog_cat.png"
    done = run(
        "explain",
        photo,
        "--model",
        f"{weights}@torchvision:mobilenet_v2",
        "--target",
        "tabby",
        "--target",
        "bull mastiff",
        "--out",
        tmp_path,
        "--json",
    )
    assert done.exit_code == 0, done.stderr
    cat, dog = json.loads(done.stdout)["inputs"][0]["maps"]
    # In this picture the dog sits above the cat.
    middle = [(m["boxes"][0][1] + m["boxes"][0][3]) / 2 for m in (cat, dog)]
    assert middle[1] < middle[0] - 20


@pytest.mark.parametrize("words", [("x\x1b[31m\n",), ("explain", "a.png", "--model", "m", "--\x1b[31m")])
def test_what_was_typed_wrong_is_written_out(words):
    done = run(*words)
    assert done.exit_code == 2
    assert "\x1b" not in done.stderr
    assert r"\x1b[31m" in done.stderr


def test_file_names_are_written_out(folder):
    (folder / "a.png").rename(folder / "a\x1b[31m\n.png")
    done = explain("a\x1b[31m\n.png")
    assert done.exit_code == 0
    assert "\x1b" not in done.stderr
    assert r"a\x1b[31m\n.png: " in done.stderr


def test_names_of_any_letters_bytes_and_length_are_explained(folder):
    names = ["猫" * 80, "x" * 250, "bad\udcff", "A", "e\u0301", "é"]
    for name in names:
        (folder / f"{name}.png").write_bytes((folder / "a.png").read_bytes())
    done = explain("a.png", *(f"{name}.png" for name in names), "--html", "--json")
    assert done.exit_code == 0, done.stderr
    assert "error" not in done.stderr
    written = {path.name for path in (folder / "chronocam-out").glob("*.json")}
    assert len(written) == 7
    assert len({unicodedata.normalize("NFC", name).casefold() for name in written}) == 7
    assert len(list((folder / "chronocam-out").glob("*.html"))) == 8
    assert [one["input"] for one in json.loads(done.stdout)["inputs"]] == [
        "a.png",
        *(f"{n}.png" for n in names),
    ]


@pytest.mark.parametrize("name", ["x" * 300, "~nobody-of-this-name", "nul\0"])
def test_inputs_of_names_that_no_file_can_have_are_one_line(folder, name):
    done = explain(name, "a.png")
    assert done.exit_code == 1
    assert [line.split()[0] for line in done.stderr.splitlines() if line] == [
        "error:",
        "a.png:",
        "chronocam:",
    ]
