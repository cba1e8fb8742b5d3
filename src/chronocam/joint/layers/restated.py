"""Layers whose output is the model's own output again, before it is resized, reordered or put through a gate.

A map at such a layer shows the answer and not what it was made of, so the default layer passes over it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from chronocam.engines import LayerCall
from chronocam.joint.look.look import Look
from chronocam.maps.arrays import to_numpy
from chronocam.maps.resample import Mode, resample

SAME: Final = 0.99
"""The correlation of a layer's output with the model's above which both say the same."""

_MODES: Final[tuple[Mode, ...]] = ("linear", "nearest")


def restates(look: Look, call: LayerCall, calls: int, main: np.ndarray | None) -> bool:
    """Say whether a layer's output is the model's own or a part of it, as logits are before a resize.

    It has the output's values, as before a final sigmoid, or in another order, as before a pixel shuffle. Or
    it has its channels, and after it they are only resampled, so that both have the same values on another
    grid, or only added up, so that the score of one class depends on one channel. Rows of an output, such as
    those of a detector's boxes, are restated where the score depends on some of them.
    """
    if main is None or calls > 1 or main.ndim < 3:
        return False
    last, output, gradient = look.engine.channels_last, to_numpy(call.output), to_numpy(call.gradient)
    if _has_values(output, main):
        return True
    if main.ndim == len(look.grid) + 1 and 1 in (output.shape[1], output.shape[-1]):
        main = main[..., None] if last else main[:, None]  # a single channel, which the output has lost
    if main.ndim != len(look.grid) + 2:
        # The values of a row, which the cells of a grid have as channels before they become rows.
        values = main.shape[2:]
        cells = output.shape[1:] if output.ndim == main.ndim or last else np.roll(output.shape[1:], -1)
        rows = gradient if output.ndim == main.ndim or last else np.moveaxis(gradient, 1, -1)
        return tuple(cells[-len(values) :]) == values and _partly_silent(rows.reshape(len(rows), -1, *values))
    if output.ndim not in (main.ndim, 3):
        return False
    # Tokens, and outputs with their channels last, are laid on their grid.
    output, gradient = (look.on_grid(call.path, [x], order="time") for x in (output, gradient))
    main = np.moveaxis(main, -1, 1) if last else main
    if output.shape[:2] != main.shape[:2] or output.shape[2:] == main.shape[2:]:
        return False
    if _partly_silent(gradient):
        return True
    with np.errstate(invalid="ignore"):  # constants have no correlation
        return any(
            float(np.corrcoef(one.ravel(), main.ravel())[0, 1]) > SAME
            for values in (output.astype(np.float64), _softmax(output.astype(np.float64)))
            for one in _resized(values, main.shape[2:])
        )


def _resized(values: np.ndarray, size: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yield values on another grid, as networks enlarge them: also with the outermost cells at the border."""
    for mode in _MODES:
        yield resample(values, size, mode)
    if min(values.shape[2:]) > 1:
        corners = [
            np.linspace(0, n - 1, cells).tolist() for cells, n in zip(values.shape[2:], size, strict=True)
        ]
        yield resample(values, size, "linear", corners)


def _softmax(values: np.ndarray) -> np.ndarray:
    shares = np.exp(values - values.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def _has_values(output: np.ndarray, main: np.ndarray) -> bool:
    """Say whether a layer's output has the same values as the model's, in any order."""
    if output.size != main.size or output.min() != main.min() or output.max() != main.max():
        return False
    return bool(np.array_equal(np.sort(output, axis=None), np.sort(main, axis=None)))


def becomes_output(look: Look, own: Sequence[LayerCall], outputs: Sequence[np.ndarray]) -> bool:
    """Say whether a layer's output, resized, is one of several outputs, before or after a sigmoid.

    own: its calls. outputs: all floating-point outputs of the model with a grid.

    Only a layer of which the score reads a single channel, with no other layer in between, can be one of
    them: a model may also return features beside what it makes of them.
    """
    if not own[-1].scored or look.engine.channels_last:
        return False
    output = to_numpy(own[-1].output).astype(np.float64)
    if output.ndim < 3 or (output.shape[1] > 1 and not _partly_silent(to_numpy(own[-1].gradient))):
        return False
    alike = [x for x in outputs if x.ndim == output.ndim and x.shape[:2] == output.shape[:2]]
    # Constants have no correlation, and a sigmoid overflows where places are masked by large numbers.
    with np.errstate(all="ignore"):
        return any(
            float(np.corrcoef(values.ravel(), x.ravel())[0, 1]) > SAME
            for x in alike
            for resized in _resized(output, x.shape[2:])
            for values in (resized, 1 / (1 + np.exp(-resized)))
        )


def _partly_silent(gradient: np.ndarray) -> bool:
    """Say whether the score depends on some of the entries of axis 1, and not on others."""
    silent = ~gradient.any(axis=(0, *range(2, gradient.ndim)))
    return bool(silent.any() and not silent.all())
