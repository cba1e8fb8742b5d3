"""The bundled networks for depth and motion: their record holds, and maps add up to the outputs."""

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

import chronocam as cc
from chronocam.lab.data.drives import drive
from chronocam.lab.models.odometry import load_odometry, odometry_record, side_by_side
from chronocam.lab.train.odometry.footage import Rendered
from chronocam.lab.train.odometry.measure import measure
from chronocam.odometry import SFMLEARNER, PoseLoss, RotationAngle, TranslationNorm
from chronocam.runs.drives.networks import networks_of

WEIGHTS = Path(str(files("chronocam.lab"))) / "weights"
MOTION = ("tx", "ty", "tz", "rx", "ry", "rz")


def pairs(index: int) -> torch.Tensor:
    """Frames of a drive beside the ones that follow, as the networks take them."""
    frames = torch.from_numpy(drive(index, seed=3).pixels).permute(0, 3, 1, 2) / 127.5 - 1
    return side_by_side(frames[:-1], frames[1:, None])


def test_weights_are_small_and_the_record_is_as_training_writes_it() -> None:
    assert (WEIGHTS / "odometry.safetensors").stat().st_size <= 3_000_000
    text, record = (WEIGHTS / "odometry.json").read_text(), odometry_record()
    assert text == json.dumps(record, indent=2) + "\n"
    assert record["command"].startswith("chronocam train odometry --data drives ")
    assert "/" not in record["command"]
    loaded = cc.models.load("chronocam:odometry")
    assert loaded.labels == MOTION
    assert loaded.preprocess.resize == (64, 208)
    assert not any(module.training for module in loaded.model.modules())


def test_the_loss_of_their_training_is_what_is_explained() -> None:
    networks = networks_of(cc.models.load("chronocam:odometry").model)
    assert networks is not None
    assert networks.loss == replace(SFMLEARNER, outside=True, smooth="edge", smooth_weight=0.002)


def test_the_record_tells_of_better_answers_than_those_that_take_no_network() -> None:
    figures = odometry_record()["held-out"]
    network, fixed = figures["depth"]["network"], figures["depth"]["mean depth"]
    for name in ("abs rel", "rmse log"):
        assert network[name][2] < fixed[name][1]
    for k in (1, 2, 3):
        assert network[f"within 1.25^{k}"][1] > fixed[f"within 1.25^{k}"][2]
    moves = figures["motion"]
    assert moves["network"]["ate"][2] < moves["standing still"]["ate"][1]
    assert (
        moves["network"]["rotation error in degrees"][2]
        < moves["standing still"]["rotation error in degrees"][1]
    )


@pytest.mark.slow
def test_the_networks_are_as_good_as_their_record_says() -> None:
    """On the first drives that the record was measured on; the spread between drives is what may differ."""
    found, stated = (
        measure(load_odometry(), [Rendered(i, "test", (64, 208)) for i in range(20)]),
        odometry_record(),
    )
    for what, name in (("depth", "abs rel"), ("motion", "ate"), ("motion", "rotation error in degrees")):
        _, low, high = found[what]["network"][name]
        _, least, most = stated["held-out"][what]["network"][name]
        assert low - (high - low) < most
        assert high + (high - low) > least


def test_signed_maps_before_the_head_sum_to_the_pose() -> None:
    """The head is linear and a mean: output j = 0.01·(mean over the grid of Σ_k W_jk A_k, + b_j)."""
    net, frames = load_odometry().pose.double(), pairs(0).double()
    targets = [cc.targets.Regression(name) for name in MOTION]
    explanation = cc.CAM(net, "conv7").explain(frames, targets)
    with torch.no_grad():
        outputs = net(frames).numpy()
    bias = 0.01 * net.pose_pred.bias.detach().numpy()
    scale = np.abs(outputs).max()
    found = cc.GradCAM(net, "conv7").explain(frames, targets)
    # Grad-CAM's weights hold the mean over the grid already, CAM's do not.
    np.testing.assert_allclose(found.maps.sum(axis=(2, 3)) + bias, outputs, atol=1e-6 * scale)
    np.testing.assert_allclose(explanation.maps.mean(axis=(2, 3)) + bias, outputs, atol=1e-6 * scale)


def test_maps_turn_with_the_sign_of_the_target_and_losses_are_explained_beside_outputs() -> None:
    network, truth = load_odometry(), drive(0, seed=3)
    frames = pairs(0)
    loss = PoseLoss(SFMLEARNER, network.depth, torch.from_numpy(truth.intrinsics), term="photometric")
    targets = [
        cc.targets.Regression("ry"),
        cc.targets.Regression("ry", -1),
        TranslationNorm(),
        RotationAngle(),
        loss.target(frames),
    ]
    found = cc.GradCAM(network.pose).explain(frames, targets)
    np.testing.assert_allclose(found.maps[:, 0], -found.maps[:, 1], rtol=1e-5, atol=1e-9)
    assert [info.name for info in found.targets[0]] == [
        "ry",
        "−ry",
        "‖t‖",
        "rotation angle",
        "negative photometric loss",
    ]
    with torch.no_grad():
        poses = network.pose(frames).numpy()
    np.testing.assert_allclose(found.scores[:, 2], np.linalg.norm(poses[:, :3], axis=1), rtol=1e-5)
    operated = cc.GradCAM(network.pose, operator=loss).explain(frames)
    np.testing.assert_allclose(operated.scores[:, 0], found.scores[:, 4], rtol=1e-5)
    np.testing.assert_allclose(operated.maps[:, 0], found.maps[:, 4], rtol=1e-4, atol=1e-9)
    assert (operated.maps < 0).any(), "an operator that says it is signed keeps both signs"
    assert operated.targets[0][0].name == "negative photometric loss"
