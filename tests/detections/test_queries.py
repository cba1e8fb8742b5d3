"""Whether class logits of queries have a softmax, with a last class that says that nothing is there."""

from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from chronocam.detections.adapters.queries import has_background, queries_in


def configured(within: bool, **config: Any) -> nn.Module:
    net: Any = nn.Module()
    net.config = SimpleNamespace(**config)
    return nn.Sequential(nn.Conv2d(3, 4, 1), net) if within else net


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize(
    ("config", "count", "softmax"),
    [
        ({"num_labels": 5}, 6, True),
        ({"num_labels": 5}, 5, False),
        ({"num_labels": 2, "text_config": {}}, 3, False),  # three queries in words
        ({"num_labels": 5, "use_focal_loss": False}, 5, True),
        ({"num_labels": 5, "use_focal_loss": True}, 5, False),
    ],
)
def test_a_configuration_says_it(within: bool, config: dict[str, Any], count: int, softmax: bool) -> None:
    assert has_background(configured(within, **config), count) == softmax


def test_parts_say_it_where_a_name_does_not() -> None:
    class MSDeformAttn(nn.Linear):
        pass

    class Mine(nn.Module):
        def __init__(self, attention: type[nn.Module]) -> None:
            super().__init__()
            self.attention = attention(4, 4)

    assert not has_background(Mine(MSDeformAttn), 5)
    assert has_background(Mine(nn.Linear), 5)


@pytest.mark.parametrize(
    ("raw", "known"),
    [
        ({"logits": 1, "pred_boxes": 2}, True),
        ({"pred_logits": 1, "pred_boxes": 2}, True),
        (SimpleNamespace(logits=1, pred_boxes=2), True),
        (SimpleNamespace(decoder_class_logits=1, decoder_coord_logits=2), True),
        ({"logits": 1}, False),
        ([1, 2], False),
    ],
)
def test_an_output_names_its_queries(raw: Any, known: bool) -> None:
    assert queries_in(raw) == ((1, 2) if known else None)
