"""Pictures and clips in and out, and how a model wants them."""

from chronocam.media._stills import Stills, still, stills
from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.clips.read import Clip, read_clip, write_clip
from chronocam.media.images import find_images, read_image, write_image
from chronocam.media.preprocess import Preprocess

__all__ = [
    "Clip",
    "ClipPreprocess",
    "Preprocess",
    "Stills",
    "find_images",
    "read_clip",
    "read_image",
    "still",
    "stills",
    "write_clip",
    "write_image",
]
