"""Small Keras networks with weights drawn by NumPy, the same on every backend."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

L = keras.layers


def drawn(model: Any, seed: int = 0) -> Any:
    """Give the model weights of a size that keeps signals alive; variances stay positive."""
    rng = np.random.default_rng(seed)

    def one(variable: Any) -> np.ndarray:
        shape = tuple(variable.shape)
        if "variance" in variable.path or "gamma" in variable.path:
            return rng.uniform(0.5, 1.5, shape).astype(np.float32)
        fan = int(np.prod(shape[:-1])) if len(shape) > 1 else 10
        return (rng.standard_normal(shape) * np.sqrt(2 / fan)).astype(np.float32)

    model.set_weights([one(v) for v in model.weights])
    return model


def cnn() -> Any:
    """Fused ReLU, pooling, a ReLU layer, GAP, and a softmax fused into Dense."""
    return drawn(
        keras.Sequential(
            [
                keras.Input((16, 16, 3)),
                L.Conv2D(6, 3, activation="relu", padding="same", name="conv1"),
                L.MaxPooling2D(name="pool"),
                L.Conv2D(8, 3, name="conv2"),
                L.ReLU(name="relu"),
                L.GlobalAveragePooling2D(name="gap"),
                L.Dense(5, activation="softmax", name="head"),
            ],
            name="cnn",
        )
    )


def transfer() -> Any:
    """A backbone model inside a model, with batch norm and a residual add."""
    x = image = keras.Input((16, 16, 3))
    x = L.Conv2D(6, 3, padding="same", use_bias=False, name="stem")(x)
    y = L.BatchNormalization(name="bn")(x)
    y = L.Activation("relu", name="act")(y)
    y = L.Conv2D(6, 3, padding="same", name="branch")(y)
    x = L.Add(name="add")([x, y])
    backbone = keras.Model(image, x, name="backbone")
    whole = inputs = keras.Input((16, 16, 3), name="image")
    whole = backbone(whole)
    whole = L.GlobalAveragePooling2D(name="pooled")(whole)
    whole = L.Dense(7, activation="relu", name="hidden")(whole)
    return drawn(keras.Model(inputs, L.Dense(4, name="logits")(whole), name="transfer"))


def conv1d() -> Any:
    return drawn(
        keras.Sequential(
            [
                keras.Input((32, 4)),
                L.Conv1D(16, 3, activation="relu", name="conv1"),
                L.Conv1D(8, 5, strides=2, name="conv2"),
                L.ReLU(name="relu"),
                L.GlobalAveragePooling1D(name="gap"),
                L.Dense(3, name="head"),
            ],
            name="conv1d",
        )
    )


def conv3d() -> Any:
    return drawn(
        keras.Sequential(
            [
                keras.Input((6, 12, 12, 3)),
                L.Conv3D(4, 3, padding="same", activation="relu", name="conv1"),
                L.Conv3D(5, (1, 3, 3), strides=(1, 2, 2), name="conv2"),
                L.ReLU(name="relu"),
                L.GlobalAveragePooling3D(name="gap"),
                L.Dense(6, activation="relu", name="hidden"),
                L.Dense(3, name="head"),
            ],
            name="conv3d",
        )
    )


def frames_lstm() -> Any:
    """A CNN on every frame, and an LSTM over them."""
    frame = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            L.Conv2D(5, 3, activation="relu", name="conv1"),
            L.Conv2D(6, 3, strides=2, activation="relu", name="conv2"),
            L.GlobalAveragePooling2D(name="gap"),
        ],
        name="cnn",
    )
    return drawn(
        keras.Sequential(
            [
                keras.Input((4, 12, 12, 3)),
                L.TimeDistributed(frame, name="frames"),
                L.LSTM(7, name="lstm"),
                L.Dense(3, name="head"),
            ],
            name="frames_lstm",
        )
    )


def mobilenet() -> Any:
    """At an odd size, where Keras pads evenly."""
    return drawn(keras.applications.MobileNetV2(weights=None, input_shape=(97, 97, 3), classes=10))


def resnet() -> Any:
    return drawn(keras.applications.ResNet50V2(weights=None, input_shape=(64, 64, 3), classes=10))


def vgg() -> Any:
    return drawn(keras.applications.VGG16(weights=None, input_shape=(64, 64, 3), classes=10))


def densenet() -> Any:
    return drawn(keras.applications.DenseNet121(weights=None, input_shape=(64, 64, 3), classes=10))


def efficientnet() -> Any:
    """Inside a model; it scales and normalises pixels itself. At an odd size, where Keras pads evenly."""
    inner = keras.applications.EfficientNetB0(weights=None, input_shape=(65, 65, 3), classes=10)
    return drawn(keras.Sequential([keras.Input((65, 65, 3)), L.Rescaling(255.0), inner]))


Network = tuple[Callable[[], Any], str | None, tuple[int, ...]]
"""What makes a network, a layer of it (None for the default layer), and the shape of one sample."""

SMALL: dict[str, Network] = {
    "cnn": (cnn, None, (16, 16, 3)),
    "transfer": (transfer, "backbone/add", (16, 16, 3)),
    "conv1d": (conv1d, None, (32, 4)),
    "conv3d": (conv3d, None, (6, 12, 12, 3)),
    "frames_lstm": (frames_lstm, None, (4, 12, 12, 3)),
}

# Of activations of both signs Grad-CAM++ has poles, where a channel's sum times its gradient is -2. Near
# one, a sum of
# ResNet50V2, all backends and plain PyTorch were found 5e-4 to 1e-3 off float64, and 3e-6 with every other
# method: so it is explained after a ReLU.
LARGE: dict[str, Network] = {
    "mobilenet": (mobilenet, None, (97, 97, 3)),
    "resnet": (resnet, "conv4_block4_preact_relu", (64, 64, 3)),
    "vgg": (vgg, None, (64, 64, 3)),
    "densenet": (densenet, "conv5_block16_concat", (64, 64, 3)),
    "efficientnet": (efficientnet, None, (65, 65, 3)),
}


def outputs(model: Any, x: np.ndarray) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(model(x, training=False)))


def samples(shape: tuple[int, ...], count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, *shape)).astype(np.float32)
