"""Maps while Keras trains: what was logged is read back, and the training is the same as without."""

import io
import random
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

import chronocam as cc
from chronocam.callbacks import keras as module
from chronocam.errors import ChronocamError, InputError, ModelError

L = keras.layers
SAMPLES = np.random.default_rng(1).random((3, 9, 9, 3), np.float32)


class ByHand(keras.callbacks.Callback):
    """Draws what is to be logged."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[list[np.ndarray]] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        rows = cc.GradCAM(self.model).explain(SAMPLES, 1).overlay(SAMPLES)
        self.drawn.append([row[0] for row in rows])


class Last(keras.callbacks.Callback):
    """Keeps the next random numbers that come after a training."""

    def __init__(self, kept: list[Any]) -> None:
        super().__init__()
        self.kept = kept

    def on_train_end(self, logs: Any = None) -> None:
        drawn = [random.random(), np.random.rand()]  # noqa: NPY002
        if keras.backend.backend() == "torch":
            drawn.append(float(import_module("torch").rand(1)))
        self.kept.append(drawn)


def fit(*callbacks: Any, epochs: int = 2) -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU(), L.Dropout(0.5)]
    head = [L.GlobalAveragePooling2D(), L.Dense(3)]
    model = keras.Sequential([keras.Input((9, 9, 3)), *layers, *head])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.05), loss)
    x, y = np.random.default_rng(0).random((8, 9, 9, 3), np.float32), np.arange(8) % 3
    options: dict[str, Any] = {"batch_size": 4, "epochs": epochs, "verbose": 0, "validation_data": (x, y)}
    model.fit(x, y, callbacks=list(callbacks), **options)
    return model


def files(folder: Path) -> dict[str, np.ndarray]:
    return {
        path.relative_to(folder).as_posix(): np.asarray(Image.open(path))
        for path in sorted(folder.rglob("*.png"))
    }


@pytest.fixture
def _no_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    find = module.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "tensorboard" else find(name))


def test_event_files_hold_the_pictures_drawn_by_hand(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    hand = ByHand()
    maps = cc.callbacks.KerasCallback(SAMPLES, 1, labels=["a", "b", "c"], log_dir=tmp_path)
    fit(hand, maps)
    events = EventAccumulator(str(tmp_path / "maps"), {"images": 0, "tensors": 0}).Reload()
    assert events.Tags()["images"] == ["gradcam/0", "gradcam/1", "gradcam/2"]
    for sample in range(3):
        logged = events.Images(f"gradcam/{sample}")
        assert [event.step for event in logged] == [0, 1]
        for event, drawn in zip(logged, hand.drawn, strict=True):
            with Image.open(io.BytesIO(event.encoded_image_string)) as image:
                np.testing.assert_array_equal(np.asarray(image), drawn[sample])
        assert (logged[0].height, logged[0].width) == hand.drawn[0][sample].shape[:2]
        (text, _) = events.Tensors(f"gradcam/{sample}/caption")
        assert text.tensor_proto.string_val[0].startswith(b"b ")
    assert not np.array_equal(hand.drawn[0][0], hand.drawn[1][0])
    assert not files(tmp_path)


@pytest.mark.usefixtures("_no_tensorboard")
def test_files_without_tensorboard_in_the_epochs_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hand = ByHand()
    fit(hand, cc.callbacks.KerasCallback(SAMPLES, 1, every_n_epochs=2, tag="held-out"), epochs=3)
    found = files(tmp_path)
    assert list(found) == [f"logs/maps/held-out/{sample}/epoch=1.png" for sample in range(3)]
    for pixels, drawn in zip(found.values(), hand.drawn[1], strict=True):
        np.testing.assert_array_equal(pixels, drawn)


@pytest.mark.usefixtures("_no_tensorboard")
def test_the_training_is_the_same_as_without(tmp_path: Path) -> None:
    """Weights, running statistics, seeds and the optimizer's state agree to the bit."""

    def restless(model: keras.Model, **options: Any) -> cc.SmoothGrad:
        random.random(), np.random.rand()  # noqa: NPY002
        if keras.backend.backend() == "torch":
            import_module("torch").rand(1)
        return cc.SmoothGrad(model, **options)

    maps = [
        cc.callbacks.KerasCallback(SAMPLES, method=method, log_dir=tmp_path)
        for method in ("gradcam", restless)
    ]
    states = []
    plain, watched = fit(Last(states)), fit(*maps, Last(states))
    assert states[0] == states[1]
    for one, other in zip(
        [*plain.variables, *plain.optimizer.variables],
        [*watched.variables, *watched.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(
            *(keras.ops.convert_to_numpy(v) for v in (one, other)), err_msg=one.path
        )
    assert len(files(tmp_path)) == 12


@pytest.mark.usefixtures("_no_tensorboard")
def test_active_runs_of_wandb_and_mlflow_get_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[Any] = []
    wandb = SimpleNamespace(run=object(), Image=lambda pixels, caption: pixels, log=logged.append)
    mlflow = SimpleNamespace(
        active_run=object, log_image=lambda image, key, step: logged.append((key, step, image))
    )
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.chdir(tmp_path)
    hand = ByHand()
    fit(hand, cc.callbacks.KerasCallback(SAMPLES, 1), epochs=1)
    to_wandb, *to_mlflow = logged
    assert list(to_wandb) == ["gradcam/0", "gradcam/1", "gradcam/2", "epoch"]
    assert [one[:2] for one in to_mlflow] == [(f"gradcam/{i}", 0) for i in range(3)]
    for drawn, one, (_, _, other) in zip(hand.drawn[0], to_wandb.values(), to_mlflow, strict=False):
        np.testing.assert_array_equal(one, drawn)
        np.testing.assert_array_equal(other, drawn)
    assert not files(tmp_path)
    wandb.run, mlflow.active_run = None, lambda: None
    fit(cc.callbacks.KerasCallback(SAMPLES, 1), epochs=1)
    assert len(logged) == 4
    assert len(files(tmp_path)) == 3


def test_what_does_not_fit_is_told_before_the_first_epoch(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="every_n_epochs is 0; expected a number of epochs, at least 1"):
        cc.callbacks.KerasCallback(SAMPLES, every_n_epochs=0)
    for samples, targets in ((SAMPLES, 9), (SAMPLES, "cat")):
        with pytest.raises(ChronocamError) as raised:
            fit(cc.callbacks.KerasCallback(samples, targets, log_dir=tmp_path))
        assert "\n" not in str(raised.value)
    assert not files(tmp_path)


def processes(monkeypatch: pytest.MonkeyPatch, model: keras.Model, rank: int) -> None:
    """Let this process be one of two that train the model."""
    match keras.backend.backend():
        case "tensorflow":
            extended = SimpleNamespace(should_save_summary=rank == 0)
            monkeypatch.setattr(model, "_distribute_strategy", SimpleNamespace(extended=extended))
        case "torch":
            ranks = import_module("torch").distributed
            monkeypatch.setattr(ranks, "is_initialized", lambda: True)
            monkeypatch.setattr(ranks, "get_rank", lambda *_: rank)
        case "jax":
            monkeypatch.setattr(import_module("jax"), "process_index", lambda: rank)
            monkeypatch.setattr(import_module("jax"), "process_count", lambda: 2)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_alone_makes_maps(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    maps = cc.callbacks.KerasCallback(SAMPLES, 1)
    model = fit(epochs=0)
    processes(monkeypatch, model, rank)
    maps.set_model(model)
    maps.on_train_begin()
    assert len(maps._pictures(0)) == (3 if rank == 0 else 0)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="the others keep a model in each process")
def test_a_model_that_lies_over_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = cc.callbacks.KerasCallback(SAMPLES, 1)
    maps.set_model(fit(epochs=0))
    processes(monkeypatch, maps.model, 0)
    monkeypatch.setattr(keras.distribution, "distribution", object)
    with pytest.raises(ModelError, match="2 processes of JAX hold the model together"):
        maps.on_train_begin()
