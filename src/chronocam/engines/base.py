"""What an engine is, what it records, and which engine a model gets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from chronocam.errors import LayerError, ModelError, suggest
from chronocam.layouts import Stem
from chronocam.types import Array, Inputs, Window

Score = Callable[[Any, Callable[[], Array]], Array]
"""From the raw outputs and a way to read the logits in them to scores `(batch, target)`."""

Calls = Mapping[str, Sequence[Array]]
"""Layer name to one array per call of the layer."""


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer in a forward pass: its path, its type, its output's shape."""

    path: str
    type: str
    shape: tuple[int, ...]
    changes: bool
    """False for layers that only pass on, drop or resample what they get, and for the model's own output."""


@dataclass(frozen=True)
class Recording:
    """What one pass recorded, in the layers' native layouts and free of any graph.

    `scores` is `(batch, target)`. `activations` hold one array per call of a layer; `gradients`, `guided` and
    `curvature` have a leading target axis: `(target, *activation shape)`. `attention` are the weights
    `(batch, time)` of a model that attends over the frames of a clip, and `attention_gradients`
    ∂score/∂weights `(target, batch, time)`. `attentions` are the weights of every attention within the model,
    in the order of the calls, `(rows, query, key)`, means over heads.
    """

    scores: Array
    activations: Calls
    gradients: Calls = field(default_factory=dict)
    guided: Calls = field(default_factory=dict)
    curvature: Calls = field(default_factory=dict)
    attention: Array = None
    attention_gradients: Array = None
    attentions: tuple[Array, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Clips:
    """What an engine is told of clips.

    frames: how many frames a clip has.
    chunk: run what sees the frames one by one on so many at a time, with exact gradients; None for all at
        once.
    detach_attention: hold attention weights over the frames constant while gradients are taken.
    """

    frames: int
    chunk: int | None = None
    detach_attention: bool = False


@runtime_checkable
class Engine(Protocol):
    """Runs a model and records what methods need; leaves the model as it was found."""

    framework: str
    labels: Sequence[str] | None
    channels_last: bool
    stem: Stem | None

    def resolve(self, layer: Any) -> str:
        """Return the path of a layer given by path, object or index. Raises LayerError for an unknown one."""

    def kernels(self) -> dict[str, Array]:
        """Return the kernels `(filter, channel, *grid)` of every convolution by path, in the order of the model."""

    def adapt(self, inputs: Inputs) -> Inputs:
        """Return inputs as the framework's arrays, where the model is and in its precision."""

    def trace(self, inputs: Inputs) -> list[LayerCall]:
        """Return the layers in the order in which they finish, from a forward pass without gradients."""

    def centers(self, inputs: Inputs, layer: str, grid: Sequence[int]) -> tuple[tuple[float, ...], ...]:
        """Return, per grid axis, the input coordinate at the centre of every cell's receptive field.

        `grid` may leave out the first axes of the input's grid.
        """

    def frame_centers(self, inputs: Inputs, layer: str, rows: int, frame_axis: int) -> tuple[float, ...]:
        """Return at which frame each of the first `rows` of a layer looks, where frames are folded into its batch."""

    def tokens_by_patch(self, inputs: Inputs, like: str, prefix: int, frame_axis: int) -> bool:
        """Say whether the tokens at `like` follow each other in time, patch by patch, and not slice by slice."""

    def windows(
        self, inputs: Inputs, stages: Sequence[Sequence[str]], rank: int
    ) -> dict[str, tuple[Window, ...] | None]:
        """Return one layer per stage, first to last, with what its cells see of the one before it.

        Of a stage's layers the last that leads to the last stage's is taken; a stage without one is left out.
        The windows are along the last `rank` axes, of the operations that change the grid alone, and for the
        first layer of the input; None where the model does not tell.
        """

    def record(
        self,
        inputs: Inputs,
        score: Score,
        layers: Sequence[str],
        *,
        gradients: Sequence[str] = (),
        guided: Sequence[str] = (),
        curvature: Sequence[str] = (),
        attentions: bool = False,
        call: Callable[[Any, Inputs], Any] | None = None,
        clips: Clips | None = None,
    ) -> Recording:
        """Record activations at `layers`, and the other quantities at the layers named for each.

        Layers that the score does not depend on are left out of `gradients` and `guided`. `call(model,
        inputs)` replaces the plain call of the model.
        """


def engine_for(model: Any, output_layer: Any = None) -> Engine:
    """Return an engine for `model`. Raises ModelError for what is no model of a known framework."""
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(
        model, getattr(keras, "Model", ())
    ):  # on PyTorch it is a module as well
        keras_engine: Engine = import_module("chronocam.engines.keras.engine").KerasEngine(
            model, output_layer
        )
        return keras_engine
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        engine: Engine = import_module("chronocam.engines.torch.engine").TorchEngine(model, output_layer)
        return engine
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    if kind.startswith("tf_keras."):
        raise ModelError(
            f"cannot explain a {kind} of Keras 2; save it as .keras or .h5 and load it with Keras 3"
        )
    raise ModelError(f"cannot explain a {kind}; expected a torch.nn.Module or a keras.Model")


def unknown_layer(layer: object, known: Sequence[str]) -> LayerError:
    """Return the error for a layer that does not exist."""
    hint = suggest(str(layer), list(known)) or ";"
    return LayerError(f"no layer `{layer}`{hint} `chronocam layers SPEC` lists them")
