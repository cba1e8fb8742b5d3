"""What the joint needs to know of a method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from chronocam.types import Array, LayerLike, Model, Need, Target, TargetInfo, View

if TYPE_CHECKING:
    from chronocam.joint.session import Session


@runtime_checkable
class Recipe(Protocol):
    """A method with its options, as the joint sees it; `chronocam.methods.Method` says what each means."""

    name: ClassVar[str]
    needs: ClassVar[tuple[Need, ...]]
    default_layer: ClassVar[str | None]
    maps_input: ClassVar[bool]
    class_agnostic: ClassVar[bool]

    model: Model
    conv_layer: LayerLike | list[LayerLike] | None
    output_layer: LayerLike | None
    operator: Callable[..., Array] | str | None
    batch_size: int | None
    layout: Any
    align: str
    chunk_frames: int | None
    detach_attention: bool
    labels: Sequence[str] | None
    preprocess: Callable[[Any], Array] | None
    on: int | str | None
    frames: int | None
    fuse: str
    views: str | None
    fast: bool
    precision: str | None
    session: Session

    def retarget(self, target: Target) -> Target:
        """Return the target whose score is differentiated instead."""

    def keeps_signs(self, info: TargetInfo) -> bool:
        """Say whether negative values stay in the map of this target."""

    def maps(self, view: View) -> Array:
        """Return maps `(batch, target, *grid)`, before any ReLU."""
