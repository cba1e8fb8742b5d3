"""Networks for clips as Lightning trains them."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from chronocam.jsonable import Json
from chronocam.lab.models.video import architecture
from chronocam.lab.train.settings import VideoSettings
from chronocam.lab.train.torch.classifier import Classifier
from chronocam.lab.train.torch.weights import answers
from chronocam.models.cnn_lstm import CNNLSTM


class VideoModule(Classifier):
    """A network for clips with its settings, see `Classifier`."""

    settings: VideoSettings

    def __init__(
        self,
        network: nn.Module,
        settings: VideoSettings,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        identity: Json,
    ) -> None:
        super().__init__(network, settings, mean, std, identity)
        self.axes: str = architecture(settings.arch).axes
        self.per_step: bool = isinstance(network, CNNLSTM) and network.per_step
        if isinstance(network, CNNLSTM):
            network.lstm.register_forward_pre_hook(self._show_change)

    def lesson(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return clips end to end where the network gives logits after every frame."""
        return end_to_end(clips, labels) if self.per_step and len(labels) > 1 else (clips, labels)

    def answer(self, prepared: Float[Tensor, "batch time 3 height width"]) -> Tensor:
        """Return the network's logits."""
        outputs = self.network(prepared.transpose(1, 2) if self.axes == "channel time" else prepared)
        logits: Tensor = outputs["logits"] if isinstance(outputs, dict) else outputs
        return logits

    def configure_optimizers(self) -> Any:
        """Return AdamW with a rate that rises linearly and falls by a cosine."""
        settings = self.settings
        rates = ((settings.lr, False), (settings.lr * settings.head_lr, True))
        groups = [
            {
                "params": [p for name, p in self.network.named_parameters() if answers(name) == head],
                "lr": rate,
            }
            for rate, head in rates
        ]
        return self.scheduled(groups, settings.weight_decay)

    def _show_change(self, lstm: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        """Take a share of the mean over time from the features, less and less with every step of training.

        At random weights clips differ most by their backgrounds, and an LSTM over them stays at chance for
        thousands of steps; with the mean gone, what moves is all there is. It is scaled up to the spread that
        the features had. Clips that lie end to end are taken one by one.
        """
        (features,) = inputs
        steps = self.settings.change_first * self.trainer.estimated_stepping_batches if lstm.training else 0
        share = 1 - self.global_step / steps if steps else 0
        if share <= 0:
            return inputs
        clips = features.reshape(len(features), -1, self.settings.frames, features.shape[2])
        change = (clips - share * clips.mean(dim=2, keepdim=True)).flatten(1, 2)
        return (change * (features.std((0, 1)) / change.std((0, 1)).clamp_min(1e-6)),)


def end_to_end(
    clips: Float[Tensor, "batch time 3 height width"], labels: Int[Tensor, " batch"]
) -> tuple[Float[Tensor, "half twice 3 height width"], Int[Tensor, "half twice"]]:
    """Lay clips end to end in pairs: a network with logits at every frame meets changes of class.

    The labels become one per frame. A clip without a partner is left out.
    """
    half, frames = len(labels) // 2, clips.shape[1]
    pairs = clips[: 2 * half].reshape(half, 2 * frames, *clips.shape[2:])
    return pairs, labels[: 2 * half].reshape(half, 2).repeat_interleave(frames, dim=1)
