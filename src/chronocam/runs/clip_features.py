"""Clips through the part of a network that follows its features: relevance, carried to the frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chronocam.errors import LayerError
from chronocam.runs.clips import ClipJob
from chronocam.runs.features import FeatureJob
from chronocam.runs.job import write_json
from chronocam.runs.targets import at_steps


@dataclass(frozen=True)
class ClipFeatureJob(ClipJob):
    """What is done to each clip: its features are found once, explained as a sequence, and drawn on the frames.

    sequences: how the features are explained.
    """

    sequences: FeatureJob

    def run(self, path: Path, name: str) -> dict[str, Any]:
        """Explain one clip, write its files and return its results."""
        from chronocam.sequence.frames import clip_features

        clip = self.read(path)
        frames = self.loaded.preprocess(clip)[None]
        features = clip_features(self.loaded.model, frames)
        told = self.sequences.explained(features[0], name)
        maps = [self._on_frames(method, features, frames) for method in self.sequences.methods]
        drawn = self.draw(clip, {one.method: one for one in maps}, name)
        findings = dict.fromkeys(
            [*told["diagnostics"], *(finding for one in maps for finding in one.diagnostics)]
        )
        result = {"input": str(path), **drawn, **told, "diagnostics": list(findings)}
        write_json(self.out, name, self.loaded.spec, result)
        return result

    def _on_frames(self, method: str, features: Any, frames: Any) -> Any:
        """Return maps of the targets of whole clips: exact where features are averages of a layer, or by Grad-CAM."""
        from chronocam.targets._parse import parse
        from chronocam.targets.composed import over_steps

        targets = over_steps(parse(at_steps(self.targets, self.sequences.steps), 1))
        relevance = self.sequences.relevance(method, features, targets)
        layer = self.layers[0] if self.layers else None
        try:
            return relevance.to_frames(self.loaded.model, frames, layer=layer)
        except LayerError:
            return relevance.to_frames(self.loaded.model, frames, how="gradcam", layer=layer)
