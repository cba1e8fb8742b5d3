"""Detectors of the DETR family as their authors publish them: `pred_logits` and `pred_boxes` in a dict."""

from typing import Any

import numpy as np
import pytest
import torch
from helpers import one_line
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import ModelError


class Copied(nn.Module):
    """Queries that look at features, and say class and box, under a name that says nothing."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Conv2d(3, 8, 8, 8)
        self.transformer = nn.MultiheadAttention(8, 2, batch_first=True)
        self.queries = nn.Parameter(torch.randn(5, 8))
        self.class_embed = nn.Linear(8, 4)
        self.bbox_embed = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Any:
        tokens = self.backbone(x).flatten(2).transpose(1, 2)
        out, _ = self.transformer(self.queries.expand(len(x), -1, -1), tokens, tokens)
        return {"pred_logits": self.class_embed(out), "pred_boxes": self.bbox_embed(out).sigmoid()}


class DETR(Copied):
    """The last class says that nothing is there."""


class Tuned(DETR):
    """One of a user's own, under another name."""


class RFDETR(Copied):
    """A sigmoid for each class."""


class Rare(Copied):
    """The same, which its head shows: each class is rare before anything is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.class_embed.bias.data.fill_(-4.6)


class Unnamed(nn.Module):
    """Another's queries, of which only the output says what they are."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Copied()
        self.backbone = self.net.backbone

    def forward(self, x: Tensor) -> Any:
        return self.net(x)


SOFTMAX = (Copied, DETR, Tuned, Unnamed)


@pytest.mark.parametrize("kind", [*SOFTMAX, RFDETR, Rare])
def test_a_query_is_explained_with_the_score_of_its_family(kind: type[nn.Module]) -> None:
    net, x = kind().eval(), torch.rand(2, 3, 32, 48)
    found = cc.detect(net, x, min_score=0)
    one = found.of(1)[0]
    logits, box = (net(x)[name][1, one.row] for name in ("pred_logits", "pred_boxes"))
    shares = logits.softmax(-1)[:-1] if kind in SOFTMAX else logits.sigmoid()
    assert len(found) == 10  # each query for its best class
    assert one.index == int(shares.argmax())
    assert one.score == pytest.approx(shares.max().item(), rel=1e-5)
    cx, cy, w, h = box.tolist()
    corners = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]) * [48, 32, 48, 32]
    np.testing.assert_allclose(one.box, corners.clip(0, [48, 32, 48, 32]), atol=1e-4)
    features: list[Tensor] = []
    hook = net.get_submodule("backbone").register_forward_hook(lambda *args: features.append(args[2]))
    logits = net(x)["pred_logits"][1, one.row]
    hook.remove()
    score = (logits.log_softmax(-1) if kind in SOFTMAX else nn.functional.logsigmoid(logits))[one.index]
    (gradient,) = torch.autograd.grad(score, features[0])
    expected = (gradient * features[0]).sum(1)[1].clamp(min=0).numpy(force=True)
    explanation = cc.ODAM(net).explain(x, cc.targets.Boxes(one))
    assert explanation.layer.endswith("backbone")
    np.testing.assert_allclose(explanation.maps[1, 0], expected, rtol=1e-4, atol=1e-7)


def test_what_returns_no_queries_is_refused() -> None:
    class Training(Copied):
        def forward(self, x: Tensor) -> Any:
            return {"loss": x.sum()}

    with pytest.raises(ModelError) as error:
        cc.detect(Training().eval(), torch.rand(1, 3, 32, 32))
    one_line(error, "pred_logits with pred_boxes")
