"""From features to pixels: maps that sum to the relevance, and slow replicas by autograd, frame by frame."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from chronocam.errors import ChronocamError, InputError, LayerError, ModelError
from chronocam.explanation import load
from chronocam.models.cnn_lstm import CNNLSTM
from chronocam.sequence import LRP, SequenceExplanation
from chronocam.sequence import frames as module
from chronocam.sequence.torch.frames import clip_features
from chronocam.targets import EveryStep
from chronocam.types import TargetInfo

B, T, K, SIDE = 2, 3, 6, 12


class Eye(nn.Module):
    """Two convolutions, then the average over the grid; `squared` bends the averages."""

    def __init__(self, squared: bool = False, pool: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 5, 3, 2, 1), nn.Conv2d(5, K, 3, 2, 1)
        self.relu, self.last = nn.ReLU(), nn.ReLU()
        self.squared, self.pool, self.seen = squared, pool, 0
        self.double().eval()

    def grid(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.relu(self.first(x))))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        found = self.grid(x)
        found = found.mean(dim=(2, 3)) if self.pool else found
        return found**2 if self.squared else found


def clips(seed: int = 1, time: int = T) -> Tensor:
    return torch.randn(
        B, time, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def sequence(targets: int = 2, seed: int = 2, time: int = T) -> SequenceExplanation:
    relevance = np.random.default_rng(seed).normal(size=(B, targets, time, K))
    infos = tuple(tuple(TargetInfo(f"class {k}", k) for k in range(targets)) for _ in range(B))
    return SequenceExplanation(relevance, relevance.sum(axis=(2, 3)), infos, "lrp", diagnostics=("a remark",))


def test_conserving_maps_sum_to_the_relevance_of_their_step() -> None:
    one, eye, x = sequence(), Eye(), clips()
    found = one.to_frames(eye, x)
    assert found.maps.shape == (B, 2, T, 3, 3)
    np.testing.assert_allclose(found.maps.sum(axis=(3, 4)), one.relevance.sum(axis=3), rtol=0, atol=1e-10)
    with torch.no_grad():
        a = eye.grid(x[1, 2][None])[0].numpy()
    assert (a.sum(axis=(1, 2)) > 0).any()
    expected = sum(
        one.relevance[1, 0, 2, k] * (a[k] / a[k].sum() if a[k].sum() > 0 else 1 / 9) for k in range(K)
    )
    np.testing.assert_allclose(found.maps[1, 0, 2], expected, rtol=1e-12)


def test_a_silent_channel_spreads_its_relevance_evenly() -> None:
    one, eye = sequence(targets=1), Eye()
    with torch.no_grad():
        eye.second.bias.fill_(-100)
    found = one.to_frames(eye, clips())
    expected = np.broadcast_to(one.relevance.sum(axis=3)[..., None, None] / 9, found.maps.shape)
    np.testing.assert_allclose(found.maps, expected, rtol=1e-12)


def test_activations_that_cancel_conserve_as_well() -> None:
    """Before the ReLU, one channel is −1, 0, …, 0, +1: its average is zero but it is not silent."""

    class Signed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pass_on = nn.Conv2d(3, 3, 1, bias=False)
            self.pass_on.weight.data = torch.eye(3)[..., None, None]
            self.double().eval()

        def forward(self, x: Tensor) -> Tensor:
            return self.pass_on(x)

    x = torch.zeros(1, 1, 3, 2, 2, dtype=torch.float64)
    x[0, 0, 0] = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
    x[0, 0, 1] = torch.tensor([[3.0, 0.0], [0.0, -1.0]])
    x[0, 0, 2] = torch.tensor(
        [[-1.0, 0.0], [0.0, 1.00001]]
    )  # as good as cancelling: its shares would be ∓100000
    relevance = np.array([2.0, 1.0, 2.0]).reshape(1, 1, 1, 3)
    one = SequenceExplanation(relevance, np.ones((1, 1)), ((TargetInfo("a", 0),),), "lrp")
    found = one.to_frames(Signed(), x, layer="pass_on")
    # Relevance 2 and 2 is spread evenly; 1 is shared as 1.5 and −0.5, so that 6 is spent of 5.
    assert len(found.diagnostics) == 1
    np.testing.assert_allclose(found.maps[0, 0, 0], [[1 + 1.5, 1], [1, 1 - 0.5]], rtol=1e-12)
    second = SequenceExplanation(relevance * [0, 1, 0], one.scores, one.targets, "lrp")
    assert "are 2 times the relevance" in second.to_frames(Signed(), x, layer="pass_on").diagnostics[1]


@pytest.mark.parametrize("layer", ["last", "first"])
@pytest.mark.parametrize("squared", [False, True])
def test_gradcam_is_that_of_the_weighted_features(layer: str, squared: bool) -> None:
    one, eye, x = sequence(), Eye(squared), clips()
    found = one.to_frames(eye, x, how="gradcam", layer=layer)
    for b in range(B):
        for t in range(T):
            kept: list[Tensor] = []
            handle = getattr(eye, layer).register_forward_hook(
                lambda m, args, out, kept=kept: kept.append(out)
            )
            features = eye(x[b, t][None])[0]
            handle.remove()
            for k in range(2):
                score = (torch.from_numpy(one.relevance[b, k, t]) * features).sum()
                (grad,) = torch.autograd.grad(score, kept[0], retain_graph=True)
                expected = (grad.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1)[0].detach().numpy()
                np.testing.assert_allclose(found.maps[b, k, t], expected, rtol=1e-10, atol=1e-14)
    assert (found.maps < 0).any()
    assert (found.maps > 0).any()


class _Guided(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].clamp(min=0) * (ctx.saved_tensors[0] > 0)


def test_guided_backpropagation_of_the_masked_features() -> None:
    one, eye, x = sequence(), Eye(), clips()
    found = one.to_frames(eye, x, how="guided", share=0.5, by="count")
    assert found.maps.shape == (B, 2, T, SIDE, SIDE)
    for b in range(B):
        for t in range(T):
            for k in range(2):
                leaf = x[b, t][None].clone().requires_grad_()
                hidden = _Guided.apply(eye.first(leaf))
                features = _Guided.apply(eye.second(hidden)).mean(dim=(2, 3))[0]
                r = one.relevance[b, k, t]
                top = sorted(range(K), key=lambda i, r=r: -r[i])[:3]
                score = sum(float(r[i]) * features[i] for i in top if r[i] > 0)
                (grad,) = torch.autograd.grad(score, leaf)
                np.testing.assert_allclose(
                    found.maps[b, k, t], grad[0].sum(dim=0).numpy(), rtol=1e-10, atol=1e-14
                )
    assert np.abs(found.maps).max() > 0


@pytest.mark.parametrize(
    ("share", "by", "kept"),
    [
        (0.5, "mass", [5.0, 0, 0, 0, 0, 0]),  # of 10: the first alone holds half
        (0.6, "mass", [5.0, 3.0, 0, 0, 0, 0]),
        (1, "mass", [5.0, 3.0, 2.0, 0, 0, 0]),  # negative relevance never counts
        (0.5, "count", [5.0, 3.0, 2.0, 0, 0, 0]),
        (0.3, "count", [5.0, 3.0, 0, 0, 0, 0]),  # 1.8 features, rounded up
        (None, "mass", [5.0, 3.0, 2.0, 0, -7.0, -1.0]),
    ],
)
def test_only_the_most_relevant_features_count(
    share: float | int | None, by: str, kept: list[float | int]
) -> None:
    order = np.random.default_rng(0).permutation(K)
    relevance = np.array([5.0, 3.0, 2.0, 0, -7.0, -1.0])[order].reshape(1, 1, 1, K)
    masked = np.array(kept)[order].reshape(1, 1, 1, K)
    infos, x = ((TargetInfo("a", 0),),), clips()[:1, :1]
    given = SequenceExplanation(relevance, np.ones((1, 1)), infos, "lrp").to_frames(
        Eye(), x, share=share, by=by
    )
    alone = SequenceExplanation(masked, np.ones((1, 1)), infos, "lrp").to_frames(Eye(), x)
    np.testing.assert_allclose(given.maps, alone.maps, rtol=1e-12)
    assert given.maps.sum() == pytest.approx(sum(kept), abs=1e-10)


def test_what_comes_out_says_what_it_is(tmp_path: Any) -> None:
    one = sequence()
    found = one.to_frames(Eye(), clips(), how="gradcam", share=0.2)
    assert (found.method, found.layer, found.input_size) == ("lrp+gradcam", "last", (T, SIDE, SIDE))
    assert found.frame_spans == ((0, 0), (1, 1), (2, 2))
    assert found.targets == one.targets
    np.testing.assert_array_equal(found.scores, one.scores)
    assert found.diagnostics[0] == "a remark"
    assert found.diagnostics[1].startswith("gradcam: Grad-CAM")
    assert found.diagnostics[1].endswith("of the most relevant features of each step (0.2 by mass)")
    assert found.centers is not None
    assert found.centers[0] == (0.0, 1.0, 2.0)
    np.testing.assert_allclose(found.centers[1], [0.0, 4.0, 8.0])  # two convolutions of stride 2, padded by 1
    np.testing.assert_array_equal(load(found.save(tmp_path / "a.npz")).maps, found.maps)


def test_the_cnn_runs_once_for_all_targets_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    time = 11
    for how in ("conserve", "gradcam", "guided"):
        counts = []
        for targets in (1, 20):
            eye = Eye()
            sequence(targets, time=time).to_frames(eye, clips(time=time), how=how)
            counts.append(eye.seen)
        assert counts[0] == counts[1] < 2 * B * time
    one, x = sequence(time=time), clips(time=time)
    whole = [one.to_frames(Eye(), x, how=how).maps for how in ("conserve", "gradcam", "guided")]
    monkeypatch.setattr(module, "FRAMES_PER_PASS", 3)
    for how, expected in zip(("conserve", "gradcam", "guided"), whole, strict=True):
        np.testing.assert_allclose(one.to_frames(Eye(), x, how=how).maps, expected, rtol=1e-10, atol=1e-14)


def test_the_model_is_left_as_found() -> None:
    eye = Eye()
    eye.last.train()
    for how in ("conserve", "gradcam", "guided"):
        sequence().to_frames(eye, clips(), how=how)
    assert [m.training for m in eye.modules()] == [False, False, False, False, True]
    assert all(p.grad is None and p.requires_grad for p in eye.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in eye.modules())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("pool", [True, False])
def test_a_cnn_lstm_from_relevance_to_pixels(pool: bool) -> None:
    """The backbone's features are relevance's own, also where the model averages the grid itself."""
    torch.manual_seed(3)
    model = CNNLSTM(Eye(pool=pool).float(), hidden=4, classes=2, per_step=True).double().eval()
    x = clips()
    with torch.no_grad():
        features = model.features(x)
    one = LRP(model, epsilon=0.0).explain(features, EveryStep(1))
    found = one.to_frames(model, x)
    assert found.layer == ("backbone.last" if pool else "backbone")
    np.testing.assert_allclose(found.maps.sum(axis=(3, 4)), one.relevance.sum(axis=3), rtol=0, atol=1e-10)
    np.testing.assert_allclose(one.to_frames(model.backbone, x, layer="last").maps, found.maps, rtol=1e-12)
    np.testing.assert_array_equal(found.maps[:, 0, 1:], 0)  # the first output knows nothing of later frames


def test_features_that_are_no_average_are_refused() -> None:
    for eye, layer in ((Eye(squared=True), None), (Eye(), "first"), (Eye(), "second")):
        with pytest.raises(LayerError, match=r"not the average of layer `\w+`.*gradcam.*guided") as caught:
            sequence().to_frames(eye, clips(), layer=layer)
        assert "\n" not in str(caught.value)


def test_half_precision_conserves_and_a_grid_is_averaged() -> None:
    """The features are the average to bfloat16's rounding; the maps are shares of it all the same."""
    one, eye = sequence(), Eye().to(torch.bfloat16)
    found = one.to_frames(eye, clips())
    np.testing.assert_allclose(found.maps.sum(axis=(3, 4)), one.relevance.sum(axis=3), rtol=0, atol=1e-10)
    bare = one.to_frames(Eye(pool=False), clips(), how="gradcam")
    pooled = one.to_frames(Eye(), clips(), how="gradcam")
    assert bare.layer == "output"
    np.testing.assert_allclose(bare.maps, pooled.maps, rtol=1e-12)
    like_numpy = one.to_frames(Eye(), clips().numpy(), how="gradcam")
    np.testing.assert_array_equal(like_numpy.maps, pooled.maps)


def test_refusals_say_what_to_do() -> None:
    one, x = sequence(), clips()
    coupled = nn.Sequential(nn.Conv2d(3, K, 3), nn.BatchNorm2d(K)).double().train()
    nan = x.clone()
    nan[0, 1, 0, 0, 0] = np.nan
    cases: list[tuple[type[ChronocamError], str, Any, Any, dict[str, Any]]] = [
        (InputError, "no way `gradcan`; did you mean `gradcam`", Eye(), x, {"how": "gradcan"}),
        (InputError, "takes no layer='last'", Eye(), x, {"how": "guided", "layer": "last"}),
        (InputError, r"expected \(2, 3, channel", Eye(), x[:, :2], {}),
        (InputError, r"shape \(3, 3, 12, 12\)", Eye(), x[0], {}),
        (InputError, "frames are a list", Eye(), [1], {}),
        (InputError, "dtype torch.int64; give floats", Eye(), x.long(), {}),
        (InputError, "1 of 6 frames hold NaN", Eye(), nan, {}),
        (InputError, "the CNN fails on frames of shape", Eye(), x[:, :, :2], {}),
        (InputError, "share is 2", Eye(), x, {"share": 2}),
        (InputError, "no choice by `weight`", Eye(), x, {"share": 0.5, "by": "weight"}),
        (
            InputError,
            "gives 4 features .* and 6 were explained",
            nn.Conv2d(3, 4, 3).double(),
            x,
            {"how": "guided"},
        ),
        (LayerError, "no layer `lst`; did you mean `last`", Eye(), x, {"layer": "lst"}),
        (ModelError, "call eval", coupled, x, {}),
        (ModelError, "the CNN returns", nn.Flatten(1, 2).double(), x, {"how": "guided"}),
    ]
    for kind, words, eye, frames, options in cases:
        with pytest.raises(kind, match=words) as caught:
            one.to_frames(eye, frames, **options)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 4), (1, 2, 3, 4)])
def test_frame_features_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    class Odd(nn.Module):
        def features(self, clips: Tensor) -> Tensor:
            return torch.zeros(shape)

        def from_features(self, features: Tensor) -> Tensor:
            return features

    message = r"`features` of \(1, 3, 2, 8, 8\) gives \(.*\); expected \(batch, time, feature\)"
    with pytest.raises(ModelError, match=message):
        clip_features(Odd(), torch.zeros(1, 3, 2, 8, 8))
    with pytest.raises(ModelError, match="a Linear has no `features` and `from_features`, such as CNNLSTM"):
        clip_features(nn.Linear(2, 2), torch.zeros(1, 3, 2, 8, 8))
