"""Generic attention relevance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, TypeAlias

import numpy as np
from jaxtyping import Float

from chronocam.errors import LayoutError, ModelError
from chronocam.maps.arrays import in_full_precision, like, namespace
from chronocam.maps.attended import Attended, Sources, positive
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
Tokens: TypeAlias = Sequence[tuple[Any, int]]
Relevance: TypeAlias = dict[int, Array]


@dataclass(kw_only=True, eq=False)
class AttentionRelevance(AttendedMethod):
    """Attention relevance of Chefer et al.: what each patch passes on through all attention to the score.

    With Ā = mean over heads of max(∂score/∂A ⊙ A, 0), relevance starts as R_ss = 1 for every row of tokens s
    and R_st = 0 for two of them. Self-attention adds Ā R_st to R_st. Attention of s to another row t adds
    R̂_ssᵀ Ā R̂_tt to R_st, and Ā R_ts to R_ss; R̂ = 1 + (R − 1) with rows that sum to 1. A class token that
    joins later, or that alone attends (CaiT), adds as in self-attention. The map is the row of
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
    needs: ClassVar[tuple[Need, ...]] = (Need(gradients=False, attended=True, origins=True),)

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
        fit: list[Array] = []
        for stream in range(len(streams.sizes)):
            row = streams.row(stream, target) if streams.of_input[stream] else None
            if row is None:
                continue
            try:
                fit.append(on_grid(capture, row, None))
            except LayoutError as error:
                last = error
            if fit and fit[0].ndim > 2:  # a picture's tokens attend before queries that read them
                break
        if len(fit) > 1:
            raise ModelError(
                f"{len(fit)} rows of {fit[0].shape[1]} tokens attend, and which of them is the input's is "
                "not known; give a text of another length, or choose gradientxattention"
            )
        if not fit:
            raise last or LayoutError("no tokens are read")
        return fit[0]


class Streams:
    """The streams of tokens of a model, such as those of a picture and of a text, and how they attend.

    A token is named by what made it and its number there: the call of attention that it comes out of, or a
    key such as `("first", call)` for tokens that no attention has made yet. Streams are numbers.

    sizes: `(row, token)` of each stream at its beginning. of_input: whether its tokens may be those of the
        input. tokens: for each call its queries and its keys, by
        their names. of: for each call the stream of its queries, and those of its keys.
    """

    def __init__(self, calls: Numbered) -> None:
        self.calls = calls
        self.sizes: list[tuple[int, int]] = []
        self.of_input: list[bool] = []
        self.tokens: list[tuple[Tokens, Tokens]] = []
        self.of: list[tuple[int, set[int]]] = []
        self._homes: dict[Any, int] = {}  # the stream of the tokens of each name
        self._made: dict[Any, int] = {}  # how many tokens each call makes
        for number, call in calls:
            rows, queries, keys = call.shape
            before = self._names(number, call)
            asks, given = (self._tokens(number, call, side, before) for side in range(2))
            for tokens, of_input in zip((asks, given), call.of_input, strict=True):
                self._begin(rows, tokens, of_input)
            homes = [self._homes[name] for name, _ in asks if name in self._made] or [self._homes[asks[0][0]]]
            self.tokens.append((asks, given))
            self.of.append((homes[0], {self._homes[name] for name, _ in given}))
            self._homes[number], self._made[number] = homes[0], queries
            self._homes["asks", rows, queries, keys] = homes[0]

    def _names(self, number: int, call: Attended) -> tuple[Any, Any]:
        """Return the names of the queries and of the keys of a call, where each are of one stream."""
        rows, queries, keys = call.shape
        asked, given = (
            self._together(sources if origins is None else sources[-1:])
            for sources, origins in zip(call.sources, call.origins, strict=True)
        )
        if asked is given is None and queries == keys and call.of_input[0] == call.of_input[1]:
            return ("first", number), ("first", number)
        if asked is given is None and ("asks", rows, keys, queries) in self._homes:
            # Two streams that begin with attention to each other: what was given before asks now.
            return ("given", rows, queries), ("asks", rows, keys, queries)
        queried = ("first", number) if asked is None else asked
        return queried, ("given", rows, keys) if given is None else given

    def _together(self, sources: Sources) -> Any:
        """Return the name of the tokens that attentions side by side make together; None for no attention."""
        counted = tuple(call for call in sources if call in self._made) or sources
        if len(counted) < 2 or counted in self._made or counted[0] not in self._made:
            return counted if len(counted) > 1 else counted[0] if counted else None
        if any(self._asked(call) != self._asked(counted[0]) for call in counted):
            raise ModelError(
                f"{len(counted)} attentions side by side are joined, and whether they are of the same "
                "tokens is not known; give layers= so that only later attention counts, or choose legrad"
            )
        self._homes[counted], self._made[counted] = self._homes[counted[0]], self._made[counted[0]]
        return counted

    def _asked(self, number: int) -> Tokens:
        """Return the queries of a call by its number."""
        return next(
            asks for (other, _), (asks, _) in zip(self.calls, self.tokens, strict=False) if other == number
        )

    def _tokens(self, number: int, call: Attended, side: int, names: tuple[Any, Any]) -> Tokens:
        """Return the names of the queries (side 0) or the keys (1) of a call, token by token."""
        origins, count = call.origins[side], call.shape[1 + side]
        if side == 1 and origins is None and names[0] == ("first", number) != names[1]:
            origins = self._as_later(call)
        if origins is None:
            self._refuse_others(names[side], count, call)
            return [(names[side], at) for at in range(count)]
        fresh = iter(range(count))
        new = int((origins[:, 0] < 0).sum())
        first, queries = names[0] == ("first", number), call.origins[0]
        asked = call.shape[1] if first else 0 if queries is None else int((queries[:, 0] < 0).sum())
        # As many new keys as there are new queries are the same tokens; others may be given again.
        name: Any = ("new", number, new) if side == 0 or new == asked else ("given", call.shape[0], new)
        name = names[0] if side == 1 and first and new == asked else name
        own = names[0] if call.origins[side] is None else None  # where a later call has said what they are
        pairs = origins.tolist()
        return [(name, next(fresh)) if before < 0 else (own or before, at) for before, at in pairs]

    def _as_later(self, call: Attended) -> np.ndarray | None:
        """Return the origins of a first call's keys, its queries among them, as a later call has them.

        Such keys are the queries' tokens and others that no attention makes: memories, or what a resampler
        reads. Of the first call alone nothing says it.
        """
        for _, other in self.calls:
            given = other.origins[1]
            if other.shape == call.shape and given is not None:
                own = given[given[:, 0] >= 0]
                if len({*own[:, 0]}) == 1 and own[:, 1].tolist() == list(range(call.shape[1])):
                    return given
        return None

    def _refuse_others(self, name: Any, count: int, call: Attended) -> None:
        """Raise ModelError where tokens are not those that were before: in number, rows, or order."""
        if name not in self._homes:
            return
        if name in self._made and not call.in_order:
            raise ModelError(
                f"{count} tokens are mixed and reordered between two attentions; attentionrelevance has no "
                "rule for that: give layers= so that only attention over the last tokens counts, or choose "
                "gradcam"
            )
        rows, tokens = self.sizes[self._homes[name]]
        tokens = self._made.get(name, tokens)
        if (rows, tokens) != (call.shape[0], count):
            raise ModelError(
                f"attention over {count} tokens in {call.shape[0]} rows follows one over {tokens} in {rows}, "
                "and what became of them in between has no rule in attentionrelevance; give layers= so that "
                "only attention over the last tokens counts, or choose legrad or gradcam"
            )

    def _begin(self, rows: int, tokens: Tokens, of_input: bool) -> None:
        """Begin a stream for each row of tokens that none is known of."""
        for name in dict.fromkeys(name for name, _ in tokens):
            count = 1 + max(at for other, at in tokens if other == name)
            if name not in self._homes:
                self._homes[name] = len(self.sizes)
                self.sizes.append((rows, count))
                self.of_input.append(of_input)
            elif name not in self._made:  # of a call that does not count others may ask for more
                home = self._homes[name]
                self.sizes[home] = rows, max(count, self.sizes[home][1])

    def row(self, stream: int, target: int) -> Float[Any, "row token"] | None:
        """Return the relevance of the tokens of a stream for what the score reads; None for no relevance."""
        every = [pair for pair in self.of if stream in (pair[0], *pair[1])]
        if all(pair == (stream, {stream}) for pair in every) and self._follow(stream):
            pairs = zip(self.calls, self.of, strict=True)
            return _through([call for (_, call), pair in pairs if pair in every], target)
        relevance, total = self._relevance(target), None
        for calls, last in self._ends():
            over = self._of(relevance, calls, last.value).get(stream)
            if over is not None:
                row = _product(reading(last, target)[:, None], over)[:, 0]
                total = row if total is None else total + row
        return total

    def _follow(self, stream: int) -> bool:
        """Say whether each call over a stream asks with all tokens that the one before has made."""
        of_stream = [at for at, (asks, _) in enumerate(self.of) if asks == stream]
        asks = {at: self.tokens[at][0] for at in of_stream}
        return bool(of_stream) and all(
            asks[after] == [(self.calls[before][0], at) for at in range(self.calls[before][1].shape[1])]
            for before, after in pairwise(of_stream)
        )

    def _ends(self) -> list[tuple[Any, Attended]]:
        """Return the last call of each stream that no later one attends to, or calls side by side.

        There the score reads.
        """
        ends: list[tuple[Any, Attended]] = []
        for stream in range(len(self.sizes)):
            asking = [at for at, (asks, _) in enumerate(self.of) if asks == stream]
            asked = [at for at, (asks, keys) in enumerate(self.of) if asks != stream and stream in keys]
            if asking and asking[-1] > max(asked, default=-1):
                last = self.tokens[asking[-1]][0]
                beside = tuple(self.calls[at][0] for at in asking if self.tokens[at][0] == last)
                ends.append((self._together(beside), self.calls[asking[-1]][1]))
        return ends

    def _relevance(self, target: int) -> dict[Any, Relevance]:
        """Return, for the tokens that each call makes, their relevance R over those of each stream."""
        made: dict[Any, Relevance] = {}
        for (number, call), (asks, given), (home, _) in zip(self.calls, self.tokens, self.of, strict=True):
            mixed = positive(call, call.weigh(), target)
            before = self._gathered(made, asks, mixed)
            after = dict(before)
            own = {*asks} <= {*given}
            for name in dict.fromkeys(name for name, _ in given):
                for stream, over in self._gathered(made, given, mixed, name, normalise=not own).items():
                    through = mixed
                    if not own and stream == self._homes[name]:
                        through = _product(
                            namespace(mixed).matrix_transpose(_normalised(before[home])), mixed
                        )
                    added = _product(through, over)
                    after[stream] = after[stream] + added if stream in after else added
            made[number] = after
        return made

    def _gathered(
        self,
        made: dict[Any, Relevance],
        tokens: Tokens,
        like: Array,
        only: Any = None,
        normalise: bool = False,
    ) -> Relevance:
        """Return the relevance R of some tokens over those of each stream, `(row, token, token of stream)`.

        only: the name of the tokens that count; the rows of others are 0. normalise: whether R over the
            tokens' own stream becomes R̂.
        """
        gathered: Relevance = {}
        for name in dict.fromkeys(name for name, _ in tokens):
            if only is not None and name != only:
                continue
            home, whole = self._homes[name], self._of(made, name, like)
            places = [(at, number) for at, (other, number) in enumerate(tokens) if other == name]
            for stream, over in whole.items():
                over = _normalised(over) if normalise and stream == home else over
                moved = _moved(over, places, len(tokens))
                gathered[stream] = gathered[stream] + moved if stream in gathered else moved
        return gathered

    def _of(self, made: dict[Any, Relevance], name: Any, like: Array) -> Relevance:
        """Return the relevance R of the tokens of a name; of those that begin a stream the identity."""
        if name in made:
            return made[name]
        if name not in self._made:
            home = self._homes[name]
            return {home: _ones(like, self.sizes[home])}
        # Attentions side by side: each adds to what all of them ask with.
        total = dict(before := self._gathered(made, self._asked(name[0]), like))
        for call in name:
            for stream, over in made[call].items():
                added = over - before[stream] if stream in before else over
                total[stream] = total[stream] + added if stream in total else added
        return total


def _moved(over: Array, places: Sequence[tuple[int, int]], count: int) -> Array:
    """Return rows of R moved to other places, of `count`; 0 elsewhere. places: pairs of new and old."""
    if all(new == old for new, old in places) and len(places) == count == over.shape[1]:
        return over
    chosen = np.zeros((count, over.shape[1]))
    chosen[tuple(np.transpose(places))] = 1
    return _product(like(chosen, over)[None], over)


def _ones(like: Array, size: tuple[int, int]) -> Float[Any, "row token token"]:
    xp = namespace(like)
    eye = xp.eye(size[1], dtype=like.dtype, device=getattr(like, "device", None))
    return xp.broadcast_to(eye, (size[0], size[1], size[1]))


@in_full_precision
def _product(a: Array, b: Array) -> Array:
    return namespace(a).matmul(a, b)


def _normalised(relevance: Float[Any, "row token token"]) -> Array:
    """Return 1 + (R − 1) with rows that sum to 1, and rows of 1 alone as they are."""
    if relevance.shape[1] != relevance.shape[2]:
        raise ModelError(
            f"attention to {relevance.shape[1]} tokens that were {relevance.shape[2]} before has no rule in "
            "attentionrelevance; give layers= so that only attention over the last tokens counts, or choose "
            "legrad or gradcam"
        )
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
