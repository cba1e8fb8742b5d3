"""Models of two towers, such as CLIP: one embeds pictures or clips, the other texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from chronocam.engines.torch.scope import lacks
from chronocam.errors import TargetError
from chronocam.types import Inputs

# How libraries call the two: Hugging Face for pictures and for clips, then CLIP's own and open_clip.
_PAIRS: Final = (
    ("get_image_features", "get_text_features"),
    ("get_video_features", "get_text_features"),
    ("encode_image", "encode_text"),
)
_OF_TEXT: Final = {"input_ids", "inputs_embeds", "text"}
TEMPLATE: Final = "a photo of a {}."


class TextNetwork(nn.Module):
    """The text tower of a model as a network of its own: tokens in, embeddings `(text, channel)` out."""

    def __init__(self, model: nn.Module, encode: str) -> None:
        super().__init__()
        self.model = model
        self._encode = encode

    def forward(self, tokens: Tensor | None = None, **named: Tensor) -> Tensor:
        """Return the embeddings of tokens, given as the model's own function takes them."""
        encode = getattr(self.model, self._encode)
        return embedding(encode(**named) if tokens is None else encode(tokens))


class Towers:
    """What the text tower of a model makes of texts.

    The model says how a list of texts becomes its inputs: `model.tokenize(texts)`, as models of Hugging Face
    that `cc.models.load` gives do.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._encode: str = next(texts for _, texts in _PAIRS if hasattr(model, texts))
        self._known: dict[str, Tensor] = {}
        self._state = -1

    @property
    def network(self) -> nn.Module:
        """The text tower as a network that takes what `tokens` returns."""
        return TextNetwork(self._model, self._encode)

    @property
    def template(self) -> str:
        """What class names stand in, as in `"a photo of a {}."`."""
        return getattr(self._model, "template", TEMPLATE)

    @property
    def scale(self) -> tuple[Tensor | float, Tensor | float]:
        """By what the model multiplies cosines, and what it adds, to make logits of them."""
        scale = getattr(self._model, "logit_scale", None)
        bias = getattr(self._model, "logit_bias", None)
        return (
            1.0 if scale is None else torch.as_tensor(scale).detach().exp(),
            0.0 if bias is None else torch.as_tensor(bias).detach(),
        )

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings `(text, channel)`; each text is encoded once, until the model is changed.

        Raises TargetError for a model that does not say how texts become its inputs.
        """
        state = sum(parameter._version for parameter in self._model.parameters())
        if state != self._state:
            self._known, self._state = {}, state
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            with torch.no_grad():
                tokens = self.tokens(new)
                network = self.network
                made = network(tokens) if isinstance(tokens, Tensor) else network(**tokens)
            self._known |= zip(new, made, strict=True)
        return torch.stack([self._known[text] for text in texts])

    def tokens(self, texts: Sequence[str]) -> Inputs:
        """Return the inputs of the text tower, a row for each text.

        Raises TargetError for a model that does not say how texts become its inputs.
        """
        tokenize = getattr(self._model, "tokenize", None)
        if tokenize is None:
            raise TargetError(
                f"nothing says how texts become inputs of this {type(self._model).__name__}; give "
                "encode_text=, which returns (text, channel) for a list of texts, or load it by its spec "
                '(cc.models.load("hf:…"))'
            )
        device = next((p.device for p in self._model.parameters()), torch.device("cpu"))
        made = tokenize(list(texts))
        if isinstance(made, Tensor):
            return made.to(device)
        return {name: torch.as_tensor(x).to(device) for name, x in made.items()}


def towers_of(model: nn.Module) -> Towers | None:
    """Return the text tower of a model that has two; None for other models."""
    return Towers(model) if any(not lacks(model, a) and not lacks(model, b) for a, b in _PAIRS) else None


def image_tower(model: nn.Module, inputs: Inputs) -> Callable[[Inputs], Tensor] | None:
    """Return what embeds pictures or clips that come without a text; None for other models and inputs."""
    alone = isinstance(inputs, Tensor) and inputs.is_floating_point()
    if not alone and not (isinstance(inputs, Mapping) and not _OF_TEXT.intersection(inputs)):
        return None
    name = next((a for a, b in _PAIRS if not lacks(model, a) and not lacks(model, b)), None)
    if name is None:
        return None
    embed = getattr(model, name)
    return lambda given: embedding(embed(given) if isinstance(given, Tensor) else embed(**given))


def embedding(output: Any) -> Tensor:
    """Return the embeddings in what a tower returned."""
    pooled: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return pooled
