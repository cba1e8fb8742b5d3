"""How well a trained network does on clips that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from chronocam.errors import InputError
from chronocam.jsonable import Json
from chronocam.lab.train.clips import ClipSource
from chronocam.lab.train.figures import accuracy, confusion
from chronocam.lab.train.torch.batches import loader
from chronocam.lab.train.torch.classifier import voted
from chronocam.lab.train.video.module import VideoModule


def measure(module: VideoModule, clips: ClipSource, labels: Sequence[str]) -> Json:
    """Return accuracy with its 95 % interval, recall by class and the confusion matrix (rows: the truth).

    A network with logits after every frame names a clip by majority vote over the frames.
    Also the same with the frames of every clip in random order: what is lost there was seen in their order.
    Raises InputError where no clip can be read.
    """
    batch, workers = module.settings.batch_size, module.settings.workers
    truth, answers, shuffled = _answers(module, loader(clips, batch, workers))
    return {
        "clips": len(truth),
        **accuracy(truth, answers, labels),
        "confusion": confusion(truth, answers, labels),
        "frames shuffled": accuracy(truth, shuffled, labels),
    }


def _answers(module: VideoModule, batches: Any) -> tuple[Int[np.ndarray, " clip"], ...]:
    """Return the true class of each clip, the one found, and the one found with frames in random order."""
    generator = torch.Generator().manual_seed(0)
    rows: list[Int[Tensor, "3 batch"]] = []
    module.eval()
    with torch.inference_mode():
        for pixels, labels, unread in batches:
            module.unread.update(unread)
            if len(labels):
                pair = (pixels, _shuffled(pixels, generator))
                rows.append(torch.stack([labels, *(voted(module(p.to(module.device))).cpu() for p in pair)]))
    if not rows:
        raise InputError("none of the held-out clips can be read; check the files")
    truth, answers, shuffled = torch.cat(rows, dim=1).numpy()
    return truth, answers, shuffled


def _shuffled(clips: Tensor, generator: torch.Generator) -> Tensor:
    return torch.stack([clip[torch.randperm(len(clip), generator=generator)] for clip in clips])
