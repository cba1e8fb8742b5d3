"""Clips through the part of a network that follows its features: relevance, carried to the frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chronocam.errors import LayerError
from chronocam.records import ClipFeatureResult
from chronocam.runs.clips import ClipJob
from chronocam.runs.features import FeatureJob
from chronocam.runs.targets import at_steps

if TYPE_CHECKING:
    from chronocam.explanation import Explanation


@dataclass(frozen=True, kw_only=True)
class ClipFeatureJob(ClipJob):
    """How clips are explained by the relevance of their features, which is carried back to the frames.

    sequences: how the features are explained.
    """

    sequences: FeatureJob

    def explained(self, path: Path, name: str) -> ClipFeatureResult:
        """Explain one clip, write its pictures and arrays under a name, and return its result."""
        from chronocam.sequence.frames import clip_features

        clip = self.read(path)
        frames = self.preprocess(clip)[None]
        features = clip_features(self.loaded.model, frames)
        sequence = replace(self.sequences, draws=self.draws).result(path, features[0], name)
        maps = [self._on_frames(method, features, frames) for method in self.sequences.methods]
        on_frames = self.draw(clip, {one.method: one for one in maps}, path, name)
        diagnostics = tuple(dict.fromkeys([*sequence.diagnostics, *on_frames.diagnostics]))
        return ClipFeatureResult(
            **vars(replace(on_frames, diagnostics=diagnostics)),
            steps=sequence.steps,
            features=sequence.features,
            sequences=sequence.sequences,
        )

    def _on_frames(self, method: str, features: Any, frames: Any) -> Explanation:
        """Return maps of relevance: exact where features are averages of a layer, or by Grad-CAM."""
        from chronocam.targets._parse import parse
        from chronocam.targets.composed import over_steps

        targets = over_steps(parse(at_steps(self.targets, self.sequences.steps), 1))
        relevance = self.sequences.relevance(method, features, targets)
        layer = self.layers[0] if self.layers else None
        # Only where a feature is the average of a channel does each map sum to the relevance of its step.
        try:
            return relevance.to_frames(self.loaded.model, frames, layer=layer)
        except LayerError:
            return relevance.to_frames(self.loaded.model, frames, how="gradcam", layer=layer)
