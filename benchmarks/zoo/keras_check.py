"""Check the default call on keras.applications, in a process of its own, which prints a line of JSON each.

By hand, a second model returns the layer's output beside the scores, and TensorFlow's tape the gradient.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import asdict
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import keras
import numpy as np
import tensorflow as tf

import chronocam as cc
from benchmarks.zoo.check import SAME_MAP
from benchmarks.zoo.outcome import SECONDS, Outcome, limit
from chronocam.errors import ChronocamError, first_line

MODELS = {
    "ConvNeXtTiny": 64,
    "DenseNet121": 96,
    "EfficientNetB0": 96,
    "EfficientNetV2B0": 96,
    "InceptionResNetV2": 160,
    "InceptionV3": 160,
    "MobileNet": 128,
    "MobileNetV2": 128,
    "MobileNetV3Small": 128,
    "NASNetMobile": 128,
    "ResNet50": 96,
    "ResNet50V2": 96,
    "VGG16": 96,
    "Xception": 128,
}


KNOWN = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.MaxPooling2D)
"""Layers whose axes are rows, columns and channels, in this order."""


def outcome_of(name: str, side: int) -> Outcome:
    """Build a model, explain it with no layer named, and judge what comes out."""
    start = time.perf_counter()

    def end(verdict: str, reason: str = "", **more: Any) -> Outcome:
        took = round(time.perf_counter() - start, 2)
        return Outcome("keras", name, f"keras {name}", verdict, reason, seconds=took, **more)

    keras.utils.set_random_seed(0)
    try:
        with limit(2 * SECONDS):
            model = getattr(keras.applications, name)(
                weights=None, classes=10, input_shape=(side, side, 3), classifier_activation=None
            )
            enliven(model, side)
    except Exception as error:  # builders fail in their own ways
        return end("not built", f"{type(error).__name__}: {first_line(error)}")
    x = np.random.default_rng(0).standard_normal((1, side, side, 3)).astype("float32")
    try:
        with limit(2 * SECONDS):
            explanation = cc.GradCAM(model, signed=True).explain(x)
    except ChronocamError as error:
        return end("refused", first_line(error))
    except TimeoutError as error:
        return end("not built", str(error))
    except Exception as error:  # whatever it is, users should have got a ChronocamError
        return end("wrong", f"{type(error).__name__}: {first_line(error)}")
    about = {
        "layer": explanation.layer,
        "grid": tuple(explanation.maps.shape[2:]),
        "findings": tuple(explanation.diagnostics),
    }
    try:
        with limit(4 * SECONDS):
            reason = fault(model, x, explanation)
    except Exception as error:  # the check by hand failed
        return end("not built", f"check by hand: {type(error).__name__}: {first_line(error)}", **about)
    return end("wrong" if reason else "right", reason, **about)


def enliven(model: keras.Model, side: int) -> None:
    """Give batch norms the statistics of noise."""
    norms = [one for one in model.layers if isinstance(one, keras.layers.BatchNormalization)]
    before = [one.momentum for one in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(np.random.default_rng(2).standard_normal((4, side, side, 3)).astype("float32"), training=True)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum


def fault(model: keras.Model, x: np.ndarray, explanation: cc.Explanation) -> str:
    """Return what is wrong with an explanation, or an empty text."""
    found = np.asarray(explanation.maps[0, 0], np.float64)
    path = explanation.layer.partition("#")[0]
    layer = next(one for one in model.operations if one.name == path)
    after = model.operations[model.operations.index(layer) + 1 :]
    later = [one.name for one in after if has_grid(one) and not isinstance(one, keras.layers.Dropout)]
    if later:
        return f"too early: `{later[-1]}` has a grid too and comes after it"
    both = keras.Model(model.inputs, [layer.output, model.output])
    with tf.GradientTape() as tape:
        activations, outputs = both(tf.constant(x), training=False)
        tape.watch(activations)
        score = tf.reduce_max(outputs[0])
    gradient = tape.gradient(score, activations)
    a, g = (np.asarray(one, np.float64)[0] for one in (activations, gradient))
    if abs(float(score) - float(explanation.scores[0, 0])) > 1e-4 * max(1.0, abs(float(score))):
        return f"score {float(explanation.scores[0, 0]):.6g}, by hand {float(score):.6g}"
    if a.shape[:-1] != found.shape:
        return f"a layer of shape {a.shape} has no grid {found.shape}"
    by_hand = (a * g.mean((0, 1))).sum(-1)
    difference = float(np.abs(found - by_hand).max() / (np.abs(by_hand).max() or 1.0))
    if difference > SAME_MAP:
        return f"differs from the map by hand by {difference:.1e}"
    known = {tuple(one.output.shape[1:3]) for one in model.operations if isinstance(one, KNOWN)}
    return "" if found.shape in known else f"no convolution of the model has the grid {found.shape}"


def has_grid(layer: Any) -> bool:
    """Say whether a layer returns rows and columns, more than one of each."""
    shape = getattr(layer.output, "shape", ())
    return len(shape) == 4 and shape[1] > 1 and shape[2] > 1


@click.command()
@click.option("--only", default="", help="Run models whose name holds this pattern.")
@click.argument("names", nargs=-1)
def main(only: str, names: tuple[str, ...]) -> None:
    """Check the models but those of these NAMES, as the page has them."""
    for name, side in MODELS.items():
        if re.search(only, f"keras {name}") and f"keras {name}" not in names:
            print(json.dumps(asdict(outcome_of(name, side))), flush=True)
            keras.backend.clear_session()


if __name__ == "__main__":
    main()
