"""Captions, similarity, and labels that are texts, against what the towers of tiny random networks say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from replicas import Softmaxes
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import InputError, TargetError

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

TEXT = "<pad> <unk> <s> </s> a red blue bus dog on sofa photo of . the cat"
WORDS = {word: number for number, word in enumerate(TEXT.split())}
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**SIZES, "image_size": 32, "patch_size": 8}
KINDS = ["clip", "siglip"]


def made(kind: str) -> Any:
    text = {**SIZES, "vocab_size": len(WORDS), "max_position_embeddings": 12, "bos_token_id": 2}
    text |= {"eos_token_id": 3, "pad_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "clip":
            config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=8)
            model = transformers.CLIPModel(config)
        else:
            config = transformers.SiglipConfig(text_config=text, vision_config=VISION)
            model = transformers.SiglipModel(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.3)
    return model.eval()


def tokenizer() -> Any:
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, "<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        "<s> $A </s>", None, [("<s>", 2), ("</s>", 3)]
    )
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=12, **names)


@pytest.fixture(scope="module", params=KINDS)
def folder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param)
    made(request.param).save_pretrained(path)
    tokenizer().save_pretrained(path)
    size = {"height": 32, "width": 32}
    kind = transformers.CLIPImageProcessor if request.param == "clip" else transformers.SiglipImageProcessor
    kind(size=size, crop_size=size, do_center_crop=False).save_pretrained(path)
    return path


X = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def ids(text: str, kind: Any) -> Tensor:
    """Return the tokens by hand: SigLIP's texts are all as long as it takes."""
    numbers = [2, *(WORDS[word] for word in text.replace(".", " .").split()), 3]
    return torch.tensor([numbers + [0] * (12 - len(numbers)) * isinstance(kind, transformers.SiglipModel)])


def cosine(model: Any, x: Tensor, text: str) -> Tensor:
    return F.cosine_similarity(
        model.get_image_features(x).pooler_output, model.get_text_features(ids(text, model)).pooler_output
    )


def test_a_caption_is_the_cosine_and_its_map_the_gradient(folder: Path) -> None:
    loaded = cc.models.load(f"hf:{folder}")
    layer = "vision_model.encoder.layers.0"
    found = cc.GradCAM(loaded, layer, signed=True).explain(X, cc.targets.Caption("a red bus"))
    kept: list[Tensor] = []
    handle = loaded.model.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.append(o))
    score = cosine(loaded.model, X, "a red bus")
    handle.remove()
    np.testing.assert_allclose(found.scores[:, 0], score.detach(), rtol=1e-5, atol=1e-6)
    (g,) = torch.autograd.grad(score.sum(), kept[0])
    prefix = kept[0].shape[1] - 16
    a, g = (t[:, prefix:].mT.unflatten(2, (4, 4)).detach() for t in (kept[0], g))
    expected = (g.mean((2, 3), keepdim=True) * a).sum(1)
    np.testing.assert_allclose(found.maps[:, 0], expected, rtol=0, atol=1e-5 * expected.abs().max())
    assert found.targets[0][0].name == "“a red bus”"


def test_a_caption_is_encoded_once_and_never_cut_with_the_batch(folder: Path) -> None:
    loaded, seen = cc.models.load(f"hf:{folder}"), list[int]()
    x = X.double()
    loaded.model.double().text_model.register_forward_hook(
        lambda module, args, given, output: seen.append(len(given["input_ids"])), with_kwargs=True
    )
    both = [cc.targets.Caption("a red bus"), cc.targets.Caption("a dog on a sofa")]
    method = cc.HiResCAM(loaded, "vision_model.encoder.layers.0", batch_size=2)
    whole = cc.HiResCAM(loaded, "vision_model.encoder.layers.0").explain(x, both)
    seen.clear()
    found = method.explain(x, both)
    assert seen == [1, 1]
    np.testing.assert_allclose(found.scores, whole.scores, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.maps, whole.maps, rtol=0, atol=1e-6 * np.abs(whole.maps).max())
    np.testing.assert_allclose(
        found.scores[:, 1], cosine(loaded.model, x, "a dog on a sofa").detach(), rtol=1e-4, atol=1e-6
    )
    with torch.no_grad():
        loaded.model.text_model.get_input_embeddings().weight.mul_(1.5)
    again = method.explain(x, both[0])
    np.testing.assert_allclose(
        again.scores[:, 0], cosine(loaded.model, x, "a red bus").detach(), rtol=1e-4, atol=1e-6
    )
    assert np.abs(again.scores[:, 0] - found.scores[:, 0]).max() > 1e-4


def test_a_caption_that_is_longer_than_the_model_takes_is_refused(folder: Path) -> None:
    """Its end would be cut off, and the map be of another text."""
    loaded = cc.models.load(f"hf:{folder}")
    fits = " ".join(["dog"] * 10)
    assert np.isfinite(cc.GradCAM(loaded).explain(X[:1], cc.targets.Caption(fits)).scores).all()
    with pytest.raises(TargetError, match="has 13 tokens, and the model takes 12"):
        cc.GradCAM(loaded).explain(X[:1], cc.targets.Caption(fits + " dog"))


def test_two_captions_are_contrasted_and_templates_averaged(folder: Path) -> None:
    loaded = cc.models.load(f"hf:{folder}")
    red, blue = (cc.targets.Caption(f"a {colour} bus") for colour in ("red", "blue"))
    found = cc.GradCAM(loaded).explain(X, cc.targets.Contrast(red, blue))
    expected = (cosine(loaded.model, X, "a red bus") - cosine(loaded.model, X, "a blue bus")).detach()
    np.testing.assert_allclose(found.scores[:, 0], expected, rtol=1e-3, atol=1e-6)
    assert found.targets[0][0].name == "“a red bus” rather than “a blue bus”"
    with pytest.raises(TargetError, match="same target"):
        cc.GradCAM(loaded).explain(X, cc.targets.Contrast(red, cc.targets.Caption("a red bus")))
    several = cc.targets.Caption("dog", template=["a photo of a {} .", "the {} ."])
    texts = [
        loaded.model.get_text_features(ids(t, loaded.model)).pooler_output
        for t in ("a photo of a dog .", "the dog .")
    ]
    mean = sum(F.normalize(t, dim=-1) for t in texts)
    expected = F.cosine_similarity(loaded.model.get_image_features(X).pooler_output, mean).detach()
    np.testing.assert_allclose(
        cc.GradCAM(loaded).explain(X, several).scores[:, 0], expected, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"template": []}, "template is empty"),
        ({"template": "a photo"}, "has no place {}"),
        ({"template": ["{}", "a {name}"]}, "has no place {}"),
        ({"encode_text": "clip"}, "expected a function of a list of texts"),
    ],
)
def test_captions_that_cannot_be_encoded_are_refused_at_once(options: Any, match: str) -> None:
    with pytest.raises(TargetError, match=match):
        cc.targets.Caption("a dog", **options)


def test_a_template_may_name_the_text_twice_and_others(folder: Path) -> None:
    assert cc.targets.Caption("dog", template="a {} on a {} of {name}").texts == ["a dog on a dog of {name}"]
    with pytest.raises(TargetError, match="returned a list"):
        cc.GradCAM(made("clip")).explain(X, cc.targets.Caption("a dog", lambda texts: [[1.0] * 8]))
    loaded = cc.models.load(f"hf:{folder}", labels=["cat", "dog"], template="a photo")
    with pytest.raises(TargetError, match=r"has no place \{\}"):  # all labels would be the same text
        cc.GradCAM(loaded).explain(X)


def test_labels_are_texts_that_make_a_classifier(folder: Path) -> None:
    loaded = cc.models.load(f"hf:{folder}", labels=["cat", "dog", "bus"], template="the {} .")
    texts = torch.cat([ids(f"the {label} .", loaded.model) for label in loaded.labels])
    logits = loaded.model(pixel_values=X, input_ids=texts).logits_per_image.detach()
    found = cc.GradCAM(loaded).explain(X)
    np.testing.assert_allclose(found.scores[:, 0], logits.max(1).values, rtol=1e-4, atol=1e-5)
    assert [row[0].name for row in found.targets] == [loaded.labels[i] for i in logits.argmax(1)]
    np.testing.assert_allclose(
        cc.GradCAM(loaded).explain(X, "dog").scores[:, 0], logits[:, 1], rtol=1e-4, atol=1e-5
    )
    named = cc.GradCAM(cc.models.load(f"hf:{folder}"), labels=["cat", "dog"]).explain(X, "dog")
    assert named.targets[0][0].name == "dog"


@pytest.mark.parametrize("name", ["legrad", "attentionrelevance", "gradeclip", "gradientxattention"])
def test_methods_of_attention_explain_captions(folder: Path, name: str) -> None:
    """Only the tower of pictures attends, and captions differ."""
    loaded = cc.models.load(f"hf:{folder}")
    both = [cc.targets.Caption("a red bus"), cc.targets.Caption("a dog on a sofa")]
    found = cc.methods.METHODS[name](loaded).explain(X, both).maps
    assert found.shape == (3, 2, 4, 4)
    assert np.abs(found[:, 0] - found[:, 1]).max() > 0.05 * found.max() > 0


class Towers(nn.Module):
    """Two towers of one's own; pictures alone come out of `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.texts = nn.Conv2d(3, 8, 8, 8), nn.Embedding(26, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu().mean((2, 3))

    def encode(self, texts: list[str]) -> Tensor:
        return torch.stack([self.texts(torch.tensor([ord(c) - 97 for c in t])).mean(0) for t in texts])


def test_towers_of_ones_own() -> None:
    torch.manual_seed(0)
    net, calls = Towers(), list[int]()

    def encode(texts: list[str]) -> Tensor:
        calls.append(len(texts))
        return net.encode(texts)

    found = cc.GradCAM(net, "conv", batch_size=1).explain(X, cc.targets.Caption("bus", encode))
    assert calls == [1]
    expected = F.cosine_similarity(net(X), net.encode(["bus"])).detach()
    np.testing.assert_allclose(found.scores[:, 0], expected, rtol=1e-5)
    with pytest.raises(TargetError, match="encode_text="):
        cc.GradCAM(net, "conv").explain(X, cc.targets.Caption("bus"))
    with pytest.raises(TargetError, match="embeddings 8"):
        cc.GradCAM(net, "conv").explain(X, cc.targets.Caption("bus", lambda texts: torch.ones(1, 5)))
    with pytest.raises(TargetError, match="expected \\(1, channel\\)"):
        cc.GradCAM(net, "conv").explain(X, cc.targets.Caption("bus", lambda texts: torch.ones(8)))
    for text in ("", 3):
        with pytest.raises(TargetError, match="is not text"):
            cc.targets.Caption(text)
    with pytest.raises(TargetError, match="no place"):
        cc.targets.Caption("bus", template="a photo")


def test_similarity_to_an_embedding_a_picture_and_one_per_sample(folder: Path) -> None:
    loaded = cc.models.load(f"hf:{folder}")
    rows = loaded.model.get_image_features(X).pooler_output.detach()
    for reference in (rows[1], rows[1:2], X[1], X[1:2], X[1].numpy()):
        found = cc.GradCAM(loaded, batch_size=2).explain(X, cc.targets.Similarity(reference))
        expected = F.cosine_similarity(rows, rows[1:2])
        np.testing.assert_allclose(found.scores[:, 0], expected, rtol=1e-4, atol=1e-5)
    own = cc.GradCAM(loaded, batch_size=2).explain(X, cc.targets.Similarity(rows.flip(0)))
    np.testing.assert_allclose(
        own.scores[:, 0], F.cosine_similarity(rows, rows.flip(0)), rtol=1e-4, atol=1e-5
    )
    picture = Image.fromarray((np.random.default_rng(0).random((40, 40, 3)) * 255).astype(np.uint8))
    found = cc.GradCAM(loaded).explain(picture, cc.targets.Similarity(picture))
    np.testing.assert_allclose(found.scores, 1, rtol=1e-4)
    with pytest.raises(TargetError, match=r"the reference is 3 inputs, \(3, 3, .*; give one of them"):
        cc.GradCAM(loaded).explain(X, cc.targets.Similarity(X))


def test_a_reference_may_be_a_list() -> None:
    embed = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x = torch.rand(3, 3, 16, 16)
    as_list, as_array = (
        cc.GradCAM(embed).explain(x, cc.targets.Similarity(one)).scores
        for one in ([1.0, 2, 3, 4], torch.tensor([1.0, 2, 3, 4]))
    )
    np.testing.assert_allclose(as_list, as_array, rtol=1e-4)


@pytest.mark.parametrize("made", [np.zeros((1, 8)), np.full((1, 8), np.nan), "text"])
def test_embeddings_without_a_direction_are_refused(made: Any) -> None:
    net, x = Towers(), torch.rand(1, 3, 16, 16)
    with pytest.raises(TargetError, match=r"no cosine|expected an array"):
        cc.GradCAM(net, "conv").explain(x, cc.targets.Caption("abc", lambda texts: made))
    if not isinstance(made, str):
        with pytest.raises(TargetError, match="the reference is zero or not finite"):
            cc.GradCAM(net, "conv").explain(x, cc.targets.Similarity(made))


def test_a_model_of_two_towers_has_no_classes_of_its_own(folder: Path) -> None:
    loaded = cc.models.load(f"hf:{folder}")
    assert loaded.labels is None
    with pytest.raises(TargetError, match="Caption"):
        cc.GradCAM(loaded).explain(X)


def test_a_raw_model_is_given_pictures_alone() -> None:
    model = made("clip")
    with pytest.raises(TargetError, match="nothing says how texts become inputs"):
        cc.GradCAM(model).explain(X, cc.targets.Caption("a red bus"))

    def encode(texts: list[str]) -> Tensor:
        return torch.cat([model.get_text_features(ids(t, model)).pooler_output for t in texts])

    for inputs in (X, {"pixel_values": X}):
        found = cc.GradCAM(model).explain(inputs, cc.targets.Caption("a red bus", encode))
        np.testing.assert_allclose(
            found.scores[:, 0], cosine(model, X, "a red bus").detach(), rtol=1e-5, atol=1e-6
        )


def test_a_backbone_embeds(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.Dinov2WithRegistersConfig(**VISION, num_register_tokens=3, mlp_ratio=2)
    transformers.Dinov2WithRegistersModel(config).save_pretrained(tmp_path)
    size = {"height": 32, "width": 32}
    transformers.BitImageProcessor(size=size, crop_size=size).save_pretrained(tmp_path)
    loaded = cc.models.load(f"hf:{tmp_path}")
    assert loaded.labels is None
    for method in (cc.GradCAM, cc.LeGrad, cc.AttentionRelevance, cc.GradECLIP):
        found = method(loaded).explain(X, cc.targets.Similarity(X[0]))
        assert found.maps.shape == (3, 1, 4, 4)
        np.testing.assert_allclose(found.scores[0], 1, rtol=1e-4)
    rows = loaded.model(X).pooler_output
    np.testing.assert_allclose(
        found.scores[:, 0], F.cosine_similarity(rows, rows[:1]).detach(), rtol=1e-4, atol=1e-5
    )


def test_captions_on_the_command_line(folder: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from chronocam.cli import main

    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "p.png")
    asked = ["--target", "text:a red bus", "--method", "legrad", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, ["explain", str(tmp_path / "p.png"), "--model", f"hf:{folder}", *asked])
    assert done.exit_code == 0, done.output
    found = cc.load(tmp_path / "out" / "p.legrad.npz")
    loaded = cc.models.load(f"hf:{folder}")
    expected = cosine(
        loaded.model, torch.as_tensor(loaded.preprocess(Image.fromarray(noise)))[None], "a red bus"
    )
    np.testing.assert_allclose(found.scores[:, 0], expected.detach(), rtol=1e-4, atol=1e-6)
    assert found.targets[0][0].name == "“a red bus”"
    assert (tmp_path / "out" / "p.legrad.0-a-red-bus.png").exists()
    done = CliRunner().invoke(main, ["explain", str(tmp_path / "p.png"), "--model", f"hf:{folder}"])
    assert done.exit_code == 1
    assert "text:" in done.output


def test_the_words_of_a_caption_equal_matrices_over_its_tokens(folder: Path) -> None:
    """CLIP reads the end of the text, which sees what is before it; SigLIP the last of all that fills up."""
    loaded = cc.models.load(f"hf:{folder}")
    model, text = loaded.model, "a red bus"
    found = cc.AttentionRelevance(loaded, on="text").explain(X, cc.targets.Caption(text))
    np.testing.assert_allclose(found.scores[:, 0], cosine(model, X, text).detach(), rtol=1e-4, atol=1e-6)
    assert found.targets[0][0].words == ("a", "red", "bus")
    model.set_attn_implementation("eager")
    pictures = model.get_image_features(X).pooler_output.detach()
    for number, picture in enumerate(pictures):
        with Softmaxes() as seen:
            for parameter in model.parameters():
                parameter.requires_grad_(True)
            embedded = model.get_text_features(ids(text, model)).pooler_output[0]
            score = F.cosine_similarity(embedded, picture, dim=0)
        grads = torch.autograd.grad(score, seen.kept)
        r = np.eye(seen.kept[0].shape[-1])
        for a, g in zip(seen.kept, grads, strict=True):
            r = r + (a * g).clamp(min=0).mean(1)[0].detach().numpy() @ r
        end = 4 if isinstance(model, transformers.CLIPModel) else -1
        np.testing.assert_allclose(found.maps[number, 0], r[end, 1:4], rtol=1e-3, atol=1e-6)


def test_a_model_that_compares_picture_and_text_itself_is_given_both() -> None:
    class Matches(nn.Module):
        def forward(self, pixel_values: Tensor, input_ids: Tensor) -> Tensor:
            return pixel_values.mean((1, 2, 3))[:, None] + input_ids.sum(1, keepdim=True)

    caption = cc.targets.Caption("a red bus")
    for target in (caption, cc.targets.Contrast(caption, cc.targets.Caption("a dog"))):
        with pytest.raises(TargetError, match=r"Matches has no text tower .* give dict\(processor\("):
            cc.GradCAM(Matches()).explain(X, target)


@pytest.mark.parametrize("length", [30, 52])
def test_patches_that_are_filled_up_to_a_length_are_pictures(length: int) -> None:
    """SigLIP 2 takes patches row by row, and how many rows and columns they are."""
    vision = {**SIZES, "patch_size": 8, "num_patches": 16}
    text = {**SIZES, "vocab_size": len(WORDS), "max_position_embeddings": 12, "projection_size": 16}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.Siglip2Config(text_config=text, vision_config=vision)
        model = transformers.Siglip2Model(config).double().eval()
        patches = torch.zeros(2, length, 192).double()
        patches[:, :30] = torch.randn(2, 30, 192).double()
    given: dict[str, Any] = {
        "input_ids": cc.Shared(torch.tensor([[2, 4, 5, 7, 3], [2, 4, 8, 5, 3]])),
        "pixel_values": patches,
        "pixel_attention_mask": (torch.arange(length) < 30).long().expand(2, -1),
        "spatial_shapes": torch.tensor([[5, 6], [5, 6]]),
    }

    def score(out: Any) -> Tensor:
        return out.logits_per_image[:, 1]

    kept, layer = list[Tensor](), "vision_model.encoder.layers.0"
    handle = model.get_submodule(layer).register_forward_hook(
        lambda module, args, output: kept.append(output)
    )
    total = score(model(**{**given, "input_ids": given["input_ids"].array})).sum()
    (g,) = torch.autograd.grad(total, kept)
    handle.remove()
    a, g = (t.detach()[:, :30].mT.reshape(2, 16, 5, 6) for t in (kept[0], g))
    wanted = (g.mean((2, 3), keepdim=True) * a).sum(1).clamp(min=0)
    found = cc.GradCAM(model, layer).explain(given, score).maps[:, 0]
    assert wanted.max() > 0
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * wanted.max().item())
    together = cc.AttentionRelevance(model).explain(given, score).maps
    second = {name: x if isinstance(x, cc.Shared) else x[1:] for name, x in given.items()}
    alone = cc.AttentionRelevance(model).explain(second, score).maps
    assert together.shape == (2, 1, 5, 6)
    np.testing.assert_allclose(alone[0], together[1], rtol=0, atol=1e-6 * together.max())
    given["spatial_shapes"] = torch.tensor([[5, 6], [6, 5]])
    with pytest.raises(InputError, match="5 × 6, 6 × 5 patches; explain those of one size"):
        cc.GradCAM(model, layer).explain(given, score)


def test_grad_eclip_adds_up_the_words_of_all_layers(folder: Path) -> None:
    """Of each layer: the gradient at what its heads made, at the token that is read, times the values."""
    loaded = cc.models.load(f"hf:{folder}")
    model, text = loaded.model, "a red bus"
    e = cc.GradECLIP(loaded, on="text").explain(X, cc.targets.Caption(text))
    last = cc.GradECLIP(loaded, on="text", layers=1).explain(X, cc.targets.Caption(text))
    tower = model.text_model.encoder.layers
    kept: list[dict[str, Tensor]] = [{}, {}]
    for layer, names in zip(tower, kept, strict=True):
        for name in ("q_proj", "k_proj", "v_proj"):
            layer.self_attn.get_submodule(name).register_forward_hook(
                lambda m, i, o, name=name, names=names: names.update({name: o[0]})
            )
        layer.self_attn.out_proj.register_forward_pre_hook(lambda m, i, names=names: names.update(o=i[0]))
    embedded = model.get_text_features(ids(text, model)).pooler_output[0]
    score = F.cosine_similarity(embedded, model.get_image_features(X[:1]).pooler_output[0].detach(), dim=0)
    grads = torch.autograd.grad(score, [names["o"] for names in kept])
    end = 4 if isinstance(model, transformers.CLIPModel) else 11
    every = []
    for layer, names, g in zip(tower, kept, grads, strict=True):
        w = layer.self_attn.out_proj.weight
        near = F.cosine_similarity((names["q_proj"] @ w.T)[end, None], names["k_proj"] @ w.T, dim=1)
        share = (near - near.min()) / (near.max() - near.min())
        every.append(((g[0, end] * names["v_proj"]).sum(1) * share).detach())
    np.testing.assert_allclose(e.maps[0, 0], sum(every)[1:4].clamp(min=0), rtol=1e-3, atol=1e-6)  # type: ignore
    np.testing.assert_allclose(last.maps[0, 0], every[-1][1:4].clamp(min=0), rtol=1e-3, atol=1e-6)
    assert not np.allclose(e.maps, last.maps)
