"""Receptive-field alignment: where a cell of a map really lies in the input."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models.video import r3d_18

import chronocam as cc
from chronocam.engines import engine_for
from chronocam.engines.torch.probe import probed_centers
from chronocam.errors import InputError, LayoutError


def centers(model, x, layer=None, layout=None):
    method = cc.GradCAM(model, layer, align="receptive_field", layout=layout)
    return method.explain(x, lambda y: y.flatten(1)[:, 0]).centers


def probed(model, layer, x, cell):
    """The middle of the input extent on which one cell depends, found with gradients alone."""
    x = x.clone().requires_grad_()
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(lambda m, a, o: kept.append(o))
    model(x)
    handle.remove()
    kept[0][(0, slice(None), *cell)].sum().backward()
    touched = x.grad[0].abs().sum(0)
    axes = [tuple(j for j in range(touched.ndim) if j != i) for i in range(touched.ndim)]
    extents = [torch.nonzero(touched.sum(a)).flatten() for a in axes]
    return [(float(e.min()) + float(e.max())) / 2 for e in extents]


class Odd(nn.Module):
    """Strides, dilation, padding, a functional pooling, a residual branch with a wider field, and a gate."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(2, 4, (5, 3), stride=(2, 1), padding=(0, 1))
        self.b = nn.Conv2d(4, 4, 3, dilation=2, padding=2)
        self.skip = nn.Conv2d(4, 4, 1)
        self.end = nn.Identity()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = F.avg_pool2d(self.a(x), (3, 2), stride=2, padding=(1, 0))
        x = F.softplus(self.b(x)) + self.skip(x)
        x = self.end(x * x.mean((2, 3), keepdim=True).sigmoid())
        return self.head(x.mean((2, 3)))


def test_centres_of_a_network_with_everything_equal_those_found_by_gradients():
    torch.manual_seed(0)
    model, x = Odd().eval().double(), torch.randn(1, 2, 61, 40, dtype=torch.double)
    rows, columns = centers(model, x, "b")
    for cell in ((4, 5), (6, 9)):
        assert probed(model, "b", x, cell) == [rows[cell[0]], columns[cell[1]]]
    # After the gate every cell depends on the whole input, but it lies where its local path does.
    assert centers(model, x, "end") == (rows, columns)


def test_known_alignment_of_resnets():
    rows, columns = centers(models.resnet18().eval(), torch.randn(1, 3, 64, 96), "layer4")
    assert rows == (0, 32)
    assert columns == (0, 32, 64)
    time, rows, _ = centers(r3d_18().eval(), torch.randn(1, 3, 16, 32, 32), "layer4")
    assert time == (0, 8)
    assert rows == (0, 16)


def test_densenet_and_convnext_are_read_too():
    assert centers(models.densenet121().eval(), torch.randn(1, 3, 64, 64), "features")[0] == (14, 46)
    assert centers(models.convnext_tiny().eval(), torch.randn(1, 3, 64, 64), "features")[0] == (15.5, 47.5)


def dot_network():
    """Stride 8 with cell centres at pixels 0, 8, 16, …: a map of where the input is bright."""
    convs = []
    for _ in range(3):
        conv = nn.Conv2d(1, 1, 3, stride=2, padding=1)
        nn.init.constant_(conv.weight, 1 / 9)
        nn.init.zeros_(conv.bias)
        convs += [conv, nn.ReLU()]
    head = nn.Linear(1, 1, bias=False)
    nn.init.ones_(head.weight)
    return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


@pytest.mark.parametrize("at", [(16, 40), (32, 24)])
def test_a_dot_is_found_where_it_is_only_with_receptive_field_alignment(at):
    x = torch.zeros(1, 1, 64, 64)
    x[0, 0, at[0], at[1]] = 1

    def peak(align):
        fine = cc.GradCAM(dot_network(), "5", align=align).explain(x, 1).upsample(mode="linear")[0, 0]
        return np.unravel_index(fine.argmax(), fine.shape)

    assert peak("receptive_field") == at
    assert np.abs(np.subtract(peak("half_pixel"), at)).max() in (3, 4)  # half a stride, less half a pixel


def test_attention_is_refused_in_one_line():
    with pytest.raises(LayoutError, match='use align="half_pixel"') as caught:
        centers(models.swin_t().eval(), torch.randn(1, 3, 64, 64))
    assert "\n" not in str(caught.value)


def test_unknown_alignment_is_refused_at_construction():
    with pytest.raises(InputError, match="no alignment `corner`"):
        cc.GradCAM(models.resnet18(), align="corner")


def test_fused_layers_are_refused():
    with pytest.raises(InputError, match="fused layers are aligned by half pixels only"):
        cc.GradCAM(dot_network(), ["1", "5"], align="receptive_field")


def test_pixel_maps_and_their_upsampling_are_not_shifted():
    model, x = dot_network(), torch.rand(1, 1, 32, 32)
    plain = cc.Saliency(model).explain(x, 1)
    aligned = cc.Saliency(model, align="receptive_field").explain(x, 1)
    assert aligned.centers is None
    np.testing.assert_array_equal(plain.upsample(), aligned.upsample())


def test_guided_gradcam_is_upsampled_at_the_true_centres():
    model, x = dot_network(), torch.rand(1, 1, 32, 32)
    half, true = (
        cc.GuidedGradCAM(model, "5", align=a).explain(x, 1).maps for a in ("half_pixel", "receptive_field")
    )
    assert not np.allclose(half, true)


# Clips


def positive(module):
    """Weights that only add up, so that a bright dot is bright wherever it is seen."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
            nn.init.zeros_(layer.bias)
    return module.eval()


def strided_3d():
    """The kernels, strides and paddings of r3d_18: a stride of 8 frames and 16 pixels."""
    stem = nn.Conv3d(1, 1, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3))
    stages = [nn.Conv3d(1, 1, 3, stride=2, padding=1) for _ in range(3)]
    return positive(nn.Sequential(stem, *stages, nn.AdaptiveAvgPool3d(1), nn.Flatten()))


def moved_dot(shape, at):
    x = torch.zeros(1, 1, *shape)
    x[(0, 0, *at)] = 1
    return x


def found_at(model, layer, x, align):
    fine = cc.GradCAM(model, layer, align=align).explain(x, 1).upsample(mode="linear")[0, 0]
    return np.unravel_index(fine.argmax(), fine.shape)


DOTS = [(8, 32, 16), (16, 16, 48), (24, 48, 32), (11, 37, 21), (19, 26, 43), (5, 10, 54)]


@pytest.mark.parametrize("at", DOTS)
def test_a_dot_in_space_and_time_is_found_at_its_place_and_frame(at):
    model, x = strided_3d(), moved_dot((32, 64, 64), at)
    off = np.abs(np.subtract(found_at(model, "3", x, "receptive_field"), at))
    assert (off <= (4, 8, 8)).all()  # half a cell
    if all(place % step == 0 for place, step in zip(at, (8, 16, 16), strict=True)):  # a cell's very centre
        assert (off == 0).all()
        late = np.subtract(found_at(model, "3", x, "half_pixel"), at)
        assert late[0] in (3, 4)  # 3.5 frames
        assert set(late[1:]) <= {7, 8}  # 7.5 pixels to the lower right


def test_half_pixel_alignment_of_r3d_18_is_late_by_as_much_as_is_known():
    model, x = r3d_18().eval(), torch.randn(1, 3, 16, 64, 64)
    true = centers(model, x, "layer4")
    assert true == ((0, 8), (0, 16, 32, 48), (0, 16, 32, 48))
    for axis, step, off in ((0, 8, 3.5), (1, 16, 7.5), (2, 16, 7.5)):
        even = [(i + 0.5) * step - 0.5 for i in range(len(true[axis]))]
        assert [e - t for e, t in zip(even, true[axis], strict=True)] == [off] * len(even)


class PerFrame(nn.Module):
    """Three strided convolutions of every frame: folded into the batch, or called frame by frame."""

    def __init__(self, how):
        super().__init__()
        self.backbone = nn.Sequential(*(nn.Conv2d(1, 1, 3, stride=2, padding=1) for _ in range(3)))
        self.how = how

    def forward(self, x):
        if self.how == "folded":
            found = self.backbone(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        else:
            found = torch.stack([self.backbone(x[:, t]) for t in range(x.shape[1])], dim=1)
        return found.mean((1, 3, 4))


@pytest.mark.parametrize("how", ["folded", "stepped"])
@pytest.mark.parametrize("at", [(0, 8, 24), (3, 16, 8), (5, 21, 11)])
def test_a_dot_in_one_frame_is_found_in_that_frame(how, at):
    model = positive(PerFrame(how))
    x = moved_dot((6, 32, 32), at).transpose(1, 2)
    explanation = cc.GradCAM(model, "backbone.2", align="receptive_field").explain(x, 1)
    assert explanation.centers == (tuple(range(6)), (0, 8, 16, 24), (0, 8, 16, 24))
    assert explanation.frame_spans == tuple((t, t) for t in range(6))
    found = found_at(model, "backbone.2", x, "receptive_field")
    assert found[0] == at[0]
    assert np.abs(np.subtract(found, at)).max() <= 4


class Thinned(PerFrame):
    def forward(self, x):
        return super().forward(x[:, ::2])


@pytest.mark.parametrize("how", ["folded", "stepped"])
def test_frames_that_are_left_out_are_not_counted(how):
    model = positive(Thinned(how))
    if how == "stepped":
        model.how = "folded"  # calls that are fewer than the frames are no clip; folded ones are
    x = torch.randn(1, 8, 1, 32, 32)
    assert cc.GradCAM(model, "backbone.2", align="receptive_field").explain(x, 1).centers[0] == (0, 2, 4, 6)


class Mixed(nn.Module):
    """2D and 3D convolutions in one path."""

    def __init__(self, first):
        super().__init__()
        rank = (nn.Conv3d, nn.Conv2d) if first == 3 else (nn.Conv2d, nn.Conv3d)
        self.a = rank[0](1, 2, 3, stride=(1, 2, 2) if first == 3 else 2, padding=1)
        self.b = rank[1](2, 2, 3, stride=2, padding=1)
        self.first = first

    def forward(self, x):  # (batch, channel, time, height, width), or with frames first
        if self.first == 3:
            h = self.a(x).transpose(1, 2)
            return self.b(h.flatten(0, 1)).unflatten(0, h.shape[:2]).mean((1, 3, 4))
        h = self.a(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.b(h.transpose(1, 2)).mean((2, 3, 4))


def test_3d_before_2d_and_2d_before_3d():
    x = torch.randn(1, 1, 8, 32, 32)
    space = tuple(range(0, 32, 4))
    assert centers(positive(Mixed(3)), x, "b") == (tuple(range(8)), space, space)
    assert centers(positive(Mixed(2)), x.transpose(1, 2), "b") == ((0, 2, 4, 6), space, space)


def test_signals_with_pooling():
    parts = [
        nn.Conv1d(2, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(4, 4, 3, padding=1),
    ]
    model = nn.Sequential(*parts, nn.AdaptiveAvgPool1d(1), nn.Flatten()).eval()
    assert centers(model, torch.randn(1, 2, 32), "3") == (tuple(4.0 * i + 1 for i in range(8)),)


# Probing, where the graph does not tell


def looked_at(model, layer, x):
    return partial(engine_for(model)._look, x, x, layer=layer)


@pytest.mark.parametrize(
    ("make", "layer", "shape"),
    [
        (Odd, "b", (1, 2, 61, 40)),
        (lambda: dot_network(), "5", (1, 1, 64, 64)),
        (lambda: positive(PerFrame("folded")), "backbone.2", (1, 2, 1, 64, 64)),
        (lambda: positive(PerFrame("stepped")), "backbone.2", (1, 2, 1, 64, 64)),
        (
            lambda: nn.Sequential(
                nn.Conv3d(1, 2, (3, 5, 3), stride=(1, 2, 2), padding=(1, 2, 1)),
                nn.MaxPool3d(3, stride=2, padding=1),
                nn.Conv3d(2, 2, 3, padding=(2, 2, 2), dilation=2),
                nn.AdaptiveAvgPool3d(1),
                nn.Flatten(),
            ),
            "2",
            (1, 1, 32, 49, 64),
        ),
    ],
)
def test_probing_equals_the_graph(make, layer, shape):
    torch.manual_seed(0)
    model, x = make().eval().double(), torch.randn(shape, dtype=torch.double)
    explanation = cc.GradCAM(model, layer, align="receptive_field").explain(x, lambda y: y.flatten(1)[:, 0])
    grid = explanation.maps.shape[2:]
    per_frame = isinstance(model, PerFrame)
    grid, read = (grid[1:], explanation.centers[1:]) if per_frame else (grid, explanation.centers)
    probed_ = probed_centers(looked_at(model, layer, x), x, grid, layer)
    for found, expected in zip(probed_, read, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


class Doubled(torch.autograd.Function):
    """An operation that the graph knows by no name of its own."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * 2


class Around(nn.Module):
    """A convolution after an operation whose extent the graph does not tell."""

    def __init__(self, before, kernel=3, stride=2, padding=0):
        super().__init__()
        self.conv, self.before = nn.Conv2d(1, 3, kernel, stride=stride, padding=padding), before

    def forward(self, x):
        return self.conv(self.before(x)).tanh().mean((2, 3))


@pytest.mark.parametrize(
    ("before", "padding", "first"),
    [
        (Doubled.apply, 1, 0),
        (lambda x: F.pad(x, (2, 0, 2, 0)), 0, -1),  # cell i sees 2i − 2 to 2i
        (lambda x: F.pad(x, (0, 2, 0, 2)), 0, 1),
        (lambda x: F.pad(x, (1, 1, 1, 1), mode="replicate"), 0, 0),
        (lambda x: torch.roll(x, 1, dims=1), 1, 0),
    ],
)
def test_what_the_graph_does_not_tell_is_probed(before, padding, first):
    model = Around(before, padding=padding).eval()
    rows, columns = centers(model, torch.randn(1, 1, 32, 32), "conv")
    assert rows == columns == tuple(first + 2.0 * i for i in range(16))


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_cells_after_interpolation_lie_within_half_a_cell(mode):
    model = nn.Sequential(
        nn.Conv2d(1, 2, 4, stride=4), nn.Upsample(scale_factor=2, mode=mode), nn.Conv2d(2, 2, 1)
    )
    model = nn.Sequential(*model, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    rows, columns = centers(model, torch.randn(1, 1, 64, 64), "2")
    assert rows == columns
    even = [2 * i + 0.5 for i in range(32)]  # cells of two pixels
    np.testing.assert_allclose(rows, even, rtol=0, atol=1)


class Attending(nn.Module):
    def __init__(self, rank):
        super().__init__()
        self.conv = (nn.Conv2d if rank == 2 else nn.Conv3d)(1, 8, 4, stride=4)
        self.attend, self.back = nn.MultiheadAttention(8, 2, batch_first=True), nn.Identity()

    def forward(self, x):
        h = self.conv(x)
        tokens = h.flatten(2).transpose(1, 2)
        tokens = self.attend(tokens, tokens, tokens)[0]
        return self.back(tokens.transpose(1, 2).reshape(h.shape)).flatten(2).mean(2)


@pytest.mark.parametrize("rank", [2, 3])
def test_cells_that_attend_to_all_others_are_refused_in_one_line(rank):
    model, x = Attending(rank).eval(), torch.randn(1, 1, *(16, 16, 16)[:rank])
    assert centers(model, x, "conv") == ((1.5, 5.5, 9.5, 13.5),) * rank
    with pytest.raises(LayoutError, match='use align="half_pixel"') as caught:
        centers(model, x, "back", "channels_first")
    assert "\n" not in str(caught.value)
    assert "`back`" in str(caught.value)


class Beside(nn.Module):
    """Two halves of the picture, seen apart and joined again: cells of one see nothing of the other."""

    def __init__(self):
        super().__init__()
        self.conv, self.end, self.head = (
            nn.Conv2d(1, 2, 3, stride=2, padding=1),
            nn.Identity(),
            nn.Linear(2, 3),
        )

    def forward(self, x):
        joined = torch.cat([self.conv(half).exp() for half in x.flip(-1).split(16, dim=-1)], dim=-1)
        return self.head(self.end(joined).mean((2, 3)))


def test_what_is_put_side_by_side_along_the_grid_is_not_taken_for_one_convolution():
    torch.manual_seed(0)
    model, x = Beside().eval().double(), torch.randn(1, 1, 16, 32, dtype=torch.double)
    with pytest.raises(LayoutError, match="do not follow the places of the input"):
        centers(model, x, "end")  # mirrored cells are no grid by themselves
    rows, columns = centers(model, x, "end", "channels_first")
    assert rows == tuple(2.0 * i for i in range(8))
    assert probed(model, "end", x, (4, 3))[1] == pytest.approx(columns[3], abs=1)
    assert columns[0] > columns[-1]  # the picture was mirrored


# Causal networks


class Causal(nn.Module):
    """Convolutions over the past frames, padded by hand, with or without what they get added to them."""

    def __init__(self, *kernels, stride=1, residual=False, unknown=False):
        super().__init__()
        torch.manual_seed(0)
        channels = [1, *[4] * len(kernels)]
        self.convs = nn.ModuleList(
            nn.Conv3d(i, o, k, (stride, 1, 1))
            for i, o, k in zip(channels, channels[1:], kernels, strict=False)
        )
        self.residual, self.end, self.unknown = residual, nn.Identity(), unknown
        self.last = nn.Conv3d(4, 4, 1)
        self.eval()

    def forward(self, x):
        for conv in self.convs:
            t, h, w = conv.kernel_size
            y = conv(F.pad(x, (w // 2, w // 2, h // 2, h // 2, t - 1, 0)))
            x = x + y if self.residual else y
        return self.last(Doubled.apply(x) if self.unknown else x).mean((2, 3, 4))


@pytest.mark.parametrize("align", ["half_pixel", "receptive_field"])
@pytest.mark.parametrize(
    ("kernels", "stride", "times"),
    [
        ([(5, 3, 3)], 1, [t - 2 for t in range(12)]),
        (
            [(5, 51, 51)],
            1,
            [t - 2 for t in range(12)],
        ),  # rows and columns see the input from border to border
        ([(3, 3, 3), (5, 1, 1)], 1, [t - 3 for t in range(12)]),
        ([(5, 3, 3)], 2, [2 * t - 2 for t in range(6)]),
        ([(3, 3, 3)] * 2, 1, [t - 2 for t in range(12)]),
    ],
)
def test_slices_of_a_causal_network_lie_where_they_look(kernels, stride, times, align):
    explanation = cc.GradCAM(Causal(*kernels, stride=stride), align=align).explain(
        torch.rand(1, 1, 12, 8, 8), 1
    )
    assert explanation.centers[0] == tuple(times)
    assert explanation.centers[1] == tuple(range(8))
    causal = [text for text in explanation.diagnostics if "sees no later frames" in text]
    assert len(causal) == (align == "half_pixel")


def test_a_burst_is_drawn_at_its_frame_by_a_causal_network():
    net, x = positive(Causal((5, 1, 1))), torch.zeros(1, 1, 16, 8, 8)
    x[0, 0, 8] = 1
    maps = np.asarray(cc.GradCAM(net).explain(x, 1))[0].mean((1, 2))
    assert np.abs(np.flatnonzero(maps > 0.5 * maps.max()).mean() - 8) <= 0.5  # slices 8 to 12 see it


def test_an_axis_that_reaches_the_border_does_not_keep_time_from_being_placed_by_probing():
    net, x = Causal((3, 51, 51), unknown=True), torch.rand(1, 1, 12, 8, 8)
    explanation = cc.GradCAM(net, "last", align="receptive_field").explain(x, 1)
    np.testing.assert_allclose(explanation.centers[0], np.arange(12) - 1.0, atol=1e-6)
    assert explanation.centers[1] == tuple(range(8))


@pytest.mark.parametrize("align", ["half_pixel", "receptive_field"])
def test_slices_that_see_more_frames_than_there_are_lie_where_they_look_most(align):
    net, x = (
        Causal(*[(9, 1, 1)] * 2, residual=True).double(),
        torch.rand(1, 1, 12, 24, 24, dtype=torch.double),
    )
    found = cc.GradCAM(net, "last", align=align).explain(x, 1).centers[0]
    kept = []
    net.last.register_forward_hook(lambda module, args, out: kept.append(out))
    source = x.clone().requires_grad_()
    net(source)
    for t in range(12):
        squares = torch.zeros(12, dtype=torch.double)
        for k in range(4):
            (g,) = torch.autograd.grad(kept[0][0, k, t, 3, 3], source, retain_graph=True)
            squares += (g[0, 0] ** 2).sum((1, 2))
        right = float((squares * torch.arange(12)).sum() / squares.sum())
        assert abs(found[t] - right) < 0.4, (t, found[t], right)
    assert found[0] < 0.1


def test_networks_that_see_as_much_later_as_earlier_keep_the_half_pixel():
    assert cc.GradCAM(strided_3d(), "3").explain(torch.rand(1, 1, 32, 64, 64), 1).centers is None


def test_every_slice_has_a_frame():
    net = Causal(*[(9, 1, 1)] * 2, residual=True)
    spans = cc.GradCAM(net).explain(torch.rand(1, 1, 12, 6, 6), 1).frame_spans
    assert all(0 <= first <= last < 12 for first, last in spans)


@pytest.mark.parametrize(
    "crop", [lambda x: x[..., -20:], lambda x: x.narrow(-1, 10, 20), lambda x: x.narrow(-1, -20, 20)]
)
def test_what_is_counted_from_the_end_lies_there(crop):
    class Cropped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.conv(crop(x)).relu().mean((2, 3)))

    found = cc.GradCAM(Cropped().eval(), align="receptive_field").explain(torch.rand(1, 3, 30, 30), 1)
    assert found.centers[1] == tuple(range(10, 30, 2))


class Merging(nn.Module):
    """Four patches become one, their channels last, as in Swin."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank, conv = rank, nn.Conv2d if rank == 2 else nn.Conv3d
        size = (4, 4) if rank == 2 else (2, 4, 4)
        self.patch, self.norm, self.merge = conv(3, 8, size, size), nn.LayerNorm(8), nn.Linear(32, 8)
        self.last, self.fc = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        y = self.patch(x).movedim(1, -1)
        y = y + self.norm(y)
        parts = [y[..., i::2, j::2, :] for i in (0, 1) for j in (0, 1)]
        y = self.merge(torch.cat(parts, -1))
        return self.fc((y + self.last(y)).mean(tuple(range(1, self.rank + 1))))


@pytest.mark.parametrize(("rank", "time"), [(2, ()), (3, ((0.5, 2.5, 4.5, 6.5),))])
def test_what_is_cut_and_joined_with_the_channels_last_keeps_its_place(rank, time):
    torch.manual_seed(0)
    net, x = Merging(rank).eval(), torch.rand(1, 3, *(8,) * (rank - 2), 16, 32)
    found = cc.GradCAM(net, "merge", align="receptive_field").explain(x, 1)
    assert found.centers == (*time, (3.5, 11.5), (3.5, 11.5, 19.5, 27.5))
    assert not any("pads its input" in text for text in cc.GradCAM(net, "merge").explain(x, 1).diagnostics)
