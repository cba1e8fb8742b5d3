"""Targets at the steps of outputs (batch, time, classes): every score by hand, and refusals with shapes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers import seeded
from torch import nn

import chronocam as cc
from chronocam.errors import TargetError
from chronocam.models import CNNLSTM
from chronocam.targets import Class, Contrast, EveryStep, MajorityVote, Predicted, Step, parse
from chronocam.targets.composed import over_steps, per_step
from chronocam.types import Outputs, Scored

LOGITS = np.array(
    [
        [[1.0, 5.0, 2.0], [3.0, 0.5, 7.0], [4.0, 9.0, -1.0], [0.0, 1.0, 2.5]],  # votes 1 2 1 2: a tie
        [[6.0, 5.0, 2.0], [8.0, 0.5, 7.0], [4.0, 9.0, -1.0], [1.0, 1.0, 0.0]],  # votes 0 0 1 0
    ]
)
LABELS = ["rest", "wave", "point"]
ARRAYS: list[Callable[[Any], Any]] = [np.asarray, torch.from_numpy]


def scored(target: Any, logits: Any = LOGITS, clean: Any = None, labels: Any = LABELS) -> Scored:
    found = parse(target, len(logits))(Outputs(logits, lambda: logits, slice(0, len(logits)), labels, clean))
    assert all(len(row) == found.values.shape[1] for row in found.infos)
    assert len(found.infos) == len(logits)
    return found


def values(target: Any, **options: Any) -> list[list[float]]:
    return np.asarray(scored(target, **options).values).tolist()


@pytest.mark.parametrize("array", ARRAYS)
def test_a_step_is_a_target_at_one_row_of_the_logits(array: Callable[[Any], Any]) -> None:
    logits = array(LOGITS)
    assert values(Step(2, 1), logits=logits) == [[9.0], [9.0]]
    assert values(Step(-1, "point"), logits=logits) == [[2.5], [0.0]]
    assert values(Step(1), logits=logits) == [[7.0], [8.0]]
    assert values(Step(0, Predicted(2)), logits=logits) == [[5.0, 2.0], [6.0, 5.0]]
    assert values(Step(3, Contrast("wave", "rest")), logits=logits) == [[1.0], [0.0]]
    assert values(Step(1, lambda at: at[:, 0] - at[:, 1]), logits=logits) == [[2.5], [7.5]]
    assert values([Step(0, 0), Step(1, 0)], logits=logits) == [[1.0, 3.0], [6.0, 8.0]]


def test_a_step_says_what_it_explains() -> None:
    infos = scored(Step(-2, "wave")).infos
    assert [(str(i), i.index, i.step, i.vote) for row in infos for i in row] == [
        ("wave at step 2", 1, 2, 1)
    ] * 2
    infos = scored(Step(1)).infos
    assert [(str(i), i.index, i.vote) for row in infos for i in row] == [
        ("point at step 1", 2, 2),
        ("rest at step 1", 0, 0),
    ]


@pytest.mark.parametrize("array", ARRAYS)
def test_every_step_has_one_column_per_step(array: Callable[[Any], Any]) -> None:
    logits = array(LOGITS)
    assert values(EveryStep(), logits=logits) == [[5.0, 7.0, 9.0, 2.5], [6.0, 8.0, 9.0, 1.0]]
    assert values(EveryStep("rest"), logits=logits) == LOGITS[:, :, 0].tolist()
    assert (
        values(EveryStep(Predicted(3)), logits=logits) == (-np.sort(-LOGITS, axis=2)).reshape(2, -1).tolist()
    )
    infos = scored(EveryStep()).infos
    assert [[i.step for i in row] for row in infos] == [[0, 1, 2, 3]] * 2
    assert [[i.index for i in row] for row in infos] == [[i.vote for i in row] for row in infos]
    assert [[i.index for i in row] for row in infos] == [[1, 2, 1, 2], [0, 0, 1, 0]]
    assert [[i.vote for i in row] for row in scored(EveryStep(0)).infos] == [[1, 2, 1, 2], [0, 0, 1, 0]]


@pytest.mark.parametrize("array", ARRAYS)
def test_the_majority_scores_the_mean_of_the_winner_where_it_won(array: Callable[[Any], Any]) -> None:
    found = scored(MajorityVote(), logits=array(LOGITS))
    assert np.allclose(np.asarray(found.values), [[(5 + 9) / 2], [(6 + 8 + 1) / 3]])  # the tie: 7 beats 4.75
    assert [[str(i) for i in row] for row in found.infos] == [
        ["wave (2 of 4 votes)"],
        ["rest (3 of 4 votes)"],
    ]


def test_ties_go_to_the_larger_score_and_then_to_the_lower_class() -> None:
    tie = np.array([[[0.0, 1.0, 0.0], [0.0, 0.0, 3.0]]])
    assert scored(MajorityVote(), logits=tie).infos[0][0].index == 2
    tie[0, 1, 2] = 1
    assert scored(MajorityVote(), logits=tie).infos[0][0].index == 1
    equal = np.array([[[2.0, 2.0, 0.0]]])
    assert scored(MajorityVote(), logits=equal).infos[0][0].index == 0


def test_classes_are_chosen_without_noise() -> None:
    noisy = -LOGITS
    assert values(EveryStep(), logits=noisy, clean=LOGITS) == [
        [-5.0, -7.0, -9.0, -2.5],
        [-6.0, -8.0, -9.0, -1.0],
    ]
    assert np.allclose(values(MajorityVote(), logits=noisy, clean=LOGITS), [[-7.0], [-5.0]])
    assert values(Step(1), logits=noisy, clean=LOGITS) == [[-7.0], [-8.0]]


def test_classes_are_meant_at_every_step_of_stepwise_outputs_only() -> None:
    assert values(per_step(parse(None, 2))) == values(EveryStep())
    assert values(per_step(parse(["wave", Step(0, 0)], 2))) == [
        [5.0, 0.5, 9.0, 1.0, 1.0],
        [5.0, 0.5, 9.0, 1.0, 6.0],
    ]
    assert values(per_step(parse(np.array([0, 2]), 2))) == [[1.0, 3.0, 4.0, 0.0], [2.0, 7.0, -1.0, 0.0]]
    assert values(per_step(Class(2)), logits=LOGITS[:, 0]) == [[2.0], [2.0]]
    assert values(per_step(MajorityVote())) == values(MajorityVote())


@pytest.mark.parametrize("array", ARRAYS)
def test_classes_of_a_clip_are_the_mean_over_its_steps_and_its_prediction_the_vote(
    array: Callable[[Any], Any],
) -> None:
    logits, mean = array(LOGITS), LOGITS.mean(axis=1)
    assert np.allclose(values(over_steps(Class("wave")), logits=logits), mean[:, [1]])
    assert np.allclose(
        values(over_steps(parse(np.array([0, 2]), 2)), logits=logits), [[mean[0, 0]], [mean[1, 2]]]
    )
    assert np.allclose(values(over_steps(Contrast(0, 2)), logits=logits), mean[:, [0]] - mean[:, [2]])
    assert np.allclose(values(over_steps(cc.targets.Counter(1)), logits=logits), -mean[:, [1]])
    assert np.allclose(values(over_steps(Predicted(2)), logits=logits), -np.sort(-mean, axis=1)[:, :2])
    weights = np.array([[0.5, 0.0, 2.0], [1.0, 1.0, 1.0]])
    assert np.allclose(values(over_steps(parse(weights, 2)), logits=logits), (mean * weights).sum(1)[:, None])
    vote = scored(over_steps(parse(None, 2)), logits=logits)
    assert np.allclose(np.asarray(vote.values), values(MajorityVote()))
    assert [row[0].votes for row in vote.infos] == [(1, 2, 1, 2), (0, 0, 1, 0)]
    both = scored(over_steps(parse(["wave", Step(0, 0)], 2)), logits=logits)
    assert [str(info) for info in both.infos[0]] == ["wave (mean of 4 steps)", "rest at step 0"]
    assert both.infos[1][0].votes == (0, 0, 1, 0)
    assert np.allclose(np.asarray(both.values), [[mean[0, 1], 1.0], [mean[1, 1], 6.0]])
    # Outputs of one row are as they were, and noise does not choose.
    assert values(over_steps(parse(None, 2)), logits=LOGITS[:, 0]) == [[5.0], [6.0]]
    assert np.allclose(
        values(over_steps(Predicted(2)), logits=-LOGITS, clean=LOGITS), np.sort(-mean, axis=1)[:, :2]
    )


def test_signs_are_those_of_what_is_explained() -> None:
    assert Step(0, cc.targets.Regression(1)).signed
    assert EveryStep(cc.targets.Regression(1)).signed
    assert not Step(0, 1).signed


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Step(4, 0), ["no step 4", "4 steps, 0 to 3"]),
        (Step(-5, 0), ["no step -5"]),
        (Step(True, 0), ["True is not a step"]),
        (Step(1.5, 0), ["1.5 is not a step"]),
        (Step(0, 3), ["no class 3", "0 to 2"]),
        (Step(0, "bow"), ["bow"]),
    ],
)
def test_what_is_not_there_is_refused(target: Any, words: list[str]) -> None:
    with pytest.raises(TargetError) as error:
        scored(target)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("target", [Step(0, 1), EveryStep(), MajorityVote()])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 5)])
def test_outputs_without_a_time_axis_are_refused_with_their_shape(
    target: Any, shape: tuple[int, ...]
) -> None:
    with pytest.raises(TargetError, match="no time axis") as error:
        scored(target, logits=np.zeros(shape))
    assert str(shape) in str(error.value)


def test_maps_of_a_stepwise_network_are_of_the_step() -> None:
    """Grad-CAM of CNN + LSTM at a step is that of the step's logit by autograd, and blind to later frames."""
    torch.manual_seed(0)
    cnn = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Tanh())
    model = CNNLSTM(cnn, hidden=5, classes=3, per_step=True).double().eval()
    model.labels = LABELS
    clips = torch.randn(2, 4, 3, 8, 8, dtype=torch.float64)
    found = cc.GradCAM(model, "backbone.1", signed=True).explain(clips, [Step(2, "wave"), Step(0)])
    a = cnn(clips.flatten(0, 1)).detach().requires_grad_()
    logits = model.head(model.lstm(a.mean(dim=(2, 3)).reshape(2, 4, -1))[0])
    (g,) = torch.autograd.grad(logits[:, 2, 1].sum(), a)
    expected = (g.mean(dim=(2, 3), keepdim=True) * a).sum(dim=1).reshape(2, 4, 4, 4).detach()
    assert np.allclose(found.maps[:, 0], expected, atol=1e-6)
    assert np.abs(found.maps[:, 0, :3]).min(axis=(0, 2, 3)).min() > 0
    assert not found.maps[:, 0, 3].any()
    assert not found.maps[:, 1, 1:].any()
    assert np.allclose(
        found.scores, torch.stack([logits[:, 2, 1], logits[:, 0].max(dim=1).values], 1).detach()
    )
    every = cc.GradCAM(model, "backbone.1", signed=True).explain(clips, EveryStep("wave"))
    assert np.allclose(every.maps[:, 2], found.maps[:, 0], atol=1e-6)
    vote = cc.GradCAM(model, "backbone.1").explain(clips)
    assert np.array_equal(vote.maps, cc.GradCAM(model, "backbone.1").explain(clips, MajorityVote()).maps)
    mean = cc.GradCAM(model, "backbone.1", signed=True).explain(clips, "wave")
    assert np.allclose(mean.maps[:, 0], every.maps.mean(axis=1), atol=1e-6)
    winner = [int(np.bincount(row).argmax()) for row in logits.argmax(dim=2).numpy()]
    assert [row[0].index for row in vote.targets] == winner


def test_outputs_of_every_step_that_may_be_no_classes_are_told() -> None:
    net = seeded(lambda: CNNLSTM(nn.Conv2d(3, 4, 3), hidden=4, classes=6, per_step=True)).eval()
    frames = torch.rand(1, 3, 3, 16, 16)
    said = cc.GradCAM(net, "backbone").explain(frames).diagnostics
    assert any("nothing says that the model's 6 outputs are classes" in one for one in said)
    assert any("cc.targets.Step(-1, cc.targets.Regression(0))" in one for one in said)
    asked = cc.GradCAM(net, "backbone").explain(frames, cc.targets.MajorityVote()).diagnostics
    assert not any("nothing says" in one for one in asked)
