"""Explanations of sequences in files: parts that do not fit each other are named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import one_line

import chronocam as cc
from chronocam.errors import MediaError
from chronocam.sequence import SequenceExplanation
from chronocam.targets.steps import StepInfo

CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "flat": ({"relevance": np.zeros((1, 2, 3))}, {}, "relevance is float64 (1, 2, 3)"),
    "whole": ({"relevance": np.zeros((1, 2, 3, 4), int)}, {}, "relevance is int64"),
    "scores": ({"scores": np.zeros((1, 1))}, {}, "scores is float64 (1, 1) of relevance (1, 2, 3, 4)"),
    "ledger": ({"ledger.bias": np.zeros(2)}, {}, "ledger.bias is float64 (2,)"),
    "targets": ({}, {"targets": [[["a", 0]]]}, "targets are not one for each"),
    "steps": ({}, {"targets": [[["a", 0, 1, 0], ["a", 0, -1, 0]]]}, "targets are not one for each"),
    "votes": ({}, {"targets": [[["a", 0, [1, 2**40]]] * 2]}, "targets are not one for each"),
    "lengths": ({}, {"lengths": [4]}, "lengths are not one for each of 1 samples, of 3 steps"),
    "unknown": ({"extra": np.zeros(2)}, {}, "unknown array `extra`"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_parts_of_a_file_that_do_not_fit_are_named(tmp_path: Path, name: str) -> None:
    arrays, words, told = CHANGES[name]
    infos = tuple(StepInfo("a", 0, step, 0) for step in range(2))
    whole = SequenceExplanation(np.ones((1, 2, 3, 4)), np.ones((1, 2)), (infos,), "lrp")
    path = whole.save(tmp_path / "x.npz")
    with np.load(path) as file:
        parts = dict(file)
    header = json.loads(str(parts["header"])) | words
    np.savez(path, **(parts | arrays | {"header": np.asarray(json.dumps(header))}))
    with pytest.raises(MediaError) as error:
        cc.load(path)
    one_line(error, "x.npz", told)
