"""What is wrong with maps, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from chronocam.types import TargetInfo


def diagnose(
    raw: np.ndarray,
    kept: np.ndarray,
    scores: np.ndarray,
    infos: Sequence[Sequence[TargetInfo]],
    layer: str,
    start: int = 0,
) -> Iterator[str]:
    """Yield what is wrong with maps, in words: not finite, or zero everywhere and why."""
    for i, k in np.ndindex(*kept.shape[:2]):
        where = f"sample {start + i}, {infos[i][k]}"
        if not (np.isfinite(scores[i, k]) and np.isfinite(raw[i, k]).all()):
            yield f"{where}: the score or the map is not finite; look for NaN or infinity in the inputs and weights"
        elif not raw[i, k].any():
            yield f"{where}: the map is zero everywhere: activations or gradients vanish at `{layer}`"
        elif not kept[i, k].any():
            yield f"{where}: all weighted sums are negative: evidence at `{layer}` lowers this score (see signed=True)"
