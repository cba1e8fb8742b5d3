"""What an explanation is: raw maps on the layer's grid, and everything that is done with them afterwards."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, asdict, astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from chronocam.errors import InputError, MediaError
from chronocam.maps.attention import Attention
from chronocam.maps.frames import frame_importance, frame_spans
from chronocam.maps.normalize import Scope, normalize
from chronocam.maps.regions import Box, boxes
from chronocam.maps.resample import Mode, resample
from chronocam.media._stills import Stills, still, stills
from chronocam.media.clips.read import Clip, write_clip
from chronocam.media.files import replace_file
from chronocam.render import contact_sheet, overlay, overlay_clip, save_figure, strength
from chronocam.render._overlay import to_pictures
from chronocam.render.clips import pace, to_clips
from chronocam.render.page import SampleMaps, items_of, write_page
from chronocam.render.sheets.clip import Evidence, clip_sheet
from chronocam.render.video import side_by_side
from chronocam.types import Finding, TargetInfo, note

GRID_DIMS = {1: ("width",), 2: ("height", "width"), 3: ("time", "height", "width")}
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".pdf", ".svg")
VIDEOS = (".mp4", ".gif", ".webp")
PAGE = ".html"
_FORMAT = "chronocam explanation 1"


@dataclass(frozen=True, eq=False)
class Explanation:
    """Maps of a batch, with what they explain.

    maps: float32 `(batch, target, *grid)`, raw and unnormalised, on the layer's own grid; float64 where
        `SequenceExplanation.to_frames` made them of such relevance.
    scores: float32 `(batch, target)`, the scores explained.
    targets: per sample and target, what was explained (`name`, and `index` where it is one output).
    method, layer: their names; several fused layers are joined by `+`.
    input_size: the grid of the model's input.
    centers: for each grid axis, the input coordinate of every cell's centre; None tiles the input evenly.
    frame_spans: for clips, the first and last input frame of each time slice.
    attention: of models that attend over the frames of a clip, the weights and what each frame contributes.
    findings: remarks, such as a map that is zero everywhere; their texts are the `diagnostics`.
    confidences: of a classifier, the softmax of its logits at the class explained, `(batch, target)`; NaN for
        a score of no single class, None where there is none.
    pictures: small copies of the inputs, one per sample, which pages are drawn on; None where they were not
        given.
    """

    maps: Float[np.ndarray, "batch target *grid"]
    scores: Float[np.ndarray, "batch target"]
    targets: tuple[tuple[TargetInfo, ...], ...]
    method: str
    layer: str
    input_size: tuple[int, ...]
    _: KW_ONLY
    centers: tuple[tuple[float, ...], ...] | None = None
    frame_spans: tuple[tuple[int, int], ...] | None = None
    attention: Attention | None = None
    findings: tuple[Finding, ...] = ()
    confidences: Float[np.ndarray, "batch target"] | None = None
    pictures: tuple[Stills, ...] | None = None

    @property
    def diagnostics(self) -> tuple[str, ...]:
        """The findings, in words."""
        return tuple(finding.text for finding in self.findings)

    @property
    def dims(self) -> tuple[str, ...]:
        """The names of the maps' axes, such as `("batch", "target", "height", "width")`."""
        return ("batch", "target", *GRID_DIMS[self.maps.ndim - 2])

    def __len__(self) -> int:
        return len(self.maps)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the upsampled maps; the target axis is dropped when there is one target."""
        maps = self.upsample()
        maps = maps[:, 0] if maps.shape[1] == 1 else maps
        return maps if dtype is None else maps.astype(dtype, copy=False)

    def __repr__(self) -> str:
        grid = " × ".join(map(str, self.maps.shape[2:]))
        batch, target = self.maps.shape[:2]
        return f"Explanation({self.method} at {self.layer}: {batch} samples, {target} targets, grid {grid})"

    def upsample(self, size: Sequence[int] | None = None, mode: Mode | None = None) -> np.ndarray:
        """Return maps `(batch, target, *size)`, by default at the input's size.

        `mode` is `"nearest"`, `"linear"` or `"cubic"`; None is cubic, linear for clips. Values stay within
        each raw map's own range. Raises InputError for a size of another rank than the grid.
        """
        return self._resampled(self.maps, tuple(size or self.input_size), mode)

    def _resampled(self, maps: np.ndarray, size: tuple[int, ...], mode: Mode | None = None) -> np.ndarray:
        mode = mode or ("cubic" if maps.ndim < 5 else "linear")
        return np.asarray(resample(maps, size, mode, self._centers_at(size)))

    def _centers_at(self, size: tuple[int, ...]) -> list[tuple[float, ...]] | None:
        if self.centers is None or len(size) != len(self.input_size):
            return None
        scales = [new / old for new, old in zip(size, self.input_size, strict=True)]
        return [tuple((c + 0.5) * s - 0.5 for c in at) for at, s in zip(self.centers, scales, strict=True)]

    def normalize(self, scope: Scope | tuple[float, float] = "sample") -> np.ndarray:
        """Return maps scaled to [0, 1] on their grid.

        One scale per `"frame"`, per `"sample"` (all its targets and frames share it) or for the `"batch"`, or
        given limits `(low, high)`. All-zero maps stay zero.
        """
        return np.asarray(normalize(self.maps, scope))

    def boxes(self, threshold: float = 0.15, largest: bool = True) -> list[list[list[Box]]]:
        """Return, per sample and target, bounding boxes `(x0, y0, x1, y1)` in input pixels (ends exclusive).

        The region where the upsampled map is at least `threshold` of its maximum: the largest one, or all
        with `largest=False`, largest first. A map without positive values has none.
        """
        return [[boxes(one, threshold, largest) for one in row] for row in self.upsample()]

    def overlay(
        self,
        inputs: Any,
        cmap: str | None = None,
        alpha: float = 0.7,
        scope: Scope | tuple[float, float] = "sample",
    ) -> list[list[np.ndarray]]:
        """Return pictures uint8 `(height, width, 3)`, per sample and target, of the maps over `inputs`.

        `inputs` are the images at any size: PIL images, or arrays with channels last or first. Colour follows
        the value (inferno, or a diverging map where a value is negative), opacity its strength; all targets
        of a sample share one scale unless `scope` says otherwise.

        Of clips, frames `(time, height, width, 3)`: `inputs` are `Clip` objects, frames with channels last,
        or what the model was given. All frames share the scale; a frame that a looped `Clip` repeats is
        returned once, with the mean of its maps.

        Raises InputError where `inputs` are not one image or clip per sample.
        """
        shown, strengths = self._shown(inputs), strength(self.maps, scope)
        draw: Any = overlay_clip if self._of_clips else overlay
        drawn = []
        for one, values in zip(shown, strengths, strict=True):
            size = one.pixels.shape[:3] if self._of_clips else one.shape[:2]
            fine = self._resampled(values[None], size)[0]
            drawn.append([draw(one, value, cmap, alpha) for value in fine])
        return drawn

    @property
    def _of_clips(self) -> bool:
        return self.maps.ndim == 5

    def _check_drawable(self) -> None:
        if self.maps.ndim not in (4, 5):
            raise InputError(
                f"cannot draw maps of dims {self.dims}; expected images or clips: take .upsample() instead"
            )

    def _shown(self, inputs: Any) -> list[Any]:
        """Return one picture or clip per sample, to draw on."""
        self._check_drawable()
        shown: list[Any] = to_clips(inputs, self.input_size[0]) if self._of_clips else to_pictures(inputs)
        self._check_count(shown)
        return shown

    def _check_count(self, shown: Sequence[Any]) -> None:
        if len(shown) != len(self):
            what = "clip" if self._of_clips else "image"
            raise InputError(f"got {len(shown)} {what}s for {len(self)} samples; give one {what} per sample")

    def frame_importance(self) -> np.ndarray:
        """Return, of maps of clips, the share of the positive evidence in each time slice: `(batch, target, time)`.

        Sums to 1 over the slices, which cover the frames that `frame_spans` tells; zero for a map without a
        positive value. Raises InputError where the maps have no time.
        """
        if not self._of_clips:
            raise InputError(f"maps of dims {self.dims} have no time; expected maps of clips")
        return np.asarray(frame_importance(self.maps))

    def plot(self, inputs: Any = None) -> Any:
        """Return a matplotlib Figure of overlays, or of bare maps.

        Of images, a row per sample and a column per target. Of clips, per sample some of the frames, a row
        with the map of each target, and the curves of frame importance.
        """
        heading = f"{self.method} at {self.layer}"
        if self._of_clips:
            return clip_sheet(self._evidence(inputs), heading, plain=inputs is not None)
        self._check_drawable()
        rows = self.upsample() if inputs is None else self.overlay(inputs)
        return contact_sheet([list(row) for row in rows], self._names(), heading)

    def _names(self) -> list[list[str]]:
        return [
            [f"{info}\n{score:.3g}" for info, score in zip(infos, scores, strict=True)]
            for infos, scores in zip(self.targets, self.scores, strict=True)
        ]

    def _evidence(self, inputs: Any) -> list[tuple[Clip, list[Evidence]]]:
        """Return each sample's clip, black where there are no `inputs`, and what is drawn of it."""
        bare = inputs is None
        clips = self._shown(np.zeros((len(self), *self.input_size, 3), np.uint8) if bare else inputs)
        spans = self.frame_spans or frame_spans(self.maps.shape[2], self.input_size[0])
        parts = zip(clips, self._names(), self.overlay(clips, alpha=1.0 if bare else 0.7), strict=True)
        return [
            (clip, [Evidence(*one, spans) for one in zip(names, drawn, importance, strict=True)])
            for (clip, names, drawn), importance in zip(parts, self.frame_importance(), strict=True)
        ]

    def with_pictures(self, inputs: Any) -> Explanation:
        """Return the explanation with small copies of its inputs, which `.npz` keeps and pages are drawn on.

        `inputs` are as for `overlay`, or `cc.media.Stills`. Raises InputError where they are not one per
        sample.
        """
        given = list(inputs) if isinstance(inputs, (list, tuple)) else []
        if given and all(isinstance(one, Stills) for one in given):
            self._check_drawable()
            self._check_count(given)
            return replace(self, pictures=tuple(given))
        keep: Callable[[Any], Stills] = stills if self._of_clips else still
        return replace(self, pictures=tuple(map(keep, self._shown(inputs))))

    def save(self, path: str | Path, inputs: Any = None) -> Path:
        """Write the explanation.

        `.npz` keeps everything, with small copies of `inputs` where they are given; `cc.load` reads it.
        `.html` is a page to look into it with. A picture's suffix draws `plot(inputs)`. Of one clip, `.mp4`,
        `.gif` and `.webp` write its overlay as a video at its own pace; of several targets, side by side with
        their names and frame importance. Without `inputs`, a page has those kept, if any; other pictures are
        of the bare maps.

        Raises MediaError for another suffix or a place that cannot be written; nothing is ever half-written.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix in (".npz", PAGE):
            whole = self if inputs is None else self.with_pictures(inputs)
            if suffix == ".npz":
                return replace_file(path, whole._write)
            return write_page(path, path.stem, items_of({self.method: whole}))
        if self._of_clips and suffix in VIDEOS:
            return self._save_video(path, inputs)
        if suffix not in PICTURES:
            known = ", ".join([PAGE, *(VIDEOS[:2] if self._of_clips else ()), *PICTURES])
            raise MediaError(f"cannot save as `{path.name}`; expected .npz or one of {known}")
        return save_figure(self.plot(inputs), path)

    def on_page(self, sample: int) -> SampleMaps:
        """Return what a page draws of one sample."""
        rows = slice(sample, sample + 1)
        confidences, attention = self.confidences, self.attention
        return SampleMaps(
            maps=self.maps[rows],
            names=[str(info) for info in self.targets[sample]],
            scores=self.scores[rows],
            confidences=None if confidences is None else confidences[rows],
            method=self.method,
            layer=self.layer,
            findings=self.diagnostics,
            dims=self.dims,
            input_size=self.input_size,
            centers=self.centers,
            spans=self.frame_spans,
            attention=attention and Attention(attention.weights[rows], attention.contributions[rows]),
            pictures=None if self.pictures is None else self.pictures[sample],
        )

    def _save_video(self, path: Path, inputs: Any) -> Path:
        if len(self) > 1:
            todo = "write each sample's overlay with cc.media.write_clip"
            raise InputError(f"a video shows one clip; this explanation holds {len(self)}: {todo}")
        ((clip, maps),) = self._evidence(inputs)
        write_clip(path, maps[0].drawn if len(maps) == 1 else side_by_side(clip, maps), pace(clip))
        return path

    def _write(self, path: Path) -> None:
        arrays = ("maps", "scores", "confidences", "targets", "attention", "pictures", "findings")
        words = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in arrays}
        words["findings"] = list(map(astuple, self.findings))
        words["targets"] = [[(info.name, info.index, info.signed) for info in row] for row in self.targets]
        kept = self.pictures or ()
        words["pictures"] = [{k: v for k, v in asdict(one).items() if k != "frames"} for one in kept] or None
        found: dict[str, Any] = {"header": np.asarray(json.dumps({"format": _FORMAT, **words}))}
        found |= {} if self.confidences is None else {"confidences": self.confidences}
        found |= (
            {} if self.attention is None else {f"attention.{k}": v for k, v in vars(self.attention).items()}
        )
        for i, one in enumerate(kept):
            found |= {f"picture.{i}.{j}": np.frombuffer(file, np.uint8) for j, file in enumerate(one.frames)}
        np.savez_compressed(path, maps=self.maps, scores=self.scores, **found)

    def to_xarray(self) -> Any:
        """Return the maps as an `xarray.DataArray` with the input coordinates of the cells. Needs xarray."""
        import xarray

        coords = (
            {} if self.centers is None else dict(zip(self.dims[2:], map(list, self.centers), strict=True))
        )
        attrs = {"method": self.method, "layer": self.layer, "input_size": self.input_size}
        return xarray.DataArray(self.maps, dims=self.dims, coords=coords, attrs=attrs, name="map")


def load(path: str | Path) -> Explanation:
    """Read an explanation that `Explanation.save` wrote as `.npz`. No code in the file is run.

    Raises MediaError for a missing file or one that is no explanation.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            if header.pop("format") != _FORMAT:
                raise ValueError("another format")
            prefix = "attention."
            attention = {
                name.removeprefix(prefix): file[name] for name in file.files if name.startswith(prefix)
            }
            header["attention"] = Attention(**attention) if attention else None
            header["confidences"] = file["confidences"] if "confidences" in file.files else None
            header["pictures"] = _pictures(file, header.get("pictures"))
            return _checked(_from_header(file["maps"], file["scores"], header))
    except FileNotFoundError as error:
        raise MediaError(f"no file `{path}`; expected an .npz written by Explanation.save") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise MediaError(
            f"`{path}` is no saved explanation; expected an .npz written by Explanation.save"
        ) from error


def _pictures(file: Any, headers: list[dict[str, Any]] | None) -> tuple[Stills, ...] | None:
    if not headers:
        return None
    found = []
    for i, about in enumerate(headers):
        count = sum(name.startswith(f"picture.{i}.") for name in file.files)
        found.append(
            Stills(tuple(file[f"picture.{i}.{j}"].tobytes() for j in range(count)), **_as_tuples(about))
        )
    return tuple(found)


def _as_tuples(words: dict[str, Any]) -> dict[str, Any]:
    def tuples(value: Any) -> Any:
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    return {name: tuples(value) for name, value in words.items()}


def _from_header(maps: np.ndarray, scores: np.ndarray, header: dict[str, Any]) -> Explanation:
    targets = tuple(tuple(_target(*info) for info in row) for row in header.pop("targets"))
    texts = header.pop("diagnostics", ())  # files of version 0.1 hold the texts alone
    findings = tuple(Finding(*parts) for parts in header.pop("findings", ())) or tuple(map(note, texts))
    return Explanation(maps, scores, targets, findings=findings, **_as_tuples(header))


def _checked(one: Explanation) -> Explanation:
    """Return an explanation from a file; raises ValueError where its parts do not fit each other.

    Whatever is drawn from it later may then rely on the shapes.
    """
    batch, targets, *grid = one.maps.shape
    attention, pictures = one.attention, one.pictures or ()
    fits = (
        one.maps.dtype.kind == "f" and len(grid) in GRID_DIMS,
        one.scores.shape == (batch, targets),
        [len(row) for row in one.targets] == [targets] * batch,
        len(one.input_size) == len(grid),
        one.confidences is None or one.confidences.shape == (batch, targets),
        one.centers is None or [len(at) for at in one.centers] == grid,
        one.frame_spans is None or len(one.frame_spans) == grid[0],
        attention is None or attention.contributions.shape == (batch, targets, attention.weights.shape[1]),
        one.pictures is None or len(pictures) == batch,
        len(grid) < 3 or all(len(picture.places) == one.input_size[0] for picture in pictures),
    )
    if not all(fits):
        raise ValueError("parts of different shapes")
    return one


def _target(name: str, index: int | None, signed: bool = False) -> TargetInfo:
    return TargetInfo(name, index, signed=signed)


def concatenate(parts: Sequence[Explanation]) -> Explanation:
    """Join explanations of consecutive batches. Raises InputError where their grids differ."""
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts:
        if part.maps.shape[1:] != first.maps.shape[1:] or part.input_size != first.input_size:
            raise InputError(
                f"batches differ: maps {first.maps.shape[1:]} of inputs {first.input_size} and {part.maps.shape[1:]} "
                f"of {part.input_size}; use explain_batches, which yields one explanation per batch"
            )
    attention = [part.attention for part in parts if part.attention is not None]
    return replace(
        first,
        maps=np.concatenate([part.maps for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        targets=tuple(row for part in parts for row in part.targets),
        attention=Attention(
            np.concatenate([a.weights for a in attention]),
            np.concatenate([a.contributions for a in attention]),
        )
        if attention
        else None,
        confidences=_beside_each_other([part.confidences for part in parts]),
        pictures=None,
        findings=tuple(dict.fromkeys(finding for part in parts for finding in part.findings)),
    )


def _beside_each_other(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if len(known) == len(parts) else None
