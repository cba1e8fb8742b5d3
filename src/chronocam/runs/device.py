"""Models on the device that a call asks for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from chronocam.errors import InputError, first_line

if TYPE_CHECKING:
    from chronocam.models import Loaded


def load_on(device: str | None, spec: str, trust: bool, wants: Mapping[str, str] | None = None) -> Loaded:
    """Return the model of a spec, on a device of PyTorch; None leaves it where it was loaded.

    wants: what was said of its inputs, labels and boxes, as of `chronocam.models.load`.

    Raises InputError for a device that is not there, and for one named for a model of Keras.
    """
    from chronocam.models import load

    said = dict(wants or {})
    others: dict[str, Any] = {name: said.pop(name, None) for name in ("labels", "adapter", "boxes")}
    loaded = load(spec, trust=trust, preprocess=said, **others)
    if device is None:
        return loaded
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(loaded.model, torch.nn.Module):
        raise InputError(f"--device is for PyTorch models, which `{spec}` is not; drop --device {device}")
    try:
        loaded.model.to(device)
        torch.zeros(1, device=device).sum().item()  # a device that holds no values fails only here
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"no device `{device}` ({first_line(error)}); expected one such as cpu or cuda"
        ) from error
    return loaded
