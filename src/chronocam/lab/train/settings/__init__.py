"""Settings of a training run: one class per kind of network."""

from chronocam.lab.train.settings.images import ImageSettings
from chronocam.lab.train.settings.odometry import OdometrySettings
from chronocam.lab.train.settings.video import VideoSettings

__all__ = ["ImageSettings", "OdometrySettings", "VideoSettings"]
