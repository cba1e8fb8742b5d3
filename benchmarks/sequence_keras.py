"""Time of LRP through an LSTM of Keras as a ratio to one compiled forward pass, interleaved in one process.

One backend per process: `KERAS_BACKEND=jax python -m benchmarks.sequence_keras`. The size is 53 steps of
1,024 features, a hidden state of 1,000 and 15 classes at every step; one output is explained, or all of
them. First calls, with what they compile, are timed by themselves.
"""

from __future__ import annotations

import click
import keras
import numpy as np

import chronocam as cc
from benchmarks.harness import interleaved, print_ratios, working
from benchmarks.speed_keras import FLOOR, forward, limit

STEPS, FEATURES, HIDDEN, CLASSES = 53, 1024, 1000, 15


@click.command()
@click.option("--layer", type=click.Choice(["LSTM", "GRU", "SimpleRNN"]), default="LSTM", show_default=True)
@click.option("--rounds", default=15, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(layer: str, rounds: int, threads: int) -> None:
    """Print the times of LRP and of the gradient beside those of a forward pass."""
    limit(threads)
    recurrent = getattr(keras.layers, layer)(HIDDEN, return_sequences=True)
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), recurrent, keras.layers.Dense(CLASSES)])
    x = np.random.default_rng(0).normal(size=(1, STEPS, FEATURES)).astype("float32")
    one, every = cc.targets.Step(-1, 3), cc.targets.EveryStep()
    lrp, gradient = cc.sequence.LRP(model), cc.sequence.Gradient(model)
    size = f"{layer}, {STEPS} × {FEATURES}, hidden {HIDDEN}"
    print(f"{size}, {threads} threads, {keras.backend.backend()}, Keras {keras.__version__}")
    entries = {
        FLOOR: forward(model, x)[FLOOR],
        "LRP, one output": lambda: lrp.explain(x, one),
        "gradient, one output": lambda: gradient.explain(x, one),
        f"LRP, {STEPS} outputs": lambda: lrp.explain(x, every),
    }
    print_ratios(interleaved(working(entries), rounds), FLOOR)


if __name__ == "__main__":
    main()
