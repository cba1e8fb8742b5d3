"""Regions of segmentation networks: each beside autograd by hand, at the layer that is taken by itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers import one_line
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import TargetError
from chronocam.targets import Counter, Region

X = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(3)).double()


class Block(nn.Sequential):
    def __init__(self, inner: int, outer: int) -> None:
        super().__init__(nn.Conv2d(inner, outer, 3, padding=1), nn.BatchNorm2d(outer), nn.ReLU(inplace=True))


class UNet(nn.Module):
    """Two levels down and up, with what was seen on the way down joined to what is seen on the way up."""

    def __init__(self, classes: int = 4, gate: Callable[[Tensor], Tensor] = lambda y: y) -> None:
        super().__init__()
        self.down = nn.ModuleList([Block(3, 8), Block(8, 8), Block(8, 16)])
        self.up = nn.ModuleList([Block(24, 8), Block(16, 8)])
        self.head, self.gate = nn.Conv2d(8, classes, 1), gate

    def forward(self, x: Tensor) -> Tensor:
        seen = [self.down[0](x)]
        for down in self.down[1:]:
            seen.append(down(nn.functional.max_pool2d(seen[-1], 2)))
        y = seen.pop()
        for up in self.up:
            y = up(torch.cat([nn.functional.interpolate(y, scale_factor=2), seen.pop()], 1))
        return self.gate(self.head(y))


class EncoderDecoder(nn.Module):
    """Encoder, decoder and head as segmentation_models_pytorch has them: the encoder returns all levels."""

    class Encoder(nn.ModuleList):
        def forward(self, x: Tensor) -> list[Tensor]:
            levels = [x]
            for block in self:
                levels.append(nn.functional.max_pool2d(block(levels[-1]), 2))
            return levels

    class Decoder(nn.ModuleList):
        def forward(self, levels: list[Tensor]) -> Tensor:
            y = levels[-1]
            for block, skip in zip(self, reversed(levels[:-1]), strict=True):
                y = block(torch.cat([nn.functional.interpolate(y, skip.shape[2:]), skip], 1))
            return y

    def __init__(self) -> None:
        super().__init__()
        self.encoder = self.Encoder([Block(3, 8), Block(8, 16)])
        self.decoder = self.Decoder([Block(24, 8), Block(11, 8)])
        self.segmentation_head = nn.Sequential(nn.Conv2d(8, 4, 3, padding=1), nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return self.segmentation_head(self.decoder(self.encoder(x)))


class Pooled(nn.Sequential):
    """Down by pooling and up again, with nothing between the last pooling and the steps up."""

    def __init__(self) -> None:
        super().__init__(
            *(Block(3, 8), nn.MaxPool2d(2), Block(8, 8), nn.MaxPool2d(2)),
            *(nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2), Block(8, 8)),
            nn.Conv2d(8, 4, 1),
        )


def of_torchvision(name: str, **options: Any) -> nn.Module:
    models = pytest.importorskip("torchvision.models.segmentation")
    return getattr(models, name)(weights=None, weights_backbone=None, num_classes=4, **options)


def segformer() -> nn.Module:
    T = pytest.importorskip("transformers")
    small = {"hidden_sizes": [8, 16, 16, 32], "depths": [1] * 4, "num_attention_heads": [1, 1, 2, 2]}
    return T.SegformerForSemanticSegmentation(
        T.SegformerConfig(**small, decoder_hidden_size=16, num_labels=4)
    )


class Deep(nn.Module):
    """A U-Net with a level more, which has cells of 4 pixels on the way up."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([Block(3, 4), Block(4, 8), Block(8, 8), Block(8, 8)])
        self.up = nn.ModuleList([Block(16, 8), Block(16, 8), Block(12, 8)])
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = [self.down[0](x)]
        for down in self.down[1:]:
            seen.append(down(nn.functional.max_pool2d(seen[-1], 2)))
        y = seen.pop()
        for up in self.up:
            y = up(torch.cat([nn.functional.interpolate(y, scale_factor=2), seen.pop()], 1))
        return self.head(y)


# How each is made, and the layer that is taken: the last features before the logits, or, of a network that
# comes back to the picture's own grid, the last of cells of 4 pixels that does more than pool or enlarge.
FAMILIES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "unet": (UNet, "down.2"),
    "deep": (Deep, "up.0"),
    "unet-softmax": (lambda: UNet(gate=lambda y: y.softmax(1)), "down.2"),
    "unet-sigmoid": (lambda: UNet(1, torch.sigmoid), "down.2"),
    "encoder-decoder": (EncoderDecoder, "decoder.0"),
    "pooled": (Pooled, "2"),
    "deeplab-aux": (lambda: of_torchvision("deeplabv3_mobilenet_v3_large", aux_loss=True), "classifier.3"),
    "lraspp": (lambda: of_torchvision("lraspp_mobilenet_v3_large"), "backbone.16"),
    "segformer": (segformer, "decode_head.activation"),
}


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    net = FAMILIES[name][0]().eval().requires_grad_(False)
    for parameter in net.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=1.4 / parameter[0].numel() ** 0.5)
    return net.double()


def dense_of(net: nn.Module, layer: str | None = None) -> tuple[Tensor, list[Tensor]]:
    """Return the logits, before a final gate, and what a layer returned, cut off from what was before."""
    cut, logits = list[Tensor](), list[Tensor]()

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        cut[:] = [output.detach().requires_grad_()]
        return cut[0].clone()

    handles = [] if layer is None else [net.get_submodule(layer).register_forward_hook(hook)]
    if isinstance(net, UNet):
        handles.append(net.head.register_forward_hook(lambda _, args, output: logits.append(output)))
    raw = net(X)
    for handle in handles:
        handle.remove()
    if logits or isinstance(raw, Tensor):
        return (*logits, raw)[0], cut
    return next(iter(raw.values())), cut


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FAMILIES)
def test_a_predicted_region_is_autograd_by_hand_at_the_layer_that_is_taken(name: str) -> None:
    net, layer = network(name), FAMILIES[name][1]
    dense, cut = dense_of(net, layer)
    single = dense.shape[1] == 1
    chosen = (dense[:, 0] > 0).long() if single else dense.argmax(1)
    label = int(chosen.flatten().mode().values)
    sign, channel = (1 if label else -1, 0) if single else (1, label)
    score = sign * dense[:, channel][chosen == label].mean()
    (gradient,) = torch.autograd.grad(score, cut)
    hand = (gradient * cut[0]).sum(1)[0].detach().numpy()
    explanation = cc.HiResCAM(net, signed=True).explain(X, Region.predicted(label))
    assert explanation.layer == layer
    np.testing.assert_allclose(explanation.maps[0, 0], hand, atol=1e-5 * np.abs(hand).max())
    assert explanation.scores[0, 0] == pytest.approx(float(score.detach()), rel=1e-5)
    pooled = (gradient.mean((2, 3), keepdim=True) * cut[0]).sum(1)[0].detach().numpy()
    seg = cc.GradCAM(net, signed=True).explain(X, Region.predicted(label))  # Seg-Grad-CAM
    np.testing.assert_allclose(seg.maps[0, 0], pooled, atol=1e-5 * np.abs(pooled).max())
    assert any("forgets the place" in text for text in seg.diagnostics)


def test_what_speaks_against_a_region_is_on_the_same_layer() -> None:
    net = network("encoder-decoder")
    label = int(dense_of(net)[0].argmax(1).flatten().mode().values)
    target = Region.predicted(label)
    for_it, against = (cc.HiResCAM(net, signed=True).explain(X, one) for one in (target, Counter(target)))
    assert against.layer == for_it.layer
    np.testing.assert_allclose(against.maps, -for_it.maps, atol=1e-6 * np.abs(for_it.maps).max())


class Colours(nn.Module):
    """Says of each pixel which of three colours is the strongest, at a quarter of the input's size."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 3, 4, 4)
        self.head = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            for layer, size in ((self.features, 16), (self.head, 1)):
                layer.bias.zero_()
                layer.weight.copy_(torch.eye(3)[..., None, None].expand_as(layer.weight) / size)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).relu())


def test_a_picture_without_the_class_says_so_and_the_others_go_on() -> None:
    net = Colours().eval()
    net.labels = ["red", "green", "blue"]
    photos = torch.zeros(3, 3, 16, 16)
    photos[:, 0] = 0.1
    photos[1, 1, 4:8, 8:12] = 1  # green is in the second alone
    explanation = cc.HiResCAM(net, "features").explain(photos, Region.predicted("green"))
    assert np.isnan(explanation.maps[[0, 2]]).all()
    assert np.isnan(explanation.scores[[0, 2]]).all()
    assert np.flatnonzero(explanation.maps[1]).tolist() == [6]
    assert explanation.scores[1, 0] == pytest.approx(1)
    assert [one.sample for one in explanation.findings if "nothing predicted as green" in one.text] == [0, 2]
    alone = cc.HiResCAM(net, "features").explain(photos[1:2], Region.predicted("green"))
    np.testing.assert_array_equal(explanation.maps[1], alone.maps[0])
    with pytest.raises(TargetError) as error:
        cc.HiResCAM(net).explain(photos, Region.predicted("blue"))
    one_line(error, "the model finds nothing predicted as blue in any sample")
