"""Which layer: paths, calls, wrappers, compiled models."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from helpers import one_line, seeded
from nets import Net
from plain_hooks import COLUMN, X, bold, cam, cam_by_hand, close, with_weights_of
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import LayerError, ModelError

# Wrappers and compilation


def test_data_parallel_is_looked_through() -> None:
    net = seeded(Net)
    wrapped = nn.DataParallel(net)
    hand = cam_by_hand(net, "conv2")
    for layer in (None, "conv2", wrapped.module.conv2, 1):
        close(cam(wrapped, layer), hand)


def counting_backend(calls: list[int]) -> Callable[..., Any]:
    def backend(graph: Any, example_inputs: Any) -> Any:
        def run(*args: Any) -> Any:
            calls.append(1)
            return graph.forward(*args)

        return run

    return backend


@pytest.mark.parametrize("how", ["torch.compile", "module.compile", "forward", "inner module.compile"])
def test_compiled_models_run_eagerly_while_explained_and_compiled_again_afterwards(how: str) -> None:
    torch.compiler.reset()
    calls: list[int] = []
    net = seeded(Net)
    hand, backend = cam_by_hand(net, "conv2"), counting_backend(calls)
    model = net
    if how == "torch.compile":
        model = torch.compile(net, backend=backend)
    elif how == "module.compile":
        net.compile(backend=backend)
    elif how == "forward":
        net.forward = torch.compile(net.forward, backend=backend)
    else:
        net.conv2.compile(backend=backend)
    expected = model(X).detach()
    ran = len(calls)
    assert ran > 0
    close(cam(model), hand)
    close(cam(model, None), cam_by_hand(with_weights_of(net, Net()), "conv2"))
    assert len(calls) == ran
    close(model(X).detach(), expected)
    assert len(calls) > ran


def test_a_compiled_submodule_keeps_its_paths() -> None:
    torch.compiler.reset()
    body = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(inplace=True), nn.Conv2d(6, 8, 3, stride=2))
    net = seeded(lambda: nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)))
    hand = {path: cam_by_hand(net, path) for path in ("0", "0.2")}
    net[0] = torch.compile(net[0], backend="eager")
    net(X)
    for layer, path in (
        ("0", "0"),
        (0, "0"),
        (net[0], "0"),
        ("0.2", "0.2"),
        ("0._orig_mod.2", "0.2"),
        (body[2], "0.2"),
    ):
        found = cc.GradCAM(net, layer, signed=True).explain(X, COLUMN)
        close(found.maps[:, 0], hand[path])
        assert found.layer == path


# Which layer


def forwards(net: nn.Module) -> Any:
    """Count how often the network is called."""
    count: list[int] = []
    net.register_forward_pre_hook(lambda module, args: count.append(len(args[0])))
    return count


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Tanh()) for _ in range(2))
        self.relu, self.fc, self.unused = nn.ReLU(), nn.Linear(4, 5), nn.Conv2d(3, 3, 1)
        self.aside = nn.Conv2d(3, 4, 3)
        self.again = self.stem

    def forward(self, x: Tensor) -> Tensor:
        self.last_aside = self.aside(x).mean()
        x = self.relu(self.stem(x))
        for block in self.blocks:
            x = self.relu(block(x))
        return self.fc(x.mean((2, 3)))


def test_several_layers_in_one_pass() -> None:
    net = seeded(Blocks)
    layers = ["blocks.1", "stem", "blocks.0.0", "blocks.1.1", "blocks.0"]
    expected = {layer: cam_by_hand(net, layer) for layer in layers}
    methods = [partial(bold, layout="channels_first")]
    count = forwards(net)
    found = cc.explain(net, X, COLUMN, layers=layers, methods=methods)
    assert count == [3]
    assert list(found) == [f"gradcam@{layer}" for layer in layers]
    for layer in layers:
        close(found[f"gradcam@{layer}"].maps[:, 0], expected[layer])


def test_a_layer_that_is_called_several_times() -> None:
    net = seeded(Blocks)
    maps = {layer: cam(net, layer) for layer in ("relu", "relu#0", "relu#1", "relu#2")}
    for call in range(3):
        close(maps[f"relu#{call}"], cam_by_hand(net, "relu", call=call))
    close(maps["relu"], maps["relu#2"])
    note = "layer `relu` is called 3 times; its last call is explained (`relu#0` is the first)"
    assert cc.GradCAM(net, "relu", signed=True).explain(X, 1).diagnostics == (note,)
    assert cc.GradCAM(net, "relu#1").explain(X, 1).layer == "relu#1"
    together = cc.explain(net, X, COLUMN, layers=["relu#2", "relu", "relu#0"], methods=[bold])
    for layer in ("relu#0", "relu#2", "relu"):
        close(together[f"gradcam@{layer}"].maps[:, 0], maps[layer])
    with pytest.raises(LayerError) as error:
        cam(net, "relu#3")
    one_line(error, "`relu#3`", "3 times")


@pytest.mark.parametrize(
    ("layer", "path"),
    [
        ("blocks.1.0", "blocks.1.0"),
        (lambda net: net.blocks[1][0], "blocks.1.0"),
        (lambda net: net.blocks[0], "blocks.0"),
        (0, "stem"),
        (-6, "stem"),
        (np.int64(0), "stem"),
        ("again", "stem"),
        ("again#0", "stem#0"),
    ],
)
def test_layers_by_path_object_and_index(layer: Any, path: str) -> None:
    net = seeded(Blocks)
    found = cc.GradCAM(net, layer(net) if callable(layer) else layer, signed=True).explain(X, COLUMN)
    assert found.layer == path
    close(found.maps[:, 0], cam_by_hand(net, path.split("#")[0]))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("blocks.1.9", ["no layer `blocks.1.9`", "did you mean", "`blocks.1.1`"]),
        ("stm", ["no layer `stm`", "did you mean `stem`"]),
        ("zzz", ["no layer `zzz`", "chronocam layers SPEC"]),
        ("", ["no layer ``"]),
        (7, ["no layer 7", "6 top-level layers"]),
        (-8, ["no layer -8"]),
        (1.5, ["no layer `1.5`"]),
        (nn.Conv2d(1, 1, 1), ["Conv2d is not a layer of this Blocks"]),
        (lambda net: net, ["Blocks is not a layer of this Blocks"]),
        ([], ["empty"]),
        (["stem", "nope"], ["no layer `nope`"]),
    ],
)
def test_unknown_layers_are_refused_at_construction(layer: Any, words: list[str]) -> None:
    net = seeded(Blocks)
    with pytest.raises(LayerError) as error:
        cc.GradCAM(net, layer(net) if callable(layer) and not isinstance(layer, nn.Module) else layer)
    one_line(error, *words)


def test_a_layer_that_is_not_called() -> None:
    for method in (cc.GradCAM, cc.EigenCAM):
        with pytest.raises(LayerError) as error:
            method(seeded(Blocks), "unused").explain(X, 1)
        one_line(error, "`unused`", "called 0 times", "choose a layer")


def test_a_layer_off_the_path_to_the_score() -> None:
    net = seeded(Blocks)
    for layers in ("aside", ["stem", "aside"]):
        with pytest.raises(LayerError) as error:
            cam(net, layers)
        one_line(error, "does not depend on layer `aside`", "choose one on the path")
    assert cc.EigenCAM(net, "aside").explain(X).maps.any()  # needs no gradient


def test_a_layer_after_which_nothing_is_differentiable() -> None:
    class Steps(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc((self.features(x).mean((2, 3)) > 0.1).float())

    with pytest.raises(LayerError, match="does not depend on layer `conv2`"):
        cam(seeded(Steps))


@pytest.mark.parametrize("trainable", [True, False])
def test_a_layer_that_returns_a_parameter_leaves_it_as_it_is(trainable: bool) -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.values = nn.Parameter(torch.ones(3, 2, 4, 4), requires_grad=trainable)

        def forward(self, x: Tensor) -> Tensor:
            return self.values

    class Looks(Net):
        def __init__(self) -> None:
            super().__init__()
            self.table = Table()

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.table(x).square().mean((1, 2, 3))[:, None]

    net = seeded(Looks)
    assert cc.GradCAM(net, "table", layout="channels_first", signed=True).explain(X, COLUMN).maps.any()
    assert net.table.values.requires_grad == trainable
    assert net.table.values.grad_fn is None


def test_a_layer_without_a_floating_point_output() -> None:
    class Indices(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.argmax(1)

    class Quantised(Net):
        def __init__(self) -> None:
            super().__init__()
            self.indices = Indices()

        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            return y + self.indices(y)[:, None]

    with pytest.raises(LayerError) as error:
        cam(seeded(Quantised), "indices")
    one_line(error, "Indices", "choose another layer")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_torchscript_is_refused_as_a_model_and_as_a_layer() -> None:
    for script in (torch.jit.script, lambda module: torch.jit.trace(module, X)):
        with pytest.raises(ModelError) as error:
            cc.GradCAM(script(seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()))))
        one_line(error, "TorchScript", "Python module")

    class Part(Net):
        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.jit.script(nn.Conv2d(3, 3, 1))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(self.stem(x))

    net = seeded(Part)
    close(cam(net), cam_by_hand(net, "conv2"))
    assert cc.GradCAM(net).explain(X).layer == "conv2"
    with pytest.raises(LayerError) as error:
        cc.GradCAM(net, "stem")
    one_line(error, "`stem` is TorchScript")


@pytest.mark.parametrize("model", [None, 3, np.zeros(3)])
def test_what_is_not_a_model_is_refused(model: Any) -> None:
    with pytest.raises(ModelError) as error:
        cc.GradCAM(model)
    one_line(error, "cannot explain", "torch.nn.Module")


def test_an_unknown_layer_far_from_any_is_answered_with_the_last_outermost_ones() -> None:
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 2, 1)), nn.ReLU(), nn.Flatten(), nn.ReLU(), nn.Linear(2, 2)
    )
    with pytest.raises(LayerError, match="no layer `blocks`; the last ones are `1`, `2`, `3`, `4`; "):
        cc.GradCAM(net, "blocks")
