"""Generic attention relevance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from jaxtyping import Float

from chronocam.errors import LayoutError, ModelError
from chronocam.maps.arrays import in_full_precision, namespace
from chronocam.maps.attended import Attended, positive
from chronocam.methods._attention import (
    AttendedMethod,
    check_layers,
    counting,
    divided_in,
    not_on_grid,
    on_grid,
    reading,
)
from chronocam.types import Array, Capture, Need

Divided: TypeAlias = tuple[int, int, int]
Numbered: TypeAlias = Sequence[tuple[int, Attended]]


@dataclass(kw_only=True, eq=False)
class AttentionRelevance(AttendedMethod):
    """Attention relevance of Chefer et al.: what each patch passes on through all attention to the score.

    With Ā = mean over heads of max(∂score/∂A ⊙ A, 0), relevance starts as R_ss = 1 for every row of tokens s
    and R_st = 0 for two of them. Self-attention adds Ā R_st to R_st. Attention of s to another row t adds
    R̂_ssᵀ Ā R̂_tt to R_st, and Ā R_ts to R_ss; R̂ = 1 + (R − 1) with rows that sum to 1. The map is the row of
    the tokens that the score reads: the class token's, the mean of those that a model averages, a query's in
    a decoder (DETR), that of a caption's last token. So it is defined for self-, cross- and co-attention.

    layers: how many of the last attentions count; None is all of them. For CLIP the authors take the last.

    Which tokens a call attends to, its own or others', is read off the graph of the pass. Divided attention
    over space and time (TimeSformer) is composed as matrices over all tokens. A row whose relevance is only
    its own keeps that, where the authors' code divides by zero. Maps are `(batch, target, *grid)`, not
    negative.

    Raises ModelError where tokens become others between two attentions (merged, pooled, cut into windows),
    for which there is no rule: give `layers=`, so that only attention over the last tokens counts.
    Source: Chefer et al. 2021 (arXiv:2103.15679), eq. 5 to 12.

    Example:
    >>> from torchvision.models import VisionTransformer
    >>> vit = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16).eval()
    >>> cc.AttentionRelevance(vit).explain(images).maps.shape
    (2, 1, 4, 4)
    """

    layers: int | None = None
    name: ClassVar[str] = "attentionrelevance"
    needs: ClassVar[tuple[Need, ...]] = (Need(gradients=False, attended=True),)

    def __post_init__(self) -> None:
        check_layers(self.layers)
        super().__post_init__()

    def attributed(self, capture: Capture, target: int) -> Float[Any, batch * grid]:
        """Return the row of the tokens that are read, over the patches."""
        calls = counting(capture, self.name)
        calls = calls if self.layers is None else calls[-self.layers :]
        shapes = [call.shape for _, call in calls]
        divided = divided_in(shapes, capture)
        try:
            if divided is not None:
                return on_grid(capture, _through_divided(calls, target, divided), divided)
            return self._composed(capture, calls, target)
        except LayoutError as error:
            raise not_on_grid(capture, self.name, shapes) from error

    def _composed(self, capture: Capture, calls: Numbered, target: int) -> Float[Any, batch * grid]:
        streams = Streams(calls)
        last: LayoutError | None = None
        for stream in range(len(streams.sizes)):
            row = streams.row(stream, target)
            if row is None:
                continue
            try:
                return on_grid(capture, row, None)
            except LayoutError as error:
                last = error
        raise last or LayoutError("no tokens are read")


class Streams:
    """The rows of tokens that attend, to themselves and to each other.

    sizes: `(row, token)` of each. of: for each call the stream of its queries and that of its keys.
    """

    def __init__(self, calls: Numbered) -> None:
        self.calls = calls
        self.sizes: list[tuple[int, int]] = []
        self.of: list[tuple[int, int]] = []
        self._made: dict[Any, int] = {}  # the streams by what they are known by, a call's number above all
        for number, call in calls:
            rows, queries, keys = call.shape
            asks, given = self._names(number, call)
            self.of.append((self._stream(asks, (rows, queries)), self._stream(given, (rows, keys))))
            self._made[number] = self._made["asks", rows, queries, keys] = self._made[asks]

    def _names(self, number: int, call: Attended) -> tuple[Any, Any]:
        """Return what the streams of the queries and of the keys of a call are known by."""
        rows, queries, keys = call.shape
        asked, given = call.sources
        if asked == given == -1 and queries == keys:
            return (number, number)
        if asked == given == -1 and ("asks", rows, keys, queries) in self._made:
            # Two streams that begin with attention to each other: what was given before asks now.
            return ("given", rows, queries), ("asks", rows, keys, queries)
        return number if asked < 0 else asked, ("given", rows, keys) if given < 0 else given

    def _stream(self, source: Any, size: tuple[int, int]) -> int:
        if source not in self._made:
            self.sizes.append(size)
            self._made[source] = len(self.sizes) - 1
        stream = self._made[source]
        if self.sizes[stream] != size:
            (rows, tokens), (others, before) = size, self.sizes[stream]
            raise ModelError(
                f"attention over {tokens} tokens in {rows} rows follows one over {before} in {others}, and "
                "what became of them in between has no rule in attentionrelevance; give layers= so that only "
                "attention over the last tokens counts, or choose legrad or gradcam"
            )
        return stream

    def row(self, stream: int, target: int) -> Float[Any, "row token"] | None:
        """Return the relevance of the tokens of a stream for what the score reads; None for no relevance."""
        every = list(zip(self.calls, self.of, strict=True))
        own = [call for (_, call), pair in every if pair == (stream, stream)]
        if own and not any(stream in pair for pair in self.of if pair != (stream, stream)):
            return _through(own, target)
        relevance, total = self._relevance(target), None
        for number, call in self._ends():
            over = relevance[number].get(stream)
            if over is not None:
                row = _product(reading(call, target)[:, None], over)[:, 0]
                total = row if total is None else total + row
        return total

    def _ends(self) -> list[tuple[int, Attended]]:
        """Return the last calls of the streams that no later call attends to: there the score reads."""
        ends = []
        for stream in range(len(self.sizes)):
            asking = [at for at, (asks, _) in enumerate(self.of) if asks == stream]
            asked = [at for at, (asks, keys) in enumerate(self.of) if keys == stream != asks]
            if asking and asking[-1] > max(asked, default=-1):
                ends.append(self.calls[asking[-1]])
        return ends

    def _relevance(self, target: int) -> dict[int, dict[int, Array]]:
        """Return, for the tokens that each call makes, their relevance R over those of each stream."""
        made: dict[int, dict[int, Array]] = {}
        for (number, call), (asks, keys) in zip(self.calls, self.of, strict=True):
            mixed = positive(call, call.weigh(), target)
            queries, held = (
                made.get(source, {stream: _ones(mixed, self.sizes[stream])})
                for source, stream in zip(call.sources, (asks, keys), strict=True)
            )
            after = dict(queries)
            for stream, over in held.items():
                if asks != keys == stream:
                    mine = namespace(mixed).matrix_transpose(_normalised(queries[asks]))
                    added = _product(_product(mine, mixed), _normalised(over))
                else:
                    added = _product(mixed, over)
                after[stream] = after[stream] + added if stream in after else added
            made[number] = after
        return made


def _ones(like: Array, size: tuple[int, int]) -> Float[Any, "row token token"]:
    xp = namespace(like)
    eye = xp.eye(size[1], dtype=like.dtype, device=getattr(like, "device", None))
    return xp.broadcast_to(eye, (size[0], size[1], size[1]))


@in_full_precision
def _product(a: Array, b: Array) -> Array:
    return namespace(a).matmul(a, b)


def _normalised(relevance: Float[Any, "row token token"]) -> Array:
    """Return 1 + (R − 1) with rows that sum to 1, and rows of 1 alone as they are."""
    xp, eye = namespace(relevance), _ones(relevance, relevance.shape[:2])
    added = relevance - eye
    sums = xp.sum(added, axis=2, keepdims=True)
    return eye + added / xp.where(sums == 0, xp.ones_like(sums), sums)


def _through(calls: Sequence[Attended], target: int) -> Float[Any, "row token"]:
    """Return e (1 + Ā_L) ⋯ (1 + Ā_1), e the tokens that are read: a vector times matrix after matrix."""
    row = reading(calls[-1], target)
    for call in reversed(calls):
        row = row + _product(row[:, None], positive(call, call.weigh(), target))[:, 0]
    return row


def _through_divided(calls: Numbered, target: int, divided: Divided) -> Float[Any, "batch token"]:
    """Return the same for attention within each patch, `(batch · patch, time, time)`, and within each frame.

    Tokens are those before the patches, then all patches of the first frame, and so on. Every frame holds a
    copy of the tokens before the patches; what one of them attends to is what all do together.
    """
    time, patches, prefix = divided
    read = reading(calls[-1][1], target)
    xp, batch = namespace(read), read.shape[0] * read.shape[1] // (time * (prefix + patches))
    if read.shape[1] == time:
        batch = read.shape[0] // patches
        first = xp.zeros((batch, prefix), dtype=read.dtype, device=getattr(read, "device", None))
        rest = xp.matrix_transpose(xp.reshape(read / patches, (batch, patches, time)))
    else:
        read = xp.reshape(read, (batch, time, -1))
        first, rest = xp.mean(read[:, :, :prefix], axis=1), read[:, :, prefix:] / time
    for _, call in reversed(calls):
        mixed = positive(call, call.weigh(), target)
        if mixed.shape[1] == time and mixed.shape[0] == batch * patches:
            mixed = xp.reshape(mixed, (batch, patches, time, time))
            added = _product(xp.matrix_transpose(rest)[:, :, None], mixed)[:, :, 0]
            rest = rest + xp.matrix_transpose(added)
            continue
        mixed = xp.reshape(mixed, (batch, time, prefix + patches, prefix + patches))
        copies = xp.broadcast_to(first[:, None], (batch, time, prefix))
        added = _product(xp.concat([copies, rest], axis=2)[:, :, None], mixed)[:, :, 0]
        first, rest = first + xp.sum(added[:, :, :prefix], axis=1), rest + added[:, :, prefix:]
    return xp.concat([first, xp.reshape(rest, (batch, -1))], axis=1)
