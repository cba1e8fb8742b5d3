"""Models by spec, each with its preprocessing and labels; importing this imports no framework."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from chronocam.models.specs import Loaded, load

if TYPE_CHECKING:
    from chronocam.models.cnn_lstm import CNNLSTM
    from chronocam.models.odometry.nets import DepthNet, PoseNet
    from chronocam.models.per_frame import PerFrame

__all__ = ["CNNLSTM", "DepthNet", "Loaded", "PerFrame", "PoseNet", "load"]

_NETWORKS = {
    "CNNLSTM": "cnn_lstm",
    "DepthNet": "odometry.nets",
    "PerFrame": "per_frame",
    "PoseNet": "odometry.nets",
}


def __getattr__(name: str) -> Any:
    if name in _NETWORKS:  # networks need torch, which is imported when one is asked for
        return getattr(import_module(f"{__name__}.{_NETWORKS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
