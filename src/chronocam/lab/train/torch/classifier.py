"""A classifier as Lightning trains it: of clips, or of pictures as clips of one frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from chronocam.jsonable import Json
from chronocam.lab.train.settings import ImageSettings, VideoSettings
from chronocam.lab.train.torch.batches import Batch, augment, mixed, unit
from chronocam.lab.train.torch.loop import Learner


class Classifier(Learner):
    """A network with its settings: loss, accuracy and preprocessing.

    What goes into the network is in the subclasses.

    mean, std: mean and standard deviation of each colour.
    identity: what a checkpoint must share with a run that resumes it.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: VideoSettings | ImageSettings,
        mean: Sequence[float],
        std: Sequence[float],
        identity: Json,
    ) -> None:
        super().__init__(identity)
        self.network = network
        self.settings = settings
        self.mean = torch.tensor(mean).reshape(3, 1, 1)
        self.std = torch.tensor(std).reshape(3, 1, 1)

    def forward(
        self, pixels: UInt8[Tensor, "batch time height width 3"]
    ) -> Float[Tensor, "batch *step classes"]:
        """Return the logits of clips as they are in files; after every frame if the network gives those."""
        return self.logits(unit(pixels))

    def logits(
        self, clips: Float[Tensor, "batch time 3 height width"]
    ) -> Float[Tensor, "batch *step classes"]:
        """Return the logits of RGB in [0, 1], which may be changed in place."""
        prepared = clips.sub_(self.mean.to(clips)).div_(self.std.to(clips))
        return self.answer(prepared).float()

    def answer(self, prepared: Float[Tensor, "batch time 3 height width"]) -> Tensor:
        """Return the network's logits."""
        raise NotImplementedError(f"{type(self).__name__} must define answer()")

    def lesson(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is trained on in the place of a batch."""
        return clips, labels

    def training_step(self, batch: Batch, _index: int) -> Tensor | None:
        """Return the loss of a batch, or None where less than two clips are left to normalise over."""
        pixels, labels, unread = batch
        self.unread.update(unread)
        if len(labels) < 2:
            return None
        torch.manual_seed(mixed(self.settings.seed, self.global_step))  # resumed or not, the same draws
        clips, labels = self.lesson(augment(pixels, self.settings.crop, self.settings.flip), labels)
        return self.noted(loss_of(self.logits(clips), labels))

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Measure loss and accuracy."""
        pixels, labels, unread = batch
        self.unread.update(unread)
        if not len(labels):
            return
        logits = self(pixels)
        right = (voted(logits) == labels).float().mean()
        for name, value in (("val_loss", loss_of(logits, labels)), ("val_accuracy", right)):
            self.log(name, value, batch_size=len(labels), prog_bar=True)


def voted(logits: Float[Tensor, "batch *step classes"]) -> Int[Tensor, " batch"]:
    """Return the class with the largest logit for each clip, by majority over several steps."""
    classes = logits.argmax(-1)
    return classes.mode(dim=1).values if classes.ndim == 2 else classes


def loss_of(logits: Float[Tensor, "batch *step classes"], labels: Int[Tensor, "*clips"]) -> Float[Tensor, ""]:
    """Return the cross-entropy, averaged over the steps; one label per clip is that of all its steps."""
    if labels.ndim < logits.ndim - 1:
        labels = labels[:, None].expand(logits.shape[:2])
    return cross_entropy(logits.movedim(-1, 1), labels)
