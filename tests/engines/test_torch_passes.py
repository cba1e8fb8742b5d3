"""One pass of the torch engine: what is computed and what is not, the same again and again."""

import gc
import resource
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import seeded, tensors_alive
from nets import Net, Normed
from plain_hooks import COLUMN, X, by_hand, cam, cam_by_hand, close, with_weights_of
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

import chronocam as cc
from chronocam.engines import Request, engine_for
from chronocam.engines.torch import tensors
from chronocam.errors import LayerError, TargetError

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


class Collected(nn.Module):
    """Collects what its stages returned before any hook of theirs sees it, and reads an inner one."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            [nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 1, 1)]
        )
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        states: list[Tensor] = []

        def collecting(plain: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
            return lambda value: states.append(plain(value)) or states[-1]

        plain = [stage.forward for stage in self.stages]
        for stage in self.stages:
            stage.forward = collecting(stage.forward)
        for stage in self.stages:
            x = stage(x).relu()
        for stage, forward in zip(self.stages, plain, strict=True):
            stage.forward = forward
        return self.head(states[-2].tanh().mean((2, 3)))


@pytest.mark.parametrize("frozen", [False, True])
def test_a_layer_whose_output_is_taken_before_its_hooks_is_explained(frozen: bool) -> None:
    torch.manual_seed(0)
    net, x = Collected().requires_grad_(not frozen), torch.randn(2, 3, 16, 16)
    activations = net.stages[1](net.stages[0](x).relu()).detach().requires_grad_()
    (gradients,) = torch.autograd.grad(net.head(activations.tanh().mean((2, 3)))[:, 1].sum(), activations)
    expected = (gradients.mean((2, 3), keepdim=True) * activations).sum(1).relu().detach()
    np.testing.assert_allclose(cc.GradCAM(net, "stages.1").explain(x, 1).maps[:, 0], expected, atol=1e-7)
    with pytest.raises(LayerError, match=r"does not depend on layer `stages\.2`"):
        cc.GradCAM(net, "stages.2").explain(x, 1)


class Viewing(nn.Module):
    """Asks how its values lie in memory, and notes it."""

    def __init__(self, flat: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.head, self.flat = nn.Conv2d(3, 4, 3, 2), nn.Linear(4 * 49, 2), flat
        self.last: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.last.append(x.is_contiguous(memory_format=torch.channels_last))
        return self.head(self.flat(self.conv(x)))


@pytest.mark.parametrize("asks", [False, True])
def test_scores_are_of_pictures_with_channels_last_where_the_model_takes_them(asks: bool) -> None:
    torch.manual_seed(0)
    net = Viewing((lambda x: x.view(len(x), -1)) if asks else (lambda x: x.flatten(1))).eval()
    engine, x = cc.engines.engine_for(net), torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        expected = net(x)
    net.last.clear()
    for _ in range(2):
        torch.testing.assert_close(engine.scores(x, lambda result: result.logits()), expected)
    assert net.last == ([True, False, False] if asks else [True, True])


def test_a_cpu_scores_large_pictures_a_few_at_a_time() -> None:
    rows: list[int] = []

    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            rows.append(len(x))
            return x.mean((2, 3))

    box = cc.Occlusion(Counting(), window=112, stride=112, baseline="zero", batch_size=64)
    few = cc.engines.engine_for(Counting()).values_at_once
    assert few is not None
    box.explain(torch.rand(1, 3, 448, 448), 1)
    assert max(rows) <= max(1, few // (3 * 448 * 448))
    rows.clear()
    box.explain(torch.rand(1, 3, 12, 12), 1)
    assert rows[-1] > 1


class Kept:
    """A tensor that is kept for the way back."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class SquaredThrice(nn.Module):
    """Counts, at each square on the way back, for how many of them something is kept still."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 2, 3), nn.Linear(2, 3)
        self.kept, self.alive = [], []

    def forward(self, x: Tensor) -> Tensor:
        def pack(tensor: Tensor) -> Kept:
            kept = Kept(tensor)
            self.kept.append(weakref.ref(kept))
            return kept

        def count(gradient: Tensor) -> None:
            self.alive.append(sum(one() is not None for one in self.kept))

        a = self.conv(x)
        for _ in range(3):
            with saved_tensors_hooks(pack, lambda kept: kept.tensor):
                a = a.square()
            a.register_hook(count)
        return self.linear(a.mean((2, 3)))


def test_what_one_backward_pass_has_gone_through_is_not_kept() -> None:
    net, x = seeded(SquaredThrice).eval(), torch.rand(1, 3, 6, 6)
    method = cc.GradCAM(net, "conv", signed=True)
    method.explain(x, 0)
    net.kept.clear()
    net.alive.clear()
    maps = method.explain(x, 0).maps
    assert net.alive == [3, 2, 1]
    a = net.conv(x).detach()
    w = (8 * a**7 * net.linear.weight[0].detach()[:, None, None] / a[0, 0].numel()).mean((2, 3), keepdim=True)
    np.testing.assert_allclose(maps[:, 0], (w * a).sum(1), rtol=1e-4, atol=1e-7)
