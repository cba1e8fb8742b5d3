"""Rows as YOLO's heads return them: which axis they are on, what is in a row, from which level it comes."""

from typing import Any

import numpy as np
import pytest
import torch
from detectors import Spots, two_spots
from helpers import one_line
from torch import Tensor, nn

import chronocam as cc
from chronocam.detections.adapters.raw import form_of, levels
from chronocam.errors import ModelError

BOXES = [(3.0, 3.0, 9.0, 9.0), (23.0, 19.0, 29.0, 25.0), (7.0, 11.0, 13.0, 17.0)]
ROWS = [9, 46, 26]  # 8 · 1 + 1, 8 · 5 + 6, 8 · 3 + 2


class Changed(nn.Module):
    """The toy with its rows in another form."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.spots = Spots()
        self.form = form.split()

    def forward(self, x: Tensor) -> Any:
        rows = self.spots(x)
        box, objectness, classes = rows[..., :4], rows[..., 4:5], rows[..., 5:]
        if "centres" in self.form:
            box = torch.cat([(box[..., :2] + box[..., 2:]) / 2, box[..., 2:] - box[..., :2]], -1)
        if "ultralytics" in self.form:
            # Without an objectness: a class is there where both are.
            rows = torch.cat([box, objectness.sigmoid() * classes.sigmoid()], -1).transpose(1, 2)
            return rows, {"one2many": rows * 2}
        gated = [objectness.sigmoid(), classes.sigmoid()] if "shares" in self.form else [objectness, classes]
        return torch.cat([box, *gated], -1)


FORMS = [
    "corners logits",
    "corners shares",
    "centres logits",
    "centres shares",
    "ultralytics",
    "ultralytics centres",
]


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_rows_is_told_from_them(form: str) -> None:
    found = cc.detect(Changed(form), two_spots(), labels=["red", "green"])
    assert [(one.image, one.label, one.row) for one in found] == [
        (0, "red", ROWS[0]),
        (0, "green", ROWS[1]),
        (1, "red", ROWS[2]),
    ]
    np.testing.assert_allclose([one.box for one in found], BOXES, atol=1e-4)
    share = 1 / (1 + np.exp(-3)) / (1 + np.exp(-6))  # of an objectness 9 − 6 and a class 9 − 3
    assert found[0].score == pytest.approx(share, rel=1e-5)
    explanation = cc.ODAM(Changed(form)).explain(two_spots(), cc.targets.Boxes(found[:2]))
    np.testing.assert_allclose(explanation.scores[0], np.log([one.score for one in found[:2]]), rtol=1e-4)


def test_a_stated_form_is_taken() -> None:
    told = cc.detect(Changed("corners logits"), two_spots(), boxes="cxcywh")
    x0, y0, x1, y1 = BOXES[0]
    assert told[0].box == (max(x0 - x1 / 2, 0), max(y0 - y1 / 2, 0), x0 + x1 / 2, y0 + y1 / 2)
    with pytest.raises(ModelError) as error:
        cc.detect(Changed("corners logits"), two_spots(), boxes="yxyx")
    one_line(error, "yxyx", "xyxy", "cxcywh")


def test_rows_that_may_be_either_are_refused() -> None:
    boxes = np.array([[10.0, 10, 20, 20], [5, 5, 30, 40]])
    with pytest.raises(ModelError) as error:
        form_of(boxes, None, 1)
    one_line(error, 'boxes="xyxy"', 'boxes="cxcywh"')
    assert form_of(np.array([[10.0, 10, 5, 5], [5, 5, 30, 40]]), None, 1) == "cxcywh"


@pytest.mark.parametrize(
    ("count", "grids", "anchors"),
    [
        (3549, [(52, 52), (26, 26), (13, 13)], 1),
        (25200 * 416 * 416 // (640 * 640), [(52, 52), (26, 26), (13, 13)], 3),
        (2704, [(52, 52)], 1),
    ],
)
def test_levels_are_told_from_how_many_rows_there_are(count: int, grids: list[Any], anchors: int) -> None:
    if anchors == 3:
        count = 3 * 3549
    told = levels(count, (416, 416))
    assert (list(told.grids), told.anchors) == (grids, anchors)
    assert levels(count + 1, (416, 416)) is None


def test_a_row_comes_from_its_level() -> None:
    photos = two_spots()
    photos[1, 1, 16:24, 8:16] = 1  # one cell of the coarser level
    found = cc.detect(Spots(levels=2), photos, adapter="rows")
    coarse = [one for one in found if one.level == 1]
    assert coarse[0].row == 64 + 4 * 2 + 1
    explanation = cc.ODAM(Spots(levels=2)).explain(photos, cc.targets.Boxes(coarse[0]))
    assert explanation.maps.shape[2:] == (4, 4)
    assert np.flatnonzero(explanation.maps[1, 0]).tolist() == [9]


@pytest.mark.parametrize(
    "output", [lambda x: x.mean((2, 3)), lambda x: x.mean((1, 2, 3))[:, None, None], lambda x: {"a": x}]
)
def test_what_is_no_detector_is_refused(output: Any) -> None:
    with pytest.raises(ModelError) as error:
        cc.detect(cc.blackbox(output), two_spots().numpy())
    one_line(error, "no boxes are known", "adapter=")


def test_rows_after_suppression_are_refused() -> None:
    rows = np.random.default_rng(0).random((2, 30, 6)) * 20
    rows[..., 4] /= 20
    rows[..., 5] = np.floor(rows[..., 5])
    with pytest.raises(ModelError) as error:
        cc.detect(cc.blackbox(lambda x: rows), two_spots().numpy())
    one_line(error, "(2, 30, 6)", "after suppression", "adapter=")


def test_an_adapter_is_a_function_or_a_name() -> None:
    rows = Spots()(two_spots())

    def tf_like(x: np.ndarray) -> dict[str, np.ndarray]:
        out = Spots()(torch.as_tensor(np.asarray(x).copy())).detach().numpy()
        return {
            "detection_boxes": out[..., [1, 0, 3, 2]] / 32,
            "raw": out[..., 5:],
            "objectness": out[..., 4],
        }

    def read(out: dict[str, np.ndarray]) -> Any:
        return out["detection_boxes"][..., [1, 0, 3, 2]] * 32, out["raw"], out["objectness"]

    found = cc.detect(cc.blackbox(tf_like), two_spots().numpy(), adapter=read)
    assert [one.row for one in found] == ROWS
    np.testing.assert_allclose([one.box for one in found], BOXES, atol=1e-5)
    assert found[0].score == pytest.approx(float(torch.sigmoid(rows[0, 9, 4]) * torch.sigmoid(rows[0, 9, 5])))
    with pytest.raises(ModelError) as error:
        cc.detect(Spots(), two_spots(), adapter="torchvision-anchor")
    one_line(error, "did you mean `torchvision-anchors`")
    with pytest.raises(ModelError) as error:
        cc.detect(Spots(), two_spots(), adapter=lambda out: (out[..., :5], out))
    one_line(error, "(2, 64, 5)", "(2, row, 4)")
