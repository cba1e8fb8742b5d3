"""Targets of networks that embed: how well pictures fit a caption, or look like another."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chronocam.errors import TargetError
from chronocam.maps.arrays import held, like, namespace, to_numpy, widen
from chronocam.targets.classes import same_for_all
from chronocam.types import Array, Outputs, Scored, Target, TargetInfo

_TOWERS = ("get_text_features", "encode_text")

EncodeText = Callable[[list[str]], Array]
"""Returns the embeddings `(text, channel)` of a list of texts."""


@dataclass(frozen=True)
class Caption(Target):
    """How well a picture fits a caption: the cosine of the model's embedding of it and of the text.

    text: the caption, or what stands in a template.
    encode_text: returns the embeddings `(text, channel)` of a list of texts; None is the model's own text
        tower, as of CLIP and SigLIP from `cc.models.load("hf:…")`.
    template: `"a photo of a {}."`, or a list of several, whose embeddings are averaged; None is the
        text alone.

    The text is encoded once, whatever the batches. The cosine, and not the model's probability, is explained:
    that would depend on the other captions. A model of two towers is given the pictures alone.

    Example:
    >>> pool = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    >>> embed = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 4, 4), *pool)
    >>> encode = lambda texts: torch.ones(len(texts), 8)
    >>> str(cc.GradCAM(embed).explain(images, cc.targets.Caption("a red bus", encode)).targets[0][0])
    '“a red bus”'
    """

    text: str
    encode_text: EncodeText | None = None
    template: str | Sequence[str] | None = None
    _encoded: list[Array] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise TargetError(f"caption {self.text!r} is not text; give a sentence or a few words")
        if not self._templates:
            raise TargetError("template is empty; give 'a photo of a {}.', a list of such, or None")
        if self.encode_text is not None and not callable(self.encode_text):
            raise TargetError(f"encode_text is {self.encode_text!r}; expected a function of a list of texts")
        for template in self._templates:
            in_template(self.text, template)

    @property
    def texts(self) -> list[str]:
        """What is encoded: the text in each of its templates."""
        return [in_template(self.text, template) for template in self._templates]

    @property
    def _templates(self) -> tuple[str, ...]:
        template = self.template
        return ("{}",) if template is None else (template,) if isinstance(template, str) else tuple(template)

    def of_model(self, model: Any, size: tuple[int, ...], samples: int | None) -> Target:
        """Return the caption. Raises TargetError for a model that takes a text beside the picture."""
        forward = getattr(model, "forward", None)
        takes = forward is not None and "input_ids" in inspect.signature(forward).parameters
        if self.encode_text is None and takes and not any(hasattr(model, name) for name in _TOWERS):
            raise TargetError(
                f"{type(model).__name__} has no text tower of its own for caption {self.text!r}: it takes a "
                "text beside the picture; give dict(processor(images=…, text=…)), and a function of what it "
                "returns as the target, such as lambda out: out.logits_per_image[:, 0]"
            )
        return self

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the cosines. Raises TargetError where nothing encodes texts."""
        pictures = unit(embedding_of(outputs))
        text = like(self._embedded(outputs), pictures)
        refuse_width(pictures, text, f"caption {self.text!r}")
        return same_for_all(namespace(pictures).matmul(pictures, text), TargetInfo(f"“{self.text}”"))

    def _embedded(self, outputs: Outputs) -> np.ndarray:
        """Return the embedding of the text, of length 1; of several templates the mean, of length 1."""
        texts = self.texts
        if self.encode_text is None:
            if outputs.encode is None:
                raise TargetError(
                    "the model has no text tower of its own; give encode_text=, which returns "
                    "(text, channel) for a list of texts"
                )
            rows = outputs.encode(texts)
        else:
            if not self._encoded:
                self._encoded.append(self.encode_text(texts))
            rows = self._encoded[0]
        try:
            values = to_numpy(widen(held(rows)))
        except (AttributeError, TypeError) as error:
            raise TargetError(
                f"encode_text= returned a {type(rows).__name__}; expected an array ({len(texts)}, channel)"
            ) from error
        if values.ndim != 2 or len(values) != len(texts):
            raise TargetError(f"encode_text= returned {values.shape}; expected ({len(texts)}, channel)")
        _refuse_no_direction(values, f"the embedding of caption {self.text!r}")
        mean = (values / np.linalg.norm(values, axis=1, keepdims=True)).mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean))


@dataclass(frozen=True, eq=False)
class Similarity(Target):
    """How alike a picture is to a reference: the cosine of their embeddings (DINO, faces, metric networks).

    reference: an embedding `(channel,)`, also as a list, one per sample `(sample, channel)`, or a picture or
        clip as the model takes it, without or with a batch axis of 1, which the model embeds itself. No
        gradient goes through it.

    Example:
    >>> pool = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    >>> embed = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 4, 4), *pool)
    >>> cc.GradCAM(embed).explain(images, cc.targets.Similarity(images[0])).scores[0].round(4)
    array([1.], dtype=float32)
    """

    reference: Any

    def __post_init__(self) -> None:
        if isinstance(self.reference, (list, tuple)):
            object.__setattr__(self, "reference", np.asarray(self.reference))

    def of_model(self, model: Any, size: tuple[int, ...], samples: int | None) -> Target:
        """Return the similarity. Raises TargetError for several pictures: which one is meant is not known."""
        shape = tuple(getattr(self.reference, "shape", ()))
        if len(shape) == len(size) + 2 and shape[0] > 1:
            raise TargetError(
                f"the reference is {shape[0]} inputs, {shape}; give one of them, or an embedding per sample"
            )
        return self

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the cosines. Raises TargetError for a reference of another width."""
        embedding = embedding_of(outputs)
        rows, xp = unit(embedding), namespace(embedding)
        embedded = self._embedded(outputs, rows.shape[1])
        _refuse_no_direction(embedded, "the reference")
        reference = like(unit(embedded), rows)
        refuse_width(rows, reference, "the reference")
        return same_for_all(xp.sum(rows * reference, axis=1), TargetInfo("similarity"))

    def _embedded(self, outputs: Outputs, width: int) -> np.ndarray:
        """Return the embeddings of the reference, `(1 or batch, channel)`."""
        shape = tuple(getattr(self.reference, "shape", ()))
        if len(shape) not in (1, 2):
            if outputs.encode is None:
                raise TargetError("a picture as reference needs the model itself; give its embedding")
            return to_numpy(widen(outputs.encode(self.reference)))
        values = to_numpy(widen(held(self.reference)))
        if len(shape) == 1 or shape[0] == 1:
            return values.reshape(1, -1)
        return np.asarray(outputs.own(values, "the reference"))


def in_template(text: str, template: str) -> str:
    """Return a text in the place `{}` of a template. Raises TargetError for one without."""
    if not isinstance(template, str) or "{}" not in template:
        raise TargetError(f"template {template!r} has no place {{}} for the text; give 'a photo of a {{}}.'")
    return template.replace("{}", text)


def embedding_of(outputs: Outputs) -> Array:
    """Return the embeddings `(batch, channel)` of a model's output. Raises TargetError for other shapes."""
    return embeddings_in(outputs.raw, lambda: outputs.embeddings)


def embeddings_in(raw: Any, main: Callable[[], Array]) -> Array:
    """Return the embeddings in what a model returned: by names of libraries, or its main output."""
    for name in ("image_embeds", "video_embeds", "pooler_output"):
        rows = raw.get(name) if isinstance(raw, dict) else getattr(raw, name, None)
        if rows is not None:
            break
    else:
        rows = main()
    if rows.ndim > 2 and all(n == 1 for n in rows.shape[2:]):
        rows = namespace(rows).reshape(rows, tuple(rows.shape[:2]))
    if rows.ndim != 2:
        raise TargetError(
            f"the model returns {tuple(rows.shape)}; expected embeddings (batch, channel): name output_layer="
        )
    return widen(rows)


def unit(rows: Array) -> Array:
    """Return rows of length 1."""
    xp = namespace(rows)
    return rows / xp.sqrt(xp.sum(rows * rows, axis=-1, keepdims=True))


def _refuse_no_direction(rows: np.ndarray, what: str) -> None:
    """Raise TargetError for embeddings that are zero or not finite: a cosine with them is undefined."""
    if not (np.isfinite(rows).all() and rows.any(axis=-1).all()):
        raise TargetError(f"{what} is zero or not finite, so that no cosine with it is defined; give another")


def refuse_width(rows: Array, other: Array, what: str) -> None:
    """Raise TargetError where two embeddings are not as wide as each other."""
    if rows.shape[-1] != other.shape[-1]:
        raise TargetError(
            f"{what} has {other.shape[-1]} numbers, and the model's embeddings {rows.shape[-1]}; give one "
            "made by the same network"
        )
