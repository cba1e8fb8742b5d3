"""Maps over the words of captions, by hand and against full matrices of every softmax."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from replicas import Softmaxes
from torch import Tensor, nn

import chronocam as cc
from chronocam.cli import main
from chronocam.errors import InputError, ModelError, TargetError
from chronocam.runs.pictures import PictureJob

PIECES = ["", "a", " re", "d", " bus", ","]
VALUES = torch.tensor([[0.0, 0.0], [0.0, 3.0], [3.0, 0.0], [1.0, 0.0], [2.0, 1.0], [1.0, 1.0]]).double()
RED = cc.targets.Caption("a red")
METHODS = ["legrad", "attentionrelevance", "gradientxattention"]


class Pieces:
    """Makes tokens of a text by hand, and the text of tokens."""

    all_special_ids = (0,)

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = False) -> str:
        return "".join(PIECES[token] for token in tokens)


class Mixer(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        scores = torch.zeros(len(values), values.shape[1], values.shape[1], dtype=values.dtype)
        return scores.softmax(-1) @ values


class Pair(nn.Module):
    """A picture is the mean of its first two channels; a text what one head makes of its values."""

    def __init__(self) -> None:
        super().__init__()
        self.values, self.blocks = nn.Parameter(VALUES), nn.ModuleList([Mixer()])
        self.tokenizer = Pieces()

    def encode_image(self, x: Tensor) -> Tensor:
        return x[:, :2].mean((2, 3))

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.blocks[0](self.values[tokens])[:, -1]

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        known = {"a red": [1, 2, 3, 0], "a red, bus": [1, 2, 3, 5, 4, 0]}
        return torch.tensor([known[text] for text in texts])


def pictures(*embedded: Sequence[float]) -> Tensor:
    return torch.tensor(embedded).double()[:, :, None, None].expand(-1, -1, 8, 8)


# Of the text "a re·d <end>" the head makes the mean of (0, 3), (3, 0), (1, 0) and (0, 0), which is (1, 3/4),
# of length 5/4. Its cosine with (1, 0) is 4/5, of gradient g = 4/5 · ((1, 0) − 4/5 · (4/5, 3/5)) = (0.288,
# −0.384). Each value v adds g·v / 4 where that is positive: "a" −0.288, "re" 0.216 and "d" 0.072.
@pytest.mark.parametrize("name", METHODS)
def test_one_layer_one_head_by_hand(name: str) -> None:
    explanation = cc.methods.METHODS[name](Pair(), on="text").explain(pictures([1, 0, 0]), RED)
    assert explanation.dims == ("batch", "target", "word")
    assert explanation.targets[0][0] == cc.types.WordsInfo("“a red”", words=("a", "red"))
    assert explanation.targets[0][0].words == ("a", "red")
    np.testing.assert_allclose(explanation.scores, [[0.8]], rtol=1e-6)
    np.testing.assert_allclose(explanation.maps, [[[0, 0.288]]], atol=1e-7)


@pytest.mark.parametrize("name", METHODS)
def test_pictures_and_captions_are_explained_alike_alone_and_together(name: str) -> None:
    x = pictures([1, 0, 0], [1, 2, 0], [-1, 3, 0])
    longer = cc.targets.Caption("a red, bus")
    together = cc.methods.METHODS[name](Pair(), on="text").explain(x, [RED, longer])
    assert together.maps.shape == (3, 2, 4)
    assert together.targets[2][1].words == ("a", "red", ",", "bus")
    assert not together.maps[:, 0, 2:].any()
    assert len(np.unique(together.maps[:, 1].argmax(-1))) > 1  # another picture, another word
    apart = cc.methods.METHODS[name](Pair(), on="text", batch_size=1).explain(x, [RED, longer])
    np.testing.assert_allclose(apart.maps, together.maps, rtol=1e-6)
    for k, caption in enumerate([RED, longer]):
        alone = cc.methods.METHODS[name](Pair(), on="text").explain(x, caption)
        np.testing.assert_array_equal(alone.maps[:, 0], together.maps[:, k, : alone.maps.shape[2]])
    same = cc.GradCAM(cc.models.load("chronocam:colours")).explain(
        torch.rand(1, 3, 96, 96), cc.targets.Caption("a red one")
    )
    assert same.dims[2:] == ("height", "width")


def test_what_has_no_words_is_refused() -> None:
    x, model = pictures([1, 0, 0]), Pair()
    for name in ("gradcam", "rollout"):
        with pytest.raises(InputError, match=f"{name} makes no maps of it; choose legrad"):
            cc.methods.METHODS[name](model, on="text").explain(x, RED)
    words = cc.LeGrad(model, on="text")
    cases = [
        (None, "the target is None; give"),
        ([RED, 1], "the target is 1; give"),
        (cc.targets.Contrast(RED, RED), "give cc.targets.Caption"),
        (cc.targets.Caption("a red", template=["{}", "a {}"]), "2 templates"),
        (cc.targets.Caption("a red", encode_text=lambda texts: torch.ones(1, 2)), "leave encode_text out"),
    ]
    for target, match in cases:
        with pytest.raises(TargetError, match=match):
            words.explain(x, target)
    with pytest.raises(InputError, match="leave conv_layer out"):
        cc.LeGrad(model, "blocks.0", on="text").explain(x, RED)
    del model.tokenizer
    with pytest.raises(TargetError, match=r"set model\.tokenizer"):
        cc.LeGrad(model, on="text").explain(x, RED)
    with pytest.raises(InputError, match="on='text' is not one of the 1 inputs"):
        cc.LeGrad(nn.Conv2d(3, 4, 1), on="text").explain(torch.rand(1, 3, 8, 8), 0)


def test_words_are_saved_drawn_and_shown(tmp_path: Path) -> None:
    x = pictures([1, 0, 0], [1, 2, 0])
    one = cc.LeGrad(Pair(), on="text").explain(x, [RED, cc.targets.Caption("a red, bus")])
    again = cc.load(one.save(tmp_path / "words.npz"))
    assert [info.words for info in again.targets[1]] == [("a", "red"), ("a", "red", ",", "bus")]
    np.testing.assert_array_equal(again.maps, one.maps)
    page = one.save(tmp_path / "words.html", [Image.new("RGB", (8, 8))] * 2).read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    shown = data["items"][1]["words"][0]
    assert shown["picture"]
    assert [target["words"] for target in shown["targets"]] == [["a", "red"], ["a", "red", ",", "bus"]]
    shares = np.concatenate([target["shares"] for target in shown["targets"]])
    assert shares.max() == 1
    assert shown["targets"][1]["relevance"] == pytest.approx(one.maps[1, 1].tolist(), rel=1e-4)
    figure = one.plot()
    bars = [[patch.get_width() for patch in axis.patches] for axis in figure.axes]
    np.testing.assert_allclose(bars[3], one.maps[1, 1])
    with pytest.raises(InputError, match="no places"):
        one.overlay(x)
    assert cc.report.write_folder(tmp_path).exists()


def test_the_command_line_says_the_words(tmp_path: Path) -> None:
    Image.fromarray(cc.data.digits.scenes(1, coloured=True).images[0]).save(tmp_path / "p.png")
    asked = ["--target", "text:a red seven", "--method", "gradeclip", "--method", "legrad", "--html"]
    asked += ["--model", "chronocam:colours", "--out", str(tmp_path)]
    done = CliRunner().invoke(main, ["explain", str(tmp_path / "p.png"), *asked])
    assert done.exit_code == 0, done.output
    maps = json.loads((tmp_path / "p.json").read_text())["maps"]
    assert [one["method"] for one in maps] == ["gradeclip", "legrad", "gradeclip", "legrad"]
    loaded = cc.models.load("chronocam:colours")
    wanted = cc.LeGrad(loaded, on="text").explain(str(tmp_path / "p.png"), cc.targets.Caption("a red seven"))
    assert [word["word"] for word in maps[3]["words"]] == ["a", "red", "seven"]
    found = [word["relevance"] for word in maps[3]["words"]]
    np.testing.assert_allclose(found, wanted.maps[0, 0], rtol=1e-5)
    assert '"words":["a","red","seven"]' in (tmp_path / "p.html").read_text()


def test_jobs_of_other_targets_have_no_words(tmp_path: Path) -> None:
    loaded = cc.models.load("chronocam:digits-vit")
    how: dict[str, Any] = {"methods": ["legrad"], "layers": None, "align": "half_pixel"}
    for target in (cc.targets.Predicted(2), 3, None, [3, 4]):
        job = PictureJob(loaded=loaded, out=tmp_path, preprocess=loaded.preprocess, targets=target, **how)
        assert list(job.explain(np.zeros((2, 3, 96, 96), np.float32))) == ["legrad"]


SIZES: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 24}


def matcher(image: int = 32) -> Any:
    transformers = pytest.importorskip("transformers")
    text = {
        **SIZES,
        "vocab_size": 6,
        "max_position_embeddings": 20,
        "encoder_hidden_size": 16,
        "bos_token_id": 1,
    }
    vision = {**SIZES, "image_size": image, "patch_size": 8}
    config = transformers.BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.BlipForImageTextRetrieval(config).double().eval()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.3)
    return model


def normalised(r: np.ndarray) -> np.ndarray:
    added = r - np.eye(r.shape[-1])
    sums = added.sum(-1, keepdims=True)
    return np.eye(r.shape[-1]) + added / np.where(sums == 0, 1, sums)


def test_texts_that_attend_to_a_picture_have_words_too() -> None:
    """The text is an input: self-attention, then attention to 17 tokens of the picture, in each layer."""
    model, x = matcher(), torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
    ids = torch.tensor([[0, 1, 2, 3, 4], [0, 4, 1, 2, 3]])

    def score(out: Any) -> Tensor:
        return out.itm_score[:, 1]

    given = {"input_ids": ids, "pixel_values": x}
    model.set_attn_implementation("eager")
    with Softmaxes() as seen:
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        total = score(model(**given)).sum()
    grads = torch.autograd.grad(total, seen.kept)
    every = [(a * g).clamp(min=0).mean(1).detach().numpy() for a, g in zip(seen.kept, grads, strict=True)]
    r_tt, r_ti = np.eye(5)[None], np.zeros((2, 5, 17))
    r_ii = (np.eye(17) + every[1]) @ (np.eye(17) + every[0])
    for own, cross in zip(every[2::2], every[3::2], strict=True):
        r_tt, r_ti = r_tt + own @ r_tt, r_ti + own @ r_ti
        r_ti = r_ti + normalised(r_tt).swapaxes(1, 2) @ cross @ normalised(r_ii)
    found = cc.AttentionRelevance(model, on="input_ids").explain(given, score)
    np.testing.assert_allclose(found.maps[:, 0], r_tt[:, 0], rtol=1e-5)
    model.tokenizer = Pieces()
    words = cc.AttentionRelevance(model, on="input_ids").explain(given, score)
    assert [row[0].words for row in words.targets] == [("a", "red", "bus"), ("busa", "red")]
    joined = [r_tt[0, 0, [1, 2, 4]] + [0, r_tt[0, 0, 3], 0], [*r_tt[1, 0, [1, 3]] + r_tt[1, 0, [2, 4]], 0]]
    np.testing.assert_allclose(words.maps[:, 0], joined, rtol=1e-5)


def test_a_text_with_as_many_tokens_as_the_picture_is_refused() -> None:
    given = {"input_ids": torch.arange(17)[None] % 6, "pixel_values": torch.randn(1, 3, 32, 32).double()}
    with pytest.raises(ModelError, match="give a text of another length"):
        cc.AttentionRelevance(matcher(), "text_encoder.encoder.layer.1", on="input_ids").explain(
            given, lambda out: out.itm_score[:, 1]
        )


def test_a_map_over_words_is_laid_on_no_picture() -> None:
    inputs = pictures([1, 0, 0])
    explanation = cc.LeGrad(Pair(), on="text").explain(inputs, RED)
    with pytest.raises(InputError, match="a map over words has no places to be laid on"):
        explanation.overlay(inputs)
