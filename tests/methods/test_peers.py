"""Parity with other libraries where they are right, and the closed form as the judge where they are not.

Raw maps are compared, before the ReLU, scaling and resizing that every library does differently.
"""

import warnings
from typing import Any

import numpy as np
import pytest
import replicas
import torch
from replicas import CLOSED, Bent, Pooled, for_each, inputs, seeded
from torch import Tensor, nn

import chronocam as cc
from chronocam.methods import METHODS

CLASSES = [1, 3]  # one class per sample
LAYER = "features.2"


def deviation(found: Any, expected: Any) -> float:
    """Return the largest difference, as a share of the largest expected value."""
    found, expected = (np.asarray(v, dtype=np.float64) for v in (found, expected))
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def unscaled(maps: Any) -> np.ndarray:
    """Return maps with 1 for their largest magnitude, so that a mere factor is no difference."""
    maps = np.asarray(maps, dtype=np.float64)
    return maps / np.abs(maps).max(axis=tuple(range(1, maps.ndim)), keepdims=True)


def bent(rank: int = 2, in_place: bool = False) -> Bent:
    return seeded(lambda: Bent(rank, in_place=in_place))


def ours(name: str, net: nn.Module, x: Tensor, layer: str | None = LAYER, **options: Any) -> np.ndarray:
    return METHODS[name](net, layer, **options).explain(x, CLASSES).maps[:, 0]


def at_the_layer(name: str, net: nn.Module, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return activations, and the gradients of each sample's score, by plain autograd."""
    a = net.features(x).detach()

    def score(activations: Tensor) -> Tensor:
        logits = net.rest(activations)
        if name == "finercam":
            return replicas.finer_score(logits, CLASSES, 1.0, 3)[:, None]
        return torch.stack([logits[i, c] for i, c in enumerate(CLASSES)])[:, None]

    return a.numpy(), replicas.gradients(score, a)


def closed(name: str, net: nn.Module, x: Tensor) -> np.ndarray:
    """Return the raw map by the closed form."""
    return for_each(CLOSED[name], *at_the_layer(name, net, x))[:, 0]


# captum


@pytest.fixture(scope="module")
def captum() -> Any:
    return pytest.importorskip("captum.attr", reason="captum is not installed")


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gradcam_equals_captum(captum: Any, rank: int) -> None:
    net, x = bent(rank), inputs(rank)
    theirs = captum.LayerGradCam(net, net.features[2]).attribute(x, target=CLASSES)[:, 0].detach()
    assert deviation(ours("gradcam", net, x, signed=True), theirs) < 1e-5
    theirs = captum.LayerGradCam(net, net.features[2]).attribute(x, target=CLASSES, relu_attributions=True)
    assert deviation(ours("gradcam", net, x), theirs[:, 0].detach()) < 1e-5


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", ["saliency", "inputxgradient", "guidedbackprop", "guidedgradcam"])
@pytest.mark.filterwarnings("ignore:Setting backward hooks", "ignore:.*requires_grad", "ignore:Input Tensor")
def test_captum_at_the_input(captum: Any, name: str, rank: int) -> None:
    net, x = bent(rank), inputs(rank)
    if name == "guidedgradcam":
        mode = ("linear", "bilinear", "trilinear")[rank - 1]
        theirs = captum.GuidedGradCam(net, net.features[2]).attribute(x, CLASSES, interpolate_mode=mode)
    else:
        kind = {
            "saliency": "Saliency",
            "inputxgradient": "InputXGradient",
            "guidedbackprop": "GuidedBackprop",
        }
        theirs = getattr(captum, kind[name])(net).attribute(x.clone().requires_grad_(), target=CLASSES)
    theirs = theirs.detach().numpy()
    layer = LAYER if name == "guidedgradcam" else None
    assert deviation(ours(name, net, x, layer, reduce="max"), np.abs(theirs).max(1)) < 1e-5
    if name != "saliency":  # captum's has lost its signs
        assert deviation(ours(name, net, x, layer, reduce="sum"), theirs.sum(1)) < 1e-5


# grad-cam


@pytest.fixture(scope="module")
def grad_cam() -> Any:
    return pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")


def raw_of_grad_cam(
    grad_cam: Any, kind: str, net: nn.Module, x: Tensor, classes: list[int] = CLASSES
) -> np.ndarray:
    """Return what grad-cam has before its ReLU, scaling and resizing."""
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam = getattr(grad_cam, kind)(net, [net.features[2]])
    seen: list[np.ndarray] = []
    make = cam.get_cam_image

    def keep(*args: Any) -> np.ndarray:
        seen.append(np.array(make(*args)))
        return seen[-1]

    cam.get_cam_image = keep
    cam(x.clone(), targets=[ClassifierOutputTarget(c) for c in classes])
    cam.activations_and_grads.release()  # `cam` is in a circle now: its hooks would stay for a while
    return seen[0]


GRAD_CAM = {
    "gradcam": "GradCAM",
    "hirescam": "HiResCAM",
    "gradcamelementwise": "GradCAMElementWise",
    "layercam": "LayerCAM",
    "xgradcam": "XGradCAM",
    "shapleycam": "ShapleyCAM",
}


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("name", GRAD_CAM)
def test_methods_equal_grad_cam(grad_cam: Any, name: str, rank: int) -> None:
    net, x = bent(rank), inputs(rank)
    theirs = raw_of_grad_cam(grad_cam, GRAD_CAM[name], net, x)
    loose = {"xgradcam": 1e-3}  # it adds 1e-7 to every sum of activations
    assert deviation(ours(name, net, x, signed=True), theirs) < loose.get(name, 1e-5)


def test_grad_cam_shapleycam_counts_the_curvature_too(grad_cam: Any) -> None:
    net, x = bent(), inputs(2)
    plain = ours("gradcam", net, x, signed=True)
    assert deviation(raw_of_grad_cam(grad_cam, "ShapleyCAM", net, x), plain) > 0.05
    assert deviation(ours("shapleycam", net, x, signed=True), plain) > 0.05


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_finercam_equals_grad_cam(grad_cam: Any, alpha: float) -> None:
    net, x = bent(), inputs(2)
    cam = grad_cam.FinerCAM(net, [net.features[2]])
    seen: list[np.ndarray] = []
    make = cam.base_cam.get_cam_image
    cam.base_cam.get_cam_image = lambda *args: seen.append(np.array(make(*args))) or seen[-1]
    for c in CLASSES:
        cam(x.clone(), target_idx=c, alpha=alpha)  # one class for the whole batch
    theirs = np.stack([seen[i][i] for i in range(2)])
    assert deviation(ours("finercam", net, x, signed=True, alpha=alpha), theirs) < 1e-5


@pytest.mark.parametrize(("name", "kind"), [("eigencam", "EigenCAM"), ("eigengradcam", "EigenGradCAM")])
def test_grad_cam_eigen_methods_agree_up_to_a_sign_which_they_leave_to_chance(
    grad_cam: Any, name: str, kind: str
) -> None:
    net, x = bent(), inputs(2, batch=12)
    classes = [1] * len(x)
    theirs = raw_of_grad_cam(grad_cam, kind, net, x, classes)
    found = METHODS[name](net, LAYER, signed=True).explain(x, classes).maps[:, 0]
    flips = [deviation(b, -a) < 1e-5 for a, b in zip(found, theirs, strict=True)]
    assert all(flip or deviation(b, a) < 1e-5 for flip, a, b in zip(flips, found, theirs, strict=True))
    a = net.features(x).detach()
    g = replicas.gradients(lambda v: net.rest(v)[:, [1]], a)[:, 0] if name == "eigengradcam" else 1.0
    total = (a.numpy() * g).sum(1)
    total -= total.mean(axis=(1, 2), keepdims=True)
    assert ((found * total).sum(axis=(1, 2)) > 0).all()
    assert any(flips), "none of the peer's maps is inverted any more: compare without the sign"


def test_grad_cam_gradcam_plusplus_agrees_for_large_gradients_only(grad_cam: Any) -> None:
    """It adds 1e-6 to a denominator of the order of G²: the weights of small gradients vanish."""
    net, x = bent(), inputs(2)
    deviations = {}
    for scale in (1e3, 1e-2):
        with torch.no_grad():
            net.classify.weight.copy_(bent().classify.weight * scale)
        expected = closed("gradcam++", net, x)
        assert deviation(ours("gradcam++", net, x, signed=True), expected) < 1e-5
        deviations[scale] = deviation(
            unscaled(raw_of_grad_cam(grad_cam, "GradCAMPlusPlus", net, x)), unscaled(expected)
        )
    assert deviations[1e3] < 1e-5
    assert deviations[1e-2] > 0.1, "the peer agrees now: compare with it"


def test_grad_cam_xgradcam_explodes_where_the_activations_cancel(grad_cam: Any) -> None:
    """Σ A = −1e-7 and an unsigned 1e-7 added to it leave nothing to divide by."""
    from chronocam.types import Capture

    a, g = np.array([[[[1.0, -1.0 - 1e-7]]]]), np.array([[[[1.0, 1.0]]]])
    theirs = grad_cam.XGradCAM.get_cam_weights(None, None, None, None, a, g)
    found = cc.XGradCAM(nn.Identity()).weights(Capture(a, g[:, None]))
    assert found == pytest.approx(1, rel=1e-6)
    assert abs(theirs[0, 0]) > 1e6


# torchcam


@pytest.fixture(scope="module")
def torchcam() -> Any:
    return pytest.importorskip("torchcam.methods", reason="torchcam is not installed")


def raw_of_torchcam(torchcam: Any, kind: str, net: nn.Module, x: Tensor, **options: Any) -> np.ndarray:
    """Return torchcam's map before its scaling, but after its ReLU."""
    with getattr(torchcam, kind)(net, LAYER, **options) as extractor:
        (maps,) = extractor(CLASSES, net(x.clone()), normalized=False)
    return maps.detach().numpy()


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("name", "kind"), [("gradcam", "GradCAM"), ("layercam", "LayerCAM"), ("xgradcam", "XGradCAM")]
)
def test_methods_equal_torchcam(torchcam: Any, name: str, kind: str, rank: int) -> None:
    net, x = bent(rank), inputs(rank)
    loose = {"xgradcam": 1e-4}  # it adds 1e-8 to every sum of activations
    assert deviation(ours(name, net, x), raw_of_torchcam(torchcam, kind, net, x)) < loose.get(name, 1e-5)


def test_cam_equals_torchcam(torchcam: Any) -> None:
    net, x = seeded(lambda: Pooled(2)), inputs(2)
    with torchcam.CAM(net, LAYER, "fc") as extractor:
        net(x)
        (theirs,) = extractor(CLASSES, normalized=False)
    assert deviation(ours("cam", net, x, signed=True), theirs.detach()) < 1e-5


def test_torchcam_gradcam_plusplus_divides_nothing(torchcam: Any) -> None:
    """It divides a masked copy in place, so that α stays G² and w_k = Σ G²·ReLU(G)."""
    net, x = bent(), inputs(2)
    expected = np.maximum(closed("gradcam++", net, x), 0)
    theirs = raw_of_torchcam(torchcam, "GradCAMpp", net, x)
    assert deviation(ours("gradcam++", net, x), expected) < 1e-5
    assert deviation(unscaled(theirs), unscaled(expected)) > 0.02, "the peer agrees now: compare with it"

    def undivided(a: replicas.Table, g: replicas.Table) -> list[float]:
        return replicas.weighted([sum(v * v * replicas.relu(v) for v in row) for row in g], a)

    theory = for_each(undivided, *at_the_layer("gradcam++", net, x))[:, 0]
    assert deviation(theirs, np.maximum(theory, 0)) < 1e-10


def test_torchcam_smoothgradcam_plusplus_sums_another_product(torchcam: Any) -> None:
    """Without noise it is Grad-CAM++, but its denominator holds Σ (A·G³) in the place of (Σ A)·G³."""
    net, x = bent(), inputs(2)
    expected = np.maximum(closed("gradcam++", net, x), 0)
    theirs = raw_of_torchcam(torchcam, "SmoothGradCAMpp", net, x, std=1e-12, num_samples=2)
    assert deviation(ours("smoothgradcam++", net, x, noise=0.0), expected) < 1e-5
    assert deviation(unscaled(theirs), unscaled(expected)) > 0.02, "the peer agrees now: compare with it"


def test_torchcam_finercam_weighs_the_similar_classes_alike(torchcam: Any) -> None:
    """Another definition, y_c − γ·mean(y_d): the paper's eq. 4 weighs them by their probabilities."""
    net, x = bent(), inputs(2)
    theirs = raw_of_torchcam(torchcam, "FinerCAM", net, x, gamma=1.0)
    expected = np.maximum(closed("finercam", net, x), 0)
    assert deviation(ours("finercam", net, x), expected) < 1e-5
    assert deviation(theirs, expected) > 0.02


# What an in-place layer overwrites.


@pytest.mark.parametrize("peer", ["captum", "grad_cam", "torchcam"])
def test_activations_overwritten_in_place(peer: str, request: pytest.FixtureRequest) -> None:
    """An in-place activation function follows the layer: two peers explain what it leaves of the output."""
    library = request.getfixturevalue(peer)
    net, x = bent(in_place=True), inputs(2)
    expected = np.maximum(closed("gradcam", net, x), 0)
    assert deviation(ours("gradcam", net, x), expected) < 1e-5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if peer == "captum":
            theirs = library.LayerGradCam(net, net.features[2]).attribute(x, CLASSES, relu_attributions=True)
            theirs = theirs[:, 0].detach().numpy()
        elif peer == "grad_cam":
            theirs = np.maximum(raw_of_grad_cam(library, "GradCAM", net, x), 0)
        else:
            theirs = raw_of_torchcam(library, "GradCAM", net, x)
    if peer == "captum":
        assert deviation(theirs, expected) < 1e-10
    else:
        assert deviation(theirs, expected) > 0.05, "the peer agrees now: compare with it"
