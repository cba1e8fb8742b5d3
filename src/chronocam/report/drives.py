"""Drives as a page holds them: frames, depth, maps of each output and loss, their curves, and the path from above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from chronocam.errors import InputError, MediaError
from chronocam.explanation import Explanation
from chronocam.media import Stills, joined, stills
from chronocam.media.clips.read import Clip
from chronocam.render import depth_pictures
from chronocam.report.items import Shown, encoded, item
from chronocam.report.maps import shown_moments
from chronocam.report.packed import rounded


def drive_item(told: Mapping[str, Any], shown: Shown, folder: Path) -> dict[str, Any]:
    """Return the item of a drive.

    told: what `chronocam explain` wrote of it. shown: its maps, a sample for each moment. folder: where depth
        lies.
    """
    maps = {name: one for name, one in shown.items() if isinstance(one, Explanation)}
    pictures = next((one.pictures for one in maps.values() if one.pictures), None)
    if pictures is None:
        raise InputError("the maps of a drive were saved without pictures; explain it again")
    frames = _timed(joined(pictures), told)
    made = item(Path(str(told["input"])).name, str(told["model"]), frames, [], [])
    entries: dict[str, list[Mapping[str, Any]]] = {}
    for entry in told["maps"]:
        entries.setdefault(saved(entry), []).append(entry)
    for (name, one), of in zip(maps.items(), entries.values(), strict=True):
        made["maps"].append(_moments(one, name, of))
    depth = _depth(told, folder)
    return {
        **made,
        "depth": [] if depth is None else _depth_frames(depth, frames),
        "path": _path(told),
        "notes": [str(text) for text in told.get("diagnostics", [])],
    }


def _timed(frames: Stills, told: Mapping[str, Any]) -> Stills:
    seconds = told.get("seconds")
    return replace(frames, seconds=None if seconds is None else tuple(seconds), numbers=tuple(told["frames"]))


def _moments(one: Explanation, name: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return maps with the names that were asked for, and the truth of each output where it is known."""
    maps = shown_moments(one, name)
    for target, entry in zip(maps["targets"], entries, strict=True):
        target.update(name=str(entry["target"]), truth=entry.get("truth"), unit=entry.get("unit"))
    return {**maps, "findings": []}  # those of so many moments are gathered among the drive's own


def saved(entry: Mapping[str, Any]) -> str:
    """Return the file that an entry of `chronocam explain` says holds its explanation."""
    return str(next(entry[key] for key in ("explanation", "relevance", "maps") if key in entry))


def _path(told: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the path seen from above, x and z, on the scale of the true one where that is known."""
    path = told.get("path")
    if path is None:
        return None
    scale = path["scale"]
    positions = np.asarray(path["positions"], float) * (1 if scale is None else scale)
    truth = path["truth"]
    return {
        "positions": rounded(positions[:, ::2]),
        "truth": None if truth is None else rounded(np.asarray(truth, float)[:, ::2]),
        "note": "unit unknown" if scale is None else f"network's path × {scale:.3g}, nearest to the true one",
    }


def _depth(told: Mapping[str, Any], folder: Path) -> np.ndarray | None:
    if "depth_maps" not in told:
        return None
    path = folder / Path(str(told["depth_maps"])).name
    try:
        with np.load(path, allow_pickle=False) as file:
            return np.asarray(file["depth"])
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise MediaError(f"`{path}` holds no depth; explain the drive again") from error


def _depth_frames(depth: np.ndarray, frames: Stills) -> list[str]:
    """Return pictures of the depth, placed where the network saw the frames."""
    height, width = frames.size
    left, top, right, bottom = frames.seen
    drawn = depth_pictures(depth)
    rows = np.linspace(0, depth.shape[1] - 1, bottom - top).round().astype(int)
    columns = np.linspace(0, depth.shape[2] - 1, right - left).round().astype(int)
    whole = np.zeros((len(depth), height, width, 3), np.uint8)
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(bottom, height), min(right, width)
    fine = drawn[:, rows[:, None], columns[None]]
    whole[:, y0:y1, x0:x1] = fine[:, y0 - top : y1 - top, x0 - left : x1 - left]
    count = np.arange(len(depth))
    return [encoded(frame) for frame in stills(Clip(whole, count.astype(float), None, count, Path())).frames]
