"""Pictures in and out, and how a model wants them."""

from chronocam.media.images import find_images, read_image, write_image
from chronocam.media.preprocess import Preprocess

__all__ = ["Preprocess", "find_images", "read_image", "write_image"]
