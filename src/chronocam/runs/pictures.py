"""Pictures explained: an overlay per map and a contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chronocam.errors import ChronocamError, InputError, TargetError
from chronocam.media.clips.read import VIDEO_SUFFIXES
from chronocam.media.files import distinct
from chronocam.methods._base import method_named
from chronocam.records import Failure, MapEntry, PictureResult, Result
from chronocam.render.boxes import outline
from chronocam.render.words import under
from chronocam.runs.entries import map_entry, words_entry
from chronocam.runs.files import LONGEST_SIDE, original, rounded, slug
from chronocam.runs.inputs import find_pictures, search
from chronocam.runs.job import MapJob
from chronocam.types import BoxInfo, Inputs
from chronocam.types.targets import WORDS

if TYPE_CHECKING:
    from PIL.Image import Image

    from chronocam.explanation import Explanation
    from chronocam.media import Preprocess
    from chronocam.render.sheets.pictures import Limits


@dataclass(frozen=True, kw_only=True)
class PictureJob(MapJob):
    """How pictures are explained.

    prompt: what the model is asked about each; None for models that are not asked.
    """

    preprocess: Preprocess
    prompt: str | None = None

    def made_of(self, medium: Image) -> Inputs:
        """Return the inputs of one picture, with the prompt. Raises InputError where they do not fit."""
        if self.prompt is None:
            return super().made_of(medium)
        inputs: Inputs = self.loaded.model.prompted(medium, self.prompt)
        return inputs

    def explain(self, inputs: Inputs) -> dict[str, Explanation]:
        """Return also maps over the words of captions, of the methods that know them."""
        from chronocam._explain import explain
        from chronocam.targets import Caption

        found = super().explain(inputs)
        targets = self.targets if isinstance(self.targets, (list, tuple)) else [self.targets]
        captions = [one for one in targets if isinstance(one, Caption)]
        makers = [method_named(one) if isinstance(one, str) else one for one in self.methods]
        methods = [make for make in makers if getattr(getattr(make, "func", make), "maps_words", False)]
        if not captions or not methods:
            return found
        size = len(inputs)
        over = explain(self.loaded.model, inputs, captions, methods=methods, on="text", batch_size=size)
        return found | {f"{name}, words": one for name, one in over.items()}

    def inputs(self, arguments: Sequence[str]) -> Iterator[Path | Failure]:
        """Yield every picture once."""
        return search(arguments, find_pictures)

    def read(self, path: Path) -> Image:
        """Return the picture at `path`."""
        from chronocam.media import read_image

        if path.suffix.lower() in VIDEO_SUFFIXES - {".gif"}:
            todo = "give pictures, or a model of clips such as torchvision:r3d_18"
            raise InputError(f"`{path}` is a video, but `{self.loaded.spec}` takes pictures; {todo}")
        return read_image(path)

    def results(self, inputs: Sequence[tuple[Path, str]]) -> Iterator[Result | Failure]:
        """Yield the results of pictures from one pass; where that fails, one by one, which tells which."""
        if self.prompt is not None:  # prompts are as long as their pictures are large
            yield from super().results(inputs)
            return
        try:
            media = [self.read(path) for path, _ in inputs]
            batch = [self.preprocess(medium) for medium in media]
            together = len(inputs) > 1 and len({one.shape for one in batch}) == 1
            found = self.explain(np.stack(batch)) if together else {}
        except ChronocamError:
            found = {}
        if not found:
            yield from super().results(inputs)
            return
        for i, (medium, (path, name)) in enumerate(zip(media, inputs, strict=True)):
            try:
                own = {key: _sample(explanation, i) for key, explanation in found.items()}
                yield self.written(name, self.drawn(medium, own, path, name))
            except ChronocamError as error:
                yield Failure(input=str(path), error=str(error))

    def draw(
        self, medium: Image, explanations: dict[str, Explanation], path: Path, name: str
    ) -> PictureResult:
        """Write overlays and sheet, and return the result of the picture."""
        from chronocam.explanation.drawing import drawing_of
        from chronocam.render import contact_sheet, save_figure

        explanations = {key: _sample(explanation, 0) for key, explanation in explanations.items()}
        drawing = _PictureDrawing(self, medium, name)
        rows: list[list[np.ndarray]] = []
        titles: list[list[str]] = []
        limits: list[list[Limits]] = []
        maps: list[MapEntry] = []
        over_words = {key: one for key, one in explanations.items() if one.axes == WORDS}
        for key, explanation in explanations.items():
            if key in over_words:
                maps.extend(drawing.written_words(key, explanation))
                continue
            overlays = drawing.overlays(explanation) if self.draws else []
            entries = drawing.written(key, explanation, overlays)
            limits.append([None, *drawing_of(explanation).limits()[0]])
            rows.append([np.asarray(drawing.picture), *overlays])
            shown = (under(one.target, one.score, one.confidence) for one in entries)
            titles.append([f"{path.name}\n{key}", *shown])
            maps.extend(entries)
        sheet = self.out / f"{name}.sheet.png"
        if self.draws:
            save_figure(contact_sheet(rows, titles, limits=limits), sheet)
        return PictureResult(
            input=str(path),
            size=medium.size,
            seen=rounded(self.preprocess.region(*medium.size)),
            sheet=str(sheet) if self.draws else "",
            maps=tuple(maps),
            diagnostics=self.diagnostics(explanations),
        )


def _sample(explanation: Explanation, i: int) -> Explanation:
    """Return the explanation of sample `i` of a batch, without columns of boxes that others have.

    Raises TargetError for a sample in which no box was found.
    """
    one = explanation[i, explanation.columns_of(i)]
    if one.targets[0][0].is_missing:
        raise TargetError(f"the model finds {one.targets[0][0]} in the picture")
    return replace(one, copies=None)


def energy_inside(explanation: Explanation, k: int, box: Sequence[float]) -> float | None:
    """Return the share of the positive part of a map that lies in a box; None for a map without any."""
    fine = explanation.upsample()[0, k].clip(0)
    height, width = fine.shape
    x0, y0, x1, y1 = (round(side) for side in box)
    total = float(fine.sum())
    return (
        round(float(fine[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)].sum()) / total, 4)
        if total
        else None
    )


class _PictureDrawing:
    """The pictures of one input: maps over the part that the network saw, the rest dimmed."""

    def __init__(self, job: PictureJob, image: Image, name: str) -> None:
        self.job = job
        self.name = name
        self.taken: set[str] = set()
        self.size = image.size
        self.picture = image.copy()
        self.picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        left, top, right, bottom = map(round, job.preprocess.region(*self.picture.size))
        self.region = left, top, right, bottom

    def overlays(self, explanation: Explanation) -> list[np.ndarray]:
        """Return the picture with the map of each target."""
        from PIL import Image

        view = self.picture.crop(self.region)
        dimmed = self.picture.point(lambda value: value * 0.45)
        overlays = []
        for overlay, info in zip(explanation.overlay([view])[0], explanation.targets[0], strict=True):
            whole, shown = dimmed.copy(), Image.fromarray(overlay)
            if isinstance(info, BoxInfo) and info.box is not None:
                outline(shown, info.box, explanation.input_size)
            whole.paste(shown, self.region[:2])
            overlays.append(np.asarray(whole))
        return overlays

    def written_words(self, key: str, explanation: Explanation) -> list[MapEntry]:
        """Write the maps over the words of captions, and return their entries."""
        file = self._saved(key, explanation)
        return [words_entry(explanation, k, file, key) for k in range(len(explanation.targets[0]))]

    def written(self, key: str, explanation: Explanation, overlays: list[np.ndarray]) -> list[MapEntry]:
        """Write the maps and the overlays, if any, of one explanation, and return its entries."""
        from chronocam.media import write_image

        file = self._saved(key, explanation)
        stem, entries = file.stem, []
        recipe = self.job.preprocess
        for k, found in enumerate(explanation.boxes()[0]):
            boxes = tuple(original(recipe, box, self.size) for box in found)
            info = explanation.targets[0][k]
            own = info.box if isinstance(info, BoxInfo) else None
            path = None
            if overlays:
                path = self.job.out / f"{stem}.{k}-{slug(explanation.targets[0][k].name)}.png"
                write_image(path, overlays[k])
            entries.append(
                map_entry(
                    explanation,
                    k,
                    file,
                    boxes=boxes,
                    picture=None if path is None else str(path),
                    box=None if own is None else original(recipe, own, self.size),
                    inside=None if own is None else energy_inside(explanation, k, own),
                )
            )
        return entries

    def _saved(self, key: str, explanation: Explanation) -> Path:
        """Save an explanation with its picture, and return its file."""
        from chronocam.media import still

        # The copy has the size of the overlays, so that pages show the same part dimmed.
        copy = still(np.asarray(self.picture), self.name, self.region)
        stem = f"{self.name}.{distinct(slug(key), self.taken)}"
        return explanation.with_pictures([copy]).save(self.job.out / f"{stem}.npz")
