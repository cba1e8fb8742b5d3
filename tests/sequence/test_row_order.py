"""Models whose first axis is time are not explained row by row."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from chronocam.errors import InputError
from chronocam.sequence import LRP, Gradient
from chronocam.targets import EveryStep, Step


class TimeFirst(nn.Module):
    def __init__(self, kind: Any = nn.LSTM, last: bool = False, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.last = kind(6, 8, **options), last
        self.head = nn.Linear(8 * (2 if options.get("bidirectional") else 1), 4)
        self.calls: list[int] = []

    def forward(self, x: Any) -> Any:
        self.calls.append(1)
        states = self.rnn(x)[0]
        return self.head(states[-1] if self.last else states)


@pytest.mark.parametrize("options", [{}, {"kind": nn.GRU}, {"kind": nn.RNN}, {"bidirectional": True}])
@pytest.mark.parametrize("method", [LRP, Gradient])
def test_a_step_taken_for_a_sample_is_refused(method: Any, options: Any) -> None:
    net, x = TimeFirst(**options).eval(), torch.randn(9, 1, 6)
    with pytest.raises(InputError, match=r"by itself and .* with others: the model mixes.*batch_first=False"):
        method(net).explain(x, EveryStep(3))
    if method is LRP and options.get("kind") is nn.RNN:
        return
    found = method(net, batch_first=False).explain(x.transpose(0, 1), EveryStep(3))
    assert np.allclose(found.scores[0], net(x)[:, 0, 3].detach(), atol=1e-6)


def test_the_last_step_alone_is_refused_too() -> None:
    with pytest.raises(InputError, match=r"one row for each of the 9 samples.*see batch_first="):
        LRP(TimeFirst(last=True).eval()).explain(torch.randn(9, 1, 6), 3)


def test_attention_over_the_batch_is_refused() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.attention, self.head = nn.MultiheadAttention(6, 2), nn.Linear(6, 4)

        def forward(self, x: Any) -> Any:
            return self.head(self.attention(x, x, x)[0])

    with pytest.raises(InputError, match="mixes its rows"):
        Gradient(Attends().eval()).explain(torch.randn(3, 5, 6), EveryStep(3))


def test_rows_are_compared_once_per_model_and_shape() -> None:
    net = TimeFirst(batch_first=True).eval()
    method = Gradient(net)

    def calls(x: torch.Tensor) -> int:
        before = len(net.calls)
        method.explain(x, EveryStep(3))
        return len(net.calls) - before

    first, again = calls(torch.randn(3, 5, 6)), calls(torch.randn(3, 5, 6))
    assert first == again + 1
    assert calls(torch.randn(3, 7, 6)) == first
    assert calls(torch.randn(1, 4, 6)) * 3 == again


def test_a_model_that_takes_one_sample_at_a_time_is_explained() -> None:
    class One(TimeFirst):
        def forward(self, x: Any) -> Any:
            if self.calls and len(x) > 1:
                raise RuntimeError("one at a time")
            return super().forward(x)

    found = Gradient(One(batch_first=True).eval()).explain(torch.randn(3, 5, 6), Step(4, 3))
    assert found.scores.shape == (3, 1)
