"""Models by spec, each with its preprocessing and labels; importing this imports no framework."""

from typing import TYPE_CHECKING

from chronocam._lazy import lazily as _lazily
from chronocam.models.loading import load
from chronocam.models.specs import Loaded

if TYPE_CHECKING:
    from chronocam.models.cnn_lstm import CNNLSTM
    from chronocam.models.odometry.nets import DepthNet, PoseNet
    from chronocam.models.per_frame import PerFrame
else:  # networks need torch, which is imported when one is asked for
    __getattr__, __dir__ = _lazily(
        __name__,
        {".cnn_lstm": ["CNNLSTM"], ".odometry.nets": ["DepthNet", "PoseNet"], ".per_frame": ["PerFrame"]},
        extras=dict.fromkeys(["CNNLSTM", "DepthNet", "PoseNet", "PerFrame"], "torch"),
    )

__all__ = ["CNNLSTM", "DepthNet", "Loaded", "PerFrame", "PoseNet", "load"]
