"""A network of heart beats: convolutions, two LSTMs in both directions, attention over the steps.

What it goes by is known: without the QRS complex it loses beats of classes N, V, F and Q, without the P wave
those of class S.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

import chronocam as cc
from benchmarks.claims.tables import Table
from chronocam.evaluation.panel import random_model
from chronocam.metrics import bootstrap

CLASSES = "FNQSV"
WINDOWS = {"QRS": slice(70, 110), "P": slice(30, 70)}
"""Samples of the beat, 360 a second; the R peak is at 90."""
KNOWN = {"N": "QRS", "V": "QRS", "F": "QRS", "Q": "QRS", "S": "P"}
METHODS = (
    *("gradcam", "hirescam", "layercam", "gradcam++", "eigencam", "scorecam", "ablationcam", "reciprocam"),
    *("inputxgradient", "integratedgradients", "smoothgrad", "saliency", "occlusion"),
)


class BeatNet(nn.Module):
    """Takes beats `(batch, 1, 180)` and returns logits of `CLASSES`."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([_stage(1, 32, 5), _stage(32, 64, 5), _stage(64, 128, 3)])
        self.first = nn.LSTM(128, 64, batch_first=True, bidirectional=True)
        self.second = nn.LSTM(128, 64, batch_first=True, bidirectional=True)
        self.key, self.context = nn.Linear(128, 128), nn.Linear(128, 1, bias=False)
        self.head = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 5))

    def forward(self, x: Tensor) -> Tensor:
        for number, stage in enumerate(self.stages):
            x = stage(x) if number == 2 else nn.functional.max_pool1d(stage(x), 2)
        steps = self.second(self.first(x.transpose(1, 2))[0])[0]
        weights = self.context(self.key(steps).tanh()).softmax(dim=1)
        return self.head((weights * steps).sum(dim=1))


def _stage(channels: int, out: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(channels, out, width, padding="same"), nn.ReLU(), nn.BatchNorm1d(out, eps=1e-3)
    )


def beat_net(path: Path) -> BeatNet:
    """Return the network with the weights that Keras has saved."""
    given = {name: torch.from_numpy(values) for name, values in load_file(path).items()}
    net = BeatNet().eval()
    with torch.no_grad():
        for number, stage in enumerate(net.stages):
            suffix = f"_{number}" if number else ""
            _set(stage[0], given[f"conv1d{suffix}/kernel"].permute(2, 1, 0), given[f"conv1d{suffix}/bias"])
            norm = f"batch_normalization{suffix}"
            _set(stage[2], given[f"{norm}/gamma"], given[f"{norm}/beta"])
            stage[2].running_mean.copy_(given[f"{norm}/moving_mean"])
            stage[2].running_var.copy_(given[f"{norm}/moving_variance"])
        for lstm, suffix in ((net.first, ""), (net.second, "_1")):
            for way, ending in (("forward", ""), ("backward", "_reverse")):
                cell = f"{way}_lstm{suffix}/lstm_cell"
                getattr(lstm, f"weight_ih_l0{ending}").copy_(given[f"{cell}/kernel"].T)
                getattr(lstm, f"weight_hh_l0{ending}").copy_(given[f"{cell}/recurrent_kernel"].T)
                getattr(lstm, f"bias_ih_l0{ending}").copy_(given[f"{cell}/bias"])
                getattr(lstm, f"bias_hh_l0{ending}").zero_()
        _set(net.key, given["attention_layer/attention_weight"].T, given["attention_layer/attention_bias"])
        net.context.weight.copy_(given["attention_layer/attention_context"][None])
        _set(net.head[0], given["dense/kernel"].T, given["dense/bias"])
        _set(net.head[2], given["prediction/kernel"].T, given["prediction/bias"])
    return net


def _set(module: Any, weight: Tensor, bias: Tensor) -> None:
    module.weight.copy_(weight)
    module.bias.copy_(bias)


def measure(data: Path) -> tuple[dict[str, Any], dict[str, Table]]:
    """Return the network's accuracy, and how much of each map is on the wave that its class goes by."""
    net, beats = beat_net(data / "weights.safetensors"), np.load(data / "beats.npz")
    x, labels = beats["x"].transpose(0, 2, 1), beats["y"]
    target = np.array([CLASSES.index(label) for label in labels])
    with torch.no_grad():
        probabilities = net(torch.from_numpy(x)).softmax(1).numpy()
    right = probabilities.argmax(axis=1) == target
    about = {"beats": len(x), "right": int(right.sum())}
    falls = {name: _fall(net, x, target, window) for name, window in WINDOWS.items()}
    random = random_model(net, (1.0, False), 0)
    maps = {method: _maps(net, method, x, target) for method in METHODS}
    maps["gradcam, random weights"] = _maps(random, "gradcam", x, target)
    maps["inputxgradient, random weights"] = _maps(random, "inputxgradient", x, target)
    return about, {
        "ecg: fall of the probability": _by_class(falls, labels),
        "ecg: share on the known wave": _by_class(
            {name: _shares(found, labels) for name, found in maps.items()}, labels
        ),
    }


def _fall(net: nn.Module, x: np.ndarray, target: np.ndarray, window: slice) -> np.ndarray:
    """Return what each beat's class loses where the window is a straight line."""
    flat = x.copy()
    ends = flat[:, :, [window.start, window.stop - 1]]
    line = np.linspace(0, 1, window.stop - window.start, dtype=np.float32)
    flat[:, :, window] = ends[:, :, :1] + (ends[:, :, 1:] - ends[:, :, :1]) * line
    rows = np.arange(len(x))
    with torch.no_grad():
        before, after = (net(torch.from_numpy(one)).softmax(1).numpy()[rows, target] for one in (x, flat))
    return before - after


def _maps(net: nn.Module, method: str, x: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.asarray(cc.methods.METHODS[method](net).explain(x, target).upsample()[:, 0])


def _shares(maps: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how much of what is positive on both waves lies on the known one; 1/2 for a map of neither."""
    on = {name: maps[:, window].clip(0).sum(axis=1) for name, window in WINDOWS.items()}
    total = sum(on.values())
    own = np.array([on[KNOWN[label]][k] for k, label in enumerate(labels)])
    return np.divide(own, total, out=np.full(len(maps), 0.5), where=total > 0)


def _by_class(values: Mapping[str, np.ndarray], labels: np.ndarray) -> Table:
    return {name: {label: bootstrap(of[labels == label]) for label in KNOWN} for name, of in values.items()}
