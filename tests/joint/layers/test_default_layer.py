"""The default layer is the last that counts."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from explained import AT_INPUT, AT_LAYER, X, batches_seen, seeded
from helpers import one_line
from torch import Tensor, nn

import chronocam as cc
from chronocam.engines import LayerCall
from chronocam.errors import LayerError, ModelError
from chronocam.joint.layers.branches import way_around
from chronocam.joint.layers.default_layer import _explained
from chronocam.methods import METHODS

# The default layer


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.conv2(self.conv1(x).relu())).relu()


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.block1, self.block2 = Block(), Block()
        self.drop, self.keep = nn.Dropout2d(0.5), nn.Identity()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(2), nn.Linear(16, 5)
        self.aside = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.keep(self.drop(self.block2(self.block1(self.stem(x)))))
        self.never_used = self.aside(x).shape
        return self.fc(self.pool(x).flatten(1))


def test_the_default_layer_is_the_last_that_counts_after_the_residual_add() -> None:
    assert cc.GradCAM(seeded(Residual)).explain(X).layer == "block2"
    for name in AT_LAYER:
        if name != "cam":
            assert METHODS[name](seeded(Residual)).explain(X[:1], 1).layer == "block2"
    for name in AT_INPUT:
        assert METHODS[name](seeded(Residual)).explain(X[:1], 1).layer == "input"


def test_the_default_layer_is_looked_for_once_and_with_one_sample() -> None:
    net = seeded()
    seen = batches_seen(net)
    method = cc.GradCAM(net)
    method.explain(X)
    assert seen == [1] * (len(seen) - 1) + [7]
    assert 1 < len(seen) <= 6  # one of them with a backward pass
    seen.clear()
    method.explain(X)
    assert seen == [7]
    seen.clear()
    cc.explain(net, X, methods=["gradcam", "layercam", "hirescam"])
    assert seen.count(7) == 1


def test_the_default_layer_of_a_dense_network_is_not_its_output() -> None:
    net = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)))
    assert cc.GradCAM(net).explain(X, cc.targets.Region((0, 0, 2, 2), 1)).layer == "1"


def test_without_any_grid_a_layer_must_be_named() -> None:
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 9), nn.ReLU(), nn.Linear(9, 5)))
    with pytest.raises(LayerError) as error:
        cc.GradCAM(net).explain(X)
    one_line(error, "no layer of the model has a grid", "conv_layer=", "layout=")
    assert cc.Saliency(net).explain(X).maps.shape == (7, 1, 16, 16)


def test_the_default_layer_of_a_resnet_is_its_last_stage() -> None:
    resnet = seeded(pytest.importorskip("torchvision").models.resnet18)
    assert cc.GradCAM(resnet).explain(torch.randn(1, 3, 64, 64)).layer == "layer4"


def test_the_default_layer_of_a_model_with_an_input_without_batch_axis() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            assert scale.shape == (3, 1, 1)
            return self.fc(self.conv(x * scale).relu().mean((2, 3)))

    x, scale = torch.randn(4, 3, 16, 16), torch.rand(3, 1, 1)
    assert cc.GradCAM(seeded(Scaled)).explain((x, scale), 1).layer == "conv"


class Attention(nn.Module):
    """Attention of queries to tokens, without what it is added to."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        weights = self.q_proj(queries) @ self.k_proj(tokens).transpose(1, 2)
        return weights.softmax(-1) @ self.v_proj(tokens)


class Pooled(nn.Module):
    """Patches, a block, and a head in which a learnt query pools them."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.attention, self.norm = nn.Conv2d(3, 8, 4, 4), Attention(), nn.LayerNorm(8)
        self.query, self.pool, self.fc = nn.Parameter(torch.randn(1, 1, 8)), Attention(), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = self.norm(tokens + self.attention(tokens, tokens))
        return self.fc(self.pool(self.query.expand(len(x), -1, -1), tokens)[:, 0])


def test_values_that_a_query_pools_are_a_branch() -> None:
    assert cc.GradCAM(seeded(Pooled)).explain(X).layer == "norm"


class Scales(nn.Module):
    """Features of two scales, both of which the head reads; the coarser is a plain convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)
        self.fc = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x).relu()
        coarse = self.coarse(fine).relu()
        return self.fc(torch.cat([fine.mean((2, 3)), coarse.mean((2, 3))], 1))


def test_a_way_around_from_another_grid_makes_no_branch() -> None:
    assert cc.GradCAM(seeded(Scales)).explain(X).layer == "coarse"


class Added(nn.Module):
    """A residual branch that is added where no module returns the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch, self.fc = nn.Conv2d(3, 4, 3, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.fc((x + self.branch(x)).mean((2, 3)))


def test_a_branch_whose_sum_no_layer_returns_gives_way_to_what_it_is_added_to() -> None:
    assert cc.GradCAM(seeded(Added)).explain(X).layer == "stem"


class InNumPy(nn.Module):
    """Prepares its input where PyTorch does not follow."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Pooled()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.from_numpy(x.numpy()))


def test_what_cannot_be_followed_from_the_input_is_from_the_first_layer() -> None:
    assert cc.GradCAM(seeded(InNumPy)).explain(X).layer.startswith("net.")


def call(path: str, parents: tuple[int, ...] | None, scored: bool = False) -> LayerCall:
    return LayerCall(path, "Conv2d", (1, 2, 4, 4), True, parents=parents, scored=scored)


def test_a_way_around_leads_over_the_same_grid_to_the_score() -> None:
    # stem → norm → branch, and stem + branch → sum → score
    calls = [call("stem", (-1,)), call("norm", (0,)), call("branch", (1,)), call("sum", (0, 2), True)]
    every = {0, 1, 2, 3}
    assert [way_around(calls, {at}, every, {-1}) for at in range(4)] == [False, True, True, False]
    assert not way_around(calls, {2}, {1, 2}, {-1})  # it is on another grid
    assert not way_around(calls, {2}, every, {-2})  # of another input nothing is known
    assert not way_around([call("a", None), call("b", None, True)], {1}, every, {-1})


class Beside(nn.Module):
    """Two heads on one grid, of which the score reads one."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.boxes, self.classes = nn.Conv2d(3, 8, 3, 4, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        f = self.body(x).relu()
        return torch.cat([self.boxes(f).mean((2, 3)), self.classes(f).relu().mean((2, 3))], 1)


def test_a_layer_on_which_the_score_does_not_depend_is_no_way_around() -> None:
    assert cc.GradCAM(seeded(Beside)).explain(X, 5).layer == "classes"


def test_branches_that_exchange_class_tokens_are_explained_at_their_last_patches() -> None:
    # From the first stage on, each branch knows of the other: only the convolutions are on every way.
    crossvit = pytest.importorskip("timm.models.crossvit")
    shape = {"img_size": 48, "img_scale": (1.0, 1.0), "patch_size": (12, 16), "num_classes": 3}
    size = {
        "embed_dim": (16, 32),
        "num_heads": (2, 2),
        "depth": ([1, 1, 0], [1, 1, 0]),
        "mlp_ratio": (2, 2, 1),
    }
    net = seeded(lambda: crossvit.CrossVit(**shape, **size)).eval()
    found = cc.GradCAM(net).explain(torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0)), 0)
    assert found.layer.startswith("blocks.1.fusion.")
    assert found.layer.endswith("norm1")
    (said,) = (one.text for one in found.findings if one.kind == "default layer")
    assert said.startswith(f"beside layer `{found.layer}`, class tokens or other branches lead to the score")


def test_a_layer_before_others_that_mix_all_places_is_chosen_with_its_reason() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.mix = nn.Conv2d(3, 8, 4, 4), nn.Linear(64, 16)
            self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.mix(self.a(x).flatten(2)).mT
            return self.head(self.norm(tokens).mean(1))

    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = cc.GradCAM(seeded(Mixed).eval()).explain(x, 0)
    assert found.layer == "a"
    (why,) = [one.text for one in found.findings if one.kind == "default layer"]
    assert why.startswith("layer `a` is explained, the deepest whose cells follow the places of the input")
    assert "those of `norm` (4 × 4) do not" in why


@pytest.mark.parametrize(("net", "beside"), [(Scales, True), (Residual, False), (Beside, False)])
def test_other_ways_to_the_score_than_through_the_layer_are_told(net: type[nn.Module], beside: bool) -> None:
    found = cc.GradCAM(seeded(net)).explain(X, 4)
    said = [one.text for one in found.findings if one.kind == "default layer"]
    assert any("other branches lead to the score" in text for text in said) == beside


@pytest.mark.parametrize("legacy", [False, True])
def test_tokens_within_patches_give_way_to_tokens_of_patches(legacy: bool) -> None:
    tnt = pytest.importorskip("timm.models.tnt")
    size = {"img_size": 48, "embed_dim": 32, "inner_dim": 8, "num_heads_inner": 2, "num_heads_outer": 2}
    net = seeded(lambda: tnt.TNT(num_classes=3, depth=2, legacy=legacy, **size))
    found = cc.GradCAM(net).explain(torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0)), 0)
    assert (found.layer, found.maps.shape) == ("blocks.1.norm_out", (1, 1, 3, 3))


class Instances(nn.Module):
    """A bag of patches of a picture, each with its features, weighed by attention or by the largest."""

    def __init__(self, weigh: str, of_features: bool) -> None:
        super().__init__()
        self.weigh, self.stem = weigh, nn.Conv2d(3, 8, 3, 2, 1) if of_features else nn.Identity()
        self.cut, self.of_features = nn.Unfold(4, stride=4), of_features
        self.cnn, self.linear = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU()), nn.Linear(128, 8)
        self.hidden, self.gate = nn.Sequential(nn.Linear(8, 8), nn.Tanh()), nn.Sequential(nn.Linear(8, 8))
        self.weight, self.fc = nn.Linear(8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.cut(self.stem(x).relu()).mT
        if self.of_features:
            features = self.linear(patches).relu()
        else:
            rows = self.cnn(patches.reshape(-1, 3, 4, 4)).mean((2, 3))
            features = rows.view(len(x), -1, 8)
        if self.weigh == "largest":
            return self.fc(features).amax(1)
        hidden = self.hidden(features)
        hidden = hidden * self.gate(features).sigmoid() if self.weigh == "gated" else hidden
        return self.fc((self.weight(hidden).softmax(1) * features).sum(1))


@pytest.mark.parametrize("weigh", ["attention", "gated", "largest"])
@pytest.mark.parametrize(("of_features", "layer"), [(False, "cnn"), (True, "linear")])
def test_instances_are_explained_at_their_features_and_not_at_their_weights(
    weigh: str, of_features: bool, layer: str
) -> None:
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    if of_features and weigh == "largest":
        layer = "stem"  # of their features the score of a class is that of one
    assert cc.GradCAM(seeded(lambda: Instances(weigh, of_features))).explain(x, 1).layer == layer


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_a_part_without_gradients_is_explained_at_its_end(mode: Callable[[], Any]) -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, 8, 3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            with mode():
                return self.a(x).relu()

    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part, self.fc = Part(), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.part(x).clone().mean((2, 3)))

    net = seeded(Frozen)
    found = cc.GradCAM(net, signed=True).explain(X, 1)
    assert found.layer == "part"
    features = net.part(X).clone()
    weights = net.fc.weight[1] / features[0, 0].numel()
    right = (features * weights[:, None, None]).sum(1).detach()
    np.testing.assert_allclose(found.maps[:, 0], right, rtol=1e-4, atol=1e-6)


def test_copies_that_a_model_makes_of_each_picture_are_told() -> None:
    class Averaged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cnn, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            both = self.fc(self.cnn(torch.cat([x, x.flip(3)])).relu().mean((2, 3)))
            return both.view(2, len(x), 3).mean(0)

    with pytest.raises(LayerError, match=r"2 rows for each sample, .* mirrored copies"):
        cc.GradCAM(seeded(Averaged)).explain(X, 1)


def test_a_layer_that_does_not_follow_is_named_before_one_that_is_too_coarse() -> None:
    grids = {"a": (6, 6), "b": (3, 3), "c": (2, 2)}
    every: Any = {path: SimpleNamespace(grid=grid) for path, grid in grids.items()}
    assert "those of `b` (3 × 3) do not" in _explained("a", "c", every, ["b"]).why
    assert "where `c` has 2 × 2" in _explained("a", "c", every, []).why


def test_the_first_call_may_come_from_inference_mode() -> None:
    net = seeded(Residual)
    with torch.inference_mode():
        found = cc.GradCAM(net).explain(X, 4)
    np.testing.assert_array_equal(found.maps, cc.GradCAM(seeded(Residual)).explain(X, 4).maps)


def test_a_model_without_values_is_refused() -> None:
    with torch.device("meta"):
        net = Residual()
    with pytest.raises(ModelError, match="meta device"):
        cc.GradCAM(net).explain(X, 4)


class Shortcut(nn.Module):
    """Adds a projection of the input to what three layers made of it, and no layer returns the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(nn.Conv2d(c, 8, 3, 1, 1) for c in (3, 8, 8)))
        self.shortcut, self.fc = nn.Conv2d(3, 8, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc((self.blocks(x) + self.shortcut(x)).relu().mean((2, 3)))


def test_the_longer_of_two_branches_is_explained_though_its_shortcut_comes_last() -> None:
    found = cc.GradCAM(seeded(Shortcut)).explain(torch.rand(1, 3, 16, 16), 1)
    assert found.layer == "blocks"
    assert any("beside layer `blocks`" in text for text in found.diagnostics)


class Enlarged(nn.Module):
    """A picture of twice the size, of features on the given one's own grid."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 32, 3, 1, 1))
        self.shuffle, self.last = nn.PixelShuffle(2), nn.Conv2d(8, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.shuffle(self.body(x))) + 0.5


def test_an_enlarged_picture_is_explained_where_it_is_not_yet_enlarged() -> None:
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = cc.GradCAM(seeded(Enlarged)).explain(x, lambda y: y[:, :, 8:12, 8:12].mean((1, 2, 3)))
    assert found.layer == "body"


def test_a_network_without_a_grid_is_told_of_methods_of_the_input() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 4)).eval()
    x = torch.rand(1, 3, 4, 4)
    with pytest.raises(LayerError, match=r"no layer .* or take a method of the input such as cc\.Occlusion"):
        cc.GradCAM(net).explain(x, 1)
    assert cc.Occlusion(net, window=2, stride=2).explain(x, 1).maps.shape == (1, 1, 4, 4)
