"""An LSTM over a 2D CNN, with or without attention over the frames."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from chronocam.errors import InputError, ModelError, suggest

_HEADS = ("fc", "classifier", "heads", "head")  # where torchvision's classifiers keep their last layers
_WIDE = ("AlexNet", "SqueezeNet", "VGG")  # their last layers read a whole grid, not its average
_PROBE = 64  # side of the picture by which the number of features is found; a network may need a larger one


class CNNLSTM(nn.Module):
    """An LSTM over the features that a 2D CNN finds in each frame.

    backbone: the name of a torchvision classifier (random weights; its last layers are left out), one of
        torchvision's classifiers, or any module from pictures `(n, channel, height, width)` to features `(n,
        feature)` or `(n, feature, height, width)`, which are averaged over the grid.
    hidden: size of the LSTM's state.
    classes: how many logits.
    attention: pool the LSTM's outputs h_t with weights a_t = softmax_t(v·tanh(W h_t)) instead of taking the
        last: y_c = b_c + Σ_t a_t (w_c·h_t). The result is then a dict of `logits` and the weights
        `attention`, `(batch, time)`.
    per_step: give logits after every frame, `(batch, time, classes)`.

    Takes clips `(batch, time, channel, height, width)` and gives logits `(batch, classes)`. The CNN sees all
    frames at once, folded into the batch. Raises ModelError for an unknown backbone, InputError for other
    shapes.

    Example:
        >>> net = cc.models.CNNLSTM("squeezenet1_1", hidden=8, classes=5, attention=True)
        >>> outputs = net(torch.rand(1, 4, 3, 64, 64))
        >>> outputs["logits"].shape, outputs["attention"].shape
        (torch.Size([1, 5]), torch.Size([1, 4]))
    """

    def __init__(
        self,
        backbone: str | nn.Module,
        hidden: int,
        classes: int,
        attention: bool = False,
        per_step: bool = False,
    ) -> None:
        super().__init__()
        if attention and per_step:
            raise ModelError("attention pools the steps that per_step would keep; choose one of them")
        self.backbone: nn.Module = _trunk(backbone)
        self.lstm: nn.LSTM = nn.LSTM(_features(self.backbone), hidden, batch_first=True)
        self.attention: nn.Module | None = None
        if attention:
            # In the order of the signal: weights that a seed draws depend on it.
            between = nn.Linear(hidden, hidden)
            self.attention = nn.Sequential(between, nn.Tanh(), nn.Linear(hidden, 1, bias=False))
        self.head: nn.Linear = nn.Linear(hidden, classes)
        self.per_step = per_step

    def forward(self, clips: Tensor) -> Tensor | dict[str, Tensor]:
        """Return logits, or a dict of logits and attention weights."""
        if clips.ndim != 5:
            raise InputError(
                f"the clips have shape {tuple(clips.shape)}; expected (batch, time, channel, height, width)"
            )
        return self.from_features(self.features(clips))

    def from_features(self, features: Float[Tensor, "batch time feature"]) -> Tensor | dict[str, Tensor]:
        """Return what `forward` does, given what the CNN found in each frame."""
        states, _ = self.lstm(features)
        if self.per_step:
            return self.head(states)
        if self.attention is None:
            return self.head(states[:, -1])
        weights = torch.softmax(self.attention(states)[..., 0], dim=1)
        pooled = (weights[..., None] * states).sum(dim=1)
        return {"logits": self.head(pooled), "attention": weights}

    def features(
        self, clips: Float[Tensor, "batch time channel height width"]
    ) -> Float[Tensor, "batch time feature"]:
        """Return what the CNN finds in each frame."""
        features = _pooled(self.backbone(clips.flatten(0, 1)))
        return features.reshape(*clips.shape[:2], -1)


def _pooled(features: Tensor) -> Tensor:
    return features.mean(dim=(2, 3)) if features.ndim == 4 else features


def _trunk(backbone: str | nn.Module) -> nn.Module:
    """Return a backbone by name, and torchvision's classifiers without their last layers."""
    if isinstance(backbone, str):
        backbone = _named(backbone)
    if not type(backbone).__module__.startswith("torchvision.models"):
        return backbone
    if type(backbone).__name__ in _WIDE and isinstance(backbone.features, nn.Module):
        return backbone.features
    for head in filter(partial(hasattr, backbone), _HEADS):
        setattr(backbone, head, nn.Identity())
    return backbone


def _named(name: str) -> nn.Module:
    from torchvision import models

    known = models.list_models(models)
    if name not in known:
        hint = suggest(name, known) or "; torchvision.models.list_models() lists them"
        raise ModelError(f"no torchvision backbone `{name}`{hint}")
    inception = name in ("googlenet", "inception_v3")  # slow to initialise, with extra heads for training
    options = {"init_weights": False, "aux_logits": False} if inception else {}
    return models.get_model(name, weights=None, **options)


def _features(backbone: nn.Module) -> int:
    """Return how many features the backbone gives, from a black picture."""
    convolution = next((m for m in backbone.modules() if isinstance(m, nn.Conv2d)), None)
    channels = 3 if convolution is None else convolution.in_channels
    # In training mode a single picture would break BatchNorm and change its statistics. Networks with large
    # kernels and strides need a larger picture; the second and third sizes are those of ImageNet's.
    training = {module: module.training for module in backbone.modules()}
    parameter = next(backbone.parameters(), None)
    backbone.eval()
    try:
        for side in (_PROBE, 224, 299):
            picture = torch.zeros(1, channels, side, side)
            try:
                with torch.no_grad():
                    features = backbone(picture if parameter is None else picture.to(parameter))
                break
            except (RuntimeError, AssertionError, ValueError) as error:
                problem = error
        else:
            raise ModelError(f"the backbone cannot take a picture (1, {channels}, 224, 224): {problem}")
    finally:
        for module, mode in training.items():
            module.training = mode
    if not isinstance(features, Tensor) or features.ndim not in (2, 4):
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ModelError(
            f"the backbone returns {shape}; expected (n, feature) or (n, feature, height, width)"
        )
    return int(features.shape[1])
