"""The kernels of Keras' convolutions, as PyTorch has them: filters first."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from chronocam.types import Array

_PLAIN = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)


def kernels_of(layer: Any) -> Array | None:
    """Return the kernels `(filter, channel, *grid)` of a convolution; None for any other layer.

    A depthwise convolution has one channel per filter, filter i · multiplier + m being the m-th of channel i.
    A separable one has the filters that its two steps amount to: Σ_m depthwise[…, i, m] · pointwise[i ·
    multiplier + m].
    """
    # In Keras neither depthwise nor separable convolutions are subclasses of plain ones.
    if isinstance(layer, _PLAIN):
        return _filters_first(_array(layer.kernel))
    if isinstance(layer, _DEPTHWISE):
        kernel = _array(layer.kernel)
        return _filters_first(kernel.reshape(*kernel.shape[:-2], 1, -1))
    if isinstance(layer, _SEPARABLE):
        depthwise, pointwise = _array(layer.depthwise_kernel), _array(layer.pointwise_kernel)
        mixed = pointwise.reshape(*depthwise.shape[-2:], -1)
        return _filters_first(np.einsum("...im,imo->...io", depthwise, mixed))
    return None


def _array(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32")))


def _filters_first(kernel: np.ndarray) -> np.ndarray:
    """Turn `(*grid, channel, filter)` around."""
    return np.moveaxis(kernel, (-1, -2), (0, 1))
