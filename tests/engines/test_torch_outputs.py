"""What models return and take; where scores are read."""

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import one_line, seeded
from nets import Net
from plain_hooks import COLUMN, X, cam, cam_by_hand, close, with_weights_of
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import LayerError, ModelError, TargetError

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


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda y: y.to_sparse(), ["a sparse tensor", "outputs.to_dense()[:, 0]"]),
        (lambda y: torch.complex(y, y), ["complex64", "outputs.abs()[:, 0]"]),
        (lambda y: torch.nested.as_nested_tensor(list(y)), ["a nested tensor", "to_padded_tensor"]),
        (lambda y: torch.quantize_per_tensor(y, 0.1, 0, torch.qint8), ["qint8", "floating-point model"]),
        (lambda y: y.argmax(1), ["int64", "argmax", "output_layer="]),
        (lambda y: y > 0, ["bool", "no gradient", "output_layer="]),
    ],
    ids=["sparse", "complex", "nested", "quantised", "integers", "truth"],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested", "ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("layer", ["conv2", None])
def test_a_tensor_of_no_scores_is_refused(
    end: Callable[[Tensor], Any], words: list[str], layer: str | None
) -> None:
    net = seeded(lambda: Net(end=end))
    with pytest.raises(ModelError) as error:
        cam(net, layer)
    one_line(error, "the model returns", *words)


@pytest.mark.parametrize(
    ("end", "target"),
    [
        (lambda y: y.to_sparse(), lambda out: out.to_dense()[:, COLUMN]),
        (lambda y: torch.complex(y, 0 * y), lambda out: out.real[:, COLUMN]),
    ],
)
def test_a_callable_makes_scores_of_a_tensor_that_holds_none(
    end: Callable[[Tensor], Any], target: Callable[[Any], Tensor]
) -> None:
    net = seeded(lambda: Net(end=end))
    close(cam(net, None, targets=target), cam_by_hand(with_weights_of(net, Net()), "conv2"))


@pytest.mark.parametrize("end", [lambda y: y.argmax(1), lambda y: y > 0])
def test_a_map_without_a_target_needs_no_scores(end: Callable[[Tensor], Any]) -> None:
    net = seeded(lambda: Net(end=end))
    maps = cc.EigenCAM(net, "conv2").explain(X).maps
    close(maps, cc.EigenCAM(with_weights_of(net, Net()), "conv2").explain(X).maps)


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
def test_models_of_several_inputs_take_tuples_and_dicts(named: bool, batch_size: int | None) -> None:
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
    for targets in (None, 1, [1, 1, 1], cc.targets.Regression(), cc.targets.Norm(), lambda y: y):
        found = cc.GradCAM(net, signed=True).explain(X, targets)
        sign = np.sign(net(X).detach().numpy()) if isinstance(targets, cc.targets.Norm) else np.ones(3)
        close(found.maps[:, 0], hand * sign[:, None, None])
        close(found.scores[:, 0], net(X).detach().numpy() * sign)


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
    "in another precision": lambda y: y.double().softmax(1).float(),
    "off 0 and 1": lambda y: y.softmax(1).clamp(1e-7, 1 - 1e-7),
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
        method.explain(chance * 4, 1).diagnostics
        == cc.GradCAM(net, "0").explain(chance * 4, 1).diagnostics
        == ()
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


class Pyramid(nn.Module):
    """Levels of a pyramid, and their means as scores."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.fpn = nn.Conv2d(3, 4, 3, 2, 1)
        self.fpn.register_forward_hook(lambda module, args, out: {"p3": out, **self.coarser(out)})

    def coarser(self, finest: Tensor) -> dict[str, Tensor]:
        coarser = {f"p{3 + k}": finest[..., :: 2**k, :: 2**k] for k in range(1, self.levels)}
        return {**coarser, "pooled": finest.mean((2, 3), keepdim=True), "same": finest}

    def forward(self, x: Tensor) -> Tensor:
        return sum(level.relu().mean((2, 3)) for level in self.fpn(x).values())


@pytest.mark.parametrize("levels", [1, 3])
def test_a_layer_of_several_feature_maps_says_that_the_first_is_explained(levels: int) -> None:
    found = cc.GradCAM(Pyramid(levels), "fpn").explain(torch.rand(1, 3, 16, 16), 1)
    several = [text for text in found.diagnostics if "feature maps" in text]
    expected = "layer `fpn` returns 3 feature maps; the first is explained, (1, 4, 8, 8)"
    assert [text.startswith(expected) for text in several] == [True] * (levels > 1)
    assert all(text.endswith("name `fpn[p4]` for the next") for text in several)


class TwoLevels(nn.Conv2d):
    """A convolution and the squares of what it pools: in a tuple, in a dict, or one step deeper."""

    kind = "tuple"

    def forward(self, x: Tensor) -> Any:
        fine = super().forward(x).relu()
        coarse = F.avg_pool2d(fine, 2) ** 2
        if self.kind == "tuple":
            return fine, coarse
        return {"p3": fine, "p4": coarse} if self.kind == "dict" else {"maps": [fine, coarse], "size": 2}


class Levels(nn.Module):
    """Scores that are linear in the means of two levels."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.fpn = TwoLevels(3, 4, 3, 2, 1)
        self.fpn.kind = kind
        self.heads = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)])

    def forward(self, x: Tensor) -> Tensor:
        out = self.fpn(x)
        maps = out["maps"] if self.kind == "deep" else out.values() if self.kind == "dict" else out
        return sum(head(one.mean((2, 3))) for head, one in zip(self.heads, maps, strict=True))


@pytest.mark.parametrize(
    ("kind", "layer"),
    [
        ("tuple", "fpn[1]"),
        ("dict", "fpn[p4]"),
        ("dict", "fpn[1]"),
        ("deep", "fpn[maps][1]"),
        ("deep", "fpn[0][1]"),
    ],
)
def test_one_of_several_outputs_is_named_by_index_or_key(kind: str, layer: str) -> None:
    torch.manual_seed(0)
    net, x = Levels(kind), torch.randn(2, 3, 16, 16)
    coarse = F.avg_pool2d(F.conv2d(x, net.fpn.weight, net.fpn.bias, 2, 1).relu(), 2) ** 2
    weights = net.heads[1].weight[2][:, None, None].detach() / 16  # of a linear layer on means of 4 × 4 cells
    hand = (weights * coarse.detach()).sum(1)
    for name in (layer, f"{layer}#0"):
        found = cc.HiResCAM(net, name, signed=True).explain(x, 2)
        close(found.maps[:, 0], hand)
        assert (found.layer, found.diagnostics) == (name, ())
    ablated = cc.AblationCAM(net, layer, signed=True).explain(x, 2)  # the score falls by weight times mean
    falls = 16 * weights * coarse.detach().mean((2, 3), keepdim=True)
    close(ablated.maps[:, 0] * np.abs(ablated.scores)[:, :, None], (falls * coarse.detach()).sum(1))
    both = cc.HiResCAM(net, [layer, "fpn"], fuse="mean").explain(x, 2)
    assert both.maps.shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("layer", "words"),
    [("fpn[p7]", ("[p7]", "`[p3]`, `[p4]`")), ("fpn[2]", ("[2]",)), ("heads.0[1]", ("[1]", "one Tensor"))],
)
def test_an_output_that_a_layer_does_not_return_is_refused(layer: str, words: tuple[str, ...]) -> None:
    with pytest.raises(LayerError) as error:
        cc.GradCAM(Levels("dict"), layer).explain(torch.randn(1, 3, 16, 16), 2)
    one_line(error, "no output", *words)
