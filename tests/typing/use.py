"""What a type checker knows of the documented calls: read by mypy and pyright, never run.

A line that ends in `# refused` must be an error to both, and no other line.
"""

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, assert_type

import numpy as np
import torch

import chronocam as cc

model = torch.nn.Sequential()
images = torch.rand(2, 3, 32, 32)

# Methods: their constructors' own options, and what explaining returns.
assert_type(cc.GradCAM(model, "layer4", signed=True), cc.GradCAM)
assert_type(cc.GradCAM(model).explain(images), cc.Explanation)
assert_type(cc.GradCAM(model).explain_batches([images]), Iterator[cc.Explanation])
assert_type(cc.FinerCAM(model, comparisons=2, alpha=0.5), cc.FinerCAM)
assert_type(cc.TemporalMask(model, perturbation="freeze"), cc.TemporalMask)
assert_type(cc.LayerCAM(model, ["layer3", "layer4"], pool="frame").explain(images, "cat"), cc.Explanation)
assert_type(cc.methods.METHODS, Mapping[str, type[cc.methods.Method]])
assert_type(cc.methods.METHODS["gradcam"](model).explain(images), cc.Explanation)
assert_type(cc.explain(model, images, methods=["gradcam", cc.LayerCAM]), dict[str, cc.Explanation])

# Explanations.
explanation = cc.GradCAM(model).explain(images, [cc.targets.Class("cat"), cc.targets.Contrast(0, 1)])
assert_type(explanation.normalize(), np.ndarray[tuple[Any, ...], np.dtype[Any]])
assert_type(explanation.diagnostics, tuple[str, ...])
assert_type(explanation.findings, tuple[cc.types.Finding, ...])
assert_type(cc.load("map.npz"), cc.Explanation | cc.sequence.SequenceExplanation)
assert_type(cc.load("map.npz", cc.Explanation), cc.Explanation)
assert_type(cc.load("a.npz", cc.sequence.SequenceExplanation), cc.sequence.SequenceExplanation)

# Models.
loaded = cc.models.load("chronocam:digits")
assert_type(loaded, cc.models.Loaded)

# Relevance.
relevance = cc.sequence.LRP(model, epsilon=0.01).explain(images, cc.targets.EveryStep())
assert_type(relevance, cc.sequence.SequenceExplanation)
assert_type(cc.sequence.METHODS["lrp"](model).explain(images), cc.sequence.SequenceExplanation)

# Modules that are imported when they are first used.
assert_type(cc.metrics.bootstrap(np.ones(4)), cc.metrics.Interval)
module: ModuleType = cc.data.gestures

# What does not exist is refused.
cc.GradCan(model)  # refused
cc.GradCAM(model, sigend=True)  # refused
cc.GradCAM(model, comparisons=2)  # refused
cc.sequence.LRT(model)  # refused
cc.models.laod("chronocam:digits")  # refused
cc.odometry.nonsense  # refused
cc.train.train_videos  # refused
cc.METHODS  # refused
explanation.map  # refused
