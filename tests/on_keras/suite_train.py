"""Keras classifiers fine-tuned on folders. Run on one backend at a time."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pets
import pytest
from networks import outputs

import chronocam as cc
from chronocam.errors import InputError, ModelError
from chronocam.lab.models.keras_images import finished, head_at, image_net, with_weights
from chronocam.lab.train import ImageSettings, train_images
from chronocam.lab.train.images.data import Pictures, list_pictures
from chronocam.lab.train.keras.batches import Batches
from chronocam.lab.train.keras.loop import AdamW, Keeper, Rate
from chronocam.lab.train.run import share_of_rate
from chronocam.models.sources.keras_applications import recipe


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.applications, "Tiny", pets.Tiny, raising=False)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pets.write(tmp_path_factory.mktemp("pets"))


def settings(data: Path, out: Path, **more: Any) -> ImageSettings:
    usual: dict[str, Any] = {
        "model": "keras:Tiny",
        "epochs": 2,
        "batch_size": 8,
        "size": 32,
        "lr": 3e-3,
        "head_lr": 2,
    }
    return ImageSettings(**usual | {"data": str(data), "out": out} | more)


def weights_of(path: Path) -> list[np.ndarray]:
    return keras.saving.load_model(path.with_suffix(".keras"), compile=False).get_weights()


# Runs


def test_a_run_learns_and_its_record_loads(shapes: Path, tmp_path: Path) -> None:
    path = train_images(settings(shapes, tmp_path / "run", epochs=6))
    record = json.loads(path.read_text())
    assert record["format"] == "chronocam keras images 1"
    assert record["pictures"] == {"train": 32, "validation": 12, "test": 20}
    assert record["pictures unreadable"] == ["cats/3.png"]
    assert [figures["epoch"] for figures in record["epochs"]] == list(range(6))
    assert record["best epoch"] == int(np.argmin([figures["val_loss"] for figures in record["epochs"]]))
    figures = record["held-out"]
    assert figures["pictures"] == np.sum(figures["confusion"]) == 20
    assert figures["accuracy"] == np.trace(figures["confusion"]) / 20 >= 0.9  # chance is 0.5
    assert "--model keras:Tiny" in record["command"]
    loaded = cc.models.load(str(path))
    assert loaded.labels == ("cats", "dogs")
    confusion = np.zeros((2, 2), int)
    for number, label in enumerate(loaded.labels):
        files = sorted((shapes / "test" / label).iterdir())
        x = np.stack([loaded.preprocess(cc.media.read_image(file)) for file in files])
        answers = outputs(loaded.model, x)
        np.testing.assert_allclose(answers.sum(1), 1, rtol=1e-5)  # a softmax, as Keras' classifiers have it
        np.add.at(confusion, (number, answers.argmax(1)), 1)
    assert confusion.tolist() == figures["confusion"]
    assert sorted(file.name for file in path.parent.iterdir()) == ["checkpoints", "model.json", "model.keras"]
    losses = [figures["val_loss"] for figures in record["epochs"]]
    assert np.isclose(validation_loss(loaded, shapes), min(losses), rtol=1e-4)
    path.with_suffix(".keras").rename(tmp_path / "elsewhere.keras")
    with pytest.raises(
        ModelError, match=r"there is no file `.*model\.keras`; the weights belong beside the record"
    ):
        cc.models.load(str(path))
    path.write_text(json.dumps({**record, "preprocess": {"order": "rgb"}}))
    with pytest.raises(ModelError, match="the record is damaged"):
        cc.models.load(str(path))


def validation_loss(loaded: Any, shapes: Path) -> float:
    losses = []
    for number, label in enumerate(loaded.labels):
        for file in (shapes / "validation" / label).iterdir():
            x = loaded.preprocess(cc.media.read_image(file))[None]
            losses.append(-np.log(outputs(loaded.model, x)[0, number]))
    return float(np.mean(losses))


def stopped(shapes: Path, out: Path, epoch: int, **more: Any) -> None:
    """Begin a run, and interrupt it in the middle of an epoch."""

    def stop(self: Keeper, batch: int, logs: Any = None) -> None:
        if len(self.history) == epoch and batch == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Keeper, "on_train_batch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train_images(settings(shapes, out, **more))
    assert not (out / "model.json").exists()


def test_resuming_ends_where_an_uninterrupted_run_would(shapes: Path, tmp_path: Path) -> None:
    whole = train_images(settings(shapes, tmp_path / "whole", epochs=3))
    stopped(shapes, tmp_path / "part", 2, epochs=3)
    with pytest.raises(InputError, match="freeze False, not True; resume with the same"):
        train_images(settings(shapes, tmp_path / "part", epochs=3, resume=True, freeze=True))
    part = train_images(settings(shapes, tmp_path / "part", epochs=3, resume=True, workers=2))
    for one, other in zip(weights_of(whole), weights_of(part), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    one, other = (json.loads(path.read_text()) for path in (whole, part))
    for a, b in zip(one["epochs"], other["epochs"], strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-4)
    assert (one["held-out"], one["best epoch"]) == (other["held-out"], other["best epoch"])
    with pytest.raises(InputError, match="holds a run already"):
        train_images(settings(shapes, tmp_path / "part"))
    with pytest.raises(InputError, match=r"nothing to resume: `.*last\.npz` not found"):
        train_images(settings(shapes, tmp_path / "none", resume=True))
    (tmp_path / "part" / "checkpoints" / "last.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="is damaged"):
        train_images(settings(shapes, tmp_path / "part", resume=True))


def test_a_run_that_gets_no_better_stops_and_has_the_best_weights(shapes: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "epochs": 9,
        "patience": 2,
        "lr": 1e-12,
        "freeze": True,
    }  # so that nothing is learnt
    stopped(shapes, tmp_path / "run", 1, **given)
    path = train_images(settings(shapes, tmp_path / "run", resume=True, **given))
    record = json.loads(path.read_text())
    assert (len(record["epochs"]), record["best epoch"]) == (3, 0)
    before = weights_of(path)
    path.unlink()
    again = json.loads(train_images(settings(shapes, tmp_path / "run", resume=True, **given)).read_text())
    assert again["epochs"] == record["epochs"]
    assert all(np.array_equal(one, other) for one, other in zip(before, weights_of(path), strict=True))


def test_frozen_layers_and_given_weights_stay(shapes: Path, tmp_path: Path) -> None:
    keras.utils.set_random_seed(7)
    five = finished(image_net("keras:Tiny", 5, 32))
    five.save(tmp_path / "five.keras")
    path = train_images(
        settings(shapes, tmp_path / "run", epochs=1, freeze=True, weights=str(tmp_path / "five.keras"))
    )
    trained = keras.saving.load_model(path.with_suffix(".keras"), compile=False)
    for ours, theirs in zip(trained.layers[:-1], five.layers[:-1], strict=True):  # running statistics too
        assert all(
            np.array_equal(a, b) for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True)
        )
    assert all(layer.trainable for layer in trained.layers)
    keras.utils.set_random_seed(0)
    fresh = image_net("keras:Tiny", 2, 32)
    assert not np.allclose(trained.layers[-1].get_weights()[0], fresh.layers[-1].get_weights()[0])


def test_weights_alone_of_the_network_with_its_own_classes(shapes: Path, tmp_path: Path) -> None:
    keras.utils.set_random_seed(7)
    thousand = pets.Tiny()
    thousand.save_weights(tmp_path / "tiny.weights.h5")
    given = settings(
        shapes, tmp_path / "run", epochs=1, freeze=True, weights=str(tmp_path / "tiny.weights.h5")
    )
    trained = weights_of(train_images(given))
    assert all(np.array_equal(a, b) for a, b in zip(trained[:-2], thousand.get_weights()[:-2], strict=True))


def test_weights_that_do_not_fit_are_refused_in_one_line(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(image_net("keras:Tiny", 5, 24)).save(tmp_path / "small.keras")
    other = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(4)], name="other"
    )
    other.save(tmp_path / "other.keras")
    (tmp_path / "damaged.h5").write_bytes(b"no weights")
    image_net("keras:Tiny", 5).save_weights(tmp_path / "five.weights.h5")

    def unreachable(**given: Any) -> None:
        raise OSError("URL fetch failure\nand more")

    monkeypatch.setattr(keras.applications, "Offline", unreachable, raising=False)
    for weights, model, words in (
        (
            "small.keras",
            "Tiny",
            r"fc1 has weights \[\(108, 16\), \(16,\)\] there, and \[\(192, 16\), .*leave out size",
        ),
        ("other.keras", "Tiny", "0 layers before the last have weights there, and 4 here"),
        ("damaged.h5", "Tiny", "cannot be read"),
        ("five.weights.h5", "Tiny", "cannot be read as weights of keras:Tiny with its own classes"),
        ("none.keras", "Tiny", "there is no such file"),
        ("weights.pth", "Tiny", "is not a file of Keras weights"),
    ):
        with pytest.raises(ModelError, match=words) as raised:
            train_images(
                settings(shapes, tmp_path / "run", model=f"keras:{model}", weights=str(tmp_path / weights))
            )
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_published_weights_that_cannot_be_fetched_are_one_line(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*given: Any, **options: Any) -> None:
        raise OSError("URL fetch failure\nand more")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", unreachable)
    with pytest.raises(ModelError, match=r"weights of MobileNet \(URL fetch failure\)") as raised:
        train_images(settings(shapes, tmp_path / "run", model="keras:MobileNet", weights="published"))
    assert "\n" not in str(raised.value)


def test_what_does_not_fit_is_refused(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"keras:VGG16 takes no pictures of 16 × 16 \(Input size must be at least"
    ):
        train_images(settings(shapes, tmp_path / "run", model="keras:VGG16", size=16))
    with pytest.raises(ModelError, match="`VGG16`"):
        train_images(settings(shapes, tmp_path / "run", model="keras:VGG17"))
    with pytest.raises(InputError, match="accelerator `tpu` is not available on the "):
        train_images(settings(shapes, tmp_path / "run", accelerator="tpu"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("precision", "off"), [("bf16-mixed", 0.3), ("16-mixed", 0.5)]
)  # processors round bfloat16 differently; 16-mixed skips steps at first
def test_half_precision_trains_a_network_that_is_saved_in_single(
    shapes: Path, tmp_path: Path, precision: str, off: float
) -> None:
    given = settings(
        shapes, tmp_path / "run", epochs=1, precision=precision, accelerator="cpu", cache=tmp_path / "cache"
    )
    path = train_images(given)
    net = keras.saving.load_model(path.with_suffix(".keras"), compile=False)
    assert {layer.compute_dtype for layer in net.layers} == {"float32"}
    single = train_images(settings(shapes, tmp_path / "single", epochs=1))
    one, other = (json.loads(p.read_text())["epochs"][0]["train_loss"] for p in (path, single))
    assert one != other  # it was half precision indeed
    assert np.isclose(one, other, rtol=off)


# Parts


def test_only_the_last_layer_is_another() -> None:
    for name, head in (("MobileNet", "conv_preds"), ("VGG16", "predictions")):
        net = image_net(f"keras:{name}", 7, 32)
        assert net.layers[head_at(net)].name == head
        assert net.output_shape == (None, 7)
        theirs = getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3))
        changed = [
            one.path
            for one, other in zip(net.weights, theirs.weights, strict=True)
            if one.shape != other.shape
        ]
        assert changed == [f"{head}/kernel", f"{head}/bias"]


def test_statistics_follow_faster_from_random_weights_alone() -> None:
    def momenta(net: Any) -> set[float]:
        return {layer.momentum for layer in net.layers if isinstance(layer, keras.layers.BatchNormalization)}

    net, given = (
        image_net("keras:MobileNet", 2, 32),
        keras.applications.MobileNet(weights=None, input_shape=(32, 32, 3)),
    )
    assert momenta(net) == {0.9}
    assert momenta(with_weights(net, given)) == momenta(given) == {0.99}


def batches(shapes: Path, **more: Any) -> Batches:
    listing = list_pictures(shapes)
    preprocess = recipe(pets.Tiny, pets.Tiny())
    pictures = Pictures(listing.parts["train"], listing.labels, preprocess)
    return Batches(pictures, settings(shapes, Path("out"), **more), preprocess, set(), learning=True)


def test_batches_depend_on_epoch_and_place_alone(shapes: Path) -> None:
    one, other = batches(shapes), batches(shapes)
    assert one.num_batches == 4
    last = one[3]
    assert all(np.array_equal(a, b) for a, b in zip(last, other[3], strict=True))
    assert not np.array_equal(batches(shapes, seed=1)[3][0], last[0])
    other.epoch = 1
    assert not np.array_equal(other[3][0], last[0])
    rows = [one[index] for index in range(4)]
    assert sorted(np.concatenate([labels for _, labels, _ in rows]).tolist()) == [0] * 16 + [1] * 16
    assert np.concatenate([weights for _, _, weights in rows]).sum() == 31
    assert one.unread == {"cats/3.png"}


def test_pictures_are_changed_unless_told_otherwise(shapes: Path) -> None:
    made = batches(shapes)
    made.learning = False
    plain = made[0]
    preprocess = made.preprocess
    files = [made.pictures.items[place].path for place in range(8)]
    for row, file in enumerate(files):
        if file.name != "3.png":
            np.testing.assert_allclose(plain[0][row], preprocess(cc.media.read_image(file)), atol=1e-4)
    assert plain[2].tolist() == [float(file.name != "3.png") for file in files]
    made.learning = True
    assert not any(np.array_equal(one, x) for one in made[0][0] for x in plain[0])


def test_each_step_is_adam_with_decay_of_its_own_rate() -> None:
    start, gradients = np.array([1.0, -2.0], np.float32), np.array([[0.5, -1.0], [0.1, 0.3]], np.float32)
    variables = [keras.Variable(start), keras.Variable(start)]
    optimiser = AdamW(Rate(0.1, 4), 0.2, [1, 3])
    optimiser.build(variables)
    for gradient in gradients:
        optimiser.apply([keras.ops.convert_to_tensor(gradient)] * 2)
    for variable, times in zip(variables, (1, 3), strict=True):
        theta, m, v = start.astype(float), np.zeros(2), np.zeros(2)
        for t, g in enumerate(gradients.astype(float), start=1):
            rate = times * 0.1 * share_of_rate(t - 1, 4)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            theta = theta * (1 - rate * 0.2)
            theta = theta - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-7)
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(variable.value), theta, rtol=1e-4
        )  # 1 − 0.999ᵗ is rounded
