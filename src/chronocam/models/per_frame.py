"""A network of pictures on clips."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from chronocam.errors import InputError, ModelError


class PerFrame(nn.Module):
    """A classifier of pictures on clips: the mean of its logits over frames.

    Takes clips `(batch, time, channel, height, width)`.

    model: from pictures `(n, channel, height, width)` to logits `(n, classes)`, as a tensor or as `.logits`.
    Raises InputError for inputs that are not clips, ModelError for a model that gives no logits.
    Source: temporal segment networks with an average consensus (arXiv:1608.00859), without their training.

    Example:
        >>> cc.models.PerFrame(model)(torch.rand(1, 4, 3, 32, 32)).shape
        torch.Size([1, 3])
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.labels: Any = getattr(model, "labels", None)

    def forward(self, clips: Tensor) -> Float[Tensor, "batch classes"]:
        """Return the mean logits."""
        if clips.ndim != 5:
            expected = "(batch, time, channel, height, width)"
            raise InputError(f"the clips have shape {tuple(clips.shape)}; expected {expected}")
        outputs = self.model(clips.flatten(0, 1))
        logits = getattr(outputs, "logits", outputs)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise ModelError(
                f"the model returns a {type(outputs).__name__}; expected logits (n, classes) of pictures"
            )
        return logits.reshape(*clips.shape[:2], -1).mean(dim=1)
