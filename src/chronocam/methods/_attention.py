"""What methods that are made of attention share: their options, and how tokens come back to the grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from chronocam.errors import InputError, LayerError, LayoutError, ModelError, check_whole, few
from chronocam.maps.arrays import namespace
from chronocam.maps.attended import Attended, Link
from chronocam.maps.pieces import together
from chronocam.methods._base import Maps, Method
from chronocam.types import INPUT, Array, Capture, View


@dataclass(kw_only=True, eq=False)
class AttentionMethod(Method):
    """A map of the tokens that a transformer attends to.

    `conv_layer` is the layer that says how the tokens lie on the grid; None finds one.

    Example:
    >>> issubclass(cc.AttentionRollout, cc.methods.AttentionMethod)
    True
    """

    def __post_init__(self) -> None:
        if self.conv_layer == INPUT or isinstance(self.conv_layer, (list, tuple)):
            raise LayerError(
                f"{self.name} is of all attention at once; give one layer of tokens, or leave conv_layer out"
            )
        if self.align == "receptive_field":
            raise InputError(
                f'{self.name} credits the patches themselves; leave align out, or give align="half_pixel"'
            )
        if self.chunk_frames is not None:
            raise InputError(f"{self.name} needs the attention over whole clips; leave chunk_frames out")
        super().__post_init__()


@dataclass(kw_only=True, eq=False)
class AttendedMethod(AttentionMethod):
    """A map of the attention that a score depends on, made target by target.

    Example:
    >>> issubclass(cc.LeGrad, cc.methods.AttendedMethod)
    True
    """

    maps_words: ClassVar[bool] = True
    """Whether `on="text"` shows the words of captions."""

    def maps(self, view: View) -> Maps:
        """Return one map per target."""
        capture = view.captures[0]
        each = [self.attributed(capture, target) for target in range(view.targets)]
        return namespace(each[0]).stack(each, axis=1)

    def of_words(self) -> AttendedMethod:
        """Return the method as it is for the words of a caption, where that is not as for pictures."""
        return self

    def attributed(self, capture: Capture, target: int) -> Float[Any, batch * grid]:
        """Return the map of one target."""
        raise NotImplementedError(f"{type(self).__name__} must define attributed(capture, target)")


def check_layers(layers: int | None) -> None:
    """Raise InputError where `layers` is not how many layers count."""
    if layers is not None:
        check_whole("layers", layers, "how many of the last layers count, or None for all")


def counting(capture: Capture, name: str) -> list[tuple[int, Attended]]:
    """Return the attentions that the score depends on, with their numbers. Raises ModelError for none."""
    depended_on(capture.attended, name)
    return [(i, call) for i, call in together(capture.attended) if call.gradients is not None]


def depended_on(attended: Sequence[Attended], name: str) -> list[Attended]:
    """Return the attentions that the score depends on. Raises ModelError for none."""
    calls = [call for call in attended if call.gradients is not None]
    if calls:
        return calls
    seen = "the score depends on none" if attended else "none was seen"
    raise ModelError(
        f"{name} needs attention, and {seen} in this model; for networks without attention choose gradcam"
    )


def on_grid(
    capture: Capture, values: Float[Any, "row token"], divided: tuple[int, int, int] | None
) -> Float[Any, batch * grid]:
    """Return a value per token on the grid; tokens that are not patches are left out.

    divided: see `divided_in`. Raises LayoutError where the tokens are not those of the grid.
    """
    batch, grid = capture.activations.shape[0], tuple(capture.activations.shape[2:])
    if divided is not None:
        values = _whole(values, batch, *divided)
    rows, tokens = values.shape
    laid = capture.layout_of((rows, tokens, 1), None if divided is None else "time")(values[..., None])
    if tuple(laid.shape) != (batch, 1, *grid):
        raise LayoutError(f"tokens lie on {tuple(laid.shape)}, and the layer's on {(batch, 1, *grid)}")
    return laid[:, 0]


def _whole(values: Array, batch: int, time: int, patches: int, prefix: int) -> Float[Any, "batch token"]:
    """Return values of the tokens of each patch, or of each frame, for all tokens; 0 before the patches."""
    xp, shape = namespace(values), tuple(values.shape)
    if shape == (batch, prefix + time * patches):
        return values
    if shape == (batch * patches, time):
        values = xp.matrix_transpose(xp.reshape(values, (batch, patches, time)))
    else:
        values = xp.reshape(values, (batch, time, -1))[:, :, prefix:]
    values = xp.reshape(values, (batch, -1))
    return xp.concat([xp.zeros_like(values[:, :prefix]), values], axis=1)


def patches_in(capture: Capture, rows: int, tokens: int, divided: tuple[int, int, int] | None) -> np.ndarray:
    """Return the numbers of the tokens that are patches, in their order within a row."""
    numbers = np.arange(rows * tokens, dtype=np.float64).reshape(rows, tokens)
    kept = np.asarray(on_grid(capture, numbers, divided)).ravel().astype(np.int64)
    return np.unique(kept % tokens)


def is_on_grid(capture: Capture, attended: Attended, divided: tuple[int, int, int] | None) -> bool:
    """Say whether the keys of an attention lie on the grid."""
    rows, _, keys = attended.shape
    try:
        on_grid(capture, np.zeros((rows, keys)), divided)
    except LayoutError:
        return False
    return True


def up_to_last_on_grid(capture: Capture, name: str) -> tuple[list[Attended], tuple[int, int, int] | None]:
    """Return the attentions that count, up to the last over the patches, and how they are divided."""
    calls = [call for _, call in counting(capture, name)]
    divided = divided_in([call.shape for call in calls], capture)
    for end in range(len(calls), 0, -1):
        last = calls[end - 1]
        if last.of_input[1] and is_on_grid(capture, last, divided):
            refuse_other_order([one for one in calls if one.shape == last.shape], name)
            return calls[:end], divided
    raise not_on_grid(capture, name, [call.shape for call in calls])


def not_on_grid(capture: Capture, name: str, shapes: Sequence[tuple[int, ...]]) -> ModelError:
    """Return the error for attention that is not over the patches of the layer."""
    some = few(list(dict.fromkeys(map(str, shapes))))
    return ModelError(
        f"{name} cannot compose attention of (rows, query, key) {some} for "
        f"{capture.activations.shape[0]} samples into one over all patches; choose another method, such as "
        "gradcam"
    )


def refuse_other_order(calls: Sequence[Attended | Link], name: str) -> None:
    """Raise ModelError where the tokens of attentions one after the other are not in the same order."""
    if not all(call.in_order for call in calls[1:]):
        raise ModelError(
            f"the model puts tokens into another order between two attentions, and {name} has no rule for "
            "where the later ones lie; choose attentionrelevance or gradcam"
        )


def reading(attended: Attended, target: int) -> Float[Any, "row query"]:
    """Return which queries the score reads, each its share: those of a gradient that is not zero."""
    g = attended.gradients[target]
    xp = namespace(g)
    read = xp.astype(xp.any(xp.any(g != 0, axis=3), axis=1), g.dtype)
    total = xp.sum(read, axis=1, keepdims=True)
    return read / xp.where(total == 0, xp.ones_like(total), total)


def divided_in(shapes: Sequence[tuple[int, ...]], capture: Capture) -> tuple[int, int, int] | None:
    """Return time, patches and prefix of attention divided over time and space; None for other attention.

    shapes: `(row, query, key)` of every attention. Windows of two sizes look alike, but for the grid.
    """
    kinds, (batch, _, *grid) = list(dict.fromkeys(shapes)), capture.activations.shape
    if len(kinds) != 2 or any(query != key for _, query, key in kinds) or len(grid) != 3:
        return None
    for temporal, spatial in (kinds, kinds[::-1]):
        time, (patches, left) = temporal[1], divmod(temporal[0], batch)
        prefix = spatial[1] - patches
        on_grid = (time, patches) == (grid[0], prod(grid[1:]))
        if on_grid and not left and spatial[0] == batch * time and prefix >= 0:
            return time, patches, prefix
    return None
