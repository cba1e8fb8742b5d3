"""D-RISE: the score of a mask is how much the most alike row is like the box."""

import numpy as np
import pytest
import torch
from detectors import Spots, two_spots
from helpers import one_line

import chronocam as cc
from chronocam.errors import TargetError
from chronocam.types import Outputs


def likeness(rows: np.ndarray, box: tuple[float, ...], vector: np.ndarray) -> float:
    """Return max over rows of IoU · cosine · objectness, one row after the other."""
    best = 0.0
    for x0, y0, x1, y1, o, *classes in rows.tolist():
        w = max(min(x1, box[2]) - max(x0, box[0]), 0)
        h = max(min(y1, box[3]) - max(y0, box[1]), 0)
        union = (x1 - x0) * (y1 - y0) + (box[2] - box[0]) * (box[3] - box[1]) - w * h
        p = 1 / (1 + np.exp(-np.asarray(classes)))
        cosine = p @ vector / np.linalg.norm(p) / np.linalg.norm(vector)
        best = max(best, w * h / union * cosine / (1 + np.exp(-o)))
    return best


def test_masks_are_scored_by_the_most_alike_row() -> None:
    net, x = Spots(), two_spots()[:1]
    found = cc.detect(net, x)
    bound = cc.targets.Boxes(found).of_model(net, (32, 32), 1)
    target = cc.DRISE(net).retarget(bound)
    clean = net(x).detach()
    target(Outputs(clean, lambda: clean, slice(0, 1)))
    hidden = x.clone()
    hidden[..., 4:8, 4:6] = 0
    rows = net(hidden).detach()
    scored = target(Outputs(rows, lambda: rows, slice(0, 1)))
    for k, one in enumerate(found):
        vector = 1 / (1 + np.exp(-clean[0, one.row, 5:].numpy()))
        assert float(scored.values[0, k]) == pytest.approx(
            likeness(rows[0].numpy(), one.box, vector), rel=1e-5
        )
    assert scored.values[0, 0] < scored.values[0, 1]


def test_the_map_lies_on_the_own_square() -> None:
    found = cc.detect(Spots(), two_spots())
    method = cc.DRISE(Spots(), cells=8, regions="cells", until=None, budget=256, baseline="zero")
    explanation = method.explain(two_spots(), cc.targets.Boxes(found))
    own, other = (4, 8, 4, 8), (20, 24, 24, 28)
    for k, (a, b) in enumerate([(own, other), (other, own)]):
        one = explanation.maps[0, k].clip(0)
        inside, beside = (one[y0:y1, x0:x1].sum() / one.sum() for y0, y1, x0, x1 in (a, b))
        assert inside > 0.35 > 0.05 > beside
    assert np.isnan(explanation.maps[1, 1]).all()


def test_a_black_box_has_boxes() -> None:
    def rows(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return Spots()(torch.as_tensor(np.array(x))).numpy()

    method = cc.DRISE(cc.blackbox(rows), cells=8, regions="cells", until=None, budget=128, baseline="zero")
    explanation = method.explain(two_spots().numpy(), cc.targets.Boxes(top=1))
    y, x = np.unravel_index(explanation.maps[1, 0].argmax(), (32, 32))
    assert (y // 4, x // 4) == (3, 2)


def test_other_targets_are_refused() -> None:
    with pytest.raises(TargetError) as error:
        cc.DRISE(Spots()).explain(two_spots(), 1)
    one_line(error, "D-RISE", "cc.targets.Boxes")
