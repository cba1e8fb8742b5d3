"""What targets need of the array API, over TensorFlow's tensors, so that scores can be differentiated."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

float32: Any = tf.float32
float64: Any = tf.float64
reshape: Any = tf.reshape
stack: Any = tf.stack
where: Any = tf.where
sqrt: Any = tf.sqrt
abs: Any = tf.abs
tanh: Any = tf.tanh
maximum: Any = tf.maximum
minimum: Any = tf.minimum
zeros_like: Any = tf.zeros_like
ones_like: Any = tf.ones_like
exp: Any = tf.exp
astype: Any = tf.cast
permute_dims: Any = tf.transpose
tensordot: Any = tf.tensordot
log: Any = tf.math.log
repeat: Any = tf.repeat


def asarray(values: Any, dtype: Any = None, device: Any = None) -> Any:
    """Return values as a tensor, where TensorFlow puts it."""
    return tf.convert_to_tensor(values, dtype)


def concat(arrays: Any, axis: int = 0) -> Any:
    """Return arrays one after the other along an axis."""
    return tf.concat(arrays, axis)


def moveaxis(array: Any, source: int, destination: int) -> Any:
    """Return an array with one axis in another place."""
    axes = [axis for axis in range(array.ndim) if axis != source % array.ndim]
    axes.insert(destination % array.ndim, source % array.ndim)
    return tf.transpose(array, axes)


def sum(array: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the sum over axes."""
    return tf.reduce_sum(array, axis, keepdims)


def mean(array: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the mean over axes."""
    return tf.reduce_mean(array, axis, keepdims)


def max(array: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the largest value along axes."""
    return tf.reduce_max(array, axis, keepdims)


def min(array: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the smallest value along axes."""
    return tf.reduce_min(array, axis, keepdims)


def prod(array: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the product along axes."""
    return tf.reduce_prod(array, axis, keepdims)


def all(array: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Say whether all values along axes are true."""
    return tf.reduce_all(tf.cast(array, tf.bool), axis, keepdims)


def any(array: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Say whether one of the values along axes is true."""
    return tf.reduce_any(tf.cast(array, tf.bool), axis, keepdims)


def take_along_axis(array: Any, indices: Any, axis: int = -1) -> Any:
    """Return the values at `indices` along the last axis of `(batch, n)`."""
    return tf.gather(array, indices, axis=axis, batch_dims=axis % array.ndim)


def finfo(dtype: Any) -> Any:
    """Return the limits of a floating-point type."""
    return tf.experimental.numpy.finfo(dtype.as_numpy_dtype)


class linalg:
    """Norms."""

    @staticmethod
    def vector_norm(array: Any, axis: Any = None, keepdims: bool = False) -> Any:
        """Return the Euclidean norm over axes."""
        return tf.norm(array, axis=axis, keepdims=keepdims)
