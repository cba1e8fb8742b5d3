"""A callback for Lightning."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chronocam.callbacks._base import MapCallback, Picture, warned
from chronocam.callbacks._files import write_files
from chronocam.errors import ModelError

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from torch import nn

_PACKAGES: Final = ("lightning.pytorch", "pytorch_lightning")
_SHARDED: Final = ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy")


class LightningCallback(MapCallback):
    """Log maps of fixed samples each epoch that Lightning trains.

    samples: what is explained: a batch as the model takes it, on any device, or a list of pictures, clips or
        paths where the preprocessing is known. Few are enough: each costs a forward and a backward pass.
    targets: as for `cc.explain`; None is the class that is predicted in each epoch.
    method: a command-line name, a method class, or a function that makes a method of the module and options,
        such as one that explains a part of it.
    labels: the names of the classes.
    preprocess: makes the model's input of one picture.
    every_n_epochs: 5 logs the fifth epoch, the tenth, and so on, of those that are validated.
    tag: what pictures are called, `tag/0`, `tag/1`, …; None is the method's name. Two callbacks of one method
        need two.
    log_dir: a folder for PNG files; None is the trainer's, and only where no logger of it takes pictures.
    options: what the method takes, such as `conv_layer`.

    Maps are made after validation, or after the training epoch where there is none, by the first process
    alone, in evaluation mode; the module, its gradients and the states of random numbers are left as found.
    Pictures go to the trainer's loggers of TensorBoard, W&B and MLflow, at its `global_step`; where it has
    none of these, to PNG files. With `fast_dev_run` they are made and not kept.

    Raises a ChronocamError before the first epoch where no maps can be made; later that is a warning.

    Example:
    >>> import lightning
    >>> maps = cc.callbacks.LightningCallback(images, "dog", labels=["cat", "dog", "bird"])
    >>> trainer = lightning.Trainer(callbacks=[maps], accelerator="cpu", logger=False, barebones=True)
    """

    _folder: Path

    @staticmethod
    def _framework() -> type:
        package = import_module(_package())
        callback: type = package.Callback
        return callback

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bind the method to the module."""
        strategy = type(trainer.strategy).__name__
        if strategy in _SHARDED:
            raise ModelError(
                f"no process holds the whole module under {strategy}, so that none can make maps of it; "
                "train with ddp, or explain its checkpoints afterwards"
            )
        # All processes have to ask for it.
        self._folder = Path(self.log_dir or trainer.log_dir or trainer.default_root_dir)
        if trainer.is_global_zero:
            with _as_found(pl_module):
                self._bind(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log maps of the module that was validated; not of the sanity check before the training."""
        self._log(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log maps where nothing is validated."""
        if not trainer.enable_validation:
            self._log(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let go of the module."""
        self._bound = None

    def _log(self, trainer: Any, module: LightningModule) -> None:
        epoch, step = trainer.current_epoch, trainer.global_step
        with warned(epoch):
            with _as_found(module):
                pictures = self._pictures(epoch)
            if trainer.fast_dev_run or not pictures:
                return
            known = [(write, logger) for logger in trainer.loggers if (write := _writer(logger))]
            for write, logger in known:
                for picture in pictures:
                    write(logger, picture, step)
            if not known or self.log_dir is not None:
                write_files(self._folder, pictures, f"epoch={epoch}-step={step}")


def _package() -> str:
    """Return the name under which Lightning is used here, which has two."""
    for known in (sys.modules.__contains__, lambda name: find_spec(name.partition(".")[0])):
        for name in filter(known, _PACKAGES):
            return name
    raise ImportError("LightningCallback needs Lightning; pip install 'chronocam[train]'")


@contextmanager
def _as_found(module: nn.Module) -> Iterator[None]:
    """Evaluate a module, and leave it in the modes it was in, and random numbers in the states they had."""
    numbers = import_module(f"{_package()}.utilities.seed").isolate_rng()
    modes = [(one, one.training) for one in module.modules()]
    numbers.__enter__()
    try:
        # Not by `eval` and `train`, which some modules take for an occasion to do more.
        for one, _ in modes:
            one.training = False
        yield
    finally:
        for one, mode in modes:
            one.training = mode
        # It would not restore anything if it heard of an error.
        numbers.__exit__(None, None, None)


def _writer(logger: Any) -> Any:
    """Return what writes a picture to a logger; None for one that takes none."""
    names = [cls.__name__ for cls in type(logger).__mro__]
    return next((_WRITERS[name] for name in names if name in _WRITERS), None)


def _to_tensorboard(logger: Any, picture: Picture, step: int) -> None:
    logger.experiment.add_image(picture.tag, picture.pixels, step, dataformats="HWC")
    logger.experiment.add_text(picture.tag, picture.caption, step)


def _to_wandb(logger: Any, picture: Picture, step: int) -> None:
    logger.log_image(picture.tag, [picture.pixels], step, caption=[picture.caption])


def _to_mlflow(logger: Any, picture: Picture, step: int) -> None:
    logger.experiment.log_image(logger.run_id, picture.pixels, key=picture.tag, step=step)


_WRITERS: Final = {
    "TensorBoardLogger": _to_tensorboard,
    "WandbLogger": _to_wandb,
    "MLFlowLogger": _to_mlflow,
}
