"""What was found out about a model is kept with it, until the model changes."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from explained import X, batches_seen, seeded
from torch import Tensor, nn

import chronocam as cc
from chronocam.joint.look import facts as facts_module
from chronocam.joint.look.facts import _OF_MODELS, Facts


class Stages(nn.Module):
    """Two stages; `deep` says whether the second one is run, and `turn` what the picture goes through."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.act, self.fc, self.deep = nn.ReLU(), nn.Linear(4, 5), True
        self.end = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.second(x).relu() if self.deep else x
        return self.end(self.fc(x.mean((2, 3))))


def test_whatever_explains_a_model_searches_for_its_layer_once() -> None:
    net = seeded(Stages)
    net.end = nn.Softmax(1)  # looked for once, too
    seen = batches_seen(net)
    first = cc.GradCAM(net).explain(X, 1)
    assert len(seen) > 1
    for again in (
        lambda: cc.GradCAM(net).explain(X, 1),
        lambda: cc.LayerCAM(net).explain(X, 1),
        lambda: cc.GradCAM(net).explain(X, 2),
        lambda: cc.GradCAM(net).explain(X),
        lambda: cc.GradCAM(net).explain(X, np.arange(7) % 5),
        lambda: cc.explain(net, X, 1, methods=["gradcam", "hirescam"]),
    ):
        seen.clear()
        again()
        assert seen == [7]
    np.testing.assert_array_equal(cc.GradCAM(net).explain(X, 1).maps, first.maps)


def test_frames_and_layers_that_are_named_are_looked_at_once() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cnn, self.rnn, self.fc = (
                nn.Conv2d(3, 4, 3, 2),
                nn.GRU(4, 4, batch_first=True),
                nn.Linear(4, 3),
            )

        def forward(self, x: Tensor) -> Tensor:
            rows = self.cnn(x.flatten(0, 1)).relu().mean((2, 3))
            return self.fc(self.rnn(rows.view(*x.shape[:2], 4))[0][:, -1])

    net, clips = seeded(Steps), torch.rand(2, 4, 3, 8, 8)
    seen = batches_seen(net)
    for layer in ("cnn", None):
        cc.GradCAM(net, layer).explain(clips, 1)
        assert len(seen) > 1
        seen.clear()
        cc.GradCAM(net, layer).explain(clips, 2)
        assert seen == [2]


def swap(net: Any) -> None:
    net.second = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1), nn.MaxPool2d(2))


def stop(net: Any) -> None:
    net.deep = False


def stride(net: Any) -> None:
    net.second.stride = (2, 2)


@pytest.mark.parametrize(
    ("change", "layer", "grid"),
    [(swap, "second", (4, 4)), (stop, "first", (8, 8)), (stride, "second", (4, 4))],
)
def test_a_model_that_changed_is_looked_at_anew(
    change: Callable[[Any], None], layer: str, grid: tuple[int, int]
) -> None:
    net = seeded(Stages)
    method = cc.GradCAM(net)
    assert (method.explain(X, 1).layer, method.explain(X, 1).maps.shape[2:]) == ("second", (8, 8))
    change(net)
    found = method.explain(X, 1)
    assert (found.layer, found.maps.shape[2:]) == (layer, grid)
    assert cc.GradCAM(net).explain(X, 1).layer == layer


def test_a_hook_that_changes_what_it_sees_makes_another_model() -> None:
    net = seeded(Stages)
    method = cc.GradCAM(net)
    method.explain(X, 1)
    hook = net.second.register_forward_hook(lambda module, given, output: nn.functional.max_pool2d(output, 2))
    assert method.explain(X, 1).maps.shape == (7, 1, 4, 4)
    hook.remove()
    assert method.explain(X, 1).maps.shape == (7, 1, 8, 8)


def test_a_hook_that_turns_the_picture_is_met_behind_facts_of_the_model_without() -> None:
    net = seeded(Stages)
    method = cc.GradCAM(net)
    method.explain(X, 1)
    hook = net.register_forward_pre_hook(lambda module, given: (given[0].flip(3),))
    with pytest.raises(cc.errors.LayerError, match="follows the input"):
        method.explain(X, 1)
    hook.remove()
    seen = batches_seen(net)  # by a hook that only looks
    method.explain(X, 1)
    assert seen[-1] == 7
    seen.clear()
    cc.GradCAM(net).explain(X, 1)
    assert seen == [7]


def test_other_modes_and_sizes_are_looked_at_by_themselves() -> None:
    net = seeded(Stages)
    seen = batches_seen(net)
    for change in (lambda: X, lambda: torch.rand(7, 3, 24, 16), lambda: net.train() and X):
        x = change()
        cc.GradCAM(net).explain(x, 1)
        assert len(seen) > 1
        seen.clear()
        cc.GradCAM(net).explain(x, 1)
        assert seen == [7]
        seen.clear()
    net.eval()
    cc.GradCAM(net).explain(X, 1)
    assert seen == [7]


class Heads(nn.Module):
    """Classes 0 and 1 are told from the first stage, 2 and 3 from the second."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.low, self.high = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x).relu()
        return torch.cat([self.low(a.mean((2, 3))), self.high(self.b(a).relu().mean((2, 3)))], 1)


@pytest.mark.parametrize("order", [(0, 2), (2, 0)])
def test_the_layer_of_a_class_does_not_hang_on_what_was_explained_before(order: tuple[int, int]) -> None:
    net = seeded(Heads)
    layers = {which: cc.GradCAM(net).explain(X, which).layer for which in (*order, *order)}
    assert layers == {0: "a", 2: "b"}
    seen = batches_seen(net)
    for which in order:
        cc.GradCAM(net).explain(X, which)
    assert seen == [7, 7]


def test_functions_that_read_other_outputs_have_layers_of_their_own() -> None:
    net = seeded(Heads)

    def of(column: int) -> Callable[[Tensor], Tensor]:
        return lambda outputs: outputs[:, column]

    assert [cc.GradCAM(net).explain(X, of(k)).layer for k in (0, 3, 0, 2)] == ["a", "b", "a", "b"]
    seen = batches_seen(net)
    cc.GradCAM(net).explain(X, of(3))
    assert seen == [7]


def test_an_operator_has_layers_of_its_own() -> None:
    net = seeded(Heads)
    low = cc.GradCAM(net, operator=lambda model, x, targets: model(x)[:, 0])
    high = cc.GradCAM(net, operator=lambda model, x, targets: model(x)[:, 3])
    assert [one.explain(X, 1).layer for one in (low, high, low)] == ["a", "b", "a"]


def test_a_head_that_was_zero_may_be_trained() -> None:
    net = seeded(Heads)
    for part in (net.low, net.high):
        nn.init.zeros_(part.weight)
    assert cc.GradCAM(net).explain(X, 0).layer == "b"  # the last of all that nothing depends on
    nn.init.normal_(net.low.weight)
    assert cc.GradCAM(net).explain(X, 0).layer == "a"


def test_a_model_of_which_something_is_known_can_be_deleted() -> None:
    net = seeded(Stages)
    cc.GradCAM(net).explain(X, lambda outputs: outputs[:, 1])
    cc.GradCAM(net, operator=lambda model, x, targets: model(x)[:, net.fc.out_features - 1]).explain(X)
    kept, held = _OF_MODELS[net], [_OF_MODELS[net]]
    for one in held:  # grows
        held += [
            x for x in gc.get_referents(one) if isinstance(x, (dict, tuple, list, Facts, set, frozenset))
        ]
        assert len(held) < 10_000
    assert not any(isinstance(x, (Tensor, nn.Module)) for one in held for x in gc.get_referents(one))
    gone = weakref.ref(net)
    del net, held, kept
    gc.collect()
    assert gone() is None


def test_facts_of_many_sizes_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_module, "_FACTS", 12)
    net = seeded(Stages)
    for size in range(16, 32, 2):
        assert cc.GradCAM(net).explain(torch.rand(1, 3, size, size), 1).maps.shape[2:] == (size // 2,) * 2
    (facts,) = _OF_MODELS[net].values()
    assert len(facts._facts) <= 12
