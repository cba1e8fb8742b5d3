"""What targets mean: one logit, gates at the end, several outputs, ambiguous lists, masks, rows."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import one_line, seeded
from torch import Tensor, nn

import chronocam as cc
from chronocam.engines import engine_for
from chronocam.errors import ModelError, TargetError
from chronocam.targets import Class, Counter, NegativeLoss, Norm, Predicted, Region, Regression, Step, Towards

X = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
ONE_OUTPUT = "cc.targets.Regression()"


class Net(nn.Module):
    """A convolution, a head, and whatever comes after the head."""

    def __init__(self, outputs: int = 1, bias: float | list[float] = 0.0, end: Any = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, outputs)
        self.fc.bias.data[:] = torch.as_tensor(bias)
        self.end = end or (lambda y: y)
        self.eval()

    def forward(self, x: Tensor) -> Any:
        return self.end(self.fc(self.conv(x).relu().mean((2, 3))))


def explained(net: nn.Module, targets: Any = None, x: Any = X, **options: Any) -> cc.Explanation:
    return cc.GradCAM(net, "conv", **options).explain(x, targets)


def by_hand(net: Net, weigh: Callable[[Tensor], Tensor], signed: bool = True, x: Tensor = X) -> np.ndarray:
    """Return Grad-CAM of a score of the head's outputs."""
    a = net.conv(x).detach().requires_grad_()
    (g,) = torch.autograd.grad(weigh(net.fc(a.relu().mean((2, 3)))).sum(), a)
    raw = torch.einsum("bk,bkhw->bhw", g.mean((2, 3)), a).detach().numpy()
    return raw if signed else raw.clip(0)


def names(explanation: cc.Explanation) -> list[str]:
    return [str(row[0]) for row in explanation.targets]


def says(explanation: cc.Explanation, *words: str) -> bool:
    return any(all(word in finding for word in words) for finding in explanation.diagnostics)


def logits_of(net: Net, x: Tensor = X) -> np.ndarray:
    return net.fc(net.conv(x).relu().mean((2, 3))).detach().numpy()


def labelled(net: Any, *labels: str) -> Any:
    net.labels = list(labels)
    return net


# One logit


@pytest.mark.parametrize(("bias", "name", "sign"), [(8.0, "dog", 1), (-2.0, "cat", -1)])
def test_one_logit_with_two_labels_is_predicted_by_its_sign(bias: float, name: str, sign: int) -> None:
    net = labelled(Net(bias=bias), "cat", "dog")
    found = explained(net)
    assert names(found) == [name] * 3
    assert [row[0].index for row in found.targets] == [int(sign > 0)] * 3
    y = logits_of(net)
    np.testing.assert_allclose(found.scores, sign * y, rtol=1e-5)
    np.testing.assert_allclose(found.maps[:, 0], by_hand(net, lambda y: sign * y, signed=False), atol=1e-6)
    np.testing.assert_allclose(found.confidences, 1 / (1 + np.exp(-sign * y)), rtol=1e-5)
    assert not says(found, ONE_OUTPUT)


def test_both_classes_of_one_logit_by_index_label_and_array() -> None:
    net = labelled(Net(bias=0.1), "cat", "dog")
    y = logits_of(net)[:, 0]
    for targets, sign in (
        ("dog", [1, 1, 1]),
        ("cat", [-1, -1, -1]),
        (1, [1, 1, 1]),
        (0, [-1, -1, -1]),
        (Class("dog"), [1, 1, 1]),
        ([1, 0, 1], [1, -1, 1]),
        (torch.tensor([1, 0, 1]), [1, -1, 1]),
        (torch.tensor([[1], [0], [1]]), [1, -1, 1]),
        (torch.tensor([[1.0], [0.0], [1.0]]), [1, -1, 1]),
        (torch.tensor([1.0, 0.0, 1.0]), [1, -1, 1]),
        (np.array([True, False, True]), [1, -1, 1]),
        (np.array(["dog", "cat", "dog"]), [1, -1, 1]),
        (np.array([[0.0, 1], [1, 0], [0, 1]]), [1, -1, 1]),
        (Counter("dog"), [-1, -1, -1]),
        (Counter("cat"), [1, 1, 1]),
    ):
        found = explained(net, targets)
        np.testing.assert_allclose(found.scores[:, 0], np.array(sign) * y, rtol=1e-5, err_msg=str(targets))
        if not isinstance(targets, Counter):
            assert names(found) == ["dog" if s > 0 else "cat" for s in sign]
            assert found.confidences is not None
    both = explained(net, Predicted(2))
    np.testing.assert_allclose(both.scores, np.sort(np.stack([-y, y], 1))[:, ::-1], rtol=1e-5)
    np.testing.assert_allclose(both.confidences.sum(1), 1, rtol=1e-5)
    with pytest.raises(TargetError, match=r"no class 2; .*class 0 and class 1; .*Regression\(\)"):
        explained(net, 2)


def test_a_loader_of_integer_or_float_labels_fits_one_logit() -> None:
    net = Net(bias=0.1)
    y = logits_of(net)[:, 0]
    for labels in (torch.tensor([1, 0, 0]), torch.tensor([[1.0], [0], [0]]), torch.tensor([1.0, 0, 0])):
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, labels), batch_size=2)
        found = cc.GradCAM(net, "conv").explain(loader)
        np.testing.assert_allclose(found.scores[:, 0], y * [1, -1, -1], rtol=1e-5)
        assert found.maps.any()
        assert says(found, "logit of two classes", ONE_OUTPUT)


@pytest.mark.parametrize("squeezed", [False, True])
def test_one_output_without_a_target_keeps_both_signs_and_names_regression(squeezed: bool) -> None:
    net = Net(bias=-2.0, end=(lambda y: y[:, 0]) if squeezed else None)
    found = explained(net)
    np.testing.assert_allclose(found.maps[:, 0], by_hand(net, lambda y: y), atol=1e-6)
    assert (found.maps < 0).any() or (found.maps > 0).any()
    np.testing.assert_allclose(found.scores, logits_of(net), rtol=1e-5)
    assert names(found) == ["output 0"] * 3
    assert found.confidences is None
    assert says(found, ONE_OUTPUT)
    np.testing.assert_array_equal(found.maps, explained(net, Regression()).maps)
    assert not says(explained(net, Regression()), ONE_OUTPUT)


def test_one_output_with_one_label_is_that_quantity_or_class() -> None:
    net = labelled(Net(), "steering")
    found = explained(net)
    assert names(found) == ["steering"] * 3
    assert says(found, ONE_OUTPUT)
    np.testing.assert_allclose(explained(net, "steering").scores, logits_of(net), rtol=1e-5)
    np.testing.assert_allclose(explained(net, 0).scores, logits_of(net), rtol=1e-5)


@pytest.mark.parametrize("outputs", [2, 6])
def test_several_outputs_that_nothing_calls_classes_are_explained_with_a_finding(outputs: int) -> None:
    net = Net(outputs)
    assert says(explained(net), f"{outputs} outputs are classes", "Regression(0)")
    for targets in (0, Predicted(), Regression(0), lambda y: y[:, 0]):
        assert not says(explained(net, targets), "are classes")
    assert not says(explained(labelled(net, *map(str, range(outputs)))), "are classes")
    assert not says(explained(Net(outputs, end=nn.Softmax(1))), "are classes")


def test_steps_of_one_logit_are_two_classes_too() -> None:
    class Video(nn.Module):
        labels = ("still", "moving")

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.fc = nn.Conv3d(3, 4, 3, 1, 1), nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x).relu().mean((3, 4)).transpose(1, 2)) + torch.tensor(
                [[5.0], [-5], [5]]
            )

    net, clips = Video().eval(), torch.rand(2, 3, 3, 8, 8)
    y = net(clips).detach().numpy()[..., 0]
    method = cc.GradCAM(net, "conv")
    found = method.explain(clips)
    assert names(found) == ["moving (2 of 3 votes)"] * 2
    np.testing.assert_allclose(found.scores[:, 0], y[:, [0, 2]].mean(1), rtol=1e-5)
    every = method.explain(clips, cc.targets.EveryStep())
    np.testing.assert_allclose(every.scores, np.abs(y), rtol=1e-5)
    assert [info.vote for info in every.targets[0]] == [1, 0, 1]
    np.testing.assert_allclose(
        method.explain(clips, cc.targets.Step(1, "still")).scores[:, 0], -y[:, 1], rtol=1e-5
    )
    net.labels = None
    found = method.explain(clips)
    np.testing.assert_allclose(found.scores[:, 0], y.mean(1), rtol=1e-5)
    assert says(found, ONE_OUTPUT)
    assert found.targets[0][0].signed


# A final sigmoid

SIGMOIDS: dict[str, Callable[[Tensor], Any]] = {
    "module": nn.Sigmoid(),
    "function": torch.sigmoid,
    "functional": F.sigmoid,
    "method": lambda y: y.sigmoid(),
    "expit": torch.special.expit,
    "in place": lambda y: torch.sigmoid_(y.clone()),
    "in a dict": lambda y: {"probabilities": torch.sigmoid(y)},
    "flattened": lambda y: torch.sigmoid(y).flatten().reshape(y.shape),
}


@pytest.mark.parametrize("end", SIGMOIDS.values(), ids=SIGMOIDS)
@pytest.mark.parametrize("bias", [20.0, [-0.5, -0.5, 2.944, 0.0, 0.0]])
def test_a_final_sigmoid_is_stepped_over_with_a_finding(end: Any, bias: Any) -> None:
    outputs = len(bias) if isinstance(bias, list) else 1
    net = Net(outputs, bias, end)
    y = logits_of(net)
    method = cc.GradCAM(net, "conv")
    index = outputs // 2 if outputs > 1 else 1
    column = 0 if outputs == 1 else index
    default = cc.GradCAM(net).explain(X, index)
    assert default.layer == "conv"
    for _ in range(2):
        found = method.explain(X, index)
        np.testing.assert_allclose(default.maps, found.maps, atol=1e-6)
        np.testing.assert_allclose(found.scores[:, 0], y[:, column], rtol=1e-5)
        assert found.maps.max() > 1e-5
        np.testing.assert_allclose(
            found.maps[:, 0], by_hand(net, lambda y: y[:, column], signed=False), atol=1e-6
        )
        assert says(found, "before the model's final sigmoid")
        np.testing.assert_allclose(found.confidences[:, 0], 1 / (1 + np.exp(-y[:, column])), rtol=1e-5)


@pytest.mark.parametrize("end", [lambda y: y.sigmoid().squeeze(), lambda y: y.sigmoid()[:, 0]])
def test_a_sigmoid_that_loses_its_axis_is_found_and_its_prediction_is_by_sign(end: Any) -> None:
    net = Net(bias=-3.0, end=end)
    for x in (X, X[:1]):
        found = explained(net, x=x)
        np.testing.assert_allclose(found.scores, -logits_of(net, x), rtol=1e-5)
        assert names(found) == ["class 0"] * len(x)
        np.testing.assert_allclose(found.confidences, 1 / (1 + np.exp(logits_of(net, x))), rtol=1e-5)


@pytest.mark.parametrize("end", [lambda p: p[:, 1], lambda p: p[:, 1:2], lambda p: p.select(1, 1)])
@pytest.mark.parametrize("classes", [2, 4])
def test_one_class_of_a_softmax_is_read_as_its_logit_against_the_others(classes: int, end: Any) -> None:
    net = Net(classes, [0.0, 20.0, *[0.0] * (classes - 2)], lambda y: end(y.softmax(1)))
    y = logits_of(net)
    odds = y[:, 1] - np.log(np.exp(np.delete(y, 1, axis=1)).sum(1))
    for targets in (None, 1, [1, 1, 1]):
        found = explained(net, targets)
        np.testing.assert_allclose(found.scores[:, 0], odds, rtol=1e-4)
        np.testing.assert_allclose(found.confidences[:, 0], 1 / (1 + np.exp(-odds)), rtol=1e-5)
        assert names(found) == ["class 1"] * 3
        assert found.maps.max() > 1e-5
    np.testing.assert_allclose(explained(net, 0).scores[:, 0], -odds, rtol=1e-4)


def test_quantities_after_a_sigmoid_are_what_the_model_returns() -> None:
    net = Net(bias=0.5, end=nn.Sigmoid())
    p = net(X).detach().numpy()
    np.testing.assert_allclose(explained(net, Norm()).scores, p, rtol=1e-5)
    np.testing.assert_allclose(explained(net, Towards(0.5)).scores, -np.abs(p - 0.5), rtol=1e-5)
    assert not says(explained(net, Towards(0.5)), "final sigmoid")
    one = explained(net, Regression())
    np.testing.assert_allclose(one.scores, np.log(p / (1 - p)), rtol=1e-4)
    assert says(one, "before the model's final sigmoid")
    assert one.confidences is None
    loss = NegativeLoss(F.binary_cross_entropy, torch.ones(3, 1))
    np.testing.assert_allclose(explained(net, loss).scores, np.log(p), rtol=1e-4)


def test_a_sigmoid_inside_is_no_final_one() -> None:
    net = Net(2, end=lambda y: y * y.sigmoid())
    found = explained(net, 0)
    np.testing.assert_allclose(found.scores[:, 0], net(X)[:, 0].detach(), rtol=1e-5)
    assert not says(found, "final")


def test_confidence_is_no_softmax_of_probabilities() -> None:
    p = explained(Net(1, 2.0, lambda y: torch.cat([1 - y.sigmoid(), y.sigmoid()], 1)), 1)
    y = logits_of(Net(1, 2.0))
    np.testing.assert_allclose(p.confidences, 1 / (1 + np.exp(-y)), rtol=1e-5)
    softmax = explained(Net(4, end=nn.Softmax(1)), 2)
    np.testing.assert_allclose(
        softmax.confidences[:, 0], Net(4, end=nn.Softmax(1))(X)[:, 2].detach(), rtol=1e-5
    )
    plain = explained(Net(4), 2)
    np.testing.assert_allclose(plain.confidences[:, 0], softmax.confidences[:, 0], rtol=1e-5)
    percent = explained(Net(4, end=lambda y: 100 * y.softmax(1)), 2)
    np.testing.assert_allclose(percent.confidences, softmax.confidences, rtol=1e-4)
    by_exponentials = Net(4, end=lambda y: 1 / (1 + (-y).exp()))
    assert explained(by_exponentials, 2).confidences is None


@pytest.mark.parametrize(("bias", "end"), [(0.9, None), (3.0, nn.Sigmoid()), (0.9, lambda y: y.squeeze())])
@pytest.mark.parametrize("samples", [1, 3])
def test_a_model_is_resumed_with_outputs_that_may_be_probabilities_by_chance(
    bias: float, end: Any, samples: int
) -> None:
    net, x = Net(1, bias, end), X[:samples]
    engine = engine_for(net)
    rest = engine.resume(x, "conv")
    (a,) = rest.activations
    scores = rest(torch.cat([a, a * 100, a * 0]), lambda result: result.logits().reshape(-1, 1))
    heads = [net.fc((a * k).relu().mean((2, 3))) for k in (1, 100, 0)]
    np.testing.assert_allclose(scores, torch.cat(heads).detach(), rtol=1e-4)


# Rows of marks


@pytest.mark.parametrize("kind", [int, np.uint8, bool, np.float32])
@pytest.mark.parametrize("array", [np.asarray, torch.from_numpy])
def test_multi_hot_rows_are_the_sum_of_the_marked_logits(kind: Any, array: Any) -> None:
    net = labelled(Net(5), "a", "b", "c", "d", "e")
    y = logits_of(net)
    given = np.array([[0, 0, 1, 1, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    found = explained(net, array(given.astype(kind)))
    np.testing.assert_allclose(found.scores[:, 0], (y * given).sum(1), rtol=1e-4, atol=1e-6)
    assert names(found) == ["c + d", "a", "a + b + c + d + 1 more"]
    assert [row[0].index for row in found.targets] == [None, 0, None]
    one = explained(net, array(given[:1].astype(kind)), x=X[:1])
    np.testing.assert_allclose(one.scores[0], found.scores[0], rtol=1e-5)
    pieces = explained(net, array(given.astype(kind)), batch_size=1)
    np.testing.assert_allclose(pieces.scores, found.scores, rtol=1e-5)


def test_a_row_that_marks_nothing_is_a_finding() -> None:
    found = explained(Net(3), np.array([[0, 0, 1], [0, 0, 0], [1, 1, 0]]))
    assert found.scores[1, 0] == 0
    assert says(found, "mark no class of sample 1")


def test_two_columns_are_indices_as_integers_and_marks_otherwise() -> None:
    net = Net(2)
    y = logits_of(net)
    given = np.array([[0, 1], [1, 0], [1, 1]])
    np.testing.assert_allclose(explained(net, given).scores, np.take_along_axis(y, given, 1), rtol=1e-5)
    for kind in (bool, float):
        np.testing.assert_allclose(
            explained(net, given.astype(kind)).scores[:, 0], (y * given).sum(1), rtol=1e-5, atol=1e-7
        )


# Lists of labels


def test_as_many_labels_as_samples_are_ambiguous() -> None:
    net = labelled(Net(3), "cat", "dog", "cow")
    for given in (["cat", "dog", "cow"], ("dog", "dog", "dog")):
        with pytest.raises(TargetError) as error:
            explained(net, given)
        assert f'[cc.targets.Class("{given[0]}"), cc.targets.Class("{given[1]}")' in str(error.value)
        assert f'np.array(["{given[0]}", "{given[1]}"' in str(error.value)
        assert "\n" not in str(error.value)
    every = explained(net, [Class("cat"), Class("dog"), Class("cow")])
    np.testing.assert_allclose(every.scores, logits_of(net), rtol=1e-5)
    each = explained(net, np.array(["cow", "dog", "cow"]))
    assert names(each) == ["cow", "dog", "cow"]
    assert each.scores.shape == (3, 1)
    two = explained(net, np.array([["cow", "dog"], ["dog", "cat"], ["cat", "cat"]]))
    assert [[str(info) for info in row] for row in two.targets][1] == ["dog", "cat"]
    assert explained(net, ["cat", "dog"]).scores.shape == (3, 2)


def test_of_one_sample_a_list_is_several_targets() -> None:
    net = labelled(Net(3), "cat", "dog", "cow")
    for given in (["cat", "cow"], [0, 2], (0, 2)):
        found = explained(net, given, x=X[:1])
        assert [str(info) for info in found.targets[0]] == ["cat", "cow"]
    assert explained(net, [2], x=X[:1]).scores.shape == (1, 1)
    assert explained(net, ["cow"], x=X[:1]).scores.shape == (1, 1)


# Several outputs


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda f, y: (f.mean((2, 3)), y), ["(3, 8), (3, 5)", "outputs[1][:, 0]"]),
        (lambda f, y: [f.mean((2, 3)), y], ["list of 2 tensors"]),
        (lambda f, y: (f, y), ["(3, 8, 16, 16), (3, 5)", "output_layer="]),
        (lambda f, y: (f.flatten(2).transpose(1, 2), y), ["(3, 256, 8), (3, 5)"]),
        (lambda f, y: (f, f, y[:, 0]), ["outputs[2]"]),
        (lambda f, y: (y.sum(), y), ["tuple of 2 tensors, (), (3, 5)", "outputs[1][:, 0]"]),
        (
            lambda f, y: [{"boxes": f.mean((2, 3))[i], "scores": y[i]} for i in range(len(y))],
            ["list of 3 dicts", "boxes, scores", "detectors", "one['scores'][0]"],
        ),
    ],
)
def test_several_tensors_of_which_the_first_is_no_scores_are_refused(end: Any, words: list[str]) -> None:
    class Both(Net):
        def forward(self, x: Tensor) -> Any:
            features = self.conv(x).relu()
            return end(features, self.fc(features.mean((2, 3))))

    net = Both(5)
    for targets in (None, 3, [0, 1, 2], Regression(0)):
        with pytest.raises(ModelError) as error:
            explained(net, targets)
        assert "callable target" in str(error.value)
        for word in words:
            assert word in str(error.value)

    def fourth(outputs: Any) -> Tensor:
        if isinstance(outputs[0], dict):
            return torch.stack([one["scores"][3] for one in outputs])
        return outputs[-1] if outputs[-1].ndim == 1 else outputs[-1][:, 3]

    column = 0 if len(words) == 1 and words[0] == "outputs[2]" else 3
    np.testing.assert_allclose(explained(net, fourth).scores[:, 0], logits_of(net)[:, column], rtol=1e-5)
    named = explained(net, 3, output_layer="fc")
    np.testing.assert_allclose(named.scores[:, 0], logits_of(net)[:, 3], rtol=1e-5)


def test_the_first_of_several_that_are_all_scores_is_read_with_a_finding() -> None:
    net = Net(3, end=lambda y: (y, y.repeat(1, 4)))
    found = explained(net, 1)
    np.testing.assert_allclose(found.scores[:, 0], logits_of(net)[:, 1], rtol=1e-5)
    assert says(found, "first, (3, 3)", "(3, 12)")
    assert not says(explained(net, lambda outputs: outputs[1][:, 5]), "the first")
    heads = explained(Net(3, end=lambda y: (y, y[:, :2])), 2)
    np.testing.assert_allclose(heads.scores[:, 0], logits_of(net)[:, 2], rtol=1e-5)
    assert says(heads, "first, (3, 3)", "(3, 2)")
    state = Net(3, end=lambda y: (y, (y[None], y[None])))
    assert not says(explained(state, 1), "the first")
    named = Net(3, end=lambda y: SimpleNamespace(logits=y, hidden=y.repeat(1, 4)))
    assert not says(explained(named, 1), "the first")


class TimeFirst(Net):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.fc = nn.LSTM(8 * 16, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(self.conv(x).permute(3, 0, 1, 2).flatten(2))[0])


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_outputs_with_time_first_are_refused(samples: int) -> None:
    for targets in (cc.targets.Step(1, 3), None, 2, cc.targets.EveryStep(0)):
        with pytest.raises(TargetError, match=rf"16 rows for {samples} samples.*time, batch.*batch_first"):
            explained(TimeFirst(), targets, x=X[:samples])
    found = explained(TimeFirst(), lambda outputs: outputs[5, :, 3], x=X[:samples])
    assert found.scores.shape == (samples, 1)


def test_rows_that_are_no_samples_are_refused() -> None:
    net = Net(5, end=lambda y: y.repeat(7, 1))
    for targets in (None, 3, [0, 1, 2], Regression(0)):
        with pytest.raises(TargetError, match="21 rows for 3 samples"):
            explained(net, targets)


@pytest.mark.parametrize("layer", ["conv", None])
def test_squeezed_outputs_of_one_sample(layer: str | None) -> None:
    net = Net(1, end=lambda y: y.squeeze())
    method = cc.GradCAM(net, layer, batch_size=2)  # the last piece has one sample
    for targets in (Regression(), None, 1, lambda y: y):
        found = method.explain(X, targets)
        alone = method.explain(X[2:], targets)
        np.testing.assert_allclose(found.scores, logits_of(net), rtol=1e-5)
        np.testing.assert_allclose(alone.maps[0], found.maps[2], atol=1e-6)
    classes = Net(4, end=lambda y: y.squeeze())
    np.testing.assert_allclose(
        explained(classes, 2, x=X[:1]).scores[0], logits_of(classes, X[:1])[0, 2], rtol=1e-5
    )


# Callables and losses


@pytest.mark.parametrize("batch_size", [1, 2, None])
def test_a_callable_of_two_parameters_gets_the_numbers_of_its_rows(batch_size: int | None) -> None:
    net, reference = Net(4), torch.arange(12.0).reshape(3, 4)
    seen: list[list[int]] = []

    def near(outputs: Tensor, rows: np.ndarray) -> Tensor:
        seen.append(rows.tolist())
        return -(outputs - reference[rows]).square().sum(1)

    found = explained(net, near, batch_size=batch_size)
    expected = -(torch.from_numpy(logits_of(net)) - reference).square().sum(1)
    np.testing.assert_allclose(found.scores[:, 0], expected, rtol=1e-5)
    assert sorted({row for rows in seen for row in rows}) == [0, 1, 2]
    bound = explained(net, lambda outputs, column=2: outputs[:, column])
    np.testing.assert_allclose(bound.scores[:, 0], logits_of(net)[:, 2], rtol=1e-5)


OUTPUTS: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    "a dict": (lambda y: {"a": y, "b": y * 2}, lambda o: o["b"]),
    "a dict with logits": (lambda y: {"logits": y, "b": y * 2}, lambda o: o["b"]),
    "a tuple": (lambda y: (y[..., None, None], y * 2), lambda o: o[1]),
    "a tuple of scores": (lambda y: (y, y * 2), lambda o: o[1]),
    "an object": (lambda y: SimpleNamespace(a=y, b=y * 2), lambda o: o.b),
}


@pytest.mark.parametrize(("end", "read"), OUTPUTS.values(), ids=OUTPUTS)
def test_a_loss_gets_all_that_the_model_returned(end: Any, read: Any) -> None:
    net, y = Net(3, end=end), torch.tensor([2, 0, 1])
    found = explained(net, NegativeLoss(lambda o, y: F.cross_entropy(read(o), y), y))
    expected = -F.cross_entropy(2 * torch.from_numpy(logits_of(net)), y, reduction="none")
    np.testing.assert_allclose(found.scores[:, 0], expected, rtol=1e-5)


def test_a_loss_that_fails_by_itself_says_why() -> None:
    with pytest.raises(ValueError, match="mine"):
        explained(Net(3), NegativeLoss(lambda o, y: (_ for _ in ()).throw(ValueError("mine")), np.zeros(3)))


# Regions


class Dense(nn.Module):
    labels = ("road", "sky", "person")

    def __init__(self, end: Any = None, rank: int = 2, outputs: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[rank]
        self.conv, self.head = conv(3, 6, 3, 2, 1), conv(6, outputs, 1)
        self.end = end or (lambda y, x: y)
        self.eval()

    def forward(self, x: Tensor) -> Any:
        return self.end(self.head(self.conv(x).relu()), x)


MASKS = np.zeros((3, 16, 16), bool)
MASKS[0, :4], MASKS[1, 5:9, 3:], MASKS[2, 15, 15] = True, True, True


def mean_over(y: Any, masks: np.ndarray) -> np.ndarray:
    return np.array([row[mask].mean() for row, mask in zip(y, masks, strict=True)])


@pytest.mark.parametrize("batch_size", [2, None])
def test_each_sample_has_its_own_mask(batch_size: int | None) -> None:
    net = Dense()
    y = net(X).detach().numpy()[:, 2]
    for masks in (MASKS, torch.from_numpy(MASKS), MASKS.astype(np.uint8)):
        found = explained(net, Region(masks, "person"), batch_size=batch_size)
        np.testing.assert_allclose(found.scores[:, 0], mean_over(y, MASKS), rtol=1e-5)
        assert names(found) == ["region of person"] * 3
    with pytest.raises(TargetError, match="the mask has 2 rows"):
        explained(net, Region(MASKS[:2], 0))
    with pytest.raises(TargetError, match="the mask has 4 rows; expected 3, one per sample"):
        explained(net, Region(np.concatenate([MASKS, MASKS[:1]]), 0), batch_size=batch_size)
    with pytest.raises(TargetError, match="mask of sample 1 is empty"):
        explained(net, Region(MASKS * np.array([1, 0, 1])[:, None, None], 0))
    with pytest.raises(TargetError, match="no label `cow`"):
        explained(net, Region(MASKS, "cow"))


def test_a_mask_of_the_inputs_size_counts_by_the_share_of_each_cell() -> None:
    net, fine = Dense(), MASKS[1].repeat(2, 0).repeat(2, 1)
    same = explained(net, Region(MASKS[1], 1))
    found = explained(net, Region(fine, 1))
    np.testing.assert_allclose(found.scores, same.scores, rtol=1e-5)
    np.testing.assert_allclose(found.maps, same.maps, atol=1e-6)
    each = explained(net, Region(MASKS.repeat(2, 1).repeat(2, 2), 1))
    np.testing.assert_allclose(each.scores, explained(net, Region(MASKS, 1)).scores, rtol=1e-5)
    odd = np.zeros((32, 32), bool)
    odd[3:10, 5:20] = True
    shares = odd.reshape(16, 2, 16, 2).mean((1, 3))
    expected = (net(X)[:, 1].detach().numpy() * shares).sum((1, 2)) / shares.sum()
    np.testing.assert_allclose(explained(net, Region(odd, 1)).scores[:, 0], expected, rtol=1e-5)
    with pytest.raises(TargetError, match=r"\(32, 16\)"):
        explained(net, Region(odd[:, :16], 1))


def test_the_region_of_a_predicted_class() -> None:
    net = Dense()
    net.head.bias.data -= net(X).mean((0, 2, 3)).detach()  # so that each class is predicted somewhere
    y = net(X).detach().numpy()
    masks = y.argmax(1) == 2
    assert masks.any((1, 2)).all()
    for channel in ("person", 2):
        found = explained(net, Region.predicted(channel))
        np.testing.assert_allclose(found.scores[:, 0], mean_over(y[:, 2], masks), rtol=1e-5)
        assert names(found) == ["predicted person"] * 3
    net.head.bias.data[2] = -100
    with pytest.raises(TargetError, match="nothing predicted as person in any sample"):
        explained(net, Region.predicted("person"))
    one = Dense(outputs=1)
    one.head.bias.data -= one(X).mean().detach()
    one.labels = ("background", "lesion")
    y = one(X).detach().numpy()[:, 0]
    np.testing.assert_allclose(
        explained(one, Region.predicted("lesion")).scores[:, 0], mean_over(y, y > 0), rtol=1e-4
    )
    np.testing.assert_allclose(
        explained(one, Region.predicted("background")).scores[:, 0], -mean_over(y, y <= 0), rtol=1e-4
    )
    np.testing.assert_allclose(
        explained(one, Region(MASKS, "background")).scores[:, 0], -mean_over(y, MASKS), rtol=1e-4
    )


DENSE_ENDS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "sigmoid": lambda y, x: y.sigmoid(),
    "in place": lambda y, x: torch.sigmoid_(y),
    "sigmoid without channels": lambda y, x: torch.sigmoid(y)[:, 0],
    "masks of several levels": lambda y, x: tuple(torch.sigmoid(y + k) for k in range(7)),
    "softmax": lambda y, x: y.softmax(1),
    "log_softmax": lambda y, x: F.log_softmax(y, 1),
}


@pytest.mark.parametrize("end", DENSE_ENDS)
def test_a_final_gate_of_a_dense_output_is_stepped_over_with_a_finding(end: str) -> None:
    gate = "softmax" if "softmax" in end else "sigmoid"
    outputs = 1 if gate == "sigmoid" else 3
    net = Dense(DENSE_ENDS[end], outputs=outputs)
    net.head.bias.data += 20.0  # where a sigmoid lets no gradient through
    y = Dense(outputs=outputs)(X).detach().numpy()[:, -1] + 20
    method = cc.GradCAM(net, "conv")
    target = Region(MASKS) if outputs == 1 else Region(MASKS, outputs - 1)
    for _ in range(2):
        found = method.explain(X, target)
        np.testing.assert_allclose(found.scores[:, 0], mean_over(y, MASKS), rtol=1e-5)
        assert np.abs(found.maps).max() > 1e-5
        assert says(found, f"before the model's final {gate}")
    plain = cc.GradCAM(Dense(outputs=outputs), "conv").explain(X, target)
    np.testing.assert_allclose(found.maps, plain.maps, atol=1e-6)
    np.testing.assert_allclose(cc.GradCAM(net).explain(X, target).maps, plain.maps, atol=1e-6)


def test_a_region_that_a_sigmoid_predicts_lies_above_a_half() -> None:
    net = Dense(DENSE_ENDS["sigmoid"], outputs=1)
    net.head.weight.data *= 0.01
    net.head.bias.data[:] = 0.2  # logits between 0 and 1, as probabilities are
    y = Dense(outputs=1)
    y.load_state_dict(net.state_dict())
    found = explained(net, Region.predicted(1))
    np.testing.assert_allclose(found.scores[:, 0], y(X).mean((1, 2, 3)).detach(), rtol=1e-5)


def test_quantities_of_dense_outputs_and_rows_of_boxes_stay_what_the_model_returns() -> None:
    net = Dense(DENSE_ENDS["sigmoid"], outputs=1)
    found = explained(net, Norm())
    np.testing.assert_allclose(found.scores[:, 0], net(X).flatten(1).norm(dim=1).detach(), rtol=1e-5)
    assert not says(found, "final sigmoid")
    rows = Dense(lambda y, x: y.flatten(2).transpose(1, 2).sigmoid())
    assert not says(explained(rows, Step(3, 1)), "final sigmoid")
    np.testing.assert_allclose(explained(rows, Step(3, 1)).scores[:, 0], rows(X)[:, 3, 1].detach(), rtol=1e-5)


def test_noisy_looks_explain_the_region_that_was_predicted() -> None:
    net = Dense()
    net.head.bias.data -= net(X).mean((0, 2, 3)).detach()
    seen: list[int] = []

    class Watched(Region):
        def __call__(self, outputs: Any) -> Any:
            scored = super().__call__(outputs)
            seen.append(int((torch.as_tensor(outputs.choosing).argmax(1) == 2).sum()))
            return scored

    cc.SmoothGrad(net).explain(X[:1], Watched("predicted", "person"))
    assert len(seen) > 2
    assert len(set(seen)) == 1


def test_volumes_take_masks_of_their_own_rank() -> None:
    net, x = Dense(rank=3), torch.rand(2, 3, 8, 16, 16)
    y = net(x).detach().numpy()[:, 1]
    masks = np.zeros((2, 4, 8, 8), bool)
    masks[0, 1, 2:5], masks[1, 2:] = True, True
    for where, expected in (
        (masks, masks),
        (masks[0], masks[[0, 0]]),
        (masks.repeat(2, 1).repeat(2, 2).repeat(2, 3), masks),
    ):
        found = explained(net, Region(where, "sky"), x=x)
        np.testing.assert_allclose(found.scores[:, 0], mean_over(y, expected), rtol=1e-5)
    plain = Dense(lambda y, x: y[:, 1], rank=3)
    np.testing.assert_allclose(
        explained(plain, Region(masks), x=x).scores[:, 0], mean_over(y, masks), rtol=1e-5
    )


@pytest.mark.parametrize(
    "end",
    [
        lambda y, x: {"out": y, "aux": y * 2},
        lambda y, x: (y, y.mean((2, 3))),
        lambda y, x: {"masks": y, "label": y.mean((2, 3))},
    ],
)
def test_the_dense_one_of_several_outputs_is_meant(end: Any) -> None:
    net = Dense(end)
    y = Dense()(X).detach().numpy()[:, 2]
    np.testing.assert_allclose(explained(net, Region(MASKS, 2)).scores[:, 0], mean_over(y, MASKS), rtol=1e-5)


def test_a_squeezed_dense_output_of_one_sample() -> None:
    net = Dense(lambda y, x: y[:, 0].squeeze())
    y = Dense()(X).detach().numpy()[:, 0]
    found = explained(net, Region(MASKS[1]), x=X[1:2])
    np.testing.assert_allclose(found.scores[0], y[1][MASKS[1]].mean(), rtol=1e-5)


# What is noticed about the model and its inputs


class Drops(nn.Module):
    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.conv, self.more = nn.Conv2d(3, 8, 3, 2, 1), nn.Sequential(*modules)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.more(self.conv(x)).relu().mean((2, 3)))


@pytest.mark.parametrize(
    ("module", "name"), [(nn.BatchNorm2d(8), "BatchNorm2d"), (nn.Dropout(0.5), "Dropout")]
)
def test_training_mode_is_a_finding(module: nn.Module, name: str) -> None:
    net = Drops(module)
    assert says(explained(net, 0), "training mode", name, "model.eval()")
    net.more.eval()
    assert not says(explained(net, 0), "training mode")
    assert not says(explained(Drops(nn.Dropout(0.0), nn.GroupNorm(2, 8)), 0), "training mode")


def test_raw_pixels_are_a_finding() -> None:
    net = Net(3)
    assert says(explained(net, 0, x=(X * 255).round()), "inputs reach 255", "−3 to 3")
    assert says(
        cc.GradCAM(Dense(rank=3), "conv").explain(
            torch.rand(1, 3, 4, 8, 8) * 255, Region(np.ones((2, 4, 4), bool), 0)
        ),
        "inputs reach",
    )
    for x in (X, X * 6 - 3, X * 255 - 120):
        assert not says(explained(net, 0, x=x), "inputs reach")
    scaled = nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()
    assert not says(cc.GradCAM(scaled, "1").explain(X * 255, 0), "inputs reach")


class AsConvolution(nn.Module):
    """A head of 1 × 1 convolutions behind global pooling, whose outputs keep two axes of length 1."""

    def __init__(self, width: int, end: nn.Module) -> None:
        super().__init__()
        self.f, self.end = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()), end
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.head(self.pool(self.f(x))))


@pytest.mark.parametrize("target", [None, 1, cc.targets.Regression(0), cc.targets.Contrast(0, 1)])
@pytest.mark.parametrize(("width", "end"), [(5, nn.Identity()), (1, nn.Identity()), (5, nn.Softmax(1))])
def test_outputs_of_one_cell_are_a_row(width: int, end: nn.Module, target: Any) -> None:
    net = seeded(lambda: AsConvolution(width, end))
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = cc.GradCAM(net).explain(x, target)
    rows = cc.GradCAM(seeded(lambda: nn.Sequential(AsConvolution(width, end), nn.Flatten())), "0.f")
    expected = rows.explain(x, target)
    assert (found.layer, found.targets) == ("f", expected.targets)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-4, atol=1e-8)
    assert (found.confidences is None) == (expected.confidences is None)
    if found.confidences is not None:
        np.testing.assert_allclose(found.confidences, expected.confidences, rtol=1e-5)


def test_finer_cam_of_outputs_of_one_cell() -> None:
    net, x = seeded(lambda: AsConvolution(5, nn.Identity())), torch.rand(1, 3, 16, 16)
    row = seeded(lambda: nn.Sequential(AsConvolution(5, nn.Identity()), nn.Flatten()))
    np.testing.assert_allclose(
        cc.FinerCAM(net).explain(x, 1).maps, cc.FinerCAM(row, "0.f").explain(x, 1).maps, rtol=1e-4, atol=1e-8
    )


def test_targets_that_are_given_one_by_one_are_told_how_to_be_given() -> None:
    with pytest.raises(TypeError) as error:
        cc.GradCAM(seeded(lambda: AsConvolution(5, nn.Identity()))).explain(torch.rand(1, 3, 16, 16), 3, 4)
    one_line(error, "3 arguments were given", "[cc.targets.Class(3), cc.targets.Class(4)]", "a tuple")
