"""Whole evaluations: the same numbers as by hand, passes shared, interrupted and gone on with, never lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import chronocam as cc
from chronocam.errors import InputError
from chronocam.evaluation.case import Case
from chronocam.evaluation.store import Store
from chronocam.joint.scores import scores_of


class Counting(nn.Module):
    """A small classifier that counts the inputs it has seen."""

    def __init__(self, side=8):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 6, 3, padding=1)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(6, 4)
        self.fc.weight.data *= 20  # beyond [0, 1]: no one takes the logits for probabilities
        self.seen = [0]  # shared by copies

    def forward(self, x):
        self.seen[0] += len(x)
        return self.fc(self.relu(self.conv(x)).mean(dim=(2, 3)))


@pytest.fixture
def model():
    return Counting().eval()


X = np.random.default_rng(0).normal(size=(5, 2, 8, 8)).astype(np.float32)
MASKS = np.zeros((5, 8, 8), bool)
MASKS[:, 2:5, 2:5] = True


def test_values_are_those_of_maps_and_measures_by_hand(model):
    result = cc.evaluate(
        model, X, 1, methods=["gradcam", "layercam"], measures=["deletion", "energy", "drop"], truth=MASKS
    )
    names = {measure.name: measure for measure in result.measures}
    for row in result.rows[:2]:
        e = cc.methods.METHODS[row.method](model).explain(X, 1)
        maps = e.upsample()[:, 0]
        np.testing.assert_allclose(
            result.values(row, names["energy"]), cc.metrics.energy_inside(maps, MASKS), rtol=1e-5
        )

        def score(x):
            return torch.softmax(model(torch.from_numpy(x).float()), dim=1)[:, 1].detach()

        for k in range(5):
            curve = cc.metrics.deletion(
                lambda x: score(x).numpy(), X[k : k + 1], maps[k : k + 1], steps=10, seed=k
            )
            assert result.values(row, names["deletion"])[k] == pytest.approx(curve.area[0], rel=1e-4)
        kept = score(cc.metrics.highlighted(X, maps)).numpy()
        drops = cc.metrics.average_drop(score(X).numpy(), kept)
        np.testing.assert_allclose(result.values(row, names["drop"]), drops, atol=1e-4)


def test_rows_are_methods_at_layers_and_four_controls(model):
    result = cc.evaluate(
        model, X, layers=["conv", "relu"], methods=["gradcam", "saliency"], measures="insertion"
    )
    assert [(row.method, row.layer, row.control) for row in result.rows] == [
        ("gradcam", "conv", False),
        ("gradcam", "relu", False),
        ("saliency", "input", False),
        ("random", "", True),
        ("centre", "", True),
        ("edges", "", True),
        ("randomised", "", True),
    ]
    table = result.to_pandas()
    assert list(table.columns) == list(cc.evaluation.result.COLUMNS)
    assert len(table) == 7
    assert table.cost[:3].gt(0).all()
    assert table.cost[3:].isna().all()
    assert np.isnan(table.difference[0])
    first, other = table["mean"][0], table["mean"][1]
    assert table.difference[1] == pytest.approx(other - first, abs=1e-12)
    assert table.difference[3] == pytest.approx(table["mean"][3] - first, abs=1e-12)


def test_the_same_inputs_go_through_the_model_once(model):
    before = model.seen[0]
    result = cc.evaluate(
        model,
        X,
        1,
        # In this network both are the same map: their changed inputs are the same.
        methods=["gradcam", "hirescam", "layercam"],
        measures=["deletion", "insertion", "drop", "mufidelity"],
    )
    run = model.seen[0] - before
    assert result.passes < result.alone / 2
    # Beside those counted: the first search for the layer, and the clock's.
    assert result.passes <= run <= result.passes + 60
    by_measure = [
        cc.evaluate(model, X, 1, methods=["gradcam", "hirescam", "layercam"], measures=[name]).passes
        for name in ("deletion", "insertion", "drop", "mufidelity")
    ]
    assert result.passes < sum(by_measure)


def test_what_is_known_is_not_scored_again(model):
    result = cc.evaluate(model, X[:1], 1, methods=["gradcam", "hirescam"], measures=["deletion"])
    # The map and that of random weights; all cells gone; nine steps of five orders, since two maps are equal.
    assert result.passes == 1 + 1 + 1 + 9 * 5


def test_road_is_read_off_curves_that_fill_gaps_as_it_does(model):
    curves = [cc.evaluation.Deletion(baseline="road"), cc.evaluation.Insertion(baseline="road")]
    passes = [cc.evaluate(model, X, 1, measures=some).passes for some in (curves, [*curves, "road"])]
    assert passes[1] == passes[0]
    by_itself = cc.evaluate(model, X, 1, measures=["road"])
    together = cc.evaluate(model, X, 1, measures=[*curves, "road"])
    np.testing.assert_allclose(
        together.values(together.rows[0], together.measures[2]),
        by_itself.values(by_itself.rows[0], by_itself.measures[0]),
        rtol=1e-5,
    )


def test_large_inputs_are_scored_a_few_at_a_time():
    rows = []

    class Watched(nn.Module):
        def forward(self, x):
            rows.append(len(x))
            return x.mean((2, 3))

    method = cc.Saliency(Watched(), batch_size=16)
    few = cc.engines.engine_for(Watched()).values_at_once // (3 * 224 * 224)
    x = np.random.default_rng(0).normal(size=(16, 3, 224, 224)).astype(np.float32)
    values = scores_of(method, x, 1).values[:, 0]
    np.testing.assert_allclose(values, x[:, 1].mean((1, 2)), atol=1e-6)
    assert 1 < max(rows) <= few < 16
    rows.clear()
    scores_of(method, x[:, :, :8, :8], 1)
    assert max(rows) == 16


def test_equal_maps_are_put_in_order_once():
    case = Case(X[0], 0.0, 0.5, 1, 4, None, seed=0)
    map_ = np.random.default_rng(1).random((8, 8)).astype(np.float32)
    assert case.cells(map_) is case.cells(map_.copy())
    assert case.cells(map_) is not case.cells(map_[::-1])


def test_classes_of_one_picture_are_scored_in_one_pass(model, tmp_path):
    paths = []
    for k in range(2):
        paths.append(str(tmp_path / f"{k}.png"))
        Image.fromarray((255 * np.random.default_rng(k).random((8, 8, 3))).astype(np.uint8)).save(paths[k])

    def two_channels(image):
        return np.asarray(image, np.float32)[..., :2].transpose(2, 0, 1) / 64 - 2

    options = {
        "methods": ["eigencam", "gradcam"],
        "measures": ["deletion", "road", "mufidelity"],
        "preprocess": two_channels,
    }
    result = cc.evaluate(model, [paths[0], paths[1], paths[1]], [3, 0, 2], **options)
    passes = []
    for number, (path, target) in enumerate([(paths[0], 3), (paths[1], 0), (paths[1], 2)]):
        alone = cc.evaluate(model, [path], target, seed=min(number, 1), **options)
        passes.append(alone.passes)
        for row in result.rows[:-1]:  # the last one is of random weights, which the seed changes too
            for measure in result.measures:
                assert result.values(row, measure)[number] == pytest.approx(
                    alone.values(row, measure)[0], abs=1e-5
                )
    # Both classes of the second picture share what no class changes: EigenCAM, three controls, random sets.
    assert result.passes <= sum(passes) - 200 - 4 * (9 + 10)


def test_a_value_is_of_its_own_sample(model):
    together = cc.evaluate(model, X, [0, 1, 2, 3, 1], measures=["deletion", "max_sensitivity"])
    for k in (0, 3):
        alone = cc.evaluate(
            model, X[k : k + 1], [[0, 1, 2, 3, 1][k]], measures=["deletion", "max_sensitivity"], seed=k
        )
        for row in together.rows[:2]:
            for measure in together.measures:
                assert together.values(row, measure)[k] == pytest.approx(
                    alone.values(row, measure)[0], rel=1e-4
                )


def test_maps_from_elsewhere_are_judged_beside_the_methods(model):
    def constant(inputs, target):
        assert target == 1
        return np.ones((len(inputs), 4, 4))

    given = np.zeros((5, 8, 8), np.float32)
    given[:, 2:5, 2:5] = 1
    result = cc.evaluate(
        model,
        X,
        1,
        methods={"gradcam": "gradcam", "constant": constant, "mine": given},
        measures=["energy", "pointing", "max_sensitivity"],
        truth=MASKS,
    )
    table = result.to_pandas().set_index(["method", "measure"])
    assert table.loc[("mine", "energy"), "mean"] == 1
    assert table.loc[("constant", "energy"), "mean"] == pytest.approx(9 / 64)
    assert table.loc[("constant", "max_sensitivity"), "mean"] == 0
    assert ("mine", "max_sensitivity") not in table.index  # maps that are there cannot be asked again


@pytest.mark.parametrize("name", ["captum:LayerGradCam", "torchcam:LayerCAM", "grad-cam:HiResCAM"])
def test_methods_of_other_libraries_are_judged_on_the_same_inputs(model, name):
    pytest.importorskip(
        {"captum": "captum", "torchcam": "torchcam", "grad-cam": "pytorch_grad_cam"}[name.split(":")[0]]
    )
    hooks = [len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules()]
    result = cc.evaluate(model, X, 1, methods=["gradcam", name], measures=["energy"], truth=MASKS)
    measure = result.measures[0]
    assert result.rows[1].method == name
    assert np.isfinite(result.values(result.rows[1], measure)).all()
    if name == "captum:LayerGradCam":
        np.testing.assert_allclose(
            result.values(result.rows[1], measure), result.values(result.rows[0], measure), atol=0.05
        )
    assert [len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules()] == hooks


def test_one_module_alone_is_random_where_that_is_asked_for(model):
    copy = cc.metrics.random_copy(model, 2, alone=True)
    assert torch.equal(copy.fc.weight, model.fc.weight)
    assert not torch.equal(copy.conv.weight, model.conv.weight)
    alone = cc.evaluation.Randomisation(shares=(0.5,), independent=True)
    below = cc.evaluation.Randomisation(shares=(1.0,), independent=True)
    # With its head alone random, the map is another one than with its convolution alone random.
    values = [cc.evaluate(model, X, 1, measures=[one]).lines[0].interval.mean for one in (alone, below)]
    assert values[0] != pytest.approx(values[1], abs=1e-3)


@pytest.mark.parametrize("size", [1e-12, 1e9])
def test_agreement_does_not_hang_on_the_size_of_values(model, size):
    values = np.random.default_rng(0).random((len(X), 4, 4)) * size
    result = cc.evaluate(model, X, 1, methods={"gradcam": "gradcam", "mine": values}, measures=["complexity"])
    assert result.agreement[1, 1] == pytest.approx(1)


def test_agreement_is_how_alike_the_maps_are(model):
    result = cc.evaluate(model, X, 1, methods=["gradcam", "hirescam", "saliency"], measures=["complexity"])
    assert result.agreement.shape == (7, 7)
    np.testing.assert_allclose(np.diag(result.agreement)[:4], 1)
    assert result.agreement[0, 1] == pytest.approx(1, abs=1e-3)  # one and the same in this network
    assert result.agreement[0, 2] < 0.95
    np.testing.assert_allclose(result.agreement, result.agreement.T)
    assert abs(result.agreement[0, 3]) < 0.6  # noise


def test_an_unreadable_sample_is_a_failure_and_the_others_go_on(model):
    data = X.copy()
    data[2] = np.nan
    truth = [MASKS[0], MASKS[1][:4], None, MASKS[3], None]
    result = cc.evaluate(model, data, 1, measures=["energy"], truth=truth)
    failed = dict(result.failures)
    assert set(failed) == {"sample 1", "sample 2"}
    assert failed["sample 1"].startswith("a mask of the truth has shape (4, 8); expected (8, 8)")
    assert [sample["sample"] for sample in result.samples] == [0, 3, 4]
    assert result.lines[0].interval.count == 2


def test_samples_of_one_picture_count_as_one():
    line = cc.evaluation.result.Evaluation(
        (cc.evaluation.panel.Row("gradcam"),),
        (cc.evaluation.Energy(),),
        tuple(
            {"sample": k, "group": group, "values": {cc.evaluation.panel.Row("gradcam"): {"energy": value}}}
            for k, (group, value) in enumerate([("a", 0.0), ("a", 1.0), ("b", 0.1), ("c", 0.9)])
        ),
    ).lines[0]
    assert line.interval.count == 3
    assert line.interval.mean == pytest.approx((0.5 + 0.1 + 0.9) / 3)


def test_an_interrupted_evaluation_goes_on_without_loss(model, tmp_path):
    classes, measures = [0, 1, 2, 3, 1], ["deletion", "road", "focus"]
    whole = cc.evaluate(model, X, classes, measures=measures, seed=3)
    with pytest.raises(KeyboardInterrupt):
        cc.evaluate(
            model, X, classes, measures=measures, seed=3, out=tmp_path / "out", progress=_interrupted(2)
        )
    file = tmp_path / "out" / "samples.jsonl"
    text = file.read_bytes()
    file.write_bytes(text[:-40])  # as if it had been killed while it wrote
    seen = []
    result = cc.evaluate(
        model,
        X,
        classes,
        measures=measures,
        seed=3,
        out=tmp_path / "out",
        progress=lambda samples: seen.append(len(list(samples))) or samples,
    )
    assert seen == [4]  # one of two was whole
    assert result.records()[0]["mean"] == pytest.approx(whole.records()[0]["mean"], rel=1e-12)
    focus = whole.measures[2]  # which makes mosaics of the samples before
    assert np.isfinite(whole.values(whole.rows[0], focus)[2:]).all()
    np.testing.assert_allclose(
        result.values(result.rows[0], focus), whole.values(whole.rows[0], focus), rtol=1e-5
    )
    assert (result.passes, result.alone) == (whole.passes, whole.alone)
    again = cc.evaluate(model, X, classes, measures=measures, seed=3, out=tmp_path / "out")
    assert again.records()[1]["low"] == whole.records()[1]["low"]


def test_a_run_that_is_killed_keeps_what_it_judged(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    script = """
import os, sys
import numpy as np
import chronocam as cc
from chronocam.evaluation import run
from evaluation.test_evaluate import Counting, X

run._TABLE_EVERY = 0.0

def killed(samples):
    for number, sample in enumerate(samples):
        if number == 3:
            os.kill(os.getpid(), 9)
        yield sample

cc.evaluate(Counting().eval(), X, 1, measures=["deletion", "drop"], out=sys.argv[1], progress=killed)
"""
    tests, out = str(Path(__file__).parents[1]), tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    done = subprocess.run([sys.executable, "-c", script, str(out)], env=environment, check=False)
    assert done.returncode == -9
    table = pandas.read_parquet(out / "samples.parquet")
    assert set(table["sample"]) == {0, 1, 2}
    assert len(table) == 3 * 6 * 2
    options = {"measures": ["deletion", "drop"]}
    seen = []
    again = cc.evaluate(
        Counting().eval(), X, 1, out=out, progress=lambda left: seen.extend(left) or seen, **options
    )
    assert [sample.number for sample in seen] == [3, 4]
    whole = cc.evaluate(Counting().eval(), X, 1, **options)
    assert (again.passes, again.alone) == (whole.passes, whole.alone)
    for row in whole.rows:
        for measure in whole.measures:
            np.testing.assert_allclose(again.values(row, measure), whole.values(row, measure), rtol=1e-5)
    assert set(pandas.read_parquet(out / "samples.parquet")["sample"]) == {0, 1, 2, 3, 4}


def _interrupted(after):
    def progress(samples):
        for k, sample in enumerate(samples):
            if k == after:
                raise KeyboardInterrupt
            yield sample

    return progress


@pytest.mark.parametrize("changed", ["weights", "measures", "targets", "seed"])
def test_another_evaluation_in_the_same_folder_is_refused(model, tmp_path, changed):
    options = {"measures": ["deletion"], "seed": 0, "out": tmp_path / "out"}
    cc.evaluate(model, X, 1, **options)
    target = 1
    if changed == "weights":
        model.fc.weight.data[0, 0] += 1e-3
    elif changed == "targets":
        target = 2
    else:
        options[changed] = {"measures": ["insertion"], "seed": 1}[changed]
    with pytest.raises(InputError, match="holds another evaluation"):
        cc.evaluate(model, X, target, **options)


def test_a_store_takes_any_bytes(tmp_path):
    file = tmp_path / "samples.jsonl"
    for text in (b"", b"\xff\xfe", b"[1]\n", b'{"head": "other"}\n'):
        file.write_bytes(text)
        store = Store(file, "mine")
        if text:
            with pytest.raises(InputError, match="holds another evaluation"):
                list(store.lines())
    file.write_bytes(b'{"head": "mine"}\nnot json\n[3]\n{"sample": 1}\n{"sample"')
    store = Store(file, "mine")
    store.add({"sample": 2})
    assert list(store.lines()) == [{"sample": 2}]  # the others were not written so


def test_a_budget_ends_before_the_next_sample(model):
    result = cc.evaluate(model, X, 1, measures=["deletion"], budget=60)
    assert 0 < len(result.samples) < 5
    assert result.notes[-1].startswith("stopped at ")
    assert f"after {len(result.samples)} of 5 samples" in result.notes[-1]


def test_the_model_is_left_as_it_was(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    cc.evaluate(model, X[:2], 1, measures=["randomisation", "random_logit", "coherency"])
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measures": ["deletoin"]}, r"no measure `deletoin`; did you mean `deletion`"),
        ({"methods": ["gradcam", "gradcam"]}, "given twice"),
        ({"measures": []}, "measures is empty"),
        ({"measures": ["road", "road"]}, "a measure is given twice"),
        ({"methods": []}, "methods is empty"),
        ({"methods": [3]}, "methods hold 3; expected a name"),
        ({"methods": ["captum:Nope"]}, "captum has no method `Nope`"),
        ({"methods": ["camptum:X"]}, "no library `camptum`; did you mean `captum`"),
        ({"targets": [1, 2]}, "targets holds 2 for 5 samples"),
        ({"truth": MASKS[:2]}, "truth holds 2 for 5 samples"),
        ({"tolerance": -1}, "tolerance is -1"),
        ({"budget": 0}, "budget is 0"),
        (
            {"methods": {"mine": np.zeros((2, 8, 8))}, "measures": ["energy"]},
            "`mine` holds 2 maps for 5 samples",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(model, options, message):
    with pytest.raises(InputError, match=message) as caught:
        cc.evaluate(model, X, **{"measures": ["deletion"], **options})
    assert "\n" not in str(caught.value)


def test_maps_from_elsewhere_that_are_missing_leave_the_others_judged(model, tmp_path):
    def sometimes(inputs, target):
        if inputs[0, 0, 0, 0] in X[[0, 2], 0, 0, 0]:
            raise KeyError("no such thing")
        return inputs[:, 0]

    maps = np.ones((5, 4, 4))
    maps[3] = np.nan
    methods = {"gradcam": "gradcam", "mine": sometimes, "given": maps, "broken": lambda x, t: 1 / 0}
    result = cc.evaluate(model, X, 1, methods=methods, measures=["complexity"], out=tmp_path)
    again = cc.evaluate(model, X, 1, methods=methods, measures=["complexity"], out=tmp_path)
    alone = cc.evaluate(model, X, 1, methods=["gradcam"], measures=["complexity"])
    measure = result.measures[0]
    for one in (result, again):
        assert [str(row) for row in one.rows if not row.control] == [
            "gradcam at relu",
            "mine",
            "broken",
            "given",
        ]
        assert ("sample 2", "`mine` failed (KeyError: 'no such thing')") in one.failures
        assert ("sample 3", "the map of given holds NaN or infinity") in one.failures
        assert sum("`broken` failed (ZeroDivisionError" in why for _, why in one.failures) == 5
        assert len(one.failures) == 8
        np.testing.assert_array_equal(one.values(one.rows[0], measure), alone.values(alone.rows[0], measure))
        assert np.isfinite(one.values(one.rows[1], measure)).tolist() == [False, True, False, True, True]
        assert one.agreement[1, 3] == 0  # a constant is like nothing
    assert result.to_pandas().samples[1] == 3
    result.save(tmp_path / "e.html")


def test_a_function_has_no_map_of_other_weights(model):
    def mean(inputs, target):
        return inputs.mean(1)

    measures = ["randomisation", "efficient_randomisation", "random_logit", "max_sensitivity"]
    result = cc.evaluate(model, X, 1, methods=["gradcam", mean], measures=measures)
    of = [result.values(result.rows[1], measure) for measure in result.measures]
    assert np.isnan(of[:2]).all()
    assert np.isfinite(of[2:]).all()
    # Of other functions of the model nothing is claimed: no value is no likeness.
    assert not [
        line for line in result.lines if line.row.method == "mean" and "randomisation" in line.measure.name
    ]


def test_methods_of_other_libraries_are_judged_at_every_layer(model):
    pytest.importorskip("captum")
    names = ["gradcam", "captum:LayerGradCam", "captum:Saliency"]
    result = cc.evaluate(model, X[:1], 1, methods=names, layers=["conv", "relu"], measures=["complexity"])
    assert [str(row) for row in result.rows[:5]] == [
        *("gradcam at conv", "gradcam at relu"),
        *("captum:LayerGradCam@conv", "captum:LayerGradCam@relu", "captum:Saliency"),
    ]
    values = [float(result.values(row, result.measures[0])[0]) for row in result.rows[:4]]
    assert values[2] != pytest.approx(values[3])  # each at its own


class Beside(nn.Module):
    """The small classifier, with numbers beside the picture."""

    def __init__(self):
        super().__init__()
        self.inner = Counting()

    def forward(self, number, picture):
        return self.inner(picture) * number[:, :1]


def test_models_of_several_inputs_are_judged_on_the_one_with_places(model):
    numbers = np.linspace(0.5, 1.5, 5, dtype=np.float32)[:, None]
    options = {"measures": ["deletion", "max_sensitivity", "infidelity"], "methods": ["gradcam", "layercam"]}
    both = {"number": numbers, "picture": X}
    result = cc.evaluate(Beside().eval(), both, 1, **options)
    for k in (0, 4):
        scaled = Counting().eval()
        scaled.fc.weight.data *= float(numbers[k, 0])
        scaled.fc.bias.data *= float(numbers[k, 0])
        alone = cc.evaluate(scaled, X[k : k + 1], 1, seed=k, **options)
        for row, same in zip(result.rows[:5], alone.rows[:5], strict=True):
            for measure in result.measures:
                np.testing.assert_allclose(
                    result.values(row, measure)[k], alone.values(same, measure)[0], rtol=1e-3, atol=1e-5
                )
    with pytest.raises(InputError, match="no input `image`; the data hold number, picture"):
        cc.evaluate(Beside().eval(), both, 1, on="image", **options)
    with pytest.raises(InputError, match="different numbers of samples"):
        cc.evaluate(Beside().eval(), {**both, "number": numbers[:2]}, 1, **options)


def test_half_precision_is_judged(model):
    result = cc.evaluate(model.half(), X.astype(np.float16), 1, measures=["deletion", "insertion"])
    assert all(np.isfinite(line.interval.mean) for line in result.lines)


def test_one_layer_is_a_path_and_not_its_letters(model):
    result = cc.evaluate(model, X[:1], 1, methods="gradcam", layers="conv", measures=["complexity"])
    assert [str(row) for row in result.rows if not row.control] == ["gradcam at conv"]


def test_measures_without_their_truth_say_so(model):
    result = cc.evaluate(model, X, 1, measures=["energy", "deletion"])
    assert "energy judged nothing: it needs truth= (mask)" in result.notes
    assert {line.measure.name for line in result.lines} == {"deletion"}


def test_black_boxes_are_judged_but_for_random_weights():
    torch.manual_seed(0)
    net = Counting().eval()

    def scores(x):
        with torch.no_grad():
            return net(torch.from_numpy(np.asarray(x, np.float32))).numpy()

    result = cc.evaluate(
        cc.blackbox(scores), X[:2], 1, methods=["occlusion", "rise"], measures=["deletion"], budget=None
    )
    assert [row.method for row in result.rows] == ["occlusion", "rise", "random", "centre", "edges"]
    assert any("black box" in note for note in result.notes)


def test_clips_are_judged_in_space_and_time():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    clips = np.random.default_rng(1).normal(size=(3, 1, 6, 8, 8)).astype(np.float32)
    active = np.zeros((3, 6), bool)
    active[:, 2:4] = True
    measures = [cc.evaluation.Deletion(steps=4), "temporal_iou", "temporal_auc", "flicker", "road"]
    result = cc.evaluate(net.eval(), clips, 1, measures=measures, truth=active)
    assert {line.measure.name for line in result.lines} == {
        "deletion",
        "temporal_iou",
        "temporal_auc",
        "flicker",
        "road",
    }
    flat = cc.evaluate(
        net,
        clips,
        1,
        measures=["energy"],
        truth=np.broadcast_to(active[:, :, None, None], (3, 6, 8, 8)).copy(),
    )
    assert flat.lines[0].interval.count == 3


def test_evaluations_are_written_as_json_parquet_and_page(model, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    result = cc.evaluate(model, X, 1, measures=["deletion", "energy", "pxap"], truth=MASKS)
    data = json.loads(result.save(tmp_path / "e.json").read_text())
    assert data["rows"][0]["method"] == "gradcam"
    assert data["verdicts"] == result.verdicts
    assert len(data["samples"]) == 5 * 6 * 3
    table = pq.read_table(result.save(tmp_path / "e.parquet")).to_pandas()
    one = table[(table.method == "layercam") & (table.measure == "energy")]
    np.testing.assert_allclose(one.value, result.values(result.rows[1], result.measures[1]))
    page = result.save(tmp_path / "e.html").read_text()
    assert "default-src 'none'" in page
    with pytest.raises(cc.errors.MediaError, match=r"expected \.html, \.json or \.parquet"):
        result.save(tmp_path / "e.txt")


def test_hostile_names_run_nothing_on_the_page(model, tmp_path):
    result = cc.evaluate(
        model,
        X[:2],
        1,
        methods={"</script><img src=x onerror=alert(1)>": lambda x, t: np.ones((len(x), 8, 8))},
        measures=["energy"],
        truth=MASKS[:2],
    )
    text = result.save(tmp_path / "e.html").read_text()
    assert "<img src=x" not in text
    assert "<img src=x" not in result._repr_html_()


def test_damaged_lines_are_judged_anew(model, tmp_path):
    ask = {"methods": ["gradcam"], "measures": ["drop"], "out": tmp_path}
    whole = cc.evaluate(model, X, 1, **ask)
    path = tmp_path / "samples.jsonl"
    lines = path.read_text().splitlines()
    record = json.loads(lines[2])
    record["rows"][0]["values"]["drop"] += 1
    lines[2], lines[3] = json.dumps(record), lines[3][:-40]
    path.write_text("\n".join(lines) + "\n")
    seen = model.seen[0]
    again = cc.evaluate(model, X, 1, **ask)
    assert model.seen[0] > seen
    assert [s["values"] for s in again.samples] == [s["values"] for s in whole.samples]


def test_a_place_that_cannot_be_written_is_one_line(model, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(
        cc.errors.MediaError, match=r"^cannot write `.*samples.jsonl`: .*; choose another place$"
    ):
        cc.evaluate(model, X, 1, methods=["gradcam"], measures=["drop"], out=tmp_path / "file" / "out")


class Numbered:
    """A data set of single samples by number, as PyTorch's are."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, number):
        return self.samples[number]


def test_a_data_set_of_samples_by_number_is_judged_as_its_batches_are(model):
    labels = [1, 0, 3, 2, 1]
    batches = cc.evaluate(model, [(X, labels)], measures=["insertion"])
    pictures = [Image.fromarray(one) for one in (255 * MASKS).astype(np.uint8)]

    def preprocess(picture):
        return np.stack([np.asarray(picture, np.float32) / 255] * 2)

    for samples, own in (
        (list(zip(X, labels, strict=True)), batches),
        ([{"image": x, "label": k} for x, k in zip(X, labels, strict=True)], batches),
        (
            list(zip(pictures, labels, strict=True)),
            cc.evaluate(model, pictures, np.array(labels), measures=["insertion"], preprocess=preprocess),
        ),
    ):
        found = cc.evaluate(model, Numbered(samples), measures=["insertion"], preprocess=preprocess)
        assert found.to_pandas()["mean"].equals(own.to_pandas()["mean"])
