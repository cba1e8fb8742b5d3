"""What one pass is asked for, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from chronocam.maps.attended import Attended
from chronocam.types import Array, Inputs


@dataclass(frozen=True)
class Result:
    """What a model returned for one batch, as a score function sees it.

    raw: the output as the model returned it.
    logits: returns the main output `(batch, …)`, before a final softmax or sigmoid.
    outputs: what the modules in `reads` returned, by path, one entry per call.
    gate: the final softmax, log-softmax or sigmoid before which logits are read; None where there is none.
    returned: returns the main output as the model returned it; None where that is the logits.

    Example:
        >>> scores = lambda result: result.logits()[:, :2]
        >>> tuple(cc.engines.engine_for(model).scores(images, scores).shape)
        (2, 2)
    """

    raw: Any
    logits: Callable[[], Array]
    outputs: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    gate: str | None = None
    returned: Callable[[], Array] | None = None


Score: TypeAlias = Callable[[Result], Array]
"""Makes scores `(batch, target)` of what a model returned."""

Call: TypeAlias = Callable[[Any, Inputs], Any]
"""`call(model, inputs)`, in the place of a plain call of the model."""

Entry: TypeAlias = tuple[int | str, ...]
"""Indices and keys that lead to one of several inputs."""

Feed: TypeAlias = Callable[[Inputs], Inputs]
"""Makes of the inputs that are looked at what the model gets, as of clips the pictures in them."""

Calls: TypeAlias = Mapping[str, Sequence[Array]]
"""Layer name to one array per call of the layer."""


@dataclass(frozen=True)
class Recording:
    """What one pass recorded, in the layers' native layouts and free of any graph.

    scores: `(batch, target)`.
    activations: one array per call of each layer.
    gradients, guided, curvature: `(target, *activation shape)` per call of each layer; see `Request`.
    attention: the weights `(batch, time)` of a model that attends over the frames of a clip.
    attention_gradients: ∂score/∂weights, `(target, batch, time)`.
    attentions: the weights of every attention within the model in the order of the calls,
        `(rows, query, key)`, means over heads.
    attended, blocks: every attention, and those of each block of the last row; see `Request`.
    rests: of a model after each layer that it is to be resumed from.
    notes: what a user should know about the scores.

    Example:
        >>> request = cc.engines.Request(["conv2"], gradients=["conv2"])
        >>> recording = cc.engines.engine_for(model).record(images, lambda result: result.logits(), request)
        >>> tuple(recording.scores.shape), tuple(recording.gradients["conv2"][0].shape)
        ((2, 3), (3, 2, 6, 8, 8))
    """

    scores: Array
    activations: Calls
    gradients: Calls = field(default_factory=dict)
    guided: Calls = field(default_factory=dict)
    curvature: Calls = field(default_factory=dict)
    attention: Array = None
    attention_gradients: Array = None
    attentions: tuple[Array, ...] = ()
    attended: tuple[Attended, ...] = ()
    blocks: tuple[tuple[Attended, ...], ...] = ()
    rests: Mapping[str, Resumed] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipOptions:
    """How an engine treats clips.

    frames: how many frames a clip has.
    chunk: run the part that sees frames one by one on so many at a time, with exact gradients; None for all
        at once.
    detach_attention: hold attention weights over the frames constant while gradients are taken.

    Example:
        >>> clip_options = cc.engines.ClipOptions(frames=8, chunk=2)
        >>> cc.engines.Request(["conv1"], clips=clip_options).clips.frames
        8
    """

    frames: int
    chunk: int | None = None
    detach_attention: bool = False


@dataclass(frozen=True)
class Request:
    """What one pass shall record, and how the model is run for it.

    layers: where activations are recorded; the layers named below are among them.
    gradients: where ∂score/∂activations are.
    guided: where gradients through guided ReLUs are.
    curvature: where the Hessian of the score times the activations is.
    reads: modules whose outputs the score function reads, in `Result.outputs`.
    resumes: from which of the layers the model is to be resumed, as by `Engine.resume`.
    attentions: whether the weights of every attention within the model are recorded.
    attended: whether every attention is, with the gradients of the score. origins: whether also which token
        of one became which of the next, where there are more or fewer.
    blocks: scores what the head makes of the tokens of one block; given, the attention of every block of the
        model's last row of them is recorded with the gradients of its own score. None where it is not.
    call: replaces the plain call of the model.
    clips: how clips are treated; None for other inputs.
    entry: which of several inputs the layer `input` is, by the indices and keys that lead to it; None is the
        first of floating point.
    wanted: says, once there are scores, of which of them a layer's gradients are needed; those of others may
        be zero. None for all.

    Example:
        >>> cc.engines.Request(["conv1", "conv2"], gradients=["conv2"]).differentiates
        True
    """

    layers: Sequence[str] = ()
    gradients: Sequence[str] = ()
    guided: Sequence[str] = ()
    curvature: Sequence[str] = ()
    reads: Sequence[str] = ()
    resumes: Sequence[str] = ()
    attentions: bool = False
    attended: bool = False
    origins: bool = False
    blocks: Score | None = None
    call: Call | None = None
    clips: ClipOptions | None = None
    entry: Entry | None = None
    wanted: Callable[[str], Sequence[int]] | None = None

    @property
    def differentiates(self) -> bool:
        """Whether any gradient is asked for."""
        return bool(self.gradients or self.guided or self.curvature or self.attended or self.blocks)

    @property
    def only_gradients(self) -> bool:
        """Whether the gradients at its layers are all that is asked for, of a plain call of the model."""
        recorded = self.guided, self.curvature, self.resumes, self.sees_attention
        how = self.reads, self.call, self.clips, self.entry, self.wanted
        return list(self.layers) == list(self.gradients) and not any((*recorded, *how))

    @property
    def sees_attention(self) -> bool:
        """Whether anything of attention is asked for."""
        return self.attentions or self.attended or self.blocks is not None


@runtime_checkable
class Resumed(Protocol):
    """The rest of a model after one of its layers; `resumed(activations, score)` runs it.

    activations: what the layer returned for the inputs, one per call, in its native layout.

    Example:
        >>> resumed = cc.engines.engine_for(model).resume(images, "conv2")
        >>> changed = torch.cat([resumed.activations[0] * 0, resumed.activations[0]])
        >>> tuple(resumed(changed, lambda result: result.logits()).shape)
        (4, 3)
    """

    activations: Sequence[Array]

    def __call__(self, activations: Array | Sequence[Array], score: Score) -> Array:
        """Return the scores `(change · batch, target)` for changed activations.

        activations: one array per call of the layer, or the only one; `(change · row, …)` where the layer
            returned `(row, …)`, all rows of the first change first.
        """

    def without(self, channels: Sequence[int], axis: int, calls: int, score: Score) -> Array:
        """Return the scores `(channel · batch, target)` with each channel set to zero, one at a time.

        axis: that of the channels. calls: in how many of the layer's calls they are, the last ones.
        """

    def masked(self, masks: np.ndarray, score: Score) -> Array:
        """Return the scores `(mask · batch, target)` with what the last call returned times each mask.

        masks: `(mask, *grid)`, of a layer that returns `(row, channel, *grid)`.
        """


def as_given(inputs: Inputs) -> Inputs:
    """Return inputs as they are: what most models are fed."""
    return inputs


def changed_at(inputs: Inputs, entry: Entry, change: Callable[[Array], Array]) -> Inputs:
    """Return inputs after a change of one of them."""
    if not entry:
        return change(inputs)
    if isinstance(inputs, Mapping):
        return {
            key: changed_at(one, entry[1:], change) if key == entry[0] else one for key, one in inputs.items()
        }
    parts = list(inputs)
    parts[int(entry[0])] = changed_at(parts[int(entry[0])], entry[1:], change)
    return parts if isinstance(inputs, list) else tuple(parts)
