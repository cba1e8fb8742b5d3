"""Pictures and clips in and out, and how a model wants them."""

from chronocam.media.clips import Clip, read_clip, write_clip
from chronocam.media.images import find_images, read_image, write_image
from chronocam.media.preprocess import Preprocess
from chronocam.media.preprocess_clip import ClipPreprocess

__all__ = [
    "Clip",
    "ClipPreprocess",
    "Preprocess",
    "find_images",
    "read_clip",
    "read_image",
    "write_clip",
    "write_image",
]
