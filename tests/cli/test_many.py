"""Many inputs in one call, and what a call says, shows and opens."""

import json
import webbrowser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import chronocam as cc
from chronocam.cli import main
from chronocam.joint import explaining
from chronocam.lab.models.digits import DigitsNet
from chronocam.render.words import percent
from chronocam.runs import explain as runs_explain
from chronocam.runs.job import MapJob

MODEL = ("--model", "chronocam:digits")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in "abc":
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


def suffixes(folder: Path) -> set[str]:
    return {path.suffix for path in folder.iterdir()}


def test_of_many_inputs_pictures_are_drawn_only_where_asked_for(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_explain, "MANY", 2)
    done = run("explain", photos, *MODEL, "--out", tmp_path / "few", "--json")
    assert suffixes(tmp_path / "few") == {".npz", ".json"}
    assert "3 inputs: maps and numbers alone; --pictures draws them too" in done.stderr
    first = json.loads(done.stdout)["inputs"][0]
    assert first["sheet"] == ""
    assert "picture" not in first["maps"][0]
    assert f"→ {first['maps'][0]['explanation']}" in done.stderr
    assert run("explain", photos, *MODEL, "--out", tmp_path / "all", "--pictures").exit_code == 0
    assert suffixes(tmp_path / "all") == {".npz", ".json", ".png"}


def test_pages_need_no_pictures(photos: Path, tmp_path: Path) -> None:
    assert run("explain", photos, *MODEL, "--out", tmp_path / "o", "--no-pictures", "--html").exit_code == 0
    assert suffixes(tmp_path / "o") == {".npz", ".json", ".html"}


def test_the_default_layer_is_searched_for_once(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = []
    search = explaining.default_layer

    def counted(*arguments: object) -> object:
        searched.append(arguments)
        return search(*arguments)

    monkeypatch.setattr(explaining, "default_layer", counted)
    done = run("explain", photos, *MODEL, "--out", tmp_path / "o", "--json")
    assert len(json.loads(done.stdout)["inputs"]) == 3
    assert len(searched) == 1


def test_quiet_says_nothing_but_errors(photos: Path, tmp_path: Path) -> None:
    assert run("explain", photos, *MODEL, "--out", tmp_path / "o", "--quiet").stderr == ""
    (photos / "d.png").write_text("no picture")
    done = run("explain", photos, *MODEL, "--out", tmp_path / "p", "-q")
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 2
    assert done.stderr.startswith("error: ")
    # A later call in the same process speaks again.
    assert run("explain", photos / "a.png", *MODEL, "--out", tmp_path / "q").stderr != ""


def test_what_holds_for_the_model_is_said_once(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = ("a layer is coarse", "sample 0, 3: the map is zero everywhere")
    monkeypatch.setattr(MapJob, "diagnostics", lambda job, explanations: findings)
    done = run("explain", photos, *MODEL, "--out", tmp_path / "out", "--no-pictures")
    assert [done.stderr.count(finding) for finding in findings] == [1, 3]


def test_a_line_says_how_sure_the_model_is(photos: Path, tmp_path: Path) -> None:
    done = run(
        "explain", photos / "a.png", *MODEL, "--target", "3", "--out", tmp_path, "--no-pictures", "--json"
    )
    (entry,) = json.loads(done.stdout)["inputs"][0]["maps"]
    assert done.stderr.startswith(f"{photos / 'a.png'}: 3 {percent(entry['confidence'])} → ")


def test_a_call_ends_without_an_empty_line(photos: Path, tmp_path: Path) -> None:
    lines = run("explain", photos, *MODEL, "--out", tmp_path / "o").stderr.split("\n")
    assert len(lines) == 4
    assert all(lines[:3])


def test_open_writes_pages_and_opens_them(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    assert run("explain", photos / "a.png", *MODEL, "--out", tmp_path / "o", "--open").exit_code == 0
    assert run("report", tmp_path / "o", "--open").exit_code == 0
    assert opened == [(tmp_path / "o" / "index.html").as_uri()] * 2


def test_without_a_browser_the_page_is_named(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    done = run("explain", photos / "a.png", *MODEL, "--out", tmp_path / "o", "--open")
    assert done.exit_code == 0
    assert f"no browser could be opened; open {tmp_path / 'o' / 'index.html'}" in done.stderr


@pytest.mark.parametrize(
    ("device", "line"),
    [
        ("cpu", ""),
        ("nowhere", "no device `nowhere` ("),
        ("meta", "no device `meta` ("),
        ("cuda:99", "no device"),
    ],
)
def test_a_model_goes_where_it_is_told_to(photos: Path, tmp_path: Path, device: str, line: str) -> None:
    done = run("explain", photos / "a.png", *MODEL, "--out", tmp_path / "o", "--device", device, "-q")
    assert done.exit_code == (1 if line else 0)
    assert done.stderr.startswith(f"chronocam: {line}" if line else "")
    assert done.stderr.count("\n") <= 1


def test_several_pictures_go_through_the_model_at_once(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    forward = DigitsNet.forward
    monkeypatch.setattr(
        DigitsNet, "forward", lambda self, images: sizes.append(len(images)) or forward(self, images)
    )
    arguments = ("explain", photos, *MODEL, "--target", "3", "--target", "8", "--json", "--out")
    alone = json.loads(run(*arguments, tmp_path / "alone").stdout)["inputs"]
    assert sizes.count(3) == 0
    sizes.clear()
    together = json.loads(run(*arguments, tmp_path / "together", "--batch-size", 3).stdout)["inputs"]
    assert sizes.count(3) == 1
    for one, other in zip(alone, together, strict=True):
        assert one["input"] == other["input"]
        for a, b in zip(one["maps"], other["maps"], strict=True):
            assert (a["target"], a["boxes"]) == (b["target"], b["boxes"])
            assert a["score"] == pytest.approx(b["score"], rel=1e-4)
            pair = [cc.load(entry["explanation"]) for entry in (a, b)]
            np.testing.assert_allclose(pair[0].maps, pair[1].maps, rtol=1e-3, atol=1e-6)
            assert pair[0].confidences.shape == pair[1].confidences.shape == (1, 2)


def test_a_bad_picture_spoils_no_other_of_its_batch(photos: Path, tmp_path: Path) -> None:
    (photos / "b.png").write_text("no picture")
    done = run("explain", photos, "gone.png", *MODEL, "--out", tmp_path / "o", "--batch-size", 2, "--json")
    assert done.exit_code == 1
    errors = [one.get("error", "") for one in json.loads(done.stdout)["inputs"]]
    assert [bool(error) for error in errors] == [False, True, False, True]
    assert "b.png" in errors[1]
    assert "gone.png" in errors[3]
