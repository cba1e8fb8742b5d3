"""The temporal mask: its chain rule against finite differences, and models whose frames are known."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import InputError, LayerError
from chronocam.methods.temporalmask import PERTURBATIONS, TemporalMask, time_axis
from chronocam.types import Capture

FRAMES = 9
Score = Callable[[Tensor], Tensor]


def loop(x: Tensor, m: Tensor, perturbation: str) -> Tensor:
    """x̃(m) of one clip `(channel, time, height, width)`, frame by frame as printed."""
    frames = list(x.unbind(1))
    if perturbation == "freeze":
        for u in range(1, len(frames)):
            frames[u] = (1 - m[u]) * x[:, u] + m[u] * frames[u - 1]
        return torch.stack(frames, 1)
    inside = [bool(v > 0.1) for v in m]
    for u in range(len(frames)):
        if inside[u]:
            a, b = u, u
            while a > 0 and inside[a - 1]:
                a -= 1
            while b < len(frames) - 1 and inside[b + 1]:
                b += 1
            frames[u] = (1 - m[u]) * x[:, u] + m[u] * x[:, a + b - u]
    return torch.stack(frames, 1)


ORDERS = {"BCTHW": (0, 1, 2, 3, 4), "BTCHW": (0, 2, 1, 3, 4), "BTHWC": (0, 2, 3, 4, 1)}


@dataclass
class Looking:
    """A View of clips in any order of axes: captures are laid out, `again` changes the raw inputs."""

    clips: Tensor  # (batch, channel, time, height, width)
    score: Score  # (batch, channel, time, height, width) -> (batch, target)
    order: str = "BCTHW"
    extra: Tensor | None = None
    passes: int = 0

    @property
    def targets(self) -> int:
        return self.score(self.clips).shape[1]

    @property
    def captures(self) -> tuple[Capture, ...]:
        return (Capture(self.clips, self.slopes(self.clips)),)

    def slopes(self, clips: Tensor) -> Tensor:
        x = clips.detach().clone().requires_grad_()
        scores = self.score(x)
        columns = [
            torch.autograd.grad(scores[:, k].sum(), x, retain_graph=True)[0] for k in range(scores.shape[1])
        ]
        return torch.stack(columns, 1)

    def again(self, change: Callable[[Any], Any]) -> tuple[Capture, ...]:
        self.passes += 1
        if self.extra is not None:
            assert torch.equal(change(self.extra), self.extra), "other inputs stay as they are"
        order = ORDERS[self.order]
        changed = change(self.clips.permute(order)).permute(tuple(np.argsort(order)))
        return (Capture(changed, self.slopes(changed)),)

    def upsample(self, maps: Any) -> Any:
        return maps


def bent(seed: int = 0, channels: int = 2) -> Score:
    weights = torch.randn(
        3, channels * FRAMES * 2 * 2, generator=torch.Generator().manual_seed(seed)
    ).double()
    return lambda x: torch.tanh(x.flatten(1) @ weights[:2].T / 4) + (x.flatten(1) @ weights[2:].T / 9) ** 2


def clips(seed: int = 1, channels: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, channels, FRAMES, 2, 2, generator=generator, dtype=torch.float64)


def method(**options: Any) -> TemporalMask:
    return TemporalMask(nn.Identity(), **options)


# One frame on either side of the threshold, runs of odd and even length, at the edges and within.
MASKS = np.array(
    [
        [0.5, 0.3, 0.9, 0.05, 0.02, 0.7, 0.2, 0.6, 0.4],
        [0.01, 0.2, 0.05, 0.4, 0.45, 0.8, 0.06, 0.03, 0.3],
        [0.9, 0.8, 0.7, 0.6, 0.55, 0.5, 0.4, 0.3, 0.2],
    ]
)


@pytest.mark.parametrize("perturbation", PERTURBATIONS)
def test_mixing_is_the_perturbation_as_printed(perturbation: str) -> None:
    x, m = clips(), torch.from_numpy(MASKS)
    weights = torch.from_numpy(PERTURBATIONS[perturbation][0](MASKS))
    mixed = torch.einsum("buv,bcvhw->bcuhw", weights, x)
    expected = torch.stack([loop(one, mask, perturbation) for one, mask in zip(x, m, strict=True)])
    torch.testing.assert_close(mixed, expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(mixed, x)


def test_whole_masks_by_hand() -> None:
    freeze, reverse = (PERTURBATIONS[name][0] for name in ("freeze", "reverse"))
    eye = np.eye(3)
    assert np.array_equal(freeze(np.array([[0.0, 0, 1], [1, 1, 1]])), [eye[[0, 1, 1]], eye[[0, 0, 0]]])
    assert np.array_equal(reverse(np.array([[0.0, 1, 1], [1, 1, 1]])), [eye[[0, 2, 1]], eye[[2, 1, 0]]])
    assert np.array_equal(reverse(np.array([[0.1, 0.1, 0.1]])), [eye])  # at the threshold is not above it


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("perturbation", PERTURBATIONS)
def test_chain_rule_equals_finite_differences(perturbation: str, order: str) -> None:
    from chronocam.methods.temporalmask import _Mixer

    x, score, step = clips(), bent(), 1e-5
    view = Looking(x, score, order)
    mixing, pull = PERTURBATIONS[perturbation]
    for k in range(2):
        found = pull(_Mixer(view, k).products(mixing(MASKS)), MASKS)
        expected = np.zeros_like(MASKS)
        for b, u in np.ndindex(*MASKS.shape):
            values = []
            for sign in (1, -1):
                m = torch.from_numpy(MASKS[b]).clone()
                m[u] += sign * step
                values.append(score(loop(x[b], m, perturbation)[None])[0, k].item())
            expected[b, u] = (values[0] - values[1]) / (2 * step)
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def by_autograd(x: Tensor, score: Score, k: int, option: TemporalMask) -> np.ndarray:
    """The mask of one clip, by PyTorch's own Adam and autograd through the loop."""
    theta = torch.zeros(FRAMES, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([theta], lr=option.lr)
    scale = torch.tensor(1.0)
    if option.relative:
        away = loop(x, torch.ones(FRAMES), option.perturbation) - x
        falls = []
        for s in (np.arange(8) + 0.5) / 8:
            at = (x + s * away).requires_grad_()
            falls.append(-(torch.autograd.grad(score(at[None])[0, k], at)[0] * away).sum())
        scale = 1 / torch.stack(falls).mean().abs()
    for _ in range(option.steps):
        adam.zero_grad()
        m = torch.sigmoid(theta)
        penalty = option.lambda1 * m.sum() + option.lambda2 * m.diff().abs().sum()
        (penalty + scale * score(loop(x, m, option.perturbation)[None])[0, k]).backward()
        adam.step()
    return torch.sigmoid(theta).detach().numpy()


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("perturbation", PERTURBATIONS)
def test_masks_equal_those_of_autograd(perturbation: str, relative: bool) -> None:
    x, score = clips(), bent()
    option = method(
        perturbation=perturbation, relative=relative, steps=25, lr=0.1, lambda1=0.05, lambda2=0.03
    )
    maps = option.maps(Looking(x, score))
    assert maps.shape == (3, 2, FRAMES, 1, 1)
    for b, k in np.ndindex(3, 2):
        np.testing.assert_allclose(
            maps[b, k, :, 0, 0], by_autograd(x[b], score, k, option), rtol=0, atol=1e-6
        )


def test_a_batch_equals_one_by_one_and_passes_are_counted() -> None:
    x, score, option = clips(), bent(), method(steps=10)
    view = Looking(x, score)
    together = option.maps(view)
    assert view.passes == 2 * (10 + 8)
    for b in range(3):
        alone = option.maps(Looking(x[b : b + 1], score))
        torch.testing.assert_close(alone[0], together[b], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("channels", [2, FRAMES])
def test_the_time_axis_is_found_by_shape_and_by_value(order: str, channels: int) -> None:
    x = clips(channels=channels)
    raw = x.permute(ORDERS[order])
    assert time_axis(raw, x) == {"BCTHW": 2, "BTCHW": 1, "BTHWC": 1}[order]
    assert time_axis(raw.numpy(), x.numpy()) == time_axis(raw, x)
    assert time_axis(torch.zeros(3, 5), x) is None
    score, option = bent(channels=channels), method(steps=3)
    expected = option.maps(Looking(x, score))
    found = option.maps(Looking(x, score, order, extra=torch.ones(3, 5)))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


# Models whose frames are known.


class Changes(nn.Module):
    """Scores how much changes on the way into the frames first…last: nothing else moves them."""

    def __init__(self, segments: list[tuple[int, int]], scale: float = 1.0, order: str = "BCTHW") -> None:
        super().__init__()
        self.segments, self.scale, self.order = segments, nn.Parameter(torch.tensor(scale)), order

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(tuple(np.argsort(ORDERS[self.order])))
        into = ((x[:, :, 1:] - x[:, :, :-1]) ** 2).mean((1, 3, 4))
        return self.scale * torch.stack([into[:, a - 1 : b].mean(1) for a, b in self.segments], 1)


class Rises(nn.Module):
    """Scores how much brighter the clip gets from frame 5 to frame 9, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        steps = x.mean((1, 3, 4)).diff(dim=1)[:, 5:9]
        return self.scale * torch.relu(steps).mean(1, keepdim=True)


def moving(batch: int = 2, time: int = 16) -> Tensor:
    return torch.randn(batch, 3, time, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("scale", "order"), [(0.01, "BCTHW"), (30.0, "BTCHW")])
def test_freeze_finds_the_segment_of_each_target(scale: float, order: str) -> None:
    """Whatever the scale of the logits; every target gets a mask of its own."""
    net, x = Changes([(5, 9), (12, 13)], scale, order), moving().permute(ORDERS[order])
    explanation = cc.TemporalMask(net).explain(x, [cc.targets.Regression(0), cc.targets.Regression(1)])
    assert explanation.maps.shape == (2, 2, 16, 1, 1)
    assert explanation.dims[2:] == ("time", "height", "width")
    assert explanation.upsample().shape == (2, 2, 16, 6, 6)
    for mask in explanation.maps[..., 0, 0]:
        assert np.flatnonzero(mask[0] > 0.5).tolist() == [5, 6, 7, 8, 9]
        assert np.flatnonzero(mask[1] > 0.5).tolist() == [12, 13]
        assert mask[:, :5].max() < 0.1


def test_the_score_as_it_is_must_outweigh_the_mask() -> None:
    """Not relative, a score of a hundredth is not worth a frame, which costs λ1."""
    small = cc.TemporalMask(Changes([(5, 9)], 0.001), relative=False).explain(
        moving(), cc.targets.Regression(0)
    )
    assert small.maps.max() < 0.1
    whole = cc.TemporalMask(Changes([(5, 9)], 1.0), relative=False).explain(
        moving(), cc.targets.Regression(0)
    )
    assert np.flatnonzero(whole.maps[0, 0, :, 0, 0] > 0.5).tolist() == [5, 6, 7, 8, 9]


def test_reverse_finds_the_segment_whose_order_counts() -> None:
    brightness = torch.zeros(16)
    brightness[5:10], brightness[10:] = torch.arange(5.0), 4.0
    x = 0.05 * moving() + brightness[None, None, :, None, None]
    for mask in (
        cc.TemporalMask(Rises(), perturbation="reverse").explain(x, cc.targets.Regression(0)).maps[:, 0]
    ):
        assert np.flatnonzero(mask[:, 0, 0] > 0.1).tolist() == [5, 6, 7, 8, 9]
        assert mask[5:10].min() > 0.4


def test_a_still_clip_needs_no_frame() -> None:
    still = moving()[:, :, :1].repeat(1, 1, 16, 1, 1)
    maps = cc.TemporalMask(Changes([(5, 9)])).explain(still, cc.targets.Regression(0)).maps
    assert np.isfinite(maps).all()
    assert maps.max() < 0.01


OTHERS = {
    "perturbation": "reverse",
    "relative": False,
    "steps": 7,
    "lr": 0.05,
    "lambda1": 0.3,
    "lambda2": 0.3,
}


@pytest.mark.parametrize("option", OTHERS)
def test_every_argument_changes_the_mask(option: str) -> None:
    own = set(TemporalMask.__dataclass_fields__) - set(cc.methods.Method.__dataclass_fields__)
    assert own == set(OTHERS)
    view = Looking(clips(), bent())
    default, other = method(steps=12).maps(view), method(**{"steps": 12, option: OTHERS[option]}).maps(view)
    assert (default - other).abs().max() > 1e-3


def test_what_is_no_clip_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(32, 2))
    with pytest.raises(InputError, match=r"grid of \(6, 6\); temporalmask needs clips"):
        cc.TemporalMask(net).explain(torch.ones(1, 3, 6, 6), 0)
    with pytest.raises(InputError, match=r"grid of \(1, 6, 6\); .* at least 2 frames"):
        method().maps(Looking(torch.ones(1, 3, 1, 6, 6), lambda x: x.flatten(1)[:, :1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"perturbation": "frezze"}, "no perturbation `frezze`; did you mean `freeze`"),
        ({"perturbation": "blur"}, "no perturbation `blur`; choose freeze or reverse"),
        ({"steps": 0}, "steps is 0; expected at least one"),
        ({"lr": 0.0}, "lr is 0.0; expected a positive step"),
        ({"lambda1": -1.0}, "lambda1 is -1.0; expected a weight"),
        ({"lambda2": float("nan")}, "lambda2 is nan; expected a weight"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        method(**options)


def test_a_layer_is_refused() -> None:
    with pytest.raises(LayerError, match="leave conv_layer out"):
        TemporalMask(nn.Sequential(nn.Conv3d(1, 1, 1)), "0")
    assert TemporalMask(nn.Sequential(nn.Conv3d(1, 1, 1)), "input").conv_layer == "input"
