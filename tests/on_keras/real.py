"""`real.py WEIGHTS.safetensors PICTURES.npy OUT.npz CLASS…`: MobileNetV2 with torchvision's weights."""

import sys
from typing import Any

import keras
import numpy as np
from safetensors.numpy import load_file

import chronocam as cc


def place(name: str) -> tuple[bool, list[int]]:
    """Return what sorts layers as they are called: the features by their numbers, then the classifier."""
    return not name.startswith("features"), [int(part) for part in name.split(".") if part.isdigit()]


def converted(path: str, size: int) -> Any:
    """Return `keras.applications.MobileNetV2` with torchvision's weights, matched in the order of layers.

    Batch norms of Keras add 1e-3 to the variance, those of torchvision 1e-5: gamma makes up for it. At even
    sizes Keras pads strided convolutions at the bottom and on the right only, torchvision on all sides and
    leaves out the
    last row and column: a network of mirrored kernels does to a mirrored picture what torchvision's does to
    the plain one. At odd sizes (that stay odd, as 225 does down to 8 cells) both pad evenly.
    """
    model = keras.applications.MobileNetV2(weights=None, input_shape=(size, size, 3))
    saved = load_file(path)
    prefixes = iter(
        sorted({name.removesuffix(".weight") for name in saved if name.endswith(".weight")}, key=place)
    )
    for layer in (layer for layer in model.layers if layer.weights):
        prefix = next(prefixes)
        kernel = saved[f"{prefix}.weight"]
        if kernel.ndim == 4 and size % 2 == 0:
            kernel = kernel[:, :, ::-1, ::-1]
        if isinstance(layer, keras.layers.BatchNormalization):
            mean, variance = saved[f"{prefix}.running_mean"], saved[f"{prefix}.running_var"]
            gamma = kernel * np.sqrt((variance + layer.epsilon) / (variance + 1e-5))
            layer.set_weights([gamma, saved[f"{prefix}.bias"], mean, variance])
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            layer.set_weights([kernel.transpose(2, 3, 0, 1)])
        elif isinstance(layer, keras.layers.Conv2D):
            layer.set_weights([kernel.transpose(2, 3, 1, 0)])
        else:
            layer.set_weights([kernel.T, saved[f"{prefix}.bias"]])
    return model


if __name__ == "__main__":
    weights, pictures, out, *classes = sys.argv[1:]
    x = np.load(pictures)
    model = converted(weights, x.shape[1])
    step = -1 if x.shape[1] % 2 == 0 else 1
    x = np.ascontiguousarray(x[:, ::step, ::step])
    targets = [cc.targets.Class(int(c)) for c in classes]
    explanation = cc.GradCAM(model).explain(x, targets)
    logits = keras.ops.convert_to_numpy(keras.ops.log(model(x, training=False)))
    np.savez(out, maps=explanation.maps[..., ::step, ::step], scores=explanation.scores, logits=logits)
