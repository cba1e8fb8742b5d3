"""torchvision's detectors: rows that are kept are what the model returns, and maps are autograd of that."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from detectors import TORCHVISION, random_detector
from helpers import one_line
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import InputError, ModelError, TargetError
from chronocam.maps.resample import resample

pytest.importorskip("torchvision")


@pytest.fixture(scope="module", params=TORCHVISION)
def net(request: pytest.FixtureRequest) -> nn.Module:
    return random_detector(request.param)


X = torch.rand(2, 3, 64, 88, generator=torch.Generator().manual_seed(1))


def least(net: nn.Module) -> float:
    return float(getattr(net, "score_thresh", None) or net.roi_heads.score_thresh)


def kept(net: nn.Module, x: Tensor) -> list[dict[str, np.ndarray]]:
    with torch.no_grad():
        return [{key: value.numpy() for key, value in one.items()} for one in net(list(x))]


def test_what_is_found_is_what_the_model_returns(net: nn.Module) -> None:
    found = cc.detect(net, X, min_score=least(net))
    own = kept(net, X)
    assert (len(found), found.images) == (sum(len(one["scores"]) for one in own), 2)
    assert min(len(one["scores"]) for one in own) > 3
    for image, one in enumerate(own):
        mine = found.of(image)
        np.testing.assert_allclose([x.box for x in mine], one["boxes"], atol=1e-4)
        np.testing.assert_allclose([x.score for x in mine], one["scores"], rtol=1e-5)
        assert [x.index for x in mine] == one["labels"].tolist()
        assert all(x.image == image for x in mine)


def test_images_of_several_sizes_are_what_the_model_returns_for_each(net: nn.Module) -> None:
    images = [X[0], X[1][:, :50, :70]]
    found = cc.detect(net, images, min_score=least(net))
    for image, x in enumerate(images):
        (own,) = kept(net, x[None])
        np.testing.assert_allclose([x.box for x in found.of(image)], own["boxes"], atol=1e-4)


def test_one_call_explains_images_of_several_sizes() -> None:
    net = random_detector("retina")
    images = [X[0], X[1][:, :50, :70]]
    whole = cc.ODAM(net).explain(images, cc.targets.Boxes(top=1))
    assert whole.sizes == ((64, 88), (50, 70))
    for i, x in enumerate(images):
        alone = cc.ODAM(net).explain(x[None], cc.targets.Boxes(top=1))
        assert whole.targets[i] == alone.targets[0]
        np.testing.assert_allclose(whole.maps[[i]], alone.resampled(alone.maps, whole.maps.shape[2:]))


def by_hand(net: nn.Module, x: Tensor, image: int, score: Callable[[Any], Tensor]) -> list[np.ndarray]:
    """Return Σ_k G_k ⊙ A_k at each level, of a score of what the model itself returns for one image."""
    levels: list[Tensor] = []

    def cut(module: nn.Module, args: Any, output: dict[str, Tensor]) -> dict[str, Tensor]:
        levels[:] = [one.detach().requires_grad_() for one in output.values()]
        return dict(zip(output, levels, strict=True))

    handle = net.backbone.register_forward_hook(cut)
    try:
        value = score(net(list(x))[image])
    finally:
        handle.remove()
    gradients = torch.autograd.grad(value, levels, allow_unused=True)
    pairs = zip(gradients, levels, strict=True)
    return [(torch.zeros_like(a) if g is None else g * a)[image].sum(0).detach().numpy() for g, a in pairs]


@pytest.mark.parametrize("image", [0, 1])
def test_maps_are_autograd_of_the_kept_score_by_hand(net: nn.Module, image: int) -> None:
    found = cc.detect(net, X, min_score=least(net)).of(image)
    method = cc.ODAM(net, signed=True)
    for k in range(3):
        explanation = method.explain(X, cc.targets.Boxes(found[k]))
        levels = by_hand(net, X, image, lambda own, k=k: own["scores"][k].log())
        hand = levels[found[k].level]
        assert explanation.layer == f"backbone[{found[k].level}]"
        np.testing.assert_allclose(explanation.maps[image, 0], hand, atol=1e-5 * np.abs(hand).max())
        np.testing.assert_allclose(explanation.scores[image, 0], np.log(found[k].score), rtol=1e-4, atol=1e-6)
        assert np.isnan(explanation.maps[1 - image]).all()


def test_sides_are_autograd_of_the_kept_box_by_hand(net: nn.Module) -> None:
    found = cc.detect(net, X, min_score=least(net)).of(0)
    # What the model cuts off at the border has no gradient there; a row has.
    k = next(k for k, one in enumerate(found) if one.box[0] > 0 and one.box[3] < 64)
    for of, side in (("x0", 0), ("y1", 3)):
        explanation = cc.ODAM(net).explain(X, cc.targets.Boxes(found[k], of=of))
        hand = by_hand(net, X, 0, lambda own, side=side: own["boxes"][k, side])[found[k].level]
        np.testing.assert_allclose(explanation.maps[0, 0], hand, atol=1e-4 * np.abs(hand).max())
        np.testing.assert_allclose(explanation.scores[0, 0], found[k].box[side], rtol=1e-4)
        assert explanation.targets[0][0].signed
        assert (explanation.maps[0] < 0).any()


def test_boxes_of_several_levels_are_on_the_finest_grid_of_them() -> None:
    net = random_detector("retina")
    found = cc.detect(net, X, min_score=least(net)).of(0)
    levels = sorted({one.level for one in found})
    assert len(levels) > 1
    some = [next(one for one in found if one.level == level) for level in levels]
    method = cc.ODAM(net)
    together = method.explain(X[:1], cc.targets.Boxes(some))
    assert together.layer == "+".join(f"backbone[{level}]" for level in levels)
    for k, one in enumerate(some):
        alone = method.explain(X[:1], cc.targets.Boxes(one))
        fine = resample(alone.maps, together.maps.shape[2:], "cubic")
        np.testing.assert_allclose(together.maps[0, k], fine[0, 0], atol=1e-6)
        np.testing.assert_allclose(together.scores[0, k], alone.scores[0, 0], rtol=1e-5)


def test_a_map_lies_where_the_model_puts_its_grid(net: nn.Module) -> None:
    found = cc.detect(net, X, min_score=least(net))
    explanation = cc.ODAM(net).explain(X, cc.targets.Boxes(found[0]))
    rows, columns = explanation.centers
    # 64 × 88 pixels become 96 × 132, padded to 96 × 160; SSD squeezes them to 96 × 96.
    squeezed = not hasattr(net, "rpn") and not hasattr(net.anchor_generator, "sizes")
    width = 88 if squeezed else 160 * 88 / 132
    assert rows[0] == pytest.approx(64 / len(rows) / 2 - 0.5)
    assert columns[-1] == pytest.approx(width * (1 - 0.5 / len(columns)) - 0.5, abs=0.5)


def test_a_detector_that_is_left_in_training_mode_is_refused() -> None:
    with pytest.raises(InputError) as error:
        cc.detect(random_detector("retina").train(), X)
    one_line(error, "training mode", "model.eval()")


def test_rows_of_other_inputs_are_refused() -> None:
    net = random_detector("retina")
    found = cc.detect(net, X, min_score=least(net)).of(0)
    with pytest.raises(TargetError) as error:
        cc.ODAM(net).explain(X[:1, :, :32, :32], cc.targets.Boxes(found[0]))
    one_line(error, f"row {found[0].row}", "cc.detect")


def test_a_mask_is_the_mean_of_its_logits_by_hand() -> None:
    net = random_detector("mask")
    found = cc.detect(net, X, min_score=least(net)).of(1)
    logits: list[Tensor] = []
    handle = net.roi_heads.mask_predictor.register_forward_hook(lambda module, args, out: logits.append(out))

    def score(own: dict[str, Tensor]) -> Tensor:
        # The masks of both images follow each other; those of the second are the last.
        mask = logits[-1][len(logits[-1]) - len(own["labels"]) + 2, own["labels"][2]]
        return mask[mask > 0].mean()

    explanation = cc.ODAM(net, signed=True).explain(X, cc.targets.Mask(found[2]))
    levels = by_hand(net, X, 1, score)
    handle.remove()
    (info,) = explanation.targets[1]
    assert info.name == f"mask of {found[2]}"
    assert explanation.layer == f"backbone[{info.level}]"
    hand = levels[info.level]
    np.testing.assert_allclose(explanation.maps[1, 0], hand, atol=1e-4 * np.abs(hand).max())
    assert np.abs(hand).max() > 0


@pytest.mark.parametrize("which", [1, "left eye"])
def test_a_keypoint_is_the_highest_logit_of_its_heat_map_by_hand(which: Any) -> None:
    net = random_detector("keypoint")
    found = cc.detect(net, X, min_score=least(net)).of(1)
    logits: list[Tensor] = []
    handle = net.roi_heads.keypoint_predictor.register_forward_hook(lambda _, args, out: logits.append(out))

    def score(own: dict[str, Tensor]) -> Tensor:
        return logits[-1][len(logits[-1]) - len(own["labels"]) + 2, 1].max()

    explanation = cc.ODAM(net, signed=True).explain(X, cc.targets.Keypoint(found[2], which))
    levels = by_hand(net, X, 1, score)
    handle.remove()
    (info,) = explanation.targets[1]
    assert info.name == f"left eye of {found[2]}"
    assert explanation.layer == f"backbone[{info.level}]"
    hand = levels[info.level]
    np.testing.assert_allclose(explanation.maps[1, 0], hand, atol=1e-4 * np.abs(hand).max())
    assert np.abs(hand).max() > 0
    highest = logits[-1][len(logits[-1]) - len(kept(net, X)[1]["labels"]) + 2, 1].max().item()
    np.testing.assert_allclose(explanation.scores[1, 0], highest, rtol=1e-5)


@pytest.mark.parametrize(("which", "words"), [(3, ("keypoint 3", "0 to 2")), ("left eyes", ("left eye",))])
def test_keypoints_that_are_not_there_are_refused(which: Any, words: tuple[str, ...]) -> None:
    net = random_detector("keypoint")
    found = cc.detect(net, X[:1], min_score=least(net))
    with pytest.raises(TargetError) as error:
        cc.ODAM(net).explain(X[:1], cc.targets.Keypoint(found[0], which))
    one_line(error, *words)


def test_detectors_without_masks_have_none() -> None:
    net = random_detector("faster")
    found = cc.detect(net, X[:1], min_score=least(net))
    with pytest.raises(ModelError) as error:
        cc.ODAM(net).explain(X[:1], cc.targets.Mask(found[0]))
    one_line(error, "FasterRCNN", "no masks", "cc.targets.Boxes")
    with pytest.raises(ModelError) as error:
        cc.ODAM(net).explain(X[:1], cc.targets.Keypoint(found[0], 0))
    one_line(error, "FasterRCNN", "no keypoints", "Region.peak")
