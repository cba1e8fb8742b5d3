"""How channels become a map: `A` are activations `(batch, channel, *grid)`, `G` their gradients by target."""

from __future__ import annotations

from math import prod
from typing import Any, Final, Literal, TypeAlias, get_args

from jaxtyping import Float

from chronocam.errors import InputError
from chronocam.maps.arrays import expand, grid_axes, in_full_precision, library, namespace, one_cell

Reduce: TypeAlias = Literal["max", "sum", "norm"]

_TARGETS: Final = 256  # whose weights are handled at once where they could be many


@in_full_precision
def weighted_sum(
    weights: Float[Any, "batch target channel"], activations: Float[Any, "batch channel *grid"]
) -> Float[Any, "batch target *grid"]:
    """Return Σ_k w_k A_k."""
    xp = namespace(activations)
    batch, channel, *grid = activations.shape
    flat = xp.reshape(activations, (batch, channel, -1))
    targets = weights.shape[1]
    if targets <= flat.shape[2]:
        return xp.reshape(weights @ flat, (batch, targets, *grid))
    # Of many classes the weights are much larger than the activations. With those on the left the product
    # reads them where they are; the other way round it would copy them first.
    of_all = _same_for_all(weights)
    cells = xp.matrix_transpose(flat)
    if of_all is None:
        maps = cells @ xp.matrix_transpose(weights)
    else:
        maps = xp.reshape(
            xp.reshape(cells, (-1, channel)) @ xp.matrix_transpose(of_all), (batch, -1, targets)
        )
    return xp.reshape(xp.matrix_transpose(maps), (batch, targets, *grid))


def _same_for_all(weights: Float[Any, "batch target channel"]) -> Float[Any, "target channel"] | None:
    """Return weights that are one in memory for all samples, once; None for others."""
    strides = library(weights).strides(weights)
    return weights[0] if (strides and strides[0] == 0) or weights.shape[0] == 1 else None


def per_target(activations: Float[Any, "batch channel *grid"]) -> Float[Any, "batch 1 channel *grid"]:
    """Return activations with a target axis, so that they broadcast with gradients."""
    return activations[:, None]


def mean_over_grid(array: Float[Any, "batch target channel *grid"]) -> Float[Any, "batch target channel"]:
    """Return (1/Z) Σ_grid."""
    cell = one_cell(array, 3)
    if cell is not None:
        return namespace(cell).reshape(cell, cell.shape[:3])
    return namespace(array).mean(array, axis=grid_axes(array, 3))


def sum_over_grid(array: Float[Any, "batch target channel *grid"]) -> Float[Any, "batch target channel"]:
    """Return Σ_grid."""
    if one_cell(array, 3) is not None:
        return mean_over_grid(array) * prod(array.shape[3:])
    return namespace(array).sum(array, axis=grid_axes(array, 3))


def product_over_channels(
    gradients: Float[Any, "batch target channel *grid"], activations: Float[Any, "batch channel *grid"]
) -> Float[Any, "batch target *grid"]:
    """Return Σ_k G_k ⊙ A_k."""
    if one_cell(gradients, 3) is not None:
        return weighted_sum(mean_over_grid(gradients), activations)
    return namespace(gradients).sum(gradients * per_target(activations), axis=2)


def product_over_grid(
    gradients: Float[Any, "batch target channel *cells"], activations: Float[Any, "batch channel *grid"]
) -> Float[Any, "batch target channel"]:
    """Return Σ_grid G_k ⊙ A_k; gradients that are the same at all cells may have one of them alone."""
    if one_cell(gradients, 3) is not None:
        return mean_over_grid(gradients) * sum_over_grid(per_target(activations))
    return sum_over_grid(gradients * per_target(activations))


@in_full_precision
def magnitude_of_products(
    gradients: Float[Any, "batch target channel *grid"], activations: Float[Any, "batch channel *grid"]
) -> Float[Any, "batch target"]:
    """Return Σ_k Σ_grid |G_k ⊙ A_k|."""
    xp = namespace(gradients)
    magnitudes, cell = xp.abs(activations), one_cell(gradients, 3)
    if cell is None:
        products = xp.abs(gradients) * per_target(magnitudes)
        return xp.sum(products, axis=(2, *grid_axes(gradients, 3)))
    weights = xp.reshape(cell, cell.shape[:3])
    over_grid = xp.sum(magnitudes, axis=grid_axes(magnitudes, 2))[..., None]
    of_all = _same_for_all(weights)
    if of_all is None:
        return (xp.abs(weights) @ over_grid)[..., 0]
    # Some targets at a time: to make room for the magnitudes of all classes would take longer than the sums.
    parts = [of_all[low : low + _TARGETS] for low in range(0, of_all.shape[0], _TARGETS)]
    sums = [over_grid[..., 0] @ xp.matrix_transpose(xp.abs(part)) for part in parts]
    return sums[0] if len(sums) == 1 else xp.concat(sums, axis=1)


@in_full_precision
def principal_component(array: Float[Any, "batch target channel *grid"]) -> Float[Any, "batch target *grid"]:
    """Project every position's channel vector on the first principal component over positions.

    With X the `(position, channel)` matrix, centred over positions, the map is X v₁ with v₁ the first
    eigenvector of XᵀX. It is found through the smaller of the two Gram matrices, `position × position` or
    `channel × channel`. The sign of an eigenvector is arbitrary: the map is oriented to correlate positively
    with the sum over channels. A sample that is not finite gets NaN, and leaves the others alone.
    """
    xp = namespace(array)
    batch, target, channel, *grid = array.shape
    flat = xp.reshape(array, (batch, target, channel, -1))
    finite = xp.all(xp.all(xp.isfinite(flat), axis=-1, keepdims=True), axis=-2, keepdims=True)
    flat = xp.where(finite, flat, xp.zeros_like(flat))
    # At a scale of 1 the products below neither overflow nor vanish; the map has the scale of the array.
    peak = xp.max(xp.max(xp.abs(flat), axis=-1, keepdims=True), axis=-2, keepdims=True)
    peak = xp.where(peak > 0, peak, xp.ones_like(peak))
    x = flat / peak
    x = x - xp.mean(x, axis=-1, keepdims=True)
    xt = xp.matrix_transpose(x)
    # XᵀX v = λ v and XXᵀ u = λ u share their λ, and X v = √λ u: whichever matrix is smaller is decomposed.
    if x.shape[-1] < channel:
        values, vectors = xp.linalg.eigh(xp.matmul(xt, x))
        scale = xp.sqrt(xp.where(values[..., -1:] > 0, values[..., -1:], xp.zeros_like(values[..., -1:])))
        projection = vectors[..., -1] * scale
    else:
        vectors = xp.linalg.eigh(xp.matmul(x, xt))[1]
        projection = xp.matmul(xt, vectors[..., -1:])[..., 0]
    projection = projection * peak[..., 0]
    agreement = xp.sum(projection * xp.sum(x, axis=2), axis=-1, keepdims=True)
    oriented = xp.where(agreement < 0, -projection, projection)
    return xp.reshape(xp.where(finite[..., 0], oriented, xp.nan), (batch, target, *grid))


def constant_over_grid(gradients: Float[Any, "batch target channel *grid"], tolerance: float) -> bool:
    """Say whether every channel's gradient is the same at all positions, up to `tolerance` of the largest.

    So they are where some are not finite, since nothing can be compared.
    """
    if one_cell(gradients, 3) is not None:
        return True
    xp = namespace(gradients)
    mean = expand(mean_over_grid(gradients), gradients.ndim)
    return not bool(xp.max(xp.abs(gradients - mean)) > tolerance * xp.max(xp.abs(gradients)))


def over_channels(
    array: Float[Any, "batch target channel *grid"], how: Reduce
) -> Float[Any, "batch target *grid"]:
    """Reduce the channels: `"max"` of magnitudes, signed `"sum"`, or Euclidean `"norm"`."""
    xp = namespace(array)
    if how == "max":
        return xp.max(xp.abs(array), axis=2)
    if how == "sum":
        return xp.sum(array, axis=2)
    if how == "norm":
        return xp.sqrt(xp.sum(array * array, axis=2))
    raise InputError(f"no channel reduction `{how}`; choose one of {', '.join(get_args(Reduce))}")
