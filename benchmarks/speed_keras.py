"""Time of maps of Keras models as ratios to one forward pass, beside peers, interleaved in one process.

One backend per process: `KERAS_BACKEND=jax python -m benchmarks.speed_keras`. The ratio
of an entry is the median over rounds of its time over that round's forward pass, compiled (on PyTorch in
inference mode). First calls, with what they compile, are timed by themselves. Prints every setting.
"""

from __future__ import annotations

import platform
from typing import Any

import click
import keras
import numpy as np

import chronocam as cc
from benchmarks.harness import Entries, interleaved, print_ratios, working

NETWORKS = {"MobileNetV2": "out_relu", "ResNet50V2": "post_relu"}
"""Each with the last layer that has a grid."""

FLOOR = "forward (the floor)"


def limit(threads: int) -> None:
    """Give the backend so many threads; XLA's own pool takes all cores."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        torch.set_num_threads(threads)
    elif backend == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)


def forward(model: Any, x: np.ndarray) -> Entries:
    def eager() -> Any:
        return keras.ops.convert_to_numpy(model(x, training=False))

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(lambda x: model(x, training=False))
        return {FLOOR: lambda: np.asarray(compiled(tf.constant(x))), "forward (eager)": eager}
    if backend == "jax":
        import jax

        state = [[v.value for v in of] for of in (model.trainable_variables, model.non_trainable_variables)]
        call = jax.jit(lambda state, x: model.stateless_call(*state, x, training=False)[0])
        return {FLOOR: lambda: np.asarray(call(state, x)), "forward (eager)": eager}
    import torch

    def inference() -> Any:
        with torch.inference_mode():
            return eager()

    return {FLOOR: inference, "forward (eager)": eager}  # nothing is compiled on PyTorch


def ours(model: Any, layer: str, x: np.ndarray) -> Entries:
    gradcam, saliency = cc.GradCAM(model, layer), cc.Saliency(model)
    classes = np.tile(np.arange(5), (len(x), 1))
    five = ("gradcam", "hirescam", "layercam", "gradcam++", "xgradcam")
    return {
        "chronocam Grad-CAM, last block": lambda: gradcam.explain(x, 0),
        "chronocam 5 methods": lambda: cc.explain(model, x, 0, methods=five, layers=[layer]),
        "chronocam Grad-CAM, 5 classes": lambda: gradcam.explain(x, classes),
        "chronocam Saliency": lambda: saliency.explain(x, 0),
        "chronocam Saliency, 5 classes": lambda: saliency.explain(x, classes),
    }


def xplique(model: Any, layer: str, x: np.ndarray) -> Entries:
    from xplique.attributions import GradCAM, Saliency

    one_hot = np.eye(model.output_shape[-1], dtype=np.float32)[[0] * len(x)]
    gradcam, saliency = GradCAM(model, conv_layer=layer), Saliency(model)
    return {
        "xplique Grad-CAM (probability)": lambda: gradcam.explain(x, one_hot),
        "xplique Saliency (probability)": lambda: saliency.explain(x, one_hot),
    }


def tf_keras_vis(model: Any, layer: str, x: np.ndarray) -> Entries:
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.utils.scores import CategoricalScore

    score, gradcam, saliency = CategoricalScore([0] * len(x)), Gradcam(model), Saliency(model)
    raw = {"expand_cam": False, "normalize_cam": False, "seek_penultimate_conv_layer": False}
    return {
        "tf-keras-vis Grad-CAM (probability)": lambda: gradcam(score, x, penultimate_layer=layer, **raw),
        "tf-keras-vis Saliency (probability)": lambda: saliency(score, x, normalize_map=False),
    }


def entries(model: Any, layer: str, x: np.ndarray) -> Entries:
    every = forward(model, x) | ours(model, layer, x)
    if keras.backend.backend() == "tensorflow":
        for peer in (tf_keras_vis, xplique):  # the latter last: it leaves calls of layers replaced
            try:
                every |= peer(model, layer, x)
            except ImportError as error:
                click.echo(f"{peer.__name__} cannot be imported ({error}): left out", err=True)
    return every


@click.command()
@click.option("--rounds", default=15, show_default=True)
@click.option("--network", type=click.Choice(list(NETWORKS)), default="ResNet50V2", show_default=True)
@click.option("--batch", default=8, show_default=True)
@click.option("--size", default=224, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--only", default="", help="Only entries whose name holds this text.")
def main(rounds: int, network: str, batch: int, size: int, threads: int, only: str) -> None:
    limit(threads)
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, network)(weights=None, input_shape=(size, size, 3))
    x = np.random.default_rng(0).standard_normal((batch, size, size, 3), dtype=np.float32)
    machine = platform.processor() or platform.machine()
    print(
        f"{network}, batch {batch} of {x.shape[1:]}, {threads} threads, {rounds} rounds; "
        f"Keras {keras.__version__} on {keras.backend.backend()}, {machine}"
    )
    every = entries(model, NETWORKS[network], x)
    able = working({name: run for name, run in every.items() if only in name or name == FLOOR})
    print_ratios(interleaved(able, rounds), FLOOR)


if __name__ == "__main__":
    main()
