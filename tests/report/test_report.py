"""Pages as data: what they hold, that nothing in them can run, that the same files give the same bytes."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import zlib
from dataclasses import replace
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from helpers import run
from report_samples import clip_of, data_of, jpeg, kept, kept_clip, of_clip, of_image, of_sequence, photo

import chronocam as cc
from chronocam.errors import InputError, MediaError
from chronocam.media import Clip, still, stills
from chronocam.render import strength
from chronocam.render._overlay import relative
from chronocam.types.findings import note

EVIL = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


def unpacked(text, signed):
    values = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).astype(float)
    return (values - 128) / 127 if signed else values / 255


def strengths(maps, k):
    """Return how strongly a page draws a target's map."""
    return np.clip(maps["gains"][k] * unpacked(maps["bytes"][k], maps["signed"][k]), -1, 1)


def read(path):
    return path.read_text(encoding="utf-8")


# What a page holds


@pytest.mark.parametrize("signed", [False, True])
def test_the_maps_of_a_page_are_those_of_the_explanation(tmp_path, signed):
    explanation = kept(of_image(signed=signed))
    data = data_of(read(explanation.save(tmp_path / "x.html")))
    (item,) = data["items"]
    (maps,) = item["maps"]
    expected = strength(explanation.maps)[0]
    for k in range(2):
        assert maps["signed"][k] == signed
        np.testing.assert_allclose(strengths(maps, k), expected[k].ravel(), atol=1 / 127)
    told = maps["targets"]
    assert [one["name"] for one in told] == ["cat", "dog"]
    np.testing.assert_allclose([one["score"] for one in told], explanation.scores[0], rtol=1e-4)
    np.testing.assert_allclose([one["confidence"] for one in told], explanation.confidences[0], rtol=1e-3)
    assert maps["findings"] == ["the evidence at `layer4` is thin"]
    assert item["name"] == "a photo.jpg"
    assert base64.b64decode(item["stills"]["frames"][0]) == explanation.pictures[0].frames[0]


def test_a_clip_has_a_map_for_every_frame_that_is_shown(tmp_path):
    explanation = kept_clip(of_clip())
    (maps,) = data_of(read(explanation.save(tmp_path / "x.html")))["items"][0]["maps"]
    found = strengths(maps, 1).reshape(16, 5, 6)
    at = np.clip((np.arange(16) + 0.5) * 4 / 16 - 0.5, 0, 3)  # linear between the middles of the slices
    low = np.minimum(at.astype(int), 2)
    drawn = relative(explanation.maps)[0, 1]
    expected = drawn[low] + (at - low)[:, None, None] * (drawn[low + 1] - drawn[low])
    np.testing.assert_allclose(found, np.minimum(expected, 1), atol=1 / 255)
    assert maps["spans"] == [[0, 3], [4, 7], [8, 11], [12, 15]]
    attention = maps["targets"][1]["attention"]
    np.testing.assert_allclose(attention["weights"], explanation.attention.weights[0], rtol=1e-3)
    np.testing.assert_allclose(
        attention["contributions"], explanation.attention.contributions[0, 1], rtol=1e-3
    )
    np.testing.assert_allclose(
        maps["targets"][1]["importance"], explanation.frame_importance()[0, 1], rtol=1e-3
    )


def test_a_looped_clip_shows_each_frame_once_with_the_mean_of_its_maps(tmp_path):
    whole = clip_of(8)
    indices = np.array([0, 1, 2, 3, 0, 1, 2, 3])
    looped = Clip(whole.pixels[indices], whole.seconds[indices], 8.0, indices, whole.path)
    explanation = of_clip(frames=8, slices=8).with_pictures([looped])
    item = data_of(read(explanation.save(tmp_path / "x.html")))["items"][0]
    assert item["stills"]["count"] == len(item["stills"]["frames"]) == 4
    assert item["maps"][0]["spans"] == [[i % 4, i % 4] for i in range(8)]
    found = strengths(item["maps"][0], 0).reshape(4, 5, 6)
    drawn = relative(explanation.maps)[0, 0]
    np.testing.assert_allclose(found, np.minimum((drawn[:4] + drawn[4:]) / 2, 1), atol=1 / 255)
    weights = explanation.attention.weights[0]
    told = item["maps"][0]["targets"][0]["attention"]["weights"]
    np.testing.assert_allclose(told, weights[:4] + weights[4:], rtol=1e-3)


def test_maps_as_fine_as_pixels_are_thinned_to_their_strongest_and_the_page_says_so(tmp_path):
    maps = np.zeros((1, 1, 4, 130, 130), np.float32)
    maps[0, 0, :, 37, 101] = -2.0
    maps[0, 0, :, 38, 101] = 1.0
    explanation = cc.Explanation(
        maps, np.zeros((1, 1), np.float32), ((of_clip().targets[0][0],),), "saliency", "input", (4, 130, 130)
    )
    (found,) = data_of(read(explanation.save(tmp_path / "x.html")))["items"][0]["maps"]
    assert found["thinned"]
    assert found["cells"] == [44, 44]
    values = unpacked(found["bytes"][0], True).reshape(4, 44, 44)
    assert np.argwhere(values[0]).tolist() == [[12, 33]]
    np.testing.assert_allclose(values[:, 12, 33], -1, atol=1e-6)


def test_relevance_of_a_sequence_is_on_its_page_with_its_ledger(tmp_path):
    explanation = of_sequence()
    (entry,) = data_of(read(explanation.save(tmp_path / "x.html")))["items"][0]["sequences"]
    assert entry["cells"] == [12, 9]
    picture = unpacked(entry["targets"][8]["bytes"], True).reshape(12, 9) * entry["peak"]
    np.testing.assert_allclose(picture, explanation.relevance[0, 7], atol=entry["peak"] / 250)
    own = unpacked(entry["targets"][0]["bytes"], True).reshape(12, 9) * entry["peak"]
    np.testing.assert_allclose(own, explanation.own()[0], atol=entry["peak"] / 250)
    ledger = entry["targets"][8]["ledger"]
    assert sum(ledger.values()) == pytest.approx(explanation.scores[0, 7], rel=1e-3)
    assert entry["targets"][8]["score"] == pytest.approx(explanation.scores[0, 7], rel=1e-3)
    settling = explanation.settling()
    np.testing.assert_allclose(entry["settling"]["cosine"], settling.similarity.cosine[0], rtol=1e-3)
    step, (feature, value) = 5, entry["targets"][6]["top"][5][0]
    assert feature == np.abs(explanation.relevance[0, 5, step]).argmax()
    assert value == pytest.approx(explanation.relevance[0, 5, step, feature], rel=1e-3)


def test_many_features_share_cells_and_the_strongest_is_drawn(tmp_path):
    relevance = np.zeros((1, 1, 100, 6000))
    relevance[0, 0, 40, 4001] = -3.0
    relevance[0, 0, 40, 4000] = 1.0
    explanation = cc.sequence.SequenceExplanation(
        relevance, np.zeros((1, 1)), of_image(names=("x",)).targets, "lrp"
    )
    (entry,) = data_of(read(explanation.save(tmp_path / "x.html")))["items"][0]["sequences"]
    assert entry["bin"] == 3
    values = unpacked(entry["targets"][0]["bytes"], True).reshape(entry["cells"])
    assert np.argwhere(values).tolist() == [[40, 4001 // 3]]
    assert values.min() == pytest.approx(-1)


def test_explanations_side_by_side_share_one_page(tmp_path):
    shown = {"with attention": of_clip(seed=1), "without": of_clip(attention=False, seed=2)}
    page = cc.report.write(tmp_path / "both.html", shown, [clip_of()], title="Two networks", model="m")
    data = data_of(read(page))
    assert [maps["label"] for maps in data["items"][0]["maps"]] == ["with attention", "without"]
    assert data["title"] == "Two networks"
    assert data["items"][0]["model"] == "m"


def test_a_page_without_pictures_shows_bare_maps(tmp_path):
    item = data_of(read(of_image().save(tmp_path / "x.html")))["items"][0]
    assert item["stills"]["frames"] == []
    assert item["stills"]["size"] == [360, 540]  # six times the input, so that there is something to see
    assert item["name"] == "sample 1"


def test_a_page_holds_every_sample(tmp_path):
    pictures = [photo(60, 90, seed) for seed in range(3)]
    data = data_of(read(of_image(3).save(tmp_path / "x.html", pictures)))
    assert [item["name"] for item in data["items"]] == ["sample 1", "sample 2", "sample 3"]
    assert len({item["stills"]["frames"][0] for item in data["items"]}) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: {}, "nothing to show"),
        (lambda: {"a": of_image(1), "b": of_image(2)}, "different samples (a has 1, b has 2)"),
        (lambda: {"a": of_image(), "b": of_clip()}, "show them apart"),
    ],
)
def test_what_cannot_share_a_page_is_refused(tmp_path, make, message):
    with pytest.raises(InputError, match=re.escape(message)):
        cc.report.write(tmp_path / "x.html", make())
    assert not list(tmp_path.iterdir())


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(MediaError, match=re.escape("cannot write a page as `x.htm`; expected .html")):
        cc.report.write(tmp_path / "x.htm", of_image())
    with pytest.raises(MediaError, match=r"expected \.npz or one of \.html"):
        of_image().save(tmp_path / "x.xyz")


def test_a_page_of_32_frames_and_3_classes_is_below_1_mb(tmp_path):
    rng = np.random.default_rng(0)
    busy = (
        rng.integers(0, 256, (32, 90, 160, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    )  # hard on JPEG
    frames = np.arange(32)
    clip = Clip(busy, frames / 8, 8.0, frames, clip_of(1).path)
    page = of_clip(frames=32, slices=32, grid=(14, 14)).save(tmp_path / "x.html", [clip])
    assert 200_000 < page.stat().st_size < 1_000_000


# Nothing in a page can run or load


def hostile():
    image = of_image(names=(EVIL, "dog"))
    picture = still(photo(60, 90), EVIL + ".png")
    from dataclasses import replace

    return replace(image, findings=(note(EVIL),), layer=EVIL, method=EVIL).with_pictures([picture])


def test_names_cannot_end_the_data_they_stand_in(tmp_path):
    page = read(cc.report.write(tmp_path / "x.html", {EVIL: hostile()}, title=EVIL, model=EVIL))
    assert page.count("<script") == page.count("</script>") == 2
    assert "<img" not in page
    data = data_of(page)
    assert data["title"] == EVIL
    assert data["items"][0]["maps"][0]["targets"][0]["name"] == EVIL


def test_the_policy_allows_the_page_own_script_and_style_alone(tmp_path):
    of_image().save(tmp_path / "x.html")
    of_image().save(tmp_path / "x.npz")
    index = cc.report.write_folder(tmp_path, tmp_path / "out")
    for page in (read(tmp_path / "x.html"), read(index)):
        (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', page)
        told = dict(part.strip().split(" ", 1) for part in policy.split(";"))
        assert told["default-src"] == "'none'"
        assert told["img-src"] == "data: blob:"
        for name, tag in (("script-src", "<script>"), ("style-src", "<style>")):
            (text,) = re.findall(f"{tag}(.*?)</{tag[1:]}", page, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert told[name] == f"'sha256-{digest}'"
        assert not re.search(r"https?://(?!www\.w3\.org/)", page)
        assert not re.search(r'\s(?:style|on\w+)="', page)


# The same explanations give the same bytes


def test_a_page_of_a_saved_explanation_is_the_same_to_the_byte(tmp_path):
    for explanation, inputs in ((of_image(), [photo(60, 90)]), (of_clip(), [clip_of()])):
        first = explanation.save(tmp_path / "x.html", inputs).read_bytes()
        explanation.save(tmp_path / "x.npz", inputs)
        assert cc.load(tmp_path / "x.npz").save(tmp_path / "x.html").read_bytes() == first
    first = of_sequence().save(tmp_path / "s.html").read_bytes()
    of_sequence().save(tmp_path / "s.npz")
    assert cc.sequence.load(tmp_path / "s.npz").save(tmp_path / "s.html").read_bytes() == first


def test_a_saved_explanation_keeps_its_pictures_and_confidences(tmp_path):
    explanation = kept_clip(of_clip())
    explanation.save(tmp_path / "x.npz")
    found = cc.load(tmp_path / "x.npz")
    assert found.pictures == explanation.pictures
    assert found.pictures[0].seconds[1] == 0.125
    image = kept(of_image())
    image.save(tmp_path / "y.npz")
    np.testing.assert_array_equal(cc.load(tmp_path / "y.npz").confidences, image.confidences)
    assert cc.load(tmp_path / "y.npz").pictures == image.pictures


def test_pictures_are_one_for_each_sample():
    with pytest.raises(InputError, match=re.escape("got 2 images for 1 samples")):
        of_image().with_pictures([still(photo(9, 9)), still(photo(9, 9))])
    with pytest.raises(InputError, match=re.escape("got 1 clips for 2 samples")):
        cc.Explanation(*_twice(of_clip())).with_pictures([stills(clip_of())])


def _twice(one):
    maps, scores = np.concatenate([one.maps] * 2), np.concatenate([one.scores] * 2)
    return maps, scores, one.targets * 2, "gradcam", "l", one.input_size


def test_small_pictures_are_enlarged_and_large_ones_made_smaller():
    assert still(photo(30, 40)).size == (360, 480)
    assert still(photo(1500, 3000)).size == (512, 1024)
    whole = still(photo(1000, 2000), seen=(100, 0, 1100, 1000))
    assert whole.seen == (51, 0, 563, 512)
    np.testing.assert_allclose(whole.decoded(), photo(512, 1024), atol=40)
    with pytest.raises(MediaError, match="not a JPEG file"):
        cc.media.Stills((b"GIF89a",), (1, 1), (0, 0, 1, 1)).decoded()
    with pytest.raises(MediaError, match=re.escape("a picture of the input is (4, 5); expected (5, 5)")):
        cc.media.Stills((jpeg(photo(4, 5)),), (5, 5), (0, 0, 5, 5)).decoded()


# Folders


@pytest.fixture
def folder(tmp_path):
    kept(of_image(seed=1)).save(tmp_path / "a.npz")
    kept_clip(of_clip()).save(tmp_path / "b.npz")
    of_sequence().save(tmp_path / "c.npz")
    return tmp_path


def rows_of(index):
    return data_of(read(index))["rows"]


def test_a_folder_becomes_pages_and_an_index(folder):
    done = run("report", str(folder))
    assert done.exit_code == 0, done.stderr
    rows = rows_of(folder / "index.html")
    assert [(row["href"], row["kind"], row["class"]) for row in rows] == [
        ("a.html", "picture", "dog"),
        ("b.html", "clip", "wave"),
        ("c.html", "sequence", "walk at step 0"),
    ]
    assert rows[0]["score"] == pytest.approx(float(of_image(seed=1).scores[0, 1]), rel=1e-4)
    assert rows[0]["confidence"] == pytest.approx(0.9)
    assert rows[0]["sentence"].startswith("Says dog, 90 %: ")
    assert rows[0]["findings"] == ["the evidence at `layer4` is thin"]
    assert all((folder / row["href"]).is_file() for row in rows)
    for row in rows:
        thumbnail = base64.b64decode(row["picture"])
        assert thumbnail.startswith(b"\xff\xd8")
        assert len(thumbnail) < 60_000


def test_a_page_of_a_folder_is_the_one_that_save_writes_with_links(folder):
    cc.report.write_folder(folder, folder / "pages")
    neighbours = {"a": (None, "b"), "c": ("b", None)}
    for name, load in (("a", cc.load), ("c", cc.sequence.load)):
        alone = data_of(read(load(folder / f"{name}.npz").save(folder / f"{name}.html")))
        data = data_of(read(folder / "pages" / f"{name}.html"))
        assert alone.pop("links") is None
        links = data.pop("links")
        # In a folder it is the file that the reader knows; alone, a page says what was explained.
        assert data.pop("title") == name
        assert alone.pop("title") != name
        assert data == alone
        assert links["index"]["href"] == "index.html"
        around = [one and one["href"].removesuffix(".html") for one in (links["previous"], links["next"])]
        assert tuple(around) == neighbours[name]


def test_links_pass_over_what_cannot_be_read(folder):
    (folder / "b.npz").write_bytes(b"PK")
    cc.report.write_folder(folder)
    assert data_of(read(folder / "a.html"))["links"]["next"] == {"href": "c.html", "name": "c"}
    assert data_of(read(folder / "c.html"))["links"]["previous"] == {"href": "a.html", "name": "a"}


@pytest.mark.parametrize("kept_too", [True, False])
def test_a_signal_has_a_card_and_a_page_with_its_map_below(tmp_path, kept_too):
    one = of_image(names=("beat",))
    signal = cc.Explanation(one.maps[:, :, 0], one.scores, one.targets, "gradcam", "conv", (90,))
    signal.save(tmp_path / "x.npz", np.random.default_rng(0).normal(size=(1, 2, 90)) if kept_too else None)
    (row,) = rows_of(cc.report.write_folder(tmp_path))
    assert row["kind"] == "signal"
    shown = data_of(read(tmp_path / "x.html"))["items"][0]["maps"][0]
    np.testing.assert_allclose(shown["targets"][0]["line"], signal.maps[0, 0], rtol=1e-3)
    assert shown["targets"][0]["sentence"] == row["sentence"]


def test_an_index_has_a_title_and_leaves_what_most_networks_have_to_the_pages(tmp_path):
    findings = tuple(cc.types.Finding(kind, None, None, kind) for kind in ("wide field", "coarse grid"))
    kept(replace(of_image(), findings=findings)).save(tmp_path / "a.npz")
    index = cc.report.write_folder(tmp_path, title="Some maps")
    assert data_of(read(index))["title"] == "Some maps"
    assert [row["findings"] for row in rows_of(index)] == [["coarse grid"]]
    shown = data_of(read(tmp_path / "a.html"))["items"][0]["maps"][0]
    assert shown["findings"] == ["wide field", "coarse grid"]


def test_a_page_shows_the_findings_of_each_sample_without_its_number(tmp_path):
    both = of_image(samples=2)
    findings = [("note", None, None, "of all"), ("zero map", 1, "cat", "sample 1, cat: zero")]
    found = replace(both, findings=tuple(cc.types.Finding(*parts) for parts in findings))
    items = data_of(read(found.save(tmp_path / "a.html")))["items"]
    assert [item["maps"][0]["findings"] for item in items] == [["of all"], ["of all", "cat: zero"]]


def test_every_file_has_a_page_of_its_own_and_the_index_too(tmp_path):
    for name in ("index", "a", "a-2"):
        kept(of_image()).save(tmp_path / f"{name}.npz")
    kept(of_image(seed=5)).save(tmp_path / "a.gradcam.npz")
    told = {"input": "a.png", "maps": [{"method": "gradcam", "explanation": "a.gradcam.npz"}]}
    (tmp_path / "a.json").write_text(json.dumps(told))
    rows = rows_of(cc.report.write_folder(tmp_path, tmp_path / "out"))
    assert [row["href"] for row in rows] == ["a.html", "a-2.html", "a-3.html", "index-2.html"]
    assert len({row["score"] for row in rows}) == 2
    assert all((tmp_path / "out" / row["href"]).is_file() for row in rows)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seen": (0, 0, 10**9, 10**9)},
        {"size": (0, 40)},
        {"size": (10**6, 10**6)},
        {"places": (0, 10**9)},
        {"places": (-1,)},
        {"seconds": (0.0, 1.0, 2.0)},
        {"frames": (b"no picture",)},
    ],
)
def test_pictures_in_files_are_not_trusted(tmp_path, wrong):
    from dataclasses import asdict

    good = {**asdict(still(photo(30, 40))), "seconds": (0.0,)}
    with pytest.raises(MediaError, match=r"save them again|save the explanation again"):
        of_image().with_pictures([cc.media.Stills(**{**good, **wrong})]).save(tmp_path / "x.html")
    assert not list(tmp_path.iterdir())


def test_where_nothing_could_be_explained_there_are_no_pages(tmp_path):
    options = ["--model", "chronocam:digits", "--out", str(tmp_path / "out"), "--html"]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    done = run("explain", str(tmp_path / "broken.png"), *options)
    assert done.exit_code == 1
    assert "1 of 1 inputs could not be explained" in done.stderr
    assert not (tmp_path / "out").exists()


def test_pages_of_the_same_files_are_the_same_to_the_byte(folder):
    first = {path.name: path.read_bytes() for path in _pages(folder, folder / "one")}
    second = {path.name: path.read_bytes() for path in _pages(folder, folder / "two")}
    assert first == second
    assert len(first) == 4


def _pages(folder, out):
    cc.report.write_folder(folder, out)
    return list(out.glob("*.html"))


def test_a_file_that_cannot_be_read_is_told_and_the_others_go_on(folder):
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 nothing")
    (folder / "b.json").write_text(json.dumps({"maps": [{"method": "gradcam", "explanation": "gone.npz"}]}))
    (folder / "other.json").write_text("[1, 2]")
    done = run("report", str(folder))
    assert done.exit_code == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert [any(name in line for line in lines) for name in ("broken.npz", "gone.npz")] == [True, True]
    assert len(rows_of(folder / "index.html")) == 3


def test_every_damaged_byte_is_one_line_and_the_others_go_on(folder):
    whole = (folder / "a.npz").read_bytes()
    for at in range(0, len(whole), len(whole) // 24):
        (folder / "bad.npz").write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        lines = said_of(folder)
        assert all("bad.npz" in line for line in lines)
        hrefs = [row["href"] for row in rows_of(folder / "out" / "index.html")]
        assert [href for href in hrefs if href != "bad.html"] == ["a.html", "b.html", "c.html"]
        assert len(lines) == 1 - ("bad.html" in hrefs)


@pytest.mark.parametrize(
    "text",
    [
        '{"maps": ' * 20_000,
        '{"maps": [{"method": "gradcam"}]}',
        '{"maps": [{"method": "gradcam", "explanation": "a.npz", "score": 1e999}, {"method": 1}]}',
        '{"maps": [{"method": "gradcam", "explanation": "b.npz", "index": 9007199254740993}]}',
        '{"input": "\\ud800", "maps": [{"method": "gradcam", "explanation": ".."}]}',
        '{"input": "", "maps": [{"method": "gradcam", "explanation": "a\\u0000.npz"}]}',
    ],
)
def test_a_hostile_json_file_is_one_line_and_the_others_go_on(folder, text):
    (folder / "bad.json").write_text(text)
    (line,) = said_of(folder)
    assert "\n" not in line
    assert {row["href"] for row in rows_of(folder / "out" / "index.html")} == {"a.html", "b.html", "c.html"}


def test_scores_that_are_no_numbers_are_shown(folder):
    one = replace(cc.load(folder / "a.npz"), scores=np.full((1, 2), np.nan, np.float32), findings=())
    one.save(folder / "nan.npz")
    assert said_of(folder) == []
    assert [row["score"] for row in rows_of(folder / "out" / "index.html")].count(None) == 1


def test_a_disk_that_is_full_is_not_told_as_damaged_files(folder):
    (folder / "file").write_text("")
    lines = []
    with pytest.raises(MediaError, match="cannot write"):
        cc.report.write_folder(folder, folder / "file", say=lines.append)
    assert lines == []


def test_long_and_odd_names_have_pages_that_the_index_leads_to(folder, tmp_path):
    whole = (folder / "a.npz").read_bytes()
    for name in ("x" * 251, "猫" * 83, "bad\udcff", "A", "half \u202e", "#?%"):
        (folder / f"{name}.npz").write_bytes(whole)
    assert said_of(folder) == []
    out = folder / "out"
    for row in rows_of(out / "index.html"):
        assert (out / os.fsdecode(unquote_to_bytes(row["href"]))).is_file()
    assert len(rows_of(out / "index.html")) == 9


def damaged(folder, **changes):
    """Write c.json and c.npz, with other arrays or words in the explanation than it had."""
    path = folder / "c.npz"
    with np.load(path) as file:
        arrays = {**{name: file[name] for name in file.files}, **changes}
    np.savez(path, **arrays)


def said_of(folder):
    lines = []
    cc.report.write_folder(folder, folder / "out", say=lines.append)
    return lines


@pytest.mark.parametrize(
    "text",
    [
        '{"maps": [{"method": "gradcam", "expl',
        '{"maps": [{"method": "gradcam", "explanation": 5}]}',
        '{"input": "b", "maps": [{"method": "gradcam", "explanation": "b.npz"}], "diagnostics": "one"}',
    ],
)
def test_a_damaged_json_file_is_one_line_and_its_maps_are_shown_by_themselves(folder, text):
    (folder / "b.json").write_text(text)
    (line,) = said_of(folder)
    assert "b.json" in line
    assert line.endswith("explain the input again")
    assert [row["href"] for row in rows_of(folder / "out" / "index.html")] == ["a.html", "b.html", "c.html"]


@pytest.mark.parametrize(
    "change",
    [
        {"scores": np.zeros((1, 3))},
        {"relevance": np.zeros((1, 12, 12))},
        {"ledger.bias": np.zeros((2, 12))},
    ],
)
def test_a_damaged_explanation_is_one_line(folder, change):
    damaged(folder, **change)
    (line,) = said_of(folder)
    assert "c.npz" in line


@pytest.mark.parametrize("change", [{"scores": np.zeros((1, 3), np.float32)}, {"maps": np.zeros((1, 2, 5))}])
def test_maps_that_do_not_fit_their_scores_are_one_line(folder, change):
    (folder / "c.npz").write_bytes((folder / "a.npz").read_bytes())
    damaged(folder, **change)
    (line,) = said_of(folder)
    assert "c.npz" in line


@pytest.mark.parametrize(
    "place", ["report.folder.row_of", "render.page.items.shown_maps", "render.page.items.shown_sequence"]
)
@pytest.mark.parametrize("error", [KeyError("y"), TypeError("x"), ValueError("x"), IndexError("x")])
def test_a_fault_of_the_page_code_is_not_told_as_a_damaged_file(folder, monkeypatch, place, error):
    def faulty(*args, **kwargs):
        raise error

    monkeypatch.setattr(f"chronocam.{place}", faulty)
    lines = []
    with pytest.raises(type(error)):
        cc.report.write_folder(folder, say=lines.append)
    assert lines == []


def test_a_folder_with_nothing_to_show_is_an_error(tmp_path):
    done = run("report", str(tmp_path))
    assert done.exit_code == 1
    assert "holds no explanations; expected what `chronocam explain --out` or save() wrote" in done.stderr
    assert run("report", str(tmp_path / "none")).exit_code == 1
    (tmp_path / "x.npz").write_bytes(b"")
    assert "none of the 1 explanations" in run("report", str(tmp_path)).stderr
    assert not list(tmp_path.glob("*.html"))


def test_files_outside_of_the_folder_are_not_read(tmp_path):
    secret = tmp_path / "secret.npz"
    kept(of_image()).save(secret)
    inside = tmp_path / "results"
    inside.mkdir()
    told = {"input": "../../x<b>.png", "maps": [{"method": "gradcam", "explanation": str(secret)}]}
    (inside / "a.json").write_text(json.dumps(told))
    said = []
    with pytest.raises(InputError, match="none of the 1"):
        cc.report.write_folder(inside, say=said.append)
    assert "results/secret.npz" in said[0].replace("\\", "/")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".html"] == []


# Confidences


def test_confidences_are_the_softmax_at_the_classes_explained():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    nn = torch.nn
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    x = torch.randn(3, 3, 8, 8)
    softmax = net(x).softmax(1).detach().numpy()
    found = cc.GradCAM(net).explain(x, np.array([[0, 4], [1, 1], [2, 3]])).confidences
    np.testing.assert_allclose(
        found, np.take_along_axis(softmax, np.array([[0, 4], [1, 1], [2, 3]]), 1), rtol=1e-5
    )
    probabilities = torch.nn.Sequential(net, torch.nn.Softmax(1))
    np.testing.assert_allclose(
        cc.GradCAM(probabilities).explain(x, 2).confidences[:, 0], softmax[:, 2], rtol=1e-5
    )
    some = cc.GradCAM(net).explain(x, [cc.targets.Class(1), cc.targets.Contrast(0, 1)]).confidences
    np.testing.assert_allclose(some[:, 0], softmax[:, 1], rtol=1e-5)
    assert np.isnan(some[:, 1]).all()
    assert cc.GradCAM(net).explain(x, cc.targets.Regression(1)).confidences is None
    assert cc.GradCAM(net, batch_size=2).explain(x, 1).confidences.shape == (3, 1)
