"""Boxes as targets: which are chosen, what of them is scored, and what is refused."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from detectors import Spots, two_spots
from helpers import one_line
from torch import nn

import chronocam as cc
from chronocam.errors import InputError, ModelError, TargetError
from chronocam.maps.resample import resample
from chronocam.types import BoxInfo

RED, GREEN, ALONE = (3.0, 3.0, 9.0, 9.0), (23.0, 19.0, 29.0, 25.0), (7.0, 11.0, 13.0, 17.0)


def explained(targets: Any, x: torch.Tensor | None = None, method: Any = cc.ODAM, **options: Any) -> Any:
    return method(Spots(), **options).explain(two_spots() if x is None else x, targets)


def boxes(explanation: Any) -> list[list[Any]]:
    return [[None if info.box is None else info.box for info in row] for row in explanation.targets]


def test_energy_lies_on_the_own_square_alone() -> None:
    explanation = explained(cc.targets.Boxes())
    assert explanation.maps.shape == (2, 2, 8, 8)
    own = {(0, 0): 9, (0, 1): 46, (1, 0): 26}
    for (image, k), cell in own.items():
        flat = explanation.maps[image, k].ravel()
        assert np.flatnonzero(flat).tolist() == [cell]  # exactly nothing on the other
    assert np.isnan(explanation.maps[1, 1]).all()
    assert np.isnan(explanation.scores[1, 1])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (cc.targets.Boxes(), [[RED, GREEN], [ALONE, None]]),
        (cc.targets.Boxes(top=1), [[RED], [ALONE]]),
        (cc.targets.Boxes(label="green"), [[GREEN], [None]]),
        (cc.targets.Boxes(label=0), [[RED], [ALONE]]),
        (cc.targets.Boxes(min_score=0.94), [[RED], [ALONE]]),
        (cc.targets.Boxes(box=(22, 18, 30, 26)), [[GREEN]]),
    ],
)
def test_boxes_are_chosen_in_each_picture(target: Any, expected: list[list[Any]]) -> None:
    explanation = explained(target, two_spots()[: len(expected)])
    assert [[one and pytest.approx(one) for one in row] for row in expected] == boxes(explanation)


def test_a_sample_without_a_box_says_so_and_the_others_go_on() -> None:
    explanation = explained(cc.targets.Boxes(label="green"))
    (finding,) = explanation.findings
    assert (finding.kind, finding.sample) == ("no detection", 1)
    assert finding.text == "sample 1: no `green` of score 0.3 or more, so no map"
    assert np.isnan(explanation.maps[1]).all()
    assert explanation.maps[0].any()


def test_pictures_of_several_sizes_are_explained_in_one_call(tmp_path: Any) -> None:
    first, second = two_spots()
    pictures = [first, second[:, :24], torch.zeros(3, 16, 32)]
    explanation = explained(cc.targets.Boxes(), pictures)
    assert explanation.maps.shape == (3, 2, 8, 8)
    assert (explanation.input_size, explanation.sizes) == ((32, 32), ((32, 32), (24, 32), (16, 32)))
    assert boxes(explanation) == [[RED, GREEN], [ALONE, None], [None, None]]
    np.testing.assert_array_equal(explanation.maps[0], explained(cc.targets.Boxes(), first[None]).maps[0])
    alone = explained(cc.targets.Boxes(), second[None, :, :24])
    assert alone.maps.shape == (1, 1, 6, 8)
    np.testing.assert_array_equal(explanation.maps[1:2, :1], resample(alone.maps, (8, 8), "cubic"))
    assert np.isnan(explanation.maps[1, 1]).all()
    assert np.isnan(explanation.maps[2]).all()
    assert [one.sample for one in explanation.findings] == [2]
    (box,) = explanation.boxes(0.5)[1][0]
    assert box[1] <= ALONE[1] + 2 < box[3]  # in pixels of its own picture, of 24 rows
    again = cc.load(explanation.save(tmp_path / "maps.npz"))
    assert again.sizes == explanation.sizes
    found = cc.detect(Spots(), pictures)
    of_found = explained(cc.targets.Boxes(found), pictures)
    np.testing.assert_array_equal(of_found.maps, explanation.maps)


def test_what_was_found_is_explained() -> None:
    found = cc.detect(Spots(), two_spots())
    explanation = explained(cc.targets.Boxes(found))
    assert boxes(explanation) == [[RED, GREEN], [ALONE, None]]
    info = explanation.targets[0][1]
    assert isinstance(info, BoxInfo)
    assert (info.name, info.index, info.row, info.level) == ("green (23, 19, 29, 25)", 1, 46, 0)
    assert explanation.confidences[0, 1] == pytest.approx(found[1].score)
    np.testing.assert_allclose(explanation.scores[0], np.log([found[0].score, found[1].score]), rtol=1e-5)
    alone = explained(cc.targets.Boxes(found[2]), two_spots()[1:])  # the image alone that it was found in
    np.testing.assert_array_equal(alone.maps[0, 0], explanation.maps[1, 0])


@pytest.mark.parametrize(
    ("of", "score"),
    [
        ("score", float(nn.functional.logsigmoid(torch.tensor([3.0, 6.0])).sum())),
        ("class", 6.0),
        ("objectness", 3.0),
        ("x0", 3.0),
        ("y1", 9.0),
    ],
)
def test_what_of_a_box_is_scored(of: Any, score: float) -> None:
    explanation = explained(cc.targets.Boxes(top=1, of=of), two_spots()[:1])
    assert explanation.scores[0, 0] == pytest.approx(score, rel=1e-5)
    name = explanation.targets[0][0].name
    assert name == ("red (3, 3, 9, 9)" if of == "score" else f"{of} of red (3, 3, 9, 9)")
    assert explanation.targets[0][0].signed == (of in ("x0", "y1"))


class Sliding(nn.Module):
    """One box whose right side is its logit: of a known overlap with another."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 2, 4, 4)
        nn.init.constant_(self.body.weight, 1 / 48)
        nn.init.zeros_(self.body.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        right = self.body(x)[:, 0].sum((1, 2))[:, None] + 20
        zero = torch.zeros_like(right)
        return torch.stack([torch.cat([zero, zero, right, zero + 10, zero + 5, zero + 5], 1)] * 2, 1)


def test_the_overlap_with_a_box_is_scored_and_signed() -> None:
    x = torch.zeros(1, 3, 32, 32)
    x[..., 4:8, 4:8] = 1  # the side is 21
    target = cc.targets.Boxes(box=(0, 0, 10.5, 10), of="iou", boxes="xyxy")
    explanation = cc.ODAM(Sliding(), "body").explain(x, target)
    assert explanation.scores[0, 0] == pytest.approx(0.5)
    # d(10.5 / s) / ds · 1 at s = 21
    assert explanation.maps[0, 0].sum() == pytest.approx(-10.5 / 21**2, rel=1e-4)


def test_rows_are_held_when_the_input_is_changed() -> None:
    # In noise other rows become the best; what is explained is the row of the clean picture.
    explanation = explained(cc.targets.Boxes(top=1), method=cc.SmoothGrad, samples=3, noise=0.5)
    assert explanation.targets[0][0].row == 9
    assert set(np.flatnonzero(explanation.maps[0, 0].any(0)).tolist()) <= {4, 5, 6, 7}
    occluded = explained(cc.targets.Boxes(top=1), method=cc.Occlusion, baseline="zero", window=4, stride=4)
    assert np.abs(occluded.maps[0, 0])[4:8, 4:8].min() > np.abs(occluded.maps[0, 0])[16:].max()


def test_batches_have_as_many_columns_as_the_widest() -> None:
    explanation = explained(cc.targets.Boxes(), batch_size=1)
    whole = explained(cc.targets.Boxes())
    np.testing.assert_array_equal(explanation.maps, whole.maps)
    assert boxes(explanation) == boxes(whole)


def test_boxes_stand_beside_each_other_and_against() -> None:
    found = cc.detect(Spots(), two_spots()[:1])
    both = explained([cc.targets.Boxes(found[0]), cc.targets.Boxes(found[1])], two_spots()[:1])
    np.testing.assert_array_equal(both.maps, explained(cc.targets.Boxes(found), two_spots()[:1]).maps)
    against = explained(cc.targets.Counter(cc.targets.Boxes(found[0])), two_spots()[:1], signed=True)
    np.testing.assert_allclose(against.maps[0, 0], -both.maps[0, 0], atol=1e-7)
    assert str(against.targets[0][0]) == "against red (3, 3, 9, 9)"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"label": "blue"}, ("blue",)),
        ({"label": 7}, ("class 7", "2")),
        ({"box": (300, 300, 310, 310)}, ("no box near", "300", "x0, y0, x1, y1")),
        ({"of": "area"}, ("`area`", "score")),
        ({"of": "iou"}, ("box=",)),
        ({"top": 0}, ("top is 0",)),
        ({"box": (5, 5, 1, 9)}, ("x0 < x1",)),
        ({"box": (1, 5, float("nan"), 9)}, ("nan", "x0 < x1")),
        ({"box": ("a", 5, 1, 9)}, ("'a'", "x0 < x1")),
        ({"found": []}, ("nothing was found",)),
        ({"found": "dog"}, ("'dog'", "Boxes(label='dog')")),
        ({"found": 0}, ("0", "Boxes(index=0)")),
        ({"found": [(3, 3, 9, 9)]}, ("nothing that cc.detect found", "box=")),
        ({"min_score": 30}, ("min_score is 30", "from 0 to 1")),
        ({"index": -1}, ("index is -1",)),
        ({"index": 9}, ("no box number 9",)),
        ({"min_score": 0.96}, ("no box of score 0.96 or more",)),
    ],
)
def test_what_names_no_box_is_refused(target: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises((TargetError, InputError)) as error:
        explained(cc.targets.Boxes(**target))
    one_line(error, *words)


def test_the_row_of_a_box_lies_near_it_in_each_picture() -> None:
    # In the second picture nothing is there: the row is sure of nothing, and a surer one is further away.
    box, pictures = (3.0, 3.0, 9.0, 9.0), two_spots()
    pictures[1, :, 8:12, 8:12] = 1
    explanation = cc.ODAM(Spots()).explain(pictures, cc.targets.Boxes(box=box))
    assert [row[0].row for row in explanation.targets] == [9, 9]
    overlap = cc.ODAM(Spots()).explain(pictures, cc.targets.Boxes(box=box, of="iou"))
    np.testing.assert_allclose(overlap.scores, 1)


def test_a_picture_without_a_row_near_a_box_says_so_and_the_others_go_on() -> None:
    photos = two_spots()
    found = cc.ODAM(Spots()).explain([photos[0], photos[1][:, :16]], cc.targets.Boxes(box=(23, 19, 29, 25)))
    assert found.targets[0][0].row == 46
    assert np.isnan(found.maps[1]).all()
    assert any("sample 1: no box near (23, 19, 29, 25)" in text for text in found.diagnostics)


@pytest.mark.parametrize("which", [slice(None), 0])
def test_what_was_found_is_wrapped(which: Any) -> None:
    with pytest.raises(TargetError) as error:
        explained(cc.detect(Spots(), two_spots())[which])
    one_line(error, "cc.targets.Boxes(found)")


def test_why_this_box_and_not_that_one() -> None:
    photos = two_spots()
    red, green = cc.targets.Boxes(label="red"), cc.targets.Boxes(label="green")
    explanation = explained(cc.targets.Contrast(red, green), photos, signed=True)
    first, second = (explained(one, photos[:1], signed=True) for one in (red, green))
    np.testing.assert_allclose(explanation.maps[0, 0], first.maps[0, 0] - second.maps[0, 0], atol=1e-6)
    assert explanation.targets[0][0].name == "red (3, 3, 9, 9) rather than green (23, 19, 29, 25)"
    assert np.isnan(explanation.maps[1]).all()  # nothing is green in the second
    pooled = explained(cc.targets.Contrast(red, green), photos, method=cc.GradCAM)
    assert any("forgets the place" in text for text in pooled.diagnostics)


def test_found_boxes_are_not_chosen_again() -> None:
    found = cc.detect(Spots(), two_spots())
    with pytest.raises(TargetError) as error:
        cc.targets.Boxes(found, top=2)
    one_line(error, "not both")
    with pytest.raises(TargetError) as error:
        cc.ODAM(Spots()).explain(two_spots()[:1], cc.targets.Boxes(found))
    one_line(error, "image 1", "has 1")


def test_a_classifier_has_no_boxes() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ModelError) as error:
        cc.ODAM(net).explain(two_spots(), cc.targets.Boxes())
    one_line(error, "(1, 4)", "no boxes are known", "adapter=")


def test_pictures_and_pages_skip_what_is_missing(tmp_path: Any) -> None:
    explanation = explained(cc.targets.Boxes())
    assert np.isfinite(explanation.normalize()[0]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("maps.png", "maps.html", "maps.npz"):
            explanation.save(tmp_path / name, two_spots().permute(0, 2, 3, 1).numpy())
        assert explanation.boxes()[1][1] == []
        again = cc.load(tmp_path / "maps.npz")
        np.testing.assert_array_equal(again.maps, explanation.maps)
        assert again.targets[0][1] == explanation.targets[0][1]
        assert boxes(again) == boxes(explanation)
        assert again.targets[1][1].is_missing
        page = (tmp_path / "maps.html").read_text()
        assert "no further box" not in page


def test_sheets_show_the_box_of_each_map() -> None:
    photos = [photo.permute(1, 2, 0).numpy() for photo in two_spots()]
    explanation = explained(cc.targets.Boxes())
    images = [one.images[0].get_array() for one in explanation.plot(photos).axes if one.images]
    drawn = [image for image in images if image.ndim == 3]  # and not a bar
    for picture, (x0, y0, x1, _) in zip(drawn, (RED, GREEN, ALONE), strict=True):
        edge = np.asarray(picture)[int(y0), int(x0) : int(x1)]
        assert (edge == 255).all()
        assert not (np.asarray(picture)[int(y0) - 1] == 255).all(1).any()


def test_each_box_is_drawn_at_its_own_scale() -> None:
    # The gradient of a sure detection's score is small: on one scale its map would be the faintest.
    explanation = explained(cc.targets.Boxes(), two_spots()[:1])
    black = np.zeros((1, 32, 32, 3), np.uint8)
    red, green = explanation.overlay(black)[0]
    assert red[5, 5].tolist() == green[21, 25].tolist()
    together = explanation.overlay(black, scope="sample")[0]
    assert together[0][5, 5].sum() < together[1][21, 25].sum()


@pytest.mark.parametrize("method", [cc.GradCAM, cc.GradCAMPlusPlus, cc.ODAM, cc.LayerCAM])
def test_pooled_weights_say_that_they_forget_the_place(method: Any) -> None:
    explanation = explained(cc.targets.Boxes(top=1), method=method, conv_layer="body.0")
    told = [text for text in explanation.diagnostics if "forgets the place" in text]
    pools = method in (cc.GradCAM, cc.GradCAMPlusPlus)
    assert [text.startswith(method.name) and "ODAM or HiResCAM" in text for text in told] == [True] * pools
