"""What TensorFlow exports: TFLite and SavedModel as black boxes. On TensorFlow alone."""

from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import keras
import numpy as np
import pytest
from networks import L
from PIL import Image

import chronocam as cc
from chronocam.errors import LayerError, ModelError

tf: Any = pytest.importorskip("tensorflow")
if keras.backend.backend() != "tensorflow":
    pytest.skip("TensorFlow exports its own models", allow_module_level=True)


def net(channels: int = 3) -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = L.Conv2D(4, 3, activation="relu"), L.GlobalAveragePooling2D(), L.Dense(3)
    return keras.Sequential([keras.Input((12, 12, channels)), *layers])


def occluded(model: Any, x: np.ndarray) -> np.ndarray:
    return cc.Occlusion(model, baseline="zero").explain(x, 1).maps


def test_tflite_is_a_black_box(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    model, path = net(), tmp_path / "net.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    loaded = cc.models.load(str(path))
    x = np.random.default_rng(0).random((3, 12, 12, 3), np.float32)
    np.testing.assert_allclose(occluded(loaded.model, x), occluded(model, x), atol=1e-6)
    assert loaded.preprocess.assumption is not None
    with pytest.raises(LayerError, match=r"a \.tflite file shows no layers .*give the Keras model"):
        cc.GradCAM(loaded.model).explain(x, 1)


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_the_integers_of_a_quantised_network_are_pixels(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("ai_edge_litert")
    model, path = net(), tmp_path / "net.tflite"
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3)).astype(np.uint8)
    pixels[0], pixels[1] = 0, 255
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([one[None] / np.float32(127.5) - 1] for one in pixels)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = getattr(tf, kind)
    path.write_bytes(converter.convert())
    loaded = cc.models.load(str(path))
    assert loaded.preprocess.assumption is None
    values = loaded.preprocess(Image.fromarray(pixels[2]))
    np.testing.assert_allclose(values, pixels[2] / 127.5 - 1, atol=0.02)
    own = loaded.model.function(values[None])
    np.testing.assert_allclose(own, np.asarray(model(values[None])), atol=0.03)


def with_metadata(content: bytes, mean: list[float], std: list[float]) -> bytes:
    """Return a model with metadata, as LiteRT has them, that say how its first input is normalised."""
    builders: Any = pytest.importorskip("flatbuffers")
    schema: Any = pytest.importorskip("tensorflow.lite.python.schema_py_generated")
    builder = builders.Builder(64)

    def floats(values: list[float]) -> int:
        builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            builder.PrependFloat32(value)
        return builder.EndVector()

    def table(count: int, **fields: int) -> int:
        builder.StartObject(count)
        for name, value in fields.items():
            number = int(name[1:])
            if name[0] == "k":
                builder.PrependUint8Slot(number, value, 0)
            else:
                builder.PrependUOffsetTRelativeSlot(number, value, 0)
        return builder.EndObject()

    def one(item: int) -> int:
        builder.StartVector(4, 1, 4)
        builder.PrependUOffsetTRelative(item)
        return builder.EndVector()

    options = table(2, f0=floats(mean), f1=floats(std))
    unit = table(2, k0=1, f1=options)
    tensor = table(7, f4=one(unit))
    graph = table(8, f2=one(tensor))
    builder.Finish(table(8, f3=one(graph)), b"M001")
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    held, entry = schema.BufferT(), schema.MetadataT()
    held.data = np.frombuffer(bytes(builder.Output()), np.uint8)
    entry.name, entry.buffer = b"TFLITE_METADATA", len(model.buffers)
    model.buffers.append(held)
    model.metadata = [*(model.metadata or []), entry]
    packed = builders.Builder(1024)
    packed.Finish(model.Pack(packed), b"TFL3")
    return bytes(packed.Output())


def test_metadata_of_tflite_say_how_pixels_are_prepared(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    model, path = net(), tmp_path / "net.tflite"
    plain = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    path.write_bytes(with_metadata(plain, [127.5], [127.5]))
    with ZipFile(path, "a") as archive:  # labels are packed behind the model
        archive.writestr("labels.txt", "ant\nbee\ncat\n")
    loaded = cc.models.load(str(path))
    assert (loaded.labels, loaded.preprocess.assumption) == (("ant", "bee", "cat"), None)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3)).astype(np.uint8)
    values = loaded.preprocess(Image.fromarray(pixels))
    np.testing.assert_allclose(values, pixels / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(
        loaded.model.function(values[None]), np.asarray(model(values[None])), atol=1e-5
    )
    for broken in (with_metadata(plain, [], [1.0]), with_metadata(plain, [1.0, 2.0], [1.0]), plain):
        path.write_bytes(broken)
        assert cc.models.load(str(path)).preprocess.assumption is not None
    whole = with_metadata(plain, [127.5], [127.5])
    for number in range(0, len(whole), 997):  # damaged anywhere it loads or is refused
        path.write_bytes(whole[:number] + bytes([255]) + whole[number + 1 :])
        with suppress(ModelError):
            cc.models.load(str(path))


def test_several_outputs_of_tflite_have_their_names(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    keras.utils.set_random_seed(1)
    x = keras.Input((12, 12, 3), name="picture")
    pooled = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu")(x))
    model = keras.Model(x, {name: L.Dense(n, name=name)(pooled) for name, n in (("kind", 3), ("age", 1))})
    path = tmp_path / "net.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    loaded = cc.models.load(str(path))
    x = np.random.default_rng(0).random((3, 12, 12, 3), np.float32)
    found, wanted = loaded.model.function(x), model(x)
    assert sorted(found) == sorted(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], np.asarray(value), atol=1e-5)
    maps = cc.Occlusion(loaded.model, baseline="zero", output_layer="kind").explain(x, 1).maps
    wanted_maps = cc.Occlusion(model, baseline="zero", output_layer="kind").explain(x, 1).maps
    np.testing.assert_allclose(maps, wanted_maps, atol=1e-5)
    with pytest.raises(LayerError, match=r"no output `kinds`; expected one of age, kind"):
        cc.Occlusion(loaded.model, output_layer="kinds").explain(x, 1)


def test_a_saved_model_is_a_black_box_that_needs_trust(tmp_path: Path) -> None:
    model, folder = net(1), tmp_path / "exported"
    model.export(folder, verbose=False)
    with pytest.raises(ModelError, match=r"a SavedModel is a program.*--trust"):
        cc.models.load(str(folder))
    x = np.random.default_rng(0).random((3, 12, 12, 1), np.float32)
    for spec in (folder, folder / "saved_model.pb"):
        loaded = cc.models.load(str(spec), trust=True)
        np.testing.assert_allclose(occluded(loaded.model, x), occluded(model, x), atol=1e-6)
    (folder / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="cannot be read"):
        cc.models.load(str(folder), trust=True)


RECURRENT = """
import keras
L = keras.layers
def inner():
    return keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU()])
def picture():
    x = keras.Input((8, 8, 3))
    return keras.Model(x, L.Dense(3)(L.GlobalAveragePooling2D()(L.SeparableConv2D(5, 3)(inner()(x)))))
def rows():
    x = keras.Input((5, 3))
    return keras.Model(x, L.Dense(2)(L.Bidirectional(L.LSTM(4))(L.GRU(6, return_sequences=True)(x))))
"""


@pytest.mark.parametrize(("name", "shape"), [("picture", (8, 8, 3)), ("rows", (5, 3))])
@pytest.mark.parametrize("folder", [False, True])
def test_a_checkpoint_of_tensorflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, shape: tuple[int, ...], folder: bool
) -> None:
    old = pytest.importorskip("tf_keras")
    monkeypatch.chdir(tmp_path)
    Path("checked_nets.py").write_text(RECURRENT)
    Path("trained").mkdir()
    space: dict[str, Any] = {}
    exec(RECURRENT.replace("import keras", "import tf_keras as keras"), space)
    model, rng = space[name](), np.random.default_rng(0)
    model.set_weights([np.abs(rng.normal(0, 0.5, one.shape)) for one in model.get_weights()])
    assert isinstance(model, old.Model)
    model.save_weights("trained/net", save_format="tf")
    spec = "trained" if folder else "trained/net.index"
    loaded = cc.models.load(f"{spec}@python:checked_nets:{name}").model
    x = rng.random((2, *shape), np.float32)
    np.testing.assert_allclose(np.asarray(loaded(x)), np.asarray(model(x)), atol=1e-5)
    other = "rows" if name == "picture" else "picture"
    with pytest.raises(ModelError, match=r"the weights do not fit \(.* under `layer_with_weights-0/"):
        cc.models.load(f"{spec}@python:checked_nets:{other}")


def test_damaged_files_are_told(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    (tmp_path / "net.tflite").write_bytes(b"\xffhello")
    with pytest.raises(ModelError, match=r"cannot be read .*expected a \.tflite file"):
        cc.models.load(str(tmp_path / "net.tflite"))
