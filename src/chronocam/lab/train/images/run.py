"""A network for pictures from data to files: fine-tuned, measured, and written with its record."""

from __future__ import annotations

from pathlib import Path

from jaxtyping import Int
from numpy import ndarray

from chronocam.errors import InputError, few
from chronocam.jsonable import Json
from chronocam.lab.train.figures import accuracy, confusion
from chronocam.lab.train.images.data import find_pictures, list_pictures
from chronocam.lab.train.run import TrainingRun, track
from chronocam.lab.train.settings import ImageSettings
from chronocam.media import Preprocess
from chronocam.runs.terminal import say


class ImagesRun(TrainingRun):
    """What a run on pictures is with any framework.

    labels: the names of the classes.
    unread: the names of pictures that could not be read.
    """

    settings: ImageSettings

    def __init__(self, settings: ImageSettings) -> None:
        super().__init__(settings)
        self.listing = list_pictures(Path(settings.data), settings.seed)
        self.labels = self.listing.labels
        self.unread: set[str] = set()

    def find(self, preprocess: Preprocess) -> None:
        """Find the pictures as the network sees them, and report how many there are."""
        self.parts = find_pictures(self.settings, self.listing, preprocess, track)
        counts = ", ".join(f"{len(part)} for {name}" for name, part in self.parts.items())
        say(f"{self.listing.layout}: {len(self.labels)} classes, pictures: {counts}")

    def answers(self) -> tuple[Int[ndarray, " picture"], Int[ndarray, " picture"]]:
        """Return the true class of each readable held-out picture, and the class that the network names."""
        raise NotImplementedError(f"{type(self).__name__} must define answers()")

    def measure(self) -> Json:
        """Return accuracy with its 95 % interval, recall by class and the confusion matrix (rows: the truth).

        Raises InputError where no picture can be read.
        """
        truth, answers = self.answers()
        if not len(truth):
            raise InputError("none of the held-out pictures can be read; check the files")
        figures = accuracy(truth, answers, self.labels)
        return {"pictures": len(truth), **figures, "confusion": confusion(truth, answers, self.labels)}

    def data(self) -> Json:
        """Return what the record says of the pictures, and report those that could not be read."""
        unread = sorted(self.unread)
        if unread:
            say(f"{len(unread)} pictures could not be read and were skipped: {few(unread, 10)}")
        return {
            "data": self.listing.layout,
            "pictures": {name: len(part) for name, part in self.parts.items()},
            "pictures unreadable": unread,
        }
