"""The digest of a model's weights: rows of two models with one name must not stand in one table."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np


def weights_digest(model: Any) -> str:
    """Return the digest of a model's parameters and buffers; the same for all models that have none."""
    digest = hashlib.sha256()
    for name, values in _weights(model):
        digest.update(f"{name}{values.shape}{values.dtype}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _weights(model: Any) -> Iterable[tuple[str, np.ndarray]]:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        for name, value in model.state_dict().items():
            if isinstance(value, torch.Tensor) and not value.is_sparse and not value.is_quantized:
                # As bytes: NumPy has no bfloat16.
                flat = value.detach().cpu().contiguous().reshape(-1)
                yield f"{name}{tuple(value.shape)}{value.dtype}", flat.view(torch.uint8).numpy()
    elif callable(getattr(model, "get_weights", None)):
        yield from ((str(k), np.asarray(value)) for k, value in enumerate(model.get_weights()))
