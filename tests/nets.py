"""Networks that tests of several rooms explain."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Net(nn.Module):
    """Two convolutions and a linear head, with what follows the convolutions and the head left open."""

    def __init__(
        self, act: Callable[[Tensor], Tensor] = F.relu, end: Callable[[Tensor], Any] | None = None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8, 5)
        self.act, self.end = act, end or nn.Identity()

    def features(self, x: Tensor) -> Tensor:
        return self.act(self.conv2(self.act(self.conv1(x))))

    def forward(self, x: Tensor) -> Any:
        return self.end(self.fc(self.features(x).mean((2, 3))))


class Normed(Net):
    """The same with BatchNorm behind the second convolution, so that samples couple in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bn(self.conv2(F.relu(self.conv1(x)))).relu().mean((2, 3)))


class Encoder(nn.Module):
    def __init__(self, norm_first: bool = False, batch_first: bool = True) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.fc, self.tokens = nn.Linear(8, 5), 1 if batch_first else 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2)
        x = self.encoder(x.transpose(1, 2) if self.tokens else x.permute(2, 0, 1))
        x = x + self.attention(x, x, x)[0]
        return self.fc(x.mean(self.tokens))


class Transformer(nn.Module):
    """A transformer of one layer whose patches all count."""

    def __init__(self, channels: int = 3, patch: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, 4, patch, stride=patch)
        self.fc = nn.Linear(4, 5)
        self.block = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.block(self.patches(x).flatten(2).mT).mean(1))


class ClassToken(Transformer):
    """The same with a class token, which alone counts."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT
        return self.fc(self.block(torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1))[:, 0])


class Ending(nn.Module):
    """A network and what comes after its logits."""

    def __init__(self, net: nn.Module, end: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.net, self.end = net, end

    def forward(self, x: Tensor) -> Any:
        found = self.net(x)
        return self.end(found["logits"] if isinstance(found, dict) else found)
