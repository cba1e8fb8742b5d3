"""Drives explained: what moves each output and each loss of networks for depth and motion, pair of frames by pair."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from chronocam.errors import InputError
from chronocam.runs.drives.draw import draw
from chronocam.runs.drives.networks import Networks, Windows, predict
from chronocam.runs.drives.read import found_drives, read_footage
from chronocam.runs.drives.study import Mapped, Study
from chronocam.runs.drives.targets import DriveTarget, Scene
from chronocam.runs.job import write_json

_METHODS: Final = {"pose": ["gradcam"], "depth": ["hirescam"]}
"""Averaging gradients over the grid loses where a depth comes from, so that depth is explained cell by cell."""

_DRAWS, _LOOKED_AT = 4, 8  # noisy copies of so many moments
_STEADY: Final = 0.5
"""Rank correlation under noise below which maps are not to be read."""
_SCALE: Final = (
    "translation and depth are known up to one common factor: a single camera that learns from its own pictures alone "
    "knows no scale"
)
_SKIPS: Final = (
    "depth is explained at `{layer}`, a layer of the decoder: what the skips of finer layers add later is not in its "
    "maps; --layer names another"
)
_ONE_SCALE: Final = (
    "of depth, a loss is that of its finest scale, which the network returns; of motion it is that of all four "
    "scales"
)


@dataclass(frozen=True)
class DriveJob:
    """How the drives of one call are explained.

    methods: for both networks; none for those that suit each. layers: by network, where any are named.
    start: seconds of a video, a frame's number of a folder.
    """

    loaded: Any
    networks: Networks
    targets: Sequence[DriveTarget]
    methods: Sequence[Any]
    layers: Mapping[str, Sequence[str]]
    align: str
    frames: int
    start: float | None
    intrinsics: Sequence[float] | None
    out: Path

    def found(self, inputs: Sequence[str]) -> Iterator[tuple[Path, str | None]]:
        """Yield every drive once."""
        return found_drives(inputs)

    def run(self, path: Path, name: str) -> dict[str, Any]:
        """Explain one drive, write its files and return its results."""
        study = self.studied(path)
        findings = [*gathered(study.maps, self.networks), *unsteady(study.agreement)]
        result = {"input": str(path), **draw(study, self.out, name), "diagnostics": findings}
        write_json(self.out, name, self.loaded.spec, result)
        return result

    def studied(self, path: Path) -> Study:
        """Return everything that is found out about a drive. Raises InputError where something is not finite."""
        preprocess, losses = self.loaded.preprocess, any(target.is_loss for target in self.targets)
        footage = read_footage(path, preprocess, self.frames, self.start, self.intrinsics, losses)
        windows = Windows(footage.frames, self.networks.offsets)
        camera = footage.view_intrinsics(preprocess)
        scene = Scene(self.networks, preprocess, footage.size, camera)
        predicted = predict(self.networks, windows, camera, preprocess)
        maps = [one for part in self.networks.parts for one in self._explained(part, scene, windows)]
        agreement = {
            target.text: found
            for part in self.networks.parts
            for target, found in self._agreement(part, scene, windows)
        }
        return Study(path, footage, windows, scene, predicted, maps, agreement)

    def _of(self, part: str) -> list[DriveTarget]:
        return [target for target in self.targets if target.network == part]

    def _how(self, part: str) -> dict[str, Any]:
        return {
            "methods": self.methods or _METHODS[part],
            "layers": self.layers.get(part) or self.networks.default_layers(part),
            "align": self.align,
        }

    def _explained(self, part: str, scene: Scene, windows: Windows) -> Iterator[Mapped]:
        """Yield the maps of all targets of one network, by method and layer, from one forward pass."""
        from chronocam._explain import explain

        targets = self._of(part)
        if not targets:
            return
        made = [scene.made(target, windows, windows.frames.shape[2:]) for target in targets]
        network, how = self.networks.parts[part], self._how(part)
        for key, explanation in explain(network, windows.batches(part), made, **how).items():
            if not (np.isfinite(explanation.scores).all() and np.isfinite(explanation.maps).all()):
                raise InputError(f"{key} of the network for {part}: {explanation.diagnostics[-1]}")
            yield Mapped(
                part, key, explanation, targets, part not in self.layers and how["layers"] is not None
            )

    def _agreement(
        self, part: str, scene: Scene, windows: Windows
    ) -> Iterator[tuple[DriveTarget, dict[str, Any]]]:
        """Yield how alike the first method's maps of each loss are under noise that nobody sees, at a few moments."""
        from chronocam._explain import explain
        from chronocam.metrics import noise_agreement

        targets = [target for target in self._of(part) if target.is_loss]
        if not targets:
            return
        rows = np.unique(
            np.rint(np.linspace(0, len(windows) - 1, min(_LOOKED_AT, len(windows)))).astype(int)
        ).tolist()
        made = [scene.made(target, windows[rows], windows.frames.shape[2:]) for target in targets]
        how = self._how(part)
        how = {**how, "methods": how["methods"][:1], "layers": how["layers"] and how["layers"][:1]}

        def maps(inputs: np.ndarray) -> np.ndarray:
            (one,) = explain(self.networks.parts[part], inputs, made, **how).values()
            return np.asarray(one.maps)

        found = noise_agreement(maps, windows.seen(part, rows), draws=_DRAWS)
        for k, target in enumerate(targets):
            yield (
                target,
                {
                    "spearman": round(float(found.spearman[:, k].mean()), 4),
                    "cosine": round(float(found.cosine[:, k].mean()), 4),
                    "moments": len(rows),
                    "draws": _DRAWS,
                },
            )


def gathered(maps: Iterable[Mapped], networks: Networks) -> list[str]:
    """Return the findings of all maps, those that many moments share once, after what holds of every drive."""
    told: dict[str, None] = {_SCALE: None}
    for one in maps:
        if one.at_default and one.part == "depth":
            told[_SKIPS.format(layer=networks.called("depth", one.explanation.layer))] = None
        if any(target.is_loss and target.network == "depth" for target in one.targets):
            told[_ONE_SCALE] = None
        alike: dict[str, list[str]] = {}
        for finding in one.explanation.diagnostics:
            of_sample = re.fullmatch(r"sample \d+, ([^:]+: [^:]+)(.*)", finding)
            alike.setdefault(of_sample[1] if of_sample else finding, []).append(finding)
        for findings in alike.values():
            more = f" (and {len(findings) - 1} more moments like it)" if len(findings) > 1 else ""
            told[f"{one.part}, {one.key}: {findings[0].replace('sample', 'moment', 1)}{more}"] = None
    return list(told)


def unsteady(agreement: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield which losses have maps that noise changes: near its minimum, the gradient of a loss is noise itself."""
    for name, found in agreement.items():
        if found["spearman"] < _STEADY:
            told = f"rank correlation {found['spearman']:.2f}, below {_STEADY:g}"
            yield f"{name}: its maps change under noise that nobody sees ({told}); do not read them"
