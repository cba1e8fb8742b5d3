"""Networks that are lists of layers, whose head names the levels that it reads."""

from typing import Any

import numpy as np
import pytest
import torch
from detectors import Listed
from helpers import one_line
from torch import Tensor

import chronocam as cc
from chronocam.detections.adapters.listed import upright
from chronocam.errors import ModelError

KINDS = ("cells", "maps", "end", "turned", "turned end", "masks", "objectness", "queries")


def pictures() -> Tensor:
    return torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(1))


def of_hand(net: Listed, kind: str, x: Tensor, one: cc.Detection) -> tuple[float, Tensor, Any, str]:
    """Return the log score of a box, the output of the layer, the row that was returned, and the class."""
    levels: list[Tensor] = []
    hooks = [layer.register_forward_hook(lambda *args: levels.append(args[2])) for layer in net.model[:2]]
    out = net(x)
    for hook in hooks:
        hook.remove()
    rows = out[0][0] if kind == "masks" else out[0]
    row = rows[one.image, one.row] if kind in ("end", "turned end", "queries", "objectness") else None
    if kind in ("end", "turned end", "queries"):
        assert one.index == int(row[5])
        score = row[4]
    elif kind == "objectness":
        score = row[4] * row[5 + one.index]
    else:
        row = rows[one.image, :, one.row]
        score = row[4 + one.index]
    return score, levels, row, net.names[one.index]


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_that_of_the_head_and_explained_on_its_level(kind: str) -> None:
    net, x = Listed(kind).eval(), pictures()
    found = cc.detect(net, x, min_score=0)
    some = {(one.image, one.level): one for one in found}.values()
    assert {one.level for one in some} == ({0} if kind == "queries" else {0, 1})
    for one in some:
        score, levels, row, label = of_hand(net, kind, x, one)
        assert one.label == label
        assert one.score == pytest.approx(score.item(), rel=1e-5)
        level = 1 if kind == "queries" else one.level
        (gradient,) = torch.autograd.grad(score.log(), levels[level])
        expected = (gradient * levels[level]).sum(1)[one.image].clamp(min=0).numpy(force=True)
        explanation = cc.ODAM(net).explain(x, cc.targets.Boxes(one))
        assert explanation.layer == f"model.{level}"
        np.testing.assert_allclose(explanation.maps[one.image, 0], expected, rtol=1e-4, atol=1e-7)
        box = row[:4].numpy(force=True) * (np.array([32, 24, 32, 24]) if kind == "queries" else 1)
        if "turned" in kind:
            box = upright(torch.tensor(box)[None], row[-1:].detach())[0].numpy()
        if kind != "end":
            box = np.concatenate([box[:2] - box[2:] / 2, box[:2] + box[2:] / 2])
        np.testing.assert_allclose(one.box, np.clip(box, 0, [32, 24, 32, 24]), atol=1e-4)


def test_sides_of_a_box_have_a_map_too() -> None:
    net, x = Listed("cells").eval(), pictures()[:1]
    one = cc.detect(net, x, min_score=0)[0]
    explanation = cc.ODAM(net).explain(x, cc.targets.Boxes(one, of="x1"))
    _, levels, row, _ = of_hand(net, "cells", x, one)
    (gradient,) = torch.autograd.grad(row[0] + row[2] / 2, levels[one.level])
    expected = (gradient * levels[one.level]).sum(1)[0].numpy(force=True)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(explanation.maps[0, 0], expected, rtol=1e-4, atol=1e-6)


def test_such_a_network_is_a_detector_without_being_asked() -> None:
    explanation = cc.ODAM(Listed("cells").eval()).explain(pictures()[:1])
    assert explanation.targets[0][0].box is not None


def test_the_box_around_a_turned_one() -> None:
    boxes = torch.tensor([[10.0, 20, 8, 2], [10, 20, 8, 2], [0, 0, 2, 2]])
    angles = torch.tensor([0, torch.pi / 2, torch.pi / 4])
    expected = [[10, 20, 8, 2], [10, 20, 2, 8], [0, 0, 8**0.5, 8**0.5]]
    np.testing.assert_allclose(upright(boxes, angles), expected, atol=1e-5)


def test_what_a_head_kept_without_its_levels_is_refused() -> None:
    class Alone(Listed):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x)[0]

    with pytest.raises(ModelError) as error:
        cc.detect(Alone("end").eval(), pictures())
    one_line(error, "of which level", "end2end")


def test_a_head_in_training_is_refused() -> None:
    class Training(Listed):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x)[1]

    with pytest.raises(ModelError) as error:
        cc.detect(Training("cells"), pictures())
    one_line(error, "returned no rows", "in training")
