"""A model may change between two calls of one method: what counts is what it is now."""

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import chronocam as cc
from chronocam.engines import engine_for
from chronocam.engines.torch.scope import walk
from chronocam.errors import LayerError


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)).eval()


X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def replace_the_layer(net: nn.Sequential) -> None:
    net[3] = nn.Conv2d(4, 5, 3)


def replace_the_head(net: nn.Sequential) -> None:
    net[7] = nn.Linear(5, 3)


def nest_the_stem(net: nn.Sequential) -> None:
    net[0] = nn.Sequential(net[0], nn.Identity())


def to_double(net: nn.Sequential) -> None:
    net.double()


def to_training(net: nn.Sequential) -> None:
    net.train()


def compiled(net: nn.Sequential) -> None:
    net[0].compile(backend="eager")


def new_weights(net: nn.Sequential) -> None:
    net.load_state_dict({name: p * 2 if p.is_floating_point() else p for name, p in net.state_dict().items()})


def wider_kernel(net: nn.Sequential) -> None:
    net[3].dilation, net[3].padding = (2, 2), (1, 1)


def another_norm(net: nn.Sequential) -> None:
    net[1].eps = 0.5


def a_hook(net: nn.Sequential) -> None:
    net[2].register_forward_hook(lambda module, args, output: output * output)


def another_class(net: nn.Sequential) -> None:
    nn.utils.parametrize.register_parametrization(net[0], "weight", nn.Tanh())


CHANGES = [
    wider_kernel,
    another_norm,
    a_hook,
    another_class,
    replace_the_layer,
    replace_the_head,
    nest_the_stem,
    to_double,
    to_training,
    compiled,
    new_weights,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("method", [cc.GradCAM, cc.GuidedBackprop])
def test_a_method_explains_the_model_as_it_is_now(
    method: type, change: Callable[[nn.Sequential], None]
) -> None:
    net = network()
    bound = method(net, "3") if method is cc.GradCAM else method(net)
    before = bound.explain(X, 1).maps
    torch.manual_seed(5)
    change(net)
    after = bound.explain(X, 1).maps
    fresh = method(net, "3") if method is cc.GradCAM else method(net)
    np.testing.assert_allclose(after, fresh.explain(X, 1).maps, rtol=1e-6, atol=1e-9)
    moved = bool(np.abs(after - before).max() > 1e-6)
    assert moved or change in (nest_the_stem, to_double, compiled)
    assert net.training == (change is to_training)


def test_a_layer_that_was_taken_out_is_unknown_now_and_one_that_was_put_in_is_known() -> None:
    net = network()
    engine = engine_for(net)
    net[2] = nn.Sequential(nn.ReLU(), nn.Identity())
    assert engine.resolve("2.1") == "2.1"
    assert "2.1" in [call.path for call in engine.trace(X)]
    del net[7]
    with pytest.raises(LayerError, match="no layer `7`"):
        engine.resolve("7")


def test_a_walk_meets_every_module_once() -> None:
    shared = nn.ReLU()
    net = nn.Sequential(
        shared, nn.Sequential(shared, nn.Linear(2, 2)), nn.ModuleList([nn.ModuleDict({"a": shared})])
    )
    net.register_module("none", None)
    assert set(walk(net)) == set(net.modules())
    assert len(walk(net)) == len(set(walk(net)))


def test_scores_and_the_rest_of_a_changed_model() -> None:
    net = network()
    engine = engine_for(net)
    engine.scores(X, lambda result: result.logits())
    replace_the_head(net)
    with torch.no_grad():
        expected: Tensor = net(X)
    torch.testing.assert_close(engine.scores(X, lambda result: result.logits()), expected)
    resumed = engine.resume(X, "3")
    torch.testing.assert_close(resumed(resumed.activations, lambda result: result.logits()), expected)


class Counting(nn.Module):
    """It does more at each call, and keeps what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.seen, self.scale = 0, None, nn.Identity()
        self.scale.by = 1.0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.scale.by, self.seen = self.scale.by + 1, x
        return x * self.calls * self.scale.by


def test_what_a_model_writes_into_itself_in_one_pass_is_not_there_in_the_next() -> None:
    net = network()
    net[2] = Counting()
    bound = cc.GradCAM(net, "3")
    first, again = (bound.explain(X, 1) for _ in range(2))
    np.testing.assert_array_equal(again.maps, first.maps)
    assert (net[2].calls, net[2].seen, net[2].scale.by) == (0, None, 1.0)
    net(X)
    assert not np.allclose(bound.explain(X, 1).maps, first.maps)


def test_what_a_pass_saw_is_not_kept_for_the_next() -> None:
    net = network()
    net[2] = Counting()
    seen: list[weakref.ref[Tensor]] = []
    net[3].register_forward_pre_hook(lambda module, args: seen.append(weakref.ref(args[0])))
    bound = cc.GradCAM(net, "3")
    for _ in range(2):
        bound.explain(X, 1)
    gc.collect()
    assert seen
    assert not any(one() is not None for one in seen)


def test_passes_of_an_unchanged_model_share_their_copies_one_after_the_other() -> None:
    layers = engine_for(network()).layers
    first, second = layers.replica(), layers.replica()
    assert first["3"] is not second["3"]
    copy = first["3"]
    first.close()
    assert layers.replica()["3"] is copy
