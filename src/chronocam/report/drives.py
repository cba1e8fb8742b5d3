"""The item of a drive: frames, depth, maps and curves of each output and loss, the path from above."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from chronocam.errors import MediaError
from chronocam.explanation import Explanation
from chronocam.media import Stills, stills
from chronocam.media._stills import joined
from chronocam.media.archive import Sought, open_archive
from chronocam.media.clips.read import Clip
from chronocam.media.preprocess import placed
from chronocam.records import DriveEntry, DriveResult, PathEntry, Written
from chronocam.render import depth_pictures
from chronocam.render._overlay import scale_of
from chronocam.render.page.items import shown_stills
from chronocam.render.page.maps import shown_moments
from chronocam.render.page.packed import encoded, number, numbers
from chronocam.render.page.records import DriveItem, DriveOutput, ShownMap, ShownPath
from chronocam.render.words import short_model, whereabouts

_MOTIONS: Final = {
    "tx": "sideways",
    "ty": "up and down",
    "tz": "forwards and back",
    "rx": "pitch",
    "ry": "yaw",
    "rz": "roll",
}

_DEPTH: Final = Sought("the depth of a drive", "what `chronocam explain` wrote; explain the drive again")


def drive_item(
    written: Written, drive: DriveResult, explanations: Mapping[str, Explanation], folder: Path
) -> DriveItem:
    """Return the item of a drive.

    explanations: its maps, a sample for each moment, in the order of the drive's files.
    folder: where the depth lies.

    Raises MediaError where the files do not fit each other.
    """
    frames = _frames(drive, explanations)
    entries: dict[str, list[DriveEntry]] = {}
    for entry in drive.maps:
        entries.setdefault(entry.file, []).append(entry)
    if len(explanations) != len(entries):
        raise MediaError(f"{len(explanations)} explanations of a drive, not {len(entries)}; explain it again")
    maps = [
        _moments(one, name, of, frames)
        for (name, one), of in zip(explanations.items(), entries.values(), strict=True)
    ]
    depth = _depth(drive, folder)
    return DriveItem(
        name=Path(drive.input).name,
        model=short_model(written.model),
        stills=shown_stills(frames),
        maps=maps,
        sequences=[],
        depth=[] if depth is None else _depth_frames(depth, frames),
        path=None if drive.path is None else _path(drive.path),
        notes=list(drive.diagnostics),
    )


def _frames(drive: DriveResult, explanations: Mapping[str, Explanation]) -> Stills:
    """Return the frames that the maps were saved with, and the time or the number of each."""
    pictures = next((one.pictures for one in explanations.values() if one.pictures), None)
    if pictures is None:
        raise MediaError("the maps of a drive were saved without pictures; explain it again")
    for name, one in explanations.items():
        if one.maps.ndim != 4 or len(one) != len(drive.frames):
            raise MediaError(
                f"{name}: maps {one.maps.shape} of {len(drive.frames)} frames; explain the drive again"
            )
    return replace(joined(pictures), seconds=drive.seconds, numbers=drive.frames)


def _moments(one: Explanation, name: str, entries: list[DriveEntry], frames: Stills) -> ShownMap:
    """Return maps with the names in the call, and the truth of each output where it is known."""
    if one.maps.shape[1] != len(entries):
        raise MediaError(
            f"{name}: maps of {one.maps.shape[1]} targets, not {len(entries)}; explain the drive again"
        )
    targets = [
        DriveOutput(
            name=entry.target,
            scores=numbers(one.scores[:, k]),
            sentence=_sentence(entry.target, one, k, frames),
            scale=number(scale_of(one.maps[None, :, k]).item(), 4),
            truth=None if entry.truth is None else [None if at is None else number(at) for at in entry.truth],
            unit=None if entry.unit is None else number(entry.unit),
        )
        for k, entry in enumerate(entries)
    ]
    return shown_moments(one.maps_on_page(0), one.maps, name, targets)


def _sentence(name: str, one: Explanation, k: int, frames: Stills) -> str:
    places = whereabouts(one.maps[:, k], one.input_size, one.centers, frames.view)
    words = f" ({_MOTIONS[name]})" if name in _MOTIONS else ""
    return f"{name}{words}, over {len(one)} moments: {places}."


def _path(path: PathEntry) -> ShownPath:
    """Return the path seen from above, x and z, on the scale of the true one where that is known."""
    scale = path.scale
    positions = np.asarray(path.positions, float) * (1 if scale is None else scale)
    return ShownPath(
        positions=[numbers(place[::2]) for place in positions],
        truth=None if path.truth is None else [numbers(place[::2]) for place in path.truth],
        note="unit unknown" if scale is None else f"network's path × {scale:.3g}, nearest to the true one",
    )


def _depth(drive: DriveResult, folder: Path) -> np.ndarray | None:
    if drive.depth_maps is None:
        return None
    path = folder / Path(drive.depth_maps).name
    with open_archive(path, _DEPTH) as archive:
        depth = archive["depth"]
    if depth.dtype.kind != "f" or depth.ndim != 3 or len(depth) != len(drive.frames):
        raise MediaError(
            f"`{path}` holds depth {depth.shape} for {len(drive.frames)} frames; explain the drive again"
        )
    return depth


def _depth_frames(depth: np.ndarray, frames: Stills) -> list[str]:
    """Return pictures of the depth, placed where the network saw the frames."""
    left, top, right, bottom = frames.seen
    rows = np.linspace(0, depth.shape[1] - 1, bottom - top).round().astype(int)
    columns = np.linspace(0, depth.shape[2] - 1, right - left).round().astype(int)
    view = depth_pictures(depth)[:, rows[:, None], columns[None]]
    whole = placed(np.zeros((len(depth), *frames.size, 3), np.uint8), view, frames.seen)
    count = np.arange(len(depth))
    return [encoded(frame) for frame in stills(Clip(whole, count.astype(float), None, count, Path())).frames]
