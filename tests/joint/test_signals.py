"""Signals, sequences and ids of tokens without a named layer: each map beside one made by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import one_line, seeded
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import chronocam as cc
from chronocam.errors import LayerError, TargetError

X = torch.randn(2, 3, 160, generator=torch.Generator().manual_seed(0))
STEPS = torch.randn(2, 20, 6, generator=torch.Generator().manual_seed(0))
IDS = torch.randint(0, 50, (2, 20), generator=torch.Generator().manual_seed(0))


def agrees(net: nn.Module, layer: str, x: Tensor, as_grid: Callable[[Tensor], Tensor] = lambda a: a) -> None:
    """The default map is that of `layer`, whose output `as_grid` puts on `(batch, channel, *grid)`."""
    kept: list[Tensor] = []
    handle = net.get_submodule(layer).register_forward_hook(lambda m, a, out: kept.append(out))
    score = net(x)[:, 1].sum()
    handle.remove()
    g, a = (as_grid(one) for one in (*torch.autograd.grad(score, kept[-1]), kept[-1]))
    right = (a * g.mean(tuple(range(2, g.ndim)), keepdim=True)).sum(1).relu().detach().numpy()
    found = cc.GradCAM(net).explain(x, 1)
    assert found.layer == layer
    np.testing.assert_allclose(found.maps[:, 0], right, rtol=1e-4, atol=1e-7)


def encoder(batch_first: bool = True) -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=batch_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class Tokens(nn.Module):
    """Patches of a signal, or its steps, with tokens before or after them, which alone may be read."""

    def __init__(self, cut: nn.Module, before: int, after: int, read: int | None) -> None:
        super().__init__()
        self.cut, self.enc, self.fc = cut, encoder(), nn.Linear(16, 4)
        self.first = nn.Parameter(torch.randn(1, before, 16))
        self.last = nn.Parameter(torch.randn(1, after, 16))
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        z = self.cut(x)
        z = z.transpose(1, 2) if isinstance(self.cut, nn.Conv1d) else z
        beside = (one.expand(len(x), -1, -1) for one in (self.first, self.last))
        z = self.enc(torch.cat([next(beside), z, next(beside)], 1))
        return self.fc(z.mean(1) if self.read is None else z[:, self.read])


@pytest.mark.parametrize("patches", [True, False])
@pytest.mark.parametrize(("before", "after", "read"), [(1, 0, 0), (4, 0, 0), (0, 1, -1), (1, 0, None)])
def test_tokens_beside_the_steps_of_a_signal_are_no_steps(
    patches: bool, before: int, after: int, read: int | None
) -> None:
    net = seeded(lambda: Tokens(nn.Conv1d(3, 16, 8, 8) if patches else nn.Linear(6, 16), before, after, read))
    layer = "enc" if read is None else "enc.layers.0"  # the last block's steps are not read
    agrees(net, layer, X if patches else STEPS, lambda a: a[:, before : before + 20].transpose(1, 2))


class StepsFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin, self.enc, self.fc = nn.Linear(6, 16), encoder(batch_first=False), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.enc(self.lin(x).transpose(0, 1)).mean(0))


@pytest.mark.parametrize("steps", [20, 16])
def test_steps_before_the_batch_are_steps(steps: int) -> None:
    agrees(seeded(StepsFirst), "enc", STEPS[:, :steps], lambda a: a.permute(1, 2, 0))


class Scan(nn.Module):
    """A linear layer, and a causal convolution whose last outputs are cut off, as in state space models."""

    def __init__(self) -> None:
        super().__init__()
        self.lin, self.conv = nn.Linear(6, 16), nn.Conv1d(16, 16, 4, padding=3, groups=16)
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        z = self.conv(self.lin(x).transpose(1, 2))[..., : x.shape[1]]
        return self.fc(F.silu(z).mean(2))


def test_features_go_through_a_linear_layer_before_a_convolution_over_the_steps() -> None:
    agrees(seeded(Scan), "conv", STEPS)


class OfIds(nn.Module):
    """What is made of ids of tokens: by a convolution, a transformer with positions, or an LSTM."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.tokens, self.places = kind, nn.Embedding(50, 16), nn.Embedding(64, 16)
        self.conv, self.enc, self.rnn = (
            nn.Conv1d(16, 16, 3, 1, 1),
            encoder(),
            nn.LSTM(16, 16, batch_first=True),
        )
        self.fc = nn.Linear(16, 4)

    def forward(self, ids: Tensor) -> Tensor:
        z = self.tokens(ids)
        if self.kind == "conv":
            return self.fc(self.conv(z.transpose(1, 2)).relu().mean(2))
        if self.kind == "enc":
            z = self.enc(z + self.places(torch.arange(ids.shape[1]).expand_as(ids)))
            return self.fc(z.mean(1))
        return self.fc(self.rnn(z + self.places(torch.arange(ids.shape[1]).expand_as(ids)))[0][:, -1])


@pytest.mark.parametrize("length", [20, 16])  # as many as features
@pytest.mark.parametrize(("kind", "layer"), [("conv", "conv"), ("enc", "enc"), ("rnn", "tokens")])
def test_ids_of_tokens_are_steps_and_positions_are_no_layer(kind: str, layer: str, length: int) -> None:
    first = kind == "conv"
    agrees(seeded(lambda: OfIds(kind)), layer, IDS[:, :length], lambda a: a if first else a.transpose(1, 2))


class Enlarged(nn.Module):
    def __init__(self, conv: type[nn.Conv1d] | type[nn.Conv2d], size: int, padding: int) -> None:
        super().__init__()
        self.conv, self.fc, self.size = conv(3, 8, 3, padding=padding), nn.Linear(8, 4), size

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, size=[self.size] * (x.ndim - 2))
        return self.fc(self.conv(x).relu().flatten(2).mean(2))


@pytest.mark.parametrize(("size", "padding"), [(64, 1), (30, 2)])
def test_a_grid_may_be_finer_than_the_input(size: int, padding: int) -> None:
    for conv, x in ((nn.Conv1d, torch.randn(2, 3, 30)), (nn.Conv2d, torch.randn(2, 3, 30, 30))):
        agrees(seeded(lambda conv=conv: Enlarged(conv, size, padding)), "conv", x)


class Timed(nn.Module):
    """Clips whose rows and columns are pooled before a convolution over time, as in I3D."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv3d(3, 8, 3, (1, 2, 2), 1), nn.Linear(8, 4)
        self.over_time = nn.Conv3d(8, 8, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.conv(x).relu().mean((3, 4), keepdim=True)
        return self.fc(self.over_time(pooled).relu().mean((2, 3, 4)))


def test_slices_of_one_cell_give_way_to_those_with_rows_and_columns() -> None:
    agrees(seeded(Timed), "conv", torch.rand(2, 3, 6, 16, 16))


class Block(nn.Module):
    """A block of attention of one's own, which keeps what it gets, as in Hugging Face's transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.out, self.norm = nn.Linear(16, 16), nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.query(x) @ self.key(x).transpose(1, 2)).softmax(-1)
        return self.norm(x + self.out(weights @ self.value(x)))


class Text(nn.Module):
    """A transformer of ids or of what they are looked up as, which reads its first token alone."""

    def __init__(self, of_ids: bool) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(50, 16) if of_ids else nn.Identity(), nn.Embedding(64, 16)
        self.blocks, self.fc = nn.Sequential(Block(), Block()), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        places = self.places(torch.arange(x.shape[1]))
        return self.fc(self.blocks(self.tokens(x) + places)[:, 0])


@pytest.mark.parametrize("of_ids", [True, False])
@pytest.mark.parametrize("length", [12, 20])
def test_features_that_linear_layers_take_are_no_steps(of_ids: bool, length: int) -> None:
    x = IDS if of_ids else torch.randn(2, 20, 16, generator=torch.Generator().manual_seed(0))
    agrees(seeded(lambda: Text(of_ids)), "blocks.0", x[:, :length], lambda a: a.transpose(1, 2))


class Weighted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.rand(3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.gain).tanh()


class Plain(nn.Module):
    """Nothing that says which axis is time."""

    def __init__(self) -> None:
        super().__init__()
        self.weighted, self.fc = Weighted(), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.weighted(x).mean(2))


def test_an_axis_of_time_that_no_layer_says_is_told() -> None:
    said = "no layer says which axis of inputs (…, 3, 40) is time: 40 steps of 3 channels are assumed"
    agrees(seeded(Plain), "weighted", torch.randn(2, 3, 40))
    assert said in " ".join(cc.GradCAM(seeded(Plain)).explain(torch.randn(2, 3, 40), 1).diagnostics)


class Spectrum(nn.Module):
    """Convolutions, or patches and attention, over a spectrogram that the network makes of a signal."""

    def __init__(self, kind: str, turned: bool) -> None:
        super().__init__()
        self.kind, self.turned = kind, turned
        self.cnn = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.Tanh())
        self.cut, self.enc, self.fc = nn.Conv2d(1, 16, (11, 8), (11, 8)), encoder(), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        bands = (
            torch.stft(x, 64, 16, window=torch.hann_window(64), return_complex=True).abs().log1p()[:, None]
        )
        bands = bands.mT if self.turned else bands
        if self.kind == "cnn":
            return self.fc(self.cnn(bands).mean((2, 3)))
        return self.fc(self.enc(self.cut(bands).flatten(2).mT).mean(1))


WAVES = torch.randn(2, 1024, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("turned", [False, True], ids=["time last", "time first"])
def test_a_spectrogram_that_the_network_makes_is_explained_over_time(turned: bool) -> None:
    net = seeded(lambda: Spectrum("cnn", turned))
    agrees(net, "cnn", WAVES, lambda a: (a.mT if turned else a).flatten(1, 2))
    said = "bands beside its steps"
    assert said in " ".join(cc.GradCAM(net).explain(WAVES, 1).diagnostics)


def test_as_many_signals_as_channels_are_a_batch() -> None:
    class Stereo(Spectrum):
        def __init__(self) -> None:
            super().__init__("cnn", False)
            self.cnn = nn.Sequential(nn.Conv2d(2, 16, 3, 2, 1), nn.Tanh())

        def forward(self, x: Tensor) -> Tensor:
            window = torch.hann_window(64)
            bands = torch.stft(x.flatten(0, 1), 64, 16, window=window, return_complex=True).abs()
            return self.fc(self.cnn(bands.unflatten(0, x.shape[:2])).mean((2, 3)))

    agrees(seeded(Stereo), "cnn", torch.stack([WAVES, -WAVES], 1), lambda a: a.flatten(1, 2))


def test_patches_of_a_spectrogram_that_the_network_makes_are_explained_over_time() -> None:
    net = seeded(lambda: Spectrum("patches", False))
    agrees(net, "enc", WAVES, lambda a: a.mT.unflatten(2, (3, 8)).flatten(1, 2))


class ByVariable(nn.Module):
    """Series of several variables, `(batch, time, variable)`, which no layer says: each one by itself.

    Cut into patches, as in PatchTST, or embedded whole, as in the iTransformer.
    """

    def __init__(self, patches: bool) -> None:
        super().__init__()
        self.patches, self.cut = patches, nn.Linear(8 if patches else 48, 16)
        self.places = nn.Parameter(torch.randn(11 if patches else 7, 16))
        self.enc, self.fc = encoder(), nn.Linear((7 * 11 if patches else 7) * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        series = x.mT.unfold(2, 8, 4).flatten(0, 1) if self.patches else x.mT
        return self.fc(self.enc(self.cut(series) + self.places).reshape(len(x), -1))


SERIES = torch.randn(2, 48, 7, generator=torch.Generator().manual_seed(0))


def test_the_axis_of_time_is_the_one_that_the_cells_follow() -> None:
    agrees(seeded(lambda: ByVariable(True)), "enc", SERIES, lambda a: a.mT.unflatten(0, (2, 7)).flatten(1, 2))
    agrees(seeded(lambda: ByVariable(False)), "enc", SERIES, lambda a: a.mT)
    for patches, follows in ((True, "axis 1, and the map has 48"), (False, "axis 2, and the map has 7")):
        said = " ".join(cc.GradCAM(seeded(lambda p=patches: ByVariable(p))).explain(SERIES, 1).diagnostics)
        assert follows in said


class Windows(nn.Module):
    """A signal cut into windows, which a convolution sees as rows before an LSTM goes through them."""

    def __init__(self, channels: int, time_first: bool) -> None:
        super().__init__()
        self.conv, self.rnn = nn.Conv1d(channels, 8, 5, 2, 2), nn.LSTM(8, 8, batch_first=not time_first)
        self.fc, self.time_first = nn.Linear(8, 4), time_first

    def forward(self, x: Tensor) -> Tensor:
        windows = (
            x.unfold(2, 20, 20).permute(2, 0, 1, 3)
            if self.time_first
            else x.unfold(2, 20, 20).transpose(1, 2)
        )
        each = self.conv(windows.flatten(0, 1)).relu().mean(2).unflatten(0, windows.shape[:2])
        steps = self.rnn(each)[0]
        return self.fc(steps[-1] if self.time_first else steps[:, -1])


@pytest.mark.parametrize("time_first", [False, True])
@pytest.mark.parametrize("channels", [3, 5])  # as many as windows
def test_windows_of_a_signal_lie_one_after_the_other(channels: int, time_first: bool) -> None:
    x = torch.randn(2, channels, 100, generator=torch.Generator().manual_seed(0))

    def along_time(rows: Tensor) -> Tensor:
        parts = rows.unflatten(0, (5, 2) if time_first else (2, 5))
        return parts.permute(1, 2, 0, 3).flatten(2) if time_first else parts.transpose(1, 2).flatten(2)

    agrees(seeded(lambda: Windows(channels, time_first)), "conv", x, along_time)


class Causal(nn.Module):
    """Dilated convolutions that see no later steps; the weights of TCN are normalised."""

    def __init__(self, normed: bool) -> None:
        super().__init__()
        channels = (1, 1), (4, 2), (4, 4)
        convs = (nn.Conv1d(n, 4, 3, dilation=d, bias=False) for n, d in channels)
        self.convs = nn.ModuleList(weight_norm(conv) if normed else conv for conv in convs)
        self.last, self.fc = nn.Conv1d(4, 4, 1, bias=False), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = conv(F.pad(x, (2 * conv.dilation[0], 0))).relu()
        return self.fc(self.last(x).mean(2))


@pytest.mark.parametrize("normed", [False, True])
def test_a_burst_is_drawn_at_its_step_by_a_causal_network(normed: bool) -> None:
    net, x = seeded(lambda: Causal(normed)), torch.zeros(1, 1, 64)
    for parameter in net.parameters():
        parameter.data.abs_()
    x[0, 0, 30] = 1
    found = cc.GradCAM(net, signed=True).explain(x, 1)
    drawn = np.asarray(found)[0]
    assert abs((drawn * np.arange(64)).sum() / drawn.sum() - 30) < 1.5  # steps 30 to 44 see it
    assert "sees no later steps" in " ".join(found.diagnostics)


class Labelled(nn.Module):
    """Four scores at every step of a signal, steps first as of an LSTM, or last as of a convolution."""

    def __init__(self, steps_first: bool) -> None:
        super().__init__()
        self.conv, self.head, self.steps_first = nn.Conv1d(3, 8, 5, 1, 2), nn.Conv1d(8, 4, 1), steps_first

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.conv(x).tanh())
        return scores.mT if self.steps_first else scores


def test_classes_at_every_step_of_a_signal_are_meant_of_the_whole() -> None:
    net, x = seeded(lambda: Labelled(True)), X[..., :30]
    scores = net(x).detach()
    mean = cc.GradCAM(net).explain(x, 1)
    np.testing.assert_allclose(mean.scores[:, 0], scores[..., 1].mean(1), rtol=1e-4, atol=1e-6)
    for row, info in enumerate(cc.GradCAM(net).explain(x).targets):
        assert info[0].index == scores[row].argmax(1).mode().values
    with pytest.raises(TargetError, match="for dense outputs"):  # steps last: they may be classes
        cc.GradCAM(seeded(lambda: Labelled(False))).explain(x, 1)


@pytest.mark.parametrize("steps_first", [False, True])
@pytest.mark.parametrize("each", [False, True])
def test_a_region_of_a_signal_is_some_of_its_steps(steps_first: bool, each: bool) -> None:
    net, x = seeded(lambda: Labelled(steps_first)), X[..., :30]
    masks = np.stack([np.arange(30) < 10, np.arange(30) > 20])
    scores = net(x).detach().numpy()
    scores = scores.swapaxes(1, 2) if steps_first else scores
    expected = [scores[k, 2, masks[k if each else 0]].mean() for k in range(2)]
    found = cc.GradCAM(net).explain(x, cc.targets.Region(masks if each else masks[0], 2))
    np.testing.assert_allclose(found.scores[:, 0], expected, rtol=1e-4, atol=1e-6)


def test_a_mask_of_fewer_axes_than_the_outputs_is_refused_in_one_line() -> None:
    net = seeded(lambda: nn.Conv3d(3, 4, 3, padding=1))
    with pytest.raises(TargetError) as error:
        cc.GradCAM(net, "input").explain(
            torch.rand(1, 3, 4, 8, 8), cc.targets.Region(np.ones((8, 8), bool), 1)
        )
    one_line(error, "(8, 8)", "(4, 8, 8)")


@pytest.mark.parametrize("cell", [False, True])
def test_what_explains_a_network_of_one_recurrent_layer_is_named(cell: bool) -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.fc = nn.GRUCell(6, 8) if cell else nn.GRU(6, 8, batch_first=True), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            if not cell:
                return self.fc(self.rnn(x)[0])[:, -1]
            state = torch.zeros(len(x), 8)
            for step in x.unbind(1):
                state = self.rnn(step, state)
            return self.fc(state)

    with pytest.raises(LayerError) as error:
        cc.GradCAM(seeded(Steps)).explain(STEPS, 1)
    one_line(error, "cc.sequence.LRP", "cc.IntegratedGradients")


class Event(nn.Module):
    """Finds a pulse with convolutions over time, of which nothing fills up the ends that they lose."""

    def __init__(self, kernels: tuple[int, ...], stride: int, padding: int = 0) -> None:
        super().__init__()
        more = {"stride": stride, "padding": padding, "bias": False}
        convs = (nn.Conv1d(1, 1, kernel, **more) for kernel in kernels)
        self.convs = nn.Sequential(*convs)
        for conv in self.convs:
            nn.init.ones_(conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convs(x).amax(2)
        return torch.cat([-y, y], 1)


@pytest.mark.parametrize("layer", [None, "convs"])
@pytest.mark.parametrize(("kernels", "stride"), [((65,), 1), ((33, 17), 1), ((7, 7, 7), 2), ((9, 9), 3)])
@pytest.mark.parametrize("at", [80, 250, 420])
def test_what_convolutions_without_padding_find_is_drawn_when_it_was(
    layer: str | None, kernels: tuple[int, ...], stride: int, at: int
) -> None:
    net, x = Event(kernels, stride).eval(), torch.zeros(1, 1, 500)
    x[..., at] = 1.0
    found = cc.GradCAM(net, layer).explain(x, 1)
    drawn = np.asarray(found)[0]
    assert abs(np.average(np.arange(500), weights=drawn) - at) < 1.5 * stride ** len(kernels)
    assert any("loses the ends of its input" in text for text in found.diagnostics) == (kernels == (65,))


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(65, 1, 32), (7, 2, 3), (8, 8, 0), (4, 2, 1)])
def test_what_fills_the_whole_signal_tiles_it_evenly(kernel: int, stride: int, padding: int) -> None:
    x = torch.rand(1, 1, 500, generator=torch.Generator().manual_seed(0))
    assert cc.GradCAM(Event((kernel,), stride, padding).eval()).explain(x, 1).centers is None


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin, self.mask, self.fc = nn.Linear(6, 16), nn.Identity(), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        z = self.lin(x)
        return self.fc(self.mask(z.masked_fill(z < -0.3, -torch.inf)).exp().mean(1))


@pytest.mark.filterwarnings("error")
def test_layers_that_mask_with_infinity_are_passed_over_and_a_named_one_is_said_to_be_infinite() -> None:
    agrees(seeded(Masked), "lin", STEPS, lambda a: a.transpose(1, 2))
    found = cc.GradCAM(seeded(Masked), "mask").explain(STEPS, 1)
    assert found.maps.shape == (2, 1, 20)
    assert {finding.kind for finding in found.findings} == {"not finite"}


def test_rows_that_are_steps_of_sensors_lie_in_the_middle_of_what_they_see() -> None:
    net = nn.Sequential(
        nn.Unflatten(1, (1, 60)), nn.Conv2d(1, 4, (11, 1)), nn.ReLU(), nn.Conv2d(4, 4, (11, 1))
    )
    net = nn.Sequential(net, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    found = cc.GradCAM(net).explain(torch.randn(2, 60, 6), 1)
    assert found.maps.shape == (2, 1, 40, 6)
    assert found.centers == (tuple(range(10, 50)), tuple(range(6)))
    assert any("rows 10 to 49 of 60; pictures carry" in text for text in found.diagnostics)


class Attended(nn.Module):
    """Pools what it found of each place by weights that a layer of one channel says."""

    def __init__(self, frames: bool) -> None:
        super().__init__()
        self.frames, self.conv, self.weights, self.fc = (
            frames,
            nn.Conv2d(3, 8, 5, 4, 2),
            nn.Linear(8, 1),
            nn.Linear(8, 4),
        )

    def forward(self, x: Tensor) -> Tensor:
        z = self.conv(x.flatten(0, 1) if self.frames else x).relu().flatten(2).mT
        z = z.reshape(len(x), -1, 8)
        return self.fc((z * self.weights(z).softmax(1)).sum(1))


@pytest.mark.parametrize("frames", [False, True])
def test_features_and_not_what_weights_them_are_explained(frames: bool) -> None:
    x = torch.randn(2, 6, 3, 32, 32) if frames else torch.randn(2, 3, 32, 32)
    found = cc.GradCAM(seeded(lambda: Attended(frames))).explain(x, 1)
    assert found.layer == "conv"
    assert found.findings == ()


class Chomped(nn.Module):
    """Causal convolutions that each cut off what their padding leaves over."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(3 if d == 1 else 8, 8, 3, padding=2 * d, dilation=d) for d in (1, 2, 4)
        )
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = conv(x)[..., : x.shape[2]].relu()
        return self.fc(x.mean(2))


def test_the_last_of_causal_convolutions_is_explained_however_much_they_pad() -> None:
    agrees(seeded(Chomped), "convs.2", X)
