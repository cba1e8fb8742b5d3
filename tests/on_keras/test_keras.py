"""Keras models on every backend, each in a process of its own, as Keras takes one backend per process."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).parent
BACKENDS = ("tensorflow", "jax", "torch")
SMALL = ("cnn", "transfer", "conv1d", "conv3d", "frames_lstm")
LARGE = ("mobilenet", "resnet", "vgg", "densenet", "efficientnet")
CAMS = ("gradcam", "hirescam", "gradcam++", "layercam")
METHODS = (*CAMS, "saliency", "guidedbackprop")

WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "lightning", "safetensors"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
import keras, numpy as np
import chronocam as cc
L = keras.layers
pooled = L.GlobalAveragePooling2D()
model = keras.Sequential([keras.Input((9, 9, 3)), L.Conv2D(4, 3), L.ReLU(), pooled, L.Dense(3)])
x = np.ones((2, 9, 9, 3), np.float32)
for method in (cc.GradCAM, cc.SmoothGrad, cc.GuidedGradCAM, cc.EigenCAM, cc.FinerCAM):
    assert np.asarray(method(model).explain(x, 1)).shape == (2, 9, 9)
explanation = cc.GradCAM(model).explain(x, 1)
explanation.normalize(), explanation.boxes(), explanation.overlay(x)
features, frames = np.ones((1, 3, 4), np.float32), np.ones((1, 3, 9, 9, 3), np.float32)
steps = keras.Sequential([keras.Input((None, 4)), L.LSTM(2, return_sequences=True), L.Dense(3)])
for method in cc.sequence.METHODS.values():
    found = method(steps).explain(features)
    assert found.relevance.shape == (1, 3, 3, 4)
eye = keras.Sequential([keras.Input((9, 9, 3)), L.Conv2D(4, 3), L.GlobalAveragePooling2D()])
assert found.to_frames(eye, frames).maps.shape == (1, 3, 3, 7, 7)
cc.features.filters(model), cc.features.feature_maps(model, 0, x)
cc.features.activation_maximisation(model, None, 1, shape=(9, 9, 3), steps=1)

import tempfile
from pathlib import Path
import pets
from chronocam.cli import main

keras.applications.Tiny = pets.Tiny
with tempfile.TemporaryDirectory() as name:
    data, out = pets.write(Path(name, "pets")), Path(name, "net")
    words = ["--data", data, "--out", out, "--model", "keras:Tiny", "--epochs", 1, "--size", 16]
    photo, spec, maps = data / "test" / "cats" / "0.png", out / "model.json", ["--out", name]
    for command in (
        ["train", "images", *words],
        ["layers", spec],
        ["explain", photo, "--model", spec, "--layer", "block5_conv3", "--method", "guidedgradcam", *maps],
        ["features", photo, "--model", spec, "--layer", "block5_conv3", *maps],
        ["filters", spec, *maps],
        ["maximise", spec, "--channel", "cats", "--steps", 1, *maps],
    ):
        main([str(word) for word in command], standalone_mode=False)
assert not {"torch", "lightning", "safetensors"} & set(sys.modules)
"""


def needs(backend: str) -> None:
    if find_spec("keras") is None:
        pytest.skip("keras is not installed")
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")


def run(backend: str, *command: str) -> None:
    """Run Python on a backend; fails with what it said."""
    quick = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # compiling takes longer than these networks
    env = {**os.environ, **quick, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    env["PYTHONPATH"] = os.pathsep.join([str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, *command], cwd=FOLDER, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.fail(
            f"{backend}: {' '.join(command)[:80]}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}",
            pytrace=False,
        )


def test_one_model_in_several_threads() -> None:
    needs("torch")
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore",
        "-n",
        "0",
        "-k",
        "not thousand and (sequential or share)",
    ]
    run("torch", "-m", "pytest", *options, "suite_threads.py")


@pytest.mark.slow
def test_keras_on_tensorflow_needs_no_torch() -> None:
    needs("tensorflow")
    run("tensorflow", "-c", WITHOUT_TORCH)


Maps = dict[str, dict[str, Any]]


def maps_of(names: tuple[str, ...], folder: Path) -> Maps:
    """Save networks on one backend, load them on each; return maps by backend, `plain` is PyTorch alone."""
    installed = [
        backend for backend in BACKENDS if find_spec(backend) is not None and find_spec("keras") is not None
    ]
    if not installed:
        pytest.skip("keras is not installed with any backend")
    run(installed[0], "parity.py", "save", str(folder), *names)
    found: Maps = {}
    with ThreadPoolExecutor(2) as pool:  # tracing and loading take one core each
        list(
            pool.map(
                lambda b: run(b, "parity.py", "maps", str(folder), str(folder / f"{b}.npz"), *names),
                installed,
            )
        )
    for backend in installed:
        found[backend] = dict(np.load(folder / f"{backend}.npz"))
    found["plain"] = plain(names, folder)
    return found


def plain(names: tuple[str, ...], folder: Path) -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    import importlib.util

    import chronocam as cc

    spec = importlib.util.spec_from_file_location("plain_torch", FOLDER / "plain_torch.py")
    assert spec is not None
    assert spec.loader is not None
    replicas = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(replicas)
    found: dict[str, Any] = {}
    for name in names:
        net = replicas.built(name, folder)
        x = np.moveaxis(np.load(folder / f"{name}.x.npy"), -1, 1)
        made = cc.explain(
            net,
            torch.from_numpy(x.copy()),
            [0, 2],
            methods=CAMS if name in LARGE else METHODS,
            layers=[net.layer],
        )
        found |= {f"{name} {method}": explanation.maps for method, explanation in made.items()}
        found[f"{name} scores"] = made["gradcam"].scores
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Maps:
    return maps_of(SMALL, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Maps:
    return maps_of(LARGE, tmp_path_factory.mktemp("large"))


def agree(found: Maps, name: str) -> None:
    first = next(iter(found))
    for what in ("scores", *(CAMS if name in LARGE else METHODS)):
        expected = found[first][f"{name} {what}"]
        scale = np.abs(expected).max()
        assert scale > 0
        for backend, maps in found.items():
            error = np.abs(maps[f"{name} {what}"] - expected).max() / scale
            assert error < 1e-4, (
                f"{name} {what}: {backend} differs from {first} by {error:.1e} of the largest value"
            )
    assert len({str(maps[f"{name} default"]) for backend, maps in found.items() if backend != "plain"}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_backend_and_plain_torch_give_the_same_maps(small: Maps, name: str) -> None:
    agree(small, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_every_backend_and_plain_torch_give_the_same_maps_of_large_networks(large: Maps, name: str) -> None:
    agree(large, name)


PICTURES = {"gradcam_both_dog_cat.png": (243, 281), "mmpretrain_cat-dog.png": (162, 281)}
"""Pictures of a dog beside a cat, with their classes."""


@pytest.mark.slow
@pytest.mark.parametrize("size", [224, 225])
def test_real_weights_give_the_maps_of_torchvision(data: Path, tmp_path: Path, size: int) -> None:
    torch, vision = pytest.importorskip("torch"), pytest.importorskip("torchvision")
    safetensors = pytest.importorskip("safetensors.torch")
    needs("tensorflow")
    import chronocam as cc

    weights = data / "imagenet" / "mobilenet_v2.safetensors"
    net = vision.models.mobilenet_v2(weights=None).eval()
    net.load_state_dict(safetensors.load_file(weights))
    T = vision.transforms
    normalize = T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    prepare = T.Compose([T.Resize(256), T.CenterCrop(size), T.ToTensor(), normalize])
    for name, classes in PICTURES.items():
        x = prepare(Image.open(data / "photos" / name).convert("RGB"))[None]
        np.save(tmp_path / "x.npy", x.permute(0, 2, 3, 1).numpy())
        run(
            "tensorflow",
            "real.py",
            str(weights),
            *(str(tmp_path / f) for f in ("x.npy", "out.npz")),
            *map(str, classes),
        )
        found = np.load(tmp_path / "out.npz")
        with torch.no_grad():
            logits = net(x)
        log_softmax = logits.log_softmax(1).numpy()
        np.testing.assert_allclose(found["logits"], log_softmax, atol=1e-4 * np.abs(log_softmax).max())
        expected = cc.GradCAM(net, "features").explain(x, [cc.targets.Class(c) for c in classes])
        scale = np.abs(expected.maps).max(axis=(0, 2, 3), keepdims=True)
        np.testing.assert_allclose(found["maps"] / scale, expected.maps / scale, atol=1e-4)
        dog, cat = (np.unravel_index(m.argmax(), m.shape) for m in found["maps"][0])
        assert np.hypot(*np.subtract(dog, cat)) >= 3  # cells, of 7 or 8: one is here, the other there
