"""Maps averaged over views of each picture."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import InputError

X = torch.rand(2, 3, 16, 12, generator=torch.Generator().manual_seed(0))


def net(rank: int = 2) -> nn.Sequential:
    torch.manual_seed(1)
    conv: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    pool: Any = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[rank - 1]
    layers = [conv(3, 6, 3, 2, 1), nn.Tanh(), conv(6, 5, 3, 1, 1), nn.ReLU()]
    return nn.Sequential(*layers, pool(1), nn.Flatten(), nn.Linear(5, 4)).eval()


@pytest.mark.parametrize("name", ["gradcam", "ablationcam", "reciprocam", "inputxgradient", "blurig"])
def test_a_flip_is_the_mean_of_both_sides(name: str) -> None:
    method = cc.methods.METHODS[name]
    options: dict[str, Any] = (
        {"signed": True} if name.endswith("cam") else {"steps": 9} if name == "blurig" else {}
    )
    model = net()
    plain, mirrored = (method(model, **options).explain(x, [1, 2]).maps for x in (X, X.flip(-1)))
    found = method(model, views="flip", **options).explain(X, [1, 2]).maps
    np.testing.assert_allclose(found, (plain + mirrored[..., ::-1]) / 2, atol=1e-6)
    assert np.abs(found - plain).max() > 1e-5


def test_a_flip_changes_nothing_where_the_network_does_not_tell_left_from_right() -> None:
    model = net()
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.copy_((layer.weight + layer.weight.flip(-1)) / 2)
        model[0].stride = (1, 1)
    found, plain = (cc.GradCAM(model, signed=True, views=v).explain(X, 1).maps for v in ("flip", None))
    np.testing.assert_allclose(found, plain, atol=1e-6)


def test_targets_and_scores_are_those_of_the_picture_itself() -> None:
    """A network whose class is where the picture is bright: its mirror image is of the other class."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.AdaptiveAvgPool2d((1, 2)), nn.Flatten())
    nn.init.ones_(model[0].weight)
    x = torch.zeros(1, 1, 4, 4)
    x[..., :2] = torch.rand(4, 2, generator=torch.Generator().manual_seed(0)) + 1
    found, plain = (cc.HiResCAM(model, "0", views=v).explain(x) for v in ("flip", None))
    assert found.targets[0][0].index == plain.targets[0][0].index == 0
    np.testing.assert_array_equal(found.scores, plain.scores)
    np.testing.assert_allclose(found.maps, plain.maps / 2, atol=1e-7)  # the mirror image has no left side


@pytest.mark.parametrize("views", ["scale", "crop", "flip+scale"])
def test_clips_and_fused_layers_have_views_too(views: str) -> None:
    clip = torch.rand(1, 3, 6, 16, 16, generator=torch.Generator().manual_seed(0))
    plain, found = (cc.GradCAM(net(3), views=v, signed=True).explain(clip, 1).maps for v in (None, views))
    assert found.shape == plain.shape
    assert np.abs(found - plain).max() > 1e-6
    both = cc.LayerCAM(net(), ["0", "2"], views=views, fuse="mean").explain(X, 1).maps
    assert both.shape == (2, 1, 8, 6)


@pytest.mark.parametrize("views", ["flip", "scale"])
def test_a_function_that_names_no_place_is_explained(views: str) -> None:
    dense = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))

    def whole(out: Any) -> Tensor:
        return out["seen"][:, 1].mean((1, 2)) + out["rest"].amax((1, 2))

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = dense

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            y = self.dense(x)
            return {"seen": y, "rest": y[:, 0]}

    method = cc.GradCAM(Named(), "dense.0", views=views)
    assert method.explain(X, whole).maps.any()
    assert method.explain(
        X, cc.targets.NegativeLoss(lambda out, y: (whole(out) - y) ** 2, X[:, 0, 0, 0])
    ).maps.any()
    rows = cc.GradCAM(net(), "0", views=views).explain(X, lambda out: out[:, 1] - out[:, 0])
    assert rows.maps.any()


def test_what_views_do_not_fit_is_refused() -> None:
    for options, x, target, text in (
        ({"views": "flop"}, X, 1, "no views `flop`"),
        ({"views": 3}, X, 1, "no views `3`;"),
        ({"views": "flip", "align": "receptive_field"}, X, 1, "aligned by half pixels only"),
        ({"views": "flip"}, X[..., 0], 1, "for pictures and clips"),
    ):
        with pytest.raises(InputError, match=text):
            cc.GradCAM(net(1 if x.ndim == 3 else 2), **options).explain(x, target)
    dense = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    region = cc.targets.Region(np.ones((16, 12), bool), 1)
    boxes = cc.blackbox(lambda x: np.zeros((len(x), 1, 6)) + 0.5)
    for method, target in (
        (cc.GradCAM(dense, views="flip"), [region]),
        (cc.GradCAM(dense, views="flip"), cc.targets.Counter(region)),
        (cc.RISE(boxes, views="scale"), cc.targets.Boxes(top=1)),
    ):
        with pytest.raises(InputError, match="the place that a region or a box marks"):
            method.explain(X.numpy(), target)
    marked = torch.zeros(len(X), 16, 12)
    marked[:, 4:9, 2:7] = 1
    for place in (
        lambda out: out[:, 1, 8, 6],
        cc.targets.NegativeLoss(lambda out, y: ((out[:, 1] - y) ** 2).mean(), marked),
        cc.targets.Counter(lambda out: out[:, 0, :4].mean((1, 2))),
    ):
        with pytest.raises(InputError, match=r"move what is where, and the score of `.*` hangs on that"):
            cc.GradCAM(dense, views="flip").explain(X, place)
    steps = cc.blackbox(lambda x: x.mean(1), axes="tf")
    with pytest.raises(InputError, match="are for pictures and clips"):
        cc.Occlusion(steps, views="flip").explain(X[:, 0].numpy(), 1)
