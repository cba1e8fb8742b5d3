"""Training, by Lightning; importing this imports neither it nor a framework."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from chronocam.lab.train.settings.images import ImageSettings
from chronocam.lab.train.settings.odometry import OdometrySettings
from chronocam.lab.train.settings.video import VideoSettings

if TYPE_CHECKING:
    from chronocam.lab.train.images.run import train_images
    from chronocam.lab.train.odometry.run import train_odometry
    from chronocam.lab.train.video.run import train_video

__all__ = [
    "ImageSettings",
    "OdometrySettings",
    "VideoSettings",
    "train_images",
    "train_odometry",
    "train_video",
]

_HOME = {"train_images": "images.run", "train_odometry": "odometry.run", "train_video": "video.run"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
