"""Models of several inputs: the map is of the input that the layer comes from, or that `on=` names."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import one_line
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import ChronocamError, InputError, LayerError


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enc = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.fc = nn.Linear(8, 4)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        one, other = (self.fc(self.enc(x).mean((2, 3))) for x in (a, b))
        return (one * other).sum(1, keepdim=True)


class Later(Siamese):
    """The same with the second input seen first."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return super().forward(b, a)


torch.manual_seed(1)
A, B = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 64, 96)
SCORE = cc.targets.Regression(0)


def by_hand(which: int) -> np.ndarray:
    """Return Grad-CAM with both signs, by autograd."""
    net = Siamese().eval()
    features = [net.enc(x).detach().requires_grad_() for x in (A, B)]
    one, other = (net.fc(f.mean((2, 3))) for f in features)
    (gradient,) = torch.autograd.grad((one * other).sum(), features[which])
    maps: np.ndarray = (gradient.mean((2, 3), keepdim=True) * features[which]).sum(1).detach().numpy()
    return maps


@pytest.mark.parametrize("net", [Siamese, Later])
@pytest.mark.parametrize(
    ("layer", "on", "which"),
    [
        ("enc", None, 1),
        ("enc#0", None, 0),
        ("enc#1", None, 1),
        ("enc", 0, 0),
        ("enc", "a", 0),
        ("enc", "b", 1),
        ("enc", -1, 1),
        ("enc.1#0", "a", 0),
        (None, "a", 0),
        (None, "b", 1),
    ],
)
def test_which_input_a_map_is_of(net: type[Siamese], layer: str | None, on: Any, which: int) -> None:
    explanation = cc.GradCAM(net().eval(), layer, signed=True, on=on).explain((A, B), SCORE)
    assert explanation.input_size == ((32, 32), (64, 96))[which]
    np.testing.assert_allclose(explanation.maps[:, 0], by_hand(which), atol=1e-6)
    assert any(f"of input {'ab'[which]}" in text for text in explanation.diagnostics)


def test_each_of_two_encoders_is_explained_whichever_came_first() -> None:
    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(3, 8, 3, 4, 1)
            self.fc = nn.Linear(8, 4)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.fc(self.a(x).relu().mean((2, 3)) + self.b(y).relu().mean((2, 3)))

    for order in ((0, 1), (1, 0)):
        net = Fused().eval()
        assert [cc.GradCAM(net, on=on).explain((A, B), 1).layer for on in order] == ["ab"[on] for on in order]


@pytest.mark.parametrize("on", [None, "a", "b"])
def test_maps_at_the_input(on: str | None) -> None:
    x = B if on == "b" else A
    explanation = cc.Saliency(Siamese().eval(), on=on).explain((A, B), SCORE)
    inputs = {"a": A.clone(), "b": B.clone()}
    leaf = inputs[on or "a"].requires_grad_()
    (gradient,) = torch.autograd.grad(Siamese().eval()(**inputs).sum(), leaf)
    assert explanation.input_size == tuple(x.shape[2:])
    np.testing.assert_allclose(explanation.maps[:, 0], gradient.abs().amax(1), atol=1e-7)


def test_guided_gradients_are_of_the_input_that_the_layer_comes_from() -> None:
    net = Siamese().eval()
    cam = cc.GradCAM(net, "enc", on="b").explain((A, B), SCORE)
    pixels = cc.GuidedBackprop(net, on="b", reduce="sum").explain((A, B), SCORE)
    product = cc.GuidedGradCAM(net, "enc", reduce="sum").explain((A, B), SCORE)
    assert product.input_size == (64, 96)
    np.testing.assert_allclose(
        product.maps, pixels.maps * cam.upsample(mode="linear").clip(0), rtol=1e-4, atol=1e-7
    )


def test_maps_at_an_input_beside_one_that_is_shared() -> None:
    class Compared(Siamese):
        def forward(self, words: Tensor, image: Tensor) -> Tensor:
            return self.enc(image).mean((2, 3)) @ words.T

    net, words = Compared().eval(), torch.rand(5, 8)
    x = A.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(words, x)[:, 1].sum(), x)
    for batch_size in (1, 32):
        method = cc.Saliency(net, on="image", batch_size=batch_size)
        explanation = method.explain((cc.Shared(words), A), 1)
        np.testing.assert_allclose(explanation.maps[:, 0], gradient.abs().amax(1), atol=1e-7)


def test_inputs_by_name_and_batches() -> None:
    net = Siamese().eval()
    for method in (cc.GradCAM(net, "enc", on="a"), cc.GradCAM(net, "enc", on="a", batch_size=1)):
        np.testing.assert_allclose(
            method.explain({"b": B, "a": A}, SCORE).maps, method.explain((A, B), SCORE).maps, atol=1e-7
        )
    found = cc.explain(net, (A, B), SCORE, methods=["gradcam", "saliency"], layers=["enc"], on="b")
    assert [e.input_size for e in found.values()] == [(64, 96), (64, 96)]


def test_pictures_are_drawn_over_the_input_that_is_explained(tmp_path: Path) -> None:
    explanation = cc.GradCAM(Siamese().eval(), "enc").explain((A, B), SCORE)
    for given in ((A, B), {"a": A, "b": B}):
        np.testing.assert_array_equal(explanation.overlay(given), explanation.overlay(B))
        assert explanation.save(tmp_path / "a.png", given).is_file()
    pixels = cc.Saliency(Siamese().eval(), on="b").explain((A, B), SCORE)
    np.testing.assert_array_equal(pixels.overlay((A, B)), pixels.overlay(B))


def test_the_same_array_for_two_inputs() -> None:
    net = Siamese().eval()
    for number in (0, 1):
        found = cc.GradCAM(net, f"enc#{number}").explain((A, A), SCORE)
        assert any(f"of input {'ab'[number]}" in text for text in found.diagnostics)


@pytest.mark.parametrize(
    ("layer", "on", "kind", "words"),
    [
        ("enc", "c", InputError, ["on='c'", "`a`, `b`"]),
        ("enc", 2, InputError, ["on=2", "2 inputs"]),
        ("enc#0", "b", LayerError, ["does not depend on input b"]),
    ],
)
def test_inputs_that_are_not_there(layer: str, on: Any, kind: type[ChronocamError], words: list[str]) -> None:
    with pytest.raises(kind) as error:
        cc.GradCAM(Siamese().eval(), layer, on=on).explain((A, B), SCORE)
    one_line(error, *words)


class Clip(nn.Module):
    """Pictures compared with captions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enc = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.words = nn.Embedding(20, 8)

    def forward(self, pixels: Tensor, ids: Tensor) -> Tensor:
        logits: Tensor = self.enc(pixels).mean((2, 3)) @ self.words(ids).mean(1).T
        return logits


IDS = torch.arange(8).view(2, 4)


@pytest.mark.parametrize("layer", ["enc", None])
@pytest.mark.parametrize("batch_size", [1, 32])
def test_an_input_that_is_not_per_sample_is_never_cut(layer: str | None, batch_size: int) -> None:
    net = Clip().eval()
    method = cc.GradCAM(net, layer, batch_size=batch_size)
    shared = cc.Shared(IDS)
    for given in ((A, shared), [A, shared], {"ids": shared, "pixels": A}, [(A[:1], shared), [A[1:], shared]]):
        explanation = method.explain(given, lambda o: o[:, 1])
        np.testing.assert_allclose(explanation.scores[:, 0], net(A, IDS)[:, 1].detach(), atol=1e-6)
    drop = cc.ScoreCAM if hasattr(cc, "ScoreCAM") else cc.SmoothGrad
    assert len(drop(net, layer, batch_size=batch_size).explain((A, cc.Shared(IDS)), 1)) == 2


def test_captions_that_may_be_of_the_samples() -> None:
    method = cc.GradCAM(Clip().eval(), "enc", batch_size=1)
    with pytest.raises(InputError) as error:
        method.explain((A, IDS), 1)
    one_line(error, "cc.Shared", "batch_size=None", "(2, 4)")
    assert len(cc.GradCAM(Clip().eval(), "enc", batch_size=None).explain((A, IDS), 1)) == 2


class SlowFast(nn.Module):
    """Two pathways in one list, as pytorchvideo has them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.slow, self.fast = (nn.Conv3d(3, n, 3, (1, 2, 2), 1) for n in (8, 4))
        self.head = nn.Linear(12, 5)

    def forward(self, x: list[Tensor]) -> Tensor:
        assert isinstance(x, list)
        slow, fast = self.slow(x[0]).relu(), self.fast(x[1]).relu()
        out: Tensor = self.head(torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], 1))
        return out


SLOW, FAST = torch.rand(3, 3, 4, 16, 16), torch.rand(3, 3, 16, 16, 16)


@pytest.mark.parametrize("batch_size", [2, 32])
@pytest.mark.parametrize(("layer", "frames"), [("slow", 4), ("fast", 16), (None, 4)])
def test_both_pathways(layer: str | None, frames: int, batch_size: int) -> None:
    method = cc.GradCAM(SlowFast().eval(), layer, batch_size=batch_size)
    forms: list[Any] = [[SLOW, FAST], ([SLOW, FAST],), (SLOW, FAST)]
    maps = [method.explain(form, 1) for form in forms]
    for explanation in maps:
        assert explanation.maps.shape == (3, 1, frames, 8, 8)
        assert explanation.input_size == (frames, 16, 16)
        assert explanation.frame_spans == tuple((i, i) for i in range(frames))
        np.testing.assert_allclose(explanation.maps, maps[0].maps, atol=1e-7)


class Lateral(SlowFast):
    """The fast pathway adds to the slow one after each stage, and ends beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.across = nn.Conv3d(4, 8, (5, 1, 1), (4, 1, 1), (2, 0, 0))
        self.slow2, self.fast2 = (nn.Conv3d(a, b, 3, padding=1) for a, b in ((16, 8), (4, 4)))

    def forward(self, x: list[Tensor]) -> Tensor:
        slow, fast = self.slow(x[0]).relu(), self.fast(x[1]).relu()
        slow = self.slow2(torch.cat([slow, self.across(fast)], 1)).relu()
        ends = slow.mean((2, 3, 4)), self.fast2(fast).relu().mean((2, 3, 4))
        out: Tensor = self.head(torch.cat(ends, 1))
        return out


@pytest.mark.parametrize(("on", "layer", "frames"), [(0, "slow2", 4), (1, "fast2", 16)])
def test_a_pathway_is_explained_at_its_own_end(on: int, layer: str, frames: int) -> None:
    found = cc.GradCAM(Lateral().eval(), on=on).explain([SLOW, FAST], 1)
    assert (found.layer, found.maps.shape) == (layer, (3, 1, frames, 8, 8))


class Measured(nn.Module):
    """Rows of numbers before, or beside, a picture."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enc, self.fc = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()), nn.Linear(14, 4)

    def forward(self, rows: Tensor, picture: Tensor) -> Tensor:
        return self.fc(torch.cat([self.enc(picture).mean((2, 3)), rows], 1))


@pytest.mark.parametrize("named", [False, True])
def test_a_picture_is_explained_and_not_the_measurements_before_it(named: bool) -> None:
    net, rows = Measured().eval(), torch.rand(2, 6)
    inputs: Any = {"rows": rows, "picture": A} if named else (rows, A)
    found = cc.GradCAM(net).explain(inputs, 1)
    a = net.enc(A)
    weights = net.fc.weight[1, :8, None, None] / a[0, 0].numel()
    right = (weights * a).sum(1).relu().detach()
    assert (found.layer, found.input_size) == ("enc", (32, 32))
    np.testing.assert_allclose(found.maps[:, 0], right, rtol=1e-4, atol=1e-7)


class Scaled(Siamese):
    """One picture, and a number for each."""

    def forward(self, a: Tensor, scale: Tensor) -> Tensor:
        return self.fc(self.enc(a).mean((2, 3))) * scale[:, None]


@pytest.mark.parametrize("on", [1, "scale"])
def test_an_input_without_places_has_no_map(on: Any) -> None:
    with pytest.raises(InputError) as error:
        cc.GradCAM(Scaled().eval(), on=on).explain((A, torch.ones(2)), 1)
    one_line(error, "has shape (2,)", "no places", "`a`")


class Together(Siamese):
    """Scores that only make sense of a whole batch."""

    def forward(self, a: Tensor) -> Tensor:
        return self.fc(self.enc(a).mean((2, 3)))


def test_a_target_that_needs_all_samples_gets_all_in_the_search() -> None:
    net, x = Together().eval(), torch.rand(3, 3, 32, 32)
    found = cc.GradCAM(net, signed=True).explain(x, lambda y: torch.stack([y[0, 1], y[1, 2], y[2, 3]]))
    named = cc.GradCAM(net, "enc", signed=True).explain(x, [1, 2, 3])
    np.testing.assert_allclose(found.maps, named.maps, rtol=1e-5, atol=1e-8)
