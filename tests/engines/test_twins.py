"""Layers that a model reaches through other objects, or by hooks of its own, are explained as any others."""

import functools
import weakref
from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from helpers import seeded
from torch import Tensor, nn

import chronocam as cc
from chronocam.engines.twins import Twins

X = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A convolution that `forward` reaches only through what `reach` returned for the network."""

    def __init__(self, reach: Callable[[nn.Module], Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(4, 3)
        self.reached = reach(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.reached(x).relu().mean((2, 3)))


class Plain:
    """Refuses to be written to from outside, as frozen objects do."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)

    def __call__(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Owned(Plain):
    def __call__(self, x: Tensor) -> Tensor:
        return self.owner.conv(x)


class Slotted:
    __slots__ = ("__conv", "empty")

    def __init__(self, conv: nn.Module) -> None:
        self.__conv = conv

    def __call__(self, x: Tensor) -> Tensor:
        return self.__conv(x)


@dataclass(frozen=True)
class Step:
    conv: nn.Module

    def __call__(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Steps(list[Any]):
    def __call__(self, x: Tensor) -> Tensor:
        for step in self:
            x = step(x)
        return x


Named = namedtuple("Named", "conv name")


def circle(net: nn.Module) -> Plain:
    """Two objects that lead to each other, and one of them to the convolution."""
    first, second = Plain(), Owned()
    vars(first).update(conv=second)
    vars(second).update(owner=Plain(conv=net.conv, back=first))
    return first


def several(net: nn.Module) -> Callable[[Tensor], Tensor]:
    held = [OrderedDict(a=net.conv), defaultdict(list, a=net.conv), Named(net.conv, "a"), {net.conv}]
    queue = deque(held, 4)

    def reached(x: Tensor) -> Tensor:
        ordered, default, named, members = queue
        ordered.move_to_end("a")
        assert default["b"] == []
        assert queue.maxlen == 4
        (member,) = members
        assert ordered["a"] is default["a"] is named.conv is member
        return member(x)

    return reached


REACHES: dict[str, Callable[[nn.Module], Callable[[Tensor], Tensor]]] = {
    "an object": lambda net: Plain(conv=net.conv),
    "an object of the network": lambda net: Owned(owner=net),
    "its method": lambda net: Plain(conv=net.conv).__call__,
    "slots": lambda net: Slotted(net.conv),
    "a frozen dataclass": lambda net: Step(net.conv),
    "a list of its own class": lambda net: Steps([net.conv]),
    "objects in a circle": circle,
    "containers": several,
    "a default": lambda net: lambda x, conv=net.conv: conv(x),
    "a named default": lambda net: lambda x, *, conv=net.conv: conv(x),
    "a partial function": lambda net: functools.partial(Step.__call__, Step(net.conv)),
    "a weak reference": lambda net: (lambda owner: lambda x: owner().conv(x))(weakref.ref(net)),
    "a proxy": lambda net: Owned(owner=weakref.proxy(net)),
}


@pytest.mark.parametrize("way", list(REACHES))
def test_layers_are_reached_through_other_objects(way: str) -> None:
    net = seeded(lambda: Net(REACHES[way]))
    held = net.reached
    plain = nn.Sequential(net.conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), net.fc).eval()
    found = cc.GradCAM(net, "conv").explain(X, 1)
    np.testing.assert_allclose(found.maps, cc.GradCAM(plain, "0").explain(X, 1).maps, rtol=1e-5, atol=1e-8)
    assert cc.GradCAM(net).explain(X, 1).layer == "conv"
    assert net.reached is held
    torch.testing.assert_close(net(X), plain(X))  # what it holds still leads to its own layers


def test_what_leads_to_no_part_is_shared() -> None:
    parts = {"a": "copy of a"}
    twins = Twins(str, lambda part: parts.get(part, part))
    dull, gone, many = Plain(x=[1, {"b": ["c"]}]), weakref.proxy(Plain()), [*map(str, range(300)), "a"]
    held = [dull, "a"]
    for x in (dull, gone, Step, print, many):
        assert twins.of(x) is x
    twin = twins.of(held)
    assert twin == [dull, "copy of a"]
    assert twin[0] is dull


class Hooked(nn.Module):
    """Reads features that a hook of its own kept, as decoders and depth networks do."""

    def __init__(self, change: Callable[[Tensor], Tensor | None], direct: bool) -> None:
        super().__init__()
        self.conv, self.fc, self.direct = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(4, 3), direct
        self.change, self.kept = change, {}
        self.conv.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, args: object, output: Tensor) -> Tensor | None:
        self.kept["conv"] = output
        return self.change(output)

    def forward(self, x: Tensor) -> Tensor:
        returned = self.conv(x).relu()
        return self.fc((self.kept["conv"].tanh() + self.direct * returned).mean((2, 3)))


CHANGES = {"nothing": lambda y: None, "copied": Tensor.clone, "changed": lambda y: (3 * y).relu()}


@pytest.mark.parametrize("layer", [None, "conv"])
@pytest.mark.parametrize(("change", "direct"), [("nothing", False), *((one, True) for one in CHANGES)])
def test_features_that_a_hook_of_the_model_keeps_are_explained(
    layer: str | None, change: str, direct: bool
) -> None:
    net = seeded(lambda: Hooked(CHANGES[change], direct)).eval()
    with torch.no_grad():
        raw = net.conv.forward(X)
        changed = CHANGES[change](raw)
    # What the layer returns is what its hooks made of it; the kept features are the same where they made
    # nothing of it, and lie before it otherwise.
    a = (raw if changed is None else changed).requires_grad_()
    kept = a if changed is None else raw
    score = net.fc((kept.tanh() + direct * a.relu()).mean((2, 3)))[:, 1].sum()
    (g,) = torch.autograd.grad(score, a)
    right = (g.mean((2, 3), keepdim=True) * a).sum(1).relu().detach()
    found = cc.GradCAM(net, layer).explain(X, 1)
    assert found.layer == "conv"
    np.testing.assert_allclose(found.maps[:, 0], right, rtol=1e-4, atol=1e-7)
