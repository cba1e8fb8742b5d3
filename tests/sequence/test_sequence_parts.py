"""Explanations of some of the samples and targets of sequences."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import seeded
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import chronocam as cc
from chronocam.errors import InputError
from chronocam.explanation.parts import Pick
from chronocam.sequence import LRP
from chronocam.targets import Class, EveryStep

TIMES = 5


class Net(nn.Module):
    """Logits at every step, or after the last one of a PackedSequence."""

    def __init__(self, per_step: bool = True) -> None:
        super().__init__()
        self.rnn, self.head, self.per_step = nn.GRU(4, 6, batch_first=True), nn.Linear(6, 3), per_step
        self.double()

    def forward(self, x: Any) -> Any:
        states, last = self.rnn(x)
        return self.head(states if self.per_step else last[-1])


def features(batch: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((batch, TIMES, 4)))


@pytest.mark.parametrize(
    ("pick", "samples", "steps"),
    [
        (1, [1], range(TIMES)),
        (-1, [2], range(TIMES)),
        (slice(1, None), [1, 2], range(TIMES)),
        ([2, 0], [2, 0], range(TIMES)),
        (np.array([True, False, True]), [0, 2], range(TIMES)),
        ((0, 3), [0], [3]),
        ((slice(None), slice(1, 3)), [0, 1, 2], [1, 2]),
        (slice(3, None), [], range(TIMES)),
    ],
)
def test_some_samples_and_targets(pick: Pick, samples: list[int], steps: list[int]) -> None:
    whole = LRP(seeded(Net)).explain(features(), EveryStep(1))
    part, at = whole[pick], np.ix_(samples, list(steps))
    assert isinstance(part, cc.sequence.SequenceExplanation)
    np.testing.assert_array_equal(part.relevance, whole.relevance[at])
    np.testing.assert_array_equal(part.scores, whole.scores[at])
    assert part.targets == tuple(tuple(whole.targets[i][k] for k in steps) for i in samples)
    assert list(part.ledger) == list(whole.ledger)
    for name, values in part.ledger.items():
        np.testing.assert_array_equal(values, whole.ledger[name][at])
    assert part.diagnostics == whole.diagnostics


def test_each_sample_is_as_if_explained_alone() -> None:
    net, x = seeded(lambda: Net(per_step=False)), features(2)
    packed = pack_sequence([x[0], x[1, :3]])
    whole = LRP(net).explain(packed, [Class(0), Class(2)])
    assert whole.lengths == (TIMES, 3)
    for row, one in zip([x[0], x[1, :3]], whole, strict=True):
        alone = LRP(net).explain(pack_sequence([row]), [Class(0), Class(2)])
        assert one.lengths is None
        np.testing.assert_allclose(one.relevance, alone.relevance, atol=1e-12)
        np.testing.assert_allclose(one.deletion(0.3).removed, alone.deletion(0.3).removed, atol=1e-12)


def test_features_of_a_part_are_deleted_for_its_own_samples_and_scores() -> None:
    net, x = seeded(Net), features()
    whole = LRP(net).explain(x, EveryStep())
    part = whole[[2, 0]][:, 3:]
    deleted, expected = part.deletion(0.3, baseline=0.5), whole.deletion(0.3, baseline=0.5)
    np.testing.assert_allclose(deleted.removed, expected.removed[[2, 0], 3:], atol=1e-12)
    np.testing.assert_allclose(deleted.kept, expected.kept[[2, 0], 3:], atol=1e-12)


def test_parts_are_read_and_saved_as_any_explanation(tmp_path: Path) -> None:
    whole = LRP(seeded(Net)).explain(features(), EveryStep(1))
    part = whole[1]
    np.testing.assert_allclose(part.settling().similarity.cosine, whole.settling().similarity.cosine[1:2])
    assert whole[:, 2:].steps is not None
    np.testing.assert_array_equal(whole[:, 2:].own(), whole.own()[:, 2:])
    loaded = cc.load(part.save(tmp_path / "x.npz"), cc.sequence.SequenceExplanation)
    np.testing.assert_array_equal(loaded.relevance, part.relevance)


@pytest.mark.parametrize("pick", [3, -4, [0, 5], (0, 5), "dog"])
def test_what_it_does_not_have_is_an_index_error(pick: Any) -> None:
    whole = LRP(seeded(Net)).explain(features(), EveryStep(1))
    with pytest.raises(IndexError):
        whole[pick]


def test_a_part_of_nothing_compares_no_steps() -> None:
    nothing = LRP(seeded(Net)).explain(features(), EveryStep(1))[[]]
    assert len(nothing) == 0
    assert not nothing.consecutive
    with pytest.raises(InputError, match="no samples, or no targets"):
        nothing.settling()
