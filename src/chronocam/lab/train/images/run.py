"""A network for pictures from data to files: fine-tuned, measured on held-out pictures, written with its record."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from jaxtyping import Int
from numpy import ndarray

from chronocam.errors import InputError
from chronocam.lab.train.figures import accuracy, confusion
from chronocam.lab.train.images.data import find_pictures, list_pictures
from chronocam.lab.train.run import checkpoint, completed, few, say, track
from chronocam.lab.train.settings.images import ImageSettings
from chronocam.media import Preprocess


def train_images(settings: ImageSettings) -> Path:
    """Train a network for pictures and return the path of its record, `OUT/model.json`.

    Beside it lie the weights of the epoch with the lowest validation loss, `OUT/model.safetensors` or, of a
    Keras network, `OUT/model.keras`; in `OUT/checkpoints` what a later run with `resume` goes on from: it
    ends where an uninterrupted one would have. The record holds what `chronocam.models.load` needs, the
    command, and the figures on held-out pictures. A picture that cannot be read is skipped and named. Raises
    ChronocamError for settings that do not fit the data, the network or the machine.
    """
    home = import_module(f"chronocam.lab.train.images.on_{'keras' if settings.on_keras else 'torch'}")
    return completed(home.Run(settings))


class ImagesRun:
    """What a run on pictures is with any framework.

    kept: name of the checkpoint to go on from. last: its path; None for a run that begins. labels: of the
        classes.
    """

    kept = "last.ckpt"

    def __init__(self, settings: ImageSettings) -> None:
        self.settings, self.last = settings, checkpoint(settings, self.kept)
        self.listing = list_pictures(Path(settings.data), settings.seed)
        self.labels = self.listing.labels
        self.unread: set[str] = set()

    def find(self, preprocess: Preprocess) -> None:
        """Find the pictures as the network sees them, and tell how many there are."""
        self.parts = find_pictures(self.settings, self.listing, preprocess, track)
        told = ", ".join(f"{len(part)} for {name}" for name, part in self.parts.items())
        say(f"{self.listing.layout}: {len(self.labels)} classes, pictures: {told}")

    def answers(self) -> tuple[Int[ndarray, " picture"], Int[ndarray, " picture"]]:
        """Return the true class of each held-out picture that can be read, and the one found."""
        raise NotImplementedError(f"{type(self).__name__} must define answers()")

    def measure(self) -> dict[str, Any]:
        """Return accuracy with its 95 % interval, recall by class and the confusion matrix, rows being the truth.

        Raises InputError where no picture can be read.
        """
        truth, found = self.answers()
        if not len(truth):
            raise InputError("none of the held-out pictures can be read; check the files")
        figures = accuracy(truth, found, self.labels)
        return {"pictures": len(truth), **figures, "confusion": confusion(truth, found, self.labels)}

    def record(
        self, network: Mapping[str, Any], figures: Mapping[str, Any], training: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what the record says of the run, and name the pictures that could not be read."""
        unread = sorted(self.unread)
        if unread:
            say(f"{len(unread)} pictures could not be read and were skipped: {few(unread)}")
        return {
            **network,
            "seed": self.settings.seed,
            "command": self.settings.command(),
            "data": self.listing.layout,
            "pictures": {name: len(part) for name, part in self.parts.items()},
            "pictures unreadable": unread,
            "held-out": dict(figures),
            **training,
        }
