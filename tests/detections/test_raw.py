"""Rows as YOLO's heads return them: which axis they are on, what is in a row, from which level it comes."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectors import Spots, flipped_rows, two_spots
from helpers import one_line
from torch import Tensor, nn

import chronocam as cc
from chronocam.detections.adapters.raw import form_of, levels
from chronocam.errors import InputError, ModelError, TargetError

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
        if "edges" in self.form:
            box = torch.cat([box[..., :2], box[..., 2:] - box[..., :2]], -1)
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
    "edges logits",
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


@pytest.mark.parametrize("pad", [False, True])
def test_pictures_of_odd_sizes_have_levels_too(pad: bool) -> None:
    photos = nn.functional.pad(two_spots(), (0, 5, 0, 3))  # 35 × 37 pixels
    net = Spots()
    if pad:
        net.register_forward_pre_hook(lambda _, args: nn.functional.pad(args[0], (0, 3, 0, 1)))
    found = cc.detect(net, photos)
    np.testing.assert_allclose([one.box for one in found], BOXES, atol=1e-4)
    (columns,) = {10} if pad else {9}
    assert [one.row for one in found] == [columns + 1, 5 * columns + 6, 3 * columns + 2]


@pytest.mark.parametrize(
    ("options", "words"), [({"min_score": 30}, ("min_score is 30",)), ({"labels": "red"}, ("str",))]
)
def test_options_that_mean_nothing_are_refused(options: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as error:
        cc.detect(Spots(), two_spots(), **options)
    one_line(error, *words)


@pytest.mark.parametrize(
    "output", [lambda x: x.mean((2, 3)), lambda x: x.mean((1, 2, 3))[:, None, None], lambda x: {"a": x}]
)
def test_what_is_no_detector_is_refused(output: Any) -> None:
    with pytest.raises(ModelError) as error:
        cc.detect(cc.blackbox(output), two_spots().numpy())
    one_line(error, "no boxes are known", "adapter=")


class Chosen(nn.Module):
    """The toy end to end, as YOLOv10 is: best rows first, each a score and the number of a class."""

    def __init__(self, count: int = 20) -> None:
        super().__init__()
        self.spots = Spots()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return best_of(self.spots(x), self.count)


def best_of(rows: Tensor, count: int) -> Tensor:
    scores, classes = (rows[..., 4:5].sigmoid() * rows[..., 5:].sigmoid()).max(-1)
    best, order = scores.topk(count)
    boxes = rows[..., :4].gather(1, order[..., None].expand(-1, -1, 4))
    return torch.cat([boxes, best[..., None], classes.gather(1, order)[..., None].to(rows)], -1)


def test_rows_that_the_model_has_kept_are_explained_end_to_end() -> None:
    photos = two_spots()
    photos[0, 1, 8:12, 4:8] = 0.95  # below the red one, whose box it overlaps
    found = cc.detect(Chosen(), photos, labels=["red", "green"])
    assert [(one.image, one.label, one.row) for one in found] == [
        (0, "red", 0),
        (0, "green", 1),
        (0, "green", 2),
        (1, "red", 0),
    ]
    assert found[3].box == BOXES[2]
    explanation = cc.ODAM(Chosen()).explain(photos, cc.targets.Boxes(found))
    assert [np.flatnonzero(one).tolist() for one in explanation.maps[0]] == [[9], [17], [46]]
    np.testing.assert_allclose(explanation.scores[0], np.log([one.score for one in found[:3]]), rtol=1e-5)
    with pytest.raises(TargetError) as error:
        cc.ODAM(Chosen(), labels=["red", "green", "blue"]).explain(photos, cc.targets.Boxes(label="blue"))
    one_line(error, "no `blue` of score 0.3")


def test_what_was_kept_of_several_levels_is_explained_on_each() -> None:
    photos = torch.cat([two_spots()[1:], two_spots()])
    photos[0, 1, 16:24, 16:24] = 1  # a cell of the coarser level
    photos[2, 1, 16:24, 16:24] = 1

    class Best(Spots):
        def forward(self, x: Tensor) -> Tensor:
            return best_of(super().forward(x), 20)

    plain = cc.ODAM(Spots(levels=2)).explain(photos, cc.targets.Boxes())
    for batch_size in (3, 1):
        kept = cc.ODAM(Best(levels=2), batch_size=batch_size).explain(photos, cc.targets.Boxes())
        assert {one.level for row in kept.targets for one in row if one.box} == {0, 1}
        for i in range(3):
            own, others = (
                {one.box: k for k, one in enumerate(e.targets[i]) if one.box} for e in (kept, plain)
            )
            assert len(own) > 1 - (i == 1)
            for box, k in own.items():
                expected = plain.maps[i, others[box]]
                np.testing.assert_allclose(kept.maps[i, k], expected, rtol=1e-4, atol=1e-6)


def test_a_box_without_an_area_keeps_its_row() -> None:
    class Outside(Chosen):
        def forward(self, x: Tensor) -> Tensor:
            rows = super().forward(x)
            rows[:, 1, :4] = rows.new_tensor([-9.0, 3, -2, 9])  # cut off at the border, nothing is left
            return rows

    photos = two_spots()[:1]
    one = cc.detect(Outside(), photos)[1]
    score = cc.ODAM(Outside()).explain(photos, cc.targets.Boxes(one)).scores[0, 0]
    assert score == pytest.approx(np.log(one.score), rel=1e-5)
    again = cc.SmoothGrad(Outside(), samples=1, noise=0).explain(photos, cc.targets.Boxes(one))
    assert np.flatnonzero(again.maps[0, 0].any(1)).min() >= 20  # the rows of the green cell


def test_rows_end_to_end_are_followed_when_their_order_changes() -> None:
    # Where the best one is hidden, the second takes its row.
    photos = two_spots()[:1]
    target = cc.targets.Boxes(cc.detect(Chosen(), photos)[1])
    explanation = cc.Occlusion(Chosen(), baseline="zero", window=4, stride=4).explain(photos, target)
    drop = explanation.maps[0, 0]
    assert drop[20:24, 24:28].min() > 1
    assert np.abs(drop[4:8, 4:8]).max() < 1e-5


@pytest.mark.parametrize("objectness", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_columns_after_the_classes_are_left_out(objectness: bool, named: bool) -> None:
    class Masked(Changed):
        def forward(self, x: Tensor) -> Any:
            rows = super().forward(x)
            rows = rows if objectness else rows[0].transpose(1, 2)
            more = torch.linspace(-3, 40, 32) + 0 * rows[..., :1]  # coefficients of a mask
            rows = torch.cat([rows, more], -1)
            return rows if objectness else (rows.transpose(1, 2), None)

    net = Masked("corners shares" if objectness else "ultralytics")
    if named:
        net.names = {0: "red", 1: "green"}
    found = cc.detect(net, two_spots())
    assert [(one.index, one.row) for one in found] == [(0, ROWS[0]), (1, ROWS[1]), (0, ROWS[2])]


@pytest.mark.parametrize("form", ["corners shares", "centres shares", "edges shares"])
def test_boxes_may_be_shares_of_the_picture(form: str) -> None:
    class Relative(Changed):
        def forward(self, x: Tensor) -> Any:
            rows = super().forward(x)
            return torch.cat([rows[..., :4] / 32, rows[..., 4:]], -1)

    found = cc.detect(Relative(form), two_spots())
    np.testing.assert_allclose([one.box for one in found], BOXES, atol=1e-4)


def test_as_many_columns_are_classes_as_the_model_names() -> None:
    class Turned(Changed):
        names = ("red", "green")

        def forward(self, x: Tensor) -> Any:
            rows, beside = super().forward(x)
            return torch.cat([rows, 0.9 + 0 * rows[:, :1]], 1), beside  # an angle, which might be a class

    found = cc.detect(Turned("ultralytics"), two_spots())
    assert [(one.label, one.row) for one in found] == list(zip(("red", "green", "red"), ROWS, strict=True))


@pytest.mark.parametrize("centres", [False, True])
def test_rows_that_the_model_has_kept_may_have_centres_and_more_columns(centres: bool) -> None:
    class More(Chosen):
        def forward(self, x: Tensor) -> Tensor:
            rows = super().forward(x)
            if centres:
                low, high = rows[..., :2], rows[..., 2:4]
                rows = torch.cat([(low + high) / 2, high - low, rows[..., 4:]], -1)
            return torch.cat([rows, torch.full_like(rows[..., :3], 7.5)], -1)

    found = cc.detect(More(), two_spots())
    assert [one.row for one in found] == [0, 1, 0]
    np.testing.assert_allclose([one.box for one in found], BOXES, atol=1e-5)


def test_boxes_are_held_against_each_other_before_they_are_cut_off() -> None:
    # Cut off at the left border, both are the same box; as the model gives them, the IoU is 0.2.
    rows = torch.tensor([[[-10.0, 0, 10, 10, 0.9, 0.1], [-90, 0, 10, 10, 0.8, 0.1]]])
    net = cc.blackbox(lambda x: rows.numpy().transpose(0, 2, 1))
    found = cc.detect(net, torch.zeros(1, 3, 32, 32).numpy(), boxes="xyxy")
    assert [one.row for one in found] == [0, 1]


class TwoBranches(nn.Module):
    """A head whose boxes and classes come from branches of their own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 6, 8, 8), nn.Tanh())
        self.box, self.classes = (
            nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, n, 1)) for n in (4, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x)
        h, w = features.shape[2:]
        y, x_ = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        centre = (torch.stack([x_, y]).reshape(1, 2, -1).to(features) + 0.5) * 8
        sides = self.box(features).flatten(2)
        box = torch.cat([centre + sides[:, :2], 8 * sides[:, 2:].exp()], 1)
        return torch.cat([box, self.classes(features).flatten(2).sigmoid()], 1)


def test_score_and_sides_are_explained_where_both_come_from() -> None:
    net, x = TwoBranches().eval(), torch.rand(1, 3, 64, 64)
    one = cc.detect(net, x, min_score=0)[0]
    score, side = (cc.ODAM(net).explain(x, cc.targets.Boxes(one, of=of)) for of in ("score", "x0"))
    assert score.layer == side.layer == "body"
    features = net.body(x).detach().requires_grad_()
    sides = net.box(features).flatten(2)[0, :, one.row]
    (gradient,) = torch.autograd.grad(sides[0] - 4 * sides[2].exp(), features)
    expected = (gradient * features).sum(1)[0].numpy(force=True)
    np.testing.assert_allclose(side.maps[0, 0], expected, rtol=1e-4, atol=1e-6)


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


def test_rows_of_a_function_come_from_their_levels() -> None:
    photos = two_spots()
    photos[1, 1, 16:24, 16:24] = 1  # a cell of the coarser level
    net = Spots(levels=2)

    def read(out: Tensor) -> Any:
        return out[..., :4], out[..., 5:], out[..., 4]

    found = cc.detect(net, photos, adapter=read)
    assert {one.level for one in found} == {0, 1}
    own, plain = (cc.ODAM(net).explain(photos, cc.targets.Boxes(adapter=one)) for one in (read, None))
    np.testing.assert_array_equal(own.maps, plain.maps)
    assert own.layer == plain.layer == "heads.0+heads.1"


def test_a_predictor_is_answered_with_the_network_within() -> None:
    class YOLO(nn.Module):
        """As ultralytics' own: a call predicts, and returns a list of results."""

        predictor = None

        def __init__(self) -> None:
            super().__init__()
            self.model = Spots()

        def forward(self, x: Tensor) -> list[object]:
            return [object() for _ in self.model(x)]

    with pytest.raises(ModelError) as error:
        cc.detect(YOLO(), two_spots())
    one_line(error, "a list", "model.model")
    assert len(cc.detect(YOLO().model, two_spots())) == 3


def test_a_model_that_is_loaded_with_an_adapter_needs_none_later(tmp_path: Path) -> None:
    spots, photos = Spots().eval(), two_spots()
    program = torch.export.export(spots, (photos,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, tmp_path / "spots.pt2")
    spec = f"{tmp_path}/spots.pt2"
    loaded = cc.models.load(spec, trust=True, labels=["green", "red"], adapter=flipped_rows)
    found = cc.detect(loaded, photos)
    assert [(one.label, one.row) for one in found] == [("red", 9), ("green", 46), ("red", 26)]
    explanation = cc.ODAM(loaded, "body.0").explain(photos)  # a detector, whose default target is its boxes
    assert [info.name for info in explanation.targets[0]] == ["red (3, 3, 9, 9)", "green (23, 19, 29, 25)"]
    plain = cc.ODAM(spots, "body.0").explain(photos, cc.targets.Boxes(adapter=flipped_rows))
    np.testing.assert_array_equal(explanation.maps, plain.maps)


def test_how_rows_are_read_may_be_named_with_the_spec() -> None:
    loaded = cc.models.load("python:detectors:spots", adapter="detectors:flipped_rows")
    assert [one.label for one in cc.detect(loaded.model, two_spots())] == ["green", "red", "green"]
    stated = cc.models.load("python:detectors:spots", boxes="xywh")
    assert cc.detect(stated.model, two_spots())[0].box == (3, 3, 12, 12)
    with pytest.raises(ModelError) as error:
        cc.models.load("python:detectors:spots", adapter="detectors:rows_of")
    one_line(error, "detectors", "`rows_of`")


class Listing(nn.Module):
    """The toy as torchvision's detectors answer: what is found in each picture."""

    def __init__(self, shares: bool = False) -> None:
        super().__init__()
        self.spots, self.shares = Spots(), shares

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        every = []
        for rows in self.spots(x):
            scores, labels = (rows[:, 4:5].sigmoid() * rows[:, 5:].sigmoid()).max(1)
            best = scores.argsort(descending=True)[: int((scores > 0.3).sum())]
            boxes = rows[best, :4] / (32 if self.shares else 1)
            every.append({"boxes": boxes, "scores": scores[best], "labels": labels[best]})
        return every


@pytest.mark.parametrize("shares", [False, True])
def test_lists_of_what_a_model_has_kept_are_rows(shares: bool) -> None:
    net, x = Listing(shares), torch.cat([two_spots(), torch.zeros(1, 3, 32, 32)])
    found, raw = cc.detect(net, x, labels=["red", "green"]), cc.detect(Spots(), x)
    assert [(one.image, one.label) for one in found] == [(0, "red"), (0, "green"), (1, "red")]
    for one, other in zip(found, raw, strict=True):
        assert one.box == pytest.approx(other.box, abs=1e-4)
        assert one.score == pytest.approx(other.score, rel=1e-5)
    explanation = cc.ODAM(net).explain(x, cc.targets.Boxes())
    expected = cc.ODAM(Spots()).explain(x, cc.targets.Boxes())
    np.testing.assert_allclose(explanation.maps, expected.maps, rtol=1e-4)
    assert [one.sample for one in explanation.findings if one.kind == "no detection"] == [2]
    first = cc.ODAM(net).explain(x.flip(0), cc.targets.Boxes(box=(3, 3, 9, 9)))
    assert first.layer == explanation.layer
    np.testing.assert_allclose(first.maps[2, 0], explanation.maps[0, 0])
    assert np.isnan(first.maps[0]).all()


def test_a_model_that_lists_nothing_is_answered_in_a_line() -> None:
    with pytest.raises(TargetError) as error:
        cc.ODAM(Listing()).explain(torch.zeros(2, 3, 32, 32), cc.targets.Boxes(top=1))
    one_line(error, "finds no box in any sample")


class Parted(nn.Module):
    """The toy with its boxes beside its classes; `offsets` from anchors in their place."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.spots, self.form = Spots(), form.split()

    def forward(self, x: Tensor) -> Any:
        rows = self.spots(x)
        boxes, classes = rows[..., :4], rows[..., 4:5].sigmoid() * rows[..., 5:].sigmoid()
        if "offsets" in self.form:
            boxes = torch.sin(7 * boxes)
        if "named" in self.form:
            return {"pred_bboxes": boxes, "pred_scores": classes}
        return ((boxes, classes), [rows]) if "nested" in self.form else (boxes, classes)


@pytest.mark.parametrize("form", ["", "nested", "named"])
def test_boxes_may_stand_beside_their_classes(form: str) -> None:
    found = cc.detect(Parted(form), two_spots())
    raw = cc.detect(Spots(), two_spots())
    assert [(one.image, one.index, one.row) for one in found] == [
        (one.image, one.index, one.row) for one in raw
    ]
    np.testing.assert_allclose([one.box for one in found], [one.box for one in raw])
    np.testing.assert_allclose([one.score for one in found], [one.score for one in raw], rtol=1e-5)


@pytest.mark.parametrize("form", ["offsets", "named offsets"])
def test_offsets_from_anchors_are_no_boxes(form: str) -> None:
    with pytest.raises(ModelError) as error:
        cc.detect(Parted(form), two_spots())
    one_line(error, "no boxes are known", "adapter=")


def test_boxes_without_classes_are_refused() -> None:
    class Boxes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ones(len(x), 65, 4)

    with pytest.raises(ModelError) as error:
        cc.detect(Boxes(), torch.rand(2, 3, 96, 96))
    one_line(error, "(2, 65, 4)", "boxes without classes", "adapter=")


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        (lambda out: None, ("NoneType", "(boxes, classes)")),
        (lambda out: out.boxes, ("adapter= fails", "Tensor")),
        (lambda out: out, ("expected (boxes, classes)",)),
    ],
)
def test_an_adapter_that_makes_no_rows_is_answered_in_a_line(adapter: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(ModelError) as error:
        cc.detect(Spots(), two_spots(), adapter=adapter)
    one_line(error, *words)


def test_what_an_adapter_makes_may_be_probabilities() -> None:
    def shares(out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return out[..., :4], out[..., 5:].sigmoid(), out[..., 4].sigmoid()

    found, raw = cc.detect(Spots(), two_spots(), adapter=shares), cc.detect(Spots(), two_spots())
    np.testing.assert_allclose([one.score for one in found], [one.score for one in raw], rtol=1e-5)


@pytest.mark.parametrize("cut", [(math.floor, math.ceil), (math.ceil, math.floor)])
def test_levels_may_round_as_patches_and_then_as_padded_halves(cut: Any) -> None:
    first, then = cut
    grid = first(100 / 8), first(140 / 8)
    grids = [grid, (then(grid[0] / 2), then(grid[1] / 2))]
    grids.append((then(grids[1][0] / 2), then(grids[1][1] / 2)))
    known = levels(sum(a * b for a, b in grids), (100, 140))
    assert known is not None
    assert list(known.grids) == grids
