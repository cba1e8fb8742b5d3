"""A few architectures of the matrix, that its check finds what is wrong, and the page it writes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import chronocam as cc
from benchmarks.zoo import build, check, layer
from benchmarks.zoo.outcome import Case, Outcome, limit, outcome_of
from benchmarks.zoo.page import read, write

SAMPLE = [
    ("torchvision", lambda: build.torchvision("mobilenet_v3_small", "torchvision")),
    ("torchvision", lambda: build.torchvision("resnet18", "torchvision")),
    ("segmentation", lambda: build.torchvision("lraspp_mobilenet_v3_large", "segmentation")),
    ("hf", lambda: build.hf("vit", "ViTForImageClassification", "hf")),
    ("hf", lambda: build.hf("swinv2", "Swinv2ForImageClassification", "hf")),
    ("hf", lambda: build.hf("resnet", "ResNetForImageClassification", "hf")),
    ("video", lambda: build.hf("videomae", "VideoMAEForVideoClassification", "video")),
    ("segmentation", lambda: build.hf("segformer", "SegformerForSemanticSegmentation", "segmentation")),
]


@pytest.mark.parametrize(("part", "make"), SAMPLE)
def test_the_default_call_is_right(part, make):
    outcome = outcome_of(Case(part, "sample", "sample"), make)
    assert (outcome.verdict, outcome.reason) == ("right", "")


class Turned(nn.Module):
    """Returns maps whose rows and columns are swapped."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 4, 1)

    def forward(self, x):
        return self.conv(x).transpose(2, 3)


def test_swapped_axes_are_out_of_place():
    torch.manual_seed(0)
    built = check.Built(nn.Sequential(Turned(), nn.AdaptiveAvgPool2d(1)).eval(), build.noise(3, 32, 32))
    assert "axis 0" in check.out_of_place(built, "0", -1, lambda one: one[0], (8, 8))
    assert not check.out_of_place(built, "0", -1, lambda one: one[0].movedim(1, 2), (8, 8))


def test_another_map_is_wrong():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    built = check.Built(net.eval(), build.noise(3, 32, 32))
    explanation = cc.GradCAM(net, signed=True).explain(built.x)
    output = net(built.x).detach()
    assert check.fault(built, explanation, output) == ""
    turned = replace(explanation, maps=np.flip(explanation.maps, -1).copy())
    assert "differs from the map by hand" in check.fault(built, turned, output)


def test_a_layer_that_restates_the_output_is_found():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 2, 3, 4, 1), nn.Upsample(scale_factor=4, mode="bilinear")).eval()
    built = check.Built(net, build.noise(3, 32, 32), dense=True)
    output = net(built.x).detach()
    assert check.restates(net[0](built.x).detach().double(), output, built)


class Branched(nn.Module):
    """Two blocks with a residual branch each, and a pooled head."""

    def __init__(self):
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 8, 3, 4, 1), nn.Linear(8, 3)
        self.block, self.last = Block(), Block()

    def forward(self, x):
        return self.fc(self.last(self.block(self.stem(x))).mean((2, 3)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, 1, 1)

    def forward(self, x):
        return (x + self.conv(x)).relu()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("last", ""),
        ("last.conv", "a branch: there is a way around it from `stem`"),
        ("block", "too early: `last` of grid (8, 8)"),
        ("stem", "too early: `last` of grid (8, 8)"),
    ],
)
def test_a_branch_and_a_layer_that_is_too_early_are_wrong(path, reason):
    torch.manual_seed(0)
    built = check.Built(Branched().eval(), build.noise(3, 32, 32))
    output = built.model(built.x).detach()
    assert layer.Judge(built, output, path, (8, 8)).fault().startswith(reason)
    assert bool(reason) == bool(layer.Judge(built, output, path, (8, 8)).fault())


@pytest.mark.parametrize(
    ("path", "around"), [("stem", ""), ("block", ""), ("last.conv", "last"), ("block.conv", "block")]
)
def test_cells_that_are_reached_around_a_layer_are_found(path, around):
    torch.manual_seed(0)
    built = check.Built(Branched().eval(), build.noise(3, 32, 32))
    output = built.model(built.x).detach()
    assert layer.Judge(built, output, path, (8, 8)).rejoined() == around


def test_a_grid_is_compared_with_the_features_that_a_library_lists():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.Conv2d(8, 3, 3, 4, 1), nn.Flatten())
    net.feature_info = [{"reduction": 4}, {"reduction": 16, "module": "1"}]
    built = check.Built(net, build.noise(3, 64, 96))
    assert layer.off_standard(built, "1", (4, 6)) == ""
    assert "cells of 16 pixels: (4, 6)" in layer.off_standard(built, "0", (16, 24))


def test_what_takes_too_long_is_stopped():
    def forever():
        with limit(0.1):
            while True:
                pass

    with pytest.raises(TimeoutError, match=r"more than 0\.1 s"):
        forever()


def test_the_page_counts_and_lists(tmp_path):
    outcomes = [
        Outcome("timm", "a", "timm a", "right", layer="blocks.1", grid=(7, 7)),
        Outcome("timm", "b", "timm b", "refused", "no layer has a grid"),
        Outcome("hf", "c", "transformers C", "wrong", "differs", layer="encoder"),
        Outcome("hf", "d", "transformers D", "not built", "ImportError: natten"),
    ]
    write(outcomes, tmp_path / "zoo.json", {"torch": "2"})
    page = (tmp_path / "zoo.md").read_text()
    assert "**1 of 3 are right.**" in page
    assert "| timm, classifiers | 1 | 0 | 0 | 1 | 0 |" in page
    assert "- transformers C (`encoder`): differs" in page
    assert "| timm a | `blocks.1` | 7 × 7 |" in page
    assert {one.name for one in read(tmp_path / "zoo.json")} == {one.name for one in outcomes}
