"""Attention rollout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

import numpy as np
from jaxtyping import Float

from chronocam.errors import InputError, LayerError, LayoutError, ModelError
from chronocam.maps.arrays import in_full_precision, like, namespace
from chronocam.maps.attended import Link
from chronocam.methods._attention import AttentionMethod, divided_in, not_on_grid, refuse_other_order
from chronocam.methods._base import Maps
from chronocam.types import Array, Capture, Need, View

Row: TypeAlias = Float[Any, "rows token"]


@dataclass(kw_only=True, eq=False)
class AttentionRollout(AttentionMethod):
    """Attention rollout of a transformer: how much of each patch is mixed into what the head reads.

    Ã = ½(A + I) per attention, A the mean over heads and rows normalised; the map is a row of Ã_L ⋯ Ã_1 over
    the patch tokens. It needs no gradient and knows no class: the map is the same for every target. Divided
    attention over space and time (TimeSformer) is composed as matrices over all tokens: temporal attention
    leaves the class token as it is, and the class token's spatial rows are averaged over the frames. A
    network that sees the frames one by one is rolled out frame by frame.

    readout: the row that is taken: `"class"`, that of the first token; `"mean"`, the mean of the patch
        tokens' rows, for models that average tokens; None is class where tokens precede the patches and mean
        elsewhere.

    The attention of all layers counts. `conv_layer` is the layer that says how the tokens lie on the grid;
    None finds one. Maps are `(batch, target, *grid)`, not negative; with the share of the tokens before the
    patches they sum to 1.

    Raises ModelError for models without self-attention over all patches, or over all of each frame and each
    patch, and where attentions do not follow one after the other: side by side in one block, or with the
    queries of a decoder. Their order is read off a graph, once per model.
    Source: Abnar and Zuidema 2020 (arXiv:2005.00928), section 3.

    Example:
    >>> from torchvision.models import VisionTransformer
    >>> vit = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16).eval()
    >>> cc.AttentionRollout(vit).explain(images).maps.shape
    (2, 1, 4, 4)
    """

    readout: str | None = None
    name: ClassVar[str] = "rollout"
    needs: ClassVar[tuple[Need, ...]] = (Need(gradients=False, attentions=True),)
    class_agnostic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.readout not in (None, "class", "mean"):
            raise InputError(f"no readout `{self.readout}`; choose class or mean")
        super().__post_init__()

    def maps(self, view: View) -> Maps:
        """Return the rollout once per target."""
        capture = view.captures[0]
        if not capture.attentions:
            raise ModelError(
                "no attention was recorded for rollout to compose; load transformers of Hugging Face with "
                'attn_implementation="sdpa" or "eager", and for other networks choose gradcam'
            )
        links = capture.links()
        chain = _chain(links)
        if not chain:
            view.note("no graph says which attention follows which: composed in the order of their calls")
        rolled = self._rolled(replace(capture, attentions=capture.attentions[: chain or None]))
        refuse_other_order(links[:chain], self.name)
        grid, expected = tuple(rolled.shape[2:]), tuple(capture.activations.shape[2:])
        if grid != expected:
            raise LayerError(
                f"the attention is over a grid of {grid} and the layer's is {expected}; give conv_layer= a "
                "layer of the tokens that attend"
            )
        return namespace(rolled).broadcast_to(rolled, (rolled.shape[0], view.targets, *grid))

    def _rolled(self, capture: Capture) -> Float[Any, "batch 1 *grid"]:
        batch, weights = int(capture.activations.shape[0]), capture.attentions
        rows, tokens, _ = weights[0].shape
        divided = divided_in([tuple(a.shape) for a in weights], capture)
        if divided is not None:
            time, patches, prefix = divided
            layout = _layout(capture, batch, prefix + time * patches, "time")
            row = like(self._read(batch, prefix, time * patches), weights[0])
            return layout(_through_divided(row, weights, time, prefix)[..., None])
        if any(tuple(a.shape) != (rows, tokens, tokens) for a in weights):
            raise not_on_grid(capture, self.name, [tuple(a.shape) for a in weights])
        layout = _layout(capture, rows, tokens, None)
        prefix = getattr(getattr(layout, "frame", layout), "prefix", 0)
        row = like(self._read(rows, prefix, tokens - prefix), weights[0])
        return layout(_through(row, weights)[..., None])

    def _read(self, rows: int, prefix: int, patches: int) -> Float[np.ndarray, "rows token"]:
        """Return how much of each token the head reads."""
        at = np.arange(prefix + patches)
        by_class = prefix > 0 if self.readout is None else self.readout == "class"
        row = at == 0 if by_class else (at >= prefix) / patches
        return np.broadcast_to(row.astype(np.float64), (rows, len(at)))


def _chain(links: Sequence[Link]) -> int:
    """Return how many attentions lead to what is scored, where each takes the tokens that the last one made.

    0 where no graph says it. Raises ModelError where they do not follow one after the other.
    """
    count = max((number for number, link in enumerate(links, start=1) if link.scored), default=0)
    if links[:count] and links[0].of_input[0] != links[0].of_input[1]:
        raise ModelError(
            "rollout composes attention of tokens to each other, and the first is of learned queries to the "
            "input's tokens; choose attentionrelevance or gradcam"
        )
    for number, link in enumerate(links[1:count], start=1):
        if not link.queries == link.keys == (number - 1,):
            raise ModelError(
                f"rollout composes attention one after the other, and number {number + 1} of {count} is not "
                f"of the tokens that number {number} has made (side by side, or of other tokens); choose "
                "attentionrelevance or gradcam"
            )
    return count


def _layout(capture: Capture, rows: int, tokens: int, order: str | None) -> Any:
    """Return the layout of the tokens, where known in this order."""
    try:
        return capture.layout_of((rows, tokens, 1), order)
    except LayoutError as error:
        raise not_on_grid(capture, "rollout", [tuple(a.shape) for a in capture.attentions]) from error


@in_full_precision
def _through(row: Row, weights: Sequence[Array]) -> Row:
    """Return row · Ã_L ⋯ Ã_1, one product of a vector and a matrix after the other."""
    xp = namespace(row)
    for a in reversed(weights):
        share = row / (1 + xp.sum(a, axis=2))
        row = xp.matmul(share[:, None], a)[:, 0] + share
    return row


@in_full_precision
def _through_divided(row: Row, weights: Sequence[Array], time: int, prefix: int) -> Row:
    """Return row · Ã_L ⋯ Ã_1 for attention within each patch `(batch·patch, time, time)` and each frame.

    Tokens are those before the patches, then all patches of the first frame, and so on.
    """
    xp, batch = namespace(row), row.shape[0]
    first, rest = row[:, :prefix], xp.reshape(row[:, prefix:], (batch, time, -1))
    patches = rest.shape[2]
    # A row vector times Ã_L, then Ã_L−1, …: no product of two matrices is needed.
    for a in reversed(weights):
        if tuple(a.shape) == (batch * patches, time, time):
            a = xp.reshape(a, (batch, patches, time, time))
            share = xp.matrix_transpose(rest) / (1 + xp.sum(a, axis=3))
            rest = xp.matrix_transpose(xp.matmul(share[:, :, None], a)[:, :, 0] + share)
            continue
        a = xp.reshape(a, (batch, time, prefix + patches, prefix + patches))
        sums = 1 + xp.sum(a, axis=3)
        first = first / xp.mean(sums[:, :, :prefix], axis=1)
        rest = rest / sums[:, :, prefix:]
        # Every frame holds a copy of the class token, and their mean goes on: so does a share of its row.
        copies = xp.broadcast_to(first[:, None] / time, (batch, time, prefix))
        mixed = xp.matmul(xp.concat([copies, rest], axis=2)[:, :, None], a)[:, :, 0]
        first, rest = first + xp.sum(mixed[:, :, :prefix], axis=1), rest + mixed[:, :, prefix:]
    return xp.concat([first, xp.reshape(rest, (batch, -1))], axis=1)
