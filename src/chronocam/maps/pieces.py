"""Attention that a model computes in pieces, some queries at a time, put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from chronocam.maps.arrays import namespace
from chronocam.maps.attended import Attended, Origins, Sources
from chronocam.types import Array


def together(calls: Sequence[Attended]) -> list[tuple[int, Attended]]:
    """Return attentions with their numbers, those of pieces as one with the number of the first.

    Pieces are calls one after the other over the same values, whose queries are as many as the keys together,
    and in their order as far as that is known.
    """
    # Of each piece: the first one, and how many queries are before it.
    places: dict[int, tuple[int, int]] = {}
    joined: list[tuple[int, Attended]] = []
    for start, pieces in _in_pieces(calls):
        at = 0
        for number, piece in enumerate(pieces, start=start):
            places[number] = start, at
            at += _queries(piece)
        joined.append((start, _renamed(pieces[0] if len(pieces) == 1 else _joined(pieces), places)))
    return joined


def _in_pieces(calls: Sequence[Attended]) -> Iterator[tuple[int, Sequence[Attended]]]:
    start = 0
    while start < len(calls):
        end = _end_of(calls, start)
        yield start, calls[start:end]
        start = end


def _end_of(calls: Sequence[Attended], start: int) -> int:
    """Return where the pieces end that begin with a call; behind it where it is whole."""
    first = calls[start]
    keys, total, end = first.value.shape[2], _queries(first), start + 1
    while total < keys and end < len(calls) and _alike(first, calls[end]):
        total += _queries(calls[end])
        end += 1
    pieces = calls[start:end]
    in_order = first.origins[1] is None or np.array_equal(
        np.concatenate([_asked(piece) for piece in pieces]), first.origins[1]
    )
    return end if total == keys and in_order else start + 1


def _asked(call: Attended) -> np.ndarray:
    """Return which token of which attention each query is made of; where that was not said, one for one."""
    if call.origins[0] is not None:
        return call.origins[0]
    return np.asarray([(call.sources[0][-1] if call.sources[0] else -1, at) for at in range(_queries(call))])


def _alike(one: Attended, other: Attended) -> bool:
    """Say whether two calls are over the same values, and made of the same."""
    same = one.sources == other.sources and one.of_input == other.of_input
    if not same or one.value.shape != other.value.shape:
        return False
    return bool(namespace(one.value).all(one.value == other.value))


def _queries(call: Attended) -> int:
    """Return how many queries a call has, whether or not the score depends on them."""
    known = call.gradients[0] if call.gradients is not None else call.query
    return int((call.weigh() if known is None else known).shape[2])


def _joined(pieces: Sequence[Attended]) -> Attended:
    """Return pieces as one call."""
    first = pieces[0]
    xp = namespace(first.value)

    def weigh() -> Array:
        return xp.concat([piece.weigh() for piece in pieces], axis=2)

    scored = next((piece.gradients for piece in pieces if piece.gradients is not None), None)
    gradients = None if scored is None else xp.concat([_gradients(one, scored) for one in pieces], axis=3)
    queries = [piece.query for piece in pieces]
    return replace(
        first,
        weigh=weigh,
        gradients=gradients,
        query=None if any(one is None for one in queries) else xp.concat(queries, axis=2),
        origins=(first.origins[1], first.origins[1]),
        in_order=all(piece.in_order for piece in pieces),
    )


def _gradients(piece: Attended, like: Array) -> Any:
    """Return the gradients of a piece; zeros shaped like another's where the score does not depend on it."""
    if piece.gradients is not None:
        return piece.gradients
    xp, shape = namespace(like), (*like.shape[:3], _queries(piece), like.shape[4])
    return xp.zeros(shape, dtype=like.dtype, device=getattr(like, "device", None))


def _renamed(call: Attended, places: dict[int, tuple[int, int]]) -> Attended:
    """Return a call whose sources and origins are those that pieces have become."""
    asked, given = (tuple(dict.fromkeys(places[n][0] for n in side)) for side in call.sources)
    queries, keys = call.origins
    moved = _moved(queries, places, asked), _moved(keys, places, given)
    return replace(call, sources=(asked, given), origins=moved)


def _moved(origins: Origins, places: dict[int, tuple[int, int]], sources: Sources) -> Origins:
    """Return the origins of tokens in calls that were put together; None where they are one for one."""
    if origins is None:
        return None
    moved = np.asarray(
        [(places[n][0], places[n][1] + at) if n >= 0 else (n, at) for n, at in origins.tolist()]
    )
    whole = len(sources) == 1 and np.array_equal(moved, [(sources[0], at) for at in range(len(moved))])
    return None if whole and not np.array_equal(moved, origins) else moved
