"""SfMLearner-PyTorch's checkpoints `dispnet_model_best.pth.tar` and `exp_pose_model_best.pth.tar`.

Its layers have the same names as ours, so nothing is renamed. Its networks expect pictures of 128 × 416
pixels as (value / 255 − 0.5) / 0.5; the pose network wants the target first, then the other frames in the
order of time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from chronocam.errors import ModelError, first_line
from chronocam.media.files import is_file
from chronocam.models.odometry.nets import MOTION, DepthNet, PoseNet

SIZE: Final = (128, 416)
"""Height and width of the pictures that the published networks were trained on."""

MEAN: Final = (0.5, 0.5, 0.5)
STD: Final = (0.5, 0.5, 0.5)
"""With `MEAN`, of values in [0, 1]: what the published networks were trained on."""

_DEPTH, _POSE = "predict_disp1.0.weight", "pose_pred.weight"
_EXPECTED: Final = "expected dispnet_model_best.pth.tar or exp_pose_model_best.pth.tar of SfMLearner-PyTorch"


def load_published(path: str | Path) -> DepthNet | PoseNet:
    """Load whichever of the two published networks the file holds, in eval mode. No code in the file is run.

    The file holds the parameters, or a dict with them as `state_dict`; a pose network gets sources and masks
    as the file has them. Raises ModelError for a missing file and for one that holds anything else.
    """
    parameters = read_parameters(path)
    return _pose_net(parameters, path) if _POSE in parameters else _depth_net(parameters, path)


def read_parameters(path: str | Path) -> Mapping[str, Tensor]:
    """Return the parameters in a checkpoint by name. Raises ModelError for anything else."""
    if not is_file(path):
        raise ModelError(f"there is no file `{path}`; check the path")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file, or a pickle that wants to run code
        raise ModelError(
            f"`{path}` cannot be read as a checkpoint ({first_line(error)}); expected a dict of tensors"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f"`{path}` holds a {type(content).__name__}, not a dict of tensors; {_EXPECTED}")
    prefix = "module." if content and all(name.startswith("module.") for name in content) else ""
    return {name.removeprefix(prefix): value for name, value in content.items()}


def _depth_net(parameters: Mapping[str, Tensor], path: str | Path) -> DepthNet:
    if _DEPTH not in parameters:
        raise ModelError(f"`{path}` has no parameter `{_DEPTH}` and no `{_POSE}`; {_EXPECTED}")
    net = DepthNet()
    _fill(net, parameters, path)
    return net


def _pose_net(parameters: Mapping[str, Tensor], path: str | Path) -> PoseNet:
    head = parameters[_POSE]
    sources, rest = divmod(len(head), len(MOTION)) if head.ndim else (0, 0)
    if rest or not sources:
        raise ModelError(
            f"`{path}`: `{_POSE}` has shape {tuple(head.shape)}; expected 6 outputs for each source"
        )
    net = PoseNet(sources, masks="predict_mask1.weight" in parameters)
    _fill(net, parameters, path)
    return net


def _fill(net: nn.Module, parameters: Mapping[str, Tensor], path: str | Path) -> None:
    own = net.state_dict()
    for name in (*own, *parameters):
        shape, expected = (tuple(one[name].shape) if name in one else None for one in (parameters, own))
        if shape != expected:
            problem = "is missing" if shape is None else f"has shape {shape}"
            todo = "no such parameter" if expected is None else f"shape {expected}"
            raise ModelError(f"`{path}` does not fit: `{name}` {problem}, expected {todo}; {_EXPECTED}")
    net.load_state_dict(dict(parameters))
    net.eval()
