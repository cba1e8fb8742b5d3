"""A network for clips from data to files: trained, measured on held-out clips, written with its record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from chronocam.errors import few
from chronocam.jsonable import Json
from chronocam.lab.models.trained import VIDEO
from chronocam.lab.models.video import architecture, check_backbone, recipe, video_net
from chronocam.lab.train.clips import CALM, ClipSplits, cached, find_clips, insist_on_one, joined
from chronocam.lab.train.run import track
from chronocam.lab.train.settings import VideoSettings
from chronocam.lab.train.torch.batches import Shuffled, loader
from chronocam.lab.train.torch.loop import Batches
from chronocam.lab.train.torch.run import TorchRun
from chronocam.lab.train.torch.weights import start_from
from chronocam.lab.train.video.measure import measure
from chronocam.lab.train.video.module import VideoModule
from chronocam.runs.terminal import say


def train_video(settings: VideoSettings) -> Path:
    """Train a network for clips and return the path of its record, `OUT/model.json`.

    `OUT/model.safetensors` holds the weights of the epoch with the lowest validation loss. `OUT/checkpoints`
    holds what a later run with `resume` continues from; it ends where an uninterrupted one would have. The
    record holds what `chronocam.models.load` needs, the command, and the figures on held-out clips. A clip
    that cannot be read is skipped and named. Raises ChronocamError for settings that do not fit the data, the
    network or the machine.

    Example:
        >>> small = {"epochs": 1, "clips": 4, "held_out": 4, "frames": 8, "size": 48}
        >>> settings = cc.train.VideoSettings("gestures", "r3d", Path("net"), backbone="small", **small)
        >>> cc.train.train_video(settings).name
        'model.json'
    """
    settings = replace(settings, backbone=settings.backbone or architecture(settings.arch).backbone)
    return VideoRun(settings).completed()


class VideoRun(TorchRun):
    """A run on clips; the settings name a backbone."""

    settings: VideoSettings
    module: VideoModule

    def __init__(self, settings: VideoSettings) -> None:
        backbone = str(settings.backbone)
        check_backbone(settings.arch, backbone)
        mean, std, side = recipe(backbone)
        super().__init__(settings)
        size = settings.size or side
        self.clips = _clips(settings, size)
        network = {
            "arch": settings.arch,
            "backbone": backbone,
            "hidden": settings.hidden,
            "labels": list(self.clips.labels),
            "frames": settings.frames,
            "size": [size, size],
            "mean": list(mean),
            "std": list(std),
            "axes": architecture(settings.arch).axes,
            "sampling": settings.sampling,
        }
        self.network = {"format": VIDEO, **network}
        torch.manual_seed(settings.seed)
        net = video_net(settings.arch, backbone, len(self.clips.labels), settings.hidden)
        if settings.weights is not None:
            start_from(net, settings.weights, backbone)
        self.module = VideoModule(net, settings, mean, std, network)

    def batches(self) -> Batches:
        """Return the batches to train on, calm clips first if so set, and those to validate on."""
        settings, parts = self.settings, self.clips.parts
        clips, calm = parts["train"], parts.get(CALM)
        order = Shuffled(len(clips), settings.seed, len(calm) if calm else 0, settings.calm_epochs)
        lessons = joined(clips, calm) if calm else clips
        return (
            loader(lessons, settings.batch_size, settings.workers, order),
            loader(parts["validation"], settings.batch_size, settings.workers),
        )

    def measure(self) -> Json:
        """Return the figures on held-out clips."""
        return measure(self.module, self.clips.parts["test"], self.clips.labels)

    def data(self) -> Json:
        """Return what the record says of the clips, and report those that could not be read."""
        unread = sorted(self.module.unread)
        if unread:
            say(f"{len(unread)} clips could not be read and were skipped: {few(unread, 10)}")
        return {
            "data": self.clips.layout,
            "clips": {name: len(part) for name, part in self.clips.parts.items()},
            "clips missing": len(self.clips.missing),
            "clips unreadable": unread,
        }


def _clips(settings: VideoSettings, size: int) -> ClipSplits:
    """Find the clips, decode them once where there is a cache, and report how many there are."""
    clips = find_clips(settings, size)
    if settings.cache is not None:
        folder = settings.cache
        parts = {name: cached(part, folder, track) for name, part in clips.parts.items()}
        clips = replace(clips, parts=parts)
    for part in clips.parts.values():
        insist_on_one(part)
    counts = ", ".join(f"{len(part)} for {name}" for name, part in clips.parts.items())
    say(f"{clips.layout}: {len(clips.labels)} classes, clips: {counts}")
    if clips.missing:
        say(f"{len(clips.missing)} clips are listed and missing: {few(clips.missing, 10)}")
    return clips
