"""Drives explained: each output and each loss of networks for depth and motion, moment by moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from chronocam.errors import InputError
from chronocam.records import DriveResult, Failure, NoiseAgreement
from chronocam.runs.drives.draw import DriveDrawing
from chronocam.runs.drives.networks import Networks, Windows, predict
from chronocam.runs.drives.read import read_frames
from chronocam.runs.drives.study import DriveStudy, NetworkMaps
from chronocam.runs.drives.targets import DriveScene, DriveTarget
from chronocam.runs.inputs import find_drives, search
from chronocam.runs.job import Job

if TYPE_CHECKING:
    from chronocam.media import Preprocess
    from chronocam.types import Finding

_METHODS: Final = {"pose": ["gradcam"], "depth": ["hirescam"]}
"""Depth is explained cell by cell: averaging gradients over the grid loses where a depth comes from."""

_DRAWS, _MOMENTS = 4, 8  # noisy copies, of so many moments, for the agreement of maps under noise
_STEADY: Final = 0.5
"""Rank correlation under noise below which maps should not be read."""
_SCALE: Final = (
    "translation and depth are known up to one common factor: a single camera that learns from its own "
    "pictures alone knows no scale"
)
_SKIPS: Final = (
    "depth is explained at `{layer}`, a layer of the decoder: what the skips of finer layers add later is "
    "not in its maps; --layer names another"
)
_ONE_SCALE: Final = (
    "for depth, a loss is that of its finest scale, which the network returns; for motion it is that of all "
    "four scales"
)


@dataclass(frozen=True, kw_only=True)
class DriveJob(Job):
    """How drives are explained.

    methods: for both networks; none for those that suit each.
    layers: by network, where any are named.
    frames: how many consecutive ones are taken.
    start: seconds into a video, or a frame's number in a folder.
    intrinsics: fx, fy, cx and cy in pixels of the frames as stored; None for those of the files.
    """

    preprocess: Preprocess
    networks: Networks
    targets: Sequence[DriveTarget]
    methods: Sequence[str]
    layers: Mapping[str, Sequence[str]]
    align: str
    frames: int
    start: float | None
    intrinsics: tuple[float, float, float, float] | None

    def inputs(self, arguments: Sequence[str]) -> Iterator[Path | Failure]:
        """Yield every drive once."""
        return search(arguments, find_drives)

    def explained(self, path: Path, name: str) -> DriveResult:
        """Explain one drive, write its pictures and arrays under a name, and return its result."""
        study = self.study(path)
        diagnostics = [*common_findings(study.maps, self.networks), *unsteady(study.agreement)]
        return DriveDrawing(study, self.out, name).result(diagnostics)

    def study(self, path: Path) -> DriveStudy:
        """Return all that is found out about a drive. Raises InputError for values that are not finite."""
        losses = any(target.is_loss for target in self.targets)
        frames = read_frames(path, self.preprocess, self.frames, self.start, self.intrinsics, losses)
        windows = Windows(frames.inputs, self.networks.offsets)
        camera = frames.view_intrinsics(self.preprocess)
        scene = DriveScene(self.networks, self.preprocess, frames.size, camera)
        predicted = predict(self.networks, windows, camera, self.preprocess)
        maps = [one for part in self.networks.parts for one in self._maps(part, scene, windows)]
        agreement: dict[str, NoiseAgreement] = {}
        for part in self.networks.parts:
            agreement |= self._agreement(part, scene, windows)
        return DriveStudy(path, frames, windows, scene, predicted, maps, agreement)

    def _targets_of(self, part: str) -> list[DriveTarget]:
        return [target for target in self.targets if target.network == part]

    def _how(self, part: str) -> dict[str, Any]:
        """Return the options of `cc.explain` for one network."""
        return {
            "methods": self.methods or _METHODS[part],
            "layers": self.layers.get(part) or self.networks.default_layers(part),
            "align": self.align,
        }

    def _maps(self, part: str, scene: DriveScene, windows: Windows) -> Iterator[NetworkMaps]:
        """Yield the maps of all targets of one network, by method and layer, from one forward pass."""
        from chronocam._explain import explain

        targets = self._targets_of(part)
        if not targets:
            return
        scores = [scene.target(target, windows, windows.frames.shape[2:]) for target in targets]
        network, how = self.networks.parts[part], self._how(part)
        at_default = part not in self.layers and how["layers"] is not None
        for key, explanation in explain(network, windows.batches(part), scores, **how).items():
            if not (np.isfinite(explanation.scores).all() and np.isfinite(explanation.maps).all()):
                raise InputError(f"{key} of the network for {part}: {explanation.diagnostics[-1]}")
            yield NetworkMaps(part, key, explanation, targets, at_default)

    def _agreement(self, part: str, scene: DriveScene, windows: Windows) -> dict[str, NoiseAgreement]:
        """Return, by loss, how stable the first method's maps are under noise, at a few moments."""
        from chronocam._explain import explain
        from chronocam.metrics import noise_agreement

        targets = [target for target in self._targets_of(part) if target.is_loss]
        if not targets:
            return {}
        count = len(windows)
        rows = np.unique(np.rint(np.linspace(0, count - 1, min(_MOMENTS, count))).astype(int)).tolist()
        scores = [scene.target(target, windows[rows], windows.frames.shape[2:]) for target in targets]
        how = self._how(part)
        how = {**how, "methods": how["methods"][:1], "layers": how["layers"] and how["layers"][:1]}

        def maps(inputs: np.ndarray) -> np.ndarray:
            (one,) = explain(self.networks.parts[part], inputs, scores, **how).values()
            return np.asarray(one.maps)

        # Only the first method and layer, at a few moments: every draw is a pass of its own.
        agreement = noise_agreement(maps, windows.seen_by(part, rows), draws=_DRAWS)
        return {
            target.text: NoiseAgreement(
                spearman=round(float(agreement.spearman[:, k].mean()), 4),
                cosine=round(float(agreement.cosine[:, k].mean()), 4),
                moments=len(rows),
                draws=_DRAWS,
            )
            for k, target in enumerate(targets)
        }


def common_findings(maps: Iterable[NetworkMaps], networks: Networks) -> list[str]:
    """Return what holds for every drive, then the findings of all maps, once where many moments share one."""
    texts: dict[str, None] = {_SCALE: None}
    for one in maps:
        if one.at_default and one.part == "depth":
            texts[_SKIPS.format(layer=networks.called("depth", one.explanation.layer))] = None
        if any(target.is_loss and target.network == "depth" for target in one.targets):
            texts[_ONE_SCALE] = None
        # What differs from moment to moment, such as the size of a score, does not make it another finding.
        alike: dict[tuple[str | None, ...], list[Finding]] = {}
        for finding in one.explanation.findings:
            key = (finding.kind, finding.target, None if finding.sample is not None else finding.text)
            alike.setdefault(key, []).append(finding)
        for findings in alike.values():
            more = f" (and {len(findings) - 1} more moments like it)" if len(findings) > 1 else ""
            texts[f"{one.part}, {one.key}: {_of_moment(findings[0])}{more}"] = None
    return list(texts)


def _of_moment(finding: Finding) -> str:
    """Return the text of a finding, whose samples are the moments of a drive."""
    if finding.sample is None:
        return finding.text
    return f"moment {finding.sample}, {finding.text.removeprefix(f'sample {finding.sample}, ')}"


def unsteady(agreement: Mapping[str, NoiseAgreement]) -> Iterator[str]:
    """Yield the losses whose maps noise changes: near its minimum, the gradient of a loss is itself noise."""
    for name, one in agreement.items():
        if one.spearman < _STEADY:
            rank = f"rank correlation {one.spearman:.2f}, below {_STEADY:g}"
            yield f"{name}: its maps change under imperceptible noise ({rank}); do not read them"
