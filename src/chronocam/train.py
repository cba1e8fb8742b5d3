"""Training from Python, as `chronocam train` does it: public names of `chronocam.lab.train`.

Importing this imports no framework; the functions do, when they are asked for.
"""

from typing import TYPE_CHECKING

from chronocam._lazy import lazily as _lazily
from chronocam.lab.train import ImageSettings, OdometrySettings, VideoSettings

if TYPE_CHECKING:
    from chronocam.lab.train import train_images, train_odometry, train_video
else:
    __getattr__, __dir__ = _lazily(
        __name__, {"chronocam.lab.train": ["train_images", "train_odometry", "train_video"]}
    )

__all__ = [
    "ImageSettings",
    "OdometrySettings",
    "VideoSettings",
    "train_images",
    "train_odometry",
    "train_video",
]
