"""A small network, pictures for it, and explanations made by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from nets import ClassToken, Transformer
from torch import Tensor, nn

import chronocam as cc
from chronocam.methods import METHODS
from chronocam.types import Finding, TargetInfo
from chronocam.types.findings import note

X = torch.randn(7, 3, 16, 16, generator=torch.Generator().manual_seed(11))
Y = torch.tensor([0, 1, 2, 3, 4, 0, 1])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU()
        self.conv2, self.fc = nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv2(self.relu(self.conv1(x))).tanh().mean((2, 3)))


def seeded(make: Callable[[], nn.Module] = Net) -> Any:
    torch.manual_seed(0)
    return make().eval()


def batches_seen(net: nn.Module) -> list[int]:
    seen: list[int] = []
    net.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    return seen


def same(a: cc.Explanation, b: cc.Explanation, tolerance: float = 1e-5) -> None:
    assert a.maps.shape == b.maps.shape
    scale = max(float(np.abs(b.maps).max()), 1e-12)
    np.testing.assert_allclose(a.maps, b.maps, rtol=0, atol=tolerance * scale)
    np.testing.assert_allclose(a.scores, b.scores, rtol=1e-5, atol=1e-6)
    assert (a.targets, a.method, a.layer, a.input_size) == (b.targets, b.method, b.layer, b.input_size)


# One forward for everything
# For clips, for transformers, with data, for boxes.
ELSEWHERE = [
    "temporalmask",
    "rollout",
    "legrad",
    "attentionrelevance",
    "gradeclip",
    "gradientxattention",
    "expectedgradients",
    "drise",
]
AT_LAYER = [
    name for name, method in METHODS.items() if method.default_layer is None and name not in ELSEWHERE
]
AT_INPUT = [
    name for name, method in METHODS.items() if method.default_layer is not None and name not in ELSEWHERE
]
LOOK_AGAIN = ["smoothgrad", "smoothgradcam++"]


def once(names: list[str]) -> list[str]:
    """Leave out methods that look at changed inputs, and the one that needs another head."""
    return [name for name in names if name not in (*LOOK_AGAIN, "cam") and type_is_gradient(name)]


def type_is_gradient(name: str) -> bool:
    """Whether a method works from one recorded pass."""
    seen = batches_seen(net := seeded())
    METHODS[name](net, None if name in AT_INPUT else "conv2").explain(X[:1], 1)
    return seen == [1]


OTHER_NETS: dict[str, Callable[[], nn.Module]] = {
    "cam": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)),
    "temporalmask": lambda: nn.Sequential(
        nn.Conv3d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 14 * 14, 5)
    ),
    "rollout": Transformer,
    "legrad": Transformer,
    "attentionrelevance": Transformer,
    "gradientxattention": Transformer,
    "gradeclip": ClassToken,
}


# What an Explanation can do


def explanation(maps: Any, **changes: Any) -> cc.Explanation:
    maps = np.asarray(maps, dtype=np.float32)
    batch, target = maps.shape[:2]
    names = tuple(tuple(TargetInfo(f"class {k}", k) for k in range(target)) for _ in range(batch))
    scores = np.arange(batch * target, dtype=np.float32).reshape(batch, target)
    size = tuple(4 * n for n in maps.shape[2:])
    return replace(cc.Explanation(maps, scores, names, "gradcam", "layer4", size), **changes)


def blob(batch: int = 1, target: int = 1, at: tuple[int, int] = (1, 2)) -> np.ndarray:
    """Maps of 4 × 6 cells that are zero but for one."""
    maps = np.zeros((batch, target, 4, 6), np.float32)
    maps[:, :, at[0], at[1]] = 2.0
    return maps


RNG = np.random.default_rng(5)


# Saving and loading
FULL = explanation(
    RNG.normal(size=(2, 2, 2, 3, 4)),
    targets=(
        (TargetInfo("tabby, „Katze“ 猫", 281), TargetInfo("−output 3", None)),
        (TargetInfo("a\nb", 0), TargetInfo("", None)),
    ),
    method="gradcam++",
    layer="layer3+layer4",
    input_size=(16, 12, 16),
    centers=((0.0, 8.0), (1.5, 5.5, 9.5), (0.1, 4.1, 8.1, 12.1)),
    frame_spans=((0, 7), (8, 15)),
    on=1,
    findings=(Finding("zero map", 0, "cat", "sample 0: something"), note("äöü")),
)


# Pictures
GREY = np.full((1, 16, 24, 3), 128, np.uint8)
