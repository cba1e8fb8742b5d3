"""A drive's files: overlay videos, the depth video, the maps, a sheet, and the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import Float, UInt8

from chronocam.media.preprocess import placed
from chronocam.records import Box, DepthEntry, DriveEntry, DriveResult, LossEntry, MotionEntry, PathEntry
from chronocam.runs.drives.study import DriveStudy, NetworkMaps
from chronocam.runs.drives.targets import MOTION, DriveTarget
from chronocam.runs.files import decimals, known, original, rounded, slug

if TYPE_CHECKING:
    from chronocam.explanation import Explanation
    from chronocam.media import Stills
    from chronocam.render.sheets.drive import OutputCurve, PathTrack, Strip

_COLUMNS: Final = 6
# frames per second of the videos: a few frames in a row are over too soon else
_FASTEST, _UNTIMED = (
    10.0,
    8.0,
)
_LEGEND: Final = (
    "red: raises what the row names, blue: lowers it; one scale per row. Translations and depth are known up "
    "to one common factor."
)


class DriveDrawing:
    """The files of one drive, written under a name."""

    def __init__(self, study: DriveStudy, out: Path, name: str) -> None:
        self.study = study
        self.out = out
        self.name = name
        self.frames = study.frames
        self.preprocess = study.scene.preprocess
        self.small = self.frames.small[study.moments]
        self.rate = _UNTIMED if self.frames.rate is None else min(self.frames.rate, _FASTEST)
        height, width = self.small.shape[1:3]
        self.region = [round(v) for v in self.preprocess.region(width, height)]

    def result(self, diagnostics: Sequence[str]) -> DriveResult:
        """Write all files but the JSON, and return the result."""
        from chronocam.render.sheets.drive import Strip

        rows = [Strip("target frame", [self.small[k] for k in self._columns])]
        entries: list[DriveEntry] = []
        pictures = self._pictures()
        for maps in self.study.maps:
            file = self.out / f"{self.name}.{maps.part}.{slug(maps.key)}.npz"
            maps.explanation.with_pictures(list(pictures)).save(file)
            for k, target in enumerate(maps.targets):
                word = f"minus-{target.text[1:]}" if target.text.startswith("-") else target.text
                called = f"{len(entries)}-{slug(word)}"
                video = self.out / f"{self.name}.{slug(maps.key)}.{called}.mp4"
                rows.append(self._map_row(maps, k, video, f"{target.title}\n{maps.key}"))
                entries.append(self._entry(maps, k, target, video, file))
        depth = self.study.predicted.depth
        if depth is not None:
            rows.append(self._depth_row(depth))
        return DriveResult(
            input=str(self.study.path),
            size=self.frames.size,
            seen=rounded(self.preprocess.region(*self.frames.size)),
            frames=tuple(self.frames.numbers[self.study.moments].tolist()),
            sources=tuple(
                tuple(self.frames.numbers[self.study.moments + offset].tolist())
                for offset in self.study.windows.offsets
            ),
            seconds=None
            if self.frames.seconds is None
            else decimals(self.frames.seconds[self.study.moments], 4),
            intrinsics=None if self.frames.intrinsics is None else tuple(self.frames.intrinsics.tolist()),
            sheet=str(self._sheet(rows)),
            depth_video=None if depth is None else str(self._depth_path),
            depth_maps=None if depth is None else str(self._saved_depth(depth)),
            outputs=self._motion(),
            path=self._path(),
            losses=self._losses(),
            depth=None if depth is None else _depth_entry(self.study, depth),
            maps=tuple(entries),
            diagnostics=tuple(diagnostics),
        )

    def _pictures(self) -> Sequence[Stills]:
        """Return small copies of the target frames."""
        from chronocam.media import Clip, stills

        # As one clip they share a size that keeps all of them small enough; each moment then gets its own.
        count = np.arange(len(self.small))
        frames = Clip(self.small, count.astype(float), None, count, self.study.path)
        return stills(frames, self.name, self.region).split()

    def _saved_depth(self, depth: np.ndarray) -> Path:
        from chronocam.media.files import replace_file

        path = self.out / f"{self.name}.depth.npz"
        return replace_file(path, lambda temporary: np.savez_compressed(temporary, depth=depth))

    @cached_property
    def _columns(self) -> list[int]:
        """The moments that the sheet shows: a few, evenly spaced."""
        count = len(self.small)
        return np.unique(np.rint(np.linspace(0, count - 1, min(_COLUMNS, count))).astype(int)).tolist()

    def _map_row(self, maps: NetworkMaps, k: int, video: Path, name: str) -> Strip:
        """Write the overlay video of one target and return its row of the sheet."""
        from chronocam.media import write_clip
        from chronocam.render import strength
        from chronocam.render._overlay import scale_of
        from chronocam.render.sheets.drive import Strip

        # One scale for all moments of a target: frames can be compared with each other.
        one = maps.explanation[:, k]
        end = f"{scale_of(one.maps, 'batch').max():.2g}"
        one = replace(one, maps=strength(one.maps, "batch"))
        write_clip(video, (self._overlay(one, moment) for moment in range(len(self.small))), self.rate)
        name = f"{name}\nblue −{end}, red +{end}"
        return Strip(name, [self._overlay(one, moment) for moment in self._columns])

    def _overlay(self, one: Explanation, moment: int) -> UInt8[np.ndarray, "height width 3"]:
        from chronocam.render import overlay

        # Moment by moment: all maps at the size of the frames would take gigabytes for a long drive.
        fine = one[moment].upsample(self._view_size)[0, 0]
        whole = np.zeros((*self.small.shape[1:3], 1), fine.dtype)
        return overlay(self.small[moment], placed(whole, fine[..., None], self.region)[..., 0], signed=True)

    @property
    def _view_size(self) -> tuple[int, int]:
        left, top, right, bottom = self.region
        return bottom - top, right - left

    def _depth_row(self, depth: Float[np.ndarray, "moment height width"]) -> Strip:
        """Write the video of the depth and return its row of the sheet."""
        from chronocam.media import write_clip
        from chronocam.render.sheets.drive import Strip

        write_clip(self._depth_path, map(self._placed_depth, self._depth_pictures), self.rate)
        pictures = [self._placed_depth(self._depth_pictures[moment]) for moment in self._columns]
        return Strip("depth\n(near is bright)", pictures)

    @cached_property
    def _depth_pictures(self) -> UInt8[np.ndarray, "moment height width 3"]:
        from chronocam.render import depth_pictures

        return depth_pictures(np.asarray(self.study.predicted.depth))

    def _placed_depth(self, picture: UInt8[np.ndarray, "_ _ 3"]) -> UInt8[np.ndarray, "height width 3"]:
        from PIL import Image

        view = np.asarray(Image.fromarray(picture).resize(self._view_size[::-1]))
        return placed(np.zeros_like(self.small[0]), view, self.region)

    @property
    def _depth_path(self) -> Path:
        return self.out / f"{self.name}.depth.mp4"

    def _entry(self, maps: NetworkMaps, k: int, target: DriveTarget, video: Path, file: Path) -> DriveEntry:
        explanation = maps.explanation
        scores, truth = explanation.scores[:, k], self.study.truth(target)
        return DriveEntry(
            target=target.text,
            network=maps.part,
            method=explanation.method,
            layer=self.study.scene.networks.called(maps.part, explanation.layer),
            grid=explanation.maps.shape[2:],
            score=float(scores.mean()),
            scores=tuple(float(score) for score in scores),
            truth=None if truth is None else known(truth),
            unit=self.study.unit(target),
            boxes=self._boxes(explanation, k),
            noise_agreement=self.study.agreement.get(target.text),
            video=str(video),
            maps=str(file),
        )

    def _boxes(self, explanation: Explanation, k: int) -> tuple[Box | None, ...]:
        """Return, for each moment, the box of the largest region that raises the score, in pixels."""
        boxes: list[Box | None] = []
        for moment in range(len(self.small)):
            largest = explanation[moment, k].boxes()[0][0][:1]
            boxes.append(original(self.preprocess, largest[0], self.frames.size) if largest else None)
        return tuple(boxes)

    def _motion(self) -> MotionEntry | None:
        poses, truth = self.study.predicted.poses, self.study.true_motion
        if poses is None:
            return None
        return MotionEntry(
            names=MOTION, poses=poses.tolist(), truth=None if truth is None else truth.tolist()
        )

    def _path(self) -> PathEntry | None:
        positions, truth = self.study.positions, self.study.true_positions
        if positions is None:
            return None
        return PathEntry(
            positions=positions.tolist(),
            truth=None if truth is None else truth.tolist(),
            scale=self.study.scale,
        )

    def _losses(self) -> LossEntry | None:
        losses = self.study.predicted.losses
        if not losses:
            return None
        terms = {name: tuple(float(value) for value in values) for name, values in losses.items()}
        return LossEntry(of=asdict(self.study.scene.networks.loss), **terms)

    def _sheet(self, rows: list[Strip]) -> Path:
        from chronocam.render import save_figure
        from chronocam.render.sheets.drive import DriveSheet, drive_sheet

        numbers, seconds = self.frames.numbers[self.study.moments], self.frames.seconds
        timed = seconds is not None and self.frames.rate is not None
        at = seconds[self.study.moments] if timed and seconds is not None else numbers.astype(float)
        columns = [f"{at[k]:.2f} s" if timed else f"frame {numbers[k]}" for k in self._columns]
        unit = "seconds" if timed else "frame"
        sheet = DriveSheet(columns, rows, at, unit, self._curves(), self._track(), _LEGEND)
        called = self.study.scene.networks.called
        layers = dict.fromkeys(called(one.part, one.explanation.layer) for one in self.study.maps)
        heading = f"{self.study.path.name}: {', '.join(layers)}"
        return save_figure(drive_sheet(sheet, heading), self.out / f"{self.name}.sheet.png")

    def _curves(self) -> list[OutputCurve]:
        """Return the curve of every target over the moments, on the scale of the truth where it is known."""
        from chronocam.render.sheets.drive import OutputCurve

        curves: dict[str, OutputCurve] = {}
        for maps in self.study.maps:
            for k, target in enumerate(maps.targets):
                if target.text in curves:
                    continue
                truth, unit = self.study.truth(target), self.study.unit(target)
                values = maps.explanation.scores[:, k].astype(float)
                name = target.title
                if truth is not None and unit is not None:
                    name, values = f"{name}, scaled to the truth (× {unit:.3g})", values * unit
                curves[target.text] = OutputCurve(name, values, truth)
        return list(curves.values())

    def _track(self) -> PathTrack | None:
        from chronocam.render.sheets.drive import PathTrack

        study = self.study
        if study.positions is None:
            return None
        if study.true_positions is None or study.scale is None:
            return PathTrack(study.positions, note="unit unknown")
        note = f"network's path × {study.scale:.3g}, which lies nearest to the true one"
        return PathTrack(study.scale * study.positions, study.true_positions, note)


def _depth_entry(study: DriveStudy, depth: np.ndarray) -> DepthEntry:
    """Return the median depth, and the error of depth once each frame is scaled to the true median."""
    from chronocam.odometry import depth_errors

    median = tuple(float(np.median(one)) for one in depth)
    if study.true_depth is None:
        return DepthEntry(median=median)
    usable = ((study.true_depth > 1e-3) & (study.true_depth < 80)).any(axis=(1, 2))
    if not usable.any():
        return DepthEntry(median=median)
    errors = depth_errors(depth[usable], study.true_depth[usable])
    return DepthEntry(median=median, scale=study.depth_scale, abs_rel=float(errors.abs_rel.mean()))
