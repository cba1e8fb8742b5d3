"""Networks for pictures as Lightning trains them."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from chronocam.jsonable import Json
from chronocam.lab.models.images import last_layer
from chronocam.lab.train.settings import ImageSettings
from chronocam.lab.train.torch.classifier import Classifier
from chronocam.media import Preprocess


class ImagesModule(Classifier):
    """A network for pictures, clips of one frame, with its settings; see `Classifier`."""

    settings: ImageSettings

    def __init__(
        self, network: nn.Module, settings: ImageSettings, preprocess: Preprocess, identity: Json
    ) -> None:
        super().__init__(network, settings, preprocess.mean, preprocess.std, identity)
        self.head: nn.Module = network.get_submodule(last_layer(network))
        if settings.freeze:
            network.requires_grad_(False)
            self.head.requires_grad_(True)
            network.eval()

    def train(self, mode: bool = True) -> ImagesModule:
        """Set the mode of training.

        What is frozen stays in that of inference, and so do BatchNorm's statistics.
        """
        super().train(mode)
        if self.settings.freeze:
            self.network.eval()
        return self

    def answer(self, prepared: Float[Tensor, "batch 1 3 height width"]) -> Tensor:
        """Return the network's logits."""
        logits: Tensor = self.network(prepared[:, 0])
        return logits

    def configure_optimizers(self) -> Any:
        """Return AdamW over what is trained, with a rate that rises linearly and falls by a cosine."""
        settings = self.settings
        new = list(self.head.parameters())
        known = [p for p in self.network.parameters() if p.requires_grad and all(p is not one for one in new)]
        groups = [{"params": known, "lr": settings.lr}, {"params": new, "lr": settings.lr * settings.head_lr}]
        return self.scheduled(groups, settings.weight_decay)
