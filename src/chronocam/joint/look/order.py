"""Whether cells look in the order of their places, from what moves them: see `chronocam.joint.look.ramps`.

All of it is said of two sums over the channels of each cell: `products`, Σ d·e `(axis, *grid)`, and
`squares`, Σ d² `(*grid)`. Their quotient is where the cell looks along each axis of the input, from −1 to 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

IN_ORDER: Final = 0.8
"""The least correlation of where cells look with where they are: true grids had 0.85 to 1, false ones less
than 0.65."""

LEAST_SLOPE: Final = 0.02
"""Of where cells look by where they are: 0.05 where attention mixes all places, 0.01 at false grids."""

UNEVEN: Final = 0.2
"""Of the slopes along rows and columns the lesser by the greater, below which its order may be chance."""

SURE: Final = 0.95
"""The correlation that tells such an order from chance."""

FEW: Final = 4
"""Cells along an axis that are too few for a correlation to say much: a slope of `STEEP` does."""

STEEP: Final = 0.1

CLEAR: Final = 0.25
"""The slope along so few cells that contradicts what the kind of a layer says: noise has 0.2 where each of
them sees nearly all of the input."""

ASLANT: Final = 0.7
"""Of the slope along each axis that along another, above which cells follow neither, as where a picture and
its transpose are added up. Noise along a few cells has as much along one of them."""

STRAY: Final = 0.15
"""How far cells that follow no axis look from any line, at least, where that contradicts the kind of a layer:
true grids had 0.13 at most, with a correlation of 0.98, pictures side by side 0.17 to 0.47."""

SHARP: Final = 0.5
"""The slope along at most `FEW` cells above which their order in the first draw is not chance."""

SPREAD: Final = 0.3
"""How far the places where cells look are spread, at most, where they all look at the whole input."""

OWN: Final = 0.6
"""The least correlation of where single cells look with where they are, unless they hardly look anywhere:
true grids had 0.75 to 1, and those in the order of blocks or windows 0.33 to 0.53."""

ASIDE: Final = 0.3
"""How far such cells look from where they are, at least: 0.35 to 0.59; what mixes all places had 0.1."""

NAMES: Final = {1: ("cells",), 2: ("rows", "columns"), 3: ("slices", "rows", "columns")}
"""What cells along each axis of a grid are called."""


def follows(products: np.ndarray, squares: np.ndarray, steep: float = STEEP) -> bool | None:
    """Say whether cells look along each axis in their own order, and along no other axis more.

    None where noise leaves it open, and where no cell moves.
    steep: the slope from which a few cells say it.
    """
    if not squares.any():
        return None
    verdicts, aslant = [], []
    steepness: dict[int, tuple[float, float]] = {}
    for axis, looks, places in along(products, squares):
        slopes = (looks - looks.mean(axis=1, keepdims=True)) @ places / (places @ places)
        verdicts.append(_in_order(looks[axis], places, slopes, axis, steep))
        steepness[axis] = slopes[axis], correlation(looks[axis], places)
        most = np.delete(np.abs(slopes), axis).max(initial=0)
        aslant.append(slopes[axis] > CLEAR and most > ASLANT * slopes[axis])
    if False in verdicts or (aslant and all(aslant)):
        return False
    if None in verdicts or not verdicts:
        return None
    return None if _chance(*(steepness.get(axis) for axis in (squares.ndim - 2, squares.ndim - 1))) else True


def follows_within(products: np.ndarray, squares: np.ndarray, windows: int) -> bool:
    """Say whether steps follow the input's places within their windows too; features of a step do not."""
    looks = (products[0] / np.maximum(squares, 1e-300)).reshape(windows, -1)
    places = np.broadcast_to(np.arange(looks.shape[1]), looks.shape)
    return correlation((looks - looks.mean(axis=1, keepdims=True)).ravel(), places.ravel()) > OWN


def is_sure(verdict: bool | None, products: np.ndarray, squares: np.ndarray) -> bool:
    """Say whether another draw of noise would leave a verdict of `follows` as it is.

    It stays open where nothing moves, and along a few cells that look at the same place. It stays false where
    the correlation of many cells is low.
    """
    if not squares.any():
        return True
    for axis, looks, places in along(products, squares):
        cells = len(places)
        if verdict is None and cells < FEW:
            slopes = (looks - looks.mean(axis=1, keepdims=True)) @ places / (places @ places)
            if np.abs(slopes).max() < STEEP:
                return True
        if verdict is False and correlation(looks[axis], places) + 3 / np.sqrt(cells) < IN_ORDER:
            return True
    return False


def may_be_chance(products: np.ndarray, squares: np.ndarray) -> bool:
    """Say whether few cells along an axis see so much that they may look in order by chance."""
    return any(
        len(places) <= FEW and (looks[axis] - looks[axis].mean()) @ places / (places @ places) < SHARP
        for axis, looks, places in along(products, squares)
    )


def leans(products: np.ndarray, squares: np.ndarray) -> bool:
    """Say whether there are few cells, and they clearly look in their own order along each axis.

    Noise of one draw may show them look more along another axis.
    """
    few, slopes = False, []
    for axis, looks, places in along(products, squares):
        few |= len(places) <= FEW
        slopes.append((looks[axis] - looks[axis].mean()) @ places / (places @ places))
    return few and min(slopes) > CLEAR


def strays(products: np.ndarray, squares: np.ndarray) -> bool:
    """Say whether cells along an axis clearly look along no line, as where it was joined of parts."""
    for axis, looks, places in along(products, squares):
        own = looks[axis]
        if len(places) > FEW and correlation(own, places) < IN_ORDER and _off_line(own, places) > STRAY:
            return True
    return False


def _off_line(looks: np.ndarray, places: np.ndarray) -> float:
    """Return how far cells look from the line that fits where they are best."""
    centred = looks - looks.mean()
    return float((centred - (centred @ places) / (places @ places) * places).std())


def scattered(products: np.ndarray, squares: np.ndarray) -> bool:
    """Say whether single cells look at other places than their own."""
    for axis, cells in enumerate(squares.shape):
        even = (2 * np.arange(cells) + 1) / cells - 1
        place = even.reshape([-1 if i == axis else 1 for i in range(squares.ndim)])
        places = np.broadcast_to(place, squares.shape).ravel()
        looks = (products[axis] / np.maximum(squares, 1e-300)).ravel()
        if cells > 1 and correlation(looks, places) < OWN and _off_line(looks, places) > ASIDE:
            return True
    return False


def looks_elsewhere(products: np.ndarray, squares: np.ndarray) -> bool:
    """Say whether cells clearly look backwards along an axis, or along another one in its place."""
    for axis, looks, places in along(products, squares):
        slopes = (looks - looks.mean(axis=1, keepdims=True)) @ places / (places @ places)
        strongest = int(np.abs(slopes).argmax())
        order = abs(correlation(looks[strongest], places))
        if order > IN_ORDER and abs(slopes[strongest]) > STEEP and (strongest != axis or slopes[axis] < 0):
            return True
    return False


def _chance(rows: tuple[float, float] | None, columns: tuple[float, float] | None) -> bool:
    """Say whether the order of cells along one axis may be chance: along the other they see far more sharply.

    rows, columns: slope and correlation along each; None for an axis of one cell.
    """
    if rows is None or columns is None or min(rows[0], columns[0]) <= 0:
        return False
    slope, correlation = min(rows, columns)
    return slope < UNEVEN * max(rows, columns)[0] and correlation < SURE


def disorder(products: np.ndarray, squares: np.ndarray) -> float:
    """Return 1 less the least correlation, of all axes, of where cells look with where they are."""
    return 1 - min(
        (correlation(looks[axis], places) for axis, looks, places in along(products, squares)), default=0.0
    )


def along(products: np.ndarray, squares: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield each axis of more than one cell, where its cells look along every axis, and where they are."""
    for axis, cells in enumerate(squares.shape):
        if cells == 1:
            continue
        others = tuple(i for i in range(squares.ndim) if i != axis)
        total = squares.sum(axis=others)
        looks = products.sum(axis=tuple(i + 1 for i in others)) / np.maximum(total, 1e-300)
        yield axis, looks, (2 * np.arange(cells) + 1) / cells - 1


def without_padding(products: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both without the rows and columns of cells that nothing moves, as around a picture."""
    for axis in range(squares.ndim):
        total = squares.sum(axis=tuple(i for i in range(squares.ndim) if i != axis))
        if total.any():
            (moving,) = np.nonzero(total)
            products, squares = products.take(moving, axis + 1), squares.take(moving, axis)
    return products, squares


def correlation(looks: np.ndarray, places: np.ndarray) -> float:
    """Return the correlation of where cells look with where they are; 0 where all look at one place."""
    return float(np.corrcoef(looks, places)[0, 1]) if np.ptp(looks) else 0.0


def mixes(products: np.ndarray, squares: np.ndarray) -> bool:
    """Say whether all cells that move look at about the same place: each of them sees all places."""
    moving = squares > 0
    looks = products[:, moving] / squares[moving]
    return bool(moving.any() and (looks.std(axis=1) < SPREAD).all())


def _in_order(
    looks: np.ndarray, places: np.ndarray, slopes: np.ndarray, axis: int, steep: float
) -> bool | None:
    steepest = np.abs(slopes).max()
    if len(places) < FEW:  # in a few cells attention or a wide field leaves little to see
        return None if steepest < steep else bool(slopes[axis] == steepest)
    if slopes[axis] < LEAST_SLOPE or slopes[axis] < steepest:
        return False
    agreement = correlation(looks, places)
    if agreement >= IN_ORDER:
        return True
    return None if agreement > IN_ORDER - 0.3 else False


def order_in_words(products: np.ndarray, squares: np.ndarray) -> str:
    """Return where cells look, as far as that is clear."""
    names = NAMES[squares.ndim]
    said = []
    for axis, looks, places in along(products, squares):
        slopes = (looks - looks.mean(axis=1, keepdims=True)) @ places / (places @ places)
        strongest = int(np.abs(slopes).argmax())
        if abs(correlation(looks[strongest], places)) < IN_ORDER or abs(slopes[strongest]) < STEEP:
            said.append(
                f"its {names[axis]} follow no axis, as where a picture is joined with its mirror image"
            )
        elif strongest != axis:
            said.append(f"its {names[axis]} follow the input's {names[strongest]}")
        elif slopes[axis] < 0:
            said.append(f"its {names[axis]} lie backwards")
    return ", ".join(said) or "its cells look at other places"
