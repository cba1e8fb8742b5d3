"""Pictures with a prompt, as vision-language models take them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from chronocam.errors import InputError, first_line
from chronocam.media.images import as_image
from chronocam.media.preprocess import Preprocess


class Prompted:
    """Makes the inputs of a vision-language model of a picture and a prompt.

    processor: of the transformers library, for both. mark: what stands in a prompt for the picture; None
        where the model needs nothing there (BLIP).
    """

    def __init__(self, processor: Any, mark: str | None) -> None:
        self._processor = processor
        self._mark = mark

    @property
    def needed(self) -> bool:
        """Whether the model takes no picture without a prompt."""
        return self._mark is not None

    def __call__(self, picture: Image.Image | np.ndarray | str | Path, prompt: str) -> dict[str, Any]:
        """Return the inputs, of one sample.

        A prompt without the mark gets the model's own form of a chat, where it has one. Raises InputError for
        another prompt without the mark, and for what the processor cannot read.
        """
        text = self._whole(prompt)
        try:
            made = self._processor(images=as_image(picture), text=text, return_tensors="pt")
        except (TypeError, AttributeError) as error:
            raise InputError(
                f"the model's processor cannot put prompt and picture together ({first_line(error)}); a "
                "processor_config.json, which processor.save_pretrained writes, may be missing beside it"
            ) from error
        except (ValueError, KeyError, IndexError) as error:
            raise InputError(f"prompt {text!r} does not go with one picture: {first_line(error)}") from error
        return dict(made)

    def _whole(self, prompt: str) -> str:
        if self._mark is None or self._mark in prompt:
            return prompt
        if getattr(self._processor, "chat_template", None) is None:
            raise InputError(
                f"prompt {prompt!r} has no `{self._mark}`, the place of the picture; give "
                f"{self._mark + prompt!r}, in the form that the model was trained with"
            )
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        chat = [{"role": "user", "content": content}]
        whole: str = self._processor.apply_chat_template(chat, add_generation_prompt=True)
        return whole


@dataclass(frozen=True)
class OnlyPrompted(Preprocess):
    """Of a model that takes all of a picture, at its own size, with a prompt alone."""

    def __call__(self, picture: Image.Image | np.ndarray | str | Path) -> Any:
        """Raise InputError: there is no input without a prompt."""
        raise InputError("the model takes a picture with a prompt; give --prompt, or inputs of its processor")
