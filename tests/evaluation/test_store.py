"""What an evaluation in a folder is known again by: whatever changes its numbers, and nothing else."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

import chronocam as cc
from chronocam.errors import InputError
from chronocam.evaluation import Deletion
from chronocam.evaluation.store import _text_of

X = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
PICTURES = np.random.default_rng(1).integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)


def network(activation=nn.ReLU):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3, padding=1), activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4, 3)).eval()


def scaled(factor):
    return lambda inputs, target: inputs[:, 0] * factor


def recipe(size):
    return cc.media.Preprocess((size, size), (8, 8), (0.5,) * 3, (0.5,) * 3)


def measure(function):
    kind = type(
        "Own", (cc.evaluation.Measure,), {"title": "own", "of": lambda self, case, values: function(values)}
    )
    return kind().called("own")


LARGE = np.zeros((3, 8, 8)), np.concatenate([np.zeros((2, 8, 8)), np.ones((1, 8, 8))])

CHANGES = {
    "preprocess": [{"data": PICTURES, "preprocess": recipe(size)} for size in (8, 12)],
    "what a function encloses": [{"methods": {"f": scaled(factor)}} for factor in (1, 2)],
    "a baseline": [{"measures": [Deletion(steps=2, baseline=one)]} for one in LARGE],
    "the name of a measure": [{"measures": {name: "complexity"}} for name in "ab"],
    "the code of a measure": [{"measures": [measure(of)]} for of in (lambda v: v.mean(), lambda v: v.max())],
    "a black box": [
        {"model": cc.blackbox(of), "methods": ["occlusion"]}
        for of in (lambda x: x.mean((2, 3)), lambda x: x.max((2, 3)))
    ],
    "a module without weights": [{"model": network(kind)} for kind in (nn.ReLU, nn.GELU)],
    "an option": [{"methods": [functools.partial(cc.Occlusion, window=size)]} for size in (2, 4)],
    "maps": [{"methods": {"mine": [np.full((40, 40), k)] * 2}} for k in (0, 1)],
}


def judged(out, model=None, data=X, **options):
    options = {"methods": ["gradcam"], "measures": ["complexity"]} | options
    return cc.evaluate(model or network(), data, 1, out=out, **options)


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_the_numbers_is_another_evaluation(tmp_path, name):
    first, second = CHANGES[name]
    judged(tmp_path, **first)
    seen = []
    judged(tmp_path, progress=lambda left: seen.extend(left) or seen, **first)
    assert not seen
    with pytest.raises(InputError, match="holds another evaluation"):
        judged(tmp_path, **second)


def test_sets_have_no_order():
    first, second = {0, 8}, {8, 0}
    assert repr(first) != repr(second)
    assert _text_of(first) == _text_of(second)
    assert _text_of(lambda x: x in {0, 8}) == _text_of(lambda x: x in {8, 0})
    assert _text_of(first) != _text_of({0, 9})


def test_a_function_that_calls_itself_is_written_down():
    def count(n):
        return n and count(n - 1)

    assert _text_of(count) == _text_of(count)
