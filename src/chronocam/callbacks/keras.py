"""A callback for Keras."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from chronocam.callbacks._base import MapCallback, Picture, warned
from chronocam.callbacks._files import EventFile, write_files
from chronocam.errors import ModelError

_LOGS: Final = "logs"  # as in Keras' own callback for TensorBoard


class KerasCallback(MapCallback):
    """Log maps of fixed samples each epoch that Keras trains, on any backend.

    samples, targets, method, labels, preprocess, every_n_epochs, tag, options: as for `LightningCallback`.
    log_dir: the folder given to `keras.callbacks.TensorBoard`, too; None is `logs`, unless a run of W&B or
        MLflow is active.

    Maps are made at the end of the epoch, after validation, by the first process alone, at inference; the
    states of random numbers are left as found. Pictures go to event files in `log_dir/maps` where TensorBoard
    is installed, else to PNG files there; and to the active run of W&B or MLflow. Their step is the epoch,
    counted from zero.

    Raises a ChronocamError before the first epoch where no maps can be made; later that is a warning.

    Example:
    >>> import keras
    >>> maps = cc.callbacks.KerasCallback(images, "dog", log_dir="logs", every_n_epochs=5)
    >>> isinstance(maps, keras.callbacks.Callback)
    True
    """

    model: Any
    _events: EventFile | None = None

    @staticmethod
    def _framework() -> type:
        if find_spec("keras") is None:
            raise ImportError("KerasCallback needs Keras 3; pip install 'chronocam[keras]' and a backend")
        callback: type = import_module("keras").callbacks.Callback
        return callback

    def on_train_begin(self, logs: Any = None) -> None:
        """Bind the method to the model."""
        if _is_first(self.model):
            with _same_numbers():
                self._bind(self.model)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Log maps."""
        # On JAX, asking for the model is what brings its weights up to date.
        _ = self.model
        with warned(epoch):
            with _same_numbers():
                pictures = self._pictures(epoch)
            if pictures:
                self._write(pictures, epoch)

    def on_train_end(self, logs: Any = None) -> None:
        """Let go of the model."""
        self._bound = None
        if self._events is not None:
            self._events.close()
            self._events = None

    def _write(self, pictures: Sequence[Picture], epoch: int) -> None:
        active = [write for write in (_to_wandb, _to_mlflow) if write(pictures, epoch)]
        if active and self.log_dir is None:
            return
        folder = Path(self.log_dir or _LOGS) / "maps"
        if find_spec("tensorboard") is None:
            write_files(folder, pictures, f"epoch={epoch}")
            return
        if self._events is None:
            self._events = EventFile(folder)
        self._events.write(pictures, epoch)


def _is_first(model: Any) -> bool:
    """Say whether this process makes the maps: the first of those that train the model.

    Raises ModelError where all would have to make them together.
    """
    match _backend():
        case "tensorflow":
            # What TensorFlow asks before it writes summaries.
            return bool(model.distribute_strategy.extended.should_save_summary)
        case "torch":
            ranks: Any = import_module("torch").distributed
            return not (ranks.is_available() and ranks.is_initialized()) or ranks.get_rank() == 0
        case "jax":
            jax: Any = import_module("jax")
            shared = import_module("keras").distribution.distribution() is not None
            if shared and jax.process_count() > 1:
                raise ModelError(
                    f"{jax.process_count()} processes of JAX hold the model together, so that none can make "
                    "maps of it alone; explain its checkpoints afterwards"
                )
            return int(jax.process_index()) == 0
    return True


@contextmanager
def _same_numbers() -> Iterator[None]:
    """Leave random numbers in the states they had; those of Keras are seeded from Python's."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002  # what others use is kept
    try:
        with _same_torch_numbers():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def _same_torch_numbers() -> AbstractContextManager[Any]:
    if _backend() != "torch":
        return nullcontext()
    torch: Any = import_module("torch")
    kept: AbstractContextManager[Any] = torch.random.fork_rng(range(torch.cuda.device_count()))
    return kept


def _backend() -> str:
    return str(import_module("keras").backend.backend())


def _to_wandb(pictures: Sequence[Picture], epoch: int) -> bool:
    """Log pictures to the active run of W&B; say whether there is one."""
    wandb: Any = sys.modules.get("wandb")
    if wandb is None or wandb.run is None:
        return False
    images = {one.tag: wandb.Image(one.pixels, caption=one.caption) for one in pictures}
    wandb.log({**images, "epoch": epoch})
    return True


def _to_mlflow(pictures: Sequence[Picture], epoch: int) -> bool:
    """Log pictures to the active run of MLflow; say whether there is one."""
    mlflow: Any = sys.modules.get("mlflow")
    if mlflow is None or mlflow.active_run() is None:
        return False
    for one in pictures:
        mlflow.log_image(one.pixels, key=one.tag, step=epoch)
    return True
