"""Files that earlier versions wrote are read, to the last value: the promise of docs/file-format.md."""

from pathlib import Path

import numpy as np

import chronocam as cc
from chronocam.targets.steps import StepInfo
from chronocam.types import Finding, TargetInfo

FILES = Path(__file__).parent / "files"


def test_maps_of_pictures() -> None:
    e = cc.load(FILES / "explanation-1.npz")
    assert isinstance(e, cc.Explanation)
    np.testing.assert_array_equal(e.maps, (np.arange(48, dtype=np.float32).reshape(2, 2, 3, 4) - 20) / 8)
    np.testing.assert_array_equal(e.scores, [[1.5, -2.0], [0.25, 4.0]])
    np.testing.assert_array_equal(e.confidences, [[0.75, np.nan], [0.5, np.nan]])
    age = TargetInfo("age", 0, signed=True)
    assert e.targets == ((TargetInfo("cat", 3), age), (TargetInfo("dog", 5), age))
    assert (e.method, e.layer, e.input_size) == ("gradcam", "features.3", (12, 16))
    assert e.centers == ((2.0, 6.0, 10.0), (2.0, 6.0, 10.0, 14.0))
    assert e.findings == (Finding("zero", 1, "dog", "the map is zero everywhere"),)
    assert [picture.name for picture in e.pictures] == ["picture 0", "picture 1"]
    red = e.pictures[1].decoded(0).mean(axis=(0, 1))
    np.testing.assert_allclose(red, [0, 200, 0], atol=4)


def check_clip(e: cc.Explanation) -> None:
    np.testing.assert_array_equal(e.maps, np.arange(32, dtype=np.float32).reshape(1, 2, 4, 2, 2))
    assert e.targets == ((TargetInfo("wave", 0), TargetInfo("clap", 1)),)
    assert e.frame_spans == ((0, 1), (2, 3), (4, 5), (6, 7))
    assert (e.layer, e.input_size) == ("backbone.layer4", (8, 16, 16))
    np.testing.assert_array_equal(e.attention.weights, np.full((1, 8), 0.125))
    np.testing.assert_array_equal(e.attention.contributions, np.arange(16).reshape(1, 2, 8))


def test_maps_of_a_clip() -> None:
    e = cc.load(FILES / "clip-1.npz")
    check_clip(e)
    assert e.findings == ()


def test_maps_as_0_1_0_wrote_them() -> None:
    e = cc.load(FILES / "clip-0.1.0.npz")
    check_clip(e)
    assert e.diagnostics == ("all weighted sums are negative",)


def test_relevance_of_sequences() -> None:
    e = cc.load(FILES / "sequence-1.npz")
    assert isinstance(e, cc.sequence.SequenceExplanation)
    relevance = (np.arange(48, dtype=np.float32).reshape(2, 2, 3, 4) - 10) / 4
    np.testing.assert_array_equal(e.relevance, relevance)
    np.testing.assert_array_equal(e.scores, [[1, 2], [3, 4]])
    assert e.targets[0] == (StepInfo("wave", 0, step=0, vote=1), StepInfo("clap", 1, step=2, vote=1))
    assert list(e.ledger) == ["input", "bias"]
    np.testing.assert_array_equal(e.ledger["input"], relevance.sum((2, 3)))
    assert (e.diagnostics, e.lengths) == (("a finding",), (3, 2))


def test_what_is_written_now_is_of_the_promised_version(tmp_path: Path) -> None:
    for name in ("explanation-1", "clip-1", "sequence-1"):
        again = cc.load(FILES / f"{name}.npz").save(tmp_path / f"{name}.npz")
        with np.load(again) as written, np.load(FILES / f"{name}.npz") as held:
            assert set(held.files) == set(written.files)
            assert f'"chronocam {name.replace("clip", "explanation").replace("-", " ")}"' in str(
                written["header"]
            )
