"""What a model is made of is told anew where it changed, and as before where it did not."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from chronocam.engines.structure import Snapshot, Structure


class Net(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.flag, self.sizes, self.options = True, [1, 2], {"deep": {"rate": 2}}
        self.config = SimpleNamespace(heads=2)
        self.call = torch.relu


def stride(net: Any) -> None:
    net[0].stride = (2, 2)


def data(net: Any) -> None:
    net[0].weight.data = torch.zeros(4, 3, 5, 5)


def parameter(net: Any) -> None:
    net[0].weight = nn.Parameter(torch.zeros(5, 3, 3, 3))


def buffer(net: Any) -> None:
    net[1].running_mean = None


def table(net: Any) -> None:
    net[0]._parameters["bias"] = None


def item(net: Any) -> None:
    net.sizes[0] = 3


def entry(net: Any) -> None:
    net.options["deep"]["rate"] = 3


def attribute(net: Any) -> None:
    net.config.heads = 4


def function(net: Any) -> None:
    net.call = torch.tanh


def kind(net: Any) -> None:
    net[2].__class__ = nn.Sigmoid


def module(net: Any) -> None:
    net[2] = nn.Tanh()


def mode(net: Any) -> None:
    net.train()


CHANGES = (stride, data, parameter, buffer, table, item, entry, attribute, function, kind, module, mode)


@pytest.mark.parametrize("change", CHANGES, ids=lambda one: one.__name__)
def test_every_change_is_told(change: Callable[[Any], None]) -> None:
    net = Net().eval()
    before, again = (Structure(list(net.modules()), nn.Module) for _ in range(2))
    assert before.holds()
    assert before.fingerprint == again.fingerprint
    assert hash(before.fingerprint) == hash(again.fingerprint)
    change(net)
    after = Structure(list(net.modules()), nn.Module)
    assert not before.holds()
    assert after.fingerprint != before.fingerprint


def test_weights_are_no_structure() -> None:
    net = Net()
    before = Structure(list(net.modules()), nn.Module)
    with torch.no_grad():
        net[0].weight += 1
    assert before.holds()
    net[0].weight = nn.Parameter(torch.zeros(4, 3, 3, 3))
    assert Structure(list(net.modules()), nn.Module).fingerprint == before.fingerprint


def test_a_container_that_changes_while_it_is_read_does_not_hold() -> None:
    class Changing(list[int]):
        steady = True

        def __iter__(self) -> Iterator[int]:
            if not self.steady:
                raise RuntimeError("changed size during iteration")
            return super().__iter__()

    held = Changing([1, 2])
    snapshot = Snapshot([], [], [held])
    assert snapshot.holds()
    held.steady = False
    assert not snapshot.holds()
