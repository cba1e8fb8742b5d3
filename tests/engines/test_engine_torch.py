"""The torch engine on awkward models: the right map, one forward pass, and the model left as found."""

import copy
import gc
import resource
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import chronocam as cc
from chronocam.engines import Request, engine_for
from chronocam.engines.torch import tensors
from chronocam.errors import ChronocamError, LayerError, ModelError, TargetError

COLUMN = 1
X = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(7))


class Net(nn.Module):
    """Two convolutions and a linear head, with what follows the convolutions and the head left open."""

    def __init__(
        self, act: Callable[[Tensor], Tensor] = F.relu, end: Callable[[Tensor], Any] | None = None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8, 5)
        self.act, self.end = act, end or nn.Identity()

    def features(self, x: Tensor) -> Tensor:
        return self.act(self.conv2(self.act(self.conv1(x))))

    def forward(self, x: Tensor) -> Any:
        return self.end(self.fc(self.features(x).mean((2, 3))))


class Normed(Net):
    """The same with BatchNorm behind the second convolution, so that samples couple in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bn(self.conv2(F.relu(self.conv1(x)))).relu().mean((2, 3)))


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return make().eval()


def with_weights_of(net: nn.Module, other: nn.Module) -> Any:
    other.load_state_dict(net.state_dict())
    return other.train(net.training)


def by_hand(
    net: nn.Module, layer: str, x: Tensor = X, column: int = COLUMN, call: int = -1
) -> tuple[Tensor, Tensor]:
    """A and ∂y_c/∂A of each sample, with a plain hook on a copy of the network."""
    net, kept = copy.deepcopy(net), []
    net.get_submodule(layer).register_forward_hook(lambda module, args, output: kept.append(output))
    with torch.enable_grad():
        y = net(x)
        own = [torch.autograd.grad(y[i, column], kept[call], retain_graph=True)[0][i] for i in range(len(x))]
    return kept[call].detach(), torch.stack(own)


def cam_by_hand(net: nn.Module, layer: str, *args: Any, **options: Any) -> np.ndarray:
    """Grad-CAM without its ReLU, `(batch, height, width)`."""
    a, g = by_hand(net, layer, *args, **options)
    return torch.einsum("bk,bkhw->bhw", g.mean((2, 3)), a).numpy()


def cam(model: Any, layer: Any = "conv2", x: Any = X, targets: Any = COLUMN, **options: Any) -> np.ndarray:
    maps = cc.GradCAM(model, layer, signed=True, **options).explain(x, targets).maps
    assert maps.shape[1] == 1
    return maps[:, 0]


def bold(model: Any, layer: Any = None, **options: Any) -> cc.methods.Method:
    """Grad-CAM that keeps its signs, for `cc.explain`."""
    return cc.GradCAM(model, layer, signed=True, **options)


def close(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def one_line(error: pytest.ExceptionInfo[ChronocamError], *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


# In-place operations


IN_PLACE = {
    "module": nn.ReLU(inplace=True),
    "functional": lambda x: F.relu(x, inplace=True),
    "relu_": torch.relu_,
    "clamp_": lambda x: x.clamp_(min=0),
    "mul_": lambda x: x.mul_(x > 0),
    "indexed": lambda x: x.index_put_((x < 0,), torch.zeros(())),
}


@pytest.mark.parametrize("layer", ["conv1", "conv2"])
@pytest.mark.parametrize("act", IN_PLACE.values(), ids=IN_PLACE)
def test_in_place_operations_after_the_layer_do_not_reach_its_activations(act: Any, layer: str) -> None:
    net = seeded(lambda: Net(act))
    plain = with_weights_of(net, Net())
    close(cam(net, layer), cam_by_hand(plain, layer))
    recorded = engine_for(net).record(
        X, lambda result: result.logits()[:, [COLUMN]], Request([layer], gradients=[layer])
    )
    activations, gradients = by_hand(plain, layer)
    assert activations.min() < 0  # before the ReLU
    close(recorded.activations[layer][0], activations)
    close(recorded.gradients[layer][0][0], gradients)


def test_in_place_operations_after_the_layer_without_gradients() -> None:
    net = seeded(lambda: Net(nn.ReLU(inplace=True)))
    recorded = engine_for(net).record(X, lambda result: result.logits()[:, [0]], Request(["conv2"]))
    assert recorded.activations["conv2"][0].min() < 0
    assert recorded.gradients == {}
    close(
        cc.EigenCAM(net, "conv2").explain(X).maps,
        cc.EigenCAM(with_weights_of(net, Net()), "conv2").explain(X).maps,
    )


@pytest.mark.parametrize("method", [cc.GradCAM, cc.Saliency, cc.EigenCAM])
@pytest.mark.parametrize("give", [Tensor.clone, lambda x: x.numpy().copy()], ids=["tensor", "numpy"])
def test_a_model_that_writes_into_its_input_gets_its_own_copy_in_every_pass(method: Any, give: Any) -> None:
    class Writes(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.sub_(1))

    net = seeded(lambda: Writes(end=nn.Softmax(dim=1)))
    x = give(X)
    found = method(net).explain(x, COLUMN)
    assert (np.asarray(x) == X.numpy()).all()
    clean = method(with_weights_of(net, Net(end=nn.Softmax(dim=1)))).explain(X - 1, COLUMN)
    close(found.maps, clean.maps)
    close(found.scores, clean.scores)


# The caller's modes


def test_frozen_parameters() -> None:
    net = seeded(Net).requires_grad_(False)
    for layer in ("conv1", "conv2"):
        close(cam(net, layer), cam_by_hand(copy.deepcopy(net).requires_grad_(), layer))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("inside", [True, False], ids=["called inside", "inputs made inside"])
def test_callers_grad_mode(mode: Any, inside: bool) -> None:
    net = seeded(Net)
    with mode():
        x = X + 0
        if inside:
            before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
            maps, saliency = cam(net, "conv1", x), cc.Saliency(net).explain(x, COLUMN).maps
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
    if not inside:
        maps, saliency = cam(net, "conv1", x), cc.Saliency(net).explain(x, COLUMN).maps
    close(maps, cam_by_hand(net, "conv1"))
    close(saliency, cc.Saliency(net).explain(X, COLUMN).maps)


def test_inputs_with_a_graph_of_their_own_get_no_gradient() -> None:
    net, leaf = seeded(Net), X.clone().requires_grad_()
    x = leaf * 2
    close(cc.Saliency(net).explain(x, COLUMN).maps, cc.Saliency(net).explain(X * 2, COLUMN).maps)
    assert leaf.grad is None
    x.sum().backward()
    assert leaf.grad is not None


def trains(net: nn.Module) -> bool:
    """Whether one training step gives every parameter a gradient."""
    net.zero_grad()
    net(X).square().sum().backward()
    return all(p.grad is not None and bool(p.grad.any()) for p in net.parameters())


def test_training_goes_on_under_autocast() -> None:
    net = seeded(Net)
    engine = engine_for(net)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for layer in ("conv1", "conv2"):
            engine.record(X, lambda result: result.logits()[:, [COLUMN]], Request([layer], gradients=[layer]))
            assert trains(net)  # weights cast without a graph must not be served from autocast's cache
            engine.trace(X)
            assert trains(net)
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_autocast_cache_enabled()
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16


def test_maps_under_autocast() -> None:
    net = seeded(Net)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first = cam(net)
        assert trains(net)
        second = cam(net)
        exact = cc.GradCAM(net, "conv2").explain(X).scores
        assert net(X).dtype == torch.bfloat16
    np.testing.assert_array_equal(first, second)
    close(first, cam_by_hand(net, "conv2"), 0.03)
    assert np.abs(first - cam_by_hand(net, "conv2")).max() > 0  # it did run in half precision
    close(exact[:, 0], net(X).max(1).values.detach(), 0.03)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_another_precision(dtype: torch.dtype) -> None:
    net = seeded(Net)
    other = copy.deepcopy(net).to(dtype)
    tolerance = 1e-5 if dtype == torch.float64 else 0.03
    for targets in (
        COLUMN,
        [cc.targets.Class(COLUMN)],
        lambda y: y[:, COLUMN],
        np.full(3, COLUMN),
        np.eye(5)[[1] * 3],
    ):
        close(cam(other, targets=targets), cam_by_hand(net, "conv2"), tolerance)
    predicted = cc.GradCAM(other, "conv2").explain(X)
    assert predicted.maps.dtype == np.float32
    assert [row[0].index for row in predicted.targets] == net(X).argmax(1).tolist()
    close(
        cc.FinerCAM(other, signed=True).explain(X, 1).maps,
        cc.FinerCAM(net, signed=True).explain(X, 1).maps,
        0.06,
    )


def test_scores_of_half_precision_outputs_are_summed_in_single_precision() -> None:
    net = seeded(lambda: Net(end=lambda y: y * 500))
    half = copy.deepcopy(net).half()
    assert (half(X.half()).square().sum(1)).isinf().any()
    found, expected = (cc.GradCAM(model, "conv2").explain(X, cc.targets.Norm()) for model in (half, net))
    close(found.scores, expected.scores, 0.03)
    close(found.maps, expected.maps, 0.03)


# What models return and take


Pair = namedtuple("Pair", "scores extra")


class Bag:
    """An output of no known kind."""

    def __init__(self, **members: Any) -> None:
        self.__dict__.update(members)


def model_output(y: Tensor) -> Any:
    outputs = pytest.importorskip("transformers.modeling_outputs")
    return outputs.ImageClassifierOutput(loss=y.sum(), logits=y, hidden_states=(y * 3,))


RETURNS: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda y: (y, y * 3),
    "list": lambda y: [y],
    "tuple with none": lambda y: (None, y, y * 3),
    "namedtuple": lambda y: Pair(y, y * 3),
    "dict with logits": lambda y: {"features": y * 3, "logits": y},
    "dict with one tensor": lambda y: {"anything": y, "steps": 3},
    "nested": lambda y: {"out": {"scores": y}},
    "model output": model_output,
    "attribute": lambda y: Bag(logits=y, other=y * 3),
}


@pytest.mark.parametrize("end", RETURNS.values(), ids=RETURNS)
def test_outputs_of_many_kinds(end: Callable[[Tensor], Any]) -> None:
    net = seeded(lambda: Net(end=end))
    plain = with_weights_of(net, Net())
    close(cam(net, None), cam_by_hand(plain, "conv2"))
    close(cc.GradCAM(net).explain(X).scores[:, 0], plain(X).max(1).values.detach())


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda y: Bag(scores=y), ["a Bag"]),
        (lambda y: {"boxes": y, "scores": y}, ["boxes", "scores"]),
        (lambda y: "cat", ["a str"]),
    ],
    ids=["custom", "dict", "text"],
)
def test_outputs_without_scores_are_refused(end: Callable[[Tensor], Any], words: list[str]) -> None:
    net = seeded(lambda: Net(end=end))
    with pytest.raises(ModelError) as error:
        cam(net)
    one_line(error, *words, "output_layer=", "callable")
    close(cam(net, output_layer="fc"), cam_by_hand(with_weights_of(net, Net()), "conv2"))


def test_a_callable_target_reads_what_the_model_returned() -> None:
    net = seeded(lambda: Net(end=lambda y: Bag(scores=y)))
    close(
        cam(net, targets=lambda out: out.scores[:, COLUMN]), cam_by_hand(with_weights_of(net, Net()), "conv2")
    )


class TwoInputs(Net):
    def forward(self, image: Tensor, weight: Tensor, index: Tensor | None = None) -> Tensor:
        y = self.fc(self.features(image).mean((2, 3)) * weight)
        return y if index is None else y * (1 + index[:, None])


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("named", [False, True], ids=["tuple", "dict"])
def test_several_inputs(named: bool, batch_size: int | None) -> None:
    net = seeded(TwoInputs)
    weight, index = torch.linspace(0.5, 2, 24).reshape(3, 8), torch.tensor([0, 1, 2])
    given = {"image": X, "index": index, "weight": weight} if named else (X, weight, index)
    found = cc.GradCAM(net, signed=True, batch_size=batch_size).explain(given, COLUMN)
    activations = net.conv2(F.relu(net.conv1(X))).detach().requires_grad_()
    y = net.fc(F.relu(activations).mean((2, 3)) * weight) * (1 + index[:, None])
    (g,) = torch.autograd.grad(y[:, COLUMN].sum(), activations)
    close(found.maps[:, 0], torch.einsum("bk,bkhw->bhw", g.mean((2, 3)), activations).detach())
    close(found.scores[:, 0], y[:, COLUMN].detach())
    assert found.input_size == (16, 16)


def test_outputs_of_one_score_per_sample() -> None:
    net = seeded(lambda: Net(end=lambda y: y[:, COLUMN]))
    hand = cam_by_hand(with_weights_of(net, Net()), "conv2")
    for targets in (None, 0, [0, 0, 0], cc.targets.Regression(), cc.targets.Norm(), lambda y: y):
        found = cc.GradCAM(net, signed=True).explain(X, targets)
        sign = np.sign(net(X).detach().numpy()) if isinstance(targets, cc.targets.Norm) else np.ones(3)
        close(found.maps[:, 0], hand * sign[:, None, None])
        close(found.scores[:, 0], net(X).detach().numpy() * sign)


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


# Training mode


def test_batch_norm_in_training_mode() -> None:
    net = seeded(Normed).train()
    before = copy.deepcopy(net.state_dict())
    for layer in ("conv1", "conv2", "bn"):
        close(cam(net, layer), cam_by_hand(net, layer))
    assert net.bn.num_batches_tracked == 0
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(module.training for module in net.modules())
    assert np.abs(cam(net) - cam(copy.deepcopy(net).eval())).max() > 1e-4  # the batch's statistics were used


def test_each_samples_gradient_in_training_mode_for_several_targets() -> None:
    net = seeded(Normed).train()
    found = cc.GradCAM(net, "conv2", signed=True).explain(X, [cc.targets.Class(k) for k in range(5)] * 2)
    assert tensors.TARGETS_PER_PASS < 3 * 10
    for k in range(10):
        close(found.maps[:, k], cam_by_hand(net, "conv2", column=k % 5))
    pixels = cc.Saliency(net, reduce="sum").explain(X, COLUMN).maps[:, 0]
    x = X.clone().requires_grad_()
    y = copy.deepcopy(net)(x)[:, COLUMN]
    own = [torch.autograd.grad(y[i], x, retain_graph=True)[0][i] for i in range(3)]
    close(pixels, torch.stack(own).sum(1))


def test_batch_norm_without_running_statistics_couples_in_eval_mode_too() -> None:
    net = seeded(Normed)
    net.bn = nn.BatchNorm2d(8, track_running_stats=False).eval()
    close(cam(net), cam_by_hand(net, "conv2"))


def test_coupled_samples_behind_a_layer_without_batch_axis_are_refused() -> None:
    class TokensFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch, self.mix = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 8)
            self.bn, self.fc = nn.BatchNorm1d(8), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.bn(self.mix(self.patch(x).flatten(2).permute(2, 0, 1)).mean(0)))

    net = seeded(TokensFirst)
    assert np.abs(cam(net, "mix")).max() > 0
    with pytest.raises(ModelError) as error:
        cam(net.train(), "mix")
    one_line(error, "(16, 3, 8)", "model.eval()")


def test_dropout_in_training_mode_stays_on() -> None:
    class Drops(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc(F.dropout(self.features(x).mean((2, 3)), 0.5, self.training))

    net = seeded(Drops)
    still = cam(net)
    net.train()
    torch.manual_seed(3)
    found = cam(net)
    torch.manual_seed(3)
    close(found, cam_by_hand(net, "conv2"))
    assert np.abs(found - still).max() > 1e-3
    assert net.training


# The model's own no_grad()


class FrozenBody(Net):
    """A backbone under the model's own `no_grad`, part by part, and a trainable head with a layer of its own."""

    def __init__(self, freeze: Any = torch.no_grad) -> None:
        super().__init__()
        self.freeze, self.neck = freeze, nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        with self.freeze():
            x = F.relu(self.conv1(x))
        with self.freeze():
            x = F.relu(self.conv2(x))
        return self.fc(self.neck(x).mean((2, 3)))


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize(
    "layers", [["conv1"], ["conv2"], ["neck"], ["conv1", "neck"], ["neck", "conv2", "conv1"]]
)
def test_layers_within_the_models_own_no_grad(layers: list[str], trainable: bool) -> None:
    net = seeded(FrozenBody).requires_grad_(trainable)
    free = with_weights_of(net, FrozenBody(torch.enable_grad))
    found = cc.explain(net, X, COLUMN, layers=layers, methods=["hirescam"])
    assert [e.layer for e in found.values()] == layers
    for explanation in found.values():
        a, g = by_hand(free, explanation.layer)
        close(explanation.maps[:, 0], (a * g).sum(1).clamp(min=0))
    close(
        cc.Saliency(net, reduce="sum").explain(X, COLUMN).maps,
        cc.Saliency(free, reduce="sum").explain(X, COLUMN).maps,
    )
    assert torch.is_grad_enabled()


def test_guided_and_plain_gradients_through_the_models_own_no_grad() -> None:
    net = seeded(FrozenBody)
    free = with_weights_of(net, FrozenBody(torch.enable_grad))
    methods = ["guidedbackprop", "gradcam", "saliency"]
    found, expected = (
        cc.explain(model, X, COLUMN, layers=["conv1"], methods=methods) for model in (net, free)
    )
    for name in methods:
        close(found[name].maps, expected[name].maps)
    assert np.abs(found["guidedbackprop"].maps - found["saliency"].maps).max() > 1e-4
    noted = engine_for(seeded(lambda: nn.Sequential(FrozenBody(), nn.Softmax(dim=1))))
    recording = noted.record(
        X, lambda result: result.logits()[:, [0]], Request(["0.conv1"], gradients=["0.conv1"])
    )
    assert len(recording.notes) == 1


def test_a_layer_within_the_models_own_inference_mode_is_refused() -> None:
    with pytest.raises(LayerError) as error:
        cam(seeded(lambda: FrozenBody(torch.inference_mode)).requires_grad_(False), "conv2")
    one_line(error, "`conv2`")


# Softmax at the end


SOFTMAX: dict[str, Callable[[Tensor], Tensor]] = {
    "module": nn.Softmax(dim=1),
    "functional": lambda y: F.softmax(y, dim=1),
    "function": lambda y: torch.softmax(y, dim=1),
    "method": lambda y: y.softmax(dim=-1),
    "keyword": lambda y: F.softmax(input=y, dim=1),
    "log module": nn.LogSoftmax(dim=1),
    "log functional": lambda y: F.log_softmax(y, dim=1),
    "log function": lambda y: torch.log_softmax(y, dim=1),
    "log method": lambda y: y.log_softmax(1),
    "in a dict": lambda y: {"probabilities": y.softmax(1)},
    "in a tuple": lambda y: (y.softmax(1), y),
}


@pytest.mark.parametrize("end", SOFTMAX.values(), ids=SOFTMAX)
def test_scores_are_logits_where_the_model_ends_in_a_softmax(end: Callable[[Tensor], Tensor]) -> None:
    net = seeded(lambda: Net(end=end))
    method = cc.GradCAM(net, "conv2", signed=True)
    plain = with_weights_of(net, Net())
    for _ in range(2):
        found = method.explain(X, COLUMN)
        close(found.maps[:, 0], cam_by_hand(plain, "conv2"))
        close(found.scores[:, 0], plain(X)[:, COLUMN].detach())
        assert any("before the model's final softmax" in finding for finding in found.diagnostics)
    for other in (cc.GradCAM(net), cc.Saliency(net)):  # the softmax is found whatever is looked at first
        close(other.explain(X, COLUMN).scores[:, 0], plain(X)[:, COLUMN].detach())


def test_scores_are_logits_whatever_the_first_batch_holds() -> None:
    method = cc.GradCAM(seeded(lambda: Net(end=nn.Softmax(dim=1))), "conv2")
    fresh = cc.GradCAM(method.model, "conv2").explain(X, COLUMN)
    method.explain(X * float("nan"), COLUMN)
    after = method.explain(X, COLUMN)
    np.testing.assert_array_equal(after.scores, fresh.scores)
    assert after.diagnostics == fresh.diagnostics


def by_exponentials(y: Tensor) -> Tensor:
    return y.exp() / y.exp().sum(1, keepdim=True)


@pytest.mark.parametrize("inner", [False, True], ids=["no softmax", "an inner softmax"])
def test_outputs_that_look_like_probabilities_are_explained_as_they_are_with_a_finding(inner: bool) -> None:
    def end(y: Tensor) -> Tensor:
        return by_exponentials(y * y.softmax(1) if inner else y)

    net = seeded(lambda: Net(end=end))
    method = cc.GradCAM(net, "conv2", signed=True)
    for _ in range(2):
        found = method.explain(X, COLUMN)
        close(found.maps[:, 0], cam_by_hand(net, "conv2"))
        close(found.scores[:, 0], net(X)[:, COLUMN].detach())
        assert any(
            "look like probabilities" in finding and "output_layer=" in finding
            for finding in found.diagnostics
        )
    through = cc.GradCAM(net, "conv2", output_layer="fc").explain(X, COLUMN)
    assert not any("probabilities" in finding for finding in through.diagnostics)


def test_logits_that_look_like_probabilities_by_chance_say_so_only_then() -> None:
    net = seeded(lambda: nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    net[0].weight.data = torch.eye(2)[:, :, None, None]
    method = cc.GradCAM(net, "0")
    chance = torch.tensor([0.25, 0.75])[:, None, None].expand(2, 4, 4)[None]
    assert any("look like probabilities" in finding for finding in method.explain(chance).diagnostics)
    assert (
        method.explain(chance * 4).diagnostics == cc.GradCAM(net, "0").explain(chance * 4).diagnostics == ()
    )


def test_a_softmax_before_the_end_is_none() -> None:
    net = seeded(lambda: Net(end=lambda y: y.softmax(1) * 3))
    found = cc.GradCAM(net, "conv2", signed=True).explain(X, COLUMN)
    close(found.maps[:, 0], cam_by_hand(net, "conv2"))
    assert found.diagnostics == ()


# output_layer= and operator=


def test_output_layer_is_where_scores_are_read() -> None:
    net = seeded(lambda: Net(end=lambda y: y.square()))
    plain = with_weights_of(net, Net())
    for output_layer in ("fc", net.fc, -1, "fc#0"):
        found = cc.GradCAM(net, "conv2", signed=True, output_layer=output_layer).explain(X, COLUMN)
        close(found.maps[:, 0], cam_by_hand(plain, "conv2"))
        close(found.scores[:, 0], plain(X)[:, COLUMN].detach())
    assert np.abs(cam(net) - cam(net, output_layer="fc")).max() > 1e-5
    raw = cc.GradCAM(net, "conv2", output_layer="fc").explain(X, lambda y: y[:, COLUMN]).scores
    close(raw[:, 0], plain(X)[:, COLUMN].detach())
    softmax = seeded(lambda: Net(end=nn.Softmax(dim=1)))
    found = cc.GradCAM(softmax, "conv2", signed=True, output_layer="end").explain(X, COLUMN)
    close(found.maps[:, 0], cam_by_hand(with_weights_of(softmax, Net(end=by_exponentials)), "conv2"))
    assert found.diagnostics == ()
    with pytest.raises(LayerError, match="`fcc`; did you mean `fc`"):
        cc.GradCAM(net, output_layer="fcc")
    with pytest.raises(LayerError, match="`fc#4` returned no scores"):
        cam(net, output_layer="fc#4")


def test_an_output_layer_that_is_called_several_times() -> None:
    class Twice(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.features(x)
            return self.fc(x.mean((2, 3))) + self.fc(x.amax((2, 3)))

    net = seeded(Twice)
    first, last = (cam(net, output_layer=layer) for layer in ("fc#0", "fc#1"))
    close(first, cam_by_hand(with_weights_of(net, Net()), "conv2"))
    np.testing.assert_array_equal(cam(net, output_layer="fc"), last)
    close(first + last, cam_by_hand(net, "conv2"))


def test_operator_is_the_score() -> None:
    net = seeded(lambda: Net(end=nn.Softmax(dim=1)))
    seen: list[Any] = []

    def operator(model: nn.Module, inputs: Tensor, targets: np.ndarray) -> Tensor:
        seen.append((len(inputs), targets.tolist()))
        return -F.nll_loss(model(inputs).log(), torch.from_numpy(targets), reduction="none")

    y = np.array([1, 4, 2])
    found = cc.GradCAM(net, "conv2", signed=True, operator=operator, batch_size=2).explain(X, y)
    assert seen == [(2, [1, 4]), (1, [2])]
    plain = with_weights_of(net, Net(end=nn.LogSoftmax(dim=1)))
    hand = np.stack([cam_by_hand(plain, "conv2", column=int(c))[i] for i, c in enumerate(y)])
    close(found.maps[:, 0], hand)
    close(found.scores[:, 0], plain(X)[range(3), y].detach())
    with pytest.raises(TargetError) as error:
        cam(net, operator=lambda model, inputs, targets: model(inputs).sum())
    one_line(error, "operator", "()", "(3,)")


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
    count = forwards(net)
    found = cc.explain(net, X, COLUMN, layers=layers, methods=[bold])
    assert count == [3]
    assert list(found) == [f"gradcam@{layer}" for layer in layers]
    for layer in layers:
        close(found[f"gradcam@{layer}"].maps[:, 0], expected[layer])


def test_a_layer_that_is_called_several_times() -> None:
    net = seeded(Blocks)
    maps = {layer: cam(net, layer) for layer in ("relu", "relu#0", "relu#1", "relu#2")}
    for call in range(3):
        close(maps[f"relu#{call}"], cam_by_hand(net, "relu", call=call))
    np.testing.assert_array_equal(maps["relu"], maps["relu#2"])
    note = "layer `relu` is called 3 times; its last call is explained (`relu#0` is the first)"
    assert cc.GradCAM(net, "relu", signed=True).explain(X, 1).diagnostics == (note,)
    assert cc.GradCAM(net, "relu#1").explain(X, 1).layer == "relu#1"
    together = cc.explain(net, X, COLUMN, layers=["relu#2", "relu", "relu#0"], methods=[bold])
    for layer in ("relu#0", "relu#2", "relu"):
        np.testing.assert_array_equal(together[f"gradcam@{layer}"].maps[:, 0], maps[layer])
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
    assert cam(net, "table").any()
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
def test_torchscript() -> None:
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


@pytest.mark.parametrize("model", [lambda x: x, None, "resnet50", np.zeros(3), nn.Module])
def test_what_is_no_model(model: Any) -> None:
    with pytest.raises(ModelError) as error:
        cc.GradCAM(model)
    one_line(error, "cannot explain", "torch.nn.Module")


# What is computed, and what is not


class Operators(TorchDispatchMode):
    """Notes the operators that run, with their arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[tuple[str, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.ran.append((func.overloadpacket.__name__, args))
        return func(*args, **(kwargs or {}))


def test_no_gradient_of_a_parameter_is_computed() -> None:
    net = seeded(Net)
    with Operators() as operators:
        net(X).sum().backward()
    assert any(
        args[-1][1] for name, args in operators.ran if name == "convolution_backward"
    )  # seen in training
    net.zero_grad()
    fired: list[str] = []
    for name, parameter in net.named_parameters():
        parameter.register_hook(lambda grad, name=name: fired.append(name))
        parameter.register_post_accumulate_grad_hook(lambda parameter, name=name: fired.append(name))
    with Operators() as operators:
        cc.explain(net, X, COLUMN, layers=["conv1"], methods=["gradcam"])
    masks = [list(args[-1]) for name, args in operators.ran if name == "convolution_backward"]
    assert masks == [[True, False, False]]  # only conv2's backward, only towards its input
    assert not fired
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_users_own_gradients_stay() -> None:
    net = seeded(Net)
    net(X).sum().backward()
    kept = [(p.grad, p.grad.clone()) for p in net.parameters()]
    cc.explain(net, X, methods=["gradcam", "saliency", "shapleycam", "guidedbackprop"])
    for parameter, (grad, value) in zip(net.parameters(), kept, strict=True):
        assert parameter.grad is grad
        assert torch.equal(grad, value)


def test_no_graph_is_built_before_the_layer() -> None:
    net = seeded(
        lambda: nn.Sequential(*[nn.Conv2d(3, 3, 3) for _ in range(6)], nn.Flatten(), nn.Linear(48, 5))
    )
    saved: list[int] = []
    calls: list[tuple[str, int]] = []
    for name, module in net.named_children():
        module.register_forward_hook(lambda module, args, output, name=name: calls.append((name, len(saved))))

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        cam(net, "4")
    counts = dict(calls)
    assert len(calls) == len(net)
    assert counts["4"] == 0
    assert counts["5"] > 0
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        saved.clear()
        cc.EigenCAM(net, "4").explain(X)
    assert saved == []  # activations alone need no graph at all


class NotBatchable(torch.autograd.Function):
    """Doubles, with a backward that needs numbers, which no batching of cotangents can give."""

    calls = 0

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        NotBatchable.calls += 1
        return grad * 2 if float(grad.abs().sum()) >= 0 else grad


@pytest.mark.parametrize("batchable", [True, False])
@pytest.mark.parametrize("count", [2, 16, 17, 40])
def test_many_targets_equal_one_by_one(count: int, batchable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    net = seeded(lambda: Net(act=F.relu if batchable else lambda x: F.relu(NotBatchable.apply(x))))
    net.fc = nn.Linear(8, 40)
    widths: list[int] = []
    grad = torch.autograd.grad

    def noted(outputs: Any, inputs: Any, cotangents: Tensor, **options: Any) -> Any:
        widths.append(len(cotangents) if options.get("is_grads_batched") else 1)
        return grad(outputs, inputs, cotangents, **options)

    singles = np.stack([cam(net, targets=k) for k in range(count)], axis=1)
    NotBatchable.calls = 0
    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", noted)
        found = cc.GradCAM(net, "conv2", signed=True).explain(X, [cc.targets.Class(k) for k in range(count)])
    close(found.maps, singles)
    assert max(widths) <= tensors.TARGETS_PER_PASS == 16
    if batchable:
        assert len(widths) == -(-count // 16)
    else:
        assert NotBatchable.calls >= count


def test_methods_that_share_a_pass_do_not_disturb_each_other() -> None:
    class Curved(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.features(x).mean((2, 3)).exp()).tanh()

    net = seeded(Curved)
    engine = engine_for(net)

    def recorded(*kinds: str) -> Any:
        layers = {kind: ["conv1"] for kind in kinds}
        return engine.record(X, lambda result: result.logits()[:, [COLUMN]], Request(["conv1"], **layers))

    together = recorded("gradients", "guided", "curvature")
    for kind in ("gradients", "guided", "curvature"):
        alone = getattr(recorded("gradients", kind), kind)["conv1"][0]
        close(getattr(together, kind)["conv1"][0], alone)
    assert (together.guided["conv1"][0] - together.gradients["conv1"][0]).abs().max() > 1e-5
    names = ["guidedbackprop", "shapleycam", "gradcam", "saliency", "guidedgradcam", "eigencam"]
    for methods in (names, names[::-1]):
        maps = cc.explain(net, X, COLUMN, methods=methods)
        for name in methods:
            np.testing.assert_allclose(
                maps[name].maps, cc.methods.METHODS[name](net).explain(X, COLUMN).maps, rtol=1e-5, atol=1e-9
            )
            assert maps[name].maps.any()


GUIDED: dict[str, Callable[[Tensor], Tensor]] = {
    "functional": F.relu,
    "in-place": lambda x: F.relu(x, inplace=True),
    "in-place module": nn.ReLU(inplace=True),
    "in-place statement": lambda x: (F.relu(x, inplace=True), x)[1],
    "relu6": lambda x: F.relu6(x * 40) / 40,
    "in-place relu6 module": lambda x: nn.ReLU6(inplace=True)(x * 40) / 40,
}


@pytest.mark.parametrize("kind", GUIDED)
def test_guided_backprop_by_hand(kind: str) -> None:
    net = seeded(lambda: Net(act=GUIDED[kind]))
    ceiling = 6 / 40 if "relu6" in kind else torch.inf
    x = X.clone().requires_grad_()
    z1 = net.conv1(x)
    a1 = z1.clamp(0, ceiling).detach().requires_grad_()
    z2 = net.conv2(a1)
    a2 = z2.clamp(0, ceiling).detach().requires_grad_()
    (g,) = torch.autograd.grad(net.fc(a2.mean((2, 3)))[:, COLUMN].sum(), a2)
    (g,) = torch.autograd.grad(z2, a1, (g * (z2 > 0) * (z2 < ceiling)).clamp(min=0))
    (g,) = torch.autograd.grad(z1, x, (g * (z1 > 0) * (z1 < ceiling)).clamp(min=0))
    assert (z1 > ceiling).any() == (z2 > ceiling).any() == ("relu6" in kind)
    close(cc.GuidedBackprop(net, reduce="sum").explain(X, COLUMN).maps[:, 0], g.sum(1))


def test_guided_backprop_without_a_relu_says_so() -> None:
    net = seeded(lambda: Net(act=torch.tanh))
    found = cc.GuidedBackprop(net).explain(X, COLUMN)
    close(found.maps, cc.Saliency(net).explain(X, COLUMN).maps)
    assert any("no ReLU" in finding for finding in found.diagnostics)


# Transformers' fused inference paths


class Encoder(nn.Module):
    def __init__(self, norm_first: bool = False, batch_first: bool = True) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.fc, self.tokens = nn.Linear(8, 5), 1 if batch_first else 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2)
        x = self.encoder(x.transpose(1, 2) if self.tokens else x.permute(2, 0, 1))
        x = x + self.attention(x, x, x)[0]
        return self.fc(x.mean(self.tokens))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize(
    "layer",
    [
        "patch",
        "encoder",
        "encoder.layers.0",
        "encoder.layers.0.self_attn",
        "encoder.layers.1.linear2",
        "attention",
    ],
)
def test_transformer_layers_in_eval_mode(layer: str, trainable: bool, batch_first: bool) -> None:
    net = seeded(lambda: Encoder(batch_first=batch_first)).requires_grad_(trainable)
    kept: list[Tensor] = []
    hand = copy.deepcopy(net).requires_grad_()

    def keep(module: Any, args: Any, output: Any) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)

    hand.get_submodule(layer).register_forward_hook(keep)
    x = X.clone().requires_grad_()  # differentiable from the start: never fused
    y = hand(x)[:, COLUMN]
    (g,) = torch.autograd.grad(y.sum(), kept[0])
    a = kept[0].detach()
    if layer != "patch":
        a, g = ((t if batch_first else t.transpose(0, 1)).transpose(1, 2).reshape(3, 8, 4, 4) for t in (a, g))
    found = cc.GradCAM(net, layer, signed=True).explain(X, COLUMN)
    close(found.maps[:, 0], torch.einsum("bk,bkhw->bhw", g.mean((2, 3)), a))
    close(found.scores[:, 0], y.detach())


# Left as found


def snapshot(net: nn.Module) -> dict[str, Any]:
    """Everything of the model and of torch that an explanation might leave changed."""
    hooks = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_backward_pre_hooks",
        "_state_dict_hooks",
    )
    return {
        "hooks": {(path, kind): list(getattr(m, kind)) for path, m in net.named_modules() for kind in hooks},
        "attributes": {path: sorted(vars(m)) for path, m in net.named_modules()},
        "classes": {path: type(m) for path, m in net.named_modules()},
        "training": {path: m.training for path, m in net.named_modules()},
        "requires_grad": {name: p.requires_grad for name, p in net.named_parameters()},
        "tensors": {name: id(t) for name, t in [*net.named_parameters(), *net.named_buffers()]},
        "versions": {name: p._version for name, p in net.named_parameters()},
        "grads": {name: id(p.grad) for name, p in net.named_parameters()},
        "parameter hooks": {name: len(p._backward_hooks or ()) for name, p in net.named_parameters()},
        "values": {name: t.numpy().tobytes() for name, t in net.state_dict().items()},
        "modes": (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.is_autocast_cache_enabled(),
            torch.get_autocast_dtype("cpu"),
            torch._C._len_torch_function_stack(),
            torch.backends.mha.get_fastpath_enabled(),
            torch.backends.cudnn.enabled,
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            torch.is_anomaly_enabled(),
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
        ),
    }


class Deliberate(Exception):
    """Raised on purpose in some stage of an explanation."""


class FailsBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        raise Deliberate


class Delicate(nn.Module):
    """Everything that may be left changed, and a switch that says where to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6)
        self.relu, self.drop = nn.ReLU(inplace=True), nn.Dropout(0.2)
        self.conv2, self.fc = nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.Linear(8, 5)
        self.fails = ""
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.steps = self.steps + 1
        x = self.bn(self.conv1(x))
        if self.fails == "before the layer":
            raise Deliberate
        x = self.relu(self.conv2(self.drop(self.relu(x))))
        if self.fails == "after the layer":
            raise Deliberate
        if self.fails == "in the backward pass":
            x = FailsBackward.apply(x)
        return self.fc(x.mean((2, 3)))


def raises(*args: Any) -> Any:
    raise Deliberate


@contextmanager
def inside(*modes: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for mode in modes:
            stack.enter_context(mode)
        yield


STAGES = [
    "",
    "before the layer",
    "after the layer",
    "in the backward pass",
    "in the target",
    "in the layout",
    "operator",
]


@pytest.mark.parametrize("mode", ["enable_grad", "no_grad", "inference_mode", "autocast"])
@pytest.mark.parametrize("stage", STAGES)
def test_left_as_found(stage: str, mode: str) -> None:
    net = seeded(Delicate).train()
    net.drop.eval()
    net.conv1.weight.requires_grad_(False)
    net(X).sum().backward()
    net.fc.bias.grad = None
    net.fc.register_forward_hook(lambda module, args, output: None)
    net.fails = stage
    x = X.clone()
    context = torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False) if mode == "autocast" else None
    with inside(context or getattr(torch, mode)()):
        before = snapshot(net)
        options: dict[str, Any] = {"layout": raises if stage == "in the layout" else None}
        options["operator"] = raises if stage == "operator" else None
        targets = raises if stage == "in the target" else None
        for methods in (["gradcam"], ["saliency"], ["guidedgradcam", "shapleycam", "smoothgrad"]):
            options["output_layer"] = "fc" if methods == ["gradcam"] and stage != "operator" else None
            if stage == "in the layout" and methods == ["saliency"]:
                continue  # asks for no layout
            if stage:
                with pytest.raises(Deliberate):
                    cc.explain(net, x, targets, methods=methods, layers=["conv2"], **options)
            else:
                cc.explain(net, x, targets, methods=methods, layers=["conv2"], **options)
            after = snapshot(net)
            assert after.keys() == before.keys()
            for what in before:
                assert after[what] == before[what], (what, methods)
    assert torch.equal(x, X)
    assert x.grad is None
    assert x._version == 0


def test_left_as_found_after_the_default_layer_was_looked_for() -> None:
    net = seeded(Delicate).train()
    before = snapshot(net)
    assert cc.GradCAM(net).explain(X).layer == "relu"
    assert snapshot(net) == before
    net.fails = "after the layer"
    with pytest.raises(Deliberate):
        cc.GradCAM(net).explain(X)
    assert snapshot(net) == before | {"attributes": snapshot(net)["attributes"]}


def test_the_users_own_hooks_run_in_every_pass_and_stay() -> None:
    net, seen = seeded(Net), []
    net.conv2.register_forward_hook(lambda module, args, output: seen.append(1) or output * 2)
    found = cam(net)
    assert seen == [1]
    assert len(net.conv2._forward_hooks) == 1
    close(found, cam_by_hand(net, "conv2"))  # of the doubled output, with which the model goes on
    assert np.abs(found - cam_by_hand(with_weights_of(net, Net()), "conv2")).max() > 1e-3


# Again and again


@pytest.mark.parametrize(
    "name", ["gradcam", "saliency", "guidedgradcam", "shapleycam", "smoothgrad", "eigencam"]
)
def test_a_second_call_equals_the_first_and_a_fresh_instance(name: str) -> None:
    net = seeded(lambda: Net(end=nn.Softmax(dim=1)))
    method = cc.methods.METHODS[name](net)
    first = method.explain(X)
    method.explain(X.flip(0) * 2 + 1, [cc.targets.Class(k) for k in range(3)])
    with pytest.raises(TargetError):
        method.explain(X, 99)
    for again in (method.explain(X), cc.methods.METHODS[name](net).explain(X)):
        np.testing.assert_array_equal(again.maps, first.maps)
        np.testing.assert_array_equal(again.scores, first.scores)
        assert (again.layer, again.targets, again.diagnostics) == (
            first.layer,
            first.targets,
            first.diagnostics,
        )
    assert first.maps.any()


@pytest.mark.parametrize("name", ["gradcam", "saliency", "guidedgradcam", "shapleycam", "eigencam"])
def test_a_batch_equals_one_by_one(name: str) -> None:
    net = seeded(Normed)
    method = cc.methods.METHODS[name](net)
    together = method.explain(X)
    for i in range(len(X)):
        alone = method.explain(X[i : i + 1])
        close(alone.maps[0], together.maps[i])
        close(alone.scores[0], together.scores[i])
        assert alone.targets == together.targets[i : i + 1]


def tensors_alive() -> int:
    return sum(type(thing) in (Tensor, nn.Parameter) for thing in gc.get_objects())


@pytest.mark.slow
def test_memory_is_constant_over_a_thousand_calls() -> None:
    net = seeded(lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)))
    x = torch.randn(1, 1, 4, 4)
    methods = [cc.GradCAM(net), cc.GuidedGradCAM(net), cc.ShapleyCAM(net)]

    def rounds(count: int) -> None:
        for i in range(count):
            for method in methods:
                method.explain(x, i % 3)
        with pytest.raises(TargetError):
            methods[0].explain(x, 9)

    rounds(100)
    gc.collect()
    alive, objects = tensors_alive(), len(gc.get_objects())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gc.disable()
    try:
        rounds(20)
        assert tensors_alive() <= alive  # no tensor waits in a cycle for the collector
    finally:
        gc.enable()
    rounds(210)
    gc.collect()
    assert tensors_alive() <= alive
    assert len(gc.get_objects()) - objects < 100
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 16_000  # kilobytes
