"""Detectors of Hugging Face: each row kept is a query, and maps are autograd of its score by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import ModelError, TargetError

T = pytest.importorskip("transformers")

X = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0)).double()
SMALL = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "num_queries": 9,
}
WIDTHS = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}
LAST = ["stage2", "stage3", "stage4"]


def resnet(outputs: list[str]) -> Any:
    return T.ResNetConfig(**WIDTHS, out_features=outputs)


def of_resnet(outputs: list[str]) -> dict[str, Any]:
    return {"use_timm_backbone": False, "backbone": None, "backbone_config": resnet(outputs), "num_labels": 5}


def detr() -> nn.Module:
    return T.DetrForObjectDetection(T.DetrConfig(**SMALL, **of_resnet(["stage4"])))


def conditional() -> nn.Module:
    return T.ConditionalDetrForObjectDetection(T.ConditionalDetrConfig(**SMALL, **of_resnet(["stage4"])))


def deformable() -> nn.Module:
    config = T.DeformableDetrConfig(num_feature_levels=3, **SMALL, **of_resnet(LAST))
    return T.DeformableDetrForObjectDetection(config)


def rt_detr(focal: bool = True) -> nn.Module:
    config = T.RTDetrConfig(
        backbone_config=T.RTDetrResNetConfig(**WIDTHS, out_features=LAST),
        encoder_hidden_dim=32,
        encoder_in_channels=[16, 16, 32],
        decoder_in_channels=[32, 32, 32],
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        d_model=32,
        decoder_layers=2,
        num_queries=9,
        num_labels=5,
        anchor_image_size=None,
        use_focal_loss=focal,
    )
    return T.RTDetrForObjectDetection(config)


def d_fine() -> nn.Module:
    stages = {f"stage_{side}_channels": [8, 16, 16, 32] for side in ("out", "mid")}
    backbone = T.HGNetV2Config(
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 8, 16, 16],
        hidden_sizes=[8, 16, 16, 32],
        stage_num_blocks=[1] * 4,
        stage_numb_of_layers=[1] * 4,
        out_features=LAST,
        **stages,
    )
    sizes = {key: value for key, value in SMALL.items() if key != "encoder_layers"}
    config = T.DFineConfig(
        backbone_config=backbone,
        encoder_hidden_dim=32,
        encoder_in_channels=[16, 16, 32],
        decoder_in_channels=[32] * 3,
        decoder_n_points=[2, 2, 2],
        num_labels=5,
        **sizes,
    )
    return T.DFineForObjectDetection(config)


def with_masks() -> nn.Module:
    sizes = {"d_model": 64, "encoder_attention_heads": 8, "decoder_attention_heads": 8}
    every = ["stage1", "stage2", "stage3", "stage4"]
    return T.DetrForSegmentation(T.DetrConfig(**(SMALL | sizes), **of_resnet(every)))


def yolos() -> nn.Module:
    small = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    config = T.YolosConfig(**small, image_size=[96, 128], patch_size=16, num_detection_tokens=9, num_labels=5)
    return T.YolosForObjectDetection(config)


def owl() -> nn.Module:
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    text = {"vocab_size": 50, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 2, **small}
    config = T.OwlViTConfig(
        text_config=text, vision_config={"image_size": 96, "patch_size": 16, **small}, projection_dim=32
    )
    return T.OwlViTForObjectDetection(config)


def grounding() -> nn.Module:
    swin = T.SwinConfig(embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=2, out_features=LAST)
    text = T.BertConfig(
        vocab_size=200, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    config = T.GroundingDinoConfig(
        backbone_config=swin,
        text_config=text,
        num_feature_levels=3,
        max_text_len=16,
        **(SMALL | {"encoder_layers": 1}),
    )
    return T.GroundingDinoForObjectDetection(config)


def pictures(x: Tensor) -> Any:
    return x


def with_queries(x: Tensor) -> Any:
    ids = torch.randint(3, 50, (2 * len(x), 6), generator=torch.Generator().manual_seed(0))
    return {"input_ids": cc.Shared(ids), "pixel_values": x[..., :96].contiguous()}


def with_a_caption(x: Tensor) -> Any:
    ids = torch.tensor([[101, 5, 6, 7, 102]]).expand(len(x), -1).contiguous()
    return {"pixel_values": x, "input_ids": ids, "attention_mask": torch.ones_like(ids)}


SOFTMAX = (detr, with_masks, yolos)
# How each is called, the layer that is cut by hand, and the tokens that stand before and after its patches.
FAMILIES: dict[Callable[[], nn.Module], tuple[Callable[[Tensor], Any], str, tuple[int, int] | None]] = {
    detr: (pictures, "model.input_projection", None),
    conditional: (pictures, "model.input_projection", None),
    deformable: (pictures, "model.input_proj.2", None),
    rt_detr: (pictures, "model.encoder.pan_blocks.0", None),
    d_fine: (pictures, "model.encoder.pan_blocks.0", None),
    with_masks: (pictures, "detr.model.input_projection", None),
    yolos: (pictures, "vit.encoder.layer.1", (1, 9)),
    owl: (with_queries, "owlvit.vision_model.encoder.layers.1", (1, 0)),
    grounding: (with_a_caption, "model.input_proj_vision.1", None),
}


def network(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    net = make().eval()
    for parameter in net.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.1)
    return net.requires_grad_(False).double()  # attention over nine queries loses digits in float32


def plain(inputs: Any) -> Any:
    if not isinstance(inputs, dict):
        return {"pixel_values": inputs}
    return {key: value.array if isinstance(value, cc.Shared) else value for key, value in inputs.items()}


def by_hand(net: nn.Module, inputs: Any, layer: str, score: Callable[[Any], Tensor]) -> Tensor:
    """Return gradient times activation at a layer, of a score of the model's output."""
    cut: list[Tensor] = []

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) else output
        cut[:] = [first.detach().requires_grad_()]
        return (cut[0], *output[1:]) if isinstance(output, tuple) else cut[0]

    handle = net.get_submodule(layer).register_forward_hook(hook)
    value = score(net(**plain(inputs)))
    handle.remove()
    (gradient,) = torch.autograd.grad(value, cut)
    return (gradient * cut[0]).detach()


def on_grid(product: Tensor, tokens: tuple[int, int] | None, shape: tuple[int, ...]) -> np.ndarray:
    if tokens is None:
        return product.sum(1).numpy()
    first, last = tokens
    return product[:, first : product.shape[1] - last].sum(2).reshape(len(product), *shape).numpy()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", FAMILIES, ids=lambda make: make.__name__)
def test_a_kept_row_is_a_query_and_its_map_is_autograd_by_hand(make: Callable[[], nn.Module]) -> None:
    given, layer, tokens = FAMILIES[make]
    net, inputs = network(make), given(X[:1])
    found = cc.detect(net, inputs, min_score=0.01)
    with torch.no_grad():
        out = net(**plain(inputs))
    logits, boxes = out.logits[0], out.pred_boxes[0]
    shares = logits.softmax(-1)[:, :-1] if make in SOFTMAX else logits.sigmoid()
    scores, classes = shares.max(-1)
    height, width = plain(inputs)["pixel_values"].shape[2:]
    for one in found:
        cx, cy, w, h = boxes[one.row].tolist()
        corners = (cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height
        np.testing.assert_allclose(one.box, np.clip(corners, 0, [width, height] * 2), atol=1e-3)
        assert one.score == pytest.approx(float(scores[one.row]), rel=1e-4)
        assert one.index == int(classes[one.row])
    if make is not owl:  # whose boxes of neighbouring patches lie on each other
        assert [one.row for one in found] == scores.argsort(descending=True).tolist()
    one = found[1]

    def score(out: Any) -> Tensor:
        own = out.logits[0, one.row]
        return (own.log_softmax(0) if make in SOFTMAX else nn.functional.logsigmoid(own))[one.index]

    layout = "channels_first" if tokens is None else None
    explanation = cc.ODAM(net, layer, layout=layout, signed=True).explain(inputs, cc.targets.Boxes(one))
    hand = on_grid(by_hand(net, inputs, layer, score), tokens, explanation.maps.shape[2:])
    np.testing.assert_allclose(explanation.maps[:, 0], hand, atol=1e-4 * np.abs(hand).max())
    side = cc.ODAM(net, layer, layout=layout).explain(inputs, cc.targets.Boxes(one, of="x1"))

    def right(out: Any) -> Tensor:
        return (out.pred_boxes[0, one.row, 0] + out.pred_boxes[0, one.row, 2] / 2) * width

    hand = on_grid(by_hand(net, inputs, layer, right), tokens, side.maps.shape[2:])
    np.testing.assert_allclose(side.maps[:, 0], hand, atol=1e-4 * np.abs(hand).max())


@pytest.mark.filterwarnings("ignore")
def test_the_mask_of_a_query_is_explained_by_its_mean_where_it_is_predicted() -> None:
    net, layer = network(with_masks), "detr.model.input_projection"
    found = cc.detect(net, X[:1], min_score=0.01)[:2]
    maps = cc.ODAM(net, layer, layout="channels_first", signed=True).explain(X[:1], cc.targets.Mask(found))
    assert str(maps.targets[0][0]).startswith("mask of LABEL_")
    for column, one in enumerate(found):

        def score(out: Any, row: int = one.row) -> Tensor:
            mask = out.pred_masks[0, row]
            return mask[mask > 0].mean()

        hand = by_hand(net, X[:1], layer, score).sum(1).numpy()
        np.testing.assert_allclose(maps.maps[:, column], hand, atol=1e-4 * np.abs(hand).max())


@pytest.mark.filterwarnings("ignore")
def test_what_has_a_detector_as_a_part_is_a_detector() -> None:
    with pytest.raises(TargetError, match=r"the model finds no box of score 0\.3 or more"):
        cc.ODAM(network(with_masks)).explain(X[:1])


@pytest.mark.filterwarnings("ignore")
def test_queries_without_masks_are_refused() -> None:
    net = network(d_fine)
    mask = cc.targets.Mask(cc.detect(net, X[:1], min_score=0.01)[0])
    with pytest.raises(ModelError, match="a DFineForObjectDetection has no masks of instances"):
        cc.ODAM(net).explain(X[:1], mask)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "layers", "grid"),
    [
        (detr, "model.encoder", (3, 4)),
        (deformable, "model.input_proj.2", (3, 4)),
        (rt_detr, "model.encoder.pan_blocks.0", (6, 8)),
        (yolos, "vit.encoder.layer.", (6, 8)),
    ],
)
def test_a_query_is_explained_where_places_are_still_known(
    make: Callable[[], nn.Module], layers: str, grid: tuple[int, int]
) -> None:
    explanation = cc.ODAM(network(make)).explain(X[:1], cc.targets.Boxes(top=2))
    assert explanation.layer.startswith(layers)
    assert explanation.maps.shape == (1, 2, *grid)
    assert explanation.maps.any(axis=(2, 3)).all()


def test_without_focal_loss_rt_detr_has_a_background() -> None:
    torch.manual_seed(0)
    net = rt_detr(focal=False).eval().double()
    found = cc.detect(net, X[:1], min_score=0.0)
    with torch.no_grad():
        shares = net(X[:1]).logits[0].softmax(-1)[:, :-1].max(-1).values
    assert {one.row: one.score for one in found} == pytest.approx(dict(enumerate(shares.tolist())), rel=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_pictures_of_several_sizes_may_have_several_layers() -> None:
    # At the second size cells of the encoder do not follow the picture, and a layer before it does.
    pictures = [X[0], X[1][:, :64], X[0][:, :64]]
    whole = cc.ODAM(network(detr)).explain(pictures, cc.targets.Boxes(top=1))
    assert whole.sizes == ((96, 128), (64, 128), (64, 128))
    for i, x in enumerate(pictures):
        alone = cc.ODAM(network(detr)).explain(x[None], cc.targets.Boxes(top=1))
        assert whole.targets[i] == alone.targets[0]
        expected = alone.resampled(alone.maps, whole.maps.shape[2:])
        np.testing.assert_allclose(whole.maps[[i]], expected, atol=1e-4 * expected.max())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [detr, conditional])
def test_cross_attention_of_a_query_times_its_gradient_is_autograd_by_hand(
    make: Callable[[], nn.Module],
) -> None:
    net = network(make)
    net.set_attn_implementation("eager")
    one = cc.detect(net, X[:1], min_score=0.01)[1]
    attention = net.model.decoder.layers[-1].encoder_attn
    weights: list[Tensor] = []

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        weights[:] = [output[1]]

    handle = attention.register_forward_hook(hook)
    own = net(X[:1].requires_grad_(), output_attentions=True).logits[0, one.row]
    handle.remove()
    score = (own.log_softmax(0) if make in SOFTMAX else nn.functional.logsigmoid(own))[one.index]
    (gradient,) = torch.autograd.grad(score, weights)
    hand = (gradient * weights[0]).clamp(min=0).mean(1)[0, one.row].reshape(3, 4).detach().numpy()
    explanation = cc.GradientXAttention(net).explain(X[:1].detach(), cc.targets.Boxes(one))
    np.testing.assert_allclose(explanation.maps[0, 0], hand, atol=1e-5 * hand.max())
    assert hand.max() > 0
