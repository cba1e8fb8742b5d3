"""Words of a text that a model generates, against log-probabilities and gradients written by hand."""

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor, nn

import chronocam as cc
from chronocam.cli import main
from chronocam.errors import InputError, LayoutError, TargetError

transformers = pytest.importorskip("transformers")

TEXT: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
VISION = {**TEXT, "image_size": 24, "patch_size": 4, "num_hidden_layers": 3}
X = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
WORDS = [f"w{i}" for i in range(40)]


class Words:
    """A tokenizer of one word per token, each with the space before it."""

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = True) -> str:
        return "".join(f" {WORDS[token]}" for token in tokens)


def drawn(model: nn.Module) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.3)
    model.generation_config.max_new_tokens = 5
    model.tokenizer = Words()
    return model.double().eval()


def llava(layer: int = -2) -> Any:
    ends = {"vocab_size": 40, "eos_token_id": 0, "bos_token_id": 1, "pad_token_id": 0}
    text = transformers.LlamaConfig(**TEXT, **ends, max_position_embeddings=128)
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION),
        text_config=text,
        image_token_id=5,
        vision_feature_layer=layer,
    )
    return drawn(transformers.LlavaForConditionalGeneration(config))


def blip() -> Any:
    ends = {"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 3, "sep_token_id": 0, "pad_token_id": 2}
    text = {**TEXT, **ends, "encoder_hidden_size": 16, "max_position_embeddings": 32}
    config = transformers.BlipConfig(text_config=text, vision_config={**VISION, "hidden_act": "gelu"})
    return drawn(transformers.BlipForConditionalGeneration(config))


def asked(before: int = 1, after: int = 3) -> dict[str, Tensor]:
    ids = [1] * before + [5] * 36 + list(range(7, 7 + after))
    return {
        "input_ids": torch.tensor([ids] * 2),
        "pixel_values": X,
        "attention_mask": torch.ones(2, len(ids)),
    }


def said(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    return model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=5)


def log_p(model: Any, tokens: Tensor, at: int) -> Tensor:
    """Return log p of the tokens at a place, `(batch,)`, given all before."""
    logits = model(input_ids=tokens, pixel_values=X).logits
    return logits[:, at - 1].log_softmax(-1).gather(1, tokens[:, at, None])[:, 0]


LAYER = "model.vision_tower.encoder.layers.1"


def test_a_token_is_teacher_forced_and_its_map_the_gradient_through_hidden_states_read_early() -> None:
    """The features are hidden state −2: what the layer before the last of the tower returned."""
    model, inputs = llava(), asked()
    tokens = said(copy.deepcopy(model), inputs)
    found = cc.GradCAM(model, LAYER, signed=True).explain(inputs, [cc.targets.Token(0), cc.targets.Token(2)])
    kept: list[Tensor] = []

    def split(module: Any, args: Any, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()

    again = copy.deepcopy(model)
    again.get_submodule(LAYER).register_forward_hook(split, prepend=True)
    for column, step in enumerate((0, 2)):
        kept.clear()
        score = log_p(again, tokens, 40 + step)
        np.testing.assert_allclose(found.scores[:, column], score.detach(), rtol=1e-5)
        (g,) = torch.autograd.grad(score.sum(), kept[0])
        a, g = (t.detach()[:, 1:].mT.unflatten(2, (6, 6)) for t in (kept[0], g))
        expected = (g.mean((2, 3), keepdim=True) * a).sum(1)
        np.testing.assert_allclose(found.maps[:, column], expected, rtol=0, atol=1e-5 * expected.abs().max())
    assert found.targets[0][1].name == f"“{WORDS[tokens[0, 42]]}”"


def test_generated_once_for_all_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = llava(), list[int]()
    generate = type(model).generate
    monkeypatch.setattr(type(model), "generate", lambda self, **o: calls.append(1) or generate(self, **o))
    cc.GradCAM(model, LAYER).explain(
        asked(), [cc.targets.Token(0), cc.targets.Token(1), cc.targets.Token(-1)]
    )
    assert calls == [1]


def test_a_phrase_is_the_sum_over_its_tokens() -> None:
    model, inputs = llava(), asked()
    tokens = said(model, inputs)
    one = {name: value[:1] for name, value in inputs.items()}
    words = " ".join(WORDS[token] for token in tokens[0, 41:43])
    phrase = cc.GradCAM(model, LAYER).explain(one, cc.targets.Phrase(words.upper()))
    whole = log_p(model, tokens, 41) + log_p(model, tokens, 42)
    np.testing.assert_allclose(phrase.scores[:, 0], whole[:1].detach(), rtol=1e-5)
    word = cc.GradCAM(model, LAYER).explain(one, cc.targets.Token(WORDS[tokens[0, 40]]))
    np.testing.assert_allclose(word.scores[:, 0], log_p(model, tokens, 40)[:1].detach(), rtol=1e-5)
    both = cc.targets.Contrast(cc.targets.Token(0), cc.targets.Token(1))
    apart = (log_p(model, tokens, 40) - log_p(model, tokens, 41)).detach()
    np.testing.assert_allclose(cc.GradCAM(model, LAYER).explain(inputs, both).scores[:, 0], apart, rtol=1e-4)


@pytest.mark.parametrize("name", ["gradcam", "hirescam"])
def test_a_word_depends_on_no_later_one(name: str) -> None:
    """The text goes on after the word, and a neighbour says another: neither is seen."""
    model, inputs = llava(), asked()
    whole = cc.methods.METHODS[name](model, LAYER).explain(inputs, cc.targets.Token(0))
    model.generation_config.max_new_tokens = 1
    alone = {name: value[1:] for name, value in inputs.items()}
    found = cc.methods.METHODS[name](model, LAYER).explain(alone, cc.targets.Token(0))
    np.testing.assert_allclose(found.scores[0], whole.scores[1], rtol=1e-6)
    np.testing.assert_allclose(found.maps[0], whole.maps[1], rtol=0, atol=1e-6 * np.abs(whole.maps).max())


def test_hooks_by_which_a_model_collects_hidden_states_are_not_left_behind() -> None:
    """Models of Hugging Face hook their layers in their first pass; states would be counted twice."""
    model, inputs = llava(), asked()
    found = cc.GradCAM(model, LAYER).explain(inputs, lambda outputs: outputs.logits[:, -1, 3])
    assert not any(module._forward_hooks for module in model.modules())
    again = cc.GradCAM(model, LAYER).explain(inputs, lambda outputs: outputs.logits[:, -1, 3])
    assert np.array_equal(again.maps, found.maps)
    model(**inputs)
    cc.GradCAM(model, LAYER).explain(inputs, cc.targets.Token(0))
    after = cc.GradCAM(model, LAYER).explain(inputs, lambda outputs: outputs.logits[:, -1, 3])
    np.testing.assert_allclose(after.maps, found.maps, rtol=1e-6)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (2, 9), (7, 2), (20, 30)])
def test_the_map_lies_at_the_places_of_the_image_tokens(before: int, after: int) -> None:
    """At a layer of the language model the picture's tokens stand anywhere among those of the prompt."""
    model, inputs = llava(), asked(before, after)
    layer = "model.language_model.layers.0.input_layernorm"
    found = cc.GradCAM(model, layer, signed=True).explain(inputs, cc.targets.Token(0))
    kept: list[Tensor] = []
    model.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.append(o))
    at = inputs["input_ids"].shape[1]
    score = log_p(model, said(model, inputs), at)
    a = kept[-1]
    (g,) = torch.autograd.grad(score.sum(), a)
    a, g = (t[:, before : before + 36].mT.unflatten(2, (6, 6)).detach() for t in (a, g))
    expected = (g.mean((2, 3), keepdim=True) * a).sum(1)
    np.testing.assert_allclose(found.maps[:, 0], expected, rtol=0, atol=1e-5 * expected.abs().max())


def test_a_captioner_says_a_text_of_a_picture_alone() -> None:
    model = blip()
    tokens = model.generate(pixel_values=X, do_sample=False, num_beams=1, max_new_tokens=5)
    for layer in (None, "vision_model.encoder.layers.1"):
        found = cc.GradCAM(model, layer).explain(X, cc.targets.Token(1))
        np.testing.assert_allclose(found.scores[:, 0], log_p(model, tokens, 2).detach(), rtol=1e-4)
        assert found.maps.shape == (2, 1, 6, 6)
        assert found.maps.max() > 0
    one = cc.GradCAM(model, "vision_model.encoder.layers.1", batch_size=1).explain(X, cc.targets.Token(1))
    np.testing.assert_allclose(one.maps, found.maps, rtol=0, atol=1e-6 * found.maps.max())


def test_the_decoder_of_an_encoder_decoder_is_given_what_it_said() -> None:
    vision = transformers.ViTConfig(**VISION)
    text = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=40, n_positions=32)
    text.update({"is_decoder": True, "add_cross_attention": True, "bos_token_id": 1, "eos_token_id": 0})
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, text)
    model = transformers.VisionEncoderDecoderModel(config)
    for one in (config, model.generation_config):
        one.decoder_start_token_id, one.pad_token_id, one.eos_token_id = 1, 2, 0
    model, layer = drawn(model), "encoder"
    tokens = copy.deepcopy(model).generate(X, do_sample=False, max_new_tokens=5)
    kept: list[Tensor] = []
    found = cc.HiResCAM(model, layer, signed=True).explain({"pixel_values": X}, cc.targets.Token(2))
    model.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.append(o[0]))
    logits = model(pixel_values=X, decoder_input_ids=tokens).logits
    score = logits[:, 2].log_softmax(-1).gather(1, tokens[:, 3:4])[:, 0]
    np.testing.assert_allclose(found.scores[:, 0], score.detach(), rtol=1e-5)
    (g,) = torch.autograd.grad(score.sum(), kept[0])
    expected = (g * kept[0])[:, 1:].sum(2).reshape(2, 6, 6).detach()
    np.testing.assert_allclose(found.maps[:, 0], expected, rtol=0, atol=1e-5 * expected.abs().max())


def test_what_is_no_word_of_the_text_is_told() -> None:
    model, inputs = llava(), asked()
    with pytest.raises(TargetError, match="in which there is no “sofa”"):
        cc.GradCAM(model, LAYER).explain(inputs, cc.targets.Token("sofa"))
    with pytest.raises(TargetError, match="no token 5: the model generated"):
        cc.GradCAM(model, LAYER).explain(inputs, cc.targets.Token(5))
    with pytest.raises(TargetError, match=r"says nothing of such inputs .*processor"):
        cc.GradCAM(model, LAYER).explain(X, cc.targets.Token(0))
    with pytest.raises(TargetError, match="is not a word"):
        cc.targets.Token(" ")
    for which in (1.5, None, True):
        with pytest.raises(TargetError, match="is no token; give its number"):
            cc.targets.Token(which)  # type: ignore[arg-type]
    del model.tokenizer
    with pytest.raises(TargetError, match="tokenizer="):
        cc.GradCAM(model, LAYER).explain(inputs, cc.targets.Token("w3"))
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(TargetError, match="generates none"):
        cc.GradCAM(net).explain(X.float(), cc.targets.Token(0))


def test_words_on_the_command_line() -> None:
    from chronocam.runs.targets import classes, label

    loaded = cc.models.Loaded(nn.Identity(), None, None, "hf:folder")
    texts = ["token:-1", "word:dog", "phrase:on a sofa", "text:a dog"]
    found = classes(loaded, texts, [])
    assert found == [
        cc.targets.Token(-1),
        cc.targets.Token("dog"),
        cc.targets.Phrase("on a sofa"),
        cc.targets.Caption("a dog"),
    ]
    assert [label(loaded, target) for target in found] == ["token -1", "dog", "on a sofa", "a dog"]
    with pytest.raises(TargetError, match="give word:dog"):
        classes(loaded, ["token:dog"], [])
    named = cc.models.Loaded(nn.Identity(), None, ("word:dog",), "hf:folder")
    assert classes(named, ["word:dog"], []) == [cc.targets.Class(0)]


# Pictures as rows of patches, without a batch axis.


def qwen() -> Any:
    ends = {
        "vocab_size": 40,
        "bos_token_id": 1,
        "eos_token_id": 0,
        "pad_token_id": 0,
        "num_key_value_heads": 2,
    }
    rope = {"type": "mrope", "mrope_section": [1, 1, 2]}
    vision = {"depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4}
    config = transformers.Qwen2VLConfig(
        vision_config=vision,
        text_config={**TEXT, **ends, "max_position_embeddings": 256, "rope_scaling": rope},
        image_token_id=5,
        video_token_id=6,
        vision_start_token_id=3,
        vision_end_token_id=4,
    )
    return drawn(transformers.Qwen2VLForConditionalGeneration(config))


def rows_of_patches(pictures: int = 1, time: int = 1) -> dict[str, Tensor]:
    grid, places = [[time, 8, 12]] * pictures, 24 * time
    ids = torch.tensor([[1, 3] + [5 if time == 1 else 6] * places + [4, 8, 9]] * pictures)
    kind, name = ("image", "pixel_values") if time == 1 else ("video", "pixel_values_videos")
    drawn_rows = torch.randn(
        pictures * time * 96, 96, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    types = (ids == 5).long() + 2 * (ids == 6).long()
    return {
        "input_ids": ids,
        name: drawn_rows,
        f"{kind}_grid_thw": torch.tensor(grid),
        "mm_token_type_ids": types,
        "attention_mask": torch.ones_like(ids),
    }


def at_places(rows: Tensor, pictures: int, time: int) -> np.ndarray:
    """Put rows on the grid one by one: patches in blocks of 2 × 2, merged ones row by row."""
    height, width = (8, 12) if len(rows) == pictures * time * 96 else (4, 6)
    out = np.zeros((pictures, rows.shape[1], time, height, width))
    source = iter(rows.numpy())
    block = 2 if height == 8 else 1
    for p, t in np.ndindex(pictures, time):
        for by, bx, y, x in np.ndindex(height // block, width // block, block, block):
            out[p, :, t, by * block + y, bx * block + x] = next(source)
    return out


@pytest.mark.parametrize(("pictures", "time"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("layer", ["model.visual.blocks.0", "model.visual.merger"])
def test_rows_of_patches_are_pictures_and_clips(layer: str, pictures: int, time: int) -> None:
    model, inputs = qwen(), rows_of_patches(pictures, time)
    found = cc.GradCAM(model, layer, signed=True, pool="clip" if time > 1 else None).explain(
        inputs, cc.targets.Token(0)
    )
    kept: list[Tensor] = []
    tokens = copy.deepcopy(model).generate(**inputs, do_sample=False, max_new_tokens=1)
    model.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.append(o))
    logits = model(**inputs).logits
    score = logits[:, -1].log_softmax(-1).gather(1, tokens[:, -1:])[:, 0]
    np.testing.assert_allclose(found.scores[:, 0], score.detach(), rtol=1e-5)
    (g,) = torch.autograd.grad(score.sum(), kept[0])
    a, g = (at_places(t.detach(), pictures, time) for t in (kept[0], g))
    expected = (g.mean((2, 3, 4), keepdims=True) * a).sum(1)
    expected = expected if time > 1 else expected[:, 0]
    np.testing.assert_allclose(found.maps[:, 0], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def windowed() -> tuple[Any, dict[str, Tensor]]:
    ends = {"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 0}
    rope = {"type": "mrope", "mrope_section": [1, 1, 2]}
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 4}
    vision |= {"out_hidden_size": 16, "window_size": 16, "fullatt_block_indexes": [1]}
    config = transformers.Qwen2_5_VLConfig(
        vision_config=vision,
        text_config={**TEXT, **ends, "num_key_value_heads": 2, "rope_scaling": rope},
        image_token_id=5,
        video_token_id=6,
        vision_start_token_id=3,
        vision_end_token_id=4,
    )
    rows = torch.randn(48, 96, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ids = torch.tensor([[1, 3] + [5] * 12 + [4, 7, 8]])
    grid = torch.tensor([[1, 6, 8]])
    inputs = {"input_ids": ids, "pixel_values": rows, "image_grid_thw": grid}
    inputs |= {"attention_mask": torch.ones_like(ids), "mm_token_type_ids": (ids == 5).long()}
    return drawn(transformers.Qwen2_5_VLForConditionalGeneration(config)), inputs


@pytest.mark.parametrize("layer", ["model.visual.blocks.1", "model.visual.merger"])
def test_rows_in_the_order_of_windows_are_refused(layer: str) -> None:
    model, inputs = windowed()
    with pytest.raises(LayoutError, match="its cells do not follow the places of the input"):
        cc.GradCAM(model, layer).explain(inputs, cc.targets.Token(0))
    assert "visual.merger" not in str(cc.GradCAM(model).explain(inputs, cc.targets.Token(0)).layer)


def test_rows_of_patches_at_a_layer_of_the_language_model_and_of_several_sizes() -> None:
    model, inputs = qwen(), rows_of_patches()
    layer = "model.language_model.layers.0.input_layernorm"
    found = cc.HiResCAM(model, layer, signed=True).explain(inputs, cc.targets.Token(0))
    kept: list[Tensor] = []
    tokens = copy.deepcopy(model).generate(**inputs, do_sample=False, max_new_tokens=1)
    model.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.append(o))
    score = model(**inputs).logits[0, -1].log_softmax(-1)[tokens[0, -1]]
    (g,) = torch.autograd.grad(score, kept[0])
    expected = (g * kept[0])[:, 2:26].sum(2).reshape(1, 4, 6).detach()
    np.testing.assert_allclose(found.maps[:, 0], expected, rtol=0, atol=1e-5 * expected.abs().max())
    assert cc.GradCAM(model).explain(inputs, cc.targets.Token(0)).maps.max() > 0
    two = rows_of_patches(2)
    two["image_grid_thw"] = torch.tensor([[1, 8, 12], [1, 12, 8]])
    with pytest.raises(InputError, match="one size at a time"):
        cc.GradCAM(model).explain(two, cc.targets.Token(0))


def test_tokens_of_a_resampler_have_no_places() -> None:
    """Four latents read the picture (Idefics2): their number fits a grid, and nothing else."""
    text = {**TEXT, "vocab_size": 40, "bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 0}
    sampled = {"hidden_size": 16, "resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2}
    config = transformers.Idefics2Config(
        vision_config=VISION,
        perceiver_config={**sampled, "num_key_value_heads": 2, "resampler_head_dim": 8},
        text_config=transformers.MistralConfig(**text, num_key_value_heads=2),
        image_token_id=5,
    )
    model = drawn(transformers.Idefics2ForConditionalGeneration(config))
    ids = torch.tensor([[1, 8, 5, 5, 5, 5, 9]])
    inputs = {"input_ids": ids, "pixel_values": X[:1, None], "attention_mask": torch.ones_like(ids)}
    with pytest.raises(
        LayoutError, match="as those of a resampler do not; choose a layer of the vision tower"
    ):
        cc.GradCAM(model, "model.text_model.layers.0").explain(inputs, cc.targets.Token(0))
    found = cc.GradCAM(model).explain(inputs, cc.targets.Token(0))
    assert found.maps.shape[2:] == (6, 6)


def test_a_model_does_not_say_the_token_that_stands_for_its_picture() -> None:
    model, inputs = llava(), asked()
    liked = torch.zeros(40).index_fill(0, torch.tensor([5]), 100)
    model.lm_head.register_forward_hook(lambda module, args, output: output + liked)
    assert cc.GradCAM(model).explain(inputs, cc.targets.Token(0)).maps.shape == (2, 1, 6, 6)


def test_numbered_rows_of_patches_are_pictures() -> None:
    """Pix2Struct takes rows that begin with the numbers of their row and column, filled up by zeros."""
    text = {"hidden_size": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2, "vocab_size": 40}
    vision = {"hidden_size": 16, "patch_embed_hidden_size": 12, "d_ff": 24, "d_kv": 8, "seq_len": 16}
    vision |= {"num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"decoder_start_token_id": 1, "pad_token_id": 0, "eos_token_id": 0}
    config = transformers.Pix2StructConfig(text_config=text | ends, vision_config=vision)
    model = drawn(transformers.Pix2StructForConditionalGeneration(config))
    rows = torch.zeros(2, 16, 14, dtype=torch.float64)
    rows[:, :12, 2:] = torch.randn(2, 12, 12, generator=torch.Generator().manual_seed(1))
    for place, (r, c) in enumerate(np.ndindex(3, 4)):
        rows[:, place, :2] = torch.tensor([r + 1, c + 1])
    inputs = {"flattened_patches": rows, "attention_mask": (rows != 0).any(2).double()}
    found = cc.HiResCAM(model, "encoder.encoder.layer.0", signed=True).explain(inputs, cc.targets.Token(0))
    kept: list[Tensor] = []
    model.encoder.encoder.layer[0].register_forward_hook(lambda m, i, o: kept.append(o[0]))
    said = model.generate(**inputs, do_sample=False, max_new_tokens=1)
    score = model(**inputs, decoder_input_ids=said[:, :1]).logits[:, 0].log_softmax(-1).gather(1, said[:, 1:])
    (g,) = torch.autograd.grad(score.sum(), kept[-1])
    expected = (g * kept[-1])[:, :12].sum(2).reshape(2, 3, 4).detach()
    np.testing.assert_allclose(found.maps[:, 0], expected, rtol=0, atol=1e-5 * expected.abs().max())
    assert cc.GradCAM(model).explain(inputs, cc.targets.Token(0)).maps.shape == (2, 1, 3, 4)


# Pictures with a prompt, from a folder.

ASKED = {
    "llava": "w1 <image> w7 w8",
    "qwen": "w1 <|vision_start|> <|image_pad|> <|vision_end|> w7",
    "blip": "w7 w8",
}
MARKS: dict[str, dict[str, int]] = {
    "llava": {"<image>": 5},
    "qwen": {"<|vision_start|>": 3, "<|vision_end|>": 4, "<|image_pad|>": 5, "<|video_pad|>": 6},
    "blip": {},
}


def tokenizer(marks: dict[str, int]) -> Any:
    tokenizers = pytest.importorskip("tokenizers")
    named = {number: mark for mark, number in marks.items()}
    vocabulary = {named.get(number, word): number for number, word in enumerate(WORDS)}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "w39"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    ends = {"unk_token": "w39", "pad_token": "w0", "eos_token": "w0", "bos_token": "w1"}
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=words, **ends)
    made.add_special_tokens({"additional_special_tokens": list(marks)})
    return made


def processor(kind: str) -> Any:
    words, size = tokenizer(MARKS[kind]), {"height": 24, "width": 24}
    if kind == "llava":
        pictures = transformers.CLIPImageProcessor(size=size, crop_size=size)
        how: dict[str, Any] = {"patch_size": 4, "vision_feature_select_strategy": "default"}
        how |= {"image_token": "<image>", "num_additional_image_tokens": 1}
        return transformers.LlavaProcessor(pictures, words, **how)
    if kind == "blip":
        return transformers.BlipProcessor(transformers.BlipImageProcessor(size=size), words)
    how = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    pictures = transformers.Qwen2VLImageProcessor(**how, min_pixels=256, max_pixels=2304)
    clips = transformers.Qwen2VLVideoProcessor(**how)
    return transformers.Qwen2VLProcessor(pictures, words, video_processor=clips)


@pytest.fixture(scope="module", params=list(ASKED))
def asked_folder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp(request.param)
    model = {"llava": llava, "qwen": qwen, "blip": blip}[request.param]().float()
    del model.tokenizer
    model.generation_config.suppress_tokens = list(MARKS[request.param].values()) or None
    model.save_pretrained(path)
    processor(request.param).save_pretrained(path)
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    Image.fromarray(noise).save(path / "photo.png")
    return request.param, path


def explained(path: Path, *options: str) -> Any:
    arguments = ["explain", str(path / "photo.png"), "--model", f"hf:{path}", "--out", str(path / "out")]
    return CliRunner().invoke(main, [*arguments, *options])


def test_a_picture_with_a_prompt_on_the_command_line(asked_folder: tuple[str, Path]) -> None:
    kind, path = asked_folder
    prompt, picture = ASKED[kind], Image.open(path / "photo.png")
    done = explained(path, "--prompt", prompt, "--target", "token:0", "--method", "hirescam")
    assert done.exit_code == 0, done.output
    found = cc.load(path / "out" / "photo.hirescam.npz")
    given = dict(processor(kind)(images=picture, text=prompt, return_tensors="pt"))
    loaded = cc.models.load(f"hf:{path}")
    wanted = cc.HiResCAM(loaded.model).explain(given, cc.targets.Token(0))
    np.testing.assert_allclose(found.maps, wanted.maps, rtol=1e-4, atol=1e-6 * wanted.maps.max())
    assert found.maps.max() > 0
    if kind != "blip":
        logits = loaded.model(**given).logits[0, -1]
        free = [n for n in range(40) if n not in MARKS[kind].values()]
        np.testing.assert_allclose(found.scores[0], logits.log_softmax(-1)[free].max().item(), rtol=1e-4)
    done = explained(path, "--prompt", prompt, "--target", "word:dog")
    assert done.exit_code == 1
    assert "the model says “w" in done.output


def test_what_a_model_is_asked_is_refused_in_a_line(asked_folder: tuple[str, Path], tmp_path: Path) -> None:
    kind, path = asked_folder
    done = explained(path, "--prompt", ASKED[kind])
    assert "name what to explain of it: --target token:0" in done.output
    if kind != "blip":
        done = explained(path, "--target", "token:0")
        assert "takes a picture with a prompt; give --prompt" in done.output
        done = explained(path, "--prompt", "w7", "--target", "token:0")
        mark = list(MARKS[kind])[0 if kind == "llava" else 2]
        assert f"prompt 'w7' has no `{mark}`, the place of the picture; give '{mark}w7'" in done.output
    if kind == "llava":
        done = explained(path, "--prompt", "<image> <image>", "--target", "token:0")
        assert "does not go with one picture" in done.output
        bare = tmp_path / "bare"
        shutil.copytree(path, bare)
        (bare / "processor_config.json").unlink()
        transformers.CLIPImageProcessor(
            size={"height": 24, "width": 24}, do_center_crop=False
        ).save_pretrained(bare)
        done = explained(bare, "--prompt", ASKED[kind], "--target", "token:0")
        assert (
            "a processor_config.json, which processor.save_pretrained writes, may be missing" in done.output
        )
    assert "Traceback" not in done.output


def test_a_prompt_without_the_picture_gets_the_models_form_of_a_chat() -> None:
    made = processor("llava")
    made.chat_template = (
        "{% for turn in messages %}{% for part in turn['content'] %}"
        "{{ '<image> ' if part['type'] == 'image' else part['text'] }}{% endfor %}{% endfor %} w9"
    )
    picture = Image.new("RGB", (24, 24))
    prompted = cc.models.prompts.Prompted(made, "<image>")
    assert prompted(picture, "w7 w8")["input_ids"][0].tolist() == [*[5] * 36, 7, 8, 9]
    assert prompted(picture, "w1 <image> w7")["input_ids"][0].tolist() == [1, *[5] * 36, 7]


def test_a_model_without_a_text_is_not_asked(tmp_path: Path) -> None:
    Image.new("RGB", (96, 96)).save(tmp_path / "p.png")
    asking = ["explain", str(tmp_path / "p.png"), "--model", "chronocam:digits", "--prompt", "What is this?"]
    done = CliRunner().invoke(main, [*asking, "--target", "token:0", "--out", str(tmp_path)])
    assert "`chronocam:digits` does not generate text; drop --prompt" in done.output


def test_tokens_of_a_text_are_no_grid_by_their_number() -> None:
    """Four words are not 2 × 2 places, though they attend to a picture."""
    explanation = cc.GradCAM(blip()).explain(X, cc.targets.Token(0))
    assert explanation.maps.shape == (2, 1, 6, 6)
