"""A grid is proven by moving the input; the default layer is the one that the explained score depends on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from explained import batches_seen
from helpers import one_line, seeded
from plain_hooks import agrees, by_hand, cam_of_score
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import LayerError, LayoutError
from chronocam.joint.look.look import look_at
from chronocam.joint.look.order import CLEAR, follows, is_sure, leans
from chronocam.joint.look.ramps import Ramps
from chronocam.joint.look.subject import Subject
from chronocam.layouts import ChannelsFirst, ChannelsLast, Tokens

X = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class Pooler(nn.Module):
    """Returns a map and what it pooled of it, as the backbones of many libraries do."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 8, 3, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        f = self.c(x)
        return {"map": f, "pooled": f.mean((2, 3))}


class OfPooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = Pooler(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)["pooled"])


def test_a_map_that_its_own_layer_pooled_is_not_explained() -> None:
    agrees(seeded(OfPooled), "body.c", X, 2, lambda y: y[:, 2])


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.a, self.b = nn.Linear(8, 3), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        f = self.e(x).mean((2, 3))
        return {"a": self.a(f), "b": self.b(f)}


@pytest.mark.parametrize("method", ["gradcam", "layercam", "eigencam", "hirescam"])
def test_outputs_without_a_main_one_need_no_named_layer(method: str) -> None:
    net = seeded(Heads)
    found = cc.explain(net, X, lambda o: o["a"][:, 1], methods=[method])[method]
    assert found.layer == "e"
    assert found.maps.shape == (1, 1, 32, 32)
    agrees(net, "e", X, lambda o: o["b"][:, 0], lambda o: o["b"][:, 0])


def test_an_operator_of_several_outputs_needs_no_named_layer() -> None:
    net = seeded(Heads)
    found = cc.GradCAM(net, operator=lambda model, x, targets: model(x)["a"][:, 1]).explain(X)
    assert found.layer == "e"
    np.testing.assert_allclose(
        found.maps[:, 0], cam_of_score(net, "e", X, lambda o: o["a"][:, 1]), rtol=1e-4, atol=1e-7
    )


class MaskAndLabel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.d, self.o, self.h = nn.Conv2d(8, 4, 3, 1, 1), nn.Conv2d(4, 1, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        f = self.e(x)
        return self.o(self.d(f)), self.h(f.mean((2, 3)))


def test_the_layer_is_chosen_by_the_score_that_is_explained() -> None:
    net, label = seeded(MaskAndLabel), lambda o: o[1][:, 2]
    agrees(net, "e", X, label, label)
    method = cc.GradCAM(net)  # and once more where another target came first
    assert method.explain(X, lambda o: o[0].mean((1, 2, 3))).layer == "d"
    assert method.explain(X, label).layer == "e"


class Queries(nn.Module):
    """As many queries as a square has cells: they have no place in the picture."""

    def __init__(self) -> None:
        super().__init__()
        first, second = nn.Conv2d(3, 32, 3, 8, 1), nn.Conv2d(32, 32, 3, 4, 1)
        self.cnn = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
        self.queries = nn.Parameter(torch.randn(100, 32))
        self.decoder = nn.TransformerDecoderLayer(32, 2, 64, batch_first=True)
        self.classes = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        memory = self.cnn(x).flatten(2).transpose(1, 2)
        return self.classes(self.decoder(self.queries.expand(len(x), -1, -1), memory))


def test_object_queries_are_not_a_grid() -> None:
    net, x = seeded(Queries), torch.rand(1, 3, 320, 320, generator=torch.Generator().manual_seed(0))
    agrees(net, "cnn", x, lambda o: o[:, 7, 2], lambda o: o[:, 7, 2])
    with pytest.raises(LayoutError) as error:
        cc.GradCAM(net, "decoder").explain(x, lambda o: o[:, 7, 2])
    one_line(error, "`decoder`", "do not follow the places of the input", "layout=")


class SignalLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(12, 16, 7, 2, 3), nn.ReLU())
        self.rnn, self.fc = nn.LSTM(16, 64, batch_first=True), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(self.conv(x).transpose(1, 2))[0].mean(1))


def test_hidden_features_are_not_time() -> None:
    x = torch.zeros(1, 12, 1000)
    x[..., 100:140] = 5.0
    found = agrees(seeded(SignalLSTM), "conv", x, 2, lambda y: y[:, 2])
    assert found.maps.shape == (1, 1, 500)
    with pytest.raises(LayoutError) as error:
        cc.GradCAM(seeded(SignalLSTM), "rnn").explain(x, 2)
    one_line(error, "is a LSTM", "layout=")
    named = cc.GradCAM(seeded(SignalLSTM), "rnn", layout="channels_last").explain(x, 2)
    assert named.maps.shape == (1, 1, 500)


@pytest.mark.parametrize("rnn", [nn.LSTM, nn.GRU])
def test_steps_over_the_columns_of_a_spectrogram_are_not_a_picture(rnn: Any) -> None:
    class Columns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            first, second = nn.Conv2d(1, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
            self.cnn = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
            self.rnn, self.fc = rnn(128, 64, batch_first=True), nn.Linear(64, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.rnn(self.cnn(x).permute(0, 3, 1, 2).flatten(2))[0][:, -1])

    agrees(seeded(Columns), "cnn", torch.rand(1, 1, 64, 128), 2, lambda y: y[:, 2])


class TimeFirst(nn.Module):
    """A CNN for each frame, and a recurrent layer that takes time before the batch."""

    def __init__(self, hidden: int = 64, ctc: bool = False) -> None:
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.ReLU())
        self.rnn, self.fc, self.ctc = nn.LSTM(8, hidden), nn.Linear(hidden, 4), ctc

    def forward(self, x: Tensor) -> Tensor:
        f = self.cnn(x.flatten(0, 1)).mean((2, 3)).view(*x.shape[:2], -1)
        states = self.rnn(f.transpose(0, 1))[0]
        return self.fc(states).log_softmax(-1) if self.ctc else self.fc(states.mean(0))


@pytest.mark.parametrize("hidden", [16, 64, 256])
@pytest.mark.parametrize("batch", [1, 2, 4])
def test_rows_of_time_before_the_batch_are_not_frames(hidden: int, batch: int) -> None:
    net, clips = seeded(lambda: TimeFirst(hidden)), torch.rand(batch, 8, 3, 64, 64)
    found = cc.GradCAM(net).explain(clips, 1)
    assert found.layer == "cnn"
    assert found.maps.shape == (batch, 1, 8, 16, 16)
    if batch > 1:  # another clip beside it changes nothing
        clips[1] = 0
        np.testing.assert_array_equal(cc.GradCAM(net).explain(clips, 1).maps[0], found.maps[0])


def test_classes_at_every_step_are_not_a_picture() -> None:
    net = seeded(lambda: TimeFirst(12, ctc=True))
    found = cc.GradCAM(net).explain(torch.rand(2, 8, 3, 64, 64), lambda o: o[5, :, 1])
    assert found.layer == "cnn"
    assert found.maps.shape == (2, 1, 8, 16, 16)


def test_features_before_a_transposed_convolution_are_channels() -> None:
    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Sequential(nn.Conv1d(40, 16, 5, 1, 2), nn.ReLU())
            self.fc = nn.Linear(16, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x.transpose(1, 2)).mean(2))

    found = agrees(seeded(Features), "conv", torch.rand(1, 100, 40), 2, lambda y: y[:, 2])
    assert found.input_size == (100,)


@pytest.mark.parametrize(
    ("channels", "pool", "size"),
    [(16, (16, 1), (64, 64)), (20, (20, 1), (80, 100)), (32, (32, 1), (128, 44)), (8, (1, 64), (128, 128))],
)
def test_a_convolution_says_where_its_channels_are(
    channels: int, pool: tuple[int, int], size: tuple[int, int]
) -> None:
    net = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(pool),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, 4),
        )
    )
    x = torch.rand(1, 1, *size)
    right = (size[0] // pool[0], size[1] // pool[1])
    for layer in ("3", None) if min(right) >= 4 else ("3",):
        assert cc.GradCAM(net, layer).explain(x, 0).maps.shape == (1, 1, *right)


class Shuffled(nn.Module):
    """Patches in another order than row by row, or with other tokens around them."""

    def __init__(self, order: Tensor | None = None, before: int = 0, after: int = 0) -> None:
        super().__init__()
        self.patch, self.order = nn.Conv2d(3, 16, 4, 4), order
        self.before = nn.Parameter(torch.randn(1, before, 16))
        self.after = nn.Parameter(torch.randn(1, after, 16))
        self.block, self.fc = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16)), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = tokens if self.order is None else tokens[:, self.order]
        around = [part.expand(len(x), -1, -1) for part in (self.before, self.after)]
        return self.fc(self.block(torch.cat([around[0], tokens, around[1]], 1)).tanh().mean(1))


@pytest.mark.parametrize(
    ("order", "how"),
    [
        (torch.randperm(256, generator=torch.Generator().manual_seed(3)), "do not follow the places"),
        # In blocks of 2 × 2: all rows and columns look in order, but no cell looks at its own place.
        (torch.arange(256).view(8, 2, 8, 2).transpose(1, 2).flatten(), "in the order of blocks"),
    ],
    ids=["shuffled", "blocks"],
)
def test_tokens_in_another_order_are_refused_where_they_are_named_and_passed_over_where_not(
    order: Tensor, how: str
) -> None:
    net = seeded(lambda: Shuffled(order))
    with pytest.raises(LayoutError, match=how):
        cc.GradCAM(net, "block").explain(X, 1)
    assert cc.GradCAM(net).explain(X, 1).layer == "patch"


def test_rows_that_are_read_to_and_fro_are_not_in_order() -> None:
    cells = torch.arange(256).reshape(16, 16)
    cells[1::2] = cells[1::2].flip(1)
    for seed in range(5):  # columns may seem to be in order by chance
        torch.manual_seed(seed)
        net = Shuffled(cells.flatten()).eval()
        assert cc.GradCAM(net).explain(torch.rand(1, 3, 64, 64), 1).layer == "patch"


def test_an_order_along_one_axis_beside_a_far_sharper_one_may_be_chance() -> None:
    places, noise = np.linspace(-1, 1, 8), np.tile([0.05, -0.05], 4)
    squares = np.ones((8, 8))

    def products(slope: float, errors: np.ndarray) -> np.ndarray:
        columns = slope * places + errors
        return np.stack(np.broadcast_arrays(places[:, None], columns[None]))

    assert follows(products(0.1, noise), squares) is None
    assert follows(products(0.03, 4 * noise), squares) is False
    assert follows(products(0.1, 0 * noise), squares) is True
    assert follows(products(0.5, noise), squares) is True


@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 0), (5, 0), (0, 9), (1, 9), (1, 100)])
def test_tokens_before_and_after_the_patches_are_left_out(before: int, after: int) -> None:
    net = seeded(lambda: Shuffled(None, before, after))
    found = cc.GradCAM(net, "block", signed=True).explain(X, 1)
    right = Tokens((16, 16), prefix=before, suffix=after)
    np.testing.assert_array_equal(
        found.maps, cc.GradCAM(net, "block", layout=right, signed=True).explain(X, 1).maps
    )
    assert cc.GradCAM(net).explain(X, 1).layer == "block"


@pytest.mark.parametrize(
    ("size", "before", "after"),
    [((128, 128), 1, 1), ((128, 160), 4, 1), ((16, 160), 1, 2), ((128, 128), 2, 4), ((64, 80), 1, 40)],
)
def test_a_wide_grid_is_not_shifted_by_tokens_around_it(
    size: tuple[int, int], before: int, after: int
) -> None:
    net = seeded(lambda: Shuffled(None, before, after))
    x = torch.rand(1, 3, *size)
    right = Tokens((size[0] // 4, size[1] // 4), prefix=before, suffix=after)
    for layer in (None, "block"):
        found = cc.GradCAM(net, layer, signed=True).explain(x, 1)
        expected = cc.GradCAM(net, "block", layout=right, signed=True).explain(x, 1)
        np.testing.assert_array_equal(found.maps, expected.maps)


def test_two_cells_on_either_side_say_nothing_of_tokens_around_them() -> None:
    right = cc.GradCAM(net := seeded(lambda: Shuffled(None, 1)), "block", layout=Tokens((2, 2), prefix=1))
    x = torch.rand(1, 3, 8, 8)
    np.testing.assert_array_equal(cc.GradCAM(net, "block").explain(x, 1).maps, right.explain(x, 1).maps)


class Amid(Shuffled):
    """A class token, and others, behind the first half of the patches."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).mT
        half = tokens.shape[1] // 2
        others = self.before.expand(len(x), -1, -1)
        tokens = self.block(torch.cat([tokens[:, :half], others, tokens[:, half:]], 1))
        return self.fc(tokens.tanh().mean(1))


@pytest.mark.parametrize(("size", "amid"), [((64, 64), 1), ((28, 36), 1), ((32, 48), 2)])
def test_tokens_amid_the_patches_are_left_out(size: tuple[int, int], amid: int) -> None:
    net, x = seeded(lambda: Amid(before=amid)), torch.rand(2, 3, *size)
    half = size[0] * size[1] // 32
    values, slopes = (
        torch.cat([t[:, :half], t[:, half + amid :]], 1).mT.reshape(2, 16, size[0] // 4, size[1] // 4)
        for t in by_hand(net, "block", x, 1)
    )
    expected = (slopes.mean((2, 3), keepdim=True) * values).sum(1)
    for layer in (None, "block"):
        maps = cc.GradCAM(net, layer, signed=True).explain(x, 1).maps[:, 0]
        np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-7)


class Rows(nn.Module):
    """A convolution over rows: over the patches of a picture, or over what is left of it beside one axis."""

    def __init__(self, axis: int | None, width: int, size: int) -> None:
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(3, 16, 3, 4, 1), nn.ReLU())
        self.axis, self.rows, self.fc = axis, nn.Conv1d(16, width, size), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        grid = self.cnn(x)
        rows = grid.flatten(2) if self.axis is None else grid.mean(self.axis)
        return self.fc(self.rows(rows).relu().mean(2))


@pytest.mark.parametrize("axis", [2, 3])
def test_rows_that_lost_an_axis_of_the_picture_are_no_picture(axis: int) -> None:
    net = seeded(lambda: Rows(axis, 16, 1))
    agrees(net, "cnn", torch.rand(1, 3, 128, 128), 1, lambda y: y[:, 1])
    with pytest.raises(LayoutError, match="do not follow the places"):
        cc.GradCAM(net, "rows").explain(torch.rand(1, 3, 128, 128), 1)


def test_a_convolution_over_patches_has_their_grid_whatever_its_width() -> None:
    net, x = seeded(lambda: Rows(None, 24, 1)), torch.rand(1, 3, 32, 48)
    found = cc.GradCAM(net).explain(x, 1)
    assert (found.layer, found.maps.shape) == ("rows", (1, 1, 8, 12))
    by_hand = cam_of_score(net, "rows", x, lambda y: y[:, 1]).reshape(1, 8, 12)
    np.testing.assert_allclose(found.maps[:, 0], by_hand, rtol=1e-4, atol=1e-7)


def test_the_width_is_not_taken_for_the_tokens() -> None:
    class Wide(nn.Module):
        """Patches of 14 on 60 × 80, floored; the width factors like the picture."""

        def __init__(self) -> None:
            super().__init__()
            self.patch, self.norm, self.fc = nn.Conv2d(3, 48, 14, 14), nn.LayerNorm(48), nn.Linear(48, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.norm(self.patch(x).flatten(2).transpose(1, 2)).tanh().mean(1))

    found = cc.GradCAM(seeded(Wide), "norm").explain(torch.rand(1, 3, 60, 80), 1)
    assert found.maps.shape == (1, 1, 4, 5)


def test_patches_of_volumes_are_found_by_the_convolution_that_cuts_them() -> None:
    class Volume(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch, self.norm, self.fc = (
                nn.Conv3d(1, 16, (4, 8, 8), (4, 8, 8)),
                nn.LayerNorm(16),
                nn.Linear(16, 3),
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.norm(self.patch(x).flatten(2).transpose(1, 2)).tanh().mean(1))

    found = cc.GradCAM(seeded(Volume), "norm").explain(torch.rand(1, 1, 16, 32, 48), 1)
    assert found.maps.shape == (1, 1, 4, 4, 6)


def test_nothing_is_proven_twice_nor_where_a_layer_or_a_layout_says_it() -> None:
    net, passes = seeded(lambda: Shuffled()), list[int]()
    net.register_forward_hook(lambda module, args, output: passes.append(len(args[0])))
    method = cc.GradCAM(net)
    method.explain(X, 1)
    assert len(passes) <= 1 + 5  # one of them with a backward pass to the layers
    passes.clear()
    method.explain(X, 2)
    assert passes == [1]
    passes.clear()
    cc.GradCAM(net, "patch").explain(X, 1)
    assert passes == [1, 1]  # something is transposed: one pass says that it is not before the layer
    passes.clear()
    cc.GradCAM(net, "block", layout="tokens").explain(X, 1)
    assert passes == [1]


def test_tokens_that_do_not_move_are_assumed_and_said_so() -> None:
    net = seeded(Shuffled)
    nn.init.zeros_(net.block[0].weight)
    found = cc.GradCAM(net, "block").explain(X, 0)
    assert found.maps.shape == (1, 1, 16, 16)
    assert "the grid of layer `block` is assumed from its shape" in found.diagnostics[0]


def test_without_any_dependence_the_reason_is_given() -> None:
    net = seeded(Heads)
    with pytest.raises(LayerError) as error:
        cc.GradCAM(net).explain(X, lambda o: o["a"][:, 1].detach())
    one_line(error, "does not depend on any layer")


def test_where_cells_look_is_measured() -> None:
    net = seeded(lambda: nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.ReLU()))
    ramps = Ramps(look_at(Subject(net), X), ["1"])
    ramps.draw()
    assert ramps.verdict("1", ChannelsFirst()) is True
    assert ramps.verdict("1", ChannelsLast()) is False
    products, squares = (np.asarray(part) for part in ramps._sums("1", ChannelsFirst()))
    looks = (products.sum(2) / squares.sum(1))[0]  # rows along the height
    np.testing.assert_allclose(looks, np.linspace(-1, 1, 64)[::4] + 0.02, atol=0.12)


def test_what_follows_is_decided_by_order_and_direction() -> None:
    rows = np.linspace(-1, 1, 8)
    squares = np.ones((8, 8))
    rising = np.stack([np.repeat(rows[:, None], 8, 1), np.repeat(rows[None], 8, 0)])
    assert follows(rising, squares) is True
    assert follows(rising[::-1], squares) is False  # the axes swapped
    assert follows(-rising, squares) is False  # mirrored
    assert follows(0 * rising, squares) is False  # everywhere the same
    assert follows(rising, 0 * squares) is None  # nothing moves
    assert follows(rising[:1, :, :1], squares[:, :1]) is True  # an axis of one cell has no order


@pytest.mark.parametrize(
    "between", [nn.ReLU(), nn.ReLU(inplace=True), nn.Sequential(nn.ReLU(), nn.Dropout())]
)
def test_an_activation_has_the_axes_of_what_it_gets_though_no_unit_is_alive(between: nn.Module) -> None:
    # Two channels on 2 × 2 cells: the shape says nothing of their order, and nothing moves.
    net = seeded(lambda: nn.Sequential(nn.Conv2d(1, 2, 3), between, nn.Flatten(), nn.Linear(8, 3)))
    with torch.no_grad():
        net[0].bias -= 9.0
    found = cc.GradCAM(net.eval()).explain(torch.ones(1, 1, 4, 4), 0)
    assert found.layer.startswith("1")
    assert found.maps.shape[2:] == (2, 2)
    assert not found.maps.any()


class FrameFirst(nn.Module):
    """Frames of all clips side by side in the rows, as of time-first code."""

    def __init__(self, mix: Callable[[Tensor], Tensor] = lambda rows: rows) -> None:
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.ReLU())
        self.rnn, self.head = nn.GRU(8, 6), nn.Linear(6, 4)
        self.mix = mix

    def forward(self, x: Tensor) -> Tensor:
        clips, time = x.shape[:2]
        rows = self.cnn(self.mix(x.transpose(0, 1).flatten(0, 1)))
        return self.head(self.rnn(rows.mean((2, 3)).view(time, clips, -1))[0][-1])


@pytest.mark.parametrize("named", [None, "cnn", "cnn.0"])
@pytest.mark.parametrize("clips", [2, 5])
def test_rows_that_go_through_all_clips_frame_by_frame_are_put_together_by_clip(
    named: str | None, clips: int
) -> None:
    net, x = seeded(FrameFirst), torch.rand(clips, 4, 3, 16, 16)
    method = cc.GradCAM(net, named)
    together = method.explain(x, 1)
    for i in range(clips):
        alone = cc.GradCAM(net, named).explain(x[i : i + 1], 1)
        np.testing.assert_allclose(together.maps[i], alone.maps[0], rtol=1e-4, atol=1e-7)
    moved = torch.cat([x[:-1], torch.rand(1, 4, 3, 16, 16)])
    np.testing.assert_allclose(method.explain(moved, 1).maps[:-1], together.maps[:-1], rtol=1e-4, atol=1e-7)


def test_rows_that_depend_on_other_clips_are_refused_where_there_are_several() -> None:
    net, x = seeded(lambda: FrameFirst(lambda rows: rows + rows.flip(0))), torch.rand(2, 4, 3, 16, 16)
    assert cc.GradCAM(net, "cnn").explain(x[:1], 1).maps.any()
    with pytest.raises(LayoutError, match="rows of layer `cnn` are not the frames") as caught:
        cc.GradCAM(net, "cnn").explain(x, 1)
    one_line(caught)


def test_the_check_of_rows_takes_one_pass() -> None:
    net, x = seeded(FrameFirst), torch.rand(2, 4, 3, 16, 16)
    passes: list[int] = []
    net.register_forward_hook(lambda module, args, out: passes.append(len(out)))
    method = cc.GradCAM(net, "cnn")
    method.explain(x, 1)
    assert sorted(passes)[-2:] == [2, 4]
    assert sorted(passes)[:-2] == [1] * 6  # something is transposed: that says that frames are not turned
    passes.clear()
    method.explain(x, 1)
    assert passes == [2]


class Tubes(nn.Module):
    """A transformer over the tubes that a convolution cuts a volume into."""

    def __init__(self) -> None:
        super().__init__()
        self.cut, self.mix = nn.Conv3d(1, 6, (4, 8, 4), (4, 8, 4)), nn.Linear(6, 6)
        self.first, self.head = nn.Parameter(torch.randn(1, 1, 6)), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.cut(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(len(x), -1, -1), tokens], 1)
        return self.head((tokens + self.mix(tokens).tanh().mean(1, keepdim=True)).relu().mean(1))


def test_tubes_of_any_shape_are_tokens_of_their_grid_without_a_layer_named() -> None:
    torch.manual_seed(0)
    net = Tubes()
    net.mix.register_forward_hook(lambda module, args, output: args[0] + output.tanh())
    found = cc.GradCAM(net).explain(torch.rand(2, 1, 16, 40, 24), 1)
    assert (found.layer, found.maps.shape) == ("mix", (2, 1, 4, 5, 6))


class TubesAround(nn.Module):
    """Tokens before and after the tubes, the last of which alone is read."""

    def __init__(self, before: int) -> None:
        super().__init__()
        self.cut, self.before = nn.Conv3d(3, 8, (2, 4, 4), (2, 4, 4)), nn.Parameter(torch.randn(1, before, 8))
        self.after, self.head = nn.Parameter(torch.randn(1, 1, 8)), nn.Linear(8, 3)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        z = self.cut(x).flatten(2).mT
        beside = [one.expand(len(x), -1, -1) for one in (self.before, self.after)]
        return self.head(self.block(self.block(torch.cat([beside[0], z, beside[1]], 1)))[:, -1])


@pytest.mark.parametrize("before", [0, 2])
def test_tokens_after_the_tubes_of_a_clip_are_left_out(before: int) -> None:
    net, x = seeded(lambda: TubesAround(before)), torch.rand(2, 3, 4, 24, 40)
    kept: list[Tensor] = []
    handle = net.block.register_forward_hook(lambda module, args, out: kept.append(out))
    (g,) = torch.autograd.grad(net(x)[:, 1].sum(), kept[0])
    handle.remove()
    right = (g * kept[0])[:, before:-1].sum(2).reshape(2, 2, 6, 10).detach()
    found = cc.HiResCAM(net, "block#0", signed=True).explain(x, 1)
    np.testing.assert_allclose(found.maps[:, 0], right, rtol=1e-3, atol=1e-7)


class Joined(nn.Module):
    """Two convolutions beside each other, whose channels are joined."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 5, 3, 2, 1), nn.Conv2d(3, 6, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.two(x)], 1).relu()


def test_joined_channels_have_the_axes_of_what_they_are_joined_from() -> None:
    net = seeded(lambda: nn.Sequential(Joined(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(11, 3)))
    seen = batches_seen(net)
    cc.GradCAM(net, "0").explain(X[:1], 1)
    assert len(seen) == 2  # one to see the layers, and the one that is explained


class Turned(nn.Module):
    """Convolutions that see the picture other than it was given."""

    def __init__(self, turn: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.turn, self.cnn = turn, nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.cnn(self.turn(x)).mean((2, 3)))


@pytest.mark.parametrize(
    "turn",
    [
        lambda x: x.flip(3),
        lambda x: x.transpose(2, 3),
        lambda x: torch.rot90(x, 1, (2, 3)),
        lambda x: torch.fft.rfft2(x).abs(),
        lambda x: torch.cat([x, x], 3),
        lambda x: torch.cat([x[:, :, ::2], x[:, :, 1::2]], 2),
        lambda x: x + x.mT,
        lambda x: x.sort(3).values,
    ],
)
def test_a_picture_that_the_network_turns_is_not_laid_over_the_given_one(
    turn: Callable[[Tensor], Tensor],
) -> None:
    with pytest.raises(LayerError, match="follows the input"):
        cc.GradCAM(seeded(lambda: Turned(turn))).explain(X, 1)


@pytest.mark.parametrize(
    "turn",
    [lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2), lambda x: x[:, [2, 1, 0]], lambda x: x.flip(1)],
)
def test_channels_may_be_turned(turn: Callable[[Tensor], Tensor]) -> None:
    agrees(seeded(lambda: Turned(turn)), "cnn", X, 1, lambda y: y[:, 1])


class Stacked(nn.Module):
    """Convolutions that see parts of the picture side by side."""

    def __init__(self, stack: Callable[[Tensor], Tensor], channels: int) -> None:
        super().__init__()
        self.stack, self.fc = stack, nn.Linear(8, 3)
        self.cnn = nn.Sequential(nn.Conv2d(channels, 8, 3, 2, 1), nn.Tanh(), nn.Conv2d(8, 8, 3, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.cnn(self.stack(x)).relu().mean((2, 3)))


class Added(Stacked):
    """The same convolution over both halves, whose outputs are added up."""

    def __init__(self) -> None:
        super().__init__(lambda x: x, 8)
        self.each = nn.Conv2d(3, 8, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(sum(self.each(part).relu() for part in x.chunk(2, 3)))


@pytest.mark.parametrize("seed", range(3))
def test_a_layer_behind_halves_that_were_added_up_is_laid_over_none(seed: int) -> None:
    torch.manual_seed(seed)
    net = Added().eval()
    for layer in ("cnn", "cnn.0"):
        with pytest.raises(LayoutError, match="see several places each"):
            cc.GradCAM(net, layer).explain(torch.rand(1, 3, 64, 96), 1)


def late(x: Tensor) -> Tensor:
    return torch.cat([F.avg_pool2d(part, 3, 2, 1) for part in x.chunk(2, 3)], 1)


@pytest.mark.parametrize("layer", [None, "cnn"])
@pytest.mark.parametrize(
    ("stack", "channels", "cells"),
    [
        (lambda x: torch.cat([x[..., :32], x[..., 32:]], 1), 6, "columns"),
        (lambda x: x[:, :, :32] + x[:, :, 32:], 3, "rows"),
        (lambda x: x.view(len(x), 3, 64, 2, 32).amax(3), 3, "columns"),
        (lambda x: torch.cat(x.chunk(4, 3), 1), 12, "columns"),
        (
            lambda x: x.unflatten(3, (2, -1)).unflatten(2, (2, -1)).movedim(4, 2).flatten(1, 3),
            12,
            "rows and col",
        ),
        (late, 6, "columns"),
    ],
    ids=["halves", "added", "largest", "quarters", "space to depth", "late"],
)
def test_a_cell_that_sees_several_places_is_laid_over_none(
    stack: Callable[[Tensor], Tensor], channels: int, cells: str, layer: str | None
) -> None:
    net = seeded(lambda: Stacked(stack, channels))
    with pytest.raises((LayerError, LayoutError)) as error:
        cc.GradCAM(net, layer).explain(X, 1)
    one_line(error, f"its {cells}", "see several places each", "layout=")


@pytest.mark.parametrize(
    "stack",
    [
        lambda x: F.pixel_unshuffle(x, 2),
        lambda x: torch.cat([x[:, :, a::2, b::2] for a in (0, 1) for b in (0, 1)], 1),
    ],
)
def test_neighbours_may_be_stacked(stack: Callable[[Tensor], Tensor]) -> None:
    agrees(seeded(lambda: Stacked(stack, 12)), "cnn", X, 1, lambda y: y[:, 1])


def test_tokens_of_stacked_halves_are_laid_over_none() -> None:
    net = seeded(Shuffled)
    net.patch = nn.Sequential(
        Stacked(lambda x: torch.cat(x.chunk(2, 3), 1), 6).cnn[0], nn.Conv2d(8, 16, 2, 2)
    )
    net.patch.register_forward_pre_hook(lambda module, args: torch.cat(args[0].chunk(2, 3), 1))
    for layer in (None, "block"):
        with pytest.raises((LayerError, LayoutError), match="see several places each"):
            cc.GradCAM(net, layer).explain(X, 1)


TURNS: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.flip(3),
    lambda x: x.transpose(2, 3),
    lambda x: torch.fft.rfft2(x).abs(),
]


@pytest.mark.parametrize("turn", TURNS)
def test_a_named_layer_behind_a_turn_is_refused_and_laid_out_where_a_layout_says_so(
    turn: Callable[[Tensor], Tensor],
) -> None:
    net = seeded(lambda: Turned(turn))
    with pytest.raises(LayoutError, match="turns or mixes before") as caught:
        cc.GradCAM(net, "cnn").explain(X, 1)
    one_line(caught)
    assert cc.GradCAM(net, "cnn", layout="channels_first").explain(X, 1).maps.any()


class TurnedClip(nn.Module):
    """A 3D convolution that sees the clip other than it was given."""

    def __init__(self, turn: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.turn, self.cnn, self.fc = turn, nn.Conv3d(3, 8, 3, 2, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.cnn(self.turn(x)).relu().mean((2, 3, 4)))


@pytest.mark.parametrize("layer", [None, "cnn"])
@pytest.mark.parametrize("turn", [lambda x: x.flip(2), lambda x: x.flip(4), lambda x: x.transpose(3, 4)])
def test_a_clip_that_the_network_turns_is_refused(
    turn: Callable[[Tensor], Tensor], layer: str | None
) -> None:
    net, clips = seeded(lambda: TurnedClip(turn)), torch.rand(1, 3, 8, 16, 16)
    with pytest.raises((LayerError, LayoutError), match=r"the places of the input|follows the input"):
        cc.GradCAM(net, layer).explain(clips, 1)


@pytest.mark.parametrize("layer", [None, "cnn"])
@pytest.mark.parametrize(
    ("turn", "how"),
    [
        (lambda x: x.flip(3), "its columns lie backwards"),
        (lambda x: x.mT, "its rows follow the input's columns, its columns follow the input's rows"),
        (lambda x: x + x.flip(3), "its columns follow no axis, as where a picture is joined with its mirror"),
        (lambda x: x.roll(24, 3), "its columns follow no axis"),
    ],
)
def test_how_a_picture_is_turned_is_told(
    turn: Callable[[Tensor], Tensor], how: str, layer: str | None
) -> None:
    with pytest.raises((LayerError, LayoutError)) as error:
        cc.GradCAM(seeded(lambda: Turned(turn)), layer).explain(torch.rand(1, 3, 32, 48), 1)
    one_line(error, how, "layout=")


@pytest.mark.parametrize("layer", [None, "cnn"])
@pytest.mark.parametrize(
    "crop",
    [
        lambda x: x[:, :, 8:24, 12:36],
        lambda x: nn.functional.interpolate(x[:, :, 8:24, 12:36], scale_factor=2),
        lambda x: F.pad(x, (-12, -12, -8, -8)),
    ],
)
def test_a_map_of_a_part_of_the_picture_lies_on_that_part(
    crop: Callable[[Tensor], Tensor], layer: str | None
) -> None:
    net, x = seeded(lambda: Turned(crop)), torch.rand(2, 3, 32, 48)
    method = cc.GradCAM(net, layer)
    found = method.explain(x, 1)
    assert found.centers is not None
    n = [len(axis) for axis in found.centers]
    rows, columns = (
        (low + (np.arange(k) + 0.5) * size / k - 0.5)
        for low, size, k in zip((8, 12), (16, 24), n, strict=True)
    )
    np.testing.assert_allclose(found.centers[0], rows)
    np.testing.assert_allclose(found.centers[1], columns)
    assert any("rows 8 to 23 of 32 and columns 12 to 35 of 48" in text for text in found.diagnostics)
    seen = batches_seen(net)
    method.explain(x, 2)
    assert seen == [2]  # found out once


def test_frames_that_the_network_leaves_out_move_the_slices() -> None:
    net = seeded(lambda: TurnedClip(lambda x: x[:, :, 2:6]))
    found = cc.GradCAM(net, "cnn").explain(torch.rand(1, 3, 8, 16, 16), 1)
    assert found.centers is not None
    assert found.centers[0] == (2.5, 4.5)
    assert any("frames 2 to 5 of 8" in text for text in found.diagnostics)


@pytest.mark.parametrize("turn", [lambda x: x, lambda x: x.flip(1), lambda x: x[..., ::2, ::2]])
def test_a_map_of_the_whole_picture_tiles_it_evenly(turn: Callable[[Tensor], Tensor]) -> None:
    found = cc.GradCAM(seeded(lambda: Turned(turn)), "cnn").explain(X, 1)
    assert found.centers is None
    assert not [one for one in found.findings if one.kind == "cropped"]


def test_a_layer_that_is_named_costs_no_pass_where_no_function_moves_places() -> None:
    net = seeded(lambda: Turned(lambda x: x * 2))
    seen = batches_seen(net)
    cc.GradCAM(net, "cnn").explain(X, 1)
    assert seen == [len(X)]


def test_what_strides_leave_out_is_no_crop() -> None:
    net = seeded(lambda: nn.Sequential(Turned(lambda x: x[:, [2, 1, 0]])))
    net[0].cnn = nn.Conv2d(3, 8, 1, 4)
    found = cc.GradCAM(net, "0.cnn").explain(X, 1)  # of 64 rows it sees 0, 4, … 60
    assert (found.centers, found.findings) == (None, ())


def test_a_turn_before_all_layers_is_found_out_with_a_few_of_them() -> None:
    net = seeded(lambda: Turned(lambda x: x.flip(3)))
    widths = [3, 8, 8, 8]
    net.cnn = nn.Sequential(*(nn.Sequential(nn.Conv2d(n, 8, 3, 2, 1), nn.Tanh()) for n in widths))
    seen = batches_seen(net)
    with pytest.raises(LayerError, match="follows the input"):
        cc.GradCAM(net).explain(X, 1)
    assert len(seen) <= 9  # two draws of noise for all layers together


def without_a_head() -> nn.Module:
    net = Shuffled()
    nn.init.zeros_(net.fc.weight)
    nn.init.zeros_(net.fc.bias)
    return net


class Rearranged(nn.Module):
    """Convolutions between which places are moved and put back, as windows of attention are."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.fc = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 3)
        self.blocks = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x.roll(1, 2)).tanh().roll(-1, 2)
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize(
    "make",
    [Shuffled, without_a_head, Rearranged, lambda: nn.Sequential(Shuffled(), nn.Softmax(1))],
    ids=["tokens", "zero head", "moved and back", "softmax"],
)
def test_the_first_search_takes_no_more_than_six_passes_of_one_sample(make: Callable[[], nn.Module]) -> None:
    net = seeded(make)
    seen = batches_seen(net)
    cc.GradCAM(net).explain(X.repeat(2, 1, 1, 1), 1)
    assert seen[-1] == 2
    assert set(seen[:-1]) == {1}
    assert len(seen) <= 1 + 6


class Scales(nn.Module):
    """A decoder that adds up its levels, as a pyramid of features does."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(n, 8, 3, 2, 1) for n in (3, 8, 8))
        self.sides, self.out = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(3)), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        levels = []
        for down, side in zip(self.down, self.sides, strict=True):
            x = down(x).relu()
            levels.append(F.interpolate(side(x), size=(32, 32)))
        return F.interpolate(self.out(torch.stack(levels).sum(0)), scale_factor=2)


class Frames(nn.Module):
    """A network over the frames of a clip, and a recurrent one over what it says of them."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn, self.rnn, self.fc = nn.Conv2d(3, 8, 3, 2), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.cnn(x.flatten(0, 1)).relu().mean((2, 3))
        return self.fc(self.rnn(rows.view(*x.shape[:2], 8))[0][:, -1])


def vision_transformer() -> nn.Module:
    net = torchvision.models.VisionTransformer(64, 8, 3, 2, 16, 32)
    nn.init.normal_(net.heads.head.weight)
    return net


@pytest.mark.parametrize(
    ("make", "shape", "target", "forward"),
    [
        (lambda: torchvision.models.resnet18(num_classes=3), (1, 3, 64, 64), 1, 1),
        (Scales, (1, 3, 64, 64), lambda y: y[:, 1].mean((1, 2)), 1),
        (Heads, (1, 3, 64, 64), lambda y: y["a"][:, 1], 1),
        (Frames, (1, 4, 3, 32, 32), 1, 1),
        (vision_transformer, (1, 3, 64, 64), 1, 4),
        (
            lambda: torchvision.models.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [2, 2]),
            (1, 3, 64, 96),
            1,
            4,
        ),
    ],
    ids=["ResNet", "pyramid", "several heads", "frames", "vision transformer", "Swin"],
)
def test_the_pass_that_shows_the_layers_serves_what_else_is_asked_of_them(
    make: Callable[[], nn.Module],
    shape: tuple[int, ...],
    target: Any,
    forward: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, backward = seeded(make), list[int]()
    seen, run = batches_seen(net), torch.autograd._engine_run_backward

    def counted(*args: Any, **kwargs: Any) -> Any:
        backward.append(1)
        return run(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "_engine_run_backward", counted)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    assert cc.GradCAM(net, signed=True).explain(x, target).maps.any()
    assert (len(seen), len(backward)) == (forward + 1, 1 + 1)  # those of the map itself


class Mixing(nn.Module):
    """Tokens that mix all places again and again."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.first, self.fc = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 3)
        self.mix = nn.ModuleList(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8)) for _ in range(depth))
        self.places = nn.ModuleList(nn.Linear(256, 256) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).flatten(2).mT
        for mix, places in zip(self.mix, self.places, strict=True):
            x = mix(places(x.mT).mT)
        return self.fc(x.mean(1))


def test_however_many_layers_fail_the_search_takes_as_many_passes() -> None:
    counts = []
    for depth in (2, 9):
        net = seeded(lambda depth=depth: Mixing(depth))
        seen = batches_seen(net)
        assert cc.GradCAM(net).explain(X, 1).layer == "first"
        counts.append(len(seen))
    assert max(counts) <= 1 + 8


def test_another_draw_is_spared_where_it_would_change_nothing() -> None:
    places = np.linspace(-1, 1, 64)

    def sums(looks: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
        return looks[None, :cells], np.ones(cells)

    assert is_sure(False, *sums(np.cos(9 * places), 64))
    assert not is_sure(False, *sums(np.cos(9 * places), 6))  # so few may be in no order by chance
    assert not is_sure(False, *sums(places + 0.5 * np.cos(9 * places), 64))  # nearly in order
    assert is_sure(None, *sums(0.01 * places, 3))  # all look at the same place
    assert not is_sure(None, *sums(0.01 * places, 64))
    assert is_sure(None, np.zeros((1, 8)), np.zeros(8))


def test_a_few_cells_that_see_all_of_the_input_contradict_no_layer() -> None:
    ones = np.ones((2, 3))
    looks = np.stack([0.08 * np.array([[1.0], [-1.0]]) * ones, 0.15 * np.array([-1.0, 0.0, 1.0]) * ones])
    assert follows(looks, ones) is False
    assert follows(looks, ones, CLEAR) is None
    assert follows(3 * looks, ones, CLEAR) is False


class Mirrored(nn.Module):
    """Averages what a backbone says of the picture and of its mirror image."""

    def __init__(self) -> None:
        super().__init__()
        self.b, self.fc = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return sum(self.fc(self.b(one).mean((2, 3))) for one in (x, x.flip(3))) / 2


def test_of_two_calls_the_one_that_sees_the_picture_as_it_is_is_explained() -> None:
    net = seeded(Mirrored)
    found = cc.GradCAM(net).explain(X, 1)
    assert found.layer == "b#0"
    with torch.no_grad():
        a = net.b(X)
    weights = net.fc.weight[1] / 2 / a[0, 0].numel()
    right = torch.einsum("c,bchw->bhw", weights.detach(), a).relu()
    np.testing.assert_allclose(found.maps[:, 0], right, rtol=1e-4, atol=1e-7)
    assert "layer `b` is called 2 times, and call 0 is explained" in found.diagnostics[0]


class FrameWise(nn.Module):
    """Frames one by one, then an RNN over their features."""

    def __init__(self, turn: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.c, self.turn = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()), turn
        self.rnn, self.fc = nn.GRU(8, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        f = self.c(self.turn(x).flatten(0, 1)).mean((2, 3)).view(*x.shape[:2], -1)
        return self.fc(self.rnn(f)[0][:, -1])


@pytest.mark.parametrize("layer", [None, "c"])
@pytest.mark.parametrize("turn", [lambda x: x.flip(4), lambda x: x.transpose(3, 4), lambda x: x.flip(1)])
def test_frames_that_are_turned_before_a_frame_wise_layer_are_refused(
    turn: Callable[[Tensor], Tensor], layer: str | None
) -> None:
    clips = torch.rand(1, 6, 3, 16, 16)
    with pytest.raises((LayerError, LayoutError), match=r"the places of the input|follows the input"):
        cc.GradCAM(seeded(lambda: FrameWise(turn)), layer).explain(clips, 1)
    channels = cc.GradCAM(seeded(lambda: FrameWise(lambda x: x.flip(2))), layer).explain(clips, 1)
    assert (channels.layer, channels.maps.shape) == ("c", (1, 1, 6, 8, 8))


class TubesFirst(nn.Module):
    """Tubes before the batch, as PyTorch's transformer layers take them by default."""

    def __init__(self) -> None:
        super().__init__()
        self.cut, self.fc = nn.Conv3d(3, 16, (2, 8, 8), (2, 8, 8)), nn.Linear(16, 3)
        self.block = nn.TransformerEncoderLayer(16, 2, 32)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.block(self.cut(x).flatten(2).permute(2, 0, 1)).mean(0))


@pytest.mark.parametrize("clips", [1, 2])
def test_tubes_before_the_batch_are_laid_out_by_clip(clips: int) -> None:
    net, x = seeded(TubesFirst), torch.rand(clips, 3, 8, 32, 24)
    found = cc.GradCAM(net, signed=True).explain(x, 1)
    assert (found.layer, found.maps.shape) == ("block", (clips, 1, 4, 4, 3))
    kept: list[Tensor] = []
    net.block.register_forward_hook(lambda module, args, out: kept.append(out))
    (g,) = torch.autograd.grad(net(x)[:, 1].sum(), kept[0])
    right = (g.mean(0) * kept[0]).sum(2).T.reshape(clips, 4, 4, 3)
    np.testing.assert_allclose(found.maps[:, 0], right.detach(), rtol=1e-3, atol=1e-6)


class Bag(nn.Module):
    """Patches of a picture as rows, weighed by attention."""

    def __init__(self, cut: Callable[[Tensor], Tensor], by_patch: bool) -> None:
        super().__init__()
        self.cut, self.by_patch = cut, by_patch
        self.each = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.attend, self.fc = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 1)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        f = self.each(self.cut(x)).mean((2, 3))
        f = f.view(-1, len(x), 8).transpose(0, 1) if self.by_patch else f.view(len(x), -1, 8)
        return self.fc((self.attend(f).softmax(1) * f).sum(1))


CUTS: list[tuple[Callable[[Tensor], Tensor], bool]] = [
    (lambda x: F.unfold(x, 16, stride=16).transpose(1, 2).reshape(-1, 3, 16, 16), False),
    (lambda x: torch.cat([p for rows in x.split(16, 2) for p in rows.split(16, 3)]), True),
]


@pytest.mark.parametrize(("cut", "by_patch"), CUTS)
@pytest.mark.parametrize("pictures", [1, 3])
def test_patches_as_rows_lie_where_they_were_cut(
    cut: Callable[[Tensor], Tensor], by_patch: bool, pictures: int
) -> None:
    net, x = seeded(lambda: Bag(cut, by_patch)), torch.rand(pictures, 3, 32, 48)
    found = cc.HiResCAM(net, signed=True).explain(x, 1)
    assert (found.layer, found.maps.shape) == ("each", (pictures, 1, 16, 24))
    kept: list[Tensor] = []
    net.each.register_forward_hook(lambda module, args, out: kept.append(out))
    (g,) = torch.autograd.grad(net(x)[:, 1].sum(), kept[0])
    cells = (g * kept[0]).sum(1).detach()
    cells = cells.view(6, pictures, 8, 8).transpose(0, 1) if by_patch else cells.view(pictures, 6, 8, 8)
    for i, patch in enumerate(cells.unbind(1)):
        row, column = divmod(i, 3)
        shown = found.maps[:, 0, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        np.testing.assert_allclose(shown, patch, rtol=1e-3, atol=1e-7)


class Loose(nn.Module):
    """Keeps its layers in a plain list, where PyTorch does not find them."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = [nn.Conv2d(3, 8, 3, 2, 1), [nn.Conv2d(8, 8, 3, 2, 1)]]
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.convs[1][0](self.convs[0](x).relu()).relu().mean((2, 3)))


def test_layers_in_a_plain_list_are_explained() -> None:
    net = seeded(Loose)
    found = cc.GradCAM(net, signed=True).explain(X, 1)
    assert found.layer == "convs.1.0"
    kept: list[Tensor] = []
    handle = net.convs[1][0].register_forward_hook(lambda module, args, out: kept.append(out))
    (g,) = torch.autograd.grad(net(X)[:, 1].sum(), kept[0])
    handle.remove()
    right = (g.mean((2, 3), keepdim=True) * kept[0]).sum(1).detach()
    np.testing.assert_allclose(found.maps[:, 0], right, rtol=1e-4, atol=1e-7)
    assert not net.convs[1][0]._forward_hooks
    assert cc.GradCAM(net, net.convs[0]).explain(X, 1).layer == "convs.0"


class Summed(nn.Module):
    """A clip whose time is summed up before the last convolution, or before all of them."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.time = nn.Conv3d(3, 3, 1) if first else None
        self.flat, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.time is None else self.time(x).tanh()
        return self.fc(self.flat(x.mean(2)).tanh().mean((2, 3)))


def test_a_layer_without_time_is_one_slice_and_gives_way_to_one_with_time() -> None:
    clips = torch.rand(2, 3, 6, 32, 24, generator=torch.Generator().manual_seed(0))
    assert cc.GradCAM(seeded(lambda: Summed(True))).explain(clips, 1).maps.shape == (2, 1, 6, 32, 24)
    net = seeded(lambda: Summed(False))
    found = cc.GradCAM(net).explain(clips, 1)
    assert (found.layer, found.maps.shape) == ("flat", (2, 1, 1, 16, 12))
    np.testing.assert_allclose(
        found.maps[:, 0, 0], cam_of_score(net, "flat", clips, lambda y: y[:, 1]), rtol=1e-4, atol=1e-7
    )
    assert "1 slice for 6 frames" in found.diagnostics[0]
    assert np.ptp(np.asarray(found), axis=1).max() < 1e-6  # the same for every frame


class Divided(nn.Module):
    """Attention in time and in space by turns, on tokens `(batch, time, tokens, channel)`."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.first = nn.Conv2d(3, 16, 8, 8), nn.Parameter(torch.randn(1, 1, 1, 16))
        self.mix, self.fc = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16), nn.Tanh()), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x.transpose(1, 2).flatten(0, 1)).flatten(2).mT
        tokens = tokens.view(len(x), -1, *tokens.shape[1:])
        tokens = torch.cat([self.first.expand(*tokens.shape[:2], -1, -1), tokens], 2)
        return self.fc(self.mix(tokens + 0.1 * tokens.mean(1, keepdim=True)).mean((1, 2)))


def test_tokens_of_each_frame_lie_on_its_grid() -> None:
    net, clips = seeded(Divided), torch.rand(2, 3, 6, 32, 24, generator=torch.Generator().manual_seed(0))
    found = cc.GradCAM(net, signed=True).explain(clips, 1)
    assert (found.layer, found.maps.shape) == ("mix", (2, 1, 6, 4, 3))
    kept: list[Tensor] = []
    net.mix.register_forward_hook(lambda module, args, out: kept.append(out))
    weights = torch.autograd.grad(net(clips)[:, 1].sum(), kept[0])[0][:, :, 1:].mean((1, 2))
    right = (kept[0][:, :, 1:] * weights[:, None, None]).sum(3).reshape(2, 6, 4, 3).detach()
    np.testing.assert_allclose(found.maps[:, 0], right, rtol=1e-4, atol=1e-7)


class Columns(nn.Module):
    """Patches column by column, which no layout lays out."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.mix, self.fc = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.mix(self.patch(x).mT.flatten(2).mT).tanh().mean(1))


def test_layers_that_are_passed_over_on_the_same_grid_are_told() -> None:
    found = agrees(seeded(Columns), "patch", X, 1, lambda y: y[:, 1])
    (why,) = [one.text for one in found.findings if one.kind == "default layer"]
    assert "those of `mix` (8 × 8) do not" in why


@pytest.mark.parametrize("rank", [1, 2])
def test_one_sample_to_which_the_model_adds_the_channel_is_no_picture_without_batch(rank: int) -> None:
    conv = nn.Conv1d if rank == 1 else nn.Conv2d

    class Adds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = conv(1, 8, 5, 2), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x[:, None]).relu().flatten(2).mean(2))

    net, x = seeded(Adds), torch.rand(2, *(400, 20, 20)[rank - 1 : 2 * rank - 1])
    both = cc.GradCAM(net).explain(x, 1)
    assert both.layer == "conv"
    np.testing.assert_allclose(cc.GradCAM(net).explain(x[:1], 1).maps, both.maps[:1], rtol=1e-5)


class Padded(nn.Module):
    """Puts the picture on a larger canvas."""

    def __init__(self, pad: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pad, self.conv, self.fc = pad, nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(self.pad(x)).relu().mean((2, 3)))


def beside(x: Tensor) -> Tensor:
    wide = torch.cat([x.new_zeros(len(x), 3, 64, 16), x, x.new_ones(len(x), 3, 64, 24)], -1)
    return torch.cat([wide, wide.new_zeros(len(x), 3, 8, 104)], 2)


def pasted(x: Tensor) -> Tensor:
    canvas = x.new_full((len(x), 3, 72, 104), 0.5)
    canvas[:, :, :64, 16:80] = x
    return canvas


def mirrored(x: Tensor) -> Tensor:
    wide = torch.cat([x[..., :16].flip(-1), x, x[..., -24:].flip(-1)], -1)
    return torch.cat([wide, wide[:, :, -1:].expand(-1, -1, 8, -1)], 2)


@pytest.mark.parametrize("layer", [None, "conv"])
@pytest.mark.parametrize(
    "pad",
    [
        lambda x: F.pad(x, (16, 24, 0, 8)),
        mirrored,
        nn.ZeroPad2d((16, 24, 0, 8)),
        nn.ReflectionPad2d((16, 24, 0, 8)),
        beside,
        pasted,
    ],
)
def test_a_map_is_not_stretched_over_what_the_model_puts_around_the_picture(
    pad: Callable[[Tensor], Tensor], layer: str | None
) -> None:
    net = seeded(lambda: Padded(pad))
    method = cc.HiResCAM(net, layer, signed=True)
    found = method.explain(X, 1)
    assert found.maps.shape == (1, 1, 18, 26)
    inside = found.maps[0, 0, :16, 4:20]
    np.testing.assert_allclose(found.upsample(mode="nearest")[0, 0], inside.repeat(4, 0).repeat(4, 1))
    assert any("2 of 18 rows and 10 of 26 columns of layer `conv`" in text for text in found.diagnostics)
    seen = batches_seen(net)
    method.explain(X, 2)
    assert seen == [1]


def test_the_padding_of_convolutions_moves_no_cell() -> None:
    net = seeded(lambda: nn.Sequential(Padded(lambda x: F.pad(x, (3, 3, 3, 3)))))
    net[0].conv = nn.Conv2d(3, 8, 7, 2)
    found = cc.GradCAM(net, "0.conv").explain(X, 1)
    assert (found.centers, found.findings) == (None, ())


def test_few_cells_lean_their_own_way_or_not() -> None:
    squares = np.ones((2, 3))
    own = np.stack(np.meshgrid([-0.3, 0.3], [-0.4, 0.0, 0.4], indexing="ij"))
    assert leans(own, squares)
    assert not leans(-own, squares)  # turned
    assert not leans(own[::-1], squares)  # along the other axis alone
    many = np.stack(np.meshgrid(np.linspace(-1, 1, 8), np.linspace(-1, 1, 8), indexing="ij"))
    assert not leans(many, np.ones((8, 8)))


class Inner(nn.Module):
    """Convolutions that pad nothing, so that its cells look at the middle of the picture alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.index_select(3, torch.arange(x.shape[3]))  # which may move places, for all that is known
        return self.fc(self.second(self.first(x).relu()).relu().mean((2, 3)))


@pytest.mark.parametrize("seed", range(8))
def test_cells_that_look_on_slowly_from_further_in_see_one_place_each(seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.rand(1, 3, 10, 10, generator=torch.Generator().manual_seed(seed))
    assert cc.HiResCAM(Inner().eval(), "second").explain(x, 1).maps.shape == (1, 1, 6, 6)
