"""Explanations of some of the samples and targets."""

from dataclasses import replace

import numpy as np
import pytest
from explained import RNG, X, explanation, seeded

import chronocam as cc
from chronocam.explanation.parts import Pick
from chronocam.maps.attention import Attention
from chronocam.media import Stills, still
from chronocam.types import Finding


@pytest.mark.parametrize(
    ("pick", "samples", "targets"),
    [
        (2, [2], [0, 1, 2]),
        (-1, [3], [0, 1, 2]),
        (slice(1, 3), [1, 2], [0, 1, 2]),
        ([3, 0], [3, 0], [0, 1, 2]),
        (np.array([True, False, False, True]), [0, 3], [0, 1, 2]),
        ((1, 2), [1], [2]),
        ((slice(None), [2, 0]), [0, 1, 2, 3], [2, 0]),
        (slice(4, None), [], [0, 1, 2]),
    ],
)
def test_some_samples_and_targets(pick: Pick, samples: list[int], targets: list[int]) -> None:
    whole = explanation(RNG.random((4, 3, 2, 2)))
    whole = replace(
        whole,
        confidences=RNG.random((4, 3)),
        interval=RNG.random((4, 3, 2, 2)),
        attention=Attention(RNG.random((4, 5)), RNG.random((4, 3, 5))),
        sizes=((4, 4), (5, 5), (6, 6), (7, 7)),
        pictures=tuple(still(np.full((4, 4, 3), i, np.uint8), str(i)) for i in range(4)),
    )
    part = whole[pick]
    at = np.ix_(samples, targets)
    for name in ("maps", "scores", "confidences", "interval"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[at])
    assert part.targets == tuple(tuple(whole.targets[i][k] for k in targets) for i in samples)
    assert part.attention is not None
    assert whole.attention is not None
    np.testing.assert_array_equal(part.attention.weights, whole.attention.weights[samples])
    np.testing.assert_array_equal(part.attention.contributions, whole.attention.contributions[at])
    assert part.sizes == tuple((4 + i, 4 + i) for i in samples)
    pictures: tuple[Stills, ...] = part.pictures or ()
    assert [picture.name for picture in pictures] == [str(i) for i in samples]


def test_each_sample_is_as_if_explained_alone() -> None:
    model, images = seeded(), X[:3]
    whole = cc.GradCAM(model, "conv2").explain(images, cc.targets.Predicted(2))
    for image, one in zip(images, whole, strict=True):
        alone = cc.GradCAM(model, "conv2").explain(image[None], cc.targets.Predicted(2))
        np.testing.assert_allclose(one.maps, alone.maps, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(one.as_tensor(), alone.as_tensor(), rtol=1e-4, atol=1e-7)
        assert one.targets == alone.targets
        assert one.copies is not None
        assert alone.copies is not None
        np.testing.assert_array_equal(one.copies, alone.copies)


def test_findings_go_with_their_sample() -> None:
    names = [str(info) for info in explanation(RNG.random((3, 2, 2, 2))).targets[0]]
    kept = Finding("zero map", 2, names[1], f"sample 2, {names[1]}: the map is zero")
    findings = (
        Finding("note", None, None, "of all"),
        Finding("zero map", 0, names[0], f"sample 0, {names[0]}: the map is zero"),
        kept,
    )
    whole = replace(explanation(RNG.random((3, 2, 2, 2))), findings=findings)
    assert whole[2].findings == (
        findings[0],
        replace(kept, sample=0, text=f"sample 0, {names[1]}: the map is zero"),
    )
    assert whole[2, 0].findings == findings[:1]
    assert whole[[2, 0, 2]].diagnostics == (
        "of all",
        f"sample 1, {names[0]}: the map is zero",
        f"sample 0, {names[1]}: the map is zero",
        f"sample 2, {names[1]}: the map is zero",
    )


@pytest.mark.parametrize("pick", [3, -4, [0, 5], (0, 2), "dog"])
def test_what_it_does_not_have_is_an_index_error(pick: Pick) -> None:
    with pytest.raises(IndexError):
        explanation(RNG.random((3, 2, 2, 2)))[pick]
