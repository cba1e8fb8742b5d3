"""`chronocam evaluate` on small photos: truths from files, a page, what fails, and where it goes on."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from chronocam.cli import main

MODEL = "chronocam:digits"


@pytest.fixture
def photos(tmp_path):
    """Four photos with a bright square, and its mask."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    (tmp_path / "masks").mkdir()
    for k in range(4):
        pixels = rng.integers(0, 90, (96, 96, 3), dtype=np.uint8)
        mask = np.zeros((96, 96), np.uint8)
        mask[20 + k : 50, 30:60] = 255
        pixels[mask > 0] = 230
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{k}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{k}.png")
    return tmp_path


def run(photos, *arguments):
    base = ["evaluate", str(photos / "photos"), "--model", MODEL, "--out", str(photos / "out")]
    return CliRunner().invoke(main, [*base, *arguments])


def test_photos_with_masks_are_judged_into_a_page_and_tables(photos):
    result = run(photos, "--masks", str(photos / "masks"), "--measure", "energy", "--measure", "drop")
    assert result.exit_code == 0, result.output
    assert "energy inside" in result.output
    data = json.loads((photos / "out" / "evaluation.json").read_text())
    assert {row["measure"] for row in data["rows"]} == {"energy", "drop"}
    assert {sample["name"].rsplit("/", 1)[-1] for sample in data["samples"]} == {
        "0.png",
        "1.png",
        "2.png",
        "3.png",
    }
    assert (photos / "out" / "evaluation.html").is_file()
    assert (photos / "out" / "samples.parquet").is_file()


def test_boxes_of_coco_name_the_class_where_the_model_knows_it(photos):
    boxes = {
        "images": [{"id": 7, "file_name": "0.png"}, {"id": 8, "file_name": "sub/1.png"}],
        "categories": [{"id": 1, "name": "3"}, {"id": 2, "name": "zebra"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [30, 20, 30, 30]},
            {"image_id": 8, "category_id": 2, "bbox": [30, 20, 30, 30]},
        ],
    }
    (photos / "boxes.json").write_text(json.dumps(boxes))
    result = run(photos, "--boxes", str(photos / "boxes.json"), "--measure", "energy", "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    of = {
        sample["name"].rsplit("/", 1)[-1]: sample
        for sample in data["samples"]
        if sample["method"] == "gradcam"
    }
    assert of["0.png"]["target"] == "3"
    assert of["0.png"]["value"] is not None
    assert of["1.png"]["value"] is not None
    assert of["2.png"]["value"] is None  # nothing is known of it
    said = " ".join(result.stderr.split())
    assert "the model has no class `zebra`: for 1 file, the predicted class is explained" in said


def test_points_are_a_table(photos):
    (photos / "points.csv").write_text("file,x,y\n0.png,45,35\n1.png,45,35\n")
    options = ("--points", str(photos / "points.csv"), "--measure", "pointing", "--tolerance", "15")
    assert run(photos, *options).exit_code == 0


def test_points_of_json_are_those_of_the_table(photos):
    def judged(name, text):
        (photos / name).write_text(text)
        result = run(photos, "--points", str(photos / name), "--measure", "energy", "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)["samples"]

    table = judged("points.csv", "file,x,y,label\n0.png,45,35,3\n1.png,45,35,\n")
    points = [{"file": "a/0.png", "x": 45, "y": 35, "label": 3}, {"file": "1.png", "x": 45, "y": 35}]
    assert judged("points.json", json.dumps(points)) == table


@pytest.mark.parametrize(
    ("name", "text", "option", "message"),
    [
        ("boxes.json", "{}", "--boxes", "is not a file of COCO annotations (KeyError"),
        ("boxes.json", "[1, 2]", "--boxes", "is not a file of COCO annotations"),
        ("boxes.json", "\x00", "--boxes", "is not a file of COCO annotations"),
        ("points.csv", "a,b\n1,2\n", "--points", "expected file, x, y"),
        ("points.csv", "file,x,y\n0.png,one,2\n", "--points", "line 2 of"),
        ("points.json", '[{"file": "0.png", "x": 1}]', "--points", "expected file, x, y"),
        ("points.json", '[{"file": "0.png", "x": 1, "y": null}]', "--points", "entry 1 of"),
        ("points.json", '{"0.png": [1, 2]}', "--points", "holds no list of points"),
        ("points.json", "[", "--points", "is not JSON"),
        ("points.csv", "file,x,y\nother.png,1,2\n", "--points", "names none of the files"),
    ],
)
def test_damaged_annotations_are_one_line(photos, name, text, option, message):
    (photos / name).write_text(text)
    result = run(photos, option, str(photos / name))
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_files_that_cannot_be_judged_are_named_and_the_others_judged(photos):
    (photos / "photos" / "4.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((9, 9), np.uint8) + 255).save(photos / "masks" / "1.png")
    (photos / "masks" / "2.png").write_bytes(b"no mask")
    result = run(photos, "--masks", str(photos / "masks"), "--measure", "energy")
    assert result.exit_code == 1
    said = " ".join(result.stderr.split())
    assert "1.png: a mask of the truth has shape (9, 9); expected (96, 96)" in said
    assert "4.png" in said
    assert "3 files could not be judged, or not by all methods; the others were" in said
    data = json.loads((photos / "out" / "evaluation.json").read_text())
    assert len(data["failures"]) == 3
    assert len({sample["name"] for sample in data["samples"]}) == 2


def test_two_truths_and_two_targets_are_refused(photos):
    masks = ("--masks", str(photos / "masks"))
    (photos / "points.csv").write_text("file,x,y\n0.png,45,35\n")
    assert "give one of them" in run(photos, *masks, "--points", str(photos / "points.csv")).stderr
    assert "one --target" in run(photos, "--target", "1", "--target", "2").stderr


def test_a_folder_without_pictures_is_one_line(photos):
    (photos / "empty").mkdir()
    masks = ("--masks", str(photos / "masks"))
    for name, told in (("empty", "none of the arguments names a picture"), ("nowhere", "there is no `")):
        done = CliRunner().invoke(main, ["evaluate", str(photos / name), "--model", MODEL, *masks])
        assert done.exit_code == 1
        assert told in done.stderr


def annotated(photos, annotations, images=((7, "0.png"), (8, "1.png"))):
    named = [{"id": number, "file_name": name} for number, name in images]
    found = {"images": named, "categories": [{"id": 1, "name": "3"}], "annotations": annotations}
    (photos / "boxes.json").write_text(json.dumps(found))
    return "--boxes", str(photos / "boxes.json"), "--measure", "energy"


def test_crowds_and_what_is_no_box_are_left_out_and_named(photos):
    object_ = {
        "image_id": 7,
        "category_id": 1,
        "bbox": [30, 20, 30, 30],
        "iscrowd": 0,
        "segmentation": [[30, 20]],
    }
    runs = {"size": [96, 96], "counts": [0, 9216]}
    others = [
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 96, 96], "iscrowd": 1, "segmentation": runs},
        {"image_id": 7, "category_id": 1, "bbox": [30, 20, 0, 30]},
        {"image_id": 7, "category_id": 1, "segmentation": runs},
        {"image_id": 8, "category_id": 1, "bbox": [80, 20, 30, 30]},
    ]
    energies = []
    for some in ([object_], [object_, *others]):
        shutil.rmtree(photos / "out", ignore_errors=True)
        result = run(photos, *annotated(photos, some), "--method", "gradcam", "--json")
        energies += [
            one["value"]
            for one in json.loads(result.stdout)["samples"]
            if one["method"] == "gradcam" and one["name"].endswith("0.png")
        ]
    assert energies[0] == energies[1]
    said = " ".join(result.stderr.split())
    assert "1 annotation of a crowd, and not of an object: left out" in said
    assert "2 annotations without a box [x, y, width, height] of some size: left out" in said
    assert "1.png: (80.0, 20.0, 110.0, 50.0) is empty, or outside a picture of 96 × 96 pixels" in said
    assert result.exit_code == 1


def test_a_name_that_two_photos_share_is_refused(photos):
    twice = [(7, "a/0.png"), (8, "b/0.png")]
    result = run(photos, *annotated(photos, [{"image_id": 7, "bbox": [1, 1, 5, 5]}], twice))
    assert "has several images called 0.png; give the annotations of one folder" in " ".join(
        result.stderr.split()
    )
    (photos / "more").mkdir()
    shutil.copy(photos / "photos" / "0.png", photos / "more" / "0.png")
    for options in (
        annotated(photos, [{"image_id": 7, "bbox": [1, 1, 5, 5]}]),
        ("--masks", str(photos / "masks")),
    ):
        result = CliRunner().invoke(
            main, ["evaluate", str(photos / "photos"), str(photos / "more"), "--model", MODEL, *options]
        )
        assert "evaluate one folder at a time" in " ".join(result.stderr.split())
