"""Findings say what may be wrong with maps, once for all batches."""

import numpy as np
import pytest
import torch
from explained import Net, X, seeded
from torch import Tensor, nn

import chronocam as cc
from chronocam.methods import METHODS

# Findings


def test_each_finding_says_what_is_wrong_with_which_map() -> None:
    net = seeded()
    assert cc.GradCAM(net, "conv2", signed=True).explain(X, 1).diagnostics == ()

    net.fc.weight.data[1] = 0
    found = cc.GradCAM(net, "conv2").explain(X[:2], 1)
    assert not found.maps.any()
    assert found.diagnostics == tuple(
        f"sample {i}, class 1: the map is zero everywhere: activations or gradients vanish at `conv2`"
        for i in range(2)
    )
    two = cc.GradCAM(net, "conv2", batch_size=2, signed=True).explain(
        X[:5], [cc.targets.Class(0), cc.targets.Class(1)]
    )
    assert [finding.split(":")[0] for finding in two.diagnostics] == [
        f"sample {i}, class 1" for i in range(5)
    ]

    positive = seeded(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    )
    positive.append(nn.Linear(4, 2))
    positive[4].weight.data = -torch.ones(2, 4)
    found = cc.GradCAM(positive, "1").explain(X[:1], 1)
    assert not found.maps.any()
    (finding,) = found.diagnostics
    assert finding.startswith(
        "sample 0, class 1: all weighted sums are negative: evidence at `1` lowers this score"
    )
    assert "signed=True" in finding
    assert cc.GradCAM(positive, "1", signed=True).explain(X[:1], 1).diagnostics == ()


def test_gradients_that_cancel_over_the_grid_are_told() -> None:
    class Keypoint(nn.Module):
        """The mean column of a softmax over places: what it gains at one it loses at others."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            shares = self.conv(x).flatten(2).softmax(2).unflatten(2, (8, 8))
            return (shares.sum(2) * torch.arange(8)).sum(2)

    net, column = seeded(Keypoint), lambda outputs: outputs[:, 1]
    (found,) = cc.GradCAM(net, "conv", signed=True).explain(X[:1], column).findings
    assert found.kind == "cancelled"
    assert "cancel over the grid" in found.text
    assert not cc.HiResCAM(net, "conv", signed=True).explain(X[:1], column).findings


@pytest.mark.parametrize("what", ["weights", "inputs"])
def test_findings_on_values_that_are_not_finite(what: str) -> None:
    net, x = seeded(), X[:3].clone()
    if what == "weights":
        net.fc.weight.data[1, 0] = float("nan")
        bad = [0, 1, 2]
    else:
        x[1, 0, 0, 0] = float("inf")
        bad = [1]
    for name in ("gradcam", "layercam", "saliency"):
        found = METHODS[name](net).explain(x, 1)
        flagged = [finding for finding in found.diagnostics if "not finite" in finding]
        assert [f"sample {i}, class 1" for i in bad] == [finding.split(":")[0] for finding in flagged], name
        clean = METHODS[name](net).explain(x, 1)
        good = [i for i in range(3) if i not in bad]
        np.testing.assert_array_equal(found.maps[good], clean.maps[good])
        assert np.isfinite(found.maps[good]).all()


def test_findings_of_all_batches_are_kept_once() -> None:
    class Twice(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.relu(self.conv2(self.relu(self.conv1(x)))).mean((2, 3)))

    assert cc.GradCAM(seeded(Twice)).explain(X).layer == "relu"  # its last call is the last to finish
    found = cc.GradCAM(seeded(Twice), "relu", batch_size=2, signed=True).explain(X, 1)
    assert found.diagnostics == (
        "layer `relu` is called 2 times; its last call is explained (`relu#0` is the first)",
    )


def test_findings_say_what_they_are_about() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2)).eval()
    x = torch.rand(3, 3, 6, 6)
    net(x)
    flat = nn.Sequential(net[0], nn.Threshold(1e9, 0.0), *net[1:])
    found = cc.GradCAM(flat, "1").explain(x, [cc.targets.Class(0), cc.targets.Class(1)])
    assert [(f.kind, f.sample, f.target) for f in found.findings] == [
        ("zero map", sample, f"class {k}") for sample in range(3) for k in range(2)
    ]
    assert found.diagnostics == tuple(f.text for f in found.findings)
    assert str(found.findings[0]) == found.diagnostics[0]


# What a grid cannot tell


def kinds(explanation: cc.Explanation) -> list[str]:
    return [finding.kind for finding in explanation.findings]


def of_kind(explanation: cc.Explanation, kind: str) -> str:
    (text,) = [finding.text for finding in explanation.findings if finding.kind == kind]
    return text


@pytest.mark.parametrize(
    ("conv", "shape", "words"),
    [
        (nn.Conv2d(3, 4, 3, (16, 2), 1), (32, 32), "2 × 16, 2 rows for 32 pixels:"),
        (
            nn.Conv2d(3, 4, 3, (32, 32), 1),
            (32, 64),
            "1 × 2, 1 row for 32 pixels and 2 columns for 64 pixels:",
        ),
        (nn.Conv1d(3, 4, 3, 8, 1), (16,), "2, 2 cells for 16 steps:"),
        (nn.Conv3d(3, 4, 3, (4, 1, 1), 1), (8, 4, 4), "2 × 4 × 4, 2 slices for 8 frames:"),
    ],
)
def test_a_grid_of_one_or_two_cells_along_an_axis_is_a_finding(
    conv: nn.Module, shape: tuple[int, ...], words: str
) -> None:
    net = nn.Sequential(conv, nn.ReLU(), nn.Flatten(2)).eval()
    net.append(nn.AdaptiveAvgPool1d(1)).append(nn.Flatten())
    x = torch.rand(3, 3, *shape)
    found = cc.GradCAM(net, "0", batch_size=2, signed=True).explain(x, 1)
    assert f"the grid of layer `0` is {words}" in of_kind(found, "coarse grid")  # once for all batches
    assert "coarse grid" not in kinds(cc.Saliency(net).explain(x, 1))


@pytest.mark.parametrize("shape", [(2, 8), (3, 3)])
def test_an_axis_of_two_cells_whose_input_has_no_more_is_none(shape: tuple[int, ...]) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    assert "coarse grid" not in kinds(cc.GradCAM(net, "0").explain(torch.rand(1, 3, *shape), 1))


@pytest.mark.parametrize(("size", "wide"), [(12, True), (13, False)])
def test_a_cell_that_can_see_the_whole_picture_is_a_finding_found_out_once(size: int, wide: bool) -> None:
    convs = [
        nn.Conv2d(3, 4, 3, 1, 1),
        nn.Conv2d(4, 4, 3, 2, 1),
        nn.Conv2d(4, 4, 5, 1, 2),
    ]  # 3, 5 and 13 pixels
    net = nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    passes: list[int] = []
    net.register_forward_hook(lambda module, args, out: passes.append(len(out)))
    method, x = cc.GradCAM(net), torch.rand(2, 3, size, size)
    for _ in range(2):
        found = method.explain(x, 1)
        assert ("wide field" in kinds(found)) is wide
        if wide:
            assert "layer `2` can see the whole picture: 13 × 13 of 12 × 12" in of_kind(found, "wide field")
        first, passes[:] = len(passes), []
    assert first == 1
    assert "wide field" not in kinds(cc.GradCAM(net, "2").explain(x, 1))  # no pass is run to find it out
    assert passes == [2]
