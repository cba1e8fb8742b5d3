"""The digits network in Keras, for a library of Keras alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from torch import nn

from benchmarks.truth.worlds import Case

METHODS = {
    "Gradcam": "gradcam",
    "GradcamPlusPlus": "gradcam_plus_plus",
    "Layercam": "layercam",
    "Scorecam": "scorecam",
    "Saliency": "saliency",
}
"""Methods of tf-keras-vis by the module that they are in."""


def keras_copy(network: Any) -> Any:
    """Return the same network in Keras, channels last."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import keras

    x = inputs = keras.Input((96, 96, 3))
    weights: list[tuple[Any, list[np.ndarray]]] = []
    for module in network.features.modules():
        if isinstance(module, nn.Conv2d):
            x = keras.layers.ZeroPadding2D(1)(x)
            layer = keras.layers.Conv2D(module.out_channels, 3, module.stride, use_bias=False)
            weights.append((layer, [module.weight.detach().numpy().transpose(2, 3, 1, 0)]))
            x = layer(x)
        elif isinstance(module, nn.BatchNorm2d):
            layer = keras.layers.BatchNormalization(epsilon=module.eps)
            names = ("weight", "bias", "running_mean", "running_var")
            weights.append((layer, [getattr(module, name).detach().numpy() for name in names]))
            x = layer(x)
        elif isinstance(module, nn.ReLU):
            x = keras.layers.ReLU()(x)
    head = keras.layers.Dense(10)
    weights.append(
        (head, [network.classifier.weight.detach().numpy().T, network.classifier.bias.detach().numpy()])
    )
    model = keras.Model(inputs, head(keras.layers.GlobalAveragePooling2D()(x)))
    for layer, values in weights:
        layer.set_weights(values)
    return model


def tf_keras_vis(network: Any) -> dict[str, Callable[[Case], np.ndarray]]:
    """Return the methods of tf-keras-vis by their names; none where it is not installed."""
    if find_spec("tf_keras_vis") is None:
        return {}
    made: dict[str, Any] = {}

    def of(name: str, case: Case) -> np.ndarray:
        # TensorFlow is loaded last: torchvision cannot be loaded after it.
        if "model" not in made:
            made["model"] = keras_copy(network)
        if name not in made:
            method = getattr(import_module(f"tf_keras_vis.{METHODS[name]}"), name)
            made[name] = method(made["model"], model_modifier=None, clone=False)
        x = np.moveaxis(case.inputs, 1, -1)
        return np.asarray(made[name](lambda output: output[:, case.index], x))[0]

    return {f"tf-keras-vis:{name}": lambda case, name=name: of(name, case) for name in METHODS}
