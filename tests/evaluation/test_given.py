"""What users give: truths, data, methods and measures in every form, right or refused in one line."""

import functools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import chronocam as cc
from chronocam.errors import InputError
from chronocam.evaluation.truth import truth_of

X = np.random.default_rng(0).normal(size=(4, 3, 12, 12)).astype(np.float32)
MASKS = np.zeros((4, 12, 12), bool)
MASKS[:, 2:6, 3:9] = True


@pytest.fixture
def model():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).eval()
    net[6].weight.data *= 20
    return net


def energies(model, data=X, row=0, **options):
    result = cc.evaluate(model, data, 1, measures=["energy"], **options)
    return result.values(result.rows[row], result.measures[0])


BOX, POINT = (3, 2, 9, 6), (4, 3)


@pytest.mark.parametrize(
    "given",
    [[BOX], BOX, list(BOX), np.array([BOX]), np.array(BOX, float), torch.tensor([BOX]).numpy()],
    ids=["list", "tuple", "flat list", "array", "flat array", "tensor"],
)
def test_a_box_is_a_box_in_any_form(given):
    truth = truth_of(given, (12, 12))
    np.testing.assert_array_equal(truth.mask, MASKS[0])
    assert truth.boxes == (BOX,)


@pytest.mark.parametrize("given", [[POINT], POINT, np.array([POINT]), np.array(POINT)])
def test_a_point_is_a_point_in_any_form(given):
    assert truth_of(given, (12, 12)).boxes == ((4, 3, 5, 4),)


def test_a_small_mask_is_no_list_of_boxes():
    mask = np.array([[0, 1, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(truth_of(mask, (2, 4)).mask, mask > 0)
    frames = np.array([0, 1, 1, 0])
    np.testing.assert_array_equal(truth_of(frames, (4, 8, 8)).frames, frames > 0)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([(float("nan"), 0, 5, 5)], r"\(nan, 0.0, 5.0, 5.0\) is empty, or outside a picture of 12 × 12"),
        ([(8, 8, 2, 2)], "is empty, or outside"),
        ([(0, 0, 13, 5)], "is empty, or outside"),
        (3, r"truth is int64 \(\); expected a mask"),
        (object(), "truth is object; expected a mask"),
        (MASKS[0] * 0.5, r"truth is float64 \(12, 12\); expected a mask"),
    ],
)
def test_what_is_no_truth_is_refused(given, why):
    with pytest.raises(InputError, match=why):
        truth_of(given, (12, 12))


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(1)
    for k in range(3):
        Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(tmp_path / f"p{k}.png")
        mask = np.zeros((12, 12), np.uint8)
        mask[k : k + 4, 2:8] = 255
        Image.fromarray(mask).save(tmp_path / f"m{k}.png")
    return [str(tmp_path / f"p{k}.png") for k in range(3)], [str(tmp_path / f"m{k}.png") for k in range(3)]


RECIPE = cc.media.Preprocess((12, 12), None, (0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("key", [str, lambda p: Path(p).name, lambda p: Path(p).stem, Path])
def test_a_truth_is_found_by_the_name_of_its_file(model, files, key):
    paths, masks = files
    by_name = {key(path): mask for path, mask in zip(paths[::-1], masks[::-1], strict=True)}
    expected = energies(model, paths, truth=masks, preprocess=RECIPE)
    np.testing.assert_array_equal(energies(model, paths, truth=by_name, preprocess=RECIPE), expected)


def test_truths_of_other_files_are_refused(model, files):
    paths, masks = files
    with pytest.raises(InputError, match=r"truth is a dict that names none of the samples; .* is `p0\.png`"):
        cc.evaluate(model, paths, 1, measures=["energy"], truth={"q.png": masks[0]}, preprocess=RECIPE)
    result = cc.evaluate(
        model, paths, 1, measures=["energy"], truth={"p1.png": masks[1], "q": 0}, preprocess=RECIPE
    )
    assert np.isfinite(result.values(result.rows[0], result.measures[0])).tolist() == [False, True, False]


def test_a_list_of_arrays_is_a_list_of_samples(model):
    np.testing.assert_array_equal(energies(model, list(X), truth=MASKS), energies(model, truth=MASKS))


def test_a_method_with_its_options_is_judged_as_it_is(model):
    by_layer = energies(model, truth=MASKS, layers=["1"])
    early = cc.GradCAM(model, "1")
    np.testing.assert_array_equal(energies(model, truth=MASKS, methods=[early]), by_layer)
    coarse, fine = (functools.partial(cc.Occlusion, window=w, stride=w) for w in (6, 3))
    result = cc.evaluate(
        model,
        X,
        1,
        methods={"early": early, "late": cc.GradCAM(model, "3"), "coarse": coarse, "fine": fine},
        measures=["complexity", cc.evaluation.Randomisation(shares=(1.0,))],
    )
    assert [str(row) for row in result.rows[:4]] == [
        "early at 1",
        "late at 3",
        "coarse at input",
        "fine at input",
    ]
    values = [result.values(row, result.measures[0]) for row in result.rows[:4]]
    assert all(not np.allclose(a, b) for k, a in enumerate(values) for b in values[:k])
    # Random weights are those of a copy, also where the method was bound to the model.
    assert (result.values(result.rows[0], result.measures[1]) < 0.999).all()


def test_maps_from_elsewhere_are_a_list_or_an_array(model):
    maps = np.random.default_rng(2).random((4, 6, 6))
    given = [
        energies(model, truth=MASKS, row=1, methods={"gradcam": "gradcam", "mine": m})
        for m in (maps, list(maps))
    ]
    np.testing.assert_array_equal(*given)


class Nameless(cc.methods.CAMMethod):
    """A method that was not given a name."""


@pytest.mark.parametrize(
    ("methods", "why"),
    [
        (None, "methods is None; expected names, methods, functions or maps"),
        ([3], "methods hold 3; expected a name, a method, a function or maps"),
        ([Nameless], "Nameless has no name; give the class a `name`"),
        ({"mine": np.ones((4, 12, 12), complex)}, "`mine` holds complex128; expected maps of numbers"),
        ({"mine": np.ones((3, 12, 12))}, "`mine` holds 3 maps for 4 samples"),
    ],
)
def test_what_is_no_method_is_refused(model, methods, why):
    with pytest.raises(InputError, match=why):
        cc.evaluate(model, X, 1, methods=methods, measures=["complexity"])


def test_an_explanation_of_several_targets_is_refused(model):
    both = cc.GradCAM(model).explain(X, cc.targets.Predicted(2))
    with pytest.raises(InputError, match="`mine` explains 2 targets of each sample"):
        cc.evaluate(model, X, 1, methods={"mine": both}, measures=["complexity"])


def test_no_layer_is_refused(model):
    with pytest.raises(InputError, match="layers is empty"):
        cc.evaluate(model, X, 1, layers=[], measures=["complexity"])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Deletion", {"steps": 0}),
        ("Deletion", {"over": "pixels"}),
        ("ROAD", {"shares": ()}),
        ("ROAD", {"shares": (0.0,)}),
        ("ROAD", {"shares": (2.0,)}),
        ("ARCC", {"shares": ()}),
        ("Pointing", {"tolerance": -1}),
        ("MaxBoxAcc", {"thresholds": 0}),
        ("Randomisation", {"shares": (3.0,)}),
        ("Randomisation", {"noises": -1}),
        ("EfficientRandomisation", {"bins": 1}),
        ("MaxSensitivity", {"draws": 0}),
        ("Stability", {"radius": 0}),
        ("MuFidelity", {"sets": 1}),
        ("Infidelity", {"cells": 0}),
        ("MuFidelity", {"share": 0}),
    ],
)
def test_options_that_measure_nothing_are_refused(name, options):
    option = next(iter(options))
    with pytest.raises(InputError, match=f"^{option} is "):
        getattr(cc.evaluation, name)(**options)


def test_a_baseline_may_be_an_array(model):
    values = [
        cc.evaluate(model, X, 1, measures=[cc.evaluation.Deletion(baseline=b)]).lines[0].interval.mean
        for b in (0.0, np.zeros((3, 1, 1)), np.ones((3, 12, 12)))
    ]
    assert values[0] == pytest.approx(values[1])
    assert values[0] != pytest.approx(values[2], rel=1e-3)
    with pytest.raises(InputError, match=r"baseline has shape \(2, 2\); expected one that broadcasts"):
        cc.evaluate(model, X, 1, measures=[cc.evaluation.Deletion(baseline=np.ones((2, 2)))])


def test_whole_frames_of_a_picture_have_no_value(model):
    result = cc.evaluate(model, X, 1, measures=[cc.evaluation.Deletion(over="frames")])
    assert result.notes[-1] == "deletion judged nothing: it has no value for these inputs and targets"


class Steps(nn.Module):
    """Classes of sequences (batch, time, feature)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(3, 8, batch_first=True)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(self.lstm(x)[0][:, -1])


def test_steps_and_features_of_a_sequence_are_its_cells():
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
    net = Steps().eval()
    options = {"methods": ["saliency"], "measures": [cc.evaluation.Deletion(steps=3, baseline=0.0)]}
    result = cc.evaluate(net, x, 1, **options)
    map_ = cc.Saliency(net).explain(x[:1], 1).maps[0, 0]
    order = np.argsort(-map_, axis=None)
    changed = np.stack([x[0]] * 4)
    for k in range(4):
        changed[k].reshape(-1)[order[: 6 * k]] = 0
    by_hand = net(torch.from_numpy(changed)).softmax(1)[:, 1].detach().numpy()
    stored = result.samples[0]["values"][result.rows[0]]["deletion"]
    np.testing.assert_allclose(stored, [[0, 1 / 3, 2 / 3, 1], by_hand], rtol=1e-5)


@pytest.mark.parametrize("over", ["cells", "frames"])
def test_what_is_no_clip_is_not_frozen(model, over):
    frozen = cc.evaluation.Deletion(baseline="freeze", over=over)
    if over == "frames":
        note = "deletion judged nothing: it has no value for these inputs and targets"
        assert cc.evaluate(model, X, 1, measures=[frozen]).notes[-1] == note
        return
    with pytest.raises(InputError, match="baseline `freeze` is for whole frames of a clip"):
        cc.evaluate(model, X, 1, measures=[frozen])


@pytest.mark.parametrize("changed", ["data", "truth", "function", "options", "file"])
def test_other_data_truths_and_options_are_another_evaluation(model, files, tmp_path, changed):
    paths, masks = files
    options = {"measures": ["energy"], "out": tmp_path / "out", "preprocess": RECIPE}
    data, truth, methods = X[:2], MASKS[:2], {"a": functools.partial(cc.Occlusion, window=4), "f": _mean}
    if changed == "file":
        data, truth, methods = paths, masks, ["gradcam"]
    cc.evaluate(model, data, 1, truth=truth, methods=methods, **options)
    cc.evaluate(
        model, data, 1, truth=truth, methods=dict(methods) if changed != "file" else methods, **options
    )
    if changed == "data":
        data = X[2:]
    elif changed == "truth":
        truth = ~truth
    elif changed == "function":
        methods["f"] = lambda x, k: -np.abs(x).mean(1)
    elif changed == "options":
        methods["a"] = functools.partial(cc.Occlusion, window=8)
    else:
        Image.open(masks[2]).rotate(90).save(masks[2])
    with pytest.raises(InputError, match="holds another evaluation"):
        cc.evaluate(model, data, 1, truth=truth, methods=methods, **options)


def test_where_a_function_lies_in_memory_makes_no_other_evaluation(model, tmp_path):
    options = {"measures": ["complexity"], "out": tmp_path / "out"}
    for _ in range(2):

        def target(outputs):
            return outputs[:, 1] * 2

        cc.evaluate(model, X, target, methods=[cc.GradCAM(model, layout=None)], **options)
    with pytest.raises(InputError, match="holds another evaluation"):
        cc.evaluate(model, X, lambda outputs: outputs[:, 2], methods=[cc.GradCAM(model)], **options)


def _mean(inputs, target):
    return np.abs(inputs).mean(1)


def test_measures_of_one_kind_are_called_by_their_options(model):
    short = cc.evaluation.Deletion(steps=4, baseline="mean")
    result = cc.evaluate(model, X, 1, measures=["deletion", short, "complexity"])
    assert [m.name for m in result.measures] == [
        "deletion",
        "deletion(steps=4, baseline=mean)",
        "complexity",
    ]
    alone = cc.evaluate(model, X, 1, measures=[short])
    np.testing.assert_allclose(
        result.values(result.rows[0], result.measures[1]),
        alone.values(alone.rows[0], alone.measures[0]),
        rtol=1e-6,
    )
    assert any("in deletion (steps 4, baseline mean) (" in text for text in result.verdicts)
    with pytest.raises(
        InputError, match="a measure is given twice; give each once, or a dict of them by names"
    ):
        cc.evaluate(model, X, 1, measures=[short, "complexity", short])


def test_a_dict_gives_measures_names_of_their_own(model, tmp_path):
    dark, light = (cc.evaluation.Deletion(steps=3, baseline=np.full((3, 12, 12), k)) for k in (0.0, 1.0))
    same = {"dark": dark, "light": light, "dark again": dark, "near": cc.evaluation.Pointing()}
    result = cc.evaluate(model, X, 1, measures=same, truth=MASKS, tolerance=3, out=tmp_path)
    means = result.to_pandas().query("method == 'layercam'").set_index("measure")["mean"]
    assert list(means.index) == list(same)
    assert means["dark"] == means["dark again"] != means["light"]
    assert result.measures[3].tolerance == 3
    assert [
        one["measure"] for one in json.loads(result.save(tmp_path / "e.json").read_text())["rows"][:1]
    ] == ["dark"]
    again = cc.evaluate(model, X, 1, measures=same, truth=MASKS, tolerance=3, out=tmp_path)
    assert again.to_pandas()["mean"].equals(result.to_pandas()["mean"])


def test_a_class_that_the_model_lacks_fails_its_own_sample(model, files):
    paths, _ = files
    options = {"measures": ["deletion"], "preprocess": RECIPE}
    result = cc.evaluate(model, [paths[0], paths[0], paths[1]], [1, 99, 2], **options)
    assert [name for name, _ in result.failures] == [paths[0]]
    alone = cc.evaluate(model, [paths[0], paths[1]], [1, 2], **options)
    measure = result.measures[0]
    np.testing.assert_allclose(
        result.values(result.rows[0], measure)[0], alone.values(alone.rows[0], measure)[0], rtol=1e-5
    )


def test_several_inputs_are_a_tuple_or_a_dict():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.fc = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(8, 4)

        def forward(self, picture, numbers):
            return 20 * self.fc(torch.cat([self.conv(picture).relu().mean((2, 3)), numbers], 1))

    numbers = np.random.default_rng(3).normal(size=(4, 2)).astype(np.float32)
    net = Two().eval()
    options = {
        "measures": ["deletion", "energy"],
        "truth": MASKS,
        "methods": {"gradcam": "gradcam", "f": _first},
    }
    by_name = cc.evaluate(net, {"picture": X, "numbers": numbers}, 1, **options | {"methods": ["gradcam"]})
    by_place = cc.evaluate(net, (X, numbers), 1, **options)
    assert np.allclose(
        by_place.values(by_place.rows[0], by_place.measures[0]),
        by_name.values(by_name.rows[0], by_name.measures[0]),
    )
    assert np.isfinite(by_place.values(by_place.rows[1], by_place.measures[1])).all()


def _first(inputs, target):
    return np.abs(inputs[0]).mean(1)


@pytest.mark.parametrize("shape", [(4, 1, 12, 12), (4, 12, 12)])
def test_one_channel_of_masks_and_maps_is_none(model, shape):
    plain = energies(model, truth=MASKS, row=1, methods={"gradcam": "gradcam", "mine": MASKS})
    given = MASKS.reshape(shape)
    np.testing.assert_array_equal(
        energies(model, truth=given, row=1, methods={"gradcam": "gradcam", "mine": given}), plain
    )
    assert (plain == 1).all()


def test_maps_may_be_of_several_sizes(model):
    coarse = [MASKS[0].astype(float), np.kron(MASKS[0], np.ones((2, 2))), np.ones((3, 3)), MASKS[0]]
    found = energies(model, truth=MASKS, row=1, methods={"gradcam": "gradcam", "mine": coarse})
    assert found[[0, 3]] == pytest.approx(1)
    assert found[1] > 0.9
    assert found[2] == pytest.approx(MASKS[0].mean())


def test_targets_and_truths_may_come_one_by_one(model):
    listed = energies(model, truth=MASKS)
    np.testing.assert_array_equal(energies(model, truth=iter(MASKS)), listed)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (
            [(0, 0, 2, 2), (1, 2)],
            "truth is a list of several shapes; expected a mask of truth values",
        ),
        ([(0, 0, 13, 5)], "is empty, or outside a picture of 12 × 12"),
    ],
)
def test_a_truth_of_no_one_form_fails_its_own_sample(model, given, why):
    result = cc.evaluate(model, X, 1, measures=["energy"], truth=[given, *MASKS[1:]])
    assert len(result.samples) == 3
    assert why in dict(result.failures)["sample 0"]


def test_a_box_of_rounded_numbers_may_reach_a_little_beyond():
    assert truth_of([(-0.2, 0, 12.004, 5)], (12, 12)).boxes == ((0, 0, 12, 5),)


def test_the_name_of_a_control_is_taken(model):
    with pytest.raises(InputError, match="`random` is the name of a control; give yours another one"):
        cc.evaluate(model, X, 1, methods={"random": np.ones((4, 3, 3))}, measures=["complexity"])


def test_one_hot_targets_are_classes(model):
    classes = np.array([0, 3, 1, 2])
    measures = {"measures": ["energy", "drop"], "truth": MASKS, "methods": ["gradcam"]}
    by_index, one_hot = (cc.evaluate(model, X, one, **measures) for one in (classes, np.eye(4)[classes]))
    assert one_hot.to_pandas()["mean"].equals(by_index.to_pandas()["mean"])
    with pytest.raises(InputError, match="a sample has 2 targets; evaluate one target for each sample"):
        cc.evaluate(model, X, np.stack([classes, classes[::-1]], axis=1), **measures)


@pytest.mark.parametrize("returned", [None, "abc", [[1, 2], [3]], 5, np.ones(12)])
def test_a_function_that_returns_no_maps_is_one_line(model, returned):
    result = cc.evaluate(model, X[:1], 1, methods={"f": lambda x, t: returned}, measures=["complexity"])
    ((_, why),) = result.failures
    assert why.startswith("`f` returned ")
    assert why.endswith("expected maps (batch, *grid)")


def test_a_list_of_numbers_is_a_map(model):
    maps = {"f": lambda x, t: MASKS[:1].astype(int).tolist()}
    assert (energies(model, truth=MASKS, row=1, methods={"gradcam": "gradcam", **maps}) == 1).all()


@pytest.mark.parametrize("given", [None, 3])
def test_what_is_no_measure_is_refused(model, given):
    with pytest.raises(InputError, match=f"measures is {given}; expected names or measures"):
        cc.evaluate(model, X, 1, measures=given)


def test_a_method_of_another_model_is_refused(model):
    own = cc.evaluate(
        model,
        X[:1],
        1,
        methods=[cc.GradCAM(model, fast=True), cc.LayerCAM(nn.DataParallel(model))],
        measures=["complexity"],
    )
    assert own.failures == ()
    other = nn.Sequential(*model.children())
    with pytest.raises(
        InputError, match="`gradcam` is a method of another model than the one that is judged"
    ):
        cc.evaluate(model, X, 1, methods=[cc.GradCAM(other)], measures=["complexity"])


def test_a_measure_without_a_value_is_not_said_to_need_a_truth_that_is_there():
    net = nn.Sequential(
        nn.Conv3d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()
    ).eval()
    clips = np.random.default_rng(0).normal(size=(2, 3, 4, 8, 8)).astype(np.float32)
    result = cc.evaluate(net, clips, 1, measures=["maxboxacc"], truth=[(1, 2, 5, 6)] * 2)
    assert result.notes == ("maxboxacc judged nothing: it has no value for these inputs, targets and truths",)


def test_a_column_of_a_table_names_the_files_and_a_whole_table_is_refused(model, tmp_path):
    names = [str(tmp_path / f"{k}.png") for k in range(2)]
    for k, name in enumerate(names):
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (12, 12, 3), np.uint8)).save(name)
    table = pd.DataFrame({"path": names, "label": [1, 2]})
    options = {"methods": ["gradcam"], "measures": ["complexity"], "preprocess": RECIPE}
    column = cc.evaluate(model, table["path"], table["label"], **options)
    listed = cc.evaluate(model, names, [1, 2], **options)
    assert [str(line.interval) for line in column.lines] == [str(line.interval) for line in listed.lines]
    with pytest.raises(InputError, match=r"data are a table with the columns \['path', 'label'\]"):
        cc.evaluate(model, table, **options)


def test_inputs_and_classes_in_one_tuple_are_told_apart_from_two_inputs(model):
    with pytest.raises(
        InputError, match=r"a tuple of 2, and the model takes one input, .*; give the classes as"
    ):
        cc.evaluate(model, (X, np.arange(4)), measures=["complexity"])
