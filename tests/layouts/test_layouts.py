"""Layouts: inferred from shapes, overridden where these do not decide, and every value at its own cell."""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from helpers import seeded
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import LayoutError
from chronocam.layouts import (
    Bands,
    ChannelRows,
    ChannelsFirst,
    ChannelsLast,
    Folded,
    FramesFirst,
    Stepped,
    Tokens,
    VideoTokens,
    WindowRows,
)
from chronocam.layouts.base import Site, infer, input_grid, inverse, joined, named


def cells(batch: int, channel: int, grid: tuple[int, ...]) -> np.ndarray:
    """An array `(batch, channel, *grid)` in which every value occurs once."""
    shape = (batch, channel, *grid)
    return np.arange(prod(shape), dtype=np.float32).reshape(shape)


def as_tokens(array: np.ndarray, prefix: int) -> np.ndarray:
    """`(batch, prefix + tokens, channel)`, row by row, with -1 in the prefix."""
    batch, channel = array.shape[:2]
    tokens = np.stack([array[:, :, i, j] for i, j in np.ndindex(*array.shape[2:])], axis=1)
    return np.concatenate([np.full((batch, prefix, channel), -1, np.float32), tokens], axis=1)


def put_back(array: np.ndarray, native: np.ndarray, within: tuple[int, ...]) -> None:
    """Assert that the inferred layout takes `native` back to `array`, in NumPy and PyTorch."""
    layout = infer(Site("layer", native.shape, array.shape[0], within))
    np.testing.assert_array_equal(layout(native), array)
    np.testing.assert_array_equal(layout(torch.from_numpy(native)).numpy(), array)


# Plain grids


PLAIN = [
    # channels, grid, input grid
    (64, (25,), (100,)),
    (3, (100,), (100,)),
    (512, (7, 7), (224, 224)),
    (8, (7, 10), (224, 320)),
    (256, (1, 32), (32, 128)),  # CRNN: all height is gone
    (512, (1, 4), (128, 416)),
    (512, (2, 7, 7), (16, 112, 112)),
    (512, (1, 4, 4), (16, 112, 112)),
    (512, (16, 7, 7), (16, 112, 112)),
]


@pytest.mark.parametrize(("channel", "grid", "within"), PLAIN)
def test_channels_first_are_inferred(channel: int, grid: tuple[int, ...], within: tuple[int, ...]) -> None:
    array = cells(2, channel, grid)
    put_back(array, array, within)


LAST = [
    (96, (56, 56), (224, 224)),  # Swin, stage by stage
    (192, (28, 28), (224, 224)),
    (384, (14, 14), (224, 224)),
    (768, (7, 7), (224, 224)),
    (96, (256, 256), (1024, 1024)),  # channels fewer than cells
    (192, (128, 128), (1024, 1024)),
    (384, (64, 64), (1024, 1024)),
    (768, (32, 32), (1024, 1024)),
    (96, (64, 96), (256, 384)),
    (16, (7, 7), (224, 224)),
    (32, (2, 7, 7), (16, 112, 112)),
    (96, (8, 28, 28), (16, 112, 112)),  # video Swin
]


@pytest.mark.parametrize(("channel", "grid", "within"), LAST)
def test_channels_last_are_inferred_and_moved(
    channel: int, grid: tuple[int, ...], within: tuple[int, ...]
) -> None:
    array = cells(1, channel, grid)
    put_back(array, np.ascontiguousarray(np.moveaxis(array, 1, -1)), within)


def test_channels_first_is_taken_of_two_that_fit_equally_well() -> None:
    assert infer(Site("layer", (2, 8, 8, 8), 2, (32, 32))) == ChannelsFirst()


def test_what_signals_become_in_a_network_is_laid_along_time() -> None:
    planes = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    by_time = [[[planes[b, c, f, t] for t in range(5)] for c in range(3) for f in range(4)] for b in range(2)]
    np.testing.assert_array_equal(Bands(ChannelsFirst(), 1)(planes), by_time)
    np.testing.assert_array_equal(Bands(ChannelsFirst(), 0)(planes.swapaxes(2, 3)), by_time)
    rows = planes.transpose(0, 1, 3, 2).reshape(6, 5, 4)  # (batch·channel, step, value)
    np.testing.assert_array_equal(ChannelRows(3, ChannelsLast())(rows), by_time)
    others = planes.transpose(1, 0, 3, 2).reshape(6, 5, 4)
    np.testing.assert_array_equal(ChannelRows(3, ChannelsLast(), batch_axis=1)(others), by_time)
    windows = planes.transpose(0, 2, 1, 3).reshape(8, 3, 5)  # (batch·window, channel, step)
    after = [[[planes[b, c, w, t] for w in range(4) for t in range(5)] for c in range(3)] for b in range(2)]
    np.testing.assert_array_equal(WindowRows(4, ChannelsFirst())(windows), after)
    with pytest.raises(LayoutError, match="5 rows"):
        ChannelRows(3, ChannelsLast())(rows[:5])


# Tokens


TOKENS = [
    # grid, prefix, input grid
    ((14, 14), 0, (224, 224)),  # 196, mean pooling
    ((14, 14), 1, (224, 224)),  # 197, ViT
    ((14, 14), 2, (224, 224)),  # 198, DeiT distilled
    ((14, 14), 5, (224, 224)),  # 201, four registers
    ((7, 7), 1, (224, 224)),  # 50, patch 32
    ((16, 16), 1, (224, 224)),  # 257, patch 14
    ((37, 37), 5, (518, 518)),  # DINOv2 with registers
    ((14, 20), 1, (224, 320)),
    ((20, 14), 1, (320, 224)),
    ((14, 20), 5, (224, 320)),
    ((4, 8), 5, (64, 128)),  # 4 × 9 and one token more is the same number
    ((2, 4), 2, (64, 128)),
    ((4, 6), 5, (64, 96)),
    ((3, 5), 1, (48, 80)),
    ((14, 14), 1, (225, 230)),  # patches that do not tile the input
    ((15, 20), 0, (240, 320)),
    ((2, 3), 1, (17, 33)),  # padded to whole patches of 16
    ((1, 8), 1, (16, 128)),
]


@pytest.mark.parametrize("channel", [3, 64, 192, 256])
@pytest.mark.parametrize(("grid", "prefix", "within"), TOKENS)
def test_tokens_go_to_their_grid_without_their_prefix(
    grid: tuple[int, ...], prefix: int, within: tuple[int, ...], channel: int
) -> None:
    array = cells(2, channel, grid)
    native = as_tokens(array, prefix)
    put_back(array, native, within)
    put_back(array, np.ascontiguousarray(native.swapaxes(0, 1)), within)  # (tokens, batch, channel)


@pytest.mark.parametrize("channel", [3, 128, 192, 768])
@pytest.mark.parametrize(
    ("grid", "within"), [((14, 14), (224, 224)), ((7, 10), (224, 320)), ((16, 16), (224, 224))]
)
def test_tokens_last_go_to_their_grid(grid: tuple[int, ...], within: tuple[int, ...], channel: int) -> None:
    array = cells(2, channel, grid)
    put_back(array, array.reshape(2, channel, -1), within)


@pytest.mark.parametrize(
    ("shape", "within"),
    [
        ((2, 5), (224, 224)),  # a head
        ((2, 512, 1, 1), (224, 224)),  # pooled
        ((2, 1, 1, 512), (224, 224)),
        ((3, 8, 7, 7), (224, 224)),  # another batch
        ((2, 8, 300, 7), (224, 224)),  # finer than the input
        ((2, 600, 50), (224, 224)),  # no patches give 600 tokens
        ((2, 1, 256), (224, 224)),  # a class token of 256 channels, not 16 × 16 tokens
        ((1, 1, 128), (64, 64)),
        ((2, 8, 15), (64, 64)),  # 8 channels, not 2 × 2 tokens and as many others
        ((2, 9, 300, 8), (224, 224)),
        ((2, 64), (100,)),
        ((2, 8, 1), (100,)),
        ((2, 197, 64), (16, 224, 224)),
        ((5, 8, 7, 7), (16, 112, 112)),
        ((), (16, 16)),  # a constant
        ((), (100,)),
    ],
)
def test_what_has_no_grid_is_refused_with_the_shapes(shape: tuple[int, ...], within: tuple[int, ...]) -> None:
    with pytest.raises(LayoutError) as error:
        infer(Site("blocks.3", shape, 1 if shape[:1] == (1,) else 2, within))
    message = str(error.value)
    assert "\n" not in message
    for word in ("`blocks.3`", str(shape), str(within), "layout="):
        assert word in message


# The input's own grid


@pytest.mark.parametrize(
    ("shape", "channels_last", "grid"),
    [
        ((2, 3, 224, 320), False, (224, 320)),
        ((2, 224, 320, 3), False, (224, 320)),  # only the last axis looks like channels
        ((2, 224, 320, 3), True, (224, 320)),
        ((2, 3, 224, 320), True, (224, 320)),
        ((2, 1, 28, 28), False, (28, 28)),
        ((2, 12, 64, 64), False, (64, 64)),
        ((2, 64, 64, 12), True, (64, 64)),
        ((2, 3, 50, 3), False, (50, 3)),  # both ends do: as the framework has it
        ((2, 3, 50, 3), True, (3, 50)),
        ((2, 3, 16, 112, 112), False, (16, 112, 112)),
        ((2, 16, 112, 112, 3), True, (16, 112, 112)),
        ((2, 8, 100), False, (100,)),
        ((2, 8, 3), False, (3,)),  # signals: the framework decides
        ((2, 100, 8), True, (100,)),
        ((2, 100), False, (100,)),
        ((2, 100), True, (100,)),
    ],
)
def test_the_grid_of_an_input(shape: tuple[int, ...], channels_last: bool, grid: tuple[int, ...]) -> None:
    assert input_grid(shape, channels_last) == grid


# layout=


class Stem(nn.Module):
    """A convolution whose output leaves the layer in some arrangement, and a head that puts it back."""

    def __init__(
        self, arrange: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor], channel: int = 8
    ) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, channel, 4, stride=4), nn.Linear(channel, 5)
        self.layer = nn.Identity()
        self.arrange, self.back = arrange, back

    def forward(self, x: Tensor) -> Tensor:
        x = self.back(self.layer(self.arrange(self.conv(x))))
        return self.fc(x.tanh().mean((2, 3)))


X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def last() -> Stem:
    return Stem(lambda x: x.permute(0, 2, 3, 1), lambda x: x.permute(0, 3, 1, 2))


def maps(net: nn.Module, layer: str = "layer", layout: Any = None, x: Tensor = X) -> np.ndarray:
    return cc.GradCAM(net, layer, layout=layout, signed=True).explain(x, 1).maps


@pytest.mark.parametrize("layout", ["channels_last", ChannelsLast(), lambda a: a.permute(0, 3, 1, 2)])
def test_layout_overrides_what_is_inferred(layout: Any) -> None:
    net = seeded(last)  # 8 channels on 8 × 8 cells: shapes do not say which axis they are on
    right = maps(net, "conv")
    assert right.any()
    np.testing.assert_allclose(maps(net), right, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(maps(net, layout=layout), right, rtol=1e-4, atol=1e-7)
    assert np.abs(maps(net, layout="channels_first") - right).max() > 1e-4


def test_tokens_by_hand() -> None:
    def tokens(grid: tuple[int, int]) -> Stem:
        return Stem(lambda x: x.flatten(2).transpose(1, 2), lambda x: x.transpose(1, 2).unflatten(2, (8, 8)))

    net = seeded(lambda: tokens((8, 8)))
    right = maps(net, "conv")
    for layout in (None, "tokens", Tokens((8, 8))):
        np.testing.assert_allclose(maps(net, layout=layout), right, rtol=1e-4, atol=1e-7)
    other = maps(net, layout=Tokens((4, 16)))
    assert other.shape == (2, 1, 4, 16)
    np.testing.assert_allclose(other.reshape(2, 1, 64), right.reshape(2, 1, 64), rtol=1e-4, atol=1e-7)
    without = maps(net, layout=Tokens((9, 7), prefix=1))
    assert without.shape == (2, 1, 9, 7)


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("chanels_last", ["no layout `chanels_last`", "did you mean `channels_last`"]),
        ("rows", ["no layout `rows`", "channels_first, channels_last, frames_first, tokens"]),
        ("tokens", ["`tokens` does not fit layer `conv`", "(2, 8, 8, 8)", "(32, 32)"]),
        (Tokens((3, 3), prefix=1), ["(2, 8, 8, 8)", "1 prefix tokens and 9"]),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(layout: Any, words: list[str]) -> None:
    with pytest.raises(LayoutError) as error:
        maps(seeded(last), "conv", layout)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_a_named_layout_that_does_not_fit_the_batch_is_refused() -> None:
    with pytest.raises(LayoutError, match="`channels_first` does not fit"):
        named("channels_first", Site("layer", (4, 8, 7, 7), 2, (28, 28)))


# Where the values land, end to end


class Patches(nn.Module):
    """Tokens that each see one patch, in some order of the axes: bright patches must be where the map is."""

    def __init__(self, patch: int, prefix: int, order: str) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 23, patch, stride=patch, bias=False)
        nn.init.ones_(self.embed.weight)
        self.mix, self.prefix, self.order = nn.Identity(), prefix, order

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2)
        x = torch.cat([x.new_zeros(*x.shape[:2], self.prefix), x], dim=2)
        axes = {"bnc": (0, 2, 1), "nbc": (2, 0, 1), "bcn": (0, 1, 2)}[self.order]
        x = self.mix(x.permute(axes))
        x = x.permute([axes.index(i) for i in range(3)])
        return x.square().sum(2)


@pytest.mark.parametrize("order", ["bnc", "nbc", "bcn"])
@pytest.mark.parametrize(("patch", "size"), [(4, (16, 24)), (4, (24, 16)), (8, (8, 32)), (2, (10, 6))])
def test_the_bright_patch_is_where_the_map_is(patch: int, size: tuple[int, int], order: str) -> None:
    prefix = 0 if order == "bcn" else 1
    net = seeded(lambda: Patches(patch, prefix, order))
    grid = tuple(n // patch for n in size)
    for row, column in np.ndindex(*grid):
        x = torch.zeros(2, 1, *size)
        x[1, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = 1
        found = cc.HiResCAM(net, "mix").explain(x, 0).maps
        expected = np.zeros((2, 1, *grid), np.float32)
        expected[1, 0, row, column] = 2 * patch**4
        np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_plain_grids_of_every_rank(rank: int) -> None:
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    net = seeded(lambda: nn.Sequential(conv(1, 4, 2, stride=2, bias=False), nn.Flatten(), nn.LazyLinear(3)))
    nn.init.ones_(net[0].weight)
    size = (6, 8, 4)[:rank]
    grid = tuple(n // 2 for n in size)
    net(torch.zeros(1, 1, *size))
    nn.init.ones_(net[2].weight)
    for cell in np.ndindex(*grid):
        x = torch.zeros(1, 1, *size)
        x[(0, 0, *(slice(2 * c, 2 * c + 2) for c in cell))] = 1
        explanation = cc.HiResCAM(net).explain(x, 0)
        assert explanation.layer == "0"
        expected = np.zeros((1, 1, *grid), np.float32)
        expected[(0, 0, *cell)] = 4 * 2**rank
        np.testing.assert_allclose(explanation.maps, expected)
        assert explanation.dims[2:] == ("time", "height", "width")[3 - rank :]
        assert explanation.input_size == size


def test_a_text_line_recogniser() -> None:
    net = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 12, (16, 3), stride=(16, 2), padding=(0, 1)),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(12 * 16, 5),
        )
    )
    found = cc.GradCAM(net, signed=True).explain(torch.randn(2, 1, 32, 64))
    assert (found.layer, found.maps.shape, found.input_size) == ("3", (2, 1, 1, 16), (32, 64))
    assert found.upsample().shape == (2, 1, 32, 64)
    assert found.maps.any(axis=(1, 2, 3)).all()


# Real architectures with random weights


def timm_model(name: str, **options: Any) -> nn.Module:
    return pytest.importorskip("timm").create_model(name, **options)


def hf_vit() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ViTConfig(image_size=(48, 80), patch_size=16, num_labels=4, **small)
    return transformers.ViTForImageClassification(config)


def torchvision_swin() -> nn.Module:
    return pytest.importorskip("torchvision").models.swin_t()


REAL = {
    "deit distilled": (lambda: timm_model("deit_tiny_distilled_patch16_224", img_size=64), (64, 64), (4, 4)),
    "registers": (
        lambda: timm_model("vit_small_patch14_reg4_dinov2", img_size=(56, 84), num_classes=5),
        (56, 84),
        (4, 6),
    ),
    "swin": (lambda: timm_model("swin_tiny_patch4_window7_224", num_classes=5), (224, 224), (7, 7)),
    "hf vit": (hf_vit, (48, 80), (3, 5)),
    "torchvision swin": (torchvision_swin, (96, 128), (3, 4)),
}


@pytest.mark.parametrize("name", REAL)
def test_the_default_layer_of_real_architectures(name: str) -> None:
    make, size, grid = REAL[name]
    net = seeded(make)
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    found = cc.GradCAM(net, signed=True).explain(x)
    assert found.maps.shape == (2, 1, *grid)
    assert np.isfinite(found.maps).all()
    assert (np.abs(found.maps).max(axis=(1, 2, 3)) > 0).all()
    assert found.input_size == size


def test_layers_of_swin_with_channels_last_equal_channels_first() -> None:
    net = seeded(torchvision_swin)
    found = maps(net, "features.1", x=torch.randn(1, 3, 64, 96))  # (1, 16, 24, 96)
    kept: list[Tensor] = []
    net.features[1].register_forward_hook(lambda module, args, output: kept.append(output))
    torch.manual_seed(0)
    x = torch.randn(1, 3, 64, 96)
    found = maps(net, "features.1", x=x)
    kept.clear()
    (g,) = torch.autograd.grad(net(x)[:, 1].sum(), kept[0])
    hand = (kept[0] * g.mean((1, 2), keepdim=True)).sum(3).detach().numpy()
    assert hand.shape == (1, 16, 24)
    np.testing.assert_allclose(found[:, 0], hand, rtol=0, atol=1e-5 * np.abs(hand).max())


def cropped(x: Any) -> Any:
    """A layout of one's own that leaves some values out."""
    x = x[:, 1:, ::2]
    return x.moveaxis(-1, 1) if hasattr(x, "moveaxis") else np.moveaxis(x, -1, 1)


@pytest.mark.parametrize(
    ("layout", "shapes"),
    [
        (ChannelsFirst(), [(2, 3, 4, 5)]),
        (ChannelsLast(), [(2, 4, 5, 3)]),
        (FramesFirst(), [(2, 6, 3, 4, 5)]),
        (Tokens((4, 5), prefix=2), [(2, 22, 3)]),
        (Tokens((4, 5), middle=1), [(2, 21, 3)]),
        (Tokens((4, 5), batch_axis=1, token_axis=0), [(20, 2, 3)]),
        (Tokens((4, 5), token_axis=2), [(2, 3, 20)]),
        (VideoTokens((6, 4, 5), 1), [(2, 121, 3)]),
        (VideoTokens((6, 4, 5), 1, "patch"), [(2, 121, 3)]),
        (Folded(6, ChannelsLast()), [(12, 4, 5, 3)]),
        (Stepped(3, ChannelsFirst()), [(2, 3, 4, 5)] * 6),
        (lambda x: (torch if isinstance(x, torch.Tensor) else np).moveaxis(x[:, 1:, ::2], -1, 1),
         [(2, 4, 5, 3)] * 2),
    ],
)  # fmt: skip
@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_what_a_layout_takes_is_put_back_where_it_was(layout, shapes, framework) -> None:
    rng = np.random.default_rng(0)
    calls = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    if framework == "torch":
        calls = [torch.from_numpy(call) for call in calls]
    grid = layout(joined(calls, layout))
    put_back = inverse(layout, calls)
    for call, same in zip(calls, put_back(grid), strict=True):
        np.testing.assert_array_equal(same, call)
    changed = put_back(grid * 0 + 7)
    np.testing.assert_array_equal(layout(joined(changed, layout)), np.full(tuple(grid.shape), 7, np.float32))
    assert sum(int((np.asarray(call) == 7).sum()) for call in changed) == np.prod(tuple(grid.shape))


def test_a_layout_that_makes_new_values_cannot_be_undone() -> None:
    with pytest.raises(LayoutError, match="put back"):
        inverse(lambda x: x / 2, [np.ones((1, 2, 3, 3))])


FIRST = cc.layouts.ChannelsFirst()


@pytest.mark.parametrize(
    ("layout", "shape", "message"),
    [
        (cc.layouts.Folded(3, FIRST), (7, 2, 4, 4), "returns 7 rows, which do not make clips of 3 frames"),
        (cc.layouts.PatchRows((2, 3), FIRST), (7, 2, 4, 4), "7 rows, which do not make pictures of 2 × 3"),
        (
            cc.layouts.PatchRows((2, 3), FIRST, before=1),
            (6, 2, 4, 4),
            "do not make pictures of 2 × 3 patches and 1 more",
        ),
        (cc.layouts.TokenRows((2, 2)), (7, 8), r"returns \(7, 8\); expected rows of pictures of \(2, 2\)"),
    ],
)
def test_rows_that_make_no_whole_inputs_are_refused(layout: Any, shape: Any, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        layout(np.zeros(shape))


@pytest.mark.parametrize("count", [2, 4])
def test_calls_that_are_not_as_many_for_each_frame_are_refused(count: int) -> None:
    calls = [np.zeros((1, 2, 4, 4))] * count
    with pytest.raises(LayoutError, match=f"called {count} times, which does not fit 3 frames"):
        cc.layouts.Stepped(3, FIRST).gather(calls)


def test_what_a_layout_must_define_is_named() -> None:
    class Bare(cc.layouts.Layout):
        pass

    with pytest.raises(NotImplementedError, match=r"Bare must define __call__\(array\)"):
        Bare()(np.zeros((1, 2, 4, 4)))
    with pytest.raises(NotImplementedError, match=r"Bare must define match\(site\)"):
        Bare.match(Site("layer", (1, 2, 4, 4), 1, (8, 8), 1))
