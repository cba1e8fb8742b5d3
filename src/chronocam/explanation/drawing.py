"""Explanations as pictures: maps over images and clips, sheets of them, and videos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from PIL import Image

from chronocam.errors import InputError
from chronocam.maps.frames import frame_spans
from chronocam.maps.normalize import Scope
from chronocam.media._stills import Stills, still, stills
from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.clips.read import Clip, read_clip, write_clip
from chronocam.media.images import read_image
from chronocam.media.preprocess import Preprocess
from chronocam.render import contact_sheet, overlay, overlay_clip, strength
from chronocam.render._overlay import scale_of, to_pictures
from chronocam.render.boxes import outline
from chronocam.render.clips import pace, to_clips
from chronocam.render.sheets.clip import Evidence, clip_sheet
from chronocam.render.sheets.pictures import CELL
from chronocam.render.sheets.words import words_sheet
from chronocam.render.signals import to_signals
from chronocam.render.video import side_by_side
from chronocam.render.words import under
from chronocam.types import BoxInfo, Media, Window
from chronocam.types.targets import WORDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from chronocam.explanation.record import Explanation


_LONGEST: Final = 1024  # pixels along a side of a bare map

MEDIA = (Image.Image, Clip, str, Path)
WIDE = 8.0  # inches of the picture of a signal
ACROSS = 4  # pictures in a row where each has one map

T = TypeVar("T")


def of_boxes(explanation: Explanation) -> bool:
    """Say whether all that is explained are boxes of a detector."""
    return all(isinstance(info, BoxInfo) for row in explanation.targets for info in row)


def drawing_of(explanation: Explanation) -> Drawing:
    """Return what draws an explanation; maps of signals are drawn on pictures of the curves.

    Maps over words are drawn on nothing; that they are of a picture is for the copies of it.
    """
    if explanation.axes == WORDS:
        return DrawingOfWords(explanation)
    of_signals = explanation.maps.ndim == 3
    return Drawing(strip(explanation) if of_signals else explanation, of_signals)


def strip(explanation: Explanation) -> Explanation:
    """Return maps of signals as maps of pictures, of one row that is as high as the picture."""
    (length,) = explanation.input_size
    height, centers, windows = max(1, length // 4), explanation.centers, explanation.windows
    return replace(
        explanation,
        maps=explanation.maps[:, :, None],
        interval=None if explanation.interval is None else explanation.interval[:, :, None],
        input_size=(height, length),
        centers=None if centers is None else (((height - 1) / 2,), *centers),
        windows=windows and (Window(1, 0, height - 1), *windows),
        pictures=None,
        copies=None,
    )


@dataclass(frozen=True)
class Drawing:
    """What draws an explanation."""

    explanation: Explanation
    of_signals: bool = False

    @property
    def of_clips(self) -> bool:
        """Whether the maps are those of clips."""
        return self.explanation.maps.ndim == 5

    def overlay(
        self, inputs: Media, cmap: str | None, alpha: float, scope: Scope | tuple[float, float] | None
    ) -> list[list[np.ndarray]]:
        """Return the maps over `inputs`, per sample and target; see `Explanation.overlay`."""
        return self._drawn(self._media(inputs), cmap, alpha, scope)

    def _drawn(
        self,
        media: Sequence[Media],
        cmap: str | None,
        alpha: float,
        scope: Scope | tuple[float, float] | None,
    ) -> list[list[np.ndarray]]:
        maps = self.explanation.maps
        strengths = strength(maps / self._scale, (-1, 1)) if scope is None else strength(maps, scope)
        draw: Callable[..., np.ndarray] = overlay_clip if self.of_clips else overlay
        overlays = []
        for medium, values in zip(media, strengths, strict=True):
            size = medium.pixels.shape[:3] if self.of_clips else medium.shape[:2]
            fine = self.explanation.resampled(values[None], size)[0]
            overlays.append([draw(medium, value, cmap, alpha) for value in fine])
        return overlays

    def sheet(self, inputs: Media) -> Figure:
        """Return a figure of overlays, or of bare maps; see `Explanation.plot`."""
        explanation = self.explanation
        heading = f"{explanation.method} at {explanation.layer}; bars: raw values of the maps"
        if explanation.interval is not None and np.isfinite(explanation.interval).all():
            heading += f", known to ±{explanation.interval.max():.2g} (95 %)"
        if self.of_clips:
            unit = "slice" if self._of_volumes(self._each(inputs)) else "frame"
            return clip_sheet(self._evidence(inputs), heading, plain=inputs is not None, unit=unit)
        bare = inputs is None
        maps = explanation.upsample(self._size) if bare else self._boxed(inputs)
        targets = explanation.maps.shape[1]
        # A signal is wide: its maps stand below each other. Pictures with one map each share rows.
        across = 1 if self.of_signals else targets if targets > 1 else min(len(explanation), ACROSS)
        if targets > 1 and not self.of_signals:
            pictures, names, limits = (self._own(part) for part in (maps, self._names(), self.limits()))
        else:
            pictures, names, limits = (_folded(part, across) for part in (maps, self._names(), self.limits()))
        return contact_sheet(pictures, names, heading, WIDE if self.of_signals else CELL, limits)

    def _boxed(self, inputs: Media) -> list[list[np.ndarray]]:
        """Return the maps over `inputs`, with the boxes that a detector found drawn into them."""
        explanation, overlays = self.explanation, self.overlay(inputs, None, 0.7, None)
        sizes = explanation.sizes or (explanation.input_size,) * len(explanation)
        for row, infos, size in zip(overlays, explanation.targets, sizes, strict=True):
            for k, info in enumerate(infos):
                if isinstance(info, BoxInfo) and info.box is not None:
                    picture = Image.fromarray(row[k])
                    outline(picture, info.box, size)
                    row[k] = np.asarray(picture)
        return overlays

    def _own(self, rows: Iterable[Sequence[T]]) -> list[list[T]]:
        """Return of each sample what it has: those with fewer boxes have shorter rows."""
        return [[row[k] for k in self.explanation.columns_of(sample)] for sample, row in enumerate(rows)]

    def video(self, path: Path, inputs: Media) -> Path:
        """Write the overlay of the one clip, of several targets side by side."""
        if len(self.explanation) > 1:
            todo = "write each sample's overlay with cc.media.write_clip"
            raise InputError(
                f"a video shows one clip; this explanation holds {len(self.explanation)}: {todo}"
            )
        ((clip, maps),) = self._evidence(inputs)
        frames = maps[0].drawn if len(maps) == 1 else side_by_side(clip, maps)
        write_clip(path, frames, pace(clip))
        return path

    def copies(self, inputs: Media) -> tuple[Stills, ...]:
        """Return small copies of `inputs`, one per sample; see `Explanation.with_pictures`."""
        media = self._each(inputs)
        if isinstance(media, (list, tuple)) and media:
            if all(isinstance(one, Stills) for one in media):
                self._check_count(media)
                return tuple(media)
            if all(isinstance(one, MEDIA) for one in media) and not self.of_signals:
                self._check_count(media)
                return tuple(map(self._whole, media))
        keep: Callable[[Media], Stills] = stills if self.of_clips else still
        copies = map(keep, self._media(inputs))
        return (
            tuple(replace(one, unit="slice") for one in copies) if self._of_volumes(media) else tuple(copies)
        )

    def _of_volumes(self, given: Media) -> bool:
        """Say whether the inputs are arrays of one channel, without time: volumes, as far as one can tell."""
        shapes = [np.shape(one) for one in given] if self.of_clips and given is not None else []
        return bool(shapes) and all(
            len(shape) == 4 and 3 not in (shape[0], shape[-1]) and 1 in (*shape[:2], shape[-1])
            for shape in shapes
        )

    def _whole(self, medium: Media) -> Stills:
        """Return a small copy of all of a picture or clip, with what the model saw of it marked in it."""
        opened = self._opened(medium) if isinstance(medium, (str, Path)) else medium
        preprocess: Any = self.explanation.preprocess
        if isinstance(opened, Clip):
            (clip,) = to_clips([opened], self.explanation.input_size[0])
            height, width = clip.pixels.shape[1:3]
            of_clips = isinstance(preprocess, ClipPreprocess)
            return stills(clip, seen=preprocess.region(width, height) if of_clips else None)
        name = medium if isinstance(medium, (str, Path)) else getattr(medium, "filename", "")
        picture = opened.convert("RGB")
        seen = preprocess.region(*picture.size) if isinstance(preprocess, Preprocess) else None
        return still(np.asarray(picture), Path(name).name, seen)

    def _evidence(self, inputs: Media) -> list[tuple[Clip, list[Evidence]]]:
        """Return each sample's clip, black without `inputs`, and the overlays drawn on it."""
        # Without inputs the maps are drawn opaque over black frames.
        explanation, bare = self.explanation, inputs is None
        black = (len(explanation), *self._size, 3)
        clips = self._media(np.zeros(black, np.uint8) if bare else inputs)
        spans = explanation.frame_spans or frame_spans(explanation.maps.shape[2], explanation.input_size[0])
        overlays = self._drawn(clips, None, 1.0 if bare else 0.7, None)
        parts = self._names(), overlays, explanation.frame_importance(), self.limits()
        return [
            (
                clip,
                [
                    Evidence(name, frames, share, spans, ends)
                    for name, frames, share, ends in zip(*of_clip, strict=True)
                ],
            )
            for clip, *of_clip in zip(clips, *parts, strict=True)
        ]

    @property
    def _size(self) -> tuple[int, ...]:
        """The size at which bare maps are drawn: the input's, or a smaller one that shows as much."""
        size = self.explanation.input_size
        if self.of_signals:
            return size
        scale = min(1.0, _LONGEST / max(size[-2:]))
        return (*size[:-2], *(max(1, round(side * scale)) for side in size[-2:]))

    @property
    def _scale(self) -> np.ndarray:
        """The raw value at the end of the colours, `(batch, target, 1, …)`: one for all maps of a sample.

        Those of boxes have one each: the gradient of a detection's score falls to zero as it comes near 1, so
        that of two boxes the surer one has the fainter map.
        """
        maps = self.explanation.maps
        shape = (*maps.shape[:2], *(1,) * (maps.ndim - 2))
        if not of_boxes(self.explanation):
            return np.broadcast_to(scale_of(maps), shape)
        return np.concatenate([scale_of(maps[:, [k]]) for k in range(maps.shape[1])], axis=1)

    def limits(self) -> list[list[tuple[float, float]]]:
        """Return the raw values at the ends of the colours of each map."""
        maps = self.explanation.maps
        ends = self._scale.reshape(maps.shape[:2])
        signed = np.any(maps < 0, axis=tuple(range(2, maps.ndim))).tolist()
        return [
            [(-end if both else 0.0, end) for end, both in zip(own, row, strict=True)]
            for own, row in zip(ends.tolist(), signed, strict=True)
        ]

    def _names(self) -> list[list[str]]:
        scores, sure = self.explanation.scores, self.explanation.confidences
        return [
            [
                str(info)
                if info.is_missing
                else under(str(info), scores[i, k], None if sure is None else sure[i, k])
                for k, info in enumerate(infos)
            ]
            for i, infos in enumerate(self.explanation.targets)
        ]

    def _media(self, inputs: Media) -> list[Media]:
        """Return one picture or clip per sample, to draw on."""
        size = self.explanation.input_size
        shown = self._as_seen(inputs)
        if self.of_signals:
            media: list[Media] = to_signals(shown, size[-1])
        else:
            media = to_clips(shown, size[0]) if self.of_clips else to_pictures(shown)
        self._check_count(media)
        return media

    def _as_seen(self, inputs: Media) -> Media:
        """Return inputs with files read, one medium as a list, and cut to what the model saw of them."""
        media = self._each(inputs)
        if not isinstance(media, (list, tuple)):
            return media
        self._check_count(media)  # before files are read
        return [self._seen(medium) for medium in media]

    def _each(self, inputs: Media) -> Media:
        """Return the input that the maps are of, as a list where it is a single medium."""
        inputs = self._explained(inputs)
        return [inputs] if isinstance(inputs, MEDIA) and len(self.explanation) == 1 else inputs

    def _explained(self, inputs: Media) -> Media:
        """Return the input that the maps are of, where all inputs of the model are given."""
        every = list(inputs.values()) if isinstance(inputs, Mapping) else inputs
        if not isinstance(inputs, (Mapping, tuple)) or not all(hasattr(x, "shape") for x in every):
            return inputs
        # A tuple of pictures is one per sample; several inputs are batches.
        axes = self.explanation.maps.ndim - self.of_signals
        several = all(len(x.shape) == axes for x in every)
        return every[self.explanation.on] if several and self.explanation.on < len(every) else inputs

    def _seen(self, medium: Media) -> Media:
        if not isinstance(medium, MEDIA):
            return medium
        preprocess = self.explanation.preprocess
        opened = self._opened(medium) if isinstance(medium, (str, Path)) else medium
        if isinstance(opened, Clip) and isinstance(preprocess, ClipPreprocess):
            return replace(opened, pixels=preprocess.view(opened))
        if isinstance(opened, Image.Image) and isinstance(preprocess, Preprocess):
            return preprocess.view(opened)
        return opened

    def _opened(self, path: str | Path) -> Media:
        preprocess = self.explanation.preprocess
        if not self.of_clips:
            return read_image(path)
        if isinstance(preprocess, ClipPreprocess):
            return preprocess.read(path)
        return read_clip(path, self.explanation.input_size[0])

    def _check_count(self, media: Sequence[Media]) -> None:
        samples = len(self.explanation)
        if len(media) != samples:
            what = "signal" if self.of_signals else "clip" if self.of_clips else "image"
            raise InputError(f"got {len(media)} {what}s for {samples} samples; give one {what} per sample")


@dataclass(frozen=True)
class DrawingOfWords(Drawing):
    """What draws an explanation over words."""

    def overlay(
        self, inputs: Media, cmap: str | None, alpha: float, scope: Scope | tuple[float, float] | None
    ) -> list[list[np.ndarray]]:
        """Raise InputError: words have no place in a picture."""
        raise InputError("a map over words has no places to be laid on; plot() and save() show the words")

    def sheet(self, inputs: Media) -> Figure:
        """Return a figure of the words of each caption."""
        one = self.explanation
        words = [[getattr(info, "words", ()) for info in row] for row in one.targets]
        return words_sheet(one.maps, words, self._names(), f"{one.method} at {one.layer}")

    def _media(self, inputs: Media) -> list[Media]:
        media: list[Media] = to_pictures(self._as_seen(inputs))
        self._check_count(media)
        return media


def _folded(rows: Iterable[Iterable[T]], across: int) -> list[list[T]]:
    """Return what is in rows in others, of so many each."""
    tiles = list(chain.from_iterable(rows))
    return [tiles[i : i + across] for i in range(0, len(tiles), across)]
