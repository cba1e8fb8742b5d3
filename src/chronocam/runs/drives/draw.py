"""A drive's files: overlay videos, the depth video, the maps, a sheet, and the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, UInt8

from chronocam.runs.drives.study import Mapped, Study
from chronocam.runs.drives.targets import MOTION, DriveTarget
from chronocam.runs.job import rounded, slug

_COLUMNS: Final = 6
_FASTEST, _UNTIMED = (
    10.0,
    8.0,
)  # frames per second of the videos: a few frames in a row are over too soon else
_LEGEND: Final = (
    "red: raises what the row names, blue: lowers it; one scale per row. Translations and depth are known up to one "
    "common factor."
)


def draw(study: Study, out: Path, name: str) -> dict[str, Any]:
    """Write all files of a drive but its JSON, and return its results."""
    return _Drawing(study, out, name).result()


class _Drawing:
    def __init__(self, study: Study, out: Path, name: str) -> None:
        self.study, self.out, self.name = study, out, name
        self.footage, self.preprocess = study.footage, study.scene.preprocess
        self.small = self.footage.small[study.moments]
        self.rate = _UNTIMED if self.footage.rate is None else min(self.footage.rate, _FASTEST)
        self.region = [round(v) for v in self.preprocess.region(*self.small.shape[2:0:-1])]

    def result(self) -> dict[str, Any]:
        """Write the files and return the results."""
        from chronocam.render import Strip

        rows = [Strip("target frame", [self.small[k] for k in self._shown()])]
        maps: list[dict[str, Any]] = []
        pictures = self._pictures()
        for mapped in self.study.maps:
            path = self.out / f"{self.name}.{mapped.part}.{slug(mapped.key)}.npz"
            mapped.explanation.with_pictures(list(pictures)).save(path)
            for k, target in enumerate(mapped.targets):
                entry = self._entry(mapped, k, target, f"{len(maps)}-{_file_name(target.text)}")
                rows.append(self._mapped(mapped, k, Path(entry["video"]), f"{target.shown}\n{mapped.key}"))
                maps.append({**entry, "maps": str(path)})
        depth_files: dict[str, Any] = {}
        if self.study.predicted.depth is not None:
            rows.append(self._depth_row(self.study.predicted.depth))
            depth_files = {"depth_video": str(self._depth_path), "depth_maps": str(self._saved_depth())}
        return {
            **self._about(),
            "sheet": str(self._sheet(rows)),
            **depth_files,
            **self._numbers(),
            "maps": maps,
        }

    def _pictures(self) -> Sequence[Any]:
        """Return small copies of the target frames."""
        from chronocam.media import Clip, stills

        count = np.arange(len(self.small))
        frames = Clip(self.small, count.astype(float), None, count, self.study.path)
        return stills(frames, self.name, self.region).split()

    def _saved_depth(self) -> Path:
        from chronocam.media.files import replace_file

        depth = np.asarray(self.study.predicted.depth)
        return replace_file(
            self.out / f"{self.name}.depth.npz", lambda temporary: np.savez_compressed(temporary, depth=depth)
        )

    def _shown(self) -> list[int]:
        count = len(self.small)
        return np.unique(np.rint(np.linspace(0, count - 1, min(_COLUMNS, count))).astype(int)).tolist()

    def _mapped(self, mapped: Mapped, k: int, video: Path, name: str) -> Any:
        """Write the overlay video of one target and return its row of the sheet."""
        from chronocam.media import write_clip
        from chronocam.render import Strip, strength

        one = _part(mapped.explanation, slice(None), k)
        one = replace(one, maps=strength(one.maps, "batch"))
        write_clip(video, (self._overlay(one, moment) for moment in range(len(self.small))), self.rate)
        return Strip(name, [self._overlay(one, moment) for moment in self._shown()])

    def _overlay(self, one: Any, moment: int) -> UInt8[np.ndarray, "height width 3"]:
        from chronocam.render import overlay

        fine = _part(one, slice(moment, moment + 1), 0).upsample(self._view_size())[0, 0]
        return overlay(self.small[moment], self._placed(fine), signed=True)

    def _view_size(self) -> tuple[int, int]:
        left, top, right, bottom = self.region
        return bottom - top, right - left

    def _placed(self, fine: np.ndarray) -> np.ndarray:
        """Return what is known of the view on the whole frame, zero outside of the view."""
        left, top, right, bottom = self.region
        height, width = self.small.shape[1:3]
        y0, x0, y1, x1 = max(top, 0), max(left, 0), min(bottom, height), min(right, width)
        whole = np.zeros((height, width, *fine.shape[2:]), fine.dtype)
        whole[y0:y1, x0:x1] = fine[y0 - top : y1 - top, x0 - left : x1 - left]
        return whole

    def _depth_row(self, depth: Float[np.ndarray, "moment height width"]) -> Any:
        from PIL import Image

        from chronocam.media import write_clip
        from chronocam.render import Strip, depth_pictures

        drawn = depth_pictures(depth)
        size = self._view_size()[::-1]

        def pictures(moments: list[int]) -> Iterator[np.ndarray]:
            for moment in moments:
                yield self._placed(np.asarray(Image.fromarray(drawn[moment]).resize(size)))

        write_clip(self._depth_path, pictures(list(range(len(drawn)))), self.rate)
        return Strip("depth\n(near is bright)", list(pictures(self._shown())))

    @property
    def _depth_path(self) -> Path:
        return self.out / f"{self.name}.depth.mp4"

    def _entry(self, mapped: Mapped, k: int, target: DriveTarget, called: str) -> dict[str, Any]:
        explanation = mapped.explanation
        scores = explanation.scores[:, k]
        return {
            "target": target.text,
            "network": mapped.part,
            "method": explanation.method,
            "layer": self.study.scene.networks.called(mapped.part, explanation.layer),
            "grid": list(explanation.maps.shape[2:]),
            "score": float(scores.mean()),
            "scores": [float(score) for score in scores],
            "truth": _plain(self.study.truth(target)),
            "unit": self.study.unit(target),
            "boxes": self._boxes(explanation, k),
            "noise_agreement": self.study.agreement.get(target.text),
            "video": str(self.out / f"{self.name}.{slug(mapped.key)}.{called}.mp4"),
        }

    def _boxes(self, explanation: Any, k: int) -> list[list[float] | None]:
        """Return, for each moment, the box of the largest region that raises the score, in pixels of the frames."""
        found = []
        for moment in range(len(self.small)):
            one = _part(explanation, slice(moment, moment + 1), k).boxes()[0][0]
            found.append(rounded(self.preprocess.to_original(one[0], self.footage.size)) if one else None)
        return found

    def _about(self) -> dict[str, Any]:
        footage, moments = self.footage, self.study.moments
        camera = footage.intrinsics
        return {
            "size": list(footage.size),
            "seen": rounded(self.preprocess.region(*footage.size)),
            "frames": footage.numbers[moments].tolist(),
            "sources": [footage.numbers[moments + offset].tolist() for offset in self.study.windows.offsets],
            "seconds": None
            if footage.seconds is None
            else [round(float(at), 4) for at in footage.seconds[moments]],
            "intrinsics": None if camera is None else camera.tolist(),
        }

    def _numbers(self) -> dict[str, Any]:
        """Return motion, path, losses and depth of every moment."""
        study = self.study
        numbers: dict[str, Any] = {}
        if study.predicted.poses is not None and study.positions is not None:
            numbers["outputs"] = {"names": list(MOTION), "poses": study.predicted.poses.tolist()}
            numbers["outputs"]["truth"] = None if study.true_motion is None else study.true_motion.tolist()
            numbers["path"] = {
                "positions": study.positions.tolist(),
                "truth": None if study.true_positions is None else study.true_positions.tolist(),
                "scale": study.scale,
            }
        if study.predicted.losses:
            terms = {name: [float(v) for v in values] for name, values in study.predicted.losses.items()}
            numbers["losses"] = {"of": asdict(self.study.scene.networks.loss), **terms}
        if study.predicted.depth is not None:
            numbers["depth"] = {
                "median": [float(np.median(one)) for one in study.predicted.depth],
                **_errors(study),
            }
        return numbers

    def _sheet(self, rows: list[Any]) -> Path:
        from chronocam.render import DriveSheet, drive_sheet, save_figure

        footage, moments = self.footage, self.study.moments
        numbers, seconds = footage.numbers[moments], footage.seconds
        timed = seconds is not None and footage.rate is not None
        at = seconds[moments] if timed and seconds is not None else numbers.astype(float)
        columns = [f"{at[k]:.2f} s" if timed else f"frame {numbers[k]}" for k in self._shown()]
        sheet = DriveSheet(
            columns, rows, at, "seconds" if timed else "frame", self._curves(), self._track(), _LEGEND
        )
        layers = dict.fromkeys(
            self.study.scene.networks.called(one.part, one.explanation.layer) for one in self.study.maps
        )
        heading = f"{self.study.path.name}: {', '.join(layers)}"
        return save_figure(drive_sheet(sheet, heading), self.out / f"{self.name}.sheet.png")

    def _curves(self) -> list[Any]:
        from chronocam.render import Curve

        curves, drawn = [], set()
        for mapped in self.study.maps:
            for k, target in enumerate(mapped.targets):
                if target.text in drawn:
                    continue
                drawn.add(target.text)
                truth, unit = self.study.truth(target), self.study.unit(target)
                values = mapped.explanation.scores[:, k].astype(float)
                name = target.shown
                if truth is not None and unit is not None:
                    name, values = f"{name}, scaled to the truth (× {unit:.3g})", values * unit
                curves.append(Curve(name, values, truth))
        return curves

    def _track(self) -> Any:
        from chronocam.render import Track

        study = self.study
        if study.positions is None:
            return None
        if study.true_positions is None or study.scale is None:
            return Track(study.positions, note="unit unknown")
        note = f"network's path × {study.scale:.3g}, which lies nearest to the true one"
        return Track(study.scale * study.positions, study.true_positions, note)


def _part(explanation: Any, moments: slice, k: int) -> Any:
    """Return an explanation of one target at some of the moments."""
    return replace(
        explanation,
        maps=explanation.maps[moments, k : k + 1],
        scores=explanation.scores[moments, k : k + 1],
        targets=tuple(row[k : k + 1] for row in explanation.targets[moments]),
    )


def _errors(study: Study) -> dict[str, Any]:
    """Return how far the depth is from the true one, each frame scaled to the true median."""
    from chronocam.odometry import depth_errors

    if study.true_depth is None or study.predicted.depth is None:
        return {}
    known = ((study.true_depth > 1e-3) & (study.true_depth < 80)).any(axis=(1, 2))
    if not known.any():
        return {}
    errors = depth_errors(study.predicted.depth[known], study.true_depth[known])
    return {"scale": study.depth_scale, "abs_rel": float(errors.abs_rel.mean())}


def _plain(values: Float[np.ndarray, " moment"] | None) -> list[float | None] | None:
    """Return numbers as JSON has them: it has no NaN."""
    return None if values is None else [None if np.isnan(v) else round(float(v), 6) for v in values]


def _file_name(text: str) -> str:
    return slug(f"minus-{text[1:]}" if text.startswith("-") else text)
