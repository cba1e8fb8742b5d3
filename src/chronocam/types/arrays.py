"""Names of what is passed around: arrays, models, layers, inputs; and a function as a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

Array: TypeAlias = Any
"""An array of any framework that array-api-compat knows (NumPy, PyTorch, JAX, …)."""


Change: TypeAlias = Callable[[Array], Array]
"""Returns an array of the same shape, changed."""


Model: TypeAlias = Any
"""A `torch.nn.Module` or a `keras.Model`."""


LayerLike: TypeAlias = Any
"""A layer by its dotted path, by its index among the top-level layers, or the layer itself."""


Targets: TypeAlias = Any
"""What `targets=` takes; see `chronocam.explain`."""


Media: TypeAlias = Any
"""What is drawn on: pictures or clips, one per sample, as files hold them or as a model takes them."""


Inputs: TypeAlias = Any
"""What a model is called with: one array, or a tuple or dict of them (several inputs)."""


INPUT = "input"
"""The layer name under which pixel-level maps are recorded: the model's own input."""


Pool: TypeAlias = Literal["clip", "frame"]
"""Over what weights are averaged: a whole clip, or each of its time slices by itself."""


Rows: TypeAlias = slice | np.ndarray
"""Which samples of a call a batch holds: a slice, or their numbers, where some come several times."""


@dataclass(eq=False)
class BlackBox:
    """A function from arrays to scores as a model; see `chronocam.blackbox`.

    labels: the names of the classes.
    channels_last: whether it takes inputs with their channels last.
    stem: how many axes the grid has that it sees at once (2 for frames, 3 for clips), and how many channels;
        None where that is not known.
    axes: the order of the axes of one input, a letter each, as `cc.blackbox` takes it; None where it was not
        said.
    why: the reason, for messages, why it gives nothing but scores.

    Example:
        >>> cc.engines.engine_for(cc.engines.BlackBox(lambda x: x.mean((2, 3)))).framework
        'black box'
    """

    function: Callable[..., Any]
    labels: Sequence[str] | None = None
    channels_last: bool = False
    stem: tuple[int, int] | None = None
    axes: str | None = None
    why: str = "a black box has no layers and no gradients"
