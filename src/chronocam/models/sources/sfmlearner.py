"""`sfmlearner:PATH`: a depth or pose network as SfMLearner's PyTorch version publishes them."""

from __future__ import annotations

from chronocam.media.preprocess import Preprocess
from chronocam.models.specs import ModelRequest, ModelSource, Parts, need


def _load(request: ModelRequest) -> Parts:
    """Return the network and the recipe of one picture; a pose network takes several on channels."""
    checkpoints = need("chronocam.models.odometry.checkpoints", "torch")
    net = checkpoints.load_published(request.names[0])
    return (
        net,
        Preprocess(checkpoints.SIZE, None, checkpoints.MEAN, checkpoints.STD),
        getattr(net, "labels", None),
    )


SOURCE = ModelSource(
    "sfmlearner:PATH", r"sfmlearner:(.+)", _load, about="published checkpoints for depth and motion"
)
