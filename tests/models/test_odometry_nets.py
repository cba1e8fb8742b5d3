"""SfMLearner's two networks: each layer against a replica, published counts and files, explanations."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import ChronocamError, InputError, ModelError
from chronocam.joint.layers.default_layer import is_usable
from chronocam.models import DepthNet, PoseNet, load
from chronocam.models.odometry.checkpoints import load_published
from chronocam.targets import Norm, Region, Regression
from chronocam.types import Capture

# The published layers and the shapes of their weights; of upconv, input channels come first.
DEPTH = {
    **{
        "conv1.0": (32, 3, 7, 7),
        "conv1.2": (32, 32, 7, 7),
        "conv2.0": (64, 32, 5, 5),
        "conv2.2": (64, 64, 5, 5),
    },
    **{"conv3.0": (128, 64, 3, 3), "conv3.2": (128, 128, 3, 3), "conv4.0": (256, 128, 3, 3)},
    **{"conv4.2": (256, 256, 3, 3), "conv5.0": (512, 256, 3, 3), "conv5.2": (512, 512, 3, 3)},
    **{"conv6.0": (512, 512, 3, 3), "conv6.2": (512, 512, 3, 3), "conv7.0": (512, 512, 3, 3)},
    **{"conv7.2": (512, 512, 3, 3), "upconv7.0": (512, 512, 3, 3), "upconv6.0": (512, 512, 3, 3)},
    **{"upconv5.0": (512, 256, 3, 3), "upconv4.0": (256, 128, 3, 3), "upconv3.0": (128, 64, 3, 3)},
    **{"upconv2.0": (64, 32, 3, 3), "upconv1.0": (32, 16, 3, 3), "iconv7.0": (512, 1024, 3, 3)},
    **{"iconv6.0": (512, 1024, 3, 3), "iconv5.0": (256, 512, 3, 3), "iconv4.0": (128, 256, 3, 3)},
    **{"iconv3.0": (64, 129, 3, 3), "iconv2.0": (32, 65, 3, 3), "iconv1.0": (16, 17, 3, 3)},
    **{"predict_disp4.0": (1, 128, 3, 3), "predict_disp3.0": (1, 64, 3, 3)},
    **{"predict_disp2.0": (1, 32, 3, 3), "predict_disp1.0": (1, 16, 3, 3)},
}
POSE = {
    **{
        "conv1.0": (16, 9, 7, 7),
        "conv2.0": (32, 16, 5, 5),
        "conv3.0": (64, 32, 3, 3),
        "conv4.0": (128, 64, 3, 3),
    },
    **{"conv5.0": (256, 128, 3, 3), "conv6.0": (256, 256, 3, 3), "conv7.0": (256, 256, 3, 3)},
    **{"pose_pred": (12, 256, 1, 1)},
}
MASKS = {
    **{"upconv5.0": (256, 256, 4, 4), "upconv4.0": (256, 128, 4, 4), "upconv3.0": (128, 64, 4, 4)},
    **{"upconv2.0": (64, 32, 4, 4), "upconv1.0": (32, 16, 4, 4), "predict_mask4": (2, 128, 3, 3)},
    **{"predict_mask3": (2, 64, 3, 3), "predict_mask2": (2, 32, 3, 3), "predict_mask1": (2, 16, 3, 3)},
}
FIVE_FRAMES = {**POSE, "conv1.0": (16, 15, 7, 7), "pose_pred": (24, 256, 1, 1)}

Table = Mapping[str, tuple[int, ...]]


def parameters(table: Table) -> dict[str, Tensor]:
    """Return weights and biases, each filled with a number of its own; they take no room in a file."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in table.items():
        shapes[f"{name}.weight"] = shape
        shapes[f"{name}.bias"] = (shape[1 if name.startswith("upconv") else 0],)
    return {name: torch.tensor(i / 100).expand(shape) for i, (name, shape) in enumerate(shapes.items())}


def size(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def seeded(make: Callable[[], Any]) -> Any:
    """Return a network in eval mode whose biases are not zero and whose activations do not fade."""
    torch.manual_seed(0)
    net = make().eval()
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim == 1:
                p.uniform_(-0.2, 0.4)
    return net


# The architecture


def test_as_many_parameters_as_published() -> None:
    assert size(DepthNet()) == sum(p.numel() for p in parameters(DEPTH).values()) == 31_596_900
    assert size(PoseNet(2)) == sum(p.numel() for p in parameters(POSE).values()) == 1_590_668
    assert size(PoseNet(2, masks=True)) == sum(p.numel() for p in parameters({**POSE, **MASKS}).values())


def test_width_scales_every_layer() -> None:
    half = DepthNet(0.5).state_dict()
    for name, shape in DEPTH.items():
        out = shape[0] if shape[0] == 1 else shape[0] // 2
        assert half[f"{name}.weight"].shape[0] == out
    assert PoseNet(3, 0.25).conv1[0].weight.shape == (4, 12, 7, 7)  # type: ignore[index,union-attr]
    assert PoseNet(1, 0.01).conv1[0].weight.shape == (4, 6, 7, 7)  # type: ignore[index,union-attr]
    assert size(PoseNet(1, 2)) > size(PoseNet(1))


def depth_replica(p: Mapping[str, Tensor], x: Tensor) -> list[Tensor]:
    """Return the four disparities, written out layer by layer."""

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        w = p[f"{name}.weight"]
        return F.relu(F.conv2d(x, w, p[f"{name}.bias"], stride, (w.shape[2] - 1) // 2))

    def up(name: str, x: Tensor, like: Tensor) -> Tensor:
        w, b = p[f"{name}.0.weight"], p[f"{name}.0.bias"]
        return F.relu(F.conv_transpose2d(x, w, b, 2, 1, 1))[..., : like.shape[2], : like.shape[3]]

    def disparity(name: str, x: Tensor) -> Tensor:
        return 10 * torch.sigmoid(F.conv2d(x, p[f"{name}.0.weight"], p[f"{name}.0.bias"], 1, 1)) + 0.01

    def double(d: Tensor, like: Tensor) -> Tensor:
        d = F.interpolate(d, scale_factor=2, mode="bilinear", align_corners=False)
        return d[..., : like.shape[2], : like.shape[3]]

    c1 = conv("conv1.2", conv("conv1.0", x, 2))
    c2 = conv("conv2.2", conv("conv2.0", c1, 2))
    c3 = conv("conv3.2", conv("conv3.0", c2, 2))
    c4 = conv("conv4.2", conv("conv4.0", c3, 2))
    c5 = conv("conv5.2", conv("conv5.0", c4, 2))
    c6 = conv("conv6.2", conv("conv6.0", c5, 2))
    c7 = conv("conv7.2", conv("conv7.0", c6, 2))
    i7 = conv("iconv7.0", torch.cat([up("upconv7", c7, c6), c6], 1))
    i6 = conv("iconv6.0", torch.cat([up("upconv6", i7, c5), c5], 1))
    i5 = conv("iconv5.0", torch.cat([up("upconv5", i6, c4), c4], 1))
    i4 = conv("iconv4.0", torch.cat([up("upconv4", i5, c3), c3], 1))
    d4 = disparity("predict_disp4", i4)
    i3 = conv("iconv3.0", torch.cat([up("upconv3", i4, c2), c2, double(d4, c2)], 1))
    d3 = disparity("predict_disp3", i3)
    i2 = conv("iconv2.0", torch.cat([up("upconv2", i3, c1), c1, double(d3, c1)], 1))
    d2 = disparity("predict_disp2", i2)
    i1 = conv("iconv1.0", torch.cat([up("upconv1", i2, x), double(d2, x)], 1))
    return [disparity("predict_disp1", i1), d2, d3, d4]


@pytest.mark.parametrize("hw", [(64, 96), (37, 51), (5, 1)])
def test_depth_against_a_replica(hw: tuple[int, int]) -> None:
    net = seeded(lambda: DepthNet(0.125)).double()
    x = torch.randn(2, 3, *hw, dtype=torch.float64)
    with torch.no_grad():
        expected, found = depth_replica(dict(net.named_parameters()), x), net.disparities(x)
        assert [tuple(d.shape) for d in found] == [
            (2, 1, -(-hw[0] // s), -(-hw[1] // s)) for s in (1, 2, 4, 8)
        ]
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        assert found[0].std() > 1e-3 or hw == (5, 1)
        torch.testing.assert_close(net(x), 1 / expected[0])


def pose_replica(p: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return poses `(batch, source, 6)` and the four masks, written out layer by layer."""

    def conv(n: int, x: Tensor) -> Tensor:
        w = p[f"conv{n}.0.weight"]
        return F.relu(F.conv2d(x, w, p[f"conv{n}.0.bias"], 2, (w.shape[2] - 1) // 2))

    def up(n: int, x: Tensor, like: Tensor) -> Tensor:
        out = F.relu(F.conv_transpose2d(x, p[f"upconv{n}.0.weight"], p[f"upconv{n}.0.bias"], 2, 1))
        return out[..., : like.shape[2], : like.shape[3]]

    def mask(n: int, x: Tensor) -> Tensor:
        return torch.sigmoid(F.conv2d(x, p[f"predict_mask{n}.weight"], p[f"predict_mask{n}.bias"], 1, 1))

    c1 = conv(1, x)
    c2 = conv(2, c1)
    c3 = conv(3, c2)
    c4 = conv(4, c3)
    c5 = conv(5, c4)
    c7 = conv(7, conv(6, c5))
    head = F.conv2d(c7, p["pose_pred.weight"], p["pose_pred.bias"])
    poses = 0.01 * head.mean(3).mean(2).view(len(x), -1, 6)
    u4 = up(4, up(5, c5, c4), c3)
    u3 = up(3, u4, c2)
    u2 = up(2, u3, c1)
    u1 = up(1, u2, x)
    return poses, [mask(1, u1), mask(2, u2), mask(3, u3), mask(4, u4)]


@pytest.mark.parametrize("hw", [(64, 96), (37, 51)])
def test_poses_and_masks_against_a_replica(hw: tuple[int, int]) -> None:
    net = seeded(lambda: PoseNet(2, 0.25, masks=True)).double()
    x = torch.randn(3, 9, *hw, dtype=torch.float64)
    with torch.no_grad():
        poses, masks = pose_replica(dict(net.named_parameters()), x)
        torch.testing.assert_close(net.poses(x), poses, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(net(x), poses.reshape(3, 12), rtol=1e-12, atol=1e-14)
        for a, b in zip(net.masks(x), masks, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
            assert a.std() > 1e-3
    assert poses.abs().max() > 1e-3


def test_the_outputs_have_names() -> None:
    assert PoseNet(width=0.1).labels == ("tx", "ty", "tz", "rx", "ry", "rz")
    assert PoseNet(2, 0.1).labels[6:8] == ("tx of source 2", "ty of source 2")
    assert not hasattr(DepthNet(0.1), "labels")


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    depth, pose = DepthNet(0.25), PoseNet(1, 0.25, masks=True)
    x = torch.randn(2, 6, 128, 160)
    loss = (
        sum(d.mean() for d in depth.disparities(x[:, :3]))
        + pose.poses(x).sum()
        + sum(m.mean() for m in pose.masks(x))
    )
    loss.backward()  # type: ignore[union-attr]
    for net in (depth, pose):
        for name, p in net.named_parameters():
            assert p.grad is not None, name
            assert p.grad.any(), name


@pytest.mark.parametrize(
    ("use", "error", "words"),
    [
        (lambda: DepthNet(0), ModelError, "width is 0; expected a number above 0"),
        (lambda: PoseNet(1, -1.0), ModelError, "width is -1.0"),
        (lambda: PoseNet(0), ModelError, "0 sources; expected at least 1"),
        (
            lambda: DepthNet(0.1)(torch.zeros(1, 6, 8, 8)),
            InputError,
            "(1, 6, 8, 8); expected (batch, 3, height, width)",
        ),
        (lambda: DepthNet(0.1)(torch.zeros(3, 8, 8)), InputError, "(3, 8, 8)"),
        (lambda: PoseNet(1, 0.1)(torch.zeros(1, 3, 8, 8)), InputError, "expected (batch, 6, height, width)"),
        (lambda: PoseNet(1, 0.1).masks(torch.zeros(1, 6, 8, 8)), ModelError, "masks=True"),
    ],
)
def test_sizes_and_options_that_do_not_fit_are_refused(
    use: Callable[[], object], error: type[ChronocamError], words: str
) -> None:
    with pytest.raises(error) as caught:
        use()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# Published checkpoints


def written(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("form", ["wrapped", "bare", "parallel", "old"])
def test_a_published_depth_checkpoint_is_loaded(form: str, tmp_path: Path) -> None:
    given = parameters(DEPTH)
    content: Any = {"epoch": 7, "state_dict": given}
    if form == "bare":
        content = given
    elif form == "parallel":
        content = {"state_dict": {f"module.{name}": value for name, value in given.items()}}
    path = written(
        tmp_path / "dispnet_model_best.pth.tar", content, _use_new_zipfile_serialization=form != "old"
    )
    net = load_published(path)
    assert isinstance(net, DepthNet)
    assert not net.training
    found = dict(net.named_parameters())
    assert found.keys() == given.keys()
    for name, value in given.items():
        torch.testing.assert_close(found[name].detach(), value.clone(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("table", "sources", "masks"), [(POSE, 2, False), ({**POSE, **MASKS}, 2, True), (FIVE_FRAMES, 4, False)]
)
def test_a_published_pose_checkpoint_is_loaded(
    table: Table, sources: int, masks: bool, tmp_path: Path
) -> None:
    given = parameters(table)
    path = written(tmp_path / "exp_pose_model_best.pth.tar", {"epoch": 7, "state_dict": given})
    net = load_published(path)
    assert isinstance(net, PoseNet)
    assert not net.training
    assert (net.sources, net.has_masks, len(net.labels)) == (sources, masks, 6 * sources)
    found = dict(net.named_parameters())
    assert found.keys() == given.keys()
    assert all(bool((found[name] == value).all()) for name, value in given.items())


def test_checkpoints_load_by_their_specs(tmp_path: Path) -> None:
    path = written(tmp_path / "exp_pose_model_best.pth.tar", parameters(POSE))
    loaded = load(f"sfmlearner:{path}")
    assert loaded.labels == loaded.model.labels
    picture = np.full((256, 832, 3), 255, np.uint8)
    picture[:, :416] = 0
    from PIL import Image

    x = loaded.preprocess(Image.fromarray(picture))
    assert x.shape == (3, 128, 416)
    assert (x[:, :, :200] == -1).all()
    assert (x[:, :, -200:] == 1).all()
    assert load(f"sfmlearner:{written(tmp_path / 'd.tar', parameters(DEPTH))}").labels is None
    with pytest.raises(ModelError, match="there is no file"):
        load("sfmlearner:nowhere.pth.tar")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (Evil(), "cannot be read as a checkpoint"),
        ([1, 2], "holds a list, not a dict of tensors"),
        ({"epoch": 3}, "not a dict of tensors"),
        ({}, "no parameter `predict_disp1.0.weight`"),
        ({"fc.weight": torch.zeros(3)}, "no parameter"),
        (
            {**parameters(POSE), "conv2.0.weight": torch.zeros(32, 16, 3, 3)},
            "(32, 16, 3, 3), expected shape (32, 16, 5, 5)",
        ),
        ({n: v for n, v in parameters(POSE).items() if n != "conv6.0.bias"}, "`conv6.0.bias` is missing"),
        (
            {**parameters(POSE), "conv8.0.bias": torch.zeros(3)},
            "`conv8.0.bias` has shape (3,), expected no such",
        ),
        ({**parameters(POSE), "pose_pred.weight": torch.zeros(13, 256, 1, 1)}, "6 outputs for each source"),
    ],
)
def test_files_that_hold_something_else(
    content: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "other.pth.tar", content)
    with pytest.raises(ModelError) as error:
        load_published(path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no file"):
        load_published(tmp_path / "c")
    (tmp_path / "c").write_bytes(written(tmp_path / "b", parameters(DEPTH)).read_bytes()[:500])
    with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
        load_published(tmp_path / "c")


# Explanations


@pytest.mark.parametrize("sources", [1, 2])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-7), (torch.float64, 1e-9)])
def test_maps_before_the_head_and_its_bias_are_the_outputs(
    sources: int, dtype: torch.dtype, tolerance: float
) -> None:
    """Output j is 0.01·(mean over the grid of Σ_k W_jk A_k + b_j): CAM averages to it, Grad-CAM sums to it.

    An explanation holds its maps in float32, whatever the precision of the network.
    """
    net = seeded(lambda: PoseNet(sources, 0.5)).to(dtype)
    x = torch.randn(2, 3 + 3 * sources, 200, 416, dtype=dtype)
    y, bias = net(x).detach().numpy(), 0.01 * net.pose_pred.bias.detach().numpy()
    targets = [Regression(j) for j in range(6 * sources)]
    mean = cc.CAM(net, "conv7").explain(x, targets).maps.mean(axis=(2, 3), dtype=float) + bias
    total = cc.GradCAM(net, "conv7").explain(x, targets).maps.sum(axis=(2, 3), dtype=float) + bias
    assert np.abs(y).max() > 1e-3
    np.testing.assert_allclose(mean, y, rtol=0, atol=tolerance)
    np.testing.assert_allclose(total, y, rtol=0, atol=tolerance)


def test_the_same_in_full_precision() -> None:
    net = seeded(lambda: PoseNet(1, 0.5)).double()
    x = torch.randn(2, 6, 200, 416, dtype=torch.float64)
    found: list[Tensor] = []
    handle = net.conv7.register_forward_hook(lambda module, given, out: found.append(out))
    y = net(x)
    handle.remove()
    gradients = torch.stack(
        [torch.autograd.grad(y[:, j].sum(), found[0], retain_graph=True)[0] for j in range(6)], 1
    )
    maps = cc.GradCAM(net, "conv7").combine(Capture(found[0].detach(), gradients))
    bias = 0.01 * net.pose_pred.bias
    torch.testing.assert_close(maps.sum((2, 3)) + bias, y, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("hw", "layer", "grid", "skipped"),
    [
        ((128, 416), "conv5", (4, 13), "1 × 4"),
        ((256, 832), "conv6", (4, 13), "2 × 7"),
        ((64, 208), "conv5", (2, 7), "1 × 2"),
        ((416, 416), "pose_pred", (4, 4), None),
    ],
)
def test_the_default_layer_is_the_deepest_with_a_usable_grid(
    hw: tuple[int, int], layer: str, grid: tuple[int, int], skipped: str | None
) -> None:
    net = seeded(lambda: PoseNet(1, 0.25))
    found = cc.GradCAM(net).explain(torch.randn(1, 6, *hw), Regression("tz"))
    assert (found.layer, found.maps.shape[2:]) == (layer, grid)
    notes = [note for note in found.diagnostics if "usable" in note]
    if skipped is None:
        assert notes == []
    else:
        cells = " × ".join(map(str, grid))
        (note,) = notes
        assert note.startswith(f"layer `{layer}` is explained, the deepest with a usable grid: {cells} cells")
        assert f"`pose_pred` has {skipped}" in note
    named = cc.GradCAM(net, layer).explain(torch.randn(1, 6, *hw), Regression("tz"))
    assert not any("usable" in note for note in named.diagnostics)


@pytest.mark.parametrize(
    ("grid", "within", "usable"),
    [
        ((7, 7), (224, 224), True),
        ((4, 4), (1000, 1000), True),
        ((3, 3), (96, 96), True),  # 32 pixels to a cell
        ((3, 3), (100, 100), True),  # and a remainder
        ((2, 2), (64, 64), True),
        ((2, 2), (128, 128), False),
        ((1, 4), (128, 416), False),
        ((4, 1), (128, 64), False),
        ((1, 16), (32, 64), True),  # a line of text
        ((1, 8), (1, 64), True),
        ((2, 7, 7), (16, 112, 112), True),  # time is another matter
        ((1, 7, 7), (16, 112, 112), True),
        ((4, 3, 3), (16, 224, 224), False),
        ((3,), (1000,), False),
        ((4,), (1000,), True),
    ],
)
def test_grids_of_few_cells_are_not_usable(
    grid: tuple[int, ...], within: tuple[int, ...], usable: bool
) -> None:
    assert is_usable(grid, within) == usable


@pytest.mark.parametrize("hw", [(64, 64), (96, 100), (32, 256), (224, 224)])
def test_classifiers_keep_their_default_layer(hw: tuple[int, int]) -> None:
    resnet = seeded(pytest.importorskip("torchvision").models.resnet18)
    found = cc.GradCAM(resnet).explain(torch.randn(1, 3, *hw))
    assert found.layer == "layer4"
    assert not any("usable" in note for note in found.diagnostics)


class Strided(nn.Module):
    """Blocks with a sum inside, the last two with cells too wide to be of use."""

    class Block(nn.Module):
        def __init__(self, channels: int, stride: int) -> None:
            super().__init__()
            self.shrink = nn.Conv2d(channels, 8, stride, stride)
            self.change = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.shrink(x).relu()
            return x + self.change(x).relu()

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(self.Block(3 if i == 0 else 8, 4) for i in range(4)))
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean((2, 3)))


def test_a_step_back_ends_after_a_block_and_not_in_its_branch() -> None:
    net = seeded(Strided)
    found = cc.GradCAM(net).explain(torch.randn(1, 3, 256, 512), 0)
    assert (found.layer, found.maps.shape[2:]) == ("blocks.2", (4, 8))
    assert any("4 × 8 cells, where `blocks` has 1 × 2;" in note for note in found.diagnostics)


@pytest.mark.parametrize("hw", [(64, 208), (128, 416)])
def test_where_the_output_is_as_fine_as_the_input_cells_of_four_pixels_are_taken(hw: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = DepthNet(0.125).eval()
    found = cc.GradCAM(net).explain(torch.randn(1, 3, *hw), cc.targets.Region((10, 10, 20, 20)))
    assert found.layer == "iconv3"
    assert found.maps.shape[2:] == (hw[0] // 4, hw[1] // 4)
    assert any("where `predict_disp1` has" in note for note in found.diagnostics)


def test_a_network_that_keeps_the_size_of_its_input_keeps_its_last_layer() -> None:
    torch.manual_seed(0)
    body = (nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
    net = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = cc.GradCAM(net.eval()).explain(torch.randn(1, 3, 8, 8), 0)
    assert found.maps.shape[2:] == (8, 8)
    assert found.layer == "3"


def test_where_no_grid_is_usable_the_last_is_taken() -> None:
    net = seeded(
        lambda: nn.Sequential(nn.Conv2d(3, 16, (64, 8), 8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2))
    )
    found = cc.GradCAM(net).explain(torch.randn(1, 3, 64, 64), 0)
    assert (found.layer, found.maps.shape[2:]) == ("1", (1, 8))
    assert not any("usable" in note for note in found.diagnostics)


def test_depth_at_a_pixel_and_in_a_box() -> None:
    net = seeded(lambda: DepthNet(0.125))
    x = torch.randn(2, 3, 64, 96)
    found = cc.HiResCAM(net, "iconv4").explain(x, [Region((40, 20)), Region((8, 8, 24, 16))])
    depth = net(x).detach().numpy()[:, 0]
    np.testing.assert_allclose(found.scores[:, 0], depth[:, 20, 40], rtol=1e-6)
    np.testing.assert_allclose(found.scores[:, 1], depth[:, 8:16, 8:24].mean((1, 2)), rtol=1e-6)
    assert str(found.targets[0][0]) == "pixel (40, 20)"


def test_speed_is_the_norm_of_three_outputs() -> None:
    net = seeded(lambda: PoseNet(1, 0.25))
    x = torch.randn(2, 6, 128, 160)
    found = cc.GradCAM(net, "conv5").explain(x, [Norm(["tx", "ty", "tz"]), Norm([3, 4, 5])])
    pose = net(x).detach().numpy()
    expected = np.stack([np.linalg.norm(pose[:, :3], axis=1), np.linalg.norm(pose[:, 3:], axis=1)], axis=1)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-5)
    assert str(found.targets[0][1]) == "norm of rx, ry, rz"
