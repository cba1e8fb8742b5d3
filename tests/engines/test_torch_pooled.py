"""Gradients in closed form: where the graph proves that only a layer's mean counts, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import chronocam as cc
from chronocam.engines.torch import passes, pooled
from chronocam.methods._base import METHODS

Head = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """A layer, and a head of the given kind behind it."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 6, 3, padding=1)
        self.linear, self.hidden, self.norm = nn.Linear(6, 20), nn.Linear(6, 6), nn.BatchNorm1d(6)
        self.flat = nn.Linear(6 * 25, 20)
        self.dropout = nn.Dropout(0.5)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self, self.layer(x))


def gap(a: Tensor) -> Tensor:
    return a.mean((2, 3))


POOLED: dict[str, Head] = {
    "mean": lambda net, a: net.linear(gap(a)),
    "adaptive": lambda net, a: net.linear(F.adaptive_avg_pool2d(a, 1).flatten(1)),
    "dropout off": lambda net, a: net.linear(net.dropout(gap(a))),
    "two linear layers": lambda net, a: net.linear(net.hidden(gap(a)).relu()),
    "scaled": lambda net, a: 3 * net.linear(gap(a)),
    "relu after": lambda net, a: net.linear(gap(a).relu()),
    "rows alone": lambda net, a: net.linear(a.mean(3).amax(2)),
    "weight shared": lambda net, a: net.linear(net.hidden(gap(a))) @ net.linear.weight @ net.linear.weight.T,
    "softmax": lambda net, a: net.linear(gap(a)).softmax(1),
    "norm": lambda net, a: net.linear(net.norm(gap(a))),
    "rows in another order": lambda net, a: net.linear(gap(a).flip(1)),
}
OTHERS: dict[str, Head] = {
    "max": lambda net, a: net.linear(a.amax((2, 3))),
    "relu before": lambda net, a: net.linear(gap(a.relu())),
    "in-place relu before": lambda net, a: net.linear(gap(a.relu_())),
    "part of the grid": lambda net, a: net.linear(gap(a[..., :3])),
    "second branch": lambda net, a: net.linear(gap(a)) + net.flat(a.flatten(1)),
    "squared": lambda net, a: net.linear(gap(a * a)),
    "sum": lambda net, a: net.linear(a.sum((2, 3))),
    "pooled twice": lambda net, a: net.linear(gap(a)) + net.linear(a.mean((3, 2))),
}
X = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(1))
METHOD_NAMES = ("gradcam", "hirescam", "layercam", "xgradcam", "gradcam++", "cam", "eigengradcam")


def by_autograd(net: Net, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return activations and gradients `(sample, class, *shape)`, by plain autograd one by one."""
    a = net.layer(X).detach().requires_grad_()
    logits = net.head(net, a.clone())
    rows = [
        torch.stack([torch.autograd.grad(logits[i, c], a, retain_graph=True)[0][i] for c in of_sample])
        for i, of_sample in enumerate(classes)
    ]
    return a.detach().numpy(), torch.stack(rows).numpy()


def count_closed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list that grows by whether each layer's gradient has a closed form."""
    found: list[bool] = []

    def pooled_in(*args: Any) -> Any:
        result = pooled.pooled_in(*args)
        found.append(result is not None)
        return result

    monkeypatch.setattr(passes, "pooled_in", pooled_in)
    return found


@pytest.mark.parametrize("few", [3, 20])
@pytest.mark.parametrize("name", [*POOLED, *OTHERS])
def test_gradients_are_those_of_autograd(name: str, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net((POOLED | OTHERS)[name]).eval()
    classes = np.stack([np.random.default_rng(i).permutation(20)[:few] for i in range(2)])
    found = count_closed(monkeypatch)
    maps = cc.GradCAM(net, "layer", signed=True).explain(X, classes).maps
    assert found[-1] == (name in POOLED)
    if name == "softmax":
        net.head = POOLED["mean"]  # logits are explained
    a, g = by_autograd(net, classes)
    wanted = np.einsum("bkc,bc...->bk...", g.mean((3, 4)), a)
    np.testing.assert_allclose(maps, wanted, rtol=1e-5, atol=2e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize("classes", [1, 20])
def test_all_methods_agree_with_an_ordinary_backward_pass(
    method: str, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = Net(POOLED["adaptive"]).eval()
    targets = np.tile(np.arange(classes), (2, 1))

    def explained() -> cc.Explanation:
        return METHODS[method](net, "layer").explain(X, targets)

    closed = explained()
    monkeypatch.setattr(passes, "pooled_in", lambda *args: None)
    plain = explained()
    scale = np.abs(plain.maps).max()
    np.testing.assert_allclose(closed.maps, plain.maps, rtol=1e-5, atol=2e-6 * scale)
    assert closed.diagnostics == plain.diagnostics


def rows_taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list that grows by whether gradients were read off a weight, each time that is tried."""
    found: list[bool] = []
    rows = pooled.Pooled._by_weight

    def seen(*args: Any) -> Any:
        result = rows(*args)
        found.append(result is not None)
        return result

    monkeypatch.setattr(pooled.Pooled, "_by_weight", seen)
    return found


def scaled_rows(net: Net, a: Tensor) -> Tensor:
    y = torch.addmm(net.linear.bias, gap(a), net.linear.weight.T, alpha=3)
    return y


@pytest.mark.parametrize("targets", ["all", "some", "predicted", "in order", "the same"])
@pytest.mark.parametrize("head", [POOLED["mean"], scaled_rows], ids=["mean", "alpha"])
def test_many_classes_behind_a_linear_layer_are_rows_of_its_weight(
    targets: str, head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, found = Net(head).eval(), rows_taken(monkeypatch)
    classes = np.stack(
        [np.random.default_rng(i).permutation(20)[: 20 if targets == "all" else 17] for i in (0, 1)]
    )
    if targets in ("in order", "the same"):
        classes = np.stack([np.arange(20) if targets == "in order" else classes[0]] * 2)
    explanation = cc.GradCAM(net, "layer", signed=True).explain(
        X, cc.targets.Predicted(18) if targets == "predicted" else classes
    )
    assert found == [True]
    chosen = np.asarray([[info.index for info in row] for row in explanation.targets])
    a, g = by_autograd(net, chosen)
    wanted = np.einsum("bkc,bc...->bk...", g.mean((3, 4)), a)
    np.testing.assert_allclose(explanation.maps, wanted, rtol=1e-5, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("place", ["means", "logits", "rows"])
def test_a_hook_between_the_mean_and_the_scores_is_obeyed_for_many_classes(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def head(net: Net, a: Tensor) -> Tensor:
        means = a.mean((2, 3), keepdim=True)
        rows = means.flatten(1)
        logits = net.linear(rows)
        hooked = {"means": means, "rows": rows, "logits": logits}[place]
        hooked.register_hook(lambda gradient: gradient * (gradient > 0))
        return logits

    net, found = Net(head).eval(), rows_taken(monkeypatch)
    classes = np.tile(np.arange(20), (2, 1))
    maps = cc.GradCAM(net, "layer", signed=True).explain(X, classes).maps
    a, g = by_autograd(net, classes)
    wanted = np.einsum("bkc,bc...->bk...", g.mean((3, 4)), a)
    np.testing.assert_allclose(maps, wanted, rtol=1e-5, atol=1e-6 * np.abs(wanted).max())
    assert found == [False] or place == "logits"


def test_callable_targets_of_several_classes_are_not_taken_for_rows() -> None:
    net = Net(POOLED["mean"]).eval()
    mixed = [lambda y, k=k: y[:, k] * y[:, 19 - k] for k in range(18)]
    maps = cc.GradCAM(net, "layer", signed=True).explain(X, mixed).maps
    a = net.layer(X).detach().requires_grad_()
    logits = net.head(net, a)
    for k, score in enumerate(mixed):
        (g,) = torch.autograd.grad(score(logits).sum(), a, retain_graph=True)
        wanted = (g.mean((2, 3), keepdim=True) * a).sum(1).detach().numpy()
        np.testing.assert_allclose(maps[:, k], wanted, rtol=1e-4, atol=1e-6)


def test_batch_statistics_in_the_head_keep_samples_apart() -> None:
    net = Net(POOLED["norm"]).train()
    classes = np.array([[0], [3]])
    a, g = by_autograd(net, classes)
    wanted = np.einsum("bkc,bc...->bk...", g.mean((3, 4)), a)
    maps = cc.GradCAM(net, "layer", signed=True).explain(X, classes).maps
    np.testing.assert_allclose(maps, wanted, rtol=1e-4, atol=1e-6)


def hook_tensor(net: Net, a: Tensor) -> Tensor:
    a.register_hook(lambda gradient: 2 * gradient * (a > 0))
    return net.linear(gap(a))


def test_a_hook_on_what_the_layer_returned_is_obeyed() -> None:
    net = Net(hook_tensor).eval()
    maps = cc.GradCAM(net, "layer", signed=True).explain(X, 4).maps
    a, plain = net.layer(X).detach(), net.linear.weight[4].detach() / 25
    w = (2 * plain[:, None, None] * (a > 0)).mean((2, 3), keepdim=True)
    np.testing.assert_allclose(maps[:, 0], (w * a).sum(1), rtol=1e-4, atol=1e-6)


def test_a_backward_hook_of_a_module_is_obeyed() -> None:
    net = Net(POOLED["mean"]).eval()
    net.layer.register_full_backward_hook(lambda module, by_input, by_output: None)
    net.linear.register_full_backward_hook(lambda module, by_input, by_output: (3 * by_input[0],))
    maps = cc.GradCAM(net, "layer", signed=True).explain(X, 4).maps
    w = 3 * net.linear.weight[4].detach() / 25
    np.testing.assert_allclose(maps[:, 0], torch.einsum("c,bc...->b...", w, net.layer(X).detach()), rtol=1e-4)


def test_tokens_are_pooled_along_their_own_axis() -> None:
    class Tokens(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.linear(self.hidden(self.layer(x).permute(0, 2, 3, 1)).mean((1, 2)))

    net = Tokens(POOLED["mean"]).eval()
    maps = cc.GradCAM(net, "hidden", signed=True).explain(X, 4).maps
    a = net.hidden(net.layer(X).permute(0, 2, 3, 1)).detach()
    np.testing.assert_allclose(maps[:, 0], a @ net.linear.weight[4].detach() / 25, rtol=1e-4, atol=1e-6)


def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that grows with each graph that is looked through."""
    seen: list[Any] = []
    look = pooled.users_in
    monkeypatch.setattr(passes, "users_in", lambda scores: seen.append(scores) or look(scores))
    return seen


@pytest.mark.parametrize("target", [3, torch.arange(20)[None], lambda y: y[:, 1] - y[:, 2]])
@pytest.mark.parametrize("head", ["mean", "adaptive", "dropout off"])
def test_what_was_proven_to_follow_a_layer_needs_no_graph_again(
    head: str, target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x, seen = Net(POOLED[head]).eval(), torch.rand(1, 3, 5, 5), graphs(monkeypatch)
    method = cc.GradCAM(net, "layer", signed=True)
    first, again = method.explain(x, target), method.explain(x, target)
    assert len(seen) == 1
    np.testing.assert_allclose(again.maps, first.maps, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(again.scores, first.scores)
    with torch.no_grad():
        net.linear.weight.data.mul_(-2)
    np.testing.assert_allclose(method.explain(x, target).maps, -2 * first.maps, rtol=1e-5, atol=1e-7)
    assert len(seen) == 1


def test_what_writes_into_the_layers_output_now_and_then_is_seen() -> None:
    def head(net: Net, a: Tensor) -> Tensor:
        return net.linear(gap(a.relu_() if a.mean() > 1 else a))

    def expected(net: Net, x: Tensor) -> Any:
        a = net.layer(x).detach().requires_grad_()
        (gradients,) = torch.autograd.grad(head(net, a.clone())[:, 3].sum(), a)
        return (gradients.mean((2, 3), keepdim=True) * a).sum(1).detach()

    net, x = Net(head).eval(), torch.rand(2, 3, 5, 5)
    method = cc.GradCAM(net, "layer", signed=True)
    net.layer.bias.data[0] -= 3
    net.layer.bias.data[1] += 9
    for shift in (-9, -9, 0, -9, 0, 0):
        moved = x + 0.0
        net.layer.bias.data[1] = 9 + 2 * shift
        np.testing.assert_allclose(
            method.explain(moved, 3).maps[:, 0], expected(net, moved), rtol=1e-4, atol=1e-5
        )


def reversed_gradients(a: Tensor) -> Tensor:
    return 2 * a.detach() - a


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.eval().linear.register_forward_hook(lambda module, args, output: 2 * output),
        lambda net: setattr(net, "head", lambda net, a: net.linear(reversed_gradients(gap(a)))),
        lambda net: setattr(net, "linear", nn.Sequential(nn.Linear(6, 20), nn.Tanh())),
        lambda net: net.behind.append(lambda y: 3 * y),
    ],
    ids=["hook", "reversed", "layer", "unseen"],
)
def test_what_follows_a_layer_is_proven_anew_where_it_changed(change: Callable[[Any], Any]) -> None:
    class Open(Net):
        def __init__(self) -> None:
            super().__init__(POOLED["mean"])
            # Deeper in lists than changes of settings are looked for.
            self.behind: list[Any] = []
            self.where = [[[[self.behind]]]]

        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            for change in self.where[0][0][0][0]:
                y = change(y)
            return y

    net, x = Open().eval(), torch.rand(1, 3, 5, 5)
    method = cc.GradCAM(net, "layer", signed=True)
    method.explain(x, 3)
    method.explain(x, 3)
    change(net)
    expected = cc.GradCAM(net, "layer", signed=True).explain(x, 3)
    np.testing.assert_allclose(method.explain(x, 3).maps, expected.maps, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(method.explain(x, 3).maps, expected.maps, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["mean", "scaled", "relu after", "rows in another order"])
def test_other_heads_keep_their_gradients_call_after_call(name: str) -> None:
    net, x = Net(POOLED[name]).eval(), torch.rand(2, 3, 5, 5)
    method = cc.GradCAM(net, "layer", signed=True)
    first = method.explain(x, [1, 2]).maps
    np.testing.assert_allclose(method.explain(x, [1, 2]).maps, first, rtol=1e-5, atol=1e-7)
