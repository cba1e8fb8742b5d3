"""The run on pictures with Keras, on any of its backends."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from jaxtyping import Int

from chronocam.errors import InputError
from chronocam.jsonable import Json
from chronocam.lab.models.keras_images import builder, finished, head_at, image_net, in_precision
from chronocam.lab.models.trained import KERAS_IMAGES
from chronocam.lab.train.images.run import ImagesRun
from chronocam.lab.train.keras.batches import Batches
from chronocam.lab.train.keras.loop import AdamW, Bar, Keeper, Rate
from chronocam.lab.train.keras.weights import start_from
from chronocam.lab.train.run import STDERR, Figures, write_files
from chronocam.lab.train.settings import ImageSettings
from chronocam.models.sources.keras_applications import recipe

_POLICIES: Final = {"32-true": "float32", "16-mixed": "mixed_float16", "bf16-mixed": "mixed_bfloat16"}


class KerasImagesRun(ImagesRun):
    """A network of keras.applications, trained on pictures by Keras' `fit`."""

    checkpoint_name = "last.npz"

    def __init__(self, settings: ImageSettings) -> None:
        builder(settings.model)
        if settings.threads is not None:
            _set_threads(settings.threads)
        super().__init__(settings)
        keras.utils.set_random_seed(settings.seed)
        with _device(settings.accelerator):
            net = image_net(settings.model, len(self.labels), settings.size)
            if settings.weights is not None:
                net = start_from(net, settings.weights, settings.model)
            preprocess = recipe(builder(settings.model), net)
            policy = _POLICIES[settings.precision]
            self.net: Any = net if policy == "float32" else in_precision(net, policy)
        self.find(preprocess)
        self.batches: dict[str, Batches] = {
            name: Batches(part, settings, preprocess, self.unread, name == "train")
            for name, part in self.parts.items()
        }
        fields = {name: value for name, value in asdict(preprocess).items() if name != "crop"}
        self.network = {
            "format": KERAS_IMAGES,
            "arch": settings.arch,
            "labels": list(self.labels),
            "preprocess": {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()},
        }

    def fit(self) -> tuple[int, list[Figures]]:
        """Train, from the beginning or from a checkpoint; return the best epoch and the figures of all."""
        settings, lessons = self.settings, self.batches["train"]
        identity = {**self.network, "freeze": settings.freeze, "precision": settings.precision}
        keeper = Keeper(settings, settings.seed, lessons, identity)
        with _device(settings.accelerator):
            self._compile(settings.epochs * lessons.num_batches)
            if self.last is not None:
                keeper.restore(self.net, self.last)
            if not keeper.done:
                self.net.fit(
                    lessons,
                    validation_data=self.batches["validation"],
                    epochs=settings.epochs,
                    initial_epoch=len(keeper.history),
                    callbacks=[keeper, *([Bar(lessons.num_batches)] if STDERR.is_terminal else [])],
                    shuffle=False,  # the batches know their order
                    verbose=0,
                )
            keeper.restore_best(self.net)
        return keeper.best, keeper.history

    def _compile(self, steps: int) -> None:
        settings, head = self.settings, self.net.layers[head_at(self.net)]
        for layer in self.net.layers:
            layer.trainable = not settings.freeze or layer is head
        new = set(map(id, head.trainable_variables))
        faster = [settings.head_lr if id(variable) in new else 1 for variable in self.net.trainable_variables]
        optimiser: Any = AdamW(Rate(settings.lr, steps), settings.weight_decay, faster)
        if settings.precision == "16-mixed":
            optimiser = keras.optimizers.LossScaleOptimizer(optimiser)
        optimiser.build(self.net.trainable_variables)
        weighted = "mean_with_sample_weight"  # what could not be read does not count
        self.net.compile(
            optimiser,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=weighted),
            weighted_metrics=[
                keras.metrics.SparseCategoricalCrossentropy("cross_entropy", from_logits=True),
                keras.metrics.SparseCategoricalAccuracy("accuracy"),
            ],
        )

    def answers(self) -> tuple[Int[np.ndarray, " picture"], Int[np.ndarray, " picture"]]:
        """Return the true class of each readable held-out picture, and the class that the network names."""
        truth: list[int] = []
        answers: list[int] = []
        with _device(self.settings.accelerator):
            for pictures, labels, weights in self.batches["test"]:
                logits = self.net.predict_on_batch(pictures)
                truth += labels[weights > 0].tolist()
                answers += logits.argmax(1)[weights > 0].tolist()
        return np.array(truth, int), np.array(answers, int)

    def write(self, record: Json) -> Path:
        """Write the network, as Keras saves it, and the record; return the record's path."""
        versions = {"keras": keras.__version__, "backend": keras.backend.backend()}
        record = {**record, "versions": versions}
        return write_files(self.settings.out, record, "model.keras", finished(self.net).save)


def _device(accelerator: str) -> AbstractContextManager[Any]:
    """Return the scope in which Keras computes there. Raises InputError where there is no such device."""
    if accelerator == "auto":
        return nullcontext()
    try:
        with keras.device(accelerator):
            device = str(keras.ops.zeros(1).device).lower().replace("cuda", "gpu")
    except (RuntimeError, ValueError):
        device = "none"
    if accelerator not in device:  # TensorFlow takes another one without a word
        problem = f"accelerator `{accelerator}` is not available on the {keras.backend.backend()} backend"
        raise InputError(f"{problem}; pass cpu, or auto")
    scope: AbstractContextManager[Any] = keras.device(accelerator)
    return scope


def _set_threads(count: int) -> None:
    """Limit the threads of the CPU. Raises InputError where the backend cannot, or has started already."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        torch.set_num_threads(count)
    elif backend == "tensorflow":
        import tensorflow as tf

        try:
            tf.config.threading.set_intra_op_parallelism_threads(count)
        except RuntimeError as error:
            raise InputError(
                f"threads is {count}, but TensorFlow has started already; drop --threads"
            ) from error
    else:
        raise InputError(
            f"threads is {count}, but the {backend} backend cannot limit threads; drop --threads"
        )
