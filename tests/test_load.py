"""`cc.load` reads whatever was saved here."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import chronocam as cc
from chronocam.errors import MediaError


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Path]:
    torch.manual_seed(0)
    cnn = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    maps = cc.GradCAM(cnn, "0").explain(torch.rand(1, 3, 8, 8), 1).save(tmp_path / "maps.npz")
    rnn = nn.LSTM(4, 3, batch_first=True)
    steps = cc.sequence.LRP(rnn).explain(torch.rand(2, 5, 4), cc.targets.EveryStep(0))
    return maps, steps.save(tmp_path / "steps.npz")


def test_both_kinds_are_read_as_what_they_are(saved: tuple[Path, Path]) -> None:
    maps, steps = saved
    assert isinstance(cc.load(maps), cc.Explanation)
    found = cc.load(str(steps))
    assert isinstance(found, cc.sequence.SequenceExplanation)
    assert np.array_equal(found.relevance, cc.sequence.load(steps).relevance)
    assert found.steps is not None
    assert found.steps.tolist() == [0, 1, 2, 3, 4]


def test_one_kind_can_be_asked_for(saved: tuple[Path, Path]) -> None:
    maps, steps = saved
    assert cc.load(maps, cc.Explanation).maps.shape == (1, 1, 6, 6)
    assert cc.load(steps, cc.sequence.SequenceExplanation).method == "lrp"
    with pytest.raises(MediaError, match=r"steps.npz` holds SequenceExplanation; expected Explanation"):
        cc.load(steps, cc.Explanation)
    with pytest.raises(MediaError, match="holds Explanation; expected SequenceExplanation"):
        cc.load(maps, cc.sequence.SequenceExplanation)


def test_the_messages_name_both(tmp_path: Path, saved: tuple[Path, Path]) -> None:
    both = "Explanation.save or SequenceExplanation.save"
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for name in ("other.npz", "missing.npz"):
        with pytest.raises(MediaError, match=both):
            cc.load(tmp_path / name)
    with pytest.raises(MediaError, match=r"cc\.load reads both kinds"):
        cc.sequence.load(saved[0])
