"""Clips of every axis order, video tokens at their place and time, and the frames that time slices cover."""

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from helpers import noise, one_line, seeded
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import LayoutError
from chronocam.layouts import ChannelsFirst, FramesFirst, VideoTokens
from chronocam.layouts.base import Site, infer
from chronocam.maps.frames import frame_spans
from chronocam.methods import Method
from chronocam.types import Need, View


class Summed(Method):
    """The sum of a layer's channels: shows where the layout puts every value."""

    needs: ClassVar[tuple[Need, ...]] = (Need(gradients=False),)

    def maps(self, view: View) -> Any:
        return view.captures[0].activations.sum(1)[:, None]


Summed.name = "summed"  # not by its definition, which would make it a method of the library


def summed(net: Any, layer: str, x: Tensor, layout: Any = None) -> np.ndarray:
    return Summed(net, layer, layout=layout).explain(x, 0).maps[:, 0]


def close(found: Any, expected: Tensor) -> None:
    found, expected = np.asarray(found), np.asarray(expected.detach())
    assert found.shape == expected.shape
    assert len(np.unique(expected.round(9))) > expected.size // 2  # no two places look alike
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


# The axes of the input


class Ordered(nn.Module):
    """Takes clips with channels or frames first, into a 3D convolution or a 2D one for each frame."""

    def __init__(self, rank: int, channels: int, frames_first: bool, decoy: bool = False) -> None:
        super().__init__()
        if decoy:  # registered first, called last
            self.temporal = nn.Conv1d(7, 7, 1)
        self.conv: Any = (nn.Conv2d if rank == 2 else nn.Conv3d)(channels, 7, 3, padding=1)
        self.fc = nn.Linear(7, 3)
        self.rank, self.frames_first, self.decoy = rank, frames_first, decoy

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.frames_first else x.transpose(1, 2)  # (batch, time, channel, …)
        if self.rank == 2:
            h = self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2]).transpose(1, 2)
        else:
            h = self.conv(x.transpose(1, 2))
        steps = h.tanh().mean((3, 4))
        return self.fc((self.temporal(steps) if self.decoy else steps).tanh().sum(2))


ORDERS = [
    (rank, channels, frames, frames_first)
    for rank in (2, 3)
    for channels in (1, 3, 8)
    for frames in sorted({1, 3, 5, 8})
    for frames_first in (False, True)
    # Where both axes are as long as the first convolution wants, its rank decides.
    if not (channels == frames > 1 and frames_first == (rank == 3))
]


@pytest.mark.parametrize(("rank", "channels", "frames", "frames_first"), ORDERS)
def test_pixel_maps_of_every_order_are_autograd(
    rank: int, channels: int, frames: int, frames_first: bool
) -> None:
    net = seeded(lambda: Ordered(rank, channels, frames_first), double=True)
    shape = (frames, channels) if frames_first else (channels, frames)
    x = noise(2, *shape, 6, 4)
    leaf = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(net(leaf)[:, 1].sum(), leaf)
    found = cc.Saliency(net).explain(x, 1)
    assert found.input_size == (frames, 6, 4)
    close(found.maps[:, 0], g.abs().amax(2 if frames_first else 1))


@pytest.mark.parametrize(
    ("rank", "channels", "frames", "frames_first"), [o for o in ORDERS if o[0] == 3 or o[2] > 1]
)
def test_maps_of_every_order_are_as_long_as_the_clip(
    rank: int, channels: int, frames: int, frames_first: bool
) -> None:
    net = seeded(lambda: Ordered(rank, channels, frames_first), double=True)
    shape = (frames, channels) if frames_first else (channels, frames)
    x = noise(2, *shape, 6, 4)
    in_order = x.transpose(1, 2) if frames_first else x
    if rank == 2:
        out = net.conv(in_order.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, frames)).transpose(1, 2)
    else:
        out = net.conv(in_order)
    close(summed(net, "conv", x), out.sum(1))


@pytest.mark.parametrize("frames_first", [True, False])
def test_a_convolution_that_is_registered_before_the_first_one(frames_first: bool) -> None:
    net = seeded(lambda: Ordered(2, 3, frames_first, decoy=True), double=True)
    x = noise(2, 5, 3, 6, 8)
    x = x if frames_first else x.transpose(1, 2)
    assert cc.Saliency(net).explain(x, 1).input_size == (5, 6, 8)
    assert cc.GradCAM(net, "conv").explain(x, 1).maps.shape == (2, 1, 5, 6, 8)


# Frames before channels


class FramesBefore(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.swap, self.fc = nn.Conv3d(3, 6, 3, padding=1), nn.Identity(), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.swap(self.conv(x).transpose(1, 2)).tanh().mean((1, 3, 4)))


def test_frames_first_by_name_and_object() -> None:
    net, x = (
        seeded(FramesBefore, double=True),
        noise(2, 3, 6, 8, 8),
    )  # 6 frames and 6 channels: shapes do not tell
    expected = net.conv(x).sum(1)
    for layout in ("frames_first", FramesFirst(), lambda a: a.movedim(2, 1)):
        close(summed(net, "swap", x, layout), expected)
    close(summed(net, "conv", x, "channels_first"), expected)
    close(summed(net, "conv", x, ChannelsFirst()), expected)


@pytest.mark.parametrize("layout", ["tokens", "video_tokens", "folded", "stepped", "video-tokens"])
def test_a_layout_of_something_else_is_refused_in_one_line(layout: str) -> None:
    with pytest.raises(LayoutError) as error:
        summed(seeded(FramesBefore, double=True), "conv", noise(2, 3, 6, 8, 8), layout)
    one_line(error, f"`{layout}`")


# Video tokens

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def transformers() -> Any:
    return pytest.importorskip("transformers")


def video_mae(mean: bool = True) -> Any:
    t = transformers()
    sizes = {"image_size": 16, "patch_size": 4, "num_frames": 4, "tubelet_size": 2, "num_labels": 3}
    return t.VideoMAEForVideoClassification(t.VideoMAEConfig(**SMALL, **sizes, use_mean_pooling=mean))


def timesformer(frames: int = 5) -> Any:
    t = transformers()
    sizes = {"image_size": 16, "patch_size": 4, "num_frames": frames, "num_labels": 3}
    net = t.TimesformerForVideoClassification(t.TimesformerConfig(**SMALL, **sizes))
    for name, parameter in net.named_parameters():
        if "temporal_dense" in name:  # zeros at the start, so that time would not matter
            nn.init.normal_(parameter, std=0.2)
    return net


def vivit() -> Any:
    t = transformers()
    sizes = {"image_size": 16, "num_frames": 4, "tubelet_size": [2, 4, 4], "num_labels": 3}
    return t.VivitForVideoClassification(t.VivitConfig(**SMALL, **sizes))


def without_positions(net: nn.Module) -> Any:
    """Let the embeddings be the patch convolution's output alone."""
    with torch.no_grad():
        for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
            if "position" in name or "time_embed" in name or "pos_encoding" in name:
                tensor.zero_()
    for module in net.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, Tensor) and not isinstance(table, nn.Parameter):  # VideoMAE's is a plain tensor
            module.position_embeddings = torch.zeros_like(table)
    return net


FRAMES_IN = {"videomae": 4, "timesformer": 5, "timesformer, 3 frames": 3, "vivit": 4}
NETS: dict[str, Any] = {
    "videomae": video_mae,
    "timesformer": timesformer,
    "timesformer, 3 frames": lambda: timesformer(3),  # as many as channels
    "vivit": vivit,
}
EMBEDDINGS = {"videomae": "videomae.embeddings.patch_embeddings", "vivit": "vivit.embeddings"}


def convolution(net: nn.Module) -> Any:
    return next(m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d)))


def patches_of(net: nn.Module, x: Tensor) -> Tensor:
    """The patch convolution's output `(batch, channel, time, height, width)`, of clips with frames first."""
    conv = convolution(net)
    if isinstance(conv, nn.Conv3d):
        return conv(x.transpose(1, 2))
    return torch.stack([conv(frame) for frame in x.unbind(1)], dim=2)


@pytest.mark.parametrize("name", NETS)
def test_patch_embeddings_lie_where_the_convolution_puts_them(name: str) -> None:
    net, x = without_positions(seeded(NETS[name], double=True)), noise(2, FRAMES_IN[name], 3, 16, 16)
    layer = EMBEDDINGS.get(name, "timesformer.embeddings")
    expected = patches_of(net, x).sum(1)
    close(summed(net, layer, x), expected)
    for b in range(2):
        close(summed(net, layer, x[b : b + 1]), expected[b : b + 1])


@pytest.mark.parametrize("name", NETS)
def test_tokens_after_attention_lie_in_the_same_order(name: str) -> None:
    net, x = seeded(NETS[name], double=True), noise(2, FRAMES_IN[name], 3, 16, 16)
    lists = [path for path, m in net.named_modules() if isinstance(m, nn.ModuleList) and len(m) == 2]
    layer = f"{lists[0]}.1"
    kept: list[Any] = []
    handle = net.get_submodule(layer).register_forward_hook(lambda module, args, output: kept.append(output))
    net(x)
    handle.remove()
    tokens = kept[0] if isinstance(kept[0], Tensor) else kept[0][0]
    time = FRAMES_IN[name] if name.startswith("timesformer") else FRAMES_IN[name] // 2
    prefix = 0 if name == "videomae" else 1
    assert tokens.shape[1] == prefix + time * 16
    by_hand = torch.zeros(2, time, 4, 4, dtype=torch.float64)
    for t, i, j in np.ndindex(time, 4, 4):
        patch = 4 * i + j
        at = patch * time + t if name.startswith("timesformer") else t * 16 + patch
        by_hand[:, t, i, j] = tokens[:, prefix + at].sum(1).detach()
    close(summed(net, layer, x), by_hand)
    order = "patch" if name.startswith("timesformer") else "time"
    close(summed(net, layer, x, VideoTokens((time, 4, 4), prefix, order)), by_hand)
    close(summed(net, layer, x, "video_tokens"), by_hand)


@pytest.mark.parametrize("name", NETS)
def test_video_transformers_are_explained_by_default(name: str) -> None:
    net, x = seeded(NETS[name], double=True), noise(2, FRAMES_IN[name], 3, 16, 16)
    found = cc.GradCAM(net, signed=True).explain(x, 1)
    time = FRAMES_IN[name] if name.startswith("timesformer") else FRAMES_IN[name] // 2
    assert found.maps.shape == (2, 1, time, 4, 4)
    assert found.maps.any(axis=(1, 2, 3, 4)).all()
    assert found.input_size == (FRAMES_IN[name], 16, 16)
    leaf = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(net(leaf).logits[:, 1].sum(), leaf)
    close(cc.Saliency(net).explain(x, 1).maps[:, 0], g.abs().amax(2))


def mvit() -> Any:
    from torchvision.models.video.mvit import MSBlockConfig, MViT

    def block(width: int, out: int, stride: list[int]) -> Any:
        return MSBlockConfig(1, width, out, [3, 3, 3] if stride else [], [3, 3, 3], stride, [1, 2, 2])

    blocks = [block(8, 8, []), block(8, 16, [1, 2, 2])]
    return MViT((32, 32), 4, blocks, True, False, False, False, stochastic_depth_prob=0.0, num_classes=3)


def swin() -> Any:
    from torchvision.models.video.swin_transformer import SwinTransformer3d

    return SwinTransformer3d(
        [2, 4, 4], 8, [2, 1], [1, 1], [2, 2, 2], stochastic_depth_prob=0.0, num_classes=3
    )


def test_tokens_of_mvit_lie_where_the_convolution_puts_them() -> None:
    net, x = seeded(mvit, double=True), noise(2, 3, 4, 32, 32)
    with torch.no_grad():
        for parameter in net.pos_encoding.parameters():
            parameter.zero_()
    expected = net.conv_proj(x)
    assert expected.shape[2:] == (2, 8, 8)
    close(summed(net, "pos_encoding", x), expected.sum(1))
    kept: list[Any] = []
    handle = net.blocks[1].register_forward_hook(lambda module, args, output: kept.append(output))
    net(x)
    handle.remove()
    tokens, grid = kept[0]
    assert tuple(grid) == (2, 4, 4)
    by_hand = torch.zeros(2, 2, 4, 4, dtype=torch.float64)
    for t, i, j in np.ndindex(2, 4, 4):
        by_hand[:, t, i, j] = tokens[:, 1 + t * 16 + i * 4 + j].sum(1).detach()
    close(summed(net, "blocks.1", x), by_hand)
    found = cc.GradCAM(net).explain(x, 0)
    assert found.input_size == (4, 32, 32)
    assert found.maps.shape[2] == 2


def test_cells_of_swin3d_lie_where_the_convolution_puts_them() -> None:
    net, x = seeded(swin, double=True), noise(2, 3, 4, 16, 24)
    tall = net.patch_embed.proj(x)
    by_hand = torch.zeros(2, *tall.shape[2:], dtype=torch.float64)
    weights = noise(8, seed=5)
    net.patch_embed.norm.weight.data = weights  # else every sum over channels is 0
    for t, i, j in np.ndindex(*tall.shape[2:]):
        v = tall[:, :, t, i, j]
        normed = (v - v.mean(1, keepdim=True)) / (
            v.var(1, unbiased=False, keepdim=True) + net.patch_embed.norm.eps
        ).sqrt()
        by_hand[:, t, i, j] = (normed * weights).sum(1).detach()
    close(summed(net, "patch_embed", x), by_hand)
    kept: list[Any] = []
    handle = net.features[0].register_forward_hook(lambda module, args, output: kept.append(output))
    net(x)
    handle.remove()
    close(summed(net, "features.0", x), kept[0].sum(-1))
    found = cc.GradCAM(net).explain(x, 0)
    assert found.maps.shape == (2, 1, 2, 2, 3)
    assert found.input_size == (4, 16, 24)


@pytest.mark.parametrize(
    ("frames", "size", "tube", "patch", "prefix"),
    [
        (16, (224, 224), 2, 16, 0),  # VideoMAE
        (8, (224, 224), 1, 16, 1),  # TimeSformer
        (32, (224, 224), 2, 16, 1),  # ViViT
        (16, (224, 224), 2, 4, 1),  # MViT, stage by stage
        (16, (224, 224), 2, 8, 1),
        (16, (224, 224), 2, 16, 1),
        (16, (224, 224), 2, 32, 1),
        (96, (224, 224), 1, 16, 1),
        (8, (448, 448), 1, 16, 1),
        (16, (224, 320), 2, 16, 0),
        (1, (224, 224), 1, 16, 1),
    ],
)
def test_the_grid_of_video_tokens(
    frames: int, size: tuple[int, int], tube: int, patch: int, prefix: int
) -> None:
    grid = (frames // tube, size[0] // patch, size[1] // patch)
    count = prefix + int(np.prod(grid))
    found = infer(Site("blocks", (2, count, 64), 2, (frames, *size)))
    assert found == VideoTokens(grid, prefix)


def test_token_orders_by_hand() -> None:
    grid = (3, 2, 4)
    array = np.arange(2 * 5 * 24.0).reshape(2, 5, *grid)
    by_time = np.stack([array[:, :, t, i, j] for t, i, j in np.ndindex(3, 2, 4)], axis=1)
    by_patch = np.stack([array[:, :, t, i, j] for i, j, t in np.ndindex(2, 4, 3)], axis=1)
    for order, tokens in (("time", by_time), ("patch", by_patch)):
        np.testing.assert_array_equal(VideoTokens(grid, order=order)(tokens), array)
        with_prefix = np.concatenate([np.full((2, 2, 5), -1.0), tokens], axis=1)
        np.testing.assert_array_equal(VideoTokens(grid, 2, order)(with_prefix), array)
        np.testing.assert_array_equal(
            VideoTokens(grid, 2).ordered(order)(torch.from_numpy(with_prefix)), array
        )


def test_wrong_video_tokens_are_refused_in_one_line() -> None:
    with pytest.raises(LayoutError, match="no token order `space`") as error:
        VideoTokens((2, 4, 4), order="space")
    one_line(error)
    net, x = seeded(video_mae, double=True), noise(1, 4, 3, 16, 16)
    for layout in (VideoTokens((4, 4, 4)), VideoTokens((2, 4, 4), prefix=1)):
        with pytest.raises(LayoutError, match=r"expected . prefix tokens") as error:
            summed(net, EMBEDDINGS["videomae"], x, layout)
        one_line(error)
    with pytest.raises(LayoutError) as error:
        cc.GradCAM(net, "classifier").explain(x, 0)
    one_line(error, "`classifier`")


# Which frames a slice covers


@pytest.mark.parametrize(("slices", "frames"), [(2, 16), (16, 16), (3, 8), (5, 8), (1, 7), (7, 16), (1, 1)])
def test_spans_of_even_and_uneven_slices(slices: int, frames: int) -> None:
    found = frame_spans(slices, frames)
    assert len(found) == slices
    for i, (first, last) in enumerate(found):
        low, high = (
            i * frames / slices,
            (i + 1) * frames / slices,
        )  # slice i tiles [low, high) of the time line
        touched = [f for f in range(frames) if f + 1 > low + 1e-9 and f < high - 1e-9]
        assert (first, last) == (touched[0], touched[-1])
    if frames % slices == 0:
        assert found == tuple((i * frames // slices, (i + 1) * frames // slices - 1) for i in range(slices))


def test_spans_by_hand() -> None:
    assert frame_spans(3, 8) == ((0, 2), (2, 5), (5, 7))
    assert frame_spans(2, 16, (0.0, 8.0)) == ((0, 4), (4, 15))  # r3d_18: frame 4 is as near to either
    assert frame_spans(3, 8, (0.5, 2.5, 4.5)) == ((0, 1), (2, 3), (4, 7))
    assert frame_spans(1, 9, (4.0,)) == ((0, 8),)


CENTERS = [
    (0.0, 8.0),
    (0.0, 4.0, 8.0, 12.0),
    (1.5, 5.5, 9.5, 13.5),
    (-2.0, 3.0, 8.0, 13.0),
    (0.0, 2.0, 6.0, 7.0, 15.0),
]


@pytest.mark.parametrize("centers", CENTERS)
def test_spans_around_centres_hold_the_nearest_frames(centers: tuple[float, ...]) -> None:
    found = frame_spans(len(centers), 16, centers)
    for i, (first, last) in enumerate(found):
        nearest = [f for f in range(16) if abs(f - centers[i]) == min(abs(f - c) for c in centers)]
        assert (first, last) == (nearest[0], nearest[-1])


def test_spans_of_an_explanation_follow_its_alignment() -> None:
    layers = [nn.Conv3d(1, 3, 3, stride=(2, 2, 2), padding=1) for _ in range(1)]
    net = seeded(
        lambda: nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 2)), double=True
    )
    x = noise(1, 1, 8, 8, 8)
    assert cc.GradCAM(net, "0").explain(x, 0).frame_spans == ((0, 1), (2, 3), (4, 5), (6, 7))
    aligned = cc.GradCAM(net, "0", align="receptive_field").explain(x, 0)
    assert aligned.centers[0] == (0, 2, 4, 6)
    assert aligned.frame_spans == ((0, 1), (1, 3), (3, 5), (5, 7))
    assert cc.Saliency(net).explain(x, 0).frame_spans == tuple((t, t) for t in range(8))
    picture = seeded(
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)),
        double=True,
    )
    assert cc.GradCAM(picture, "0").explain(noise(1, 1, 8, 8), 0).frame_spans is None


@pytest.mark.parametrize("tokens", [16, 17])
def test_a_vector_per_frame_and_a_class_token_are_not_patches_where_frames_are_not_square(
    tokens: int,
) -> None:
    """17 tokens are also 8 × 1 × 2 patches of two frames, and a class token."""
    with pytest.raises(LayoutError, match="no grid"):
        infer(Site("encoder", (1, tokens, 8), 1, (16, 32, 64)))
    assert infer(Site("encoder", (1, 18, 8), 1, (16, 32, 64))).prefix == 2
