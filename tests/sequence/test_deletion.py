"""What becomes of a score without the most relevant features, and with them alone."""

import copy
import gc
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import chronocam as cc
from chronocam.errors import InputError
from chronocam.sequence import LRP, GradientXInput
from chronocam.targets import Class, EveryStep, Step

STEPS, IN, CLASSES = 5, 6, 3


class Net(nn.Module):
    def __init__(self, per_step: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.head, self.per_step = nn.LSTM(IN, 8, batch_first=True), nn.Linear(8, CLASSES), per_step
        self.double().eval()

    def forward(self, x: Any) -> Any:
        states, _ = self.rnn(x)
        return self.head(states if self.per_step else states[:, -1])


def features(batch: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((batch, STEPS, IN)))


def score(net: Any, x: np.ndarray, step: int, k: int) -> float:
    return float(net(torch.from_numpy(x)[None])[0, step, k].detach())


@pytest.mark.parametrize("by", ["count", "mass"])
@pytest.mark.parametrize("baseline", [0.0, 0.5, np.arange(IN) / 10])
def test_scores_are_those_of_features_replaced_by_hand(by: str, baseline: Any) -> None:
    net, x = Net(), features()
    found = LRP(net).explain(x, [Step(2, 1), Step(4, 0)])
    deletion = found.deletion(0.3, by=by, baseline=baseline, seed=4)
    mask = found.top_features(0.3, by)
    assert np.array_equal(deletion.mask, mask)
    assert deletion.scores is found.scores
    other = np.broadcast_to(np.asarray(baseline), (STEPS, IN))
    for row in range(2):
        for column, (step, k) in enumerate([(2, 1), (4, 0)]):
            top = mask[row, column]
            removed = np.where(top, other, x[row].numpy())
            kept = np.where(top, x[row].numpy(), other)
            assert np.isclose(deletion.removed[row, column], score(net, removed, step, k))
            assert np.isclose(deletion.kept[row, column], score(net, kept, step, k))


def test_random_features_are_as_many_at_each_step_and_seeded() -> None:
    net, x = Net(), features(1)
    found = LRP(net).explain(x, Step(4, 0))
    count = int(found.top_features(0.01).sum(axis=-1).max())
    assert count == 1
    # Of one feature per step there are few choices: the score is that of one of them.
    only = found.top_features(0.01)[0, 0].any(axis=-1)
    choices = np.stack(np.meshgrid(*[np.arange(IN) if one else [-1] for one in only]), -1).reshape(-1, STEPS)
    hidden = choices[:, :, None] == np.arange(IN)
    with torch.no_grad():
        scores = net(torch.from_numpy(np.where(hidden, 0, x[0].numpy())))[:, 4, 0].numpy()
    drawn = [found.deletion(0.01, seed=seed).random[0, 0] for seed in (0, 0, 1)]
    assert all(np.isclose(scores, one).any() for one in drawn)
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_most_relevant_features_matter_more_than_others() -> None:
    net = Net()
    found = GradientXInput(net).explain(features(8), EveryStep(1))
    deletion = found.deletion(0.2)
    assert deletion.removed.shape == (8, STEPS)
    assert (deletion.scores - deletion.removed).mean() > 3 * abs((deletion.scores - deletion.random).mean())
    assert deletion.kept.mean() > deletion.scores.mean()


def test_the_class_explained_is_the_one_that_is_scored() -> None:
    net, x = Net(per_step=False), features(1)
    found = LRP(net).explain(x)
    k = found.targets[0][0].index
    deletion = found.deletion(1.0)
    x = np.where(found.top_features(1.0)[0, 0], 0, x[0].numpy())
    changed = net(torch.from_numpy(x)[None])[0].detach().numpy()
    assert changed.argmax() != k  # another leads now
    assert np.isclose(deletion.removed[0, 0], changed[k])


def test_padded_and_other_inputs() -> None:
    class Packed(Net):
        def forward(self, x: Any) -> Any:
            return self.head(self.rnn(x)[1][0][-1])

    x = features()
    net = Packed()
    found = LRP(net).explain(pack_sequence([x[0], x[1, :3]]), Class(1))
    deletion = found.deletion(0.2)
    short = np.where(deletion.mask[1, 0, :3], 0, x[1, :3].numpy())
    expected = net(pack_sequence([torch.from_numpy(short)]))[0, 1]
    assert np.isclose(deletion.removed[1, 0], float(expected.detach()))


def test_what_cannot_be_run_again_is_refused(tmp_path: Path) -> None:
    net, x = Net(), features()
    found = LRP(net).explain(x, EveryStep(0))
    with pytest.raises(InputError, match=r"baseline has shape \(4,\); expected a number, \(feature,\)"):
        found.deletion(baseline=np.zeros(4))
    with pytest.raises(InputError, match="share is 2"):
        found.deletion(2)
    for one in (
        cc.load(found.save(tmp_path / "x.npz")),
        pickle.loads(pickle.dumps(found)),
        copy.deepcopy(found),
    ):
        assert isinstance(one, cc.sequence.SequenceExplanation)
        with pytest.raises(InputError, match="has no model and features to run; explain again"):
            one.deletion()
    with torch.no_grad():
        net.head.bias += 1
    with pytest.raises(InputError, match="scores have changed"):
        found.deletion()
    del net
    gc.collect()
    with pytest.raises(InputError, match="is gone; keep it, and explain again"):
        found.deletion()
