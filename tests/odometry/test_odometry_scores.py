"""Losses and motion as scores: the loss by hand, finite differences, signs, and through a method."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor, nn
from torch.autograd import gradcheck

import chronocam as cc
from chronocam.errors import InputError, TargetError
from chronocam.odometry import SFMLEARNER, DepthLoss, PoseLoss, RotationAngle, TranslationNorm
from chronocam.types import Outputs, Target

K = torch.tensor([[14.0, 0, 7.5], [0, 14, 5.5], [0, 0, 1]], dtype=torch.float64)
LOSS = replace(SFMLEARNER, scales=2)
SIZE = (12, 16)


class TinyDepth(nn.Module):
    """Depth and two disparities of smooth convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Dropout(0.5), nn.Conv2d(4, 1, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return 1 / self.disparities(x)[0]

    def disparities(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = 0.2 + torch.sigmoid(self.body(x))
        return fine, nn.functional.avg_pool2d(fine, 2)


class TinyPose(nn.Module):
    """Poses of two sources."""

    def __init__(self, sources: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3 * (1 + sources), 5, 3, stride=2, padding=1)
        self.act = nn.Tanh()
        self.head = nn.Conv2d(5, 6 * sources, 1)

    def forward(self, x: Tensor) -> Tensor:
        return 0.1 * self.head(self.act(self.conv(x))).mean((2, 3))

    def poses(self, x: Tensor) -> Tensor:
        return self(x).reshape(len(x), -1, 6)


@pytest.fixture
def nets() -> tuple[TinyDepth, TinyPose]:
    torch.manual_seed(0)
    return TinyDepth().double().eval(), TinyPose().double().eval()


@pytest.fixture
def frames() -> Tensor:
    """Smooth frames as the networks see them, in [−1, 1], `(3, 9, height, width)`."""
    noise = torch.rand(3, 9, 6, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return 2 * nn.functional.interpolate(noise, SIZE, mode="bilinear") - 1


def parts(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Target and sources in [0, 1]."""
    pictures = frames.reshape(len(frames), 3, 3, *SIZE) / 2 + 0.5
    return pictures[:, 0], pictures[:, 1:]


def outputs(values: Tensor) -> Outputs:
    return Outputs(values, lambda: values, slice(0, len(values)))


# The negative loss is the loss


def test_pose_loss_is_the_negative_loss(nets: tuple[TinyDepth, TinyPose], frames: Tensor) -> None:
    depth, pose = nets
    expected = LOSS(*parts(frames), depth.disparities(frames[:, :3]), pose.poses(frames), K)
    for options, value in (
        ({}, expected.total),
        ({"term": "photometric"}, expected.photometric),
        ({"term": "photometric", "source": 1}, expected.photometric_parts[:, :, 1].sum(1)),
        ({"term": "photometric", "source": 0, "scale": 1}, expected.photometric_parts[:, 1, 0]),
        ({"scale": 0}, expected.term("total", scale=0)),
    ):
        found = PoseLoss(LOSS, depth, K, **options)(pose, frames)
        np.testing.assert_allclose(found.detach(), -value.detach())
        assert (found < 0).all()


def test_depth_loss_is_the_negative_loss(nets: tuple[TinyDepth, TinyPose], frames: Tensor) -> None:
    depth, pose = nets
    expected = LOSS(*parts(frames), depth.disparities(frames[:, :3]), pose.poses(frames), K)
    for options, value in (
        ({}, expected.total),
        ({"term": "photometric", "source": 0}, expected.photometric_parts[:, :, 0].sum(1)),
        ({"term": "smoothness"}, expected.smoothness),
        ({"term": "smoothness", "scale": 1}, expected.smoothness_parts[:, 1]),
    ):
        found = DepthLoss(LOSS, pose, K, **options)(depth, frames[:, :3], frames[:, 3:])
        np.testing.assert_allclose(found.detach(), -value.detach())


def test_fixed_depth_and_fixed_poses(nets: tuple[TinyDepth, TinyPose], frames: Tensor) -> None:
    depth, pose = nets
    with torch.no_grad():
        depths, poses = depth(frames[:, :3]), pose.poses(frames)
    one_scale = LOSS(*parts(frames), depths, poses, K).total
    np.testing.assert_allclose(PoseLoss(LOSS, depths, K)(pose, frames).detach(), -one_scale)
    np.testing.assert_allclose(PoseLoss(LOSS, depths.numpy(), K.numpy())(pose, frames).detach(), -one_scale)
    all_scales = LOSS(*parts(frames), depth.disparities(frames[:, :3]), poses, K).total
    found = DepthLoss(LOSS, poses, K)(depth, frames[:, :3], frames[:, 3:].numpy())
    np.testing.assert_allclose(found.detach(), -all_scales.detach())
    flat = DepthLoss(LOSS, poses.flatten(1), K[None].repeat(3, 1, 1))(depth, frames[:, :3], frames[:, 3:])
    np.testing.assert_allclose(flat.detach(), found.detach())
    same = PoseLoss(LOSS, depths[:1], K[None])(pose, frames)
    np.testing.assert_allclose(
        same.detach(), -LOSS(*parts(frames), depths[:1].expand(3, -1, -1, -1), poses, K).total
    )


def test_networks_without_the_methods_are_called(nets: tuple[TinyDepth, TinyPose], frames: Tensor) -> None:
    depth, pose = nets
    found = PoseLoss(LOSS, lambda x: depth(x), K)(pose, frames)
    np.testing.assert_allclose(
        found.detach(), PoseLoss(LOSS, depth(frames[:, :3]).detach(), K)(pose, frames).detach()
    )
    by_call = DepthLoss(LOSS, lambda x: pose(x), K)(depth, frames[:, :3], frames[:, 3:])
    np.testing.assert_allclose(
        by_call.detach(), DepthLoss(LOSS, pose, K)(depth, frames[:, :3], frames[:, 3:]).detach()
    )


def test_inputs_become_pictures_by_mean_and_std(nets: tuple[TinyDepth, TinyPose], frames: Tensor) -> None:
    _, pose = nets
    depths = torch.full((1, 1, *SIZE), 2.0, dtype=torch.float64)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    shape = torch.tensor([std, mean]).reshape(2, 1, 3, 1, 1)
    pictures = frames.reshape(3, 3, 3, *SIZE) * shape[0] + shape[1]
    expected = LOSS(pictures[:, 0], pictures[:, 1:], depths.expand(3, -1, -1, -1), pose.poses(frames), K)
    found = PoseLoss(LOSS, depths, K, mean=mean, std=std)(pose, frames)
    np.testing.assert_allclose(found.detach(), -expected.total.detach(), rtol=1e-6)
    ssim = replace(LOSS, photometric="ssim")
    norms = ((0.5, 0.5), (0, 1), (0, 0.5))
    values = {PoseLoss(ssim, depths, K, mean=m, std=s)(pose, frames)[0].item() for m, s in norms}
    assert len(values) == 3


def test_the_frames_of_the_loss_may_stay_clean(nets: tuple[TinyDepth, TinyPose], frames: Tensor) -> None:
    depth, pose = nets
    blurred = 0.5 * frames
    expected = LOSS(*parts(frames), depth.disparities(frames[:, :3]), pose.poses(blurred), K).total
    score = PoseLoss(LOSS, depth, K)
    np.testing.assert_allclose(score(pose, blurred, frames.numpy()).detach(), -expected.detach())
    assert not torch.allclose(score(pose, blurred), score(pose, blurred, frames))


# Gradients


def test_gradients_by_finite_differences(nets: tuple[TinyDepth, TinyPose], frames: Tensor) -> None:
    depth, pose = nets
    x = frames[:1].clone().requires_grad_()
    with torch.no_grad():
        depths, poses = depth(x[:, :3]), pose.poses(x)
    loss = replace(LOSS, outside=True)

    def of_pose(x: Tensor) -> Tensor:
        return PoseLoss(loss, depths, K)(pose, x)

    def of_depth(x: Tensor) -> Tensor:
        return DepthLoss(loss, poses, K)(depth, x[:, :3], x[:, 3:])

    assert gradcheck(of_pose, x, eps=1e-7, atol=1e-5, fast_mode=True)
    assert gradcheck(of_depth, x, eps=1e-7, atol=1e-5, fast_mode=True)


def test_what_is_held_gets_no_gradient_and_stays_as_found(
    nets: tuple[TinyDepth, TinyPose], frames: Tensor
) -> None:
    depth, pose = nets
    depth.train()
    depth.body[0].eval()
    x = frames.clone().requires_grad_()
    score = PoseLoss(LOSS, depth, K)(pose, x)
    assert all(
        g is None
        for g in torch.autograd.grad(
            score.sum(), list(depth.parameters()), allow_unused=True, retain_graph=True
        )
    )
    (found,) = torch.autograd.grad(score.sum(), x)
    constant = tuple(d.detach() for d in depth.eval().disparities(frames[:, :3]))
    expected_score = -LOSS(*parts(x), constant, pose.poses(x), K).total
    np.testing.assert_allclose(score.detach(), expected_score.detach())  # without dropout
    np.testing.assert_allclose(found, torch.autograd.grad(expected_score.sum(), x)[0])
    depth.train()
    depth.body[0].eval()
    PoseLoss(LOSS, depth, K)(pose, frames)
    assert [m.training for m in depth.modules()] == [True, True, False, True, True, True]


def test_a_step_up_the_score_lowers_the_loss(nets: tuple[TinyDepth, TinyPose], frames: Tensor) -> None:
    depth, pose = nets
    score = PoseLoss(LOSS, depth, K)
    before = score(pose, frames).sum()
    grads = torch.autograd.grad(before, list(pose.parameters()))
    with torch.no_grad():
        for p, g in zip(pose.parameters(), grads, strict=True):
            p += 1e-3 * g
        assert score(pose, frames).sum() > before


# Through a method


def test_losses_are_operators_of_methods(nets: tuple[TinyDepth, TinyPose], frames: Tensor) -> None:
    depth, pose = nets
    found = cc.HiResCAM(pose, "act", operator=PoseLoss(LOSS, depth, K), signed=True).explain(frames)
    activations = pose.act(pose.conv(frames)).detach().requires_grad_()
    poses = 0.1 * pose.head(activations).mean((2, 3)).reshape(3, 2, 6)
    loss = LOSS(*parts(frames), tuple(d.detach() for d in depth.disparities(frames[:, :3])), poses, K).total
    (gradient,) = torch.autograd.grad(-loss.sum(), activations)
    np.testing.assert_allclose(found.scores[:, 0], -loss.detach(), rtol=1e-6)
    np.testing.assert_allclose(found.maps[:, 0], (gradient * activations).sum(1).detach(), atol=1e-7)


def test_depth_loss_as_operator(nets: tuple[TinyDepth, TinyPose], frames: Tensor) -> None:
    depth, pose = nets
    score = DepthLoss(LOSS, pose, K)
    found = cc.HiResCAM(depth, "body.1", operator=score, signed=True, batch_size=2).explain(
        frames[:, :3], frames[:, 3:]
    )
    np.testing.assert_allclose(
        found.scores[:, 0], score(depth, frames[:, :3], frames[:, 3:]).detach().numpy(), rtol=1e-6
    )
    assert np.abs(found.maps).max() > 0


def test_as_one_of_several_targets(nets: tuple[TinyDepth, TinyPose], frames: Tensor) -> None:
    depth, pose = nets
    depths = depth(frames[:, :3]).detach()
    score = PoseLoss(LOSS, depths, K[None].repeat(3, 1, 1), term="photometric", source=1)
    targets = [TranslationNorm(1), RotationAngle(0), score.target(frames)]
    found = cc.HiResCAM(pose, "act", batch_size=2).explain(frames, targets)
    assert [str(t) for t in found.targets[0]] == [
        "‖t‖ of source 2",
        "rotation angle of source 1",
        "negative photometric loss of source 2",
    ]
    poses = pose.poses(frames).detach().numpy()
    np.testing.assert_allclose(found.scores[:, 0], np.linalg.norm(poses[:, 1, :3], axis=1), rtol=1e-5)
    turned = Rotation.from_euler("XYZ", poses[:, 0, 3:]).magnitude()
    np.testing.assert_allclose(found.scores[:, 1], turned, rtol=1e-5)
    np.testing.assert_allclose(found.scores[:, 2], score(pose, frames).detach().numpy(), rtol=1e-5)
    assert (found.maps < 0).any()  # both signs are kept
    assert (found.maps > 0).any()


def test_depth_loss_as_target(nets: tuple[TinyDepth, TinyPose], frames: Tensor) -> None:
    depth, pose = nets
    found = cc.HiResCAM(depth, "body.1").explain(
        frames[:, :3], [DepthLoss(LOSS, pose, K).target(frames.numpy())]
    )
    with torch.no_grad():
        expected = LOSS(*parts(frames), depth(frames[:, :3]), pose.poses(frames), K).total
    np.testing.assert_allclose(found.scores[:, 0], -expected.numpy(), rtol=1e-6)
    assert str(found.targets[0][0]) == "negative loss"


def test_scores_are_named_by_their_term() -> None:
    assert PoseLoss(LOSS, 1, K).name == "negative loss"
    assert PoseLoss(LOSS, 1, K, term="photometric").name == "negative photometric loss"
    assert DepthLoss(LOSS, 1, K, term="smoothness", scale=2).name == "negative smoothness loss at scale 2"
    assert PoseLoss.signed


# Motion


def test_norm_and_angle_by_hand() -> None:
    poses = torch.tensor([[3.0, 0, -4, 0, 0.25, 0], [0, 0, 0, 0, 0, 0]], requires_grad=True)
    norm, angle = TranslationNorm()(outputs(poses)), RotationAngle()(outputs(poses))
    np.testing.assert_allclose(norm.values.detach(), [[5], [0]])
    np.testing.assert_allclose(angle.values.detach(), [[0.25], [0]], rtol=1e-6)
    assert [[str(i) for i in row] for row in norm.infos] == [["‖t‖"], ["‖t‖"]]
    assert str(angle.infos[0][0]) == "rotation angle"
    (gradient,) = torch.autograd.grad((norm.values + angle.values).sum(), poses)
    np.testing.assert_allclose(gradient, [[0.6, 0, -0.8, 0, 1, 0], [0] * 6], atol=1e-6)
    assert TranslationNorm.signed
    assert RotationAngle.signed


def test_norm_and_angle_by_finite_differences() -> None:
    poses = (
        0.3 * torch.randn(2, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ).requires_grad_()
    for target in (TranslationNorm(1), RotationAngle(1), RotationAngle(0, "axis-angle")):
        assert gradcheck(lambda p, target=target: target(outputs(p)).values, poses)


def test_the_rotation_is_what_it_is_said_to_be() -> None:
    poses = torch.tensor([[0.0, 0, 0, 0.4, -0.5, 0.6]])
    as_vector = float(RotationAngle(rotation="axis-angle")(outputs(poses)).values)
    assert as_vector == pytest.approx(np.sqrt(0.77))
    assert float(RotationAngle()(outputs(poses)).values) != pytest.approx(as_vector, abs=1e-3)


# Errors


def test_targets_of_motion_that_is_not_there_are_refused() -> None:
    for target, values, words in (
        (TranslationNorm(2), torch.ones(1, 12), "no source 2; the poses are of 2, 0 to 1"),
        (RotationAngle(-1), torch.ones(1, 6), "no source -1"),
        (TranslationNorm(), torch.ones(1, 5), r"outputs have shape \(1, 5\); expected poses"),
        (TranslationNorm(), torch.ones(1, 6, 2), r"outputs have shape \(1, 6, 2\)"),
    ):
        refuses(target, values, words)


def refuses(target: Target, values: Tensor, words: str) -> None:
    with pytest.raises(TargetError, match=words):
        target(outputs(values))


def test_an_unknown_rotation_of_an_angle_is_refused() -> None:
    with pytest.raises(InputError, match="no rotation `quaternion`"):
        RotationAngle(rotation="quaternion")(outputs(torch.ones(1, 6)))


def test_terms_that_do_not_depend_on_the_output() -> None:
    with pytest.raises(
        TargetError, match="no score `smoothness` of a PoseLoss; choose one of total, photometric"
    ):
        PoseLoss(LOSS, 1, K, term="smoothness")
    with pytest.raises(TargetError, match=r"no score `photo` of a DepthLoss.*choose one of"):
        DepthLoss(LOSS, 1, K, term="photo")


Call = Callable[[TinyDepth, TinyPose, Tensor], Any]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda d, p, f: PoseLoss(LOSS, d, K)(p, f[:, :3]), InputError, "two frames or more"),
        (lambda d, p, f: PoseLoss(LOSS, None, K)(p, f), InputError, "depth is missing"),
        (lambda d, p, f: PoseLoss(LOSS, d, None)(p, f), InputError, "intrinsics are missing"),
        (lambda d, p, f: PoseLoss(LOSS, d, 0 * K)(p, f), InputError, "singular"),
        (lambda d, p, f: PoseLoss(LOSS, d(f[:2, :3]), K)(p, f), InputError, "depth has 2 rows; expected 3"),
        (
            lambda d, p, f: PoseLoss(LOSS, d, K.expand(4, 3, 3))(p, f),
            InputError,
            "intrinsics has 4 rows; expected 3",
        ),
        (
            lambda d, p, f: PoseLoss(LOSS, d, K)(p, f, f[:, :6]),
            InputError,
            r"targets have shape \(3, 6, 12, 16\)",
        ),
        (
            lambda d, p, f: PoseLoss(LOSS, d, K)(lambda x: p(x)[:, :6], f),
            TargetError,
            r"expected \(3, 12\) for 2",
        ),
        (lambda d, p, f: PoseLoss(LOSS, d, K)(lambda x: p(x)[:, :5], f), TargetError, "expected poses"),
        (lambda d, p, f: PoseLoss(LOSS, d, K, scale=2)(p, f), InputError, "no scale 2"),
        (lambda d, p, f: PoseLoss(LOSS, torch.nan * d(f[:, :3]), K)(p, f), InputError, "depth is not finite"),
        (lambda d, p, f: DepthLoss(LOSS, p, K)(d, f[:, :3]), TargetError, "needs the sources as targets"),
        (
            lambda d, p, f: DepthLoss(LOSS, p, K)(d, f[:, :3], f[:, 3:, 2:]),
            InputError,
            "the sources have shape",
        ),
        (
            lambda d, p, f: DepthLoss(LOSS, p, K)(lambda x: x, f[:, :3], f[:, 3:]),
            TargetError,
            "expected depth",
        ),
        (lambda d, p, f: DepthLoss(LOSS, None, K)(d, f[:, :3], f[:, 3:]), InputError, "pose is missing"),
        (
            lambda d, p, f: DepthLoss(LOSS, p, K, source=1)(d, f[:, :3], f[:, 3:]),
            InputError,
            "the total of one",
        ),
    ],
)
def test_scores_refuse_calls_that_do_not_fit(
    nets: tuple[TinyDepth, TinyPose], frames: Tensor, call: Call, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call(*nets, frames)


def test_too_few_frames_for_the_sources_are_refused(nets: tuple[TinyDepth, TinyPose], frames: Tensor) -> None:
    depth, pose = nets
    with pytest.raises(TargetError, match="frames has 2 rows; expected 3, one per sample"):
        cc.HiResCAM(pose, "act").explain(frames, [PoseLoss(LOSS, depth, K).target(frames[:2])])
