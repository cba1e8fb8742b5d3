"""The command line on clips: videos, sheet, JSON, and one line for whatever cannot be explained."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import run
from PIL import Image

import chronocam as cc
from chronocam.media import read_clip, write_clip

FACTORY = """
import torch
from torch import nn
from chronocam.media import ClipPreprocess, Preprocess
from chronocam.models import Loaded

LABELS = ("wave", "clap", "arranging flowers")
FRAME = Preprocess(resize=40, crop=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)

def trunk():
    torch.manual_seed(0)
    return [nn.Conv3d(3, 8, 3, stride=(2, 4, 4), padding=1), nn.ReLU(),
            nn.Conv3d(8, 8, 3, stride=(2, 1, 1), padding=1), nn.ReLU()]

def net():
    model = nn.Sequential(*trunk(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 3)).eval()
    return Loaded(model, ClipPreprocess(FRAME, 8), LABELS, "mine")

def rigid():
    model = nn.Sequential(*trunk(), nn.Flatten(), nn.Linear(8 * 2 * 8 * 8, 3)).eval()
    return Loaded(model, ClipPreprocess(FRAME, 8), LABELS, "mine")

def swapped():
    return Loaded(net().model, ClipPreprocess(FRAME, 8, "time channel"), LABELS, "mine")

def pictures():
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), *head).eval()
    return model, FRAME, None
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip_cli_factory.py").write_text(FACTORY)
    write_clip("long.mp4", moving(24), 12)
    yield tmp_path
    sys.modules.pop("clip_cli_factory", None)


def moving(frames: int) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 90, (1, 48, 64, 3), dtype=np.uint8).repeat(frames, 0)
    for k in range(frames):
        pixels[k, 16:32, 2 * k % 48 : 2 * k % 48 + 16] = 220
    return pixels


def explain(*args, net="net"):
    return run("explain", *args, "--model", f"python:clip_cli_factory:{net}", "--out", "out")


def test_a_clip_gives_videos_a_sheet_and_json(folder):
    done = explain("long.mp4", "--target", "wave", "--target", "clap", "--layer", "1", "--json")
    assert done.exit_code == 0, done.stderr
    files = {path.name for path in (folder / "out").iterdir()}
    assert files == {
        "long.gradcam.0-wave.mp4",
        "long.gradcam.1-clap.mp4",
        "long.gradcam.npz",
        "long.sheet.png",
        "long.json",
    }
    (result,) = json.loads(done.stdout)["inputs"]
    assert json.loads((folder / "out" / "long.json").read_text())["maps"] == result["maps"]
    clip = read_clip("long.mp4", 8)
    assert result["frames"] == clip.indices.tolist() == [0, 3, 6, 9, 13, 16, 19, 23]
    np.testing.assert_allclose(result["seconds"], clip.seconds, atol=1e-4)
    wave, clap = result["maps"]
    assert [wave["target"], clap["target"]] == ["wave", "clap"]
    assert wave["grid"] == [4, 8, 8]
    assert Image.open(folder / "out" / "long.sheet.png").width > 600
    video = read_clip(wave["video"], 8)
    assert video.pixels.shape == (8, 48, 64, 3)
    # At the clip's own pace: the last of the eight frames is shown when it comes in the source, after 23/12
    # s.
    np.testing.assert_allclose(video.seconds, np.linspace(0, 23 / 12, 8), atol=0.02)


def test_numbers_are_those_of_the_library(folder):
    done = explain("long.mp4", "--target", "0", "--target", "1", "--layer", "1", "--json")
    loaded = cc.models.load("python:clip_cli_factory:net")
    clip = loaded.preprocess.read("long.mp4")
    explanation = cc.GradCAM(loaded.model, "1").explain(loaded.preprocess(clip)[None], np.array([[0, 1]]))
    fine = explanation.upsample()[0]
    for k, entry in enumerate(json.loads(done.stdout)["inputs"][0]["maps"]):
        assert entry["score"] == pytest.approx(float(explanation.scores[0, k]))
        np.testing.assert_allclose(entry["frame_importance"], explanation.frame_importance()[0, k], atol=1e-4)
        assert len(entry["frame_spans"]) == 4
        for value, box in zip(fine[k], entry["boxes"], strict=True):
            inside = value >= 0.15 * fine[k].max()
            assert (box is None) == (not inside.any() or fine[k].max() <= 0)
            if box is not None:
                rows, columns = np.nonzero(inside)
                whole = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                x0, y0, x1, y1 = loaded.preprocess.to_original(tuple(map(int, whole)), (64, 48))
                assert x0 - 0.01 <= box[0] < box[2] <= x1 + 0.01  # the largest region lies within all of them
                assert y0 - 0.01 <= box[1] < box[3] <= y1 + 0.01


def test_overlay_covers_what_the_network_saw(folder):
    explain("long.mp4", "--method", "saliency")
    drawn = read_clip(next((folder / "out").glob("long.saliency.*.mp4")), 8).pixels.astype(float)
    original = read_clip("long.mp4", 8).pixels.astype(float)
    assert np.abs(drawn[:, :, :8] - original[:, :, :8] * 0.45).mean() < 6  # dimmed: outside of the crop
    assert np.abs(drawn[:, 8:-8, 20:-20] - original[:, 8:-8, 20:-20] * 0.45).mean() > 12


def test_a_span_and_a_number_of_frames(folder):
    done = explain("long.mp4", "--frames", "4", "--start", "0.5", "--end", "1", "--target", "0", "--json")
    assert done.exit_code == 0, done.stderr
    (result,) = json.loads(done.stdout)["inputs"]
    assert result["frames"] == [6, 7, 9, 11]


def test_pool_changes_the_map(folder):
    maps = {}
    for pool in ("clip", "frame"):
        done = explain("long.mp4", "--target", "0", "--layer", "1", "--pool", pool, "--json")
        assert done.exit_code == 0, done.stderr
        maps[pool] = json.loads(done.stdout)["inputs"][0]["maps"][0]["frame_importance"]
    assert maps["clip"] != maps["frame"]
    refused = explain("long.mp4", "--method", "saliency", "--pool", "frame")
    assert refused.exit_code == 1
    assert "saliency averages over no frames" in refused.stderr


def test_short_clips_are_looped_and_merged(folder):
    write_clip("one.mp4", moving(1), 12)
    write_clip("three.mp4", moving(3), 12)
    done = explain("one.mp4", "three.mp4", "--target", "0", "--json")
    assert done.exit_code == 0, done.stderr
    for result, frames in zip(json.loads(done.stdout)["inputs"], (1, 3), strict=True):
        assert len(result["frames"]) == len(result["maps"][0]["boxes"]) == 8
        assert set(result["frames"]) == set(range(frames))
        assert len(set(read_clip(result["maps"][0]["video"], 8).indices.tolist())) == frames


def test_folders_hold_videos_or_frames_or_folders_of_frames(folder):
    for name in ("frames", "many/a", "many/b"):
        (folder / name).mkdir(parents=True)
        for k, pixels in enumerate(moving(10)):
            Image.fromarray(pixels).save(folder / name / f"{k}.png")
    (folder / "videos").mkdir()
    write_clip("videos/x.mp4", moving(9), 12)
    write_clip("videos/y.gif", moving(9), 12)
    (folder / "empty").mkdir()
    done = explain("frames", "many", "videos", "*ng.mp4", "long.mp4", "empty", "--target", "0", "--json")
    results = json.loads(done.stdout)["inputs"]
    names = ["frames", "many/a", "many/b", "videos/x.mp4", "videos/y.gif", "long.mp4", "empty"]
    assert [result["input"] for result in results] == names
    assert ["error" in result for result in results] == [False] * 6 + [True]
    assert results[0]["seconds"] is None
    assert results[0]["frames"] == [0, 1, 2, 3, 5, 6, 7, 9]
    assert "no clips in `empty`" in results[-1]["error"]


def test_bad_clips_are_one_line_each_and_the_others_go_on(folder):
    import av

    whole = Path("long.mp4").read_bytes()
    Path("cut.mp4").write_bytes(whole[: len(whole) * 4 // 5])
    Path("empty.mp4").write_bytes(b"")
    Path("text.mp4").write_text("no video " * 200)
    Path("video.jpg").write_bytes(whole)  # the name does not matter
    Image.fromarray(moving(1)[0]).save("still.png")
    Path("still.mp4").write_bytes(Path("still.png").read_bytes())
    with av.open("sound.mp4", "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        for packet in [*stream.encode(sound), *stream.encode(None)]:
            container.mux(packet)
    told = {
        "cut.mp4": "cut off",
        "empty.mp4": "is empty",
        "text.mp4": "is text",
        "sound.mp4": "sound but no video",
        "missing.mp4": "there is no",
        "still.png": "is a picture",
        "still.mp4": "is a picture",
        "video.jpg": None,
    }
    done = explain(*told, "--target", "0", "--json")
    assert done.exit_code == 1
    assert "Traceback" not in done.stderr
    for result, words in zip(json.loads(done.stdout)["inputs"], told.values(), strict=True):
        assert ("error" in result) == (words is not None)
        assert (words or "") in result.get("error", "")
        assert "\n" not in result.get("error", "")


def test_what_the_network_does_not_take_is_told(folder):
    done = explain("long.mp4", "--frames", "12", "--target", "0", net="rigid")
    assert done.exit_code == 1
    assert "fails on clips of shape (1, 3, 12, 32, 32)" in done.stderr
    assert "it wants 8, drop --frames 12" in done.stderr
    done = explain("long.mp4", "--target", "0", net="swapped")
    assert done.exit_code == 1
    assert "fails on clips of shape (1, 8, 3, 32, 32)" in done.stderr
    assert "expected the frames it takes" in done.stderr
    assert "Traceback" not in done.stderr
    done = explain("long.mp4", "--frames", "12", "--target", "0", net="swapped")
    assert "fails on clips of shape (1, 12, 3, 32, 32)" in done.stderr
    assert "drop --frames" not in done.stderr  # with other frames it fails as well


def test_unknown_class_and_the_wrong_kind_of_model(folder):
    done = explain("long.mp4", "--target", "aranging flowers")
    assert done.exit_code == 1
    assert "did you mean `arranging flowers`" in done.stderr
    Image.new("RGB", (40, 40)).save(folder / "plain.png")
    done = explain("plain.png", "--frames", "4", net="pictures")
    assert done.exit_code == 1
    assert "--frames" in done.stderr


def test_layers_of_a_network_of_clips(folder):
    done = run("layers", "python:clip_cli_factory:net", "--json")
    assert done.exit_code == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["grid"] for row in rows[:5]] == [[4, 8, 8], [4, 8, 8], [2, 8, 8], [2, 8, 8], []]
    assert [row["path"] for row in rows if row["default"]] == ["3"]


@pytest.mark.slow
def test_real_clips_are_explained(data, tmp_path):
    import torchvision
    from safetensors.torch import save_file

    save_file(torchvision.models.get_model("r3d_18", weights=None).state_dict(), tmp_path / "r3d.safetensors")
    model = f"{tmp_path}/r3d.safetensors@torchvision:r3d_18"
    given = "--target", "arranging flowers", "--target", "brushing hair", "--out", tmp_path / "out", "--json"
    done = run("explain", data / "videos", "--model", model, *given)
    assert done.exit_code == 0, done.stderr
    results = json.loads(done.stdout)["inputs"]
    assert len(results) == 2
    for result in results:
        assert [entry["target"] for entry in result["maps"]] == ["arranging flowers", "brushing hair"]
        assert result["seconds"] == sorted(result["seconds"])
        for entry in result["maps"]:
            video = read_clip(entry["video"], 16)
            assert video.seconds[-1] == pytest.approx(result["seconds"][-1], abs=0.1)


def test_a_model_of_pictures_sees_a_video_frame_by_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "picture_factory.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "from chronocam.media import Preprocess\n"
        "def net():\n"
        "    torch.manual_seed(0)\n"
        "    body = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())\n"
        "    model = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()\n"
        "    return model, Preprocess((32, 32), None, (0.5,) * 3, (0.5,) * 3), ('cat', 'dog', 'emu')\n"
    )
    rng = np.random.default_rng(0)
    write_clip(tmp_path / "a.mp4", rng.integers(0, 256, (8, 32, 48, 3), dtype=np.uint8), 8)
    done = run(
        "explain",
        "a.mp4",
        "--model",
        "python:picture_factory:net",
        "--layer",
        "0.0",
        "--target",
        "emu",
        "--json",
    )
    assert done.exit_code == 0, done.output
    (result,) = json.loads(done.stdout)["inputs"]
    (found,) = result["maps"]
    assert (found["layer"], found["target"], found["grid"][0]) == ("model.0.0", "emu", 16)
    assert Path(found["video"]).is_file()


def test_attention_over_frames_is_told_per_target(folder):
    factory = folder / "attention_factory.py"
    factory.write_text(
        "import torch\n"
        "from torch import nn\n"
        "from chronocam.media import ClipPreprocess, Preprocess\n"
        "from chronocam.models import CNNLSTM, Loaded\n"
        "def net():\n"
        "    torch.manual_seed(0)\n"
        "    model = CNNLSTM(nn.Conv2d(3, 4, 3, 2), 6, 3, attention=True).eval()\n"
        "    frame = Preprocess((32, 32), None, (0.5,) * 3, (0.5,) * 3)\n"
        "    return Loaded(model, ClipPreprocess(frame, 4, 'time channel'), ('a', 'b', 'c'), 'mine')\n"
    )
    done = run(
        "explain",
        "long.mp4",
        "--model",
        "python:attention_factory:net",
        "--target",
        "a",
        "--target",
        "c",
        "--json",
    )
    assert done.exit_code == 0, done.output
    maps = json.loads(done.stdout)["inputs"][0]["maps"]
    for found in maps:
        assert sum(found["attention"]["weights"]) == pytest.approx(1, abs=1e-5)
        assert -1 <= found["attention"]["rank_correlation"] <= 1
    assert maps[0]["attention"]["weights"] == maps[1]["attention"]["weights"]
    from attention_factory import net

    bias = net().model.head.bias.tolist()
    for k, found in zip((0, 2), maps, strict=True):
        assert sum(found["attention"]["contributions"]) + bias[k] == pytest.approx(found["score"], abs=1e-4)


STEPS = """
import torch
from torch import nn
from chronocam.media import ClipPreprocess, Preprocess
from chronocam.models import CNNLSTM, Loaded

FRAME = Preprocess((16, 16), None, (0.5,) * 3, (0.5,) * 3)

def net(pooled=False, per_step=True):
    torch.manual_seed(0)
    cnn = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 5, 3, 2), nn.ReLU())
    if pooled:  # what follows the average is no average of a layer
        cnn = nn.Sequential(cnn, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 5))
    model = CNNLSTM(cnn, 6, 3, per_step=per_step).eval()
    with torch.no_grad():
        for name, weight in model.lstm.named_parameters():
            weight *= 4
        model.head.weight *= 4
    model.labels = ("a", "b", "c")
    return Loaded(model, ClipPreprocess(FRAME, 6, "time channel"), model.labels, "mine")

def bent():
    return net(pooled=True)

def last():
    return net(per_step=False)
"""


@pytest.fixture
def stepwise(folder):
    (folder / "step_factory.py").write_text(STEPS)
    yield folder
    sys.modules.pop("step_factory", None)


def of_steps(*args, net="net"):
    return run(
        "explain", "long.mp4", *args, "--model", f"python:step_factory:{net}", "--out", "out", "--json"
    )


def result_of(done):
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["inputs"][0]


def loaded_clip(net="net"):
    loaded = cc.models.load(f"python:step_factory:{net}")
    return loaded.model, loaded.preprocess(loaded.preprocess.read("long.mp4"))[None]


def test_a_network_with_an_output_per_step_explains_the_vote_a_class_or_single_steps(stepwise):
    model, x = loaded_clip()
    logits = model.from_features(model.features(torch.from_numpy(x)))[0].detach().numpy()
    votes = logits.argmax(1).tolist()
    (vote,) = result_of(of_steps())["maps"]
    (named,) = result_of(of_steps("--target", "vote"))["maps"]
    assert vote == named
    assert vote["votes"] == votes
    assert vote["index"] == np.bincount(votes).argmax()
    assert vote["score"] == pytest.approx(
        logits[[v == vote["index"] for v in votes], vote["index"]].mean(), abs=1e-5
    )
    (mean,) = result_of(of_steps("--target", "b"))["maps"]
    assert mean["target"] == "b (mean of 6 steps)"
    assert mean["votes"] == votes
    assert mean["score"] == pytest.approx(logits[:, 1].mean(), abs=1e-5)
    first, last = result_of(of_steps("--step", "0", "--step", "-1", "--target", "c"))["maps"]
    assert [(e["target"], e["step"], e["vote"]) for e in (first, last)] == [
        ("c at step 0", 0, votes[0]),
        ("c at step 5", 5, votes[5]),
    ]
    assert last["score"] == pytest.approx(logits[5, 2], abs=1e-5)
    assert first["frame_importance"][1:] == [0] * 5  # nothing after a step counts for it
    (alone,) = result_of(of_steps("--step", "2"))["maps"]
    assert alone["index"] == votes[2]


def test_steps_that_are_not_there_are_told(stepwise):
    for args, net, words in [
        (["--step", "6"], "net", "no step 6; the outputs have 6 steps, 0 to 5"),
        (["--step", "1"], "last", "outputs have shape (1, 3) and no time axis"),
        (["--target", "vote"], "last", "outputs have shape (1, 3) and no time axis"),
        (["--target", "vote", "--step", "1"], "net", "the vote counts all steps"),
    ]:
        done = of_steps(*args, net=net)
        assert done.exit_code == 1
        assert words in done.stderr


@pytest.mark.parametrize(("net", "how"), [("net", "conserve"), ("bent", "gradcam")])
def test_relevance_of_a_clips_features_is_carried_to_its_frames(stepwise, net, how):
    result = result_of(of_steps("--method", "lrp", "--epsilon", "0.01", net=net))
    model, x = loaded_clip(net)
    features = model.features(torch.from_numpy(x)).detach()
    lrp = cc.sequence.LRP(model, epsilon=0.01)
    every, vote = lrp.explain(features), lrp.explain(features, cc.targets.MajorityVote())
    (entry,) = result["sequences"]
    assert entry["votes"] == every.votes[0].tolist()
    np.testing.assert_allclose(cc.sequence.load(entry["relevance"]).relevance, every.relevance, atol=1e-6)
    assert entry["horizon"]["reach"] == int(every.memory_horizon().reach()[0])
    assert Path(entry["sheet"]).is_file()
    (drawn,) = result["maps"]
    assert drawn["method"] == f"lrp+{how}"
    assert drawn["votes"] == entry["votes"]
    expected = vote.to_frames(model, x, how=how)
    np.testing.assert_allclose(drawn["frame_importance"], expected.frame_importance()[0, 0], atol=2e-4)
    assert read_clip(drawn["video"], 6).pixels.shape == (6, 48, 64, 3)
    assert json.loads(Path("out/long.json").read_text())["sequences"] == [entry]
    assert any(finding.startswith(f"{how}:") for finding in result["diagnostics"])


def test_relevance_of_classes_and_steps_of_a_clip(stepwise):
    result = result_of(
        of_steps("--method", "gradientxinput", "--target", "a", "--target", "c", "--layer", "backbone.1")
    )
    assert [entry["target"] for entry in result["maps"]] == ["a (mean of 6 steps)", "c (mean of 6 steps)"]
    assert {entry["layer"] for entry in result["maps"]} == {"backbone.1"}
    assert [entry["method"] for entry in result["maps"]] == ["gradientxinput+gradcam"] * 2
    assert [entry["indices"] for entry in result["sequences"]] == [[0] * 6, [2] * 6]
    result = result_of(of_steps("--method", "lrp", "--step", "1", "--step", "4"))
    assert [entry["step"] for entry in result["maps"]] == [1, 4] == result["sequences"][0]["steps"]
    (last,) = result_of(of_steps("--method", "lrp", net="last"))["maps"]
    assert "votes" not in last


def test_relevance_of_a_clip_needs_features_and_methods_of_them(stepwise):
    for args, words in [
        (
            ["--method", "lrp", "--method", "gradcam"],
            "gradcam explains the whole network and lrp what follows",
        ),
        (
            ["--method", "lrp", "--pool", "clip"],
            "--pool is for maps of clips, but the methods explain a clip's features",
        ),
        (["--method", "lrp", "--layer", "backbone.0", "--layer", "backbone.1"], "give --layer once"),
        (["--method", "lrp", "--layer", "nose"], "no layer `nose`"),
        (["--epsilon", "1"], "--epsilon is for lrp"),
        (["--method", "gradient", "--epsilon", "1"], "gradient has none"),
    ]:
        done = of_steps(*args)
        assert done.exit_code == 1
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    done = explain("long.mp4", "--method", "lrp")
    assert done.exit_code == 1
    assert "`python:clip_cli_factory:net` has neither: choose gradcam" in done.stderr


def test_visualbackprop_of_a_clip_says_that_it_knows_no_class(stepwise):
    result = result_of(of_steps("--method", "visualbackprop"))
    assert "class-agnostic: the same for every target" in result["diagnostics"]
    assert result["maps"][0]["grid"] == [6, 16, 16]
