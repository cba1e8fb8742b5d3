"""Pictures explained: an overlay per map and a contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chronocam.errors import InputError
from chronocam.runs.inputs import VIDEO_SUFFIXES, found
from chronocam.runs.job import LONGEST_SIDE, Job, numbers, rounded, slug


class PictureJob(Job):
    """What is done to each picture."""

    def found(self, inputs: Sequence[str]) -> Iterator[tuple[Path, str | None]]:
        """Yield every picture once."""
        return found(inputs, clips=False)

    def read(self, path: Path) -> Any:
        """Return the picture at `path`."""
        from chronocam.media import read_image

        if path.suffix.lower() in VIDEO_SUFFIXES - {".gif"}:
            todo = "give pictures, or a model of clips such as torchvision:r3d_18"
            raise InputError(f"`{path}` is a video, but `{self.loaded.spec}` takes pictures; {todo}")
        return read_image(path)

    def draw(self, medium: Any, explanations: dict[str, Any], name: str) -> dict[str, Any]:
        """Write overlays and sheet, and return the results of the picture."""
        return _Drawing(self, medium, explanations, name).result()


class _Drawing:
    """The pictures of one input: maps over the part that the network saw, the rest dimmed."""

    def __init__(self, job: Job, image: Any, explanations: dict[str, Any], name: str) -> None:
        self.out, self.name, self.size = job.out, name, image.size
        self.preprocess, self.explanations = job.loaded.preprocess, explanations
        self.picture = image.copy()
        self.picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        self.region = [round(v) for v in self.preprocess.region(*self.picture.size)]

    def result(self) -> dict[str, Any]:
        """Write all pictures and return the results of the input."""
        from chronocam.render import contact_sheet, save_figure

        rows, titles, maps = [], [], []
        for key, explanation in self.explanations.items():
            drawn = self._overlays(explanation)
            saved = {"explanation": str(self._saved(key, explanation))}
            entries = [
                {**self._entry(key, explanation, k, picture), **saved} for k, picture in enumerate(drawn)
            ]
            rows.append([np.asarray(self.picture), *drawn])
            titles.append([key, *(f"{entry['target']}\n{entry['score']:.3g}" for entry in entries)])
            maps.extend(entries)
        sheet = save_figure(contact_sheet(rows, titles), self.out / f"{self.name}.sheet.png")
        seen = rounded(self.preprocess.region(*self.size))
        return {"size": list(self.size), "seen": seen, "sheet": str(sheet), "maps": maps}

    def _saved(self, key: str, explanation: Any) -> Path:
        from chronocam.media import still

        shown = still(np.asarray(self.picture), self.name, self.region)
        kept: Path = explanation.with_pictures([shown]).save(self.out / f"{self.name}.{slug(key)}.npz")
        return kept

    def _overlays(self, explanation: Any) -> list[np.ndarray]:
        from PIL import Image

        seen = self.picture.crop(self.region)
        dimmed = self.picture.point(lambda value: value * 0.45)
        overlays = []
        for drawn in explanation.overlay([seen])[0]:
            whole = dimmed.copy()
            whole.paste(Image.fromarray(drawn), (self.region[0], self.region[1]))
            overlays.append(np.asarray(whole))
        return overlays

    def _entry(self, key: str, explanation: Any, k: int, picture: np.ndarray) -> dict[str, Any]:
        from chronocam.media import write_image

        path = self.out / f"{self.name}.{slug(key)}.{k}-{slug(explanation.targets[0][k].name)}.png"
        write_image(path, picture)
        boxes = [self.preprocess.to_original(box, self.size) for box in explanation.boxes()[0][k]]
        return {**numbers(explanation, k), "boxes": [rounded(box) for box in boxes], "picture": str(path)}
