"""Pictures that a model takes as tiles and as a whole: maps lie where the tiles do, placed one by one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import InputError, LayoutError

transformers = pytest.importorskip("transformers")

TEXT: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 40,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "max_position_embeddings": 256,
}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}
NAMES = {3: "<fake>", 4: "\n", 5: "<image>", 6: "<global-img>"}
NAMES |= {10 + 3 * r + c: f"<row_{r + 1}_col_{c + 1}>" for r in range(2) for c in range(3)}


class Names:
    """A tokenizer in which each tile has a token of its own."""

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = False) -> str:
        return "".join(NAMES.get(token, f" w{token}") for token in tokens)


def drawn(kind: Any, config: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = kind(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.3)
    model.generation_config.max_new_tokens = 3
    model.tokenizer = Names()
    return model.double().eval()


def split(kind: str = "SmolVLM") -> Any:
    """Return a network that cuts pictures as Idefics3 does: the whole comes last."""
    text = transformers.LlamaConfig(**TEXT)
    config = getattr(transformers, f"{kind}Config")(
        vision_config=VISION, text_config=text, scale_factor=2, image_token_id=5, pad_token_id=0
    )
    return drawn(getattr(transformers, f"{kind}ForConditionalGeneration"), config)


def resized() -> Any:
    """Return a network that cuts pictures as LLaVA-NeXT does: the whole comes first."""
    config = transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION),
        text_config=transformers.LlamaConfig(**TEXT),
        image_token_index=5,
        image_grid_pinpoints=[[16, 32], [32, 16], [32, 32], [32, 48]],
        vision_feature_layer=-2,
    )
    return drawn(transformers.LlavaNextForConditionalGeneration, config)


def pictures(samples: int, count: int) -> Tensor:
    shape = (samples, count, 3, 16, 16)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def asked(samples: int = 1, rows: int = 2, columns: int = 3) -> dict[str, Tensor]:
    """Return what the processor of Idefics3 makes of pictures: tiles, by name, and the whole."""
    tiles = [
        [3, 10 + 3 * r + c, *[5] * 4, *([4] if c == columns - 1 else [])]
        for r, c in np.ndindex(rows, columns)
    ]
    ids = torch.tensor(
        [[1, 8, *[token for tile in tiles for token in tile], 4, 3, 6, *[5] * 4, 3, 9, 7]] * samples
    )
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": pictures(samples, rows * columns + 1),
        "pixel_attention_mask": torch.ones(samples, rows * columns + 1, 16, 16, dtype=torch.bool),
    }


def resolved(samples: int = 1) -> dict[str, Tensor]:
    """Return what the processor of LLaVA-NeXT makes of pictures of 30 × 44 pixels: 2 × 3 tiles, filled up."""
    rows = 8 - 2 * ((8 - int(30 * 12 / 44)) // 2)  # without those of the border that fills up
    ids = torch.tensor([[1, 8, *[5] * (16 + rows * (12 + 1)), 9, 7]] * samples)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": pictures(samples, 7),
        "image_sizes": torch.tensor([[30, 44]] * samples),
    }


CASES: dict[str, tuple[Any, Any, str, int]] = {
    "SmolVLM": (split, asked, "model.vision_model.encoder.layers.1", 0),
    "Idefics3": (lambda: split("Idefics3"), asked, "model.vision_model.encoder.layers.1", 0),
    "LLaVA-NeXT": (resized, resolved, "model.vision_tower.encoder.layers.0", 1),
}


def by_hand(model: Any, inputs: dict[str, Tensor], layer: str, whole: int) -> tuple[np.ndarray, np.ndarray]:
    """Return Grad-CAM of the first word, the cells of the 2 × 3 tiles placed one by one; and of the whole.

    whole: 1 where it comes before the tiles.
    """
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)

    said = model.generate(**inputs, do_sample=False, max_new_tokens=1)[:, -1:]
    handle = model.get_submodule(layer).register_forward_hook(keep)
    score = model(**inputs).logits[:, -1].log_softmax(-1).gather(1, said)[:, 0]
    handle.remove()
    (g,) = torch.autograd.grad(score.sum(), kept[0])
    samples = len(score)
    a, g = (t.detach()[:, -16:].unflatten(0, (samples, 7)).numpy() for t in (kept[0], g))
    big, small = np.zeros((2, 16, samples, 8, 12)), np.zeros((2, 16, samples, 4, 4))
    for which, values in enumerate((a, g)):
        for r, c, y, x in np.ndindex(2, 3, 4, 4):
            big[which, :, :, 4 * r + y, 4 * c + x] = values[:, whole + 3 * r + c, 4 * y + x].T
        for y, x in np.ndindex(4, 4):
            small[which, :, :, y, x] = values[:, 0 if whole else 6, 4 * y + x].T
    return tuple((one[1].mean((2, 3), keepdims=True) * one[0]).sum(0) for one in (big, small))  # type: ignore


@pytest.mark.parametrize("name", CASES)
def test_tiles_lie_at_their_places_and_the_whole_picture_is_an_input_of_its_own(name: str) -> None:
    make, ask, layer, whole = CASES[name]
    model, inputs = make(), ask(2)
    big, small = by_hand(model, inputs, layer, whole)
    found = cc.GradCAM(model, layer, signed=True).explain(inputs, cc.targets.Token(0))
    assert found.dims == ("batch", "target", "height", "width")
    assert found.input_size == (32, 48)
    np.testing.assert_allclose(found.maps[:, 0], big, rtol=0, atol=1e-5 * np.abs(big).max())
    alone = cc.GradCAM(model, layer, signed=True, on="thumbnail").explain(inputs, cc.targets.Token(0))
    np.testing.assert_allclose(alone.maps[:, 0], small, rtol=0, atol=1e-5 * np.abs(small).max())
    second = {key: x[1:] for key, x in inputs.items()}
    again = cc.GradCAM(model, layer, signed=True).explain(second, cc.targets.Token(0))
    np.testing.assert_allclose(again.maps[0], found.maps[1], rtol=0, atol=1e-6 * np.abs(big).max())


@pytest.mark.parametrize("name", CASES)
def test_the_layer_that_is_found_has_tiles_and_no_time(name: str) -> None:
    """Idefics3 makes one token of four, whose channels are no places though their number fits."""
    make, ask, _, _ = CASES[name]
    found = cc.GradCAM(make()).explain(ask(), cc.targets.Token(0))
    projector = {"LLaVA-NeXT": ("model.multi_modal_projector", (8, 12))}
    assert (found.layer, found.maps.shape[2:]) == projector.get(name, ("model.connector", (4, 6)))
    assert found.maps.max() > 0


def test_a_layer_of_the_language_model_is_refused_where_tiles_have_text_in_between() -> None:
    with pytest.raises(LayoutError, match="no grid that fits"):
        cc.GradCAM(split(), "model.text_model.layers.0").explain(asked(), cc.targets.Token(0))


def test_one_picture_that_is_not_cut_is_a_picture() -> None:
    ids = torch.tensor([[1, 8, 3, 6, *[5] * 4, 3, 9]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pictures(1, 1)}
    layer = "model.vision_model.encoder.layers.1"
    assert cc.GradCAM(split(), layer).explain(inputs, cc.targets.Token(0)).maps.shape == (1, 1, 4, 4)


def test_pictures_that_do_not_say_how_they_lie_are_refused_or_a_clip() -> None:
    model, inputs = split(), asked()
    layer = "model.vision_model.encoder.layers.1"
    said = cc.targets.Token(0)
    clip = cc.GradCAM(model, layer, frames=7).explain(inputs, said)
    assert clip.dims[2:] == ("time", "height", "width")
    several = inputs | {"input_ids": inputs["input_ids"].where(inputs["input_ids"] != 11, 6)}
    del model.tokenizer
    for unclear in (inputs, inputs | {"pixel_values": inputs["pixel_values"][0]}):
        with pytest.raises(InputError, match=r"holds 7 pictures for each prompt.*do_image_splitting=False"):
            cc.GradCAM(model, layer).explain(unclear, said)
    model.tokenizer = Names()
    with pytest.raises(InputError, match="nothing says how they lie"):
        cc.GradCAM(model, layer).explain(several, said)
    other = resolved(2) | {"image_sizes": torch.tensor([[30, 44], [30, 30]])}
    with pytest.raises(
        InputError, match="cut into 2 × 2, 2 × 3 tiles; explain those of one number at a time"
    ):
        cc.GradCAM(resized()).explain(other, said)
