"""Signals explained, as an ECG is: the curves with each map behind them, and a contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from chronocam.engines import engine_for
from chronocam.errors import InputError
from chronocam.media.files import distinct
from chronocam.records import Failure, MapEntry, SignalResult
from chronocam.render.words import under
from chronocam.runs.arrays import read_array
from chronocam.runs.entries import map_entry
from chronocam.runs.files import slug
from chronocam.runs.inputs import TABLE_SUFFIX, find_arrays, search
from chronocam.runs.job import Job, finite
from chronocam.runs.layers import runs
from chronocam.types import BlackBox

if TYPE_CHECKING:
    from chronocam.explanation import Explanation


@dataclass(frozen=True, kw_only=True)
class SignalJob(Job):
    """How signals are explained.

    targets, methods, layers, align: as of a `MapJob`.
    """

    targets: Any
    methods: Sequence[Any]
    layers: Sequence[str | list[str]] | None
    align: str

    def inputs(self, arguments: Sequence[str]) -> Iterator[Path | Failure]:
        """Yield every array once."""
        return search(arguments, find_arrays)

    def explained(self, path: Path, name: str) -> SignalResult:
        """Explain one signal, write its pictures and arrays under a name, and return its result."""
        from chronocam._explain import explain
        from chronocam.media import write_image
        from chronocam.render import contact_sheet, save_figure

        signal, model = self.read(path), self.loaded.model
        if isinstance(model, BlackBox) and model.axes is None:
            model.axes = "tc" if model.channels_last else "ct"
        how: dict[str, Any] = {"methods": self.methods, "layers": self.layers, "align": self.align}
        explanations = explain(model, signal, self.targets, **how)
        rows, titles, maps, names = list[np.ndarray](), list[str](), list[MapEntry](), set[str]()
        for key, explanation in explanations.items():
            self._refuse_pictures(path, finite(path, explanation))
            stem = f"{name}.{distinct(slug(key), names)}"
            file = explanation.save(self.out / f"{stem}.npz", signal)
            if not self.draws:
                maps.extend(map_entry(explanation, k, file) for k in range(len(explanation.targets[0])))
                continue
            for k, overlay in enumerate(explanation.overlay(signal)[0]):
                picture = self.out / f"{stem}.{k}-{slug(explanation.targets[0][k].name)}.png"
                write_image(picture, overlay)
                maps.append(map_entry(explanation, k, file, picture=str(picture)))
                rows.append(overlay)
                titles.append(f"{key}: {under(maps[-1].target, maps[-1].score, maps[-1].confidence)}")
        sheet = self.out / f"{name}.sheet.png" if self.draws else None
        if sheet is not None:
            save_figure(
                contact_sheet([[row] for row in rows], [[title] for title in titles], path.name, 8.0), sheet
            )
        length = next(iter(explanations.values())).input_size[0]
        return SignalResult(
            input=str(path),
            samples=length,
            channels=signal.size // length,
            sheet="" if sheet is None else str(sheet),
            maps=tuple(maps),
            diagnostics=tuple(dict.fromkeys(text for e in explanations.values() for text in e.diagnostics)),
        )

    def read(self, path: Path) -> Float[np.ndarray, "1 ..."]:
        """Return the one signal in a file as the model takes it. Raises InputError for more or other axes."""
        array = read_array(path, "(channel, time) or (time, channel)")
        engine = engine_for(self.loaded.model)
        if array.ndim == 1:
            one = array[:, None] if engine.channels_last else array[None]
            if not runs(self.loaded.model, one[None]) and runs(self.loaded.model, array[None]):
                return array[None]  # for a network that adds the axis of channels itself
            array = one
        if path.suffix.lower() == TABLE_SUFFIX and not runs(self.loaded.model, array[None]):
            array = array.T  # whose rows are steps, for a network that takes channels first
        if array.ndim == 2:
            array = array[None]
        if array.ndim != 3 or len(array) != 1:
            raise InputError(
                f"`{path}` has shape {array.shape}; expected one signal per file, (channel, time) or (time, "
                "channel) as the model takes it; explain volumes and arrays of clips in Python"
            )
        return array

    def _refuse_pictures(self, path: Path, explanation: Explanation) -> None:
        if explanation.maps.ndim != 3:
            raise InputError(
                f"`{path}`: maps are {explanation.dims}, not along a signal; explain it in Python"
            )
