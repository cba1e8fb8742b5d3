"""Weights to start from, into a Keras network with other classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py

from chronocam.errors import ModelError, first_line
from chronocam.lab.models.keras_images import builder, with_weights
from chronocam.lab.train.settings.base import PUBLISHED
from chronocam.models import load

_SUFFIXES = (".keras", ".h5")


def start_from(net: Any, weights: str, spec: str) -> Any:
    """Return a network with weights in all of its layers but the one that answers for other classes.

    weights: a file with a whole model, or with the weights of `spec` with its own classes; or `published` for
        those that Keras offers.
    Raises ModelError where they cannot be loaded, or belong to another network or size.
    """
    published = load(spec).model if weights == PUBLISHED else _read(Path(weights), spec)
    try:
        return with_weights(net, published)
    except ModelError as error:
        raise ModelError(f"`{weights}`: the weights do not fit {spec}: {error}") from error


def _read(path: Path, spec: str) -> Any:
    if path.suffix not in _SUFFIXES or not path.is_file():
        problem = "there is no such file" if path.suffix in _SUFFIXES else "is not a file of Keras weights"
        raise ModelError(
            f"`{path}`: {problem}; expected one that ends in {' or '.join(_SUFFIXES)}, or {PUBLISHED}"
        )
    if path.suffix == ".keras" or _is_whole(path):
        return load(str(path)).model
    net = builder(spec)(weights=None)
    try:
        net.load_weights(path)
    except Exception as error:  # a damaged file, or weights of another network
        problem = f"`{path}` cannot be read as weights of {spec} with its own classes ({first_line(error)})"
        raise ModelError(f"{problem}; give a whole model, PATH.keras") from error
    return net


def _is_whole(path: Path) -> bool:
    """Say whether a file holds a model, and not weights alone."""
    try:
        with h5py.File(path) as file:
            return "model_config" in file.attrs
    except OSError as error:
        raise ModelError(
            f"`{path}` cannot be read ({first_line(error)}); expected what Keras saved"
        ) from error
