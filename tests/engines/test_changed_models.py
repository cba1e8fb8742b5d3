"""A model may change between two calls of one method: what counts is what it is now."""

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


CHANGES = [
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
