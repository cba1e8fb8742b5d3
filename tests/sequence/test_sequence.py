"""Explanations of sequences: gradients by calculus, what is read from relevance by hand, inputs, files."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import seeded
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

import chronocam as cc
from chronocam.errors import InputError, MediaError, ModelError, TargetError
from chronocam.sequence import (
    LRP,
    METHODS,
    Gradient,
    GradientXInput,
    IntegratedGradients,
    SequenceExplanation,
    SmoothGrad,
    load,
)
from chronocam.sequence.settling import horizon, most_relevant, settled_at, similarity
from chronocam.targets import EveryStep, MajorityVote, Step
from chronocam.targets.steps import StepInfo
from chronocam.types import TargetInfo

T, IN, CLASSES = 5, 4, 3


class Net(nn.Module):
    """Logits at every step, or after the last one."""

    def __init__(
        self, per_step: bool = True, batch_first: bool = True, dtype: torch.dtype = torch.float64
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gru, self.head = nn.GRU(IN, 6, batch_first=batch_first), nn.Linear(6, CLASSES)
        self.per_step, self.time = per_step, 1 if batch_first else 0
        self.to(dtype).eval()

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.gru(x)
        return self.head(states if self.per_step else states.select(self.time, -1))


def features(batch: int = 2, seed: int = 1, steps: int = T) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(batch, steps, IN))


def autograd(model: Any, x: np.ndarray) -> np.ndarray:
    """∂y[b, t, 1]/∂x[b], (batch, step, time, feature), one backward pass each."""
    leaf = torch.from_numpy(x).requires_grad_()
    logits = model(leaf)
    rows = [
        [torch.autograd.grad(y[t, 1], leaf, retain_graph=True)[0][b] for t in range(T)]
        for b, y in enumerate(logits)
    ]
    return np.stack([torch.stack(row).numpy() for row in rows])


# --- gradient methods
# ----------------------------------------------------------------------------------------------


def test_gradients_are_those_of_autograd() -> None:
    model, x = Net(), features()
    expected = autograd(model, x)
    found = Gradient(model).explain(x, EveryStep(1))
    assert np.allclose(found.relevance, expected, rtol=0, atol=1e-14)
    assert found.ledger == {}
    assert np.allclose(found.scores, model(torch.from_numpy(x))[..., 1].detach(), rtol=0, atol=1e-14)
    times = GradientXInput(model).explain(x, EveryStep(1))
    assert np.allclose(times.relevance, expected * x[:, None], rtol=0, atol=1e-14)
    assert np.allclose(times.ledger["input"], (expected * x[:, None]).sum(axis=(2, 3)), rtol=0, atol=1e-13)
    assert np.allclose(sum(times.ledger.values()), found.scores, rtol=0, atol=1e-13)


def test_more_targets_than_a_pass_takes_are_all_explained() -> None:
    x = features(1, steps=40)
    found = Gradient(Net()).explain(x, EveryStep(2))
    assert found.relevance.shape == (1, 40, 40, IN)
    alone = Gradient(Net()).explain(x, Step(37, 2))
    assert np.allclose(found.relevance[:, 37], alone.relevance[:, 0], rtol=0, atol=1e-15)


def test_smoothgrad_is_the_mean_gradient_of_noisy_inputs() -> None:
    model, x = Net(), features()
    found = SmoothGrad(model, samples=11, noise=0.2, seed=3).explain(x, EveryStep(1))
    for sample in range(2):
        rng, spread = np.random.default_rng(3), 0.2 * (x[sample].max() - x[sample].min())
        noisy = [x[sample : sample + 1] + spread * rng.standard_normal((T, IN)) for _ in range(11)]
        expected = np.mean([autograd(model, one)[0] for one in noisy], axis=0)
        assert np.allclose(found.relevance[sample], expected, rtol=0, atol=1e-13)
    for change in ({"samples": 12}, {"noise": 0.3}, {"seed": 4}):
        options: Any = {"samples": 11, "noise": 0.2, "seed": 3} | change
        assert not np.allclose(
            SmoothGrad(model, **options).explain(x, EveryStep(1)).relevance, found.relevance
        )


def test_noise_does_not_change_the_class_that_is_explained() -> None:
    model, x = Net(), features()
    chosen = model(torch.from_numpy(x)).argmax(dim=2).numpy()
    found = SmoothGrad(model, noise=3.0).explain(x)
    assert np.array_equal([[info.index for info in row] for row in found.targets], chosen)
    for step in range(T):
        same = SmoothGrad(model, noise=3.0).explain(x, [Step(step, int(chosen[0, step]))])
        assert np.allclose(found.relevance[0, step], same.relevance[0, 0], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "baselines", ["zero", "mean", ["zero", "mean"], np.full(IN, 0.3), [features(1, seed=9)[0], "zero"]]
)
def test_integrated_gradients_are_complete(baselines: Any) -> None:
    model, x = Net(), 3 * features()
    found = IntegratedGradients(model, baselines=baselines, steps=40).explain(
        x, [EveryStep(1), MajorityVote()]
    )
    assert np.abs(found.ledger["gap"]).max() < 1e-6
    assert np.allclose(sum(found.ledger.values()), found.scores, rtol=0, atol=1e-12)
    assert np.allclose(found.ledger["input"], found.relevance.sum(axis=(2, 3)), rtol=0, atol=1e-12)
    assert found.diagnostics == ()
    given = baselines if isinstance(baselines, list) else [baselines]
    named = {"zero": np.zeros_like(x), "mean": x.mean(axis=1, keepdims=True) + np.zeros_like(x)}
    origins = [named[b] if isinstance(b, str) else np.broadcast_to(b, x.shape) for b in given]
    starts = np.mean([model(torch.from_numpy(o.copy()))[..., 1].detach().numpy() for o in origins], axis=0)
    assert np.allclose(found.ledger["baseline"][:, :T], starts, rtol=0, atol=1e-12)


def test_integrated_gradients_are_a_riemann_sum_in_the_limit() -> None:
    model, x = Net(), features(1)
    found = IntegratedGradients(model, steps=60).explain(x, EveryStep(1)).relevance
    alphas = (np.arange(100) + 0.5) / 100
    expected = np.mean([autograd(model, a * x) for a in alphas], axis=0) * x[:, None]
    assert np.allclose(found, expected, atol=1e-6)


def test_too_few_steps_are_said() -> None:
    model, x = Net(), 30 * features()
    found = IntegratedGradients(model, steps=2).explain(x, EveryStep(1))
    assert any("miss up to" in note and "2 steps" in note for note in found.diagnostics)
    assert not np.allclose(
        found.relevance, IntegratedGradients(model, steps=3).explain(x, EveryStep(1)).relevance
    )


# --- every method
# --------------------------------------------------------------------------------------------------

EVERY = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def test_every_method_is_registered_and_states_its_source() -> None:
    assert set(METHODS) == {"lrp", "gradient", "gradientxinput", "integratedgradients", "smoothgrad"}
    for method in METHODS.values():
        assert getattr(cc.sequence, method.__name__) is method
        assert "Source:" in (method.__doc__ or "")


@EVERY
def test_a_batch_is_its_samples_one_by_one(method: Any) -> None:
    model, x = Net(), features(3)
    batch = method(model).explain(x)
    assert batch.relevance.shape == (3, T, T, IN)
    for sample in range(3):
        alone = method(model).explain(x[sample : sample + 1])
        assert np.array_equal(batch.relevance[sample], alone.relevance[0])
        assert batch.targets[sample] == alone.targets[0]
        assert all(np.array_equal(batch.ledger[k][sample], alone.ledger[k][0]) for k in batch.ledger)


@EVERY
def test_each_sample_has_its_own_class(method: Any) -> None:
    model, x = Net(per_step=False), features(3)
    found = method(model).explain(x, [2, 0, 1])
    every = method(model).explain(x, [cc.targets.Class(c) for c in range(CLASSES)])
    for sample, chosen in enumerate([2, 0, 1]):
        assert np.allclose(found.relevance[sample, 0], every.relevance[sample, chosen], rtol=0, atol=1e-15)


@EVERY
def test_whole_numbers_are_features_too(method: Any) -> None:
    whole = np.arange(2 * T * IN).reshape(2, T, IN) % 3
    found, expected = (method(Net()).explain(x).relevance for x in (whole, whole.astype(float)))
    assert np.array_equal(found, expected)


@EVERY
def test_nothing_after_a_step_has_relevance_for_it(method: Any) -> None:
    found = method(Net()).explain(features(), EveryStep(0)).relevance
    for step in range(T):
        assert not found[:, step, step + 1 :].any()
        assert found[:, step, : step + 1].any(axis=2).all()


@EVERY
def test_precision_is_the_models(method: Any) -> None:
    x = features()
    single, double = method(Net(dtype=torch.float32)).explain(x), method(Net()).explain(x)
    assert (single.relevance.dtype, double.relevance.dtype) == (np.float32, np.float64)
    assert np.allclose(single.relevance, double.relevance, atol=1e-5)


@EVERY
def test_time_first_models_have_the_same_relevance(method: Any) -> None:
    first, x = Net(), features(2)
    for per_step in (True, False):
        first.per_step = per_step
        turned = Net(per_step, batch_first=False)
        turned.load_state_dict(first.state_dict())
        found = method(turned, batch_first=False).explain(x)
        assert np.allclose(found.relevance, method(first).explain(x).relevance, rtol=0, atol=1e-14)


@EVERY
def test_logits_are_read_before_a_final_softmax(method: Any) -> None:
    class Probable(Net):
        def forward(self, x: Tensor) -> Tensor:
            return torch.softmax(super().forward(x), dim=-1)

    found, plain = (method(kind()).explain(features(), EveryStep(1)) for kind in (Probable, Net))
    assert np.array_equal(found.relevance, plain.relevance)
    assert np.array_equal(found.scores, plain.scores)
    assert found.diagnostics == ("scores are logits, read before the model's final softmax",)


@EVERY
def test_what_the_model_takes_besides_is_given_to_it(method: Any) -> None:
    class Packing(Net):
        def forward(self, x: Any, lengths: Tensor | None = None, gain: Any = 1.0) -> Tensor:  # type: ignore[override]
            if lengths is not None:
                x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            states, _ = pad_packed_sequence(self.gru(x)[0], batch_first=True)
            return gain * self.head(states).sum(dim=1)

    model, x, lengths = Packing(), features(3), [3, 5, 2]
    found = method(model).explain((x, torch.tensor(lengths), 2.0), 1)
    packed = pack_sequence([torch.from_numpy(x[k, :n]) for k, n in enumerate(lengths)], enforce_sorted=False)
    half = method(model).explain(packed, 1)
    assert np.allclose(half.scores * 2, found.scores, rtol=0, atol=1e-14)
    for k, n in enumerate(lengths):
        assert half.relevance[k, 0, :n].any(axis=1).all()
        assert not half.relevance[k, :, n:].any()
        if (
            method is not SmoothGrad and method is not LRP
        ):  # ε is not scaled, and the padding changes the range
            assert np.allclose(half.relevance[k] * 2, found.relevance[k], rtol=0, atol=1e-13)
    with pytest.raises(TargetError, match=r"3, 5, 2, … targets.*one by one"):
        method(Ragged(model)).explain(packed)


class Ragged(nn.Module):
    """Logits after every step of packed sequences."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Any) -> Tensor:
        return self.net.head(pad_packed_sequence(self.net.gru(x)[0], batch_first=True)[0])


@EVERY
def test_callables_see_what_the_model_returns(method: Any) -> None:
    class Dicts(Net):
        def forward(self, x: Tensor) -> Any:
            logits = super().forward(x)
            return {"logits": logits, "twice": 2 * logits}

    def twice(raw: Any) -> Tensor:
        return raw["twice"][:, -1, 1]

    found = method(Dicts()).explain(features(), [twice, Step(-1, 1)])
    assert np.allclose(found.scores[:, 0], 2 * found.scores[:, 1])
    assert np.allclose(found.relevance[:, 0], 2 * found.relevance[:, 1], rtol=0, atol=1e-14)


@EVERY
def test_models_that_switch_gradients_off_are_explained(method: Any) -> None:
    class Careful(Net):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return super().forward(x)

    model = Careful()
    with torch.inference_mode():
        found = method(model).explain(features())
    assert np.array_equal(found.relevance, method(Net()).explain(features()).relevance)


@pytest.mark.parametrize("method", [LRP, Gradient])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (features()[0], ["(5, 4)", "(batch, time, feature)", "features[None]"]),
        (np.arange(10).reshape(2, 5), ["(2, 5)", "ids of tokens", "after its embedding"]),
        (np.zeros((2, 0, 4)), ["(2, 0, 4)"]),
        (np.zeros((2, 3, 4, 4)), ["(2, 3, 4, 4)"]),
        (np.zeros((2, 5, 7)), ["fails on features of shape (1, 5, 7)", "batch_first="]),
        ([[1.0]], ["list"]),
        ("features.npy", ["str"]),
        (np.where(features() > 1.5, np.nan, features()), ["NaN", "(5, 4)"]),
    ],
)
def test_bad_features_are_refused(method: Any, given: Any, words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        method(Net()).explain(given)
    assert all(word in str(error.value) for word in words), error.value


@EVERY
def test_steps_taken_for_a_batch_are_noticed(method: Any) -> None:
    with pytest.raises(
        InputError, match=r"GRU\(batch_first=False\) gets \(1, 5, 4\).*5 steps for a batch.*=False"
    ):
        method(Net(batch_first=False)).explain(features())
    with pytest.raises(InputError, match=r"GRU\(batch_first=True\) gets \(5, 1, 4\).*=True"):
        method(Net(), batch_first=False).explain(features())


def test_gradients_of_several_passes_are_kept_where_the_last_one_does_not_depend_on_the_features() -> None:
    """Of 21 points the first 16 are one pass; near the end of the way the model leaves the features out."""

    class Cut(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.detach() if float(x.detach().abs().max()) > 0.9 else x)

    model, x = Cut(per_step=False), features(1) / np.abs(features(1)).max()
    found = IntegratedGradients(model, steps=20).explain(x, 1).relevance[0, 0]
    nodes, weights = np.polynomial.legendre.leggauss(20)
    expected = np.zeros_like(x[0])
    for node, weight in zip(nodes[:15], weights[:15], strict=True):
        leaf = torch.from_numpy((node + 1) / 2 * x).requires_grad_()
        expected += weight / 2 * torch.autograd.grad(Net(per_step=False)(leaf)[0, 1], leaf)[0][0].numpy()
    np.testing.assert_allclose(found, expected * x[0], rtol=0, atol=1e-14)


@EVERY
def test_other_mistakes_are_refused(method: Any) -> None:
    class Constant(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.detach() * 0 + 1).detach()

    class Aside(Net):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            return self.head.weight.sum(dim=1).expand(len(x), -1)  # of parameters alone

    with pytest.raises(ModelError, match="do not depend on the features"):
        method(Constant()).explain(features())
    with pytest.raises(ModelError, match=r"the scores \(.*do not depend on the features \(.*5, 4\)") as error:
        method(Aside()).explain(features())
    assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match=r"expected a torch\.nn\.Module"):
        method(object())
    with pytest.raises(TargetError, match=r"outputs have shape \(1, 3\) and no time axis"):
        method(Net(per_step=False)).explain(features(), Step(0, 1))
    with pytest.raises(TargetError, match="no step 5"):
        method(Net()).explain(features(), Step(5, 1))


def test_options_are_checked() -> None:
    model = Net()
    for make, words in [
        (lambda: IntegratedGradients(model, steps=0), "steps is 0"),
        (lambda: IntegratedGradients(model, baselines=[]), "baselines is empty"),
        (lambda: SmoothGrad(model, samples=0), "samples is 0"),
        (lambda: SmoothGrad(model, noise=-1), "noise is -1"),
        (lambda: IntegratedGradients(model, baselines="zeros").explain(features()), "did you mean `zero`"),
        (
            lambda: IntegratedGradients(model, baselines=np.ones(3)).explain(features()),
            r"shape \(3,\); expected \(4,\)",
        ),
    ]:
        with pytest.raises(InputError, match=words):
            make()


# --- what is read from relevance
# -----------------------------------------------------------------------------------


def explained(relevance: Any, votes: Any = None, steps: Any = None) -> SequenceExplanation:
    """Return an explanation of every step with this relevance `(batch, step, time, feature)`."""
    relevance = np.asarray(relevance, dtype=float)
    batch, columns = relevance.shape[:2]
    votes = np.zeros((batch, columns), dtype=int) if votes is None else votes
    steps = range(columns) if steps is None else steps
    infos = tuple(
        tuple(StepInfo("c", 0, s, int(v)) for s, v in zip(steps, row, strict=True)) for row in votes
    )
    return SequenceExplanation(relevance, np.zeros((batch, columns)), infos, "lrp")


def diagonal(profiles: Any) -> np.ndarray:
    """Return relevance `(1, step, time, feature)` whose own part at each step is the given profile."""
    profiles = np.asarray(profiles, dtype=float)
    relevance = np.zeros((1, len(profiles), len(profiles), profiles.shape[1]))
    for step, profile in enumerate(profiles):
        relevance[0, step, step] = profile
        relevance[0, step, 0, 2] += 7 if step else 0
    return relevance


PROFILES = [[0, 1, 0], [1, 1, 0], [3, 4, 0], [4, 3, 0]]


def test_own_summed_steady_and_voted_profiles_by_hand() -> None:
    found = explained(diagonal(PROFILES), votes=[[1, 0, 0, 2]])
    assert found.own()[0].tolist() == PROFILES
    assert found.summed()[0].tolist() == [[0, 1, 0], [1, 1, 7], [3, 4, 7], [4, 3, 7]]
    assert found.steady_state().tolist() == [[4, 3, 0]]
    assert found.steady_state(last=0.5).tolist() == [[3.5, 3.5, 0]]
    assert found.steady_state(last=0.01, of="summed").tolist() == [[4, 3, 7]]
    assert found.voted().tolist() == [[2, 2.5, 0]]
    assert found.voted(of="summed").tolist() == [[2, 2.5, 7]]
    assert found.votes.tolist() == [[1, 0, 0, 2]]
    assert explained(diagonal(PROFILES), votes=[[1, 0, 1, 0]]).voted().tolist() == [[2.5, 2, 0]]


def test_settling_by_hand() -> None:
    found = explained(diagonal(PROFILES)).settling(tolerance=0.05, k=1)
    assert found.steady.tolist() == [[4, 3, 0]]
    assert np.allclose(found.similarity.cosine, [[0.6, 7 / (5 * np.sqrt(2)), 24 / 25, 24 / 25]])
    assert np.allclose(found.similarity.spearman, [[0, np.sqrt(3) / 2, 0.5, 0.5]])
    assert found.similarity.jaccard.tolist() == [[0, 1, 0, 0]]  # of two equal ones the first
    assert found.settled.tolist() == [1]
    assert found.steps.tolist() == [0, 1, 2, 3]
    of_two = explained(diagonal(PROFILES)).settling(k=2)
    assert np.allclose(of_two.similarity.jaccard, [[1, 1, 1, 1]])
    assert np.allclose(of_two.chance.jaccard, 1 / 3 * 2 / 3 + 1 / 3)  # 1 of 2 is common in 2 of 3 choices
    to_other = explained(diagonal(PROFILES)).settling(steady=[0.0, 1.0, 0.0], tolerance=0.3)
    assert np.allclose(to_other.similarity.cosine, [[1, np.sqrt(0.5), 0.8, 0.6]])
    assert to_other.settled.tolist() == [-1]
    assert explained(diagonal(PROFILES)).settling(last=1.0).steady.tolist() == [[2, 2.25, 0]]
    assert explained(diagonal(PROFILES)).settling(of="summed").steady.tolist() == [[4, 3, 7]]


def test_a_step_is_left_out_of_the_steady_state_it_is_compared_with() -> None:
    found = explained(diagonal(PROFILES)).settling(last=0.5)
    others = [[3.5, 3.5, 0], [3.5, 3.5, 0], [4, 3, 0], [3, 4, 0]]
    by_hand = [
        np.dot(one, other) / np.linalg.norm(one) / np.linalg.norm(other)
        for one, other in zip(PROFILES, others, strict=True)
    ]
    assert np.allclose(found.similarity.cosine, [by_hand])
    assert found.steady.tolist() == [[3.5, 3.5, 0]]


@pytest.mark.parametrize("steps", [3, 4, 7, 16, 53])
def test_unrelated_steps_are_as_alike_as_chance_at_every_step(steps: int) -> None:
    profiles = np.random.default_rng(steps).standard_normal((steps, 2000))
    found = explained(diagonal(profiles)).settling()
    assert found.settled.tolist() == [-1]
    assert np.abs(found.similarity.cosine).max() < 0.1
    assert np.abs(found.chance.cosine).max() < 0.01
    positive = explained(diagonal(np.abs(profiles))).settling()  # a common mean is likeness by chance
    assert np.allclose(positive.similarity.cosine, positive.chance.cosine, atol=0.06)
    assert positive.chance.cosine.min() > 0.55
    assert np.allclose(positive.chance.jaccard, positive.similarity.jaccard, atol=0.03)


def test_chance_is_the_mean_over_all_orders_of_the_features() -> None:
    found = explained(diagonal(PROFILES)).settling(k=2, steady=[1.0, 3.0, 2.0])
    orders = list(itertools.permutations([1.0, 3.0, 2.0]))
    shuffled = [explained(diagonal(PROFILES)).settling(k=2, steady=one).similarity for one in orders]
    assert np.allclose(found.chance.cosine, np.mean([one.cosine for one in shuffled], axis=0))
    assert np.allclose(found.chance.jaccard, np.mean([one.jaccard for one in shuffled], axis=0))
    assert np.allclose(found.chance.spearman, np.mean([one.spearman for one in shuffled], axis=0))


def test_one_step_has_nothing_to_settle_to() -> None:
    found = explained(np.ones((1, 1, 1, 3)), steps=[0]).settling()
    assert np.isnan(found.similarity.cosine).all()
    assert found.settled.tolist() == [-1]


def test_settled_is_the_step_from_which_it_stays() -> None:
    cosine = np.array(
        [[0.95, 0.2, 0.9, 0.99], [0.9, 0.9, 0.9, 0.9], [1.0, 1.0, 1.0, 0.89], [np.nan, 1, 1, 1]]
    )
    assert settled_at(cosine, 0.1).tolist() == [2, 0, -1, 1]
    shifted = explained(
        np.concatenate([np.zeros((1, 3, 1, 2)), np.ones((1, 3, 3, 2))], axis=2), steps=[1, 2, 3]
    )
    assert shifted.settling().settled.tolist() == [1]  # the output step, not its place


def test_similarity_by_hand() -> None:
    a, b = (
        np.array([1.0, -2.0, 3.0, 0.0]),
        np.array([[2.0, -4.0, 6.0, 0.0], [-1.0, 2.0, -3.0, 0.0], [0.0] * 4]),
    )
    found = similarity(a, b, 2)
    assert np.allclose(found.cosine[:2], [1, -1])
    assert np.allclose(found.spearman[:2], [1, -1])
    assert np.isnan([found.cosine[2], found.spearman[2]]).all()
    assert np.allclose(found.jaccard, [1, 0, 1 / 3])
    one, other = explained(diagonal(PROFILES)), explained(diagonal(PROFILES[:2]))
    alike = one.compare(other, k=1)
    assert alike.cosine.shape == (1, 1)
    assert np.allclose(alike.cosine, 7 / (5 * np.sqrt(2)))
    assert np.allclose(
        one.compare(other, k=1, last=1.0).cosine, np.dot([2, 2.25, 0], [0.5, 1, 0]) / np.sqrt(9.0625 * 1.25)
    )


def test_the_memory_horizon_by_hand() -> None:
    relevance = np.zeros((1, 3, 3, 2))
    relevance[0, 0, 0] = [1, -1]  # lag 0: 2
    relevance[0, 1, 0], relevance[0, 1, 1] = [3, 0], [0, -4]  # lag 1: 3, lag 0: 4
    relevance[0, 2] = [[0, 1], [1, 0], [3, 3]]  # lags 2, 1, 0: 1, 1, 6
    found = explained(relevance).memory_horizon()
    assert found.lags.tolist() == [-2, -1, 0, 1, 2]
    assert found.mass.tolist() == [[0, 0, 4, 2, 1]]
    assert np.allclose(found.share, [[0, 0, 4 / 7, 2 / 7, 1 / 7]])
    assert [found.reach(s).tolist() for s in (0.5, 4 / 7, 0.6, 6 / 7, 0.9, 1.0)] == [
        [0],
        [0],
        [1],
        [1],
        [2],
        [2],
    ]
    ahead = explained(relevance[:, ::-1, ::-1]).memory_horizon()
    assert ahead.mass.tolist() == [[1, 2, 4, 0, 0]]
    assert ahead.reach(0.9).tolist() == [2]
    assert horizon(np.zeros((1, 1, 1, 1)), np.array([0])).share.tolist() == [[0]]


def test_the_horizon_of_a_network_that_forgets_is_short() -> None:
    model = Net()
    with torch.no_grad():
        for parameter in (model.gru.weight_hh_l0, model.gru.weight_ih_l0):
            parameter.mul_(0.1)
        model.gru.bias_ih_l0[6:12] = -4.0  # the update gate shut: h = n
        short = LRP(model).explain(features(), EveryStep(0)).memory_horizon()
        model.gru.bias_ih_l0[6:12] = 4.0  # open: h stays
        long = LRP(model).explain(features(), EveryStep(0)).memory_horizon()
    assert not short.mass[:, short.lags < 0].any()
    assert (short.reach(0.9) <= 1).all()
    assert (long.reach(0.9) >= 3).all()


def test_the_most_relevant_features_by_hand() -> None:
    relevance = np.array([4.0, -9.0, 1.0, 0.0, 3.0])
    assert most_relevant(relevance, 0.2, "count").tolist() == [True, False, False, False, False]
    assert most_relevant(relevance, 0.21, "count").tolist() == [True, False, False, False, True]
    assert most_relevant(relevance, 1.0, "count").tolist() == [True, False, True, False, True]
    assert most_relevant(relevance, 0.5, "mass").tolist() == [True, False, False, False, False]
    assert most_relevant(relevance, 0.51, "mass").tolist() == [True, False, False, False, True]
    assert most_relevant(relevance, 7 / 8, "mass").tolist() == [True, False, False, False, True]
    assert most_relevant(relevance, 1.0, "mass").tolist() == [True, False, True, False, True]
    assert not most_relevant(-np.ones(4), 1.0, "mass").any()
    found = explained(diagonal(PROFILES)).top_features(1 / 3)
    assert found[0, 2, 2].tolist() == [False, True, False]
    assert found[0, 2, 0].tolist() == [False, False, True]
    assert found.sum() == 7
    assert explained(diagonal(PROFILES)).top_features(1.0, by="mass").sum() == 10


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda e: e.settling(tolerance=3), "tolerance is 3"),
        (lambda e: e.settling(k=4), "k is 4; expected 1 to 3"),
        (lambda e: e.settling(of="sum"), "no profile `sum`"),
        (lambda e: e.settling(last=0), "last is 0"),
        (lambda e: e.settling(steady=np.ones(2)), r"steady has shape \(2,\); expected \(3,\) or \(1, 3\)"),
        (lambda e: e.top_features(0), "share is 0"),
        (lambda e: e.top_features(0.5, by="mas"), "no choice by `mas`"),
        (lambda e: e.memory_horizon().reach(2), "share is 2"),
        (lambda e: e.compare(explained(np.ones((1, 2, 2, 5)))), "3 and 5 features"),
        (lambda e: explained(e.relevance, steps=[0, 2, 1, 3]).settling(), r"EveryStep\(\)"),
        (lambda e: explained(e.relevance, steps=[1, 2, 3, 4]).memory_horizon(), "outputs reach step 4"),
    ],
)
def test_readings_that_make_no_sense_are_refused(read: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(explained(diagonal(PROFILES)))


def test_what_is_of_no_step_does_not_settle() -> None:
    for target in (MajorityVote(), [Step(0), MajorityVote()]):
        found = LRP(Net()).explain(features(), target)
        assert found.steps is None
        assert found.votes is None
        assert not found.consecutive
        for read in (found.settling, found.memory_horizon, found.voted, found.own):
            with pytest.raises(InputError, match=r"votes\)` explains no single step.*EveryStep"):
                read()


def test_a_network_that_settles_is_found_to() -> None:
    """Features are the same from step 4 on: after a while so is the relevance of their own step."""
    x = features(1, steps=30)
    x[:, 4:] = x[:, 4:5]
    model = Net()
    found = LRP(model).explain(x, EveryStep(0)).settling(tolerance=0.02, k=1)
    assert 1 <= found.settled[0] <= 8
    assert (found.similarity.jaccard[0, 10:] == 1).all()
    other = LRP(model).explain(features(1, seed=5, steps=30), EveryStep(0))
    assert (other.settling(tolerance=0.02).settled > 8).all() or (
        other.settling(tolerance=0.02).settled < 0
    ).all()


class Packing(nn.Module):
    """A network of packed sequences: the sum of a bidirectional GRU's states, or its state at every step."""

    def __init__(self, per_step: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.gru, self.head = nn.GRU(IN, 4, batch_first=True, bidirectional=True), nn.Linear(8, CLASSES)
        self.per_step = per_step
        self.double().eval()

    def forward(self, x: Any) -> Tensor:
        logits = self.head(pad_packed_sequence(self.gru(x)[0], batch_first=True)[0])
        return logits if self.per_step else logits.sum(dim=1)


def packed(*lengths: int) -> Any:
    x = torch.from_numpy(features(len(lengths)))
    return pack_sequence([x[k, :n] for k, n in enumerate(lengths)], enforce_sorted=False)


@EVERY
def test_lengths_of_packed_sequences_are_kept(method: Any, tmp_path: Path) -> None:
    found = method(Packing()).explain(packed(3, 5, 2), 1)
    assert found.lengths == (3, 5, 2)
    back = load(found.save(tmp_path / "packed.npz"))
    assert back.lengths == (3, 5, 2)
    assert back.targets == found.targets
    assert method(Packing()).explain(packed(4, 4), 1).lengths is None
    assert method(Net()).explain(features(), 1).lengths is None


def test_padding_is_no_part_of_horizon_and_plot() -> None:
    model, steps = Packing(per_step=True), [Step(0, 1), Step(1, 1)]
    found = LRP(model).explain(packed(2, 5), steps)
    for k, length in enumerate((2, 5)):
        x = torch.from_numpy(features(2))[k, :length]
        one = LRP(model).explain(pack_sequence([x]), steps)
        mine, own = found.memory_horizon(), one.memory_horizon()
        there = np.isin(mine.lags, own.lags)
        assert np.allclose(mine.mass[k, there], own.mass[0], rtol=0, atol=1e-12)
        assert not mine.mass[k, ~there].any()
        assert np.allclose(found.settling().similarity.cosine[k], one.settling().similarity.cosine[0])
    # One of two steps has a lag of −1 in the shorter sample: it is its own mean, not half of it.
    assert found.memory_horizon().mass[0, 3] == np.abs(found.relevance[0, 0, 1]).sum()
    drawn = [found.plot(k).axes[0].get_images()[0].get_array().shape for k in (0, 1)]
    assert [max(shape) for shape in drawn] == [4, 5]  # of 4 features, and 2 or 5 steps
    assert [min(shape) for shape in drawn] == [2, 4]


# --- files
# ---------------------------------------------------------------------------------------------------------


def test_files_hold_all_of_it(tmp_path: Path) -> None:
    for target in (EveryStep(), MajorityVote()):
        found = LRP(Net()).explain(features(), target)
        back = load(found.save(tmp_path / "sub" / "relevance.npz"))
        assert np.array_equal(back.relevance, found.relevance)
        assert back.relevance.dtype == np.float64
        assert np.array_equal(back.scores, found.scores)
        assert back.targets == found.targets
        assert {type(info) for row in back.targets for info in row} == {
            type(info) for row in found.targets for info in row
        }
        assert (back.method, back.diagnostics) == (found.method, found.diagnostics)
        assert list(back.ledger) == list(found.ledger)
        assert all(np.array_equal(back.ledger[k], found.ledger[k]) for k in found.ledger)
    noted = SequenceExplanation(found.relevance, found.scores, found.targets, "lrp", {}, ("a", "b"))
    assert load(noted.save(tmp_path / "noted.npz")).diagnostics == ("a", "b")
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["relevance.npz"]


def test_what_is_no_file_of_it_is_refused(tmp_path: Path) -> None:
    found = Gradient(Net()).explain(features())
    with pytest.raises(MediaError, match=r"relevance\.jpg.*\.npz"):
        found.save(tmp_path / "relevance.jpg")
    with pytest.raises(MediaError, match="no file"):
        load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(MediaError, match="is not a saved explanation"):
        load(tmp_path / "text.npz")
    maps = cc.Explanation(
        np.ones((1, 1, 2, 2), np.float32),
        np.ones((1, 1), np.float32),
        ((TargetInfo("a"),),),
        "m",
        "l",
        (4, 4),
    )
    with pytest.raises(MediaError, match="is not a saved explanation"):
        load(maps.save(tmp_path / "maps.npz"))


def test_it_says_what_it_is() -> None:
    found = LRP(Net()).explain(features())
    assert repr(found) == "SequenceExplanation(lrp: 2 samples, 5 targets, 5 steps × 4 features)"
    assert len(found) == 2
    assert found.steps.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(AttributeError):
        found.method = "other"  # type: ignore[misc]


class FromState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(4, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x: Tensor, gains: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1]) * gains.sum()


@pytest.mark.parametrize("method", [GradientXInput, LRP])
def test_what_all_samples_share_is_not_cut(method: Any) -> None:
    model, gains = seeded(FromState).eval(), torch.tensor([2.0, 3.0])
    x = torch.randn(2, 5, 4)
    found = method(model).explain((x, cc.Shared(gains)), 1)
    np.testing.assert_allclose(found.scores[:, 0], model(x, gains)[:, 1].detach().numpy(), rtol=1e-5)


def test_classes_have_the_names_that_are_given() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(20, 3))
    found = GradientXInput(model, labels=["a", "b", "c"]).explain(torch.randn(2, 5, 4), "b")
    assert [str(row[0]) for row in found.targets] == ["b", "b"]
    assert found.deletion().scores.shape == (2, 1)
    with pytest.raises(InputError, match="labels= is a str"):
        GradientXInput(model, labels="abc")


class Several(Net):
    """Logits beside the states, neither of which is the main output; or one number, squeezed."""

    def __init__(self, squeezed: bool) -> None:
        super().__init__(per_step=False)
        self.squeezed = squeezed

    def forward(self, x: Tensor) -> Any:
        logits = super().forward(x)
        return logits[:, 1].squeeze() if self.squeezed else {"y": logits, "again": 2 * logits}


@pytest.mark.parametrize("squeezed", [False, True])
@pytest.mark.parametrize("method", [GradientXInput, LRP])
def test_outputs_without_a_main_one_and_squeezed_ones_are_explained(method: Any, squeezed: bool) -> None:
    x, net = features(1 if squeezed else 2), Several(squeezed)
    found = method(net).explain(x, None if squeezed else lambda outputs: outputs["y"][:, 1])
    expected = method(Net(per_step=False)).explain(x, 1)
    np.testing.assert_allclose(found.relevance, expected.relevance, atol=1e-12)
    if not squeezed:
        with pytest.raises(ModelError, match="callable target"):
            method(net).explain(x, 1)
