"""The maps of one sample as a page holds them: small, on one scale, a slice for each frame that is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from chronocam.explanation import Explanation
from chronocam.maps.frames import frame_spans, merge_copies
from chronocam.maps.resample import resample
from chronocam.media import Stills
from chronocam.render import relative
from chronocam.report.packed import packed, rounded

_FINEST: Final = (224, 64)
"""The finest grid of a picture's map and of each frame's of a clip, in cells along a side; finer ones are thinned."""

_MOST: Final = 2.0
"""What is this many times as strong as the strongest colour, or more, is kept as that: a byte has so many steps."""


def shown_maps(explanation: Explanation, sample: int, label: str, stills: Stills) -> dict[str, Any]:
    """Return what a page draws of one sample's maps: those of all targets, on one scale.

    A clip's map is resampled along time to the frames that are shown; the page does the rest.
    """
    one = _of(explanation, sample)
    of_clip = one.maps.ndim == 5
    spans = one.frame_spans or (frame_spans(one.maps.shape[2], one.input_size[0]) if of_clip else None)
    return {
        **about(one, label),
        "spans": None if spans is None else [[stills.places[a], stills.places[b]] for a, b in spans],
        "cubic": not of_clip,
        **_drawn(_at_frames(one, stills) if of_clip else relative(one.maps), one),
        "targets": [_told(one, k, stills) for k in range(one.maps.shape[1])],
    }


def shown_moments(explanation: Explanation, label: str) -> dict[str, Any]:
    """Return what a page draws of maps of pictures that follow each other, one sample for each frame shown.

    Targets, such as outputs in units of their own, have a scale each.
    """
    moments = np.moveaxis(explanation.maps, 0, 1)[None]  # (1, target, time, height, width)
    each = [relative(moments[:, k : k + 1]) for k in range(moments.shape[1])]
    maps = {
        **about(explanation, label),
        "spans": None,
        "cubic": True,
        **_drawn(np.concatenate(each, axis=1), explanation),
    }
    maps["targets"] = [
        {"name": str(info), "score": None, "scores": rounded(explanation.scores[:, k]), "confidence": None}
        for k, info in enumerate(explanation.targets[0])
    ]
    return maps


def about(explanation: Explanation, label: str) -> dict[str, Any]:
    """Return what is said of all maps of an explanation."""
    return {
        "label": label,
        "method": explanation.method,
        "layer": explanation.layer,
        "grid": list(explanation.maps.shape[2:]),
        "findings": list(explanation.diagnostics),
    }


def _of(explanation: Explanation, sample: int) -> Explanation:
    rows = slice(sample, sample + 1)
    attention, confidences = explanation.attention, explanation.confidences
    return replace(
        explanation,
        maps=explanation.maps[rows],
        scores=explanation.scores[rows],
        targets=explanation.targets[rows],
        confidences=None if confidences is None else confidences[rows],
        attention=attention
        and replace(attention, weights=attention.weights[rows], contributions=attention.contributions[rows]),
        pictures=None,
    )


def _at_frames(one: Explanation, stills: Stills) -> Float[np.ndarray, "1 target frame height width"]:
    """Return a clip's maps on their common scale at each frame that is shown: linear in time, the mean over copies."""
    grid = one.maps.shape[3:]
    own = [tuple(map(float, range(n))) for n in grid]
    times = None if one.centers is None else one.centers[0]
    if times is None:
        times = tuple(
            (i + 0.5) * one.input_size[0] / one.maps.shape[2] - 0.5 for i in range(one.maps.shape[2])
        )
    fine = resample(relative(one.maps), (one.input_size[0], *grid), "linear", [times, *own])
    places = np.asarray(stills.places)
    first = np.array([int(np.flatnonzero(places == place)[0]) for place in places])
    return merge_copies(fine, first)


def _drawn(strengths: Float[np.ndarray, "1 target *grid"], one: Explanation) -> dict[str, Any]:
    """Return the bytes of the maps, each of its own maximum, the gains to their common scale, and where cells lie."""
    of_clip = strengths.ndim == 5
    limit = _FINEST[1] if of_clip else _FINEST[0]
    steps = [-(-n // limit) for n in strengths.shape[-2:]]
    thin = _thinned(strengths[0], steps)
    centers = None if one.centers is None or max(steps) > 1 else [list(at) for at in one.centers[-2:]]
    signed = [bool((values < 0).any()) for values in thin]
    kept = np.clip(thin, -_MOST, _MOST)
    gains = [float(np.abs(values).max()) or 1.0 for values in kept]
    return {
        "cells": list(thin.shape[-2:]),
        "thinned": max(steps) > 1,
        "centers": centers and [rounded(at, 7) for at in centers],
        "input": list(one.input_size[-2:]),
        "signed": signed,
        "gains": rounded(gains, 7),
        "bytes": [
            packed(values / gain, sign) for values, gain, sign in zip(kept, gains, signed, strict=True)
        ],
    }


def _thinned(maps: Float[np.ndarray, "*lead height width"], steps: Sequence[int]) -> np.ndarray:
    """Return of every block of `steps` cells the value of largest magnitude."""
    if max(steps) == 1:
        return maps
    *lead, height, width = maps.shape
    down, across = steps
    padded = np.pad(maps, [(0, 0)] * len(lead) + [(0, -height % down), (0, -width % across)])
    blocks = padded.reshape(*lead, -(-height // down), down, -(-width // across), across)
    flat = np.moveaxis(blocks, -3, -2).reshape(*lead, *blocks.shape[-4::2][:2], down * across)
    best = np.abs(flat).argmax(axis=-1)[..., None]
    return np.asarray(np.take_along_axis(flat, best, axis=-1)[..., 0])


def _told(one: Explanation, k: int, stills: Stills) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": str(one.targets[0][k]),
        "score": rounded(one.scores[0, k]),
        "confidence": None if one.confidences is None else rounded(one.confidences[0, k], 4),
        "range": rounded([one.maps[0, k].min(), one.maps[0, k].max()], 4),
    }
    if one.maps.ndim == 5:
        told["importance"] = rounded(one.frame_importance()[0, k], 4)
    if one.attention is not None and one.attention.weights.shape[1] == len(stills.places):
        told["attention"] = {
            "weights": rounded(_by_frame(one.attention.weights[0], stills), 4),
            "contributions": rounded(_by_frame(one.attention.contributions[0, k], stills), 4),
            "agreement": rounded(one.attention.agreement[0, k], 3),
        }
    return told


def _by_frame(values: Float[np.ndarray, " time"], stills: Stills) -> Float[np.ndarray, " frame"]:
    """Return values of the model's frames as those of the frames shown: copies add up."""
    found = np.zeros(len(stills), values.dtype)
    np.add.at(found, np.asarray(stills.places), values)
    return found
