"""Training, with Lightning or Keras; importing this imports no framework."""

from typing import TYPE_CHECKING

from chronocam._lazy import lazily as _lazily
from chronocam.lab.train.settings import ImageSettings, OdometrySettings, VideoSettings

if TYPE_CHECKING:
    from chronocam.lab.train.images.start import train_images
    from chronocam.lab.train.odometry.run import train_odometry
    from chronocam.lab.train.video.run import train_video
else:
    __getattr__, __dir__ = _lazily(
        __name__,
        {
            ".images.start": ["train_images"],
            ".odometry.run": ["train_odometry"],
            ".video.run": ["train_video"],
        },
    )

__all__ = [
    "ImageSettings",
    "OdometrySettings",
    "VideoSettings",
    "train_images",
    "train_odometry",
    "train_video",
]
