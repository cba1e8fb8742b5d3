"""The networks of `networks.py` in plain PyTorch, with weights read from what `parity.py save` wrote."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Cnn(nn.Module):
    layer = "relu2"

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu1, self.pool = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        self.conv2, self.relu2, self.head = nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu2(self.conv2(self.pool(self.relu1(self.conv1(x))))).mean((2, 3)))


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6, eps=1e-3)
        self.relu, self.branch = nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return x + self.branch(self.relu(self.bn(x)))


class Transfer(nn.Module):
    layer = "backbone"

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.hidden, self.relu, self.logits = (
            Backbone(),
            nn.Linear(6, 7),
            nn.ReLU(),
            nn.Linear(7, 4),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.relu(self.hidden(self.backbone(x).mean((2, 3)))))


class Conv1d(nn.Module):
    layer = "relu2"

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu1 = nn.Conv1d(4, 16, 3), nn.ReLU()
        self.conv2, self.relu2, self.head = nn.Conv1d(16, 8, 5, stride=2), nn.ReLU(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu2(self.conv2(self.relu1(self.conv1(x)))).mean(2))


class Conv3d(nn.Module):
    layer = "relu2"

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu1 = nn.Conv3d(3, 4, 3, padding=1), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv3d(4, 5, (1, 3, 3), stride=(1, 2, 2)), nn.ReLU()
        self.hidden, self.relu3, self.head = nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu2(self.conv2(self.relu1(self.conv1(x)))).mean((2, 3, 4))
        return self.head(self.relu3(self.hidden(x)))


class FramesLSTM(nn.Module):
    layer = "relu2"

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(3, 5, 3), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(5, 6, 3, stride=2), nn.ReLU()
        self.lstm, self.head = nn.LSTM(6, 7, batch_first=True), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, time, *size = x.shape
        frames = x.transpose(1, 2).reshape(batch * time, channels, *size)
        features = self.relu2(self.conv2(self.relu1(self.conv1(frames)))).mean((2, 3))
        return self.head(self.lstm(features.reshape(batch, time, -1))[0][:, -1])


class PreactBlock(nn.Module):
    """A block of ResNet V2: batch norm and ReLU before convolutions; strides in the last block of a stack."""

    def __init__(self, inner: int, width: int, stride: int, project: bool) -> None:
        super().__init__()
        norm = {"eps": 1.001e-5}
        self.preact_bn = nn.BatchNorm2d(inner, **norm)
        self.relu0, self.relu1, self.relu2 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.shortcut = nn.Conv2d(inner, 4 * width, 1, stride) if project else None
        self.stride = stride
        self.conv1, self.bn1 = nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width, **norm)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2, self.conv3 = nn.BatchNorm2d(width, **norm), nn.Conv2d(width, 4 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        preact = self.relu0(self.preact_bn(x))
        short = x[..., :: self.stride, :: self.stride] if self.shortcut is None else self.shortcut(preact)
        y = self.relu1(self.bn1(self.conv1(preact)))
        return short + self.conv3(self.relu2(self.bn2(self.conv2(y))))


class ResNetV2(nn.Module):
    layer = "blocks.10.relu0"  # of the fourth block of the third stack

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.pool = nn.Conv2d(3, 64, 7, 2, padding=3), nn.MaxPool2d(3, 2)
        blocks, inner = [], 64
        for width, count, stride in ((64, 3, 2), (128, 4, 2), (256, 6, 2), (512, 3, 1)):
            for i in range(count):
                blocks.append(PreactBlock(inner, width, stride if i == count - 1 else 1, i == 0))
                inner = 4 * width
        self.blocks, self.post_bn, self.relu = (
            nn.Sequential(*blocks),
            nn.BatchNorm2d(2048, eps=1.001e-5),
            nn.ReLU(),
        )
        self.head = nn.Linear(2048, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(nn.functional.pad(self.conv1(x), (1, 1, 1, 1)))
        return self.head(self.relu(self.post_bn(self.blocks(x))).mean((2, 3)))


def of_torchvision(name: str, layer: str, eps: float = 1e-5) -> nn.Module:
    """Return one of torchvision's networks with the epsilon that Keras has in its batch norms."""
    import torchvision

    net = getattr(torchvision.models, name)(weights=None, num_classes=10)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps
    net.layer = layer
    return net


def vgg() -> nn.Module:
    """Without the pooling to 7 x 7 before the head, which Keras does not have."""
    net = of_torchvision("vgg16", "features")
    net.avgpool, net.classifier[0] = nn.Identity(), FromChannelsLast(512, 2 * 2, 4096)
    return net


class FromChannelsLast(nn.Linear):
    """A linear layer after flattening, of a network that flattens with the channels last."""

    def __init__(self, channels: int, cells: int, out: int) -> None:
        super().__init__(channels * cells, out)
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(len(x), self.channels, -1).transpose(1, 2).flatten(1))


class Normalise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean, self.variance = nn.Parameter(torch.zeros(3, 1, 1)), nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.variance.sqrt()


def efficientnet() -> nn.Module:
    net = of_torchvision("efficientnet_b0", "features.9", eps=1e-3)
    net.features.insert(0, Normalise())
    return net


NETWORKS: dict[str, Any] = {
    "cnn": Cnn,
    "transfer": Transfer,
    "conv1d": Conv1d,
    "conv3d": Conv3d,
    "frames_lstm": FramesLSTM,
    "mobilenet": lambda: of_torchvision("mobilenet_v2", "features", eps=1e-3),
    "resnet": ResNetV2,
    "vgg": vgg,
    "densenet": lambda: of_torchvision("densenet121", "features.denseblock4", eps=1.001e-5),
    "efficientnet": efficientnet,
}


def built(name: str, folder: Path) -> nn.Module:
    """Return the network with the saved weights, in the order of layers; Keras's block order for ResNet."""
    net = NETWORKS[name]().eval()
    weights = dict(np.load(folder / f"{name}.npz"))
    by_layer: dict[str, dict[str, np.ndarray]] = {}
    for key in sorted(weights):
        layer, _, variable = key.partition("|")[2].rpartition("/")
        by_layer.setdefault(layer, {})[variable] = weights[key]
    if name == "resnet":
        for path, module in net.named_modules():
            if not list(module.children()) and list(module.parameters()):
                fill(module, by_layer[keras_name(path)])
        return net
    layers = iter(by_layer.values())
    for module in leaves(net):
        fill(module, next(layers))
    assert next(layers, None) is None
    return net


def leaves(net: nn.Module) -> Iterator[nn.Module]:
    return (m for m in net.modules() if not list(m.children()) and list(m.parameters()))


def keras_name(path: str) -> str:
    own = {"conv1": "conv1_conv", "post_bn": "post_bn", "head": "predictions"}
    if path in own:
        return own[path]
    _, number, part = path.split(".")
    index, stack = int(number), 2
    for count in (3, 4, 6, 3):
        if index < count:
            break
        index, stack = index - count, stack + 1
    parts = {"preact_bn": "preact_bn", "shortcut": "0_conv", "conv1": "1_conv", "bn1": "1_bn"}
    parts |= {"conv2": "2_conv", "bn2": "2_bn", "conv3": "3_conv"}
    return f"conv{stack}_block{index + 1}_{parts[part]}"


def fill(module: Any, weights: dict[str, np.ndarray]) -> None:
    """Copy one layer's weights: kernels with the channels first, gates of an LSTM as rows."""
    w = {name: torch.from_numpy(array) for name, array in weights.items()}
    with torch.no_grad():
        if isinstance(module, nn.LSTM):
            module.weight_ih_l0.copy_(w["kernel"].T)
            module.weight_hh_l0.copy_(w["recurrent_kernel"].T)
            module.bias_ih_l0.copy_(w["bias"])
            module.bias_hh_l0.zero_()
        elif isinstance(module, Normalise):
            (
                module.mean.copy_(w["mean"].reshape(3, 1, 1)),
                module.variance.copy_(w["variance"].reshape(3, 1, 1)),
            )
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.weight.copy_(w["gamma"]), module.bias.copy_(w["beta"])
            module.running_mean.copy_(w["moving_mean"]), module.running_var.copy_(w["moving_variance"])
        else:
            kernel = w["kernel"]
            if isinstance(module, nn.Linear):
                kernel = kernel.T
            elif module.groups > 1:  # depthwise
                kernel = kernel.permute(2, 3, 0, 1)
            else:
                kernel = kernel.permute(-1, -2, *range(kernel.ndim - 2))
            module.weight.copy_(kernel)
            if module.bias is not None:
                module.bias.copy_(w["bias"])
