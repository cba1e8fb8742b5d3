"""Small transformers for pictures, for clips, and for pictures with captions.

The weights that come with the package were made by `chronocam.lab.train.transformers`; the record beside each
file holds the command and what was measured. They are stored in half precision and computed with in single.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Final

import torch
from jaxtyping import Float, Int
from safetensors.torch import load
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.vision_transformer import ConvStemConfig

from chronocam.errors import TargetError
from chronocam.jsonable import Json
from chronocam.lab.data.digits import COLOURS, NUMBERS
from chronocam.lab.models.digits import INPUT_SIZE, LABELS
from chronocam.lab.models.gestures import CLASSES, Small3D

WIDTH: Final = 64
"""Channels of a token."""

_HEADS: Final = 4
_STEM: Final = ((16, 3, 2), (32, 3, 1), (48, 3, 2), (64, 3, 1), (WIDTH, 3, 3))
"""Channels, kernel and stride of the convolutions that make tokens; all but the last as in `DigitsNet`."""


def digits_vit(outputs: int = len(LABELS)) -> VisionTransformer:
    """Build a small vision transformer of torchvision: 8 x 8 tokens of convolutions, four blocks.

    Takes what `DigitsNet` takes; gives `(batch, outputs)`.
    """
    stem = [ConvStemConfig(*convolution) for convolution in _STEM]
    return VisionTransformer(
        INPUT_SIZE[0], 12, 4, _HEADS, WIDTH, 2 * WIDTH, num_classes=outputs, conv_stem_configs=stem
    )


class GesturesTransformer(nn.Module):
    """Convolutions over space and time to 4 x 8 x 8 tokens, three blocks of joint attention, a class token.

    Takes clips `(batch, 3, 16, 64, 64)`; gives `(batch, classes)` logits. `stem` is as in
    `Small3D`; `embed` joins two of its slices.
    """

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.stem: nn.Module = Small3D().features[:2]
        self.embed: nn.Module = nn.Conv3d(48, WIDTH, (2, 1, 1), (2, 1, 1))
        self.first = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.times = nn.Parameter(0.02 * torch.randn(4, 1, WIDTH))
        self.places = nn.Parameter(0.02 * torch.randn(1, 64, WIDTH))
        self.blocks: nn.Module = nn.TransformerEncoder(_block(), 3, nn.LayerNorm(WIDTH), False)
        self.classifier: nn.Module = nn.Linear(WIDTH, classes)

    def forward(self, clips: Float[Tensor, "batch 3 time height width"]) -> Float[Tensor, "batch classes"]:
        """Return one logit per class."""
        return self.classify(self.stem(clips))

    def classify(
        self, features: Float[Tensor, "batch channel time height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits for what the stem returns."""
        tokens = self.embed(features).flatten(2).mT + (self.times + self.places).flatten(0, 1)
        tokens = torch.cat([self.first.expand(len(tokens), -1, -1), tokens], dim=1)
        return self.classifier(self.blocks(tokens)[:, 0])


class ColoursNet(nn.Module):
    """Two towers that embed pictures of coloured digits and their captions, "a red seven", side by side.

    Pictures are as those of `DigitsNet`. The cosine of the two embeddings times exp(`logit_scale`) is the
    logit of a caption among others.
    """

    words = ("<end>", "a", *COLOURS, *NUMBERS)
    longest = 5

    def __init__(self) -> None:
        super().__init__()
        self.pictures = digits_vit(WIDTH)
        self.tokens = nn.Embedding(len(self.words), WIDTH)
        self.positions = nn.Parameter(0.02 * torch.randn(self.longest, WIDTH))
        self.texts: nn.Module = nn.TransformerEncoder(_block(), 1, nn.LayerNorm(WIDTH), False)
        self.projection: nn.Module = nn.Linear(WIDTH, WIDTH)
        self.logit_scale = nn.Parameter(torch.tensor(2.3))

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channel"]:
        """Return the embeddings of pictures."""
        return self.encode_image(images)

    def encode_image(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channel"]:
        """Return the embeddings of pictures."""
        embedded: Tensor = self.pictures(images)
        return embedded

    def encode_text(self, tokens: Int[Tensor, "text token"]) -> Float[Tensor, "text channel"]:
        """Return the embeddings of texts: what the first end of each has gathered."""
        ends = (tokens == 0).int().argmax(1)
        beyond = torch.arange(tokens.shape[1], device=tokens.device) > ends[:, None]
        made = self.texts(self.tokens(tokens) + self.positions, src_key_padding_mask=beyond)
        return self.projection(made[torch.arange(len(made), device=made.device), ends])

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "text token"]:
        """Return the numbers of the words of texts. Raises TargetError for words that it does not know."""
        rows = [self._numbers(text) for text in texts]
        return torch.tensor([row + [0] * (self.longest - len(row)) for row in rows])

    @property
    def tokenizer(self) -> ColoursNet:
        """What makes a text of tokens: the network itself."""
        return self

    @property
    def all_special_ids(self) -> tuple[int, ...]:
        """The tokens that stand for no word."""
        return (0,)

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Return the text of some tokens."""
        return " ".join(self.words[token] for token in tokens if token or not skip_special_tokens)

    def _numbers(self, text: str) -> list[int]:
        split = text.lower().replace(".", "").split()
        unknown = [word for word in split if word not in self.words[1:]]
        if unknown:
            raise TargetError(
                f"caption `{text}`: the network does not know `{unknown[0]}`; it knows "
                f"{', '.join(self.words[1:])}"
            )
        if len(split) >= self.longest:
            raise TargetError(f"caption `{text}` has {len(split)} words; expected at most {self.longest - 1}")
        return [self.words.index(word) for word in split]


def _block() -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        WIDTH, _HEADS, 2 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True
    )


NETWORKS: Final[dict[str, Callable[[], nn.Module]]] = {
    "digits-vit": digits_vit,
    "gestures-transformer": GesturesTransformer,
    "colours": ColoursNet,
}


def load_transformer(name: str) -> nn.Module:
    """Build one of `NETWORKS`, in eval mode, with the bundled weights."""
    network = NETWORKS[name]()
    network.load_state_dict(load((files("chronocam.lab") / "weights" / f"{name}.safetensors").read_bytes()))
    return network.eval()


def transformer_record(name: str) -> Json:
    """Return the record of the bundled weights: the command, what was measured."""
    record: Json = json.loads((files("chronocam.lab") / "weights" / f"{name}.json").read_text())
    return record
