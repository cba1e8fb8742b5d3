"""Weights to start from, into a network with other classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from chronocam.errors import ModelError, first_line
from chronocam.lab.train.settings.base import PUBLISHED
from chronocam.models import load

_HEADS: Final = ("fc.", "classifier.", "heads.", "head.", "lstm.", "attention.")


def start_from(network: nn.Module, weights: str, backbone: str) -> None:
    """Fill a network with weights, all but the layers that answer for other classes.

    weights: a file (safetensors, or a dict of tensors by torch.save) of the backbone alone or of a whole
        network that was trained here; or `published` for what torchvision offers for `backbone`.
    Raises ModelError where a layer of the backbone is not in the file or has another shape there.
    """
    start = _published(backbone) if weights == PUBLISHED else _read(Path(weights))
    # The file may hold the whole network or its backbone alone: it is whichever it shares more names with.
    part = getattr(network, "backbone", network)
    if len(network.state_dict().keys() & start.keys()) >= len(part.state_dict().keys() & start.keys()):
        part = network
    parameters = part.state_dict()
    fitting = {
        key: value
        for key, value in start.items()
        if key in parameters and parameters[key].shape == value.shape
    }
    lost = [
        key
        for key in parameters
        if key not in fitting and not answers(key) and not key.endswith("num_batches_tracked")
    ]
    if lost:
        what = "have another shape" if lost[0] in start else "are missing"
        raise ModelError(
            f"`{weights}`: {len(lost)} weights of {backbone} {what} ({lost[0]}, …); check the backbone"
        )
    part.load_state_dict(fitting, strict=False)


def _published(backbone: str) -> Mapping[str, Tensor]:
    weights: Mapping[str, Tensor] = load(f"torchvision:{backbone}").model.state_dict()
    return weights


def answers(name: str) -> bool:
    """Say whether a weight belongs to the layers after the backbone, which depend on the classes."""
    return name.startswith(_HEADS)


def _read(path: Path) -> Mapping[str, Tensor]:
    import torch
    from safetensors.torch import load_file

    try:
        content: Any = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        )
    except Exception as error:  # not there, damaged, or a pickle that wants to run code
        problem = f"`{path}` cannot be read as weights ({first_line(error)})"
        raise ModelError(f"{problem}; expected safetensors or a dict of tensors") from error
    content = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    if not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f"`{path}` holds no weights; expected a dict of tensors")
    return content
