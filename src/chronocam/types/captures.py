"""What a method needs recorded, and what it is given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from chronocam.types.arrays import Array, Change


@dataclass(frozen=True)
class Need:
    """One thing a method needs recorded: gradients or only activations, at its layer or at the input.

    gradients: ∂score/∂activations, and not the activations alone.
    guided: gradients through guided ReLUs.
    curvature: the Hessian of the score times the activations.
    attentions: the weights of every attention of the model.
    attended: every attention of the model, with the gradients of the score. origins: also which token of one
        became which of the next, where there are more or fewer.
    blocks: every attention of its last row of blocks, with the gradients of each block's own score.
    stages: activations of the layers before it too, the last on each grid.
    biases: what every layer adds to what is proportional to its input, times ∂score/∂output.
    resumes: what came before the layer as well, so that `View.resume` need not run it again.

    Example:
    >>> cc.GuidedGradCAM.needs == (cc.types.Need(), cc.types.Need(at_input=True, guided=True))
    True
    """

    at_input: bool = False
    gradients: bool = True
    guided: bool = False
    curvature: bool = False
    attentions: bool = False
    attended: bool = False
    origins: bool = False
    blocks: bool = False
    stages: bool = False
    biases: bool = False
    resumes: bool = False


class Window(NamedTuple):
    """What a layer's cell i sees of an earlier grid along one axis: stride·i + low to stride·i + high.

    Example:
    >>> cc.types.Window(stride=2, low=-1, high=1)  # of a 3 × 3 convolution of stride 2 and padding 1
    Window(stride=2, low=-1, high=1)
    """

    stride: int
    low: int
    high: int


@dataclass(frozen=True)
class Stage:
    """One of the layers after which the grid shrinks.

    activations: `(batch, channel, *grid)`.
    before: the grid of the stage before it, or of the input.
    windows: what its cells see of that grid, over its last axes; None where the model does not say.

    Example:
    >>> cc.types.Stage(np.ones((1, 2, 4, 4)), (8, 8), (cc.types.Window(2, -1, 1),) * 2).before
    (8, 8)
    """

    activations: Array
    before: tuple[int, ...]
    windows: tuple[Window, ...] | None


@dataclass(frozen=True)
class Capture:
    """What one pass recorded at one layer, on the layer's grid.

    activations: `(batch, channel, *grid)`.
    gradients: ∂score/∂activations, `(batch, target, channel, *grid)`; None where only activations were
        needed.
    curvature: the Hessian of the score times the activations, shaped like the gradients; None unless needed.
    attentions: the weights of every attention of the model, first to last, `(rows, query, key)`, means over
        heads.
    layout_of: returns the layout of an array of tokens, given its shape `(rows, token, channel)` and their
        order (None to find it out).
    links: returns where each of the attentions stands among the others, `chronocam.maps.attended.Link`; found
        out once per model, by a pass that holds a graph.
    attended: every attention, first to last, with ∂score/∂output; `chronocam.maps.attended.Attended`.
    blocks: those of each block of the last row, with the gradients of the scores that the head gives the
        block's tokens.
    stages: the last layer on each grid, from the input to this layer; empty unless needed.
    biases: what every layer adds times ∂score/∂output, `(batch, target, channel, *grid)`; of layers without a
        grid `(batch, target, value)`. Empty unless needed.

    Example:
    >>> capture = cc.types.Capture(np.ones((1, 2, 4, 4)), gradients=np.ones((1, 3, 2, 4, 4)))
    >>> cc.GradCAM(model).weights(capture).shape
    (1, 3, 2)
    """

    activations: Array
    gradients: Array = None
    curvature: Array = None
    attentions: tuple[Array, ...] = ()
    layout_of: Any = None
    links: Any = None
    attended: tuple[Any, ...] = ()
    blocks: tuple[tuple[Any, ...], ...] = ()
    stages: tuple[Stage, ...] = ()
    biases: tuple[Array, ...] = ()


@runtime_checkable
class View(Protocol):
    """What a method gets: the captures it needs, and ways to look again at changed inputs and activations.

    Example:
    >>> class Occluded(cc.methods.CAMMethod):
    ...     def maps(self, view):
    ...         (score,) = view.scores([lambda x: x * 0])  # of black pictures
    ...         return score[:, :, None, None] * view.captures[0].activations.mean(1, keepdim=True)
    """

    @property
    def captures(self) -> tuple[Capture, ...]:
        """One capture per need, in the order of the method's `needs`."""

    @property
    def targets(self) -> int:
        """How many targets are explained per sample."""

    @property
    def by_feature(self) -> bool:
        """Whether the input is a sequence, captured as `(batch, 1, time, feature)`, each feature a place."""

    interval: Array
    """Half-widths of 95 % intervals, shaped like the maps, which a method sets that knows them; else None."""

    def note(self, text: str) -> None:
        """Add a remark, in a sentence, to the explanation's findings."""

    def on_main(self, change: Change) -> Change:
        """Return the change of the inputs that is one of the explained input, `(batch, channel, *grid)`."""

    def laid(self, values: Any) -> Array:
        """Return values shaped like samples of the explained input, or one, as `(n, channel, *grid)`.

        Raises InputError where they are shaped otherwise.
        """

    def upsample(self, maps: Array) -> Array:
        """Return maps of the method's layer on the input's grid, aligned as `align=` says."""

    def again(self, change: Change) -> tuple[Capture, ...]:
        """Record the same needs and targets once more, after `change` of every floating-point input."""

    def scores(self, changes: Iterable[Change]) -> Array:
        """Return the targets' scores `(change, batch, target)` after each change of the inputs.

        A change is of every floating-point input, as for `again`. No gradient is taken. As many samples go
        through the model at once as the method's `batch_size` says.
        """

    def resume(self, changes: Iterable[Change]) -> Array:
        """Return the targets' scores `(change, batch, target)` after each change of the layer's activations.

        A change is of `(batch, channel, *grid)`, the time slices of clips together; what the layout drops (a
        class token) stays as it is. What precedes the layer runs once; for a method that has a need with
        `resumes`, in the pass that is recorded anyway.
        """

    def without(self, channels: Iterable[int]) -> Array:
        """Return the targets' scores `(channel, batch, target)` without each channel of the layer's output.

        A channel is set to zero wherever it is, in all frames and tokens. What precedes the layer runs once.
        """

    def masked(self, masks: Iterable[np.ndarray]) -> Array:
        """Return the targets' scores `(mask, batch, target)` of the layer's output times each mask.

        A mask is `(*grid)`, the same for all channels and samples. What precedes the layer runs once.
        """
