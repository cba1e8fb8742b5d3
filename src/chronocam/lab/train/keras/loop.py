"""Optimiser, whole checkpoints and progress for Keras' `fit`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from zipfile import BadZipFile

import keras
import numpy as np
from rich.progress import Progress

from chronocam.errors import InputError, first_line
from chronocam.jsonable import Json
from chronocam.lab.train.keras.batches import Batches
from chronocam.lab.train.run import STDERR, Figures, folder, insist_on_same, say_epoch, share_of_rate
from chronocam.lab.train.settings.base import Settings
from chronocam.media.files import replace_file
from chronocam.models.specs import Model

Tensor: TypeAlias = Any
"""A tensor of whichever backend Keras runs on."""

Variable: TypeAlias = Any
"""A variable of Keras, which ships no types."""


class AdamW(keras.optimizers.Adam):  # type: ignore[misc]
    """Adam with decoupled weight decay, θ ← θ − η λ θ before each step, and a rate for each variable.

    Keras' own decays all variables at the same rate.

    faster: the factor of the rate of each variable.
    """

    def __init__(self, rate: Rate, decay: float, faster: Sequence[float]) -> None:
        super().__init__(rate)
        self.decay: float = decay
        self.faster: tuple[Any, ...] = tuple(faster)

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        """Change one variable."""
        rate = learning_rate * self.faster[self._get_variable_index(variable)]
        self.assign_sub(variable, variable * keras.ops.cast(rate * self.decay, variable.dtype))
        super().update_step(gradient, variable, rate)


class Rate(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A learning rate that follows `share_of_rate`."""

    def __init__(self, highest: float, steps: int) -> None:
        self.values: np.ndarray = np.array(
            [highest * share_of_rate(step, steps) for step in range(steps)], np.float32
        )

    def __call__(self, step: Tensor) -> Tensor:
        """Return the rate at a step."""
        return keras.ops.take(self.values, keras.ops.cast(step, "int32"))


class Keeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps the best weights and all that a run goes on from, and stops one that gets no better.

    Each file appears once it is whole, and all that a run depends on is in one. Keras' BackupAndRestore
    writes several in place, and its EarlyStopping begins to count anew in a run that goes on.
    """

    def __init__(self, settings: Settings, seed: int, lessons: Batches, identity: Json) -> None:
        super().__init__()
        self.settings = settings
        self.seed = seed
        self.lessons = lessons
        self.identity = identity
        self.history: list[Figures] = []

    @property
    def best(self) -> int:
        """The epoch with the lowest validation loss."""
        losses = [np.nan_to_num(figures["val_loss"], nan=np.inf) for figures in self.history]
        return int(np.argmin(losses))

    @property
    def done(self) -> bool:
        """Whether there is nothing left to train."""
        epochs, patience = len(self.history), self.settings.patience
        # Counted from the history, not by a counter: a run that continues waits as one that never stopped.
        waited = epochs - 1 - self.best if epochs else 0
        return epochs >= self.settings.epochs or (patience is not None and waited >= patience)

    def on_epoch_begin(self, epoch: int, logs: Figures | None = None) -> None:
        """Let order, changes and dropout depend on the epoch alone: resumed or not, the same draws."""
        self.lessons.epoch = epoch
        rng = np.random.default_rng((self.seed, epoch, 2))
        keras.utils.set_random_seed(int(rng.integers(2**31)))  # dropout on PyTorch has its own generator
        # Dropout layers keep seeds of their own, outside the weights: a resumed run would have others.
        for state in _seeds(self.model):
            state.assign(rng.integers(2**31, size=2))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Note and print the figures of the epoch, and write what is kept."""
        read = {
            "train_loss": "cross_entropy",
            "val_loss": "val_cross_entropy",
            "val_accuracy": "val_accuracy",
        }
        figures = {name: float((logs or {})[key]) for name, key in read.items()}
        self.history.append({"epoch": epoch, **figures})
        say_epoch(self.history[-1])
        if self.best == epoch:
            _write(folder(self.settings) / "best.npz", self.model.weights)
        meta = json.dumps({"identity": self.identity, "history": self.history})
        _write(folder(self.settings) / "last.npz", _state(self.model), meta=np.asarray(meta))
        self.model.stop_training = self.done

    def restore(self, model: Model, last: Path) -> None:
        """Restore a model and its optimiser as an interrupted run left them.

        Raises InputError for another network.
        """
        try:
            with np.load(last, allow_pickle=False) as file:
                state, arrays = json.loads(str(file["meta"])), {name: file[name] for name in file.files}
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise InputError(
                f"`{last}` is damaged ({first_line(error)}); train again in a new folder"
            ) from error
        insist_on_same(last, state["identity"], self.identity)
        _assign(_state(model), arrays)
        self.history = state["history"]

    def restore_best(self, model: Model) -> None:
        """Give a model the weights of the best epoch."""
        with np.load(folder(self.settings) / "best.npz", allow_pickle=False) as file:
            _assign(model.weights, file)


def _write(path: Path, variables: list[Variable], **more: np.ndarray) -> None:
    arrays: Json = {f"{i}": keras.ops.convert_to_numpy(v.value) for i, v in enumerate(variables)}
    replace_file(path, lambda temporary: np.savez(temporary, **arrays | more))


def _assign(variables: list[Variable], arrays: Mapping[str, np.ndarray]) -> None:
    for place, variable in enumerate(variables):
        variable.assign(arrays[f"{place}"])


def _state(model: Model) -> list[Variable]:
    """Return all that a step of training changes, but for the seeds, which each epoch sets."""
    return [*model.weights, *model.optimizer.variables]


def _seeds(model: Model) -> list[Variable]:
    weights = set(map(id, model.weights))
    return [
        variable for variable in model.variables if id(variable) not in weights and "seed" in variable.name
    ]


class Bar(keras.callbacks.Callback):  # type: ignore[misc]
    """A bar on stderr that shows how far an epoch is."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def on_train_begin(self, logs: Figures | None = None) -> None:
        """Begin to draw."""
        self.progress: Progress = Progress(console=STDERR, transient=True)
        self.progress.start()
        self.task = self.progress.add_task("", total=self.steps)

    def on_epoch_begin(self, epoch: int, logs: Figures | None = None) -> None:
        """Begin an epoch."""
        self.progress.reset(self.task, description=f"Epoch {epoch}", total=self.steps)

    def on_train_batch_end(self, batch: int, logs: Figures | None = None) -> None:
        """Go one step on."""
        self.progress.advance(self.task)

    def on_train_end(self, logs: Figures | None = None) -> None:
        """Leave nothing behind."""
        self.progress.stop()
