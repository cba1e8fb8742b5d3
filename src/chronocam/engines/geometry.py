"""What the cells of a layer see of the input: verbs that an engine may lack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from chronocam.engines.base import Engine, Sight
from chronocam.errors import LayoutError
from chronocam.types import Inputs, Window

Centers: TypeAlias = tuple[float, ...] | None
"""Where the cells along one axis have the centre of what they see, in the input's coordinates."""


@runtime_checkable
class Geometry(Protocol):
    """Finds out what the cells of a layer see of the input.

    Example:
        >>> geometry = cc.engines.geometry_of(cc.engines.engine_for(model))
        >>> geometry.centers(images, "conv1", (16, 16))[0][:3]
        (0.0, 2.0, 4.0)
    """

    @property
    def may_move(self) -> bool:
        """Whether the model may flip, crop or otherwise move places, as `sight` says; True until known."""

    def centers(self, inputs: Inputs, layer: str, grid: Sequence[int]) -> tuple[Centers, ...]:
        """Return, per grid axis, the input coordinate at the centre of every cell's receptive field.

        `grid` may leave out the first axes of the input's grid. None for an axis along which cells see the
        input from border to border, so that what they see has no centre of its own.
        """

    def sight(self, inputs: Inputs, layer: str, rank: int) -> Sight:
        """Return what a layer sees of the input, its cells along the last `rank` axes; from one pass."""

    def frame_centers(self, inputs: Inputs, layer: str, rows: int, frame_axis: int) -> tuple[float, ...]:
        """Return the frame at which each of the first `rows` of a layer with folded frames looks."""

    def tokens_by_patch(self, inputs: Inputs, like: str, prefix: int, frame_axis: int) -> bool:
        """Say whether the tokens at `like` follow each other patch by patch in time, not slice by slice."""

    def windows(
        self, inputs: Inputs, stages: Sequence[Sequence[str]], rank: int
    ) -> dict[str, tuple[Window, ...] | None]:
        """Return one layer per stage, first to last, with what its cells see of the one before it.

        Of a stage's layers the last that leads to the last stage's is taken; a stage without one is left out.
        The windows are along the last `rank` axes, of the operations that change the grid alone, and for the
        first layer of the input; None where they are unknown.
        """


class UnknownGeometry:
    """What an engine answers that knows no geometry; an engine that knows some of it overrides the rest."""

    framework: str

    @property
    def may_move(self) -> bool:
        """Nothing is known that would."""
        return False

    def centers(self, inputs: Inputs, layer: str, grid: Sequence[int]) -> tuple[Centers, ...]:
        """Raise LayoutError."""
        raise LayoutError(
            f"what the cells of layer `{layer}` see of the input is unknown for {self.framework} models; "
            'use align="half_pixel"'
        )

    def sight(self, inputs: Inputs, layer: str, rank: int) -> Sight:
        """Return that nothing is known."""
        return Sight()

    def frame_centers(self, inputs: Inputs, layer: str, rows: int, frame_axis: int) -> tuple[float, ...]:
        """Raise LayoutError."""
        raise LayoutError(
            f'which frames a layer sees is unknown for {self.framework} models; use align="half_pixel"'
        )

    def tokens_by_patch(self, inputs: Inputs, like: str, prefix: int, frame_axis: int) -> bool:
        """Raise LayoutError."""
        raise LayoutError(
            f"the order of the tokens at `{like}` is unknown; give layout=VideoTokens(grid, order=…)"
        )

    def windows(
        self, inputs: Inputs, stages: Sequence[Sequence[str]], rank: int
    ) -> dict[str, tuple[Window, ...] | None]:
        """Return the last layer of each stage, without windows."""
        return {layers[-1]: None for layers in stages}


def geometry_of(engine: Engine) -> Geometry:
    """Return what an engine knows of geometry: itself, or an object that knows nothing.

    Example:
        >>> geometry = cc.engines.geometry_of(cc.engines.engine_for(model))
        >>> geometry.windows(images, [["conv1"], ["conv2"]], 2)["conv1"][0]
        Window(stride=2, low=-1, high=1)
    """
    if isinstance(engine, Geometry):
        return engine
    unknown = UnknownGeometry()
    unknown.framework = engine.framework
    return unknown
