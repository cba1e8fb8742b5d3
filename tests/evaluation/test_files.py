"""Photos and masks in files: folders, patterns, lists, names that two files share, masks of every kind."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import chronocam as cc
from chronocam.errors import InputError, MediaError
from chronocam.media.images import read_mask

RECIPE = cc.media.Preprocess((16, 16), (12, 12), (0.5,) * 3, (0.5,) * 3)
"""Of a photo of 24 × 16: its height becomes 16, and the middle 12 × 12 of that are seen."""


@pytest.fixture
def model():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    net = nn.Sequential(*layers).eval()
    net[4].weight.data *= 20
    return net


@pytest.fixture
def folder(tmp_path):
    """Three photos, a note, and masks by their names."""
    rng = np.random.default_rng(1)
    for name in ("photos", "masks"):
        (tmp_path / name).mkdir()
    for k in range(3):
        photo = rng.integers(0, 255, (16, 24, 3), dtype=np.uint8)
        Image.fromarray(photo).save(tmp_path / "photos" / f"p{k}.png")
        mask = np.zeros((16, 24), np.uint8)
        mask[4:10, 6 + k : 14] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"p{k}.png")
    (tmp_path / "photos" / "note.txt").write_text("no picture")
    return tmp_path


def energies(model, data, truth, **options):
    result = cc.evaluate(
        model, data, 1, methods=["gradcam"], measures=["energy"], truth=truth, preprocess=RECIPE, **options
    )
    return result.values(result.rows[0], result.measures[0])


def test_a_folder_a_pattern_and_a_list_are_the_photos_in_them(model, folder):
    photos, masks = folder / "photos", folder / "masks"
    paths = [photos / f"p{k}.png" for k in range(3)]
    by_hand = energies(model, paths, [masks / f"p{k}.png" for k in range(3)])
    assert len(set(by_hand)) == 3
    for given in (
        photos,
        str(photos),
        str(photos / "*.png"),
        [photos],
        [paths[0], str(photos / "p[12].png")],
    ):
        np.testing.assert_array_equal(energies(model, given, masks), by_hand)
    # One class each of photos that are named twice.
    np.testing.assert_array_equal(energies(model, [paths[1], paths[1]], str(masks)), by_hand[[1, 1]])


def test_a_photo_that_is_missing_fails_alone_and_a_folder_without_any_at_once(model, folder):
    result = cc.evaluate(
        model, [folder / "photos", "gone.png"], 1, measures=["complexity"], preprocess=RECIPE
    )
    assert [name for name, _ in result.failures] == ["gone.png"]
    assert len(result.samples) == 3
    for given, why in ((folder, "no pictures in"), (folder / "*.gif", "nothing matches")):
        with pytest.raises(MediaError, match=why):
            cc.evaluate(model, given, 1, measures=["complexity"], preprocess=RECIPE)


def test_a_folder_of_frames_is_a_clip_of_a_model_of_clips(tmp_path):
    rng = np.random.default_rng(0)
    for clip in ("a", "b"):
        for k in range(4):
            cc.media.write_image(
                tmp_path / clip / f"{k}.png", rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            )
    recipe = cc.media.ClipPreprocess(cc.media.Preprocess((8, 8), None, (0.5,) * 3, (0.5,) * 3), 4)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    found = [
        cc.evaluate(net.eval(), data, 1, measures=["flicker"], preprocess=recipe).to_pandas()
        for data in (tmp_path, [tmp_path / "a", tmp_path / "b"])
    ]
    assert found[0].samples[0] == 2
    assert found[0]["mean"].equals(found[1]["mean"])


@pytest.mark.parametrize("how", ["folder", "dict"])
def test_a_name_that_two_photos_share_is_no_truth_of_either(model, folder, how):
    other = folder / "more"
    other.mkdir()
    (folder / "photos" / "p0.png").rename(other / "p1.png")
    masks = folder / "masks"
    truth = masks if how == "folder" else {"p1.png": masks / "p1.png"}
    with pytest.raises(InputError, match=r"truth has `p1(\.png)?` for both .*photos.p1\.png` and .*more.p1"):
        energies(model, [folder / "photos", other], truth)
    whole = {str(other / "p1.png"): masks / "p0.png", str(folder / "photos" / "p1.png"): masks / "p1.png"}
    assert np.isfinite(energies(model, [folder / "photos" / "p1.png", other], whole)).all()


def test_a_mask_is_where_a_picture_is_neither_black_nor_transparent(tmp_path):
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:7] = True
    forms = {
        "grey": Image.fromarray(mask.astype(np.uint8) * 255),
        "dim": Image.fromarray(mask.astype(np.uint8)),
        "two levels": Image.fromarray(mask),
        "16 bits": Image.fromarray(mask.astype(np.uint16)),
        "colour": Image.fromarray(mask[..., None] * np.uint8([0, 9, 0])),
        "opaque": Image.fromarray(
            np.dstack([mask[..., None] * np.uint8([9, 9, 9]), np.full((6, 8), 255, np.uint8)])
        ),
        "cut out": Image.fromarray(np.dstack([np.zeros((6, 8, 3), np.uint8), mask.astype(np.uint8) * 255])),
    }
    for name, picture in forms.items():
        picture.save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(read_mask(tmp_path / f"{name}.png"), mask, err_msg=name)


def test_a_mask_in_memory_is_that_of_its_file(model, folder):
    paths, files = [[folder / kind / f"p{k}.png" for k in range(3)] for kind in ("photos", "masks")]
    opened = [Image.open(file).convert("RGB") for file in files]
    np.testing.assert_array_equal(energies(model, paths, opened), energies(model, paths, files))


def test_maps_of_the_size_of_their_photos_are_over_all_of_them(model, folder):
    masks = folder / "masks"
    over_photos = [np.asarray(Image.open(masks / f"p{k}.png")) / 255 for k in range(3)]
    result = cc.evaluate(
        model,
        folder / "photos",
        1,
        methods={"mine": over_photos},
        measures=["energy"],
        truth=masks,
        preprocess=RECIPE,
    )
    # All of what they mark is on the object, also where the model sees the middle alone.
    np.testing.assert_array_equal(result.values(result.rows[1], result.measures[0]), 1)
