"""Targets: every form that `targets=` takes, every score by hand, and refusals that say what to do."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import seeded
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import TargetError
from chronocam.targets import (
    Class,
    Contrast,
    Counter,
    NegativeLoss,
    Norm,
    Predicted,
    Region,
    Regression,
    parse,
)
from chronocam.targets.tasks import task
from chronocam.types import Outputs, Scored, Target

LOGITS = np.array([[1.0, 5.0, 2.0, -1.0], [3.0, 0.5, 7.0, 4.0], [-2.0, -6.0, -3.0, -1.5]], dtype=np.float32)
LABELS = ["tench", "tabby, tabby cat", "tiger cat", "plane"]
ARRAYS: list[Callable[[Any], Any]] = [np.asarray, lambda a: torch.from_numpy(np.asarray(a))]


def outputs(
    raw: Any = LOGITS, rows: slice | None = None, labels: list[str] | None = None, logits: Any = None
) -> Outputs:
    main = raw if logits is None else logits
    return Outputs(raw, lambda: main, rows or slice(0, len(main)), labels)


def scored(targets: Any, samples: int | None = 3, **options: Any) -> Scored:
    found = parse(targets, samples)(outputs(**options))
    assert len(found.infos) == found.values.shape[0]
    assert all(len(row) == found.values.shape[1] for row in found.infos)
    return found


def values(targets: Any, **options: Any) -> list[list[float]]:
    return np.asarray(scored(targets, **options).values).tolist()


def names(targets: Any, **options: Any) -> list[list[str]]:
    return [[str(info) for info in row] for row in scored(targets, **options).infos]


def indices(targets: Any, **options: Any) -> list[list[int | None]]:
    return [[info.index for info in row] for row in scored(targets, **options).infos]


def refused(targets: Any, *words: str, samples: int | None = 3, **options: Any) -> None:
    with pytest.raises(TargetError) as error:
        parse(targets, samples)(outputs(**options))
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def column(index: int) -> list[list[float]]:
    return LOGITS[:, [index]].tolist()


# What `targets=` takes


@pytest.mark.parametrize("array", ARRAYS)
def test_none_is_the_predicted_class(array: Any) -> None:
    for targets in (None, Predicted()):
        assert values(targets, raw=array(LOGITS)) == [[5.0], [7.0], [-1.5]]
        assert indices(targets, raw=array(LOGITS)) == [[1], [2], [3]]
    assert names(None, labels=LABELS) == [["tabby, tabby cat"], ["tiger cat"], ["plane"]]
    assert names(None) == [["class 1"], ["class 2"], ["class 3"]]
    assert names(None, labels=LABELS[:2]) == [["tabby, tabby cat"], ["class 2"], ["class 3"]]


def test_the_k_predicted_classes_best_first() -> None:
    assert values(Predicted(3)) == [[5.0, 2.0, 1.0], [7.0, 4.0, 3.0], [-1.5, -2.0, -3.0]]
    assert indices(Predicted(3)) == [[1, 2, 0], [2, 3, 0], [3, 0, 2]]
    assert indices(Predicted(2), raw=np.zeros((1, 4))) == [[0, 1]]  # ties by index
    for k in (0, 5):
        refused(Predicted(k), f"k is {k}", "1 to 4")


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize(
    "one",
    [
        2,
        np.int64(2),
        np.uint8(2),
        np.array(2),
        2.0,
        np.float32(2),
        torch.tensor(2),
        Class(2),
        Class(np.int64(2)),
    ],
)
def test_one_class_for_all(one: Any, array: Any) -> None:
    assert values(one, raw=array(LOGITS)) == column(2)
    (row, *_) = scored(one, raw=array(LOGITS)).infos
    assert [(info.name, info.index) for info in row] == [("class 2", 2)]
    json.dumps(row[0].index)


@pytest.mark.parametrize("one", ["tiger cat", "Tiger Cat", Class("tiger cat")])
def test_one_label_for_all(one: Any) -> None:
    assert values(one, labels=LABELS) == column(2)
    assert names(one, labels=LABELS) == [["tiger cat"]] * 3


def test_labels_that_name_nothing_or_too_much() -> None:
    refused("cat", "`cat` names 2 classes", "1 `tabby, tabby cat`", "2 `tiger cat`", labels=LABELS)
    refused("tencj", "no label `tencj`", "did you mean `tench`", labels=LABELS)
    refused("tench", "carries no labels", "class index", "model.labels")


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor, lambda a: np.array(a, np.uint8)])
def test_one_class_per_sample(make: Any, array: Any) -> None:
    assert values(make([3, 0, 2]), raw=array(LOGITS)) == [[-1.0], [3.0], [-3.0]]
    assert indices(make([3, 0, 2])) == [[3], [0], [2]]
    assert names(make([3, 0, 2]), labels=LABELS) == [["plane"], ["tench"], ["tiger cat"]]
    assert values(make([3, 0, 2]), raw=array(LOGITS)[1:2], rows=slice(1, 2)) == [[3.0]]


def test_tensors_as_a_list_of_classes() -> None:
    assert values([torch.tensor(3), torch.tensor(0), torch.tensor(2)]) == [[-1.0], [3.0], [-3.0]]
    assert values([np.int64(3), np.int32(0), 2]) == [[-1.0], [3.0], [-3.0]]


@pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor, lambda a: [np.array(r) for r in a]])
def test_several_classes_per_sample(make: Any) -> None:
    given = make([[3, 0], [0, 0], [2, 1]])
    assert values(given) == [[-1.0, 1.0], [3.0, 3.0], [-3.0, -6.0]]
    assert indices(given) == [[3, 0], [0, 0], [2, 1]]
    assert values(given, raw=LOGITS[2:], rows=slice(2, 3)) == [[-3.0, -6.0]]
    assert indices(make([[1, 0], [0, 1], [0, 1]])) == [[1, 0], [0, 1], [0, 1]]  # two columns are indices
    assert indices(make([[0, 1, 1], [1, 0, 0], [0, 0, 1]])) == [[0, 1, 1], [1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("kind", [np.float32, np.float64, int, bool, np.uint8])
@pytest.mark.parametrize("array", ARRAYS)
def test_one_hot_rows_are_classes(kind: Any, array: Any) -> None:
    given = array(np.eye(4)[[3, 0, 2]].astype(kind))
    assert values(given) == [[-1.0], [3.0], [-3.0]]
    assert indices(given) == [[3], [0], [2]]
    assert names(given, labels=LABELS) == [["plane"], ["tench"], ["tiger cat"]]
    assert values(given, raw=LOGITS[1:], rows=slice(1, 3)) == [[3.0], [-3.0]]


@pytest.mark.parametrize("array", ARRAYS)
def test_float_rows_weigh_the_outputs(array: Any) -> None:
    given = array(np.array([[0.5, 0, 2, 0], [0, 0, 0, -1], [0, 2, 0, 0]]))
    assert values(given, raw=array(LOGITS)) == [[4.5], [-4.0], [-12.0]]
    assert names(given) == [["weighted outputs"]] * 3
    assert indices(given) == [[None]] * 3


@pytest.mark.parametrize("array", ARRAYS)
def test_several_targets_for_every_sample(array: Any) -> None:
    def doubled(out: Any) -> Any:
        return out[:, 0] * 2

    given = [Class(1), 3, "tench", doubled, Predicted(2), lambda out: out[:, 1]]
    found = scored(given, raw=array(LOGITS), labels=LABELS)
    assert np.asarray(found.values).tolist() == [
        [5.0, -1.0, 1.0, 2.0, 5.0, 2.0, 5.0],
        [0.5, 4.0, 3.0, 6.0, 7.0, 4.0, 0.5],
        [-6.0, -1.5, -2.0, -4.0, -1.5, -2.0, -6.0],
    ]
    assert [str(info) for info in found.infos[1]] == [
        *("tabby, tabby cat", "plane", "tench", "doubled", "tiger cat", "plane", "score")
    ]


def test_a_callable_gets_what_the_model_returned() -> None:
    raw = {"boxes": LOGITS, "other": 3}
    assert (
        values(lambda out: out["boxes"][:, 1] * out["other"], raw=raw, logits=LOGITS)
        == (3 * LOGITS[:, [1]]).tolist()
    )


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (4, ["no class 4", "4 outputs, 0 to 3"]),
        (-1, ["no class -1", "0 to 3"]),
        (Class(99), ["no class 99", "0 to 3"]),
        (Class(True), ["True is not a class", "integer index or a label"]),
        ([0, 4, 1], ["no class 4", "0 to 3"]),
        ([0, -1, 1], ["no class -1"]),
        (np.array([[0, 1], [2, 9], [0, 0]]), ["no class 9"]),
        ([0, 1], ["length 2", "3, one class per sample", "cc.targets.Class"]),
        ([0, 1, 2, 3], ["length 4", "expected 3"]),
        (np.array([0, 1]), ["length 2", "expected 3"]),
        (np.zeros((2, 4)), ["length 2", "expected 3"]),
        (np.zeros((3, 5)), ["5 columns", "4 outputs"]),
        (np.eye(3, dtype=int), ["3 columns", "4 outputs"]),
        ([], ["empty", "None"]),
        (1.5, ["1.5", "integer"]),
        (float("nan"), ["nan", "integer"]),
        (float("inf"), ["inf", "integer"]),
        ([0.0, 1.0, 2.0], ["(3,)", "float64"]),
        (np.array([0.5, 1.0, 2.0], np.float32), ["(3,)", "float32"]),
        (True, ["bool", "class index"]),
        (np.True_, ["bool", "class index"]),
        (np.array(True), ["bool", "class index"]),
        (torch.tensor(True), ["bool", "class index"]),
        ([True, False, True], ["bool"]),
        (np.array([True, False, True]), ["(3,)", "bool"]),
        (np.array([b"a", b"b", b"c"]), ["(3,)"]),
        (np.array(["a", "b", "c"]), ["no labels"]),
        (np.zeros((3, 2, 2), int), ["(3, 2, 2)"]),
        ([[0, 1], [2]], ["rows", "length"]),
        ({"a": 1}, ["a dict", "class index"]),
        (b"cat", ["a bytes"]),
        ({1}, ["a set"]),
        (object(), ["a object", "callable"]),
        ([Class(0), object()], ["a object"]),
        ([Class(0), None], ["a NoneType"]),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets: Any, words: list[str]) -> None:
    refused(targets, *words)


def test_callables_must_return_one_score_per_sample() -> None:
    refused(lambda out: out, "returned shape (3, 4)", "(3,)")
    refused(lambda out: out[:, 0].sum(), "returned shape ()", "(3,)")
    refused(lambda out: None, "returned shape ()", "one score per sample")
    refused(lambda out, rows, more: out[:, 0], "takes 3 arguments", "rows")
    refused(cc.targets.Predicted, "is a class", "a function of what the model returned")
    refused(lambda out: out[:, 0] * 1j, "returned complex", "real and dense")


def test_data_sets_of_unknown_length_are_checked_row_by_row() -> None:
    for short in ([0, 1, 2, 3], np.eye(4)[:4]):
        assert np.asarray(scored(short, samples=None, rows=slice(0, 3)).values).shape == (3, 1)
        refused(short, "4 rows", "at least 6", samples=None, rows=slice(3, 6))


# Classes


def test_outputs_of_one_score_are_one_logit_of_two_classes() -> None:
    for single in (LOGITS[:, 0], LOGITS[:, :1]):
        for targets in (None, 1, [1, 1, 1], np.ones((3, 1)), np.ones(3), np.ones(3, bool)):
            assert values(targets, raw=single) == column(0)
        for targets in (0, [0, 0, 0], np.zeros((3, 1)), np.zeros(3), np.zeros(3, bool)):
            assert values(targets, raw=single) == (-LOGITS[:, :1]).tolist()
        assert values(None, raw=single, labels=["cat", "dog"]) == np.abs(LOGITS[:, :1]).tolist()
        assert names(None, raw=single, labels=["cat", "dog"]) == [["dog"], ["dog"], ["cat"]]
        refused(2, "no class 2", "class 0 and class 1", "Regression()", raw=single)


def test_dense_outputs_have_no_class() -> None:
    for targets in (None, 0, [0, 0, 0], np.ones((3, 4)), Contrast(0, 1), Regression(0)):
        refused(targets, "(3, 4, 2, 2)", "cc.targets.Region", raw=np.zeros((3, 4, 2, 2)))


def test_contrast_is_a_difference_of_scores() -> None:
    assert values(Contrast(1, 2)) == [[3.0], [-6.5], [-3.0]]
    assert values(Contrast(2, 1)) == [[-3.0], [6.5], [3.0]]
    assert names(Contrast("tench", 3), labels=LABELS) == [["tench rather than plane"]] * 3
    assert indices(Contrast(1, 2)) == [[None]] * 3
    refused(Contrast(1, 1), "the same class, 1", "two classes")
    refused(Contrast("tench", 0), "the same class", labels=LABELS)
    refused(Contrast(1, 7), "no class 7")


def test_counter_turns_the_sign() -> None:
    assert values(Counter(1)) == (-LOGITS[:, [1]]).tolist()
    assert values(Counter(Counter(1))) == column(1)
    assert values(Counter(Predicted(2))) == [[-5.0, -2.0], [-7.0, -4.0], [1.5, 2.0]]
    assert names(Counter("plane"), labels=LABELS) == [["against plane"]] * 3
    assert values(Counter(lambda out: out[:, 0])) == (-LOGITS[:, [0]]).tolist()
    refused(Counter(7), "no class 7")
    assert not Counter(1).signed
    assert Counter(Regression(1)).signed
    assert Counter(Counter(Norm())).signed


# Regression, norm, loss


@pytest.mark.parametrize("array", ARRAYS)
def test_regression_is_an_output_or_its_negative(array: Any) -> None:
    assert values(Regression(2), raw=array(LOGITS)) == column(2)
    assert values(Regression(2, direction=-1), raw=array(LOGITS)) == (-LOGITS[:, [2]]).tolist()
    assert values(Regression("plane"), labels=LABELS) == column(3)
    assert values(Regression(), raw=array(LOGITS[:, :1])) == column(0)
    assert values(Regression(), raw=array(LOGITS[:, 0])) == column(0)
    assert names(Regression(2, direction=-1)) == [["−output 2"]] * 3
    assert names(Regression("plane"), labels=LABELS) == [["plane"]] * 3
    assert names(Regression(3), labels=LABELS[:2]) == [["output 3"]] * 3
    refused(Regression(), "4 outputs", "Regression(0)")
    refused(Regression(0, direction=2), "direction is 2", "+1", "-1")
    refused(Regression(9), "no class 9")
    assert Regression().signed


@pytest.mark.parametrize("array", ARRAYS)
def test_norm_is_the_length_of_the_output(array: Any) -> None:
    assert values(Norm(), raw=array(np.array([[3.0, 4.0], [0.0, -2.0]])), samples=2) == [[5.0], [2.0]]
    assert values(Norm(), raw=array(np.full((1, 2, 2, 1), 2.0)), samples=1) == [[4.0]]
    assert Norm().signed


def test_negative_loss_of_each_samples_own_row() -> None:
    y, logits = torch.tensor([2, 0, 1]), torch.from_numpy(LOGITS)
    seen: list[tuple[tuple[int, ...], int]] = []

    def loss(predicted: Tensor, y: Tensor) -> Tensor:
        seen.append((tuple(predicted.shape), len(y)))
        return F.cross_entropy(predicted, y)

    target = NegativeLoss(loss, y)
    expected = -F.cross_entropy(logits, y, reduction="none")
    np.testing.assert_allclose(values(target, raw=logits), expected[:, None], rtol=1e-6)
    assert seen == [((1, 4), 1)] * 3
    for rows in (slice(0, 1), slice(1, 3)):
        found = values(target, raw=logits[rows], rows=rows)
        np.testing.assert_allclose(found, expected[rows, None], rtol=1e-6)
    assert names(target, raw=logits) == [["negative loss"]] * 3
    assert target.signed
    refused(target, "y has 3 rows", "at least 5", raw=logits, rows=slice(2, 5))


def test_negative_loss_is_averaged_where_the_loss_is_not() -> None:
    target = NegativeLoss(lambda predicted, y: (predicted - y) ** 2, np.ones((3, 4)))
    np.testing.assert_allclose(values(target), -((LOGITS - 1) ** 2).mean(1, keepdims=True))


def test_negative_loss_is_of_what_the_model_returned() -> None:
    y, logits = torch.tensor([2, 0, 1]), torch.from_numpy(LOGITS)
    target = NegativeLoss(F.nll_loss, y)
    found = values(target, raw=logits.log_softmax(1), logits=logits)  # logits: before the final softmax
    np.testing.assert_allclose(found, -F.cross_entropy(logits, y, reduction="none")[:, None], rtol=1e-6)
    named = NegativeLoss(F.cross_entropy, y)
    np.testing.assert_allclose(
        values(named, raw={"logits": logits, "more": 1}, logits=logits), found, rtol=1e-6
    )


# Regions

DENSE = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
MASK = np.zeros((4, 5), bool)
MASK[1, 2] = MASK[3, 0] = True


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize(
    "kind", [np.asarray, torch.from_numpy, np.ndarray.tolist, lambda m: m.astype(np.uint8) * 255]
)
def test_a_region_is_the_mean_over_its_mask(kind: Any, array: Any) -> None:
    each = Region(kind(np.stack([MASK, MASK])[:, None]), channel=1)
    target = Region(kind(MASK), channel=1)
    np.testing.assert_array_equal(values(each, raw=DENSE, samples=2), values(target, raw=DENSE, samples=2))
    expected = DENSE[:, 1][:, MASK].mean(1)
    np.testing.assert_allclose(values(target, raw=array(DENSE), samples=2), expected[:, None])
    assert names(target, raw=DENSE, samples=2, labels=["road", "sky", "car"]) == [["region of sky"]] * 2
    assert target.signed


@pytest.mark.parametrize("box", [(1, 2, 4, 3), [1, 2, 4, 3], np.array([1, 2, 4, 3]), (1.0, 2.0, 4.0, 3.0)])
def test_a_region_is_the_mean_over_its_box(box: Any) -> None:
    expected = DENSE[:, 2, 2:3, 1:4].mean((1, 2))
    np.testing.assert_allclose(values(Region(box, 2), raw=DENSE, samples=2), expected[:, None])


def test_region_without_a_channel() -> None:
    expected = DENSE[:, 1, :2, :5].mean((1, 2))[:, None]
    for raw in (DENSE[:, 1], DENSE[:, 1:2]):
        np.testing.assert_allclose(values(Region((0, 0, 5, 2)), raw=raw, samples=2), expected)
        assert names(Region((0, 0, 5, 2)), raw=raw, samples=2) == [["region"]] * 2
    np.testing.assert_allclose(values(Region((0, 0, 5, 2), 0), raw=DENSE[:, 1:2], samples=2), expected)


@pytest.mark.parametrize(
    ("target", "raw", "words"),
    [
        (Region(MASK), DENSE, ["3 channels", "channel=0"]),
        (Region(MASK, 3), DENSE, ["no channel 3", "0 to 2"]),
        (Region(MASK, -1), DENSE, ["no channel -1"]),
        (Region(MASK[:2], 0), DENSE, ["(2, 5)", "(4, 5)"]),
        (Region(MASK.T, 0), DENSE, ["(5, 4)", "(4, 5)"]),
        (Region(np.zeros((4, 5)), 0), DENSE, ["empty", "at least one pixel"]),
        (Region((0, 0, 6, 2), 0), DENSE, ["(0, 0, 6, 2)", "5 × 4"]),
        (Region((0, 0, 4, 5), 0), DENSE, ["(0, 0, 4, 5)", "5 × 4"]),
        (Region((2, 0, 2, 3), 0), DENSE, ["(2, 0, 2, 3)"]),
        (Region((-1, 0, 2, 3), 0), DENSE, ["(-1, 0, 2, 3)"]),
        (Region(MASK, 0), LOGITS, ["(3, 4)", "dense outputs"]),
        (Region(MASK, 0), DENSE[:, 0], ["the mask of sample 0 is empty"]),  # steps of each sample
    ],
)
def test_regions_that_do_not_fit(target: Region, raw: np.ndarray, words: list[str]) -> None:
    refused(target, *words, raw=raw)


# Tasks by name


def task_values(name: str, y: Any, raw: Any, rows: slice | None = None) -> Any:
    samples = len(raw) if rows is None else None
    return np.asarray(task(name)(y, samples)(outputs(raw, rows)).values)


@pytest.mark.parametrize("array", ARRAYS)
def test_regression_task(array: Any) -> None:
    y = np.array([[1.0, 0, 0, 2], [0, 1, 0, 0], [0, 0, -1, 0]])
    for given in (y, y.tolist(), array(y)):
        np.testing.assert_allclose(task_values("regression", given, array(LOGITS)), [[-1.0], [0.5], [3.0]])
    np.testing.assert_allclose(task_values("regression", y, array(LOGITS[1:]), slice(1, 3)), [[0.5], [3.0]])
    assert task("regression")(y, 3).signed
    assert task_values("regression", 2, LOGITS).tolist() == column(2)
    assert task_values("regression", np.int64(2), LOGITS).tolist() == column(2)
    assert task_values("regression", None, LOGITS[:, :1]).tolist() == column(0)
    both = task("regression")([Regression(0), Regression(1, -1)], 3)
    assert np.asarray(both(outputs()).values).tolist() == (LOGITS[:, :2] * [1, -1]).tolist()
    assert both.signed


@pytest.mark.parametrize("array", ARRAYS)
def test_segmentation_task(array: Any) -> None:
    y = np.zeros(DENSE.shape, np.float32)
    y[0, 1, 2, 3], y[0, 2, 0, 0] = 1, -1
    y[1, 0] = 1
    expected = [[(DENSE[0, 1, 2, 3] - DENSE[0, 2, 0, 0]) / 2], [DENSE[1, 0].mean()]]
    np.testing.assert_allclose(task_values("semantic segmentation", array(y), array(DENSE)), expected)
    np.testing.assert_allclose(task_values("semantic segmentation", y, DENSE[1:], slice(1, 2)), expected[1:])
    with pytest.raises(TargetError, match="mark nothing in some sample"):
        task_values("semantic segmentation", np.zeros((6, *DENSE.shape[1:])), DENSE, slice(4, 6))


PREDICTED = np.array([[[0, 0, 2, 2, 0.5, 1, 0], [1, 1, 3, 3, 1.0, 0, 1]]], dtype=np.float32)


@pytest.mark.parametrize("array", ARRAYS)
def test_detection_task(array: Any) -> None:
    same = [0, 0, 2, 2, 1, 3, 0]  # IoU 1 and 1/7; objectness 0.5 and 1; cosine 1 and 0
    between = [1, 0, 3, 2, 1, 1, 1]  # IoU 1/3 with both; cosine 1/√2 with both
    apart = [5, 5, 6, 6, 1, 1, 0]
    nothing = [0, 0, 0, 0, 0, 0, 0]  # padding
    values = {"same": 0.5, "between": 1 / 3 / np.sqrt(2), "apart": 0.0, "nothing": 0.0}
    one = array(np.array([same], np.float32))
    np.testing.assert_allclose(task_values("object detection", one, array(PREDICTED)), [[0.5]], rtol=1e-6)
    given = array(np.array([[same, between, apart, nothing]], np.float32))
    found = task_values("object detection", given, array(PREDICTED))
    np.testing.assert_allclose(found, [[sum(values.values()) / 4]], rtol=1e-6)
    two = np.concatenate([PREDICTED, PREDICTED[:, ::-1] * np.array([1, 1, 1, 1, 0.5, 1, 1])]).astype(
        np.float32
    )
    found = task_values("object detection", np.array([between, same], np.float32), array(two))
    np.testing.assert_allclose(found, [[values["between"]], [0.25]], rtol=1e-6)


def test_classification_task_is_what_targets_are_without_one() -> None:
    for given in (None, 1, [0, 1, 2], np.eye(4)[:3]):
        assert task_values("classification", given, LOGITS).tolist() == values(given)


@pytest.mark.parametrize(
    ("name", "y", "raw", "words"),
    [
        ("regresion", None, LOGITS, ["no task `regresion`", "did you mean `regression`"]),
        ("x", None, LOGITS, ["no task `x`", "object detection"]),
        ("semantic segmentation", None, DENSE, ["semantic segmentation needs targets"]),
        ("object detection", None, PREDICTED, ["object detection needs targets"]),
        ("semantic segmentation", np.zeros((2, 3, 4, 4)), DENSE, ["(2, 3, 4, 4)", "(2, 3, 4, 5)"]),
        ("regression", np.zeros((3, 5)), LOGITS, ["(3, 5)", "(3, 4)"]),
        ("regression", np.zeros((2, 4)), LOGITS, ["2 rows", "expected 3"]),
        ("regression", [[1.0, 2.0], [3.0]], LOGITS, ["lengths 2, 1"]),
        ("object detection", np.zeros((1, 6)), PREDICTED, ["(1, 2, 7)", "(1, 1, 6)"]),
        ("object detection", np.zeros((3, 7)), LOGITS, ["(3, 4)", "4 + 1 + classes"]),
    ],
)
def test_tasks_that_do_not_fit(name: str, y: Any, raw: Any, words: list[str]) -> None:
    with pytest.raises(TargetError) as error:
        task_values(name, y, raw)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_more_rows_than_samples_are_refused_by_tasks_too() -> None:
    for name, y, raw in (
        ("regression", np.zeros((5, 4)), LOGITS),
        ("object detection", np.zeros((2, 7)), PREDICTED),
    ):
        with pytest.raises(TargetError, match="rows"):
            task_values(name, y, raw)
        with pytest.raises(
            TargetError, match=rf"has {len(y)} rows; expected at least {len(y) + 2}, one per sample"
        ):
            task_values(name, y, np.repeat(raw[:1], 3, axis=0), slice(len(y) - 1, len(y) + 2))


# Through a model


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 3, 1)
        self.labels = ["road", "sky", "car"]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).tanh())


class Classes(Dense):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean((2, 3)) * 40


X = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    "targets",
    [
        None,
        [2, 0, 1],
        np.array([[2, 0], [0, 1], [1, 1]]),
        np.eye(3, dtype=np.float32)[[2, 0, 1]],
        NegativeLoss(F.cross_entropy, torch.tensor([2, 0, 1])),
        NegativeLoss(
            lambda predicted, y: (predicted - torch.from_numpy(y)) ** 2, np.eye(3, dtype=np.float32)
        ),
        ["car", lambda out: out[:, 0] ** 2, Predicted(2), Counter(1), Contrast("sky", 0)],
    ],
)
def test_each_sample_gets_its_own_row_whatever_the_batch_size(targets: Any) -> None:
    net = seeded(Classes)
    together = cc.GradCAM(net, "body").explain(X, targets)
    assert np.abs(together.maps).max(axis=(2, 3)).any()
    for batch_size in (1, 2, None):
        parts = cc.GradCAM(net, "body", batch_size=batch_size).explain(X, targets)
        np.testing.assert_allclose(parts.maps, together.maps, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(parts.scores, together.scores, rtol=1e-5)
        assert parts.targets == together.targets


@pytest.mark.parametrize("name", ["regression", "semantic segmentation", "object detection"])
def test_tasks_through_a_model(name: str) -> None:
    class Boxes(Dense):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x).flatten(1)[:, :14].reshape(-1, 2, 7).sigmoid()
            return torch.cat([y[..., :2], y[..., :2] + y[..., 2:4] + 0.5, y[..., 4:]], dim=2)

    make = {"regression": Classes, "semantic segmentation": Dense, "object detection": Boxes}[name]
    net = seeded(make)
    reference = net(X.flip(0)).detach().numpy()
    y = {"regression": reference, "semantic segmentation": np.sign(reference), "object detection": reference}[
        name
    ]
    found = cc.HiResCAM(net, "body", operator=name, batch_size=2).explain(X, y)
    np.testing.assert_allclose(found.scores, task_values(name, y, net(X).detach().numpy()), rtol=1e-5)
    for i in range(3):
        alone = cc.HiResCAM(net, "body", operator=name).explain(X[i : i + 1], y[i : i + 1])
        np.testing.assert_allclose(alone.maps[0], found.maps[i], rtol=1e-4, atol=1e-7)
        assert alone.maps.any()
    assert (found.maps < 0).any() == (name == "regression")  # keeps its signs


@pytest.mark.parametrize(
    ("targets", "signed"),
    [
        (0, False),
        (Contrast(0, 1), False),
        (Counter(0), False),
        (lambda out: out[:, 0], False),
        (Regression(0), True),
        (Regression(0, -1), True),
        (Counter(Regression(0)), True),
        (Norm(), True),
        (NegativeLoss(F.cross_entropy, torch.tensor([2, 0, 1])), True),
    ],
)
def test_signs_are_kept_by_default_where_there_are_no_classes(targets: Any, signed: bool) -> None:
    net = seeded(Classes)
    both = cc.GradCAM(net, "body", signed=True).explain(X, targets).maps
    assert (both < 0).any()
    assert (both > 0).any()
    np.testing.assert_array_equal(
        cc.GradCAM(net, "body").explain(X, targets).maps, both if signed else both.clip(0)
    )
    np.testing.assert_array_equal(
        cc.GradCAM(net, "body", signed=False).explain(X, targets).maps, both.clip(0)
    )


def test_regions_keep_their_signs_through_a_model() -> None:
    net = seeded(Dense)
    found = cc.HiResCAM(net, "body").explain(X, Region((2, 3, 5, 6), 1))
    assert (found.maps < 0).any()
    inside = np.zeros((8, 8), bool)
    inside[3:6, 2:5] = True
    assert not found.maps[:, 0, ~inside].any()
    assert found.maps[:, 0, inside].all()


def test_direction_turns_the_map_around() -> None:
    net = seeded(Classes)
    up, down = (cc.GradCAM(net, "body").explain(X, Regression(1, d)) for d in (+1, -1))
    np.testing.assert_allclose(up.maps, -down.maps)
    np.testing.assert_allclose(up.scores, -down.scores)
    assert [str(row[0]) for row in down.targets] == ["−sky"] * 3


def test_a_target_of_ones_own() -> None:
    class Margin(Target):
        def __call__(self, outputs: Outputs) -> Scored:
            top = outputs.logits.topk(2).values
            return Scored((top[:, 0] - top[:, 1])[:, None], ((cc.types.TargetInfo("margin"),),) * len(top))

    net = seeded(Classes)
    found = cc.GradCAM(net, "body").explain(X, Margin())
    top = net(X).topk(2).values.detach()
    np.testing.assert_allclose(found.scores[:, 0], top[:, 0] - top[:, 1], rtol=1e-5)
    assert str(found.targets[0][0]) == "margin"


def test_gradients_flow_through_every_target() -> None:
    logits = torch.from_numpy(LOGITS).requires_grad_()
    y = torch.tensor([2, 0, 1])
    for targets in (
        None,
        1,
        [0, 1, 2],
        np.eye(4)[:3],
        Contrast(0, 1),
        Counter(1),
        Norm(),
        NegativeLoss(F.cross_entropy, y),
    ):
        (gradient,) = torch.autograd.grad(parse(targets, 3)(outputs(logits)).values.sum(), logits)
        assert gradient.any(dim=1).all()


def test_each_of_several_targets_says_whether_it_keeps_signs_and_none_changes_when_it_is_called() -> None:
    several = parse([0, cc.targets.Regression(1), cc.targets.Counter(cc.targets.Norm())], 2)
    before = dict(vars(several))
    logits = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    scored = several.scored(Outputs(logits, lambda: logits, slice(0, 2)))
    assert [[info.signed for info in row] for row in scored.infos] == [[False, True, True]] * 2
    assert vars(several) == before


@pytest.mark.parametrize("of_all", [[2, "tench", 1], ["tench", "plane"], [Class(1), 0, 0]])
def test_classes_of_all_samples_are_one_step_of_the_backward_pass(of_all: Any) -> None:
    logits = torch.from_numpy(LOGITS).requires_grad_()
    given = [*of_all, Class(3)]  # so that no list is one class for each sample
    found = parse(given, 3)(outputs(logits, labels=LABELS))
    by_one = [parse(one, 3)(outputs(logits, labels=LABELS)) for one in given]
    assert torch.equal(found.values, torch.cat([one.values for one in by_one], dim=1))
    assert found.infos == tuple(tuple(one.infos[k][0] for one in by_one) for k in range(3))
    assert type(found.values.grad_fn).__name__ == "GatherBackward0"


def test_a_range_is_the_list_of_its_numbers() -> None:
    assert indices(range(3)) == indices([0, 1, 2]) == [[0], [1], [2]]
    assert [indices(range(3), samples=1, raw=LOGITS[:1])] == [[[0, 1, 2]]]


def test_a_counter_is_parsed_once_and_refuses_what_is_no_target_at_once() -> None:
    counter = cc.targets.Counter("cat")
    assert counter.parsed is counter.parsed
    assert counter == cc.targets.Counter("cat")
    with pytest.raises(TargetError):
        cc.targets.Counter(1.5)


def test_names_and_indices_as_many_as_samples_may_mean_two_things() -> None:
    with pytest.raises(
        TargetError, match=r"2 labels and indices for 2 samples.*Class\(\"cat\"\), .*Class\(1\)\]"
    ):
        parse(["cat", 1], 2)
    assert str(parse(["cat", 1], 3).targets) == "(Class(which='cat'), Class(which=1))"


def test_a_loss_alone_is_no_target() -> None:
    with pytest.raises(TargetError, match="a CrossEntropyLoss needs what is right too"):
        parse(torch.nn.CrossEntropyLoss(), 2)
