"""The attention of a Keras model, in the order of its calls, and what a score owes to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from chronocam.engines.keras.attention import (
    LAYERS,
    OUTPUT,
    PARTS,
    asks_by_product,
    by_head,
    joins,
    part,
    seen_by,
    weights_by_head,
)
from chronocam.engines.keras.backend import Backend, Mark
from chronocam.engines.keras.layers import Nodes
from chronocam.engines.keras.program import BackendRecording, Program
from chronocam.engines.keras.taps import all_frames
from chronocam.engines.recording import Request
from chronocam.errors import ModelError
from chronocam.maps.arrays import namespace
from chronocam.maps.attended import Attended, Sources, latest
from chronocam.types import Array, Inputs


@dataclass(frozen=True)
class AttentionCalls:
    """In what order layers attend.

    paths: of the layer of each call. sources: of each call, see `Attended`.
    """

    paths: Sequence[str]
    sources: Sequence[tuple[Sources, Sources]]

    @property
    def numbered(self) -> list[tuple[str, int]]:
        """The path of each call, and its number among those of its layer."""
        return [(path, self.paths[:i].count(path)) for i, path in enumerate(self.paths)]

    def taps(self, nodes: Nodes, request: Request) -> list[str]:
        """Return the names under which the parts that are asked for are tapped."""
        names = PARTS if request.attended else ("value", "weights") if request.attentions else ()
        return [
            part(path, name)
            for path in dict.fromkeys(self.paths)
            for name in names
            if name not in ("query", "key") or asks_by_product(nodes[path])
        ]

    def seen(
        self, backend: Backend, nodes: Nodes, recording: BackendRecording, request: Request
    ) -> dict[str, Any]:
        """Return what a `Recording` holds of all attention, by name."""
        found: dict[str, Any] = {}
        if request.attentions:
            each = [weights_in(nodes, recording, *call) for call in self.numbered]
            found["attentions"] = tuple(namespace(weights).mean(weights, axis=1) for weights in each)
        if request.attended:
            every = zip(self.numbered, self.sources, strict=True)
            found["attended"] = tuple(
                attended_in(backend, nodes, recording, *call, sources) for call, sources in every
            )
        return found


def attended_in(
    backend: Backend,
    nodes: Nodes,
    recording: BackendRecording,
    path: str,
    number: int,
    sources: tuple[Sources, Sources] = ((), ()),
) -> Attended:
    """Return a call of attention as it was recorded, by the path of its layer and its number among those."""
    node, gradients = nodes[path], recording.gradients.get(part(path, OUTPUT))
    of = {
        name: by_head(recording.activations[part(path, name)][number], node)
        for name in ("value", "query", "key")
        if part(path, name) in recording.activations
    }
    return Attended(
        of["value"],
        partial(weights_in, nodes, recording, path, number),
        None if gradients is None else by_head(gradients[number], node, lead=1),
        of.get("query"),
        of.get("key"),
        joins(node, backend.out),
        sources,
    )


def weights_in(nodes: Nodes, recording: BackendRecording, path: str, number: int) -> Array:
    """Return the weights of a call, `(row, head, query, key)`, in float32 at least."""
    weights, value = (recording.activations[part(path, name)][number] for name in ("weights", "value"))
    weights = weights_by_head(weights, by_head(value, nodes[path]))
    xp = namespace(weights)
    return xp.astype(weights, xp.float32) if "16" in str(weights.dtype) else weights


def attention_in(backend: Backend, program: Program, inputs: Inputs) -> AttentionCalls:
    """Return the calls of attention in a forward pass. Raises ModelError for a model without any."""
    paths: list[str] = []

    def run(inputs: Inputs, mark: Mark) -> list[Array]:
        paths.clear()
        made: list[Array] = []

        def see(path: str, parts: Mapping[str, Array]) -> Array:
            paths.append(path)
            made.extend([parts.get("query", parts["weights"]), parts["value"]])
            return mark(len(paths) - 1, parts[OUTPUT])

        wraps = {
            path: [*all_frames(node), *([seen_by(partial(see, path))] if isinstance(node, LAYERS) else [])]
            for path, node in program.nodes.items()
        }
        program.run(inputs, wraps)
        return made

    made_of = backend.made_of(run, program, inputs)
    if not paths:
        raise ModelError(
            "the model runs no attention layer of Keras (MultiHeadAttention, GroupQueryAttention, Attention, "
            "AdditiveAttention), and attention that is written out cannot be read; choose a gradient method "
            "such as gradcam"
        )
    pairs = list(zip(made_of[::2], made_of[1::2], strict=True))
    before = [asked | given for asked, given in pairs]
    return AttentionCalls(paths, [(latest(asked, before), latest(given, before)) for asked, given in pairs])
