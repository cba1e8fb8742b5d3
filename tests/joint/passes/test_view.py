"""The two verbs of a view beyond recording: scores of changed inputs, and of changed activations."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import InputError, LayerError, LayoutError
from chronocam.methods import CAMMethod, Method
from chronocam.methods._base import _METHODS
from chronocam.types import Capture, Need, Outputs, Scored, Target, TargetInfo, View

X = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
CLIPS = torch.rand(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def unregistered(method: type[Method]) -> type[Method]:
    """Take a method out of the registry again: those below are for these tests alone."""
    return _METHODS.pop(method.name)


def without(channel: int) -> Any:
    def change(activations: Any) -> Any:
        kept = [1.0 - (k == channel) for k in range(activations.shape[1])]
        weights = np.asarray(kept, np.float32).reshape(1, -1, *[1] * (activations.ndim - 2))
        return activations * (torch.as_tensor(weights) if isinstance(activations, Tensor) else weights)

    return change


@unregistered
@dataclass(kw_only=True, eq=False)
class Ablation(CAMMethod):
    """Ablation-CAM: w_k = (y − y without channel k) / y. Source: Desai and Ramaswamy 2020, eq. 3."""

    name: ClassVar[str] = "ablation"
    needs: ClassVar[tuple[Need, ...]] = (Need(gradients=False),)

    def maps(self, view: View) -> Any:
        activations = view.captures[0].activations
        (clean,) = view.resume([lambda a: a])
        ablated = view.resume(without(k) for k in range(activations.shape[1]))
        self.clean, self.ablated = clean, ablated
        weights = (clean - ablated) / clean
        return sum(
            w[(...,) + (None,) * (activations.ndim - 2)] * a[:, None]
            for w, a in zip(weights, activations.movedim(1, 0), strict=True)
        )


def whole(net: nn.Module, x: Any, layer: str, channel: int | None, axis: int) -> Tensor:
    """The logits of the whole network where one channel of a layer is zero, but for a class token."""

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        output = output.clone()
        if axis == 2:
            output[:, 1:, channel] = 0
        else:
            output[:, channel] = 0
        return output

    handle = net.get_submodule(layer).register_forward_hook(hook) if channel is not None else None
    try:
        with torch.no_grad():
            return net(x)
    finally:
        if handle is not None:
            handle.remove()


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = (nn.Conv2d(c, 4, 3, padding=1) for c in (3, 4, 4))
        self.act, self.norm, self.fc = nn.ReLU(), nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.stem(x))
        y = self.act(y + self.norm(self.a(y)))
        return self.fc(self.act(y + self.b(y)).mean((2, 3)))


class Branched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 5, padding=2)
        self.join, self.fc = nn.Conv2d(8, 4, 1), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.left(x).relu(), self.right(x).tanh()], 1)
        return self.fc((self.join(y) * y[:, :4]).mean((2, 3)))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.cls = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 1, 8))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0) for _ in range(2)
        )
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patch(x).flatten(2).mT
        y = torch.cat([self.cls.expand(len(y), -1, -1), y], 1)
        for block in self.blocks:
            y = block(y)
        return self.fc(y[:, 0])


class Frames(nn.Module):
    """A 2D network on the frames of a clip, folded into the batch or one after the other, and a GRU."""

    def __init__(self, stepped: bool) -> None:
        super().__init__()
        self.stepped, self.conv, self.act = stepped, nn.Conv2d(3, 4, 3, 2, 1), nn.Tanh()
        self.rnn, self.fc = nn.GRU(4, 4, batch_first=True), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        if self.stepped:
            features = torch.stack([self.act(self.conv(x[:, t])).mean((2, 3)) for t in range(x.shape[1])], 1)
        else:
            features = self.act(self.conv(x.flatten(0, 1))).mean((2, 3)).unflatten(0, x.shape[:2])
        return self.fc(self.rnn(features)[0][:, -1])


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 5),
    )  # fmt: skip


NETWORKS = [
    (plain, X, "1", 1),
    (Residual, X, "stem", 1),
    (Residual, X, "a", 1),
    (Branched, X, "left", 1),
    (Transformer, X, "blocks.0", 2),
    (Transformer, X, "patch", 1),
    (lambda: Frames(False), CLIPS, "conv", 1),
    (lambda: Frames(True), CLIPS, "conv", 1),
]


def seeded(make: Any, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return make().to(dtype).eval()


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 6e-7), (torch.float64, 1e-10)])
@pytest.mark.parametrize(("make", "x", "layer", "axis"), NETWORKS)
def test_scores_from_a_layer_on_are_those_of_the_whole_network(make, x, layer, axis, dtype, near):
    net, x = seeded(make, dtype), x.to(dtype)
    method = Ablation(net, layer, batch_size=4, pool="clip" if x.ndim == 5 else None)
    targets = [cc.targets.Class(k) for k in range(5)]
    method.explain(x[:2], targets)
    channels = method.ablated.shape[0]
    for k, scores in [(None, method.clean), *zip(range(channels), method.ablated, strict=True)]:
        expected = whole(net, x[:2], layer, k, axis)
        error = (scores - expected).abs().max() / expected.abs().max()
        assert error <= near


@pytest.mark.parametrize(("make", "x", "layer", "axis"), NETWORKS)
def test_ablation_cam_is_its_definition(make, x, layer, axis):
    net = seeded(make, torch.float64)
    x = x.double()
    found = Ablation(net, layer, signed=True, pool="clip" if x.ndim == 5 else None).explain(x, 2)
    recorded = cc.GradCAM(net, layer)
    (capture,) = captures(recorded, x)
    y = whole(net, x, layer, None, axis)[:, 2]
    expected = 0
    for k in range(capture.activations.shape[1]):
        without_k = whole(net, x, layer, k, axis)[:, 2]
        weights = ((y - without_k) / y).reshape(-1, *[1] * (capture.activations.ndim - 2))
        expected = expected + weights * capture.activations[:, k]
    np.testing.assert_allclose(found.maps[:, 0], expected.numpy(), rtol=2e-5, atol=1e-6)


@unregistered
@dataclass(kw_only=True, eq=False)
class Looking(CAMMethod):
    """Hands the view to a function."""

    look: Any = None
    name: ClassVar[str] = "looking"

    def maps(self, view: View) -> Any:
        self.look(view)
        a = view.captures[0].activations
        return a.sum(1)[:, None].repeat_interleave(view.targets, 1)


def captures(method: Method, x: Any, targets: Any = 0) -> tuple[Capture, ...]:
    seen: list[View] = []
    options = {"pool": "clip"} if x.ndim == 5 else {}
    Looking(method.model, method.conv_layer, look=seen.append, **options).explain(x, targets)
    return seen[0].captures


def scores_of(
    net: nn.Module, x: Any, targets: Any, changes: Any, verb: str = "scores", **options: Any
) -> Any:
    found: list[Any] = []

    def look(view: View) -> None:
        found.append(getattr(view, verb)(changes(x) if callable(changes) else changes))

    Looking(net, options.pop("layer", None), look=look, **options).explain(x, targets)
    return torch.cat(found, dim=1)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 32, None])
def test_changed_inputs_are_scored_as_the_network_scores_them(batch_size):
    net = seeded(Residual)
    factors = [0.0, 0.5, 1.0, 2.0, 3.0]
    targets = np.array([4, 0, 2])  # each sample's own class
    scores = scores_of(net, X, targets, [lambda x, f=f: x * f for f in factors], batch_size=batch_size)
    assert scores.shape == (5, 3, 1)
    with torch.no_grad():
        for f, one in zip(factors, scores, strict=True):
            np.testing.assert_allclose(one[:, 0], net(X * f)[torch.arange(3), targets], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("verb", ["scores", "resume"])
@pytest.mark.parametrize("targets", [np.array([[4, 0], [0, 1], [2, 3]]), None, [1, "b", cc.targets.Norm()]])
def test_several_changes_in_one_pass_score_as_one_after_the_other(verb, targets):
    net = seeded(plain)
    net.labels = list("abcde")
    changes = [lambda a, f=f: a * f for f in (0.0, 0.7, 1.0, 5.0)]
    at_once = scores_of(net, X, targets, changes, verb, batch_size=12, layer="1")
    singly = scores_of(net, X, targets, changes, verb, batch_size=3, layer="1")
    np.testing.assert_allclose(at_once, singly, rtol=1e-5, atol=1e-6)
    assert not np.allclose(at_once[0], at_once[-1])


@pytest.mark.parametrize("verb", ["scores", "resume"])
def test_the_class_that_is_scored_is_that_of_the_clean_input(verb):
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with torch.no_grad():
        y = net(X)
        scores = scores_of(net, X, None, [lambda a: a, lambda a: -5 * a], verb, layer="0")
        np.testing.assert_allclose(scores[0, :, 0], y.max(1).values, rtol=1e-5)
        changed = net(-5 * X) if verb == "scores" else -5 * y
        np.testing.assert_allclose(scores[1, :, 0], changed[torch.arange(3), y.argmax(1)], rtol=1e-5)


@pytest.mark.parametrize("verb", ["scores", "resume"])
def test_data_sets_and_loss_targets_keep_to_their_own_rows(verb):
    net = seeded(plain)
    y = torch.tensor([4, 1, 0])
    loss = cc.targets.NegativeLoss(nn.functional.cross_entropy, y)
    changes = [lambda a: a, lambda a: a * 2]
    whole_call = scores_of(net, X, loss, changes, verb, layer="1")
    in_parts = []
    method = Looking(net, "1", look=lambda view: in_parts.append(getattr(view, verb)(changes)))
    list(method.explain_batches([X[:2], X[2:]], loss))
    np.testing.assert_allclose(torch.cat(in_parts, 1), whole_call, rtol=1e-5)
    one_by_one = [-nn.functional.cross_entropy(net(X[i : i + 1]), y[i : i + 1]).item() for i in range(3)]
    np.testing.assert_allclose(whole_call[0, :, 0], one_by_one, rtol=1e-5)


def test_an_operator_is_given_the_targets_of_its_own_rows():
    net = seeded(plain)

    def operator(model: nn.Module, x: Tensor, rows: Any) -> Tensor:
        return model(x)[torch.arange(len(x)), torch.as_tensor(rows)]

    scores = scores_of(
        net, X, np.array([1, 0, 3]), [lambda x: x, lambda x: 2 * x], operator=operator, layer="1"
    )
    np.testing.assert_allclose(scores[1, :, 0], net(2 * X)[torch.arange(3), [1, 0, 3]].detach(), rtol=1e-5)


class Two(nn.Module):
    """Takes pictures, and a number for each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor, which: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3))) * which[:, None]


@pytest.mark.parametrize("verb", ["scores", "resume"])
def test_inputs_that_do_not_change_stay_with_their_samples(verb):
    net, which = seeded(Two), torch.tensor([1, 2, 3])
    found: list[Any] = []
    look = lambda view: found.append(getattr(view, verb)([lambda a: a, lambda a: a]))  # noqa: E731
    Looking(net, "conv", look=look).explain((X, which), 0)
    np.testing.assert_allclose(found[0][:, :, 0], net(X, which)[:, 0].detach().expand(2, 3), rtol=1e-5)


def test_no_graph_is_built_and_the_model_stays_as_it_was():
    net = seeded(Residual)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for verb in ("scores", "resume"):
        assert not scores_of(net, X, 0, [lambda a: a], verb, layer="stem").requires_grad
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(m._forward_hooks or "forward" in m.__dict__ for m in net.modules())


def test_wrong_calls_are_refused():
    net = seeded(plain)
    with pytest.raises(InputError, match="no change"):
        scores_of(net, X, 0, [])
    with pytest.raises(LayerError, match="before the input"):
        scores_of(net, X, 0, [lambda a: a], "resume", layer="input")
    with pytest.raises(LayoutError, match="put back"):
        scores_of(net, X, 0, [lambda a: a], "resume", layer="1", layout=lambda a: a * 1.5)


def test_a_layout_that_drops_and_reorders_is_undone():
    net = seeded(Transformer)
    given = lambda y: y[:, 1:].unflatten(1, (4, 4)).movedim(-1, 1).flip(2)  # noqa: E731
    changes = [without(2)]
    expected = scores_of(net, X, 1, changes, "resume", layer="blocks.0")
    found = scores_of(net, X, 1, changes, "resume", layer="blocks.0", layout=given)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


# Targets that read modules


@dataclass(frozen=True)
class Hidden(Target):
    """The mean of what a module returns."""

    path: str = "0"
    reads: tuple[str, ...] = field(default=("0",))

    def __call__(self, outputs: Outputs) -> Scored:
        values = outputs.read[self.path].flatten(1).mean(1)
        return Scored(values[:, None], ((TargetInfo("hidden"),),) * len(values))


def test_a_target_reads_what_modules_returned():
    net = seeded(plain)
    target = Hidden("2", ("2",))
    found = cc.GradCAM(net, "1", signed=True).explain(X, target)
    np.testing.assert_allclose(found.scores[:, 0], net[:3](X).flatten(1).mean(1).detach(), rtol=1e-5)
    (capture,) = captures(cc.GradCAM(net, "1"), X, target)
    activations = net[:2](X).detach().requires_grad_()
    (expected,) = torch.autograd.grad(net[2](activations).flatten(1).mean(1).sum(), activations)
    np.testing.assert_allclose(capture.gradients[:, 0], expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("verb", ["scores", "resume"])
@pytest.mark.parametrize("path", ["0", "2", "3"])  # before the layer, and after it
def test_what_a_target_reads_is_there_in_every_verb(verb, path):
    net = seeded(plain)
    target = [cc.targets.Class(1), cc.targets.Counter(Hidden(path, (path,)))]
    scores = scores_of(net, X, target, [lambda a: a, lambda a: 2 * a], verb, layer="1")
    until = net[: int(path) + 1]
    with torch.no_grad():
        second = until(2 * X) if verb == "scores" else until(X)
        if verb == "resume" and path != "0":
            second = net[2 : int(path) + 1](2 * net[:2](X))
        for one, expected in zip(scores, (until(X), second), strict=True):
            np.testing.assert_allclose(one[:, 1], -expected.flatten(1).mean(1), rtol=1e-5)


def test_a_call_of_a_module_is_named_as_a_layer_is():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 3, 1), nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.conv(self.act(self.conv(x)))).mean((2, 3))

    net = seeded(Twice)
    first = net.act(net.conv(X))
    for path, expected in (
        ("act#0", first),
        ("act#1", net.act(net.conv(first))),
        ("act", net.act(net.conv(first))),
    ):
        found = cc.GradCAM(net, "conv#0").explain(X, Hidden(path, (path,)))
        np.testing.assert_allclose(found.scores[:, 0], expected.flatten(1).mean(1).detach(), rtol=1e-5)
    with pytest.raises(LayerError, match="`act#7`"):
        cc.GradCAM(net, "conv#0").explain(X, Hidden("act#7", ("act#7",)))
    with pytest.raises(LayerError, match="no layer `akt`"):
        cc.GradCAM(net, "conv#0").explain(X, Hidden("akt", ("akt",)))


class Remembering(nn.Module):
    """Reads features that hooks of its own kept, or the same features as they come."""

    def __init__(self, by_hooks: bool) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Tanh()),
            nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.Tanh()),
        )
        self.last, self.fc = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.Tanh()), nn.Linear(16, 3)
        self.kept: dict[str, Tensor] = {}
        self.by_hooks = by_hooks
        for name, layer in (("first", self.encoder[0]), ("last", self.last)):
            layer.register_forward_hook(lambda module, args, out, name=name: self.kept.update({name: out}))

    def forward(self, x: Tensor) -> Tensor:
        first = self.encoder[0](x)
        last = self.last(self.encoder(x) if self.by_hooks else self.encoder[1](first))
        if self.by_hooks:
            first, last = self.kept["first"], self.kept["last"]
        return self.fc(torch.cat([first.mean((2, 3)), last.mean((2, 3))], 1))


@pytest.mark.parametrize("layer", ["last", "encoder.0"])
@pytest.mark.parametrize("method", [cc.AblationCAM, cc.ReciproCAM])
def test_what_hooks_of_the_model_keep_is_of_the_changed_pass(
    method: type[cc.methods.Method], layer: str
) -> None:
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found, right = (
        method(seeded(lambda kept=kept: Remembering(kept)), layer).explain(x, 1).maps
        for kept in (True, False)
    )
    assert right.any()
    np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-6 * right.max())
