"""What an explanation works out when somebody asks: the same as if it had been asked at once."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

import chronocam as cc
from chronocam.explanation.late import late, late_fields

FIELDS = ("findings", "confidences", "copies")


@late_fields("value")
@dataclass(frozen=True)
class Record:
    name: str
    value: int = 7


def test_a_late_field_is_found_once_and_only_when_it_is_read() -> None:
    asked: list[int] = []
    record = Record("a", late(lambda: asked.append(1) or 3))
    assert not asked
    assert (record.value, record.value, asked) == (3, 3, [1])
    assert (Record("a").value, Record("a", 4).value, Record("a", 3)) == (7, 4, record)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_of_a_record_hold_values(again) -> None:
    assert vars(again(Record("a", late(lambda: 3)))) == {"name": "a", "value": 3}
    assert replace(Record("a", late(lambda: 3)), name="b") == Record("b", 3)


class Network(nn.Sequential):
    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 9))
        self[0].bias.data.fill_(5)  # so that some classes have evidence against them alone
        self.returned = torch.empty(2, 9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        # As programs do that use their memory again.
        return y if torch.is_grad_enabled() else self.returned[: len(x)].copy_(y)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("targets", [None, list(range(9))])
def test_what_is_asked_later_is_of_the_call(field: str, targets: list[int] | None) -> None:
    model, inputs = Network().eval(), torch.rand(1, 3, 12, 12)
    method = cc.GradCAM(model, "0")
    for _ in range(2):  # as it is the first time, and as it is when calls alike know what to do
        at_once, later = method.explain(inputs, targets), method.explain(inputs, targets)
        expected = getattr(at_once, field)
        kept, values = inputs.clone(), [p.detach().clone() for p in model.parameters()]
        later.maps[...], later.scores[...] = 5, np.nan
        inputs.mul_(-3)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.data.zero_()
        method.explain(inputs, targets)
        np.testing.assert_array_equal(getattr(later, field), expected)
        inputs.copy_(kept)
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.data.copy_(value)
    if field == "findings":
        assert targets is None or any(finding.kind == "negative evidence" for finding in expected)
