"""Pictures of an epoch as files: PNG, and the event files that TensorBoard reads."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from chronocam.callbacks._base import Picture
from chronocam.media.files import replace_file


def write_files(folder: Path, pictures: Sequence[Picture], name: str) -> None:
    """Write PNG files, `tag/name.png` each. Raises MediaError where that is not possible."""
    for picture in pictures:
        image = Image.fromarray(picture.pixels)
        replace_file(folder / picture.tag / f"{name}.png", image.save)


class EventFile:
    """A file of events in a folder, written by TensorBoard's own code, which needs no TensorFlow."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer: Any = EventFileWriter(str(folder))

    def write(self, pictures: Sequence[Picture], step: int) -> None:
        """Write pictures and their captions, and leave nothing in memory."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.text.summary_v2 import text_pb

        for picture in pictures:
            png = io.BytesIO()
            Image.fromarray(picture.pixels).save(png, "PNG")
            height, width, channels = picture.pixels.shape
            image = Summary.Image(
                height=height, width=width, colorspace=channels, encoded_image_string=png.getvalue()
            )
            values = [Summary.Value(tag=picture.tag, image=image)]
            values += text_pb(f"{picture.tag}/caption", picture.caption).value
            event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
            self._writer.add_event(event)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
