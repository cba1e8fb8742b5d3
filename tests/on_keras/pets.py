"""A small two-class folder of pictures, and a small network that keras.applications is made to have."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image, ImageDraw

L = keras.layers
SIDE = 40

preprocess_input = keras.applications.vgg16.preprocess_input


def Tiny(
    weights: Any = None,
    classes: int = 1000,
    input_shape: Any = None,
    classifier_activation: str | None = "softmax",
) -> Any:
    """Convolutions, BatchNorm, a fully connected layer, Dropout: VGG in small."""
    assert weights is None
    if input_shape is not None and input_shape[0] < 8:
        raise ValueError("Input size must be at least 8x8")
    x = image = keras.Input(input_shape or (32, 32, 3))
    x = L.Conv2D(8, 3, padding="same", use_bias=False, name="block1_conv1")(x)
    x = L.BatchNormalization(momentum=0.5, name="block1_bn")(x)
    x = L.MaxPooling2D(name="block1_pool")(L.ReLU(name="block1_relu")(x))
    x = L.Conv2D(12, 3, padding="same", activation="relu", name="block5_conv3")(x)
    x = L.Flatten(name="flatten")(L.MaxPooling2D(4, name="block5_pool")(x))
    x = L.Dropout(0.2, name="dropout")(L.Dense(16, activation="relu", name="fc1")(x))
    return keras.Model(
        image, L.Dense(classes, activation=classifier_activation, name="predictions")(x), name="tiny"
    )


def picture(rng: np.random.Generator, label: str) -> Image.Image:
    """Draw a bright disc or a dark triangle on a noisy ground."""
    image = Image.fromarray(np.clip(rng.normal(120, 20, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8))
    pen, (x, y) = ImageDraw.Draw(image), rng.integers(12, SIDE - 12, 2).tolist()
    if label == "cats":
        pen.ellipse((x - 10, y - 10, x + 10, y + 10), fill=(250, 200, 100))
    else:
        pen.polygon([(x, y - 10), (x + 10, y + 10), (x - 10, y + 10)], fill=(20, 10, 60))
    return image


def write(root: Path) -> Path:
    """Write folders of splits with two classes; one training picture is broken."""
    for number, (part, count) in enumerate({"train": 16, "validation": 6, "test": 10}.items()):
        rng = np.random.default_rng(number)
        for label in ("cats", "dogs"):
            (root / part / label).mkdir(parents=True)
            for index in range(count):
                picture(rng, label).save(root / part / label / f"{index}.png")
    (root / "train" / "cats" / "3.png").write_bytes(b"not a picture")
    return root
