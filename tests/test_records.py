"""Results of jobs: what is written is read back; other JSON files are told apart, damaged ones named."""

from __future__ import annotations

import json

import pytest

from chronocam.errors import MediaError
from chronocam.records import (
    AttentionEntry,
    ClipFeatureResult,
    ClipResult,
    DepthEntry,
    DriveEntry,
    DriveResult,
    FeatureResult,
    HorizonEntry,
    LossEntry,
    MapEntry,
    MotionEntry,
    NoiseAgreement,
    PathEntry,
    PictureResult,
    SequenceEntry,
    SettlingEntry,
    TopFeatures,
    Written,
    read_result,
)

BOX = (0.0, 1.0, 2.5, 3.0)
MAP = MapEntry(
    method="gradcam",
    layer="layer4",
    grid=(4, 7, 7),
    target="cat",
    index=3,
    score=1.5,
    confidence=None,
    votes=(3, 3),
    frame_spans=((0, 1), (2, 3)),
    frame_importance=(0.25, 0.75),
    attention=AttentionEntry(weights=(0.5, 0.5), contributions=(1.0, -1.0), rank_correlation=None),
    boxes=(BOX, None),
    video="a.mp4",
    explanation="a.npz",
)
SEQUENCE = SequenceEntry(
    method="lrp",
    targets=("left at step 0",),
    indices=(None,),
    scores=(0.5,),
    steps=(0,),
    votes=(2,),
    ledger={"input": (0.25,), "bias": (0.25,)},
    settling=SettlingEntry(
        step=None, tolerance=0.1, cosine=(None, 1.0), spearman=(0.5,), jaccard=(0.0,), chance=(0.1, None)
    ),
    horizon=HorizonEntry(lags=(0, 1), share=(0.5, 0.5), reach=1),
    top_features=(TopFeatures(target=0, step=0, features=(4,), relevance=(0.5,)),),
    relevance="a.lrp.npz",
    sheet="a.lrp.png",
)
DRIVE = DriveEntry(
    target="tz",
    network="pose",
    method="gradcam",
    layer="pose.conv5",
    grid=(2, 3),
    score=0.5,
    scores=(0.5, 0.5),
    truth=(0.25, None),
    unit=2.0,
    boxes=(None, BOX),
    noise_agreement=NoiseAgreement(spearman=0.5, cosine=0.5, moments=2, draws=4),
    video="d.mp4",
    maps="d.npz",
)
SEEN = {"size": (64, 48), "seen": BOX, "sheet": "sheet.png", "diagnostics": ("a finding",)}
RESULTS = [
    PictureResult(input="a.png", maps=(MAP,), **SEEN),
    ClipResult(input="a.mp4", frames=(0, 3), seconds=None, maps=(MAP,), **SEEN),
    FeatureResult(input="a.npy", steps=2, features=5, sequences=(SEQUENCE,), diagnostics=()),
    ClipFeatureResult(
        input="a.mp4",
        frames=(0, 3),
        seconds=(0.0, 0.5),
        steps=2,
        features=5,
        maps=(MAP,),
        sequences=(SEQUENCE,),
        **SEEN,
    ),
    DriveResult(
        input="kitti/00",
        frames=(0, 1),
        sources=((1, 2),),
        seconds=None,
        intrinsics=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
        depth_video="depth.mp4",
        depth_maps="depth.npz",
        outputs=MotionEntry(names=("tx",), poses=(((0.0,),),), truth=None),
        path=PathEntry(positions=((0.0, 0.0, 1.0),), truth=None, scale=None),
        losses=LossEntry(of={"ssim": 0.85}, total=(1.0,), photometric=(0.5,), smoothness=(0.5,)),
        depth=DepthEntry(median=(1.0,), scale=2.0, abs_rel=0.1),
        maps=(DRIVE,),
        **SEEN,
    ),
]


@pytest.mark.parametrize("result", RESULTS, ids=lambda one: type(one).__name__)
def test_what_is_written_is_read_back(tmp_path, result):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(Written("net", result).to_json()))
    assert read_result(path) == Written("net", result)
    assert next(iter(json.loads(path.read_text()))) == "model"


def test_the_entries_of_a_result_are_its_maps_and_then_its_relevance():
    expected = [[MAP], [MAP], [SEQUENCE], [MAP, SEQUENCE], [DRIVE]]
    assert [list(Written("net", result).entries) for result in RESULTS] == expected


@pytest.mark.parametrize("data", [[1, 2], {}, {"maps": []}, {"maps": "north"}, {"channels": [{"method": 1}]}])
def test_a_json_file_of_another_kind_is_no_result(tmp_path, data):
    path = tmp_path / "other.json"
    path.write_text(json.dumps(data))
    assert read_result(path) is None


def test_a_result_needs_only_what_reports_show(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"maps": [{"method": "gradcam", "explanation": "a.npz"}]}))
    written = read_result(path)
    assert written is not None
    assert written.entries[0].file == "a.npz"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"maps": [{"meth', "is not readable as JSON"),
        ('{"maps": [{"method": "gradcam"}]}', "entry 0 of `maps` of the file has no `explanation`"),
        (
            '{"maps": [{"method": 1, "explanation": "a.npz"}]}',
            "`method` of entry 0 of `maps` of the file is 1",
        ),
        (
            '{"maps": [{"method": "a", "network": "pose", "target": "tz", "maps": "a.npz"}]}',
            "the file has no `frames`",
        ),
    ],
)
def test_a_damaged_result_is_named_in_one_line(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(MediaError) as caught:
        read_result(path)
    assert message in str(caught.value)
    assert "explain the input again" in str(caught.value)
    assert "\n" not in str(caught.value)
