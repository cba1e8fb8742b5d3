"""Clips: 3D networks, frames folded or one by one, weights per clip and per frame, attention over frames."""

import copy
import gc
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Deliberate, noise, one_line, tensors_alive
from helpers import close as close_to
from nets import Ending
from replicas import (
    CLOSED,
    Bent,
    Pooled,
    finer_score,
    for_each,
    gradients,
    hessian_products,
    plusplus,
    seeded,
)
from replicas import inputs as some_inputs
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import chronocam as cc
from chronocam.engines import ClipOptions, Request, engine_for
from chronocam.engines.torch import modes
from chronocam.errors import InputError, LayerError, LayoutError
from chronocam.layouts import ChannelsFirst, Folded, Stepped
from chronocam.maps.attention import Attention
from chronocam.models import CNNLSTM

TARGETS = [3, 0]
ASKED = [cc.targets.Class(k) for k in TARGETS]
LAYER = "features.2"

close = partial(close_to, tolerance=1e-10)


def exact(method: Any, x: Any, targets: Any = ASKED) -> np.ndarray:
    """The method's maps in the model's own precision, before any ReLU."""
    kept: list[Tensor] = []
    inner = method.maps

    def maps(view: Any) -> Any:
        found = inner(view)
        kept.append(view.unfolded(found).detach().clone())
        return found

    method.maps = maps
    explanation = method.explain(x, targets)
    found = torch.cat(kept).numpy()
    assert explanation.maps.shape == found.shape
    kept_signs = found if not hasattr(method, "signed") else np.maximum(found, 0)
    np.testing.assert_allclose(explanation.maps, kept_signs, rtol=1e-6, atol=1e-6 * np.abs(found).max())
    return found


def differ(found: Any, other: Any) -> None:
    assert np.abs(np.subtract(found, other)).max() > 1e-3 * np.abs(other).max()


# 3D networks


def by_slices(
    pool: str | None, form: Callable[..., list[float]], a: np.ndarray, *others: np.ndarray
) -> np.ndarray:
    """A closed form of whole clips, or of each time slice as if it were a picture of its own."""
    if pool != "frame":
        return for_each(form, a, *others)
    slices = [for_each(form, a[:, :, t], *(o[:, :, :, t] for o in others)) for t in range(a.shape[2])]
    return np.stack(slices, axis=2)


def test_gradcam_of_a_linear_head_is_cam_over_all_cells() -> None:
    net, x = seeded(lambda: Pooled(3)), some_inputs(3)
    a = net.features(x).detach().numpy()
    cells = a[0, 0].size
    found = exact(cc.GradCAM(net, LAYER), x)
    by_hand = np.einsum("kc,bcthw->bkthw", net.fc.weight.detach().numpy()[TARGETS], a)
    close(found * cells, by_hand)
    close(exact(cc.CAM(net, LAYER), x), by_hand)
    assert a.shape[2] > 1  # the time axis counts among the cells


def test_both_pools_agree_where_the_gradient_is_constant_and_only_there() -> None:
    x = some_inputs(3)
    for make, same in ((Pooled, True), (Bent, False)):
        net = seeded(lambda make=make: make(3))
        clip, frame = (exact(cc.GradCAM(net, LAYER, pool=pool), x) for pool in ("clip", "frame"))
        if same:
            close(clip, frame)
        else:
            differ(clip, frame)


@pytest.mark.parametrize("pool", [None, "clip", "frame"])
@pytest.mark.parametrize("name", [name for name in CLOSED if name not in ("cam", "finercam")])
def test_every_method_with_both_pools_equals_a_loop(name: str, pool: str | None) -> None:
    net, x = seeded(lambda: Bent(3)), some_inputs(3)
    a = net.features(x).detach()
    score = lambda v: net.rest(v)[:, TARGETS]  # noqa: E731
    others = [gradients(score, a)] + ([hessian_products(score, a)] if name == "shapleycam" else [])
    expected = by_slices(pool, CLOSED[name], a.numpy(), *others)
    close(exact(cc.methods.METHODS[name](net, LAYER, pool=pool), x), expected, tolerance=1e-8)


@pytest.mark.parametrize("pool", ["clip", "frame"])
def test_cam_and_finer_cam_with_both_pools_equal_a_loop(pool: str) -> None:
    net, x = seeded(lambda: Pooled(3)), some_inputs(3)
    a = net.features(x).detach()
    g = gradients(lambda v: net.rest(v)[:, TARGETS], a)
    close(exact(cc.CAM(net, LAYER, pool=pool), x), by_slices(pool, CLOSED["cam"], a.numpy(), g))
    net = seeded(lambda: Bent(3))
    a = net.features(x).detach()
    g = gradients(lambda v: finer_score(net.rest(v), [1] * len(v), 1.0, 3)[:, None], a)
    found = exact(cc.FinerCAM(net, LAYER, pool=pool), x, 1)
    close(found, by_slices(pool, CLOSED["finercam"], a.numpy(), g), tolerance=1e-8)


@pytest.mark.parametrize("pool", ["clip", "frame"])
def test_smooth_gradcam_plus_plus_with_both_pools_equals_a_loop(pool: str) -> None:
    net, x = seeded(lambda: Bent(3)), some_inputs(3)
    rng, samples = np.random.default_rng(0), 3
    spread = 0.15 * (x.amax((1, 2, 3, 4)) - x.amin((1, 2, 3, 4)))[:, None, None, None, None]
    moments: list[Any] = [0.0, 0.0, 0.0]
    for _ in range(samples):
        noisy = (
            x + spread * torch.from_numpy(rng.standard_normal((1, *x.shape[1:]), dtype=np.float32)).double()
        )
        g = gradients(lambda v: net.rest(v)[:, TARGETS], net.features(noisy))
        moments = [m + g**p / samples for p, m in enumerate(moments, start=1)]
    expected = by_slices(pool, plusplus, net.features(x).detach().numpy(), *moments)
    found = exact(cc.methods.METHODS["smoothgradcam++"](net, LAYER, pool=pool, samples=samples), x)
    close(found, expected, tolerance=1e-8)


def test_pool_is_for_clips() -> None:
    picture = seeded(lambda: Pooled(2))
    for pool in ("clip", "frame"):
        with pytest.raises(InputError, match="pool= is for clips") as error:
            cc.GradCAM(picture, pool=pool).explain(some_inputs(2), 0)
        one_line(error, str(tuple(some_inputs(2).shape)))
    with pytest.raises(InputError, match="no pooling `batch`"):
        cc.GradCAM(picture, pool="batch")
    for option in ({"chunk_frames": 2}, {"detach_attention": True}):
        with pytest.raises(InputError, match="is for clips"):
            cc.GradCAM(picture, **option).explain(some_inputs(2), 0)


# Frames one by one


class Backbone(nn.Module):
    """Two convolutions that share one ReLU; it may overwrite."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 5, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv2(self.relu(self.conv1(x))))


class Recurrent(nn.Module):
    """An LSTM over the features of a 2D network that gets the frames in one of several ways."""

    def __init__(self, how: str = "folded", classes: int = 4) -> None:
        super().__init__()
        self.backbone, self.how = Backbone(), how
        self.lstm, self.fc = nn.LSTM(5, 6, batch_first=True), nn.Linear(6, classes)

    def features(self, x: Tensor) -> Tensor:
        if self.how == "folded":
            return self.backbone(x.flatten(0, 1)).mean((2, 3)).unflatten(0, x.shape[:2])
        if self.how == "stepped":
            return torch.stack([self.backbone(x[:, t]).mean((2, 3)) for t in range(x.shape[1])], dim=1)
        return torch.stack([self.backbone(frame).mean((2, 3)) for frame in x.unbind(1)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        states, last = self.lstm(self.features(x))
        return self.fc(states.tanh().mean(1) + last[0][0])


CLIPS = noise(2, 6, 3, 9, 8)


def by_loop(net: Recurrent, layer: str, x: Tensor = CLIPS, pool: str = "frame") -> np.ndarray:
    """Grad-CAM of one clip, one class and one frame after the other; `conv2` or what comes after it."""
    maps = np.zeros((len(x), len(TARGETS), x.shape[1], 5, 4))
    for b in range(len(x)):
        cells = []
        for frame in x[b]:
            out = net.backbone.conv2(net.backbone.conv1(frame[None]).clamp(min=0))
            out = out if layer == "backbone.conv2" else out.clamp(min=0)
            cells.append(out.detach().requires_grad_())
        steps = [(c.clamp(min=0) if layer == "backbone.conv2" else c).mean((2, 3)) for c in cells]
        states, last = net.lstm(torch.stack(steps, dim=1))
        logits = net.fc(states.tanh().mean(1) + last[0][0])[0]
        for k, c in enumerate(TARGETS):
            g = torch.autograd.grad(logits[c], cells, retain_graph=True)
            weights = [v.mean((2, 3)) for v in g]
            if pool == "clip":
                weights = [sum(weights) / len(weights)] * len(weights)
            for t, (w, a) in enumerate(zip(weights, cells, strict=True)):
                maps[b, k, t] = (w[0, :, None, None] * a[0]).sum(0).detach()
    return maps


@pytest.mark.parametrize("pool", [None, "frame", "clip"])
@pytest.mark.parametrize("layer", ["backbone.conv2", "backbone.relu", "backbone"])
@pytest.mark.parametrize("how", ["folded", "stepped", "unbound"])
def test_folded_and_stepped_backbones_equal_a_loop(how: str, layer: str, pool: str | None) -> None:
    net = seeded(lambda: Recurrent(how))
    method = cc.GradCAM(net, layer, pool=pool)
    found = exact(method, CLIPS)
    close(found, by_loop(net, layer, pool=pool or "frame"))
    if pool == "clip":
        differ(found, by_loop(net, layer))


def test_the_last_of_several_calls_per_frame_is_explained_and_noted() -> None:
    notes = {}
    for how in ("folded", "stepped"):
        net = seeded(lambda how=how: Recurrent(how))
        notes[how] = [
            n for n in cc.GradCAM(net, "backbone.relu").explain(CLIPS, 0).diagnostics if "called" in n
        ]
    assert "called 2 times" in notes["folded"][0]


def test_every_second_frame_in_a_call_of_its_own_is_a_slice() -> None:
    class Thinned(Recurrent):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x[:, ::2])

    net, x = seeded(lambda: Thinned("stepped")), torch.rand(2, 8, 3, 16, 16)
    found = cc.GradCAM(net).explain(x, 1)
    assert (found.maps.shape[2], found.frame_spans) == (4, ((0, 1), (2, 3), (4, 5), (6, 7)))
    whole = cc.GradCAM(seeded(lambda: Recurrent("stepped"))).explain(x[:, ::2], 1)
    np.testing.assert_allclose(found.maps, whole.maps, atol=1e-7)


def test_the_first_call_of_a_shared_layer_by_name() -> None:
    net = seeded(Recurrent)
    a = net.backbone.conv1(CLIPS.flatten(0, 1)).clamp(min=0).detach().requires_grad_()
    steps = net.backbone.conv2(a).clamp(min=0).mean((2, 3)).unflatten(0, (2, 6))
    states, last = net.lstm(steps)
    logits = net.fc(states.tanh().mean(1) + last[0][0])
    for k, c in enumerate(TARGETS):
        (g,) = torch.autograd.grad(logits[:, c].sum(), a, retain_graph=True)
        expected = (g.mean((2, 3), keepdim=True) * a).sum(1).detach().unflatten(0, (2, 6))
        close(exact(cc.GradCAM(net, "backbone.relu#0"), CLIPS)[:, k], expected)


def test_the_default_layer_and_scores_are_the_same_folded_and_stepped() -> None:
    found = {
        how: cc.GradCAM(seeded(lambda how=how: Recurrent(how))).explain(CLIPS, ASKED)
        for how in ("folded", "stepped")
    }
    for explanation in found.values():
        assert explanation.maps.shape == (2, 2, 6, 5, 4)
        assert explanation.frame_spans == tuple((t, t) for t in range(6))
        assert explanation.layer in ("backbone", "backbone.relu")
    close(found["folded"].scores, found["stepped"].scores, tolerance=1e-6)


@pytest.mark.parametrize("method", [cc.GradCAM, cc.LayerCAM, cc.EigenCAM, cc.Saliency, cc.GuidedGradCAM])
@pytest.mark.parametrize("how", ["folded", "stepped"])
def test_a_batch_of_clips_equals_one_by_one(how: str, method: Any) -> None:
    net = seeded(lambda: Recurrent(how))
    clips = noise(3, 6, 3, 9, 8, seed=4)
    layer = {} if method is cc.Saliency else {"conv_layer": "backbone.conv2"}
    together = exact(method(net, **layer), clips)
    for b in range(3):
        close(exact(method(net, **layer), clips[b : b + 1])[0], together[b])
    close(exact(method(net, **layer, batch_size=1), clips), together)


def test_a_batch_of_clips_through_a_3d_network_equals_one_by_one() -> None:
    net, clips = seeded(lambda: Bent(3)), some_inputs(3, batch=3)
    together = exact(cc.GradCAM(net, LAYER, pool="frame"), clips)
    for b in range(3):
        close(exact(cc.GradCAM(net, LAYER, pool="frame"), clips[b : b + 1])[0], together[b])


def test_pixel_methods_of_clips_are_autograd() -> None:
    for how in ("folded", "stepped"):
        net = seeded(lambda how=how: Recurrent(how))
        x = CLIPS.clone().requires_grad_()
        (g,) = torch.autograd.grad(net(x)[:, 3].sum(), x)
        close(exact(cc.Saliency(net), CLIPS, 3)[:, 0], g.abs().amax(2))
        close(exact(cc.InputXGradient(net, reduce="sum"), CLIPS, 3)[:, 0], (g * CLIPS).sum(2))


# layout=


@pytest.mark.parametrize("layout", ["folded", Folded(6, ChannelsFirst())])
def test_the_folded_layout_by_name_and_object(layout: Any) -> None:
    net = seeded(Recurrent)
    close(exact(cc.GradCAM(net, "backbone.conv2", layout=layout), CLIPS), by_loop(net, "backbone.conv2"))


@pytest.mark.parametrize("layout", ["stepped", Stepped(6, ChannelsFirst())])
@pytest.mark.parametrize("layer", ["backbone.conv2", "backbone.relu"])
def test_the_stepped_layout_by_name_and_object(layer: str, layout: Any) -> None:
    net = seeded(lambda: Recurrent("stepped"))
    close(exact(cc.GradCAM(net, layer, layout=layout), CLIPS), by_loop(net, layer))


@pytest.mark.parametrize(
    ("how", "layout"),
    [
        ("folded", "stepped"),
        ("stepped", "folded"),
        ("folded", "video_tokens"),
        ("folded", "frames_first"),
        ("folded", "channels_first"),
        ("folded", "foldd"),
        ("folded", Folded(5, ChannelsFirst())),  # 12 rows are no clips of 5
        ("folded", Folded(4, ChannelsFirst())),  # three clips of 4, where two were given
        ("stepped", Stepped(4, ChannelsFirst())),  # 6 calls
        ("stepped", Stepped(7, ChannelsFirst())),
    ],
)
def test_a_layout_that_does_not_fit_the_frames_is_refused_in_one_line(how: str, layout: Any) -> None:
    net = seeded(lambda: Recurrent(how))
    with pytest.raises(LayoutError) as error:
        cc.GradCAM(net, "backbone.conv2", layout=layout).explain(CLIPS, 0)
    one_line(error)


# Attention over the frames


def attentive(classes: int = 4) -> Any:
    return seeded(lambda: CNNLSTM(Backbone(), 7, classes, attention=True))


class Pooling(nn.Module):
    """Attention `(batch, time, 1)`, pooled by einsum; its softmax is a module, a function or a method."""

    def __init__(self, softmax: str = "module", frames_last: bool = False) -> None:
        super().__init__()
        self.backbone, self.score, self.fc = Backbone(), nn.Linear(5, 1), nn.Linear(5, 4)
        self.over_time = {
            "module": nn.Softmax(dim=1),
            "function": lambda v: nn.functional.softmax(v, dim=1),
            "torch": lambda v: torch.softmax(v, 1),
            "method": lambda v: v.softmax(dim=1),
        }[softmax]
        self.frames_last = frames_last

    def forward(self, x: Tensor, detach: bool = False) -> Tensor:
        h = self.backbone(x.flatten(0, 1)).mean((2, 3)).unflatten(0, x.shape[:2])
        scores = self.score(h.tanh() * 3)
        weights = (
            scores.transpose(1, 2).softmax(2).transpose(1, 2) if self.frames_last else self.over_time(scores)
        )
        return self.fc(torch.einsum("bti,btf->bf", weights.detach() if detach else weights, h))


def test_contributions_and_the_bias_add_up_to_the_logit() -> None:
    net = attentive()
    layer = "backbone.conv2"
    found = engine_for(net).record(
        CLIPS,
        lambda result: result.logits(),
        Request([layer], gradients=[layer], clips=ClipOptions(CLIPS.shape[1])),
    )
    with torch.no_grad():
        output = net(CLIPS)
        states = net.lstm(net.features(CLIPS))[0]
    contributions = found.attention_gradients * found.attention  # (target, batch, time)
    close(found.attention, output["attention"])
    close(contributions.sum(2).T + net.head.bias.detach(), output["logits"])
    by_hand = torch.einsum("bt,cf,btf->cbt", output["attention"], net.head.weight.detach(), states)
    close(contributions, by_hand)


def test_the_explanation_carries_the_evidence() -> None:
    net = attentive()
    explanation = cc.GradCAM(net).explain(CLIPS, ASKED)
    evidence = explanation.attention
    assert evidence is not None
    assert evidence.weights.shape == (2, 6)
    assert evidence.contributions.shape == (2, 2, 6)
    np.testing.assert_allclose(evidence.weights.sum(1), 1, rtol=1e-6)
    bias = net.head.bias.detach().numpy()[TARGETS]
    np.testing.assert_allclose(evidence.contributions.sum(2) + bias, explanation.scores, rtol=1e-5, atol=1e-6)
    for b, k in np.ndindex(2, 2):
        by_scipy = spearmanr(evidence.weights[b], evidence.contributions[b, k]).statistic
        assert evidence.agreement[b, k] == pytest.approx(by_scipy, abs=1e-12)


def test_agreement_with_ties_equals_scipy() -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 3, (5, 9)).astype(np.float32)
    contributions = rng.integers(-2, 3, (5, 4, 9)).astype(np.float32)
    found = Attention(weights, contributions).agreement
    for b, k in np.ndindex(5, 4):
        assert found[b, k] == pytest.approx(spearmanr(weights[b], contributions[b, k]).statistic, abs=1e-12)
    assert np.isnan(Attention(weights * 0, contributions).agreement).all()


@pytest.mark.parametrize("softmax", ["module", "function", "torch", "method"])
@pytest.mark.parametrize("method", [cc.GradCAM, cc.Saliency])
def test_attention_of_any_model_is_found(softmax: str, method: Any) -> None:
    net = seeded(lambda: Pooling(softmax))
    evidence = method(net).explain(CLIPS, ASKED).attention
    h = net.backbone(CLIPS.flatten(0, 1)).mean((2, 3)).unflatten(0, (2, 6))
    weights = net.score(h.tanh() * 3)[..., 0].exp()
    weights = weights / weights.sum(1, keepdim=True)
    close(evidence.weights, weights.detach(), tolerance=1e-6)
    by_hand = torch.einsum("bt,cf,btf->bct", weights, net.fc.weight[TARGETS], h)
    close(evidence.contributions, by_hand.detach(), tolerance=1e-6)


def test_attention_with_the_frames_last_is_found() -> None:
    plain = cc.GradCAM(seeded(Pooling), "backbone.conv2").explain(CLIPS, 0).attention
    last = cc.GradCAM(seeded(lambda: Pooling(frames_last=True)), "backbone.conv2").explain(CLIPS, 0).attention
    close(last.weights, plain.weights, tolerance=1e-6)
    close(last.contributions, plain.contributions, tolerance=1e-6)


@pytest.mark.parametrize("name", ["gradcam", "saliency", "eigencam"])
def test_a_softmax_over_as_many_classes_as_frames_is_not_attention(name: str) -> None:
    net = seeded(lambda: Ending(Recurrent(classes=6), nn.Softmax(dim=1)))
    make = cc.methods.METHODS[name]
    for targets in (2, None):
        assert make(net).explain(CLIPS, targets).attention is None
    with pytest.raises(InputError, match="found no attention weights") as error:
        make(net, detach_attention=True).explain(CLIPS, 2)
    one_line(error)


def test_attention_is_found_before_a_softmax_over_as_many_classes() -> None:
    inner = attentive(classes=6)
    found = cc.GradCAM(Ending(inner, nn.Softmax(dim=1)), "net.backbone.conv2").explain(CLIPS, 2).attention
    expected = cc.GradCAM(inner, "backbone.conv2").explain(CLIPS, 2).attention
    close(found.weights, expected.weights, tolerance=1e-6)
    close(found.contributions, expected.contributions, tolerance=1e-6)


def test_a_softmax_in_the_target_is_not_attention() -> None:
    def probability(y: Any) -> Tensor:
        return (y["logits"] if isinstance(y, dict) else y).softmax(1)[:, 2]

    assert cc.GradCAM(seeded(lambda: Recurrent(classes=6))).explain(CLIPS, probability).attention is None
    net = attentive(classes=6)
    found = cc.GradCAM(net, detach_attention=True).explain(CLIPS, probability)
    with torch.no_grad():
        close(found.attention.weights, net(CLIPS)["attention"], tolerance=1e-6)
    assert found.maps.any()


@pytest.mark.parametrize("name", ["gradcam", "layercam", "inputxgradient"])
def test_detached_attention_equals_a_replica_with_constant_weights(name: str) -> None:
    net = seeded(Pooling)
    options = {"reduce": "sum"} if name == "inputxgradient" else {"conv_layer": "backbone.conv2"}
    make = cc.methods.METHODS[name]
    x = CLIPS.clone().requires_grad_()
    kept: list[Tensor] = []
    reference = copy.deepcopy(net)
    reference.backbone.relu.inplace = False
    reference.backbone.conv2.register_forward_hook(lambda module, args, output: kept.append(output))
    y = reference(x, detach=True)
    expected = []
    for c in TARGETS:
        g, gx = torch.autograd.grad(y[:, c].sum(), [kept[0], x], retain_graph=True)
        frames = {
            "gradcam": (g.mean((2, 3), keepdim=True) * kept[0]).sum(1),
            "layercam": (g.clamp(min=0) * kept[0]).sum(1),
            "inputxgradient": (gx * x).sum(2).flatten(0, 1),
        }[name]
        expected.append(frames.unflatten(0, (2, 6)).detach())
    found = exact(make(net, **options, detach_attention=True), CLIPS)
    close(found, torch.stack(expected, dim=1))
    differ(found, exact(make(net, **options), CLIPS))


def test_evidence_of_detached_attention_is_the_same() -> None:
    net = attentive()
    plain, held = (cc.GradCAM(net, detach_attention=d).explain(CLIPS, ASKED) for d in (False, True))
    close(held.attention.contributions, plain.attention.contributions, tolerance=1e-6)
    differ(held.maps, plain.maps)


@pytest.mark.parametrize("how", ["folded", "stepped"])
def test_detaching_what_is_not_there_is_refused(how: str) -> None:
    with pytest.raises(InputError, match="found no attention weights") as error:
        cc.GradCAM(seeded(lambda: Recurrent(how)), detach_attention=True).explain(CLIPS, 0)
    one_line(error)


def test_evidence_is_saved_loaded_and_joined(tmp_path: Any) -> None:
    net, clips = attentive(), noise(3, 6, 3, 9, 8, seed=2)
    whole = cc.GradCAM(net).explain(clips, ASKED)
    parts = cc.GradCAM(net, batch_size=1).explain(clips, ASKED)
    again = cc.load(whole.save(tmp_path / "clip.npz"))
    for other in (parts, again):
        close(other.attention.weights, whole.attention.weights, tolerance=1e-6)
        close(other.attention.contributions, whole.attention.contributions, tolerance=1e-5)
        close(other.attention.agreement, whole.attention.agreement, tolerance=1e-6)
        assert other.frame_spans == whole.frame_spans
    np.testing.assert_array_equal(again.attention.contributions, whole.attention.contributions)
    plain = cc.GradCAM(seeded(Recurrent)).explain(CLIPS, 0)
    assert plain.attention is None
    assert cc.load(plain.save(tmp_path / "plain.npz")).attention is None


def test_several_methods_and_targets_share_the_evidence() -> None:
    net = attentive()
    found = cc.explain(net, CLIPS, ASKED, methods=["gradcam", "saliency", "eigencam", "finercam"])
    alone = cc.GradCAM(net).explain(CLIPS, ASKED).attention
    for name in ("gradcam", "saliency", "eigencam"):
        close(found[name].attention.weights, alone.weights, tolerance=1e-6)
        close(found[name].attention.contributions, alone.contributions, tolerance=1e-6)
    differ(found["finercam"].attention.contributions, alone.contributions)  # its score is another one


# RNNs on cuDNN


class DropsOut(Recurrent):
    def __init__(self, packs: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 6, num_layers=2, dropout=0.5, batch_first=True)
        self.packs = packs

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        if not self.packs:
            return self.fc(self.lstm(features)[0][:, -1])
        packed = nn.utils.rnn.pack_padded_sequence(features, [features.shape[1]] * len(x), batch_first=True)
        return self.fc(self.lstm(packed)[1][0][-1])


class RunsOfLSTMs(TorchFunctionMode):
    """Notes dropout and training mode of every LSTM that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[float, bool]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.lstm:
            packed = not isinstance(args[1], (list, tuple))
            self.seen.append(args[6:8] if packed else args[5:7])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("packs", [False, True])
def test_an_lstm_in_eval_mode_runs_in_training_mode_without_dropout_on_cuda(
    packs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = seeded(lambda: DropsOut(packs))
    expected = exact(cc.GradCAM(net, "backbone.conv2"), CLIPS)
    monkeypatch.setattr(modes, "_by_cudnn", lambda x: True)
    with RunsOfLSTMs() as runs:
        close(exact(cc.GradCAM(net, "backbone.conv2"), CLIPS), expected)
        assert runs.seen.count((0.0, True)) == 1
        net.lstm.train()
        cc.GradCAM(net, "backbone.conv2").explain(CLIPS, 0)
        assert runs.seen[-1] == (0.5, True)


@pytest.mark.parametrize("packs", [False, True])
def test_second_derivatives_go_through_an_lstm_on_cuda_step_by_step(
    packs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = seeded(lambda: DropsOut(packs))
    expected = exact(cc.ShapleyCAM(net, "backbone.conv2"), CLIPS)
    monkeypatch.setattr(modes, "_by_cudnn", lambda x: True)
    with RunsOfLSTMs() as runs:
        close(exact(cc.ShapleyCAM(net, "backbone.conv2"), CLIPS), expected)
    assert (0.0, True) not in runs.seen


def test_off_cuda_an_lstm_runs_as_it_is() -> None:
    with RunsOfLSTMs() as runs:
        cc.GradCAM(seeded(DropsOut), "backbone.conv2").explain(CLIPS, 0)
    assert set(runs.seen) == {(0.5, False)}


# As found, again and again


def snapshot(net: nn.Module) -> list[Any]:
    modules = [
        (
            path,
            m.training,
            sorted(vars(m)),
            len(m._forward_hooks),
            len(m._forward_pre_hooks),
            len(m._backward_hooks),
        )
        for path, m in net.named_modules()
    ]
    tensors = [(p, t.clone(), t.requires_grad, t.grad) for p, t in net.state_dict(keep_vars=True).items()]
    return [modules, [(p, t.tolist(), r, g) for p, t, r, g in tensors], torch.is_grad_enabled()]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"chunk_frames": 2}, {"detach_attention": True}, {"align": "receptive_field"}]
)
def test_a_model_of_clips_is_left_as_found(options: dict[str, Any], fails: bool) -> None:
    net = attentive()
    net.backbone.conv1.weight.requires_grad_(False)
    before, given = snapshot(net), CLIPS.clone()

    def target(y: Any) -> Tensor:
        if fails:
            raise Deliberate
        return y["logits"][:, 0]

    with torch.no_grad() if fails else torch.enable_grad():
        mode = torch.is_grad_enabled()
        try:
            cc.GradCAM(net, "backbone.conv2", **options).explain(given, target)
        except Deliberate:
            assert fails
        assert torch.is_grad_enabled() == mode
    assert snapshot(net) == before
    assert torch.equal(given, CLIPS)
    assert given.grad is None


def test_memory_is_constant_over_two_hundred_calls_on_clips() -> None:
    net = seeded(lambda: CNNLSTM(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), 2, 3, attention=True))
    x = noise(1, 3, 1, 5, 5)
    methods = [
        cc.GradCAM(net),
        cc.GradCAM(net, chunk_frames=2),
        cc.GradCAM(net, detach_attention=True, align="receptive_field"),
    ]

    def rounds(count: int) -> None:
        for i in range(count):
            for method in methods:
                method.explain(x, i % 3)

    rounds(10)
    gc.collect()
    alive, objects = tensors_alive(), len(gc.get_objects())
    gc.disable()
    try:
        rounds(10)
        assert tensors_alive() <= alive  # no tensor waits in a cycle for the collector
    finally:
        gc.enable()
    rounds(60)
    gc.collect()
    assert tensors_alive() <= alive
    assert len(gc.get_objects()) - objects < 100


def test_a_layer_after_the_frames_are_joined_has_no_grid() -> None:
    for layer in ("lstm", "fc"):
        with pytest.raises((LayoutError, LayerError)) as error:
            cc.GradCAM(seeded(Recurrent), layer).explain(CLIPS, 0)
        one_line(error, f"`{layer}`")


def names(found: Sequence[Any]) -> list[str]:
    return [str(info) for row in found for info in row]


def test_targets_of_clips_are_per_clip() -> None:
    net = seeded(Recurrent)
    found = cc.GradCAM(net, "backbone.conv2").explain(CLIPS, torch.tensor([1, 2]))
    assert names(found.targets) == ["class 1", "class 2"]
    for b, c in ((0, 1), (1, 2)):
        alone = cc.GradCAM(net, "backbone.conv2").explain(CLIPS[b : b + 1], c)
        close(found.maps[b], alone.maps[0], tolerance=1e-6)


class Flash(nn.Module):
    """Finds a flash with a convolution over time that pads rows and columns only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 1, (7, 3, 3), (1, 4, 4), (0, 1, 1), bias=False)
        nn.init.zeros_(self.conv.weight)
        nn.init.ones_(self.conv.weight[:, :, 3])

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).amax((2, 3, 4))
        return torch.stack([-y[:, 0], y[:, 0]], 1)


@pytest.mark.parametrize("at", [6, 9])
def test_slices_of_convolutions_that_do_not_pad_time_lie_in_the_middle_of_what_they_see(at: int) -> None:
    x = torch.zeros(1, 1, 16, 16, 16)
    x[:, :, at] = 1.0
    found = cc.GradCAM(Flash().eval()).explain(x, 1)
    assert found.centers is not None
    assert found.centers[0] == tuple(range(3, 13))
    assert found.frame_spans is not None
    assert found.frame_spans[4] == (7, 7)
    drawn = np.asarray(found)[0].sum((1, 2))
    assert np.average(np.arange(16), weights=drawn) == pytest.approx(at, abs=0.3)
    assert any("frames 3 to 12 of 16; pictures carry" in text for text in found.diagnostics)


class Planes(nn.Module):
    """Sees a volume along two axes, of which each takes another one for its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.front, self.top, self.fc = nn.Conv2d(16, 8, 3, 2, 1), nn.Conv2d(32, 8, 3, 2, 1), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.front(x[:, 0]), self.top(x[:, 0].transpose(1, 2))
        return self.fc(torch.cat([one.relu().mean((2, 3)) for one in seen], 1))


def test_rows_of_a_clip_that_follow_no_rows_are_not_explained() -> None:
    net, x = seeded(Planes), torch.randn(2, 1, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    assert cc.GradCAM(net).explain(x, 1).layer == "front"
    with pytest.raises(LayoutError, match="its cells do not follow the places of the input"):
        cc.GradCAM(net, "top").explain(x, 1)


class BothWays(nn.Module):
    """Goes through the frames forward, and backward with the same convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn, self.gate, self.fc = nn.Conv2d(3, 4, 5, 4, 2), nn.Conv2d(8, 4, 3, 1, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        features, ends = [self.cnn(frame).relu() for frame in x.unbind(1)], []
        for way in (features, features[::-1]):
            state = torch.zeros_like(features[0])
            for one in way:
                state = self.gate(torch.cat([one, state], 1)).tanh()
            ends.append(state.mean((2, 3)))
        return self.fc(torch.cat(ends, 1))


def test_calls_that_go_both_ways_in_time_are_no_slices() -> None:
    net, x = seeded(BothWays), torch.randn(2, 8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = cc.GradCAM(net).explain(x, 1)
    assert found.layer == "cnn"
    assert found.maps.shape == (2, 1, 8, 8, 8)
    with pytest.raises(LayoutError, match="its slices"):
        cc.GradCAM(net, "gate").explain(x, 1)
