"""Text that a model generates."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final

import torch
from torch import Tensor, nn

from chronocam.engines.torch.replica import Replica
from chronocam.engines.torch.scope import settle
from chronocam.errors import TargetError, first_line
from chronocam.types import Inputs

_LONGEST: Final = 64  # tokens, where the model does not say


def generated(scope: ExitStack, replica: Replica, inputs: Inputs) -> tuple[Tensor, int, list[int]]:
    """Return the tokens of the prompts and of what the model says, greedily; where that begins and ends."""
    model = replica.model
    scope.callback(replica.close)
    generate: Any = getattr(model, "generate", None)
    if generate is None:
        raise TargetError(
            f"a word is of a text that the model generates, and this {type(model).__name__} generates none"
        )
    settle(scope, model)
    scope.enter_context(torch.no_grad())
    arguments: dict[str, Any] = dict(inputs) if isinstance(inputs, Mapping) else {"pixel_values": inputs}
    longest = getattr(getattr(model, "generation_config", None), "max_new_tokens", None) or _LONGEST
    try:
        how: dict[str, Any] = {"do_sample": False, "num_beams": 1, "max_new_tokens": longest}
        tokens = generate(**arguments, **how, **_without_pictures(model))
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise TargetError(
            f"this {type(model).__name__} says nothing of such inputs ({first_line(error)}); give all that "
            "its processor makes of a picture and a prompt: dict(processor(images=…, text=…))"
        ) from error
    if not isinstance(tokens, Tensor) or tokens.ndim != 2:
        raise TargetError(f"generate() returned a {type(tokens).__name__}; expected tokens (batch, token)")
    prompts, start = arguments.get("input_ids"), 1  # the first token says that a text begins
    decodes = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    if prompts is not None and not decodes:  # a decoder's tokens are the answer's alone
        shared = min(prompts.shape[1], tokens.shape[1])
        same = (prompts[:, :shared] == tokens[:, :shared]).all(0)
        start = int(same.long().cumprod(0).sum())
        if not start:  # some models return what they say alone
            tokens, start = torch.cat([prompts, tokens], 1), prompts.shape[1]
    return tokens, start, _ends(tokens, start, _last(model))


def _without_pictures(model: nn.Module) -> dict[str, Any]:
    """Return the option by which a model does not say the tokens that stand for pictures: it shows none."""
    config: Any = getattr(model, "config", None)
    names = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
    marks = {token for name in names if isinstance(token := getattr(config, name, None), int)}
    return {"suppress_tokens": sorted(marks)} if marks else {}


def _last(model: nn.Module) -> list[int]:
    """Return the tokens that say that a text has ended."""
    config: Any = getattr(model, "config", None)
    places = (getattr(model, "generation_config", None), config, getattr(config, "text_config", None))
    names = ("eos_token_id", "sep_token_id", "pad_token_id")
    found = [getattr(place, name, None) for place in places for name in names]
    return [one for ids in found for one in (ids if isinstance(ids, list) else [ids]) if isinstance(one, int)]


def _ends(tokens: Tensor, start: int, last: list[int]) -> list[int]:
    ended = torch.isin(tokens[:, start:], torch.tensor(last, device=tokens.device)).long()
    going = (1 - ended).cumprod(1).sum(1)
    return [start + int(n) for n in going]
