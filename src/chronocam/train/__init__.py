"""Training, by Lightning; importing this imports neither it nor a framework."""

from typing import TYPE_CHECKING, Any

from chronocam.train.settings import VideoSettings

if TYPE_CHECKING:
    from chronocam.train.video import train_video

__all__ = ["VideoSettings", "train_video"]


def __getattr__(name: str) -> Any:
    if name == "train_video":
        from chronocam.train.video import train_video

        return train_video
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
