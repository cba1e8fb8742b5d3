"""What all records of features can do: be drawn, and be written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8

from chronocam.errors import LayerError, MediaError
from chronocam.media.files import replace_file
from chronocam.render import save_figure
from chronocam.render.sheets.features import rasterised
from chronocam.types import INPUT, Array

_PICTURES: Final = (".png", ".jpg", ".jpeg", ".pdf", ".svg")


class Drawn:
    """A record with a sheet of pictures, which its `plot` returns as a matplotlib Figure."""

    plot: Callable[..., Any]

    def arrays(self) -> Mapping[str, Array]:
        """Return what `.npz` keeps."""
        raise NotImplementedError(f"{type(self).__name__} must define arrays()")

    def picture(self, **options: Any) -> UInt8[np.ndarray, "height width 3"]:
        """Return what `plot` draws with the same options, as RGB."""
        return rasterised(self.plot(**options))

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write the record: `.npz` keeps the numbers, a picture's suffix draws `plot(**options)`.

        Raises MediaError for another suffix or a place that cannot be written; files are written atomically.
        """
        path = Path(path)
        if path.suffix.lower() == ".npz":
            return replace_file(path, lambda temporary: np.savez_compressed(temporary, **self.arrays()))
        if path.suffix.lower() not in _PICTURES:
            raise MediaError(f"cannot save as `{path.name}`; expected .npz or one of {', '.join(_PICTURES)}")
        return save_figure(self.plot(**options), path)


def insist_on_layer(path: str) -> str:
    """Return the path of a layer; raises LayerError where it is the input itself."""
    if path == INPUT:
        raise LayerError(
            f"`{INPUT}` is what the model is given, and has no channels of its own; name a layer"
        )
    return path
