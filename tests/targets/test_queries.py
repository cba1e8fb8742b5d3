"""Regions of networks that give masks of queries."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import chronocam as cc

T = pytest.importorskip("transformers")


def swin() -> Any:
    return T.SwinConfig(
        embed_dim=8,
        depths=[1] * 4,
        num_heads=[1, 1, 2, 2],
        window_size=2,
        image_size=64,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def maskformer() -> nn.Module:
    small = {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
        "num_queries": 7,
    }
    config = T.MaskFormerConfig(
        fpn_feature_size=32,
        mask_feature_size=32,
        backbone_config=swin(),
        decoder_config=T.DetrConfig(**small),
        num_labels=5,
    )
    torch.manual_seed(0)
    return T.MaskFormerForInstanceSegmentation(config).eval().double()


def mask2former() -> nn.Module:
    config = T.Mask2FormerConfig(
        backbone_config=swin(),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=16,
        encoder_feedforward_dim=16,
        num_queries=7,
        num_labels=5,
    )
    torch.manual_seed(0)
    return T.Mask2FormerForUniversalSegmentation(config).eval().double()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [maskformer, mask2former])
def test_a_region_of_masks_of_queries_is_their_semantic_segmentation_by_hand(
    make: Callable[[], nn.Module],
) -> None:
    net, x = make(), torch.rand(1, 3, 64, 64).double()
    layer = "model.pixel_level_module.decoder.mask_projection"
    cut: list[torch.Tensor] = []

    def hook(module: nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
        cut[:] = [output.detach().requires_grad_()]
        return cut[0]

    handle = net.get_submodule(layer).register_forward_hook(hook)
    out = net(x)
    handle.remove()
    shares = out.class_queries_logits.softmax(-1)[..., :-1]
    dense = torch.einsum("bqc,bqhw->bchw", shares, out.masks_queries_logits.sigmoid())
    predicted = int(dense[0].argmax(0).flatten().mode().values)
    mask = dense[0].argmax(0) == predicted
    for target, score in (
        (cc.targets.Region((2, 3, 9, 8), 1), dense[0, 1, 3:8, 2:9].mean()),
        (cc.targets.Region.predicted(predicted), dense[0, predicted][mask].mean()),
    ):
        (gradient,) = torch.autograd.grad(score, cut, retain_graph=True)
        found = cc.HiResCAM(net, signed=True).explain(x, target)
        assert found.layer == layer
        hand = (gradient * cut[0]).sum(1).detach().numpy()
        np.testing.assert_allclose(found.maps[:, 0], hand, atol=1e-5 * np.abs(hand).max())
        assert found.scores[0, 0] == pytest.approx(float(score.detach()), rel=1e-5)
