"""A network for clips from data to files: trained, measured on held-out clips, written with its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning import __version__

from chronocam.lab.models.trained import VIDEO
from chronocam.lab.models.video import architecture, check_backbone, recipe, video_net
from chronocam.lab.train.clips import CALM, Clips, Splits, cached, find_clips, insist_on_one, joined
from chronocam.lab.train.run import checkpoint, completed, few, say, track, write
from chronocam.lab.train.settings.video import VideoSettings
from chronocam.lab.train.torch.batches import Shuffled, loader
from chronocam.lab.train.torch.loop import fit, save_weights
from chronocam.lab.train.torch.weights import start_from
from chronocam.lab.train.video.measure import measure
from chronocam.lab.train.video.module import VideoModule


def train_video(settings: VideoSettings) -> Path:
    """Train a network for clips and return the path of its record, `OUT/model.json`.

    `OUT/model.safetensors` holds the weights of the epoch with the lowest validation loss, `OUT/checkpoints`
    what a
    later run with `resume` goes on from: it ends where an uninterrupted one would have. The record holds what
    `chronocam.models.load` needs, the command, and the figures on held-out clips. A clip that cannot be read
    is skipped and named. Raises ChronocamError for settings that do not fit the data, the network or the
    machine.
    """
    settings = replace(settings, backbone=settings.backbone or architecture(settings.arch).backbone)
    return completed(_Run(settings))


class _Run:
    """The parts of one training run."""

    def __init__(self, settings: VideoSettings) -> None:
        arch, backbone = settings.arch, str(settings.backbone)
        check_backbone(arch, backbone)
        mean, std, side = recipe(backbone)
        self.settings, self.last = settings, checkpoint(settings)
        size = settings.size or side
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self.clips = _clips(settings, size)
        self.network = {
            "arch": arch,
            "backbone": backbone,
            "hidden": settings.hidden,
            "labels": list(self.clips.labels),
            "frames": settings.frames,
            "size": [size, size],
            "mean": list(mean),
            "std": list(std),
            "axes": architecture(arch).axes,
            "sampling": settings.sampling,
        }
        torch.manual_seed(settings.seed)
        net = video_net(arch, backbone, len(self.clips.labels), settings.hidden)
        if settings.weights is not None:
            start_from(net, settings.weights, backbone)
        self.module = VideoModule(net, settings, mean, std, self.network)

    def fit(self) -> tuple[int, list[dict[str, float | int]]]:
        """Train, from the beginning or from a checkpoint; return the best epoch and the figures of all."""
        settings, parts = self.settings, self.clips.parts
        validation = loader(parts["validation"], settings.batch_size, settings.workers)
        return fit(
            settings, self.module, (_lessons(parts, settings), validation), self.last
        ), self.module.history

    def measure(self) -> dict[str, Any]:
        """Return the figures on held-out clips."""
        return measure(self.module, self.clips.parts["test"], self.clips.labels)

    def write(self, figures: Mapping[str, Any], training: Mapping[str, Any]) -> Path:
        """Write weights and record."""
        settings, clips = self.settings, self.clips
        unread = sorted(self.module.unread)
        record = {
            "format": VIDEO,
            **self.network,
            "seed": settings.seed,
            "command": settings.command(),
            "data": clips.layout,
            "clips": {name: len(part) for name, part in clips.parts.items()},
            "clips missing": len(clips.missing),
            "clips unreadable": unread,
            "held-out": figures,
            **training,
            "versions": {"torch": torch.__version__, "lightning": __version__},
        }
        if unread:
            say(f"{len(unread)} clips could not be read and were skipped: {few(unread)}")
        weights = self.module.network.state_dict()
        return write(settings.out, record, "model.safetensors", lambda path: save_weights(path, weights))


def _lessons(parts: Mapping[str, Clips], settings: VideoSettings) -> Any:
    """Return the batches to train on: calm clips first where they are wanted."""
    clips, calm = parts["train"], parts.get(CALM)
    order = Shuffled(len(clips), settings.seed, len(calm) if calm else 0, settings.calm_epochs)
    shown = joined(clips, calm) if calm else clips
    return loader(shown, settings.batch_size, settings.workers, order)


def _clips(settings: VideoSettings, size: int) -> Splits:
    """Find the clips, decode them once where a cache is wanted, and tell what there is."""
    clips = find_clips(settings, size)
    if settings.cache is not None:
        folder = settings.cache
        clips = replace(
            clips, parts={name: cached(part, folder, track) for name, part in clips.parts.items()}
        )
    for part in clips.parts.values():
        insist_on_one(part)
    told = ", ".join(f"{len(part)} for {name}" for name, part in clips.parts.items())
    say(f"{clips.layout}: {len(clips.labels)} classes, clips: {told}")
    if clips.missing:
        say(f"{len(clips.missing)} clips are listed and missing: {few(clips.missing)}")
    return clips
