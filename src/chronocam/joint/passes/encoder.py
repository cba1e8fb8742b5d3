"""What a model embeds besides the inputs: texts, and the picture that others are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from chronocam.engines import Engine, TextTower
from chronocam.errors import InputError, TargetError
from chronocam.joint.inputs.media import media_in, pictures_in, prepared
from chronocam.maps.arrays import like, namespace, to_numpy
from chronocam.targets.text import embeddings_in, in_template, unit
from chronocam.targets.words import Answer
from chronocam.types import Array, Inputs


class Encoder:
    """Embeds a list of texts, or one picture or clip, each once; free of any graph.

    answer: the text that the model generated, where it was asked for one.
    rank: how many axes a batch of the model's inputs has. preprocess: makes an input of a picture.
    """

    def __init__(self, engine: Engine, rank: int, preprocess: Callable[[Any], Array] | None) -> None:
        self._engine = engine
        self._rank = rank
        self._preprocess = preprocess
        self.answer: Answer | None = None
        self._known: dict[int, tuple[Any, Array]] = {}

    @property
    def towers(self) -> TextTower | None:
        """The model's own text tower; None without one."""
        return self._engine.towers

    def __call__(self, what: Any) -> Array:
        """Return the embeddings `(text, channel)` or `(1, channel)`.

        Raises TargetError for texts where the model has no tower for them, InputError for other values.
        """
        if isinstance(what, list) and all(isinstance(one, str) for one in what):
            if self.towers is None:
                raise TargetError(
                    "the model has no text tower of its own; give encode_text=, which returns "
                    "(text, channel) for a list of texts"
                )
            return self.towers.encode(what)
        if id(what) not in self._known:
            inputs = self._engine.adapt(self._input(what))
            embedded = self._engine.scores(inputs, lambda result: embeddings_in(result.raw, result.logits))
            self._known[id(what)] = what, embedded
        return self._known[id(what)][1]

    def answered(self, inputs: Inputs, first: int) -> Inputs:
        """Return inputs with the text that the model generates for them after their prompts.

        first: the number of the first sample. Raises TargetError for a model that generates none.
        """
        tokens, start, ends = self._engine.generate(inputs)
        model = getattr(self._engine, "model", None)
        tokenizer = getattr(model, "tokenizer", None)
        self.answer = Answer(to_numpy(tokens), start, ends, first, tokenizer)
        given = dict(inputs) if isinstance(inputs, Mapping) else {"pixel_values": inputs}
        if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
            return {**given, "decoder_input_ids": tokens}
        before = given.get("input_ids")
        shape = None if before is None else tuple(before.shape)
        xp, width = namespace(tokens), tokens.shape[1]
        for name, x in given.items():
            # What is said of each token of the prompt: of those of the answer, that they are text, and seen.
            if name == "attention_mask" or (shape is not None and tuple(getattr(x, "shape", ())) == shape):
                fill = xp.ones_like(tokens) if name == "attention_mask" else xp.zeros_like(tokens)
                kept = min(x.shape[1], width)
                given[name] = xp.concat([x[:, :kept], xp.astype(fill[:, kept:], x.dtype)], axis=1)
        return {**given, "input_ids": tokens}

    def _input(self, what: Any) -> Array:
        media = pictures_in(what, self._preprocess) or media_in(what)
        if media is not None:
            return prepared(media, self._preprocess)
        shape = tuple(getattr(what, "shape", ()))
        if len(shape) == self._rank - 1:
            return what[None]
        if len(shape) == self._rank and shape[0] == 1:
            return what
        raise InputError(
            f"the reference has shape {shape}; expected one input of {self._rank - 1} axes, or a picture"
        )


def zero_shot(pictures: Array, labels: Sequence[str], towers: TextTower) -> Array:
    """Return the logits `(batch, label)`: cosines with the labels as texts, as the model scales them."""
    texts = [in_template(str(label), towers.template) for label in labels]
    rows = unit(pictures)
    of_texts = like(to_numpy(unit(towers.encode(texts))), rows)
    scale, bias = towers.scale
    return namespace(rows).matmul(rows, of_texts.T) * scale + bias
