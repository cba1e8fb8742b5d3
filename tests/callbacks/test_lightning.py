"""Maps while Lightning trains: what was logged is read back, and the training is the same as without."""

import io
import pickle
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image
from torch import nn

import chronocam as cc
from chronocam.callbacks.lightning import _as_found, _package
from chronocam.errors import ChronocamError, InputError, ModelError

SAMPLES = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(1))
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*(num_workers|shuffling enabled|no `val_dataloader`).*"),
]


class Net(lightning.LightningModule):
    """A small classifier whose training needs random numbers, and whose evaluation differs from it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        self.seen: list[Any] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, _: int) -> None:
        self(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.05)


class ByHand(lightning.Callback):
    """Draws what is to be logged, by another method on the network as it is at the end of the epoch."""

    def __init__(self) -> None:
        self.drawn: list[list[np.ndarray]] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.eval()
        rows = cc.GradCAM(pl_module).explain(SAMPLES, 1).overlay(SAMPLES)
        self.drawn.append([row[0] for row in rows])
        pl_module.train()


def fit(tmp_path: Path, *callbacks: Any, validate: bool = True, **options: Any) -> lightning.Trainer:
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.rand(8, 3, 12, 12), torch.arange(8) % 3)
    usual: dict[str, Any] = {"max_epochs": 2, "logger": False, "num_sanity_val_steps": 1}
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        default_root_dir=tmp_path,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **usual | options,
    )
    batches = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)
    trainer.fit(Net(), batches, batches if validate else None)
    return trainer


def files(folder: Path) -> dict[str, np.ndarray]:
    return {
        path.relative_to(folder).as_posix(): np.asarray(Image.open(path))
        for path in sorted(folder.rglob("*.png"))
    }


@pytest.fixture
def _tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard, which imports TensorFlow unless it finds this module."""
    pytest.importorskip("tensorboard")
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", ModuleType("notf"))


@pytest.mark.usefixtures("_tensorboard")
def test_event_files_hold_the_pictures_drawn_by_hand(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    hand = ByHand()
    logger = TensorBoardLogger(tmp_path)
    fit(tmp_path, hand, cc.callbacks.LightningCallback(SAMPLES, 1, labels=["a", "b", "c"]), logger=logger)
    events = EventAccumulator(logger.log_dir, {"images": 0, "tensors": 0}).Reload()
    assert events.Tags()["images"] == ["gradcam/0", "gradcam/1", "gradcam/2"]
    for sample in range(3):
        logged = events.Images(f"gradcam/{sample}")
        assert [event.step for event in logged] == [2, 4]
        for event, drawn in zip(logged, hand.drawn, strict=True):
            with Image.open(io.BytesIO(event.encoded_image_string)) as image:
                np.testing.assert_array_equal(np.asarray(image), drawn[sample])
        (text, _) = events.Tensors(f"gradcam/{sample}/text_summary")
        assert text.tensor_proto.string_val[0].startswith(b"b ")
    assert not np.array_equal(hand.drawn[0][0], hand.drawn[1][0])
    assert not files(tmp_path)


@pytest.mark.parametrize("validate", [True, False], ids=["validated", "trained alone"])
def test_files_where_no_logger_takes_pictures(tmp_path: Path, validate: bool) -> None:
    hand = ByHand()
    fit(tmp_path, hand, cc.callbacks.LightningCallback(SAMPLES, 1), validate=validate)
    found = files(tmp_path)
    assert len(found) == 6
    for epoch, drawn in enumerate(hand.drawn):
        for sample, pixels in enumerate(drawn):
            name = f"gradcam/{sample}/epoch={epoch}-step={2 * epoch + 2}.png"
            np.testing.assert_array_equal(found[name], pixels)


def test_files_lie_where_the_logger_writes(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, version="one")
    fit(tmp_path, cc.callbacks.LightningCallback(SAMPLES, every_n_epochs=2), logger=logger)
    assert sorted(files(Path(logger.log_dir))) == [f"gradcam/{i}/epoch=1-step=4.png" for i in range(3)]


@pytest.mark.usefixtures("_tensorboard")
def test_a_folder_that_is_asked_for_gets_files_beside_the_loggers(tmp_path: Path) -> None:
    maps = cc.callbacks.LightningCallback(SAMPLES[:1], log_dir=tmp_path / "kept")
    fit(tmp_path, maps, logger=TensorBoardLogger(tmp_path / "logs"), max_epochs=1)
    assert list(files(tmp_path)) == ["kept/gradcam/0/epoch=0-step=2.png"]


def test_targets_stand_side_by_side_under_the_name_asked_for(tmp_path: Path) -> None:
    options: dict[str, Any] = {"conv_layer": "body.0", "labels": ["a", "b", "c"], "tag": "held-out/maps"}
    maps = cc.callbacks.LightningCallback(SAMPLES[:1], ["a", "c"], method="layercam", **options)
    trainer = fit(tmp_path, maps, max_epochs=1)
    (pixels,) = files(tmp_path / "held-out" / "maps").values()
    net = trainer.lightning_module.eval()
    ((a, c),) = cc.LayerCAM(net, "body.0").explain(SAMPLES[:1], [0, 2]).overlay(SAMPLES[:1])
    np.testing.assert_array_equal(pixels, np.hstack([a, c]))


def test_a_function_explains_a_part_of_the_module(tmp_path: Path) -> None:
    class Whole(Net):
        forward = lightning.LightningModule.forward

        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.Sequential(self.body, self.head)

    def of_parts(module: Whole, **options: Any) -> cc.GradCAM:
        return cc.GradCAM(module.parts, **options)

    net = Whole()
    maps = cc.callbacks.LightningCallback(SAMPLES, 1, method=of_parts)
    maps.on_train_start(SimpleNamespace(strategy=None, log_dir=tmp_path, is_global_zero=True), net)
    expected = cc.GradCAM(net.parts.eval()).explain(SAMPLES, 1).overlay(SAMPLES)
    for picture, (drawn,) in zip(maps._pictures(0), expected, strict=True):
        np.testing.assert_array_equal(picture.pixels, drawn)


def test_pictures_are_prepared_as_everywhere_else(tmp_path: Path) -> None:
    photo = Image.fromarray(np.arange(30 * 30 * 3, dtype=np.uint8).reshape(30, 30, 3))

    def preprocess(image: Image.Image) -> torch.Tensor:
        return torch.tensor(np.asarray(image.resize((12, 12))) / 255.0).permute(2, 0, 1).float()

    trainer = fit(tmp_path, cc.callbacks.LightningCallback([photo], 2, preprocess=preprocess), max_epochs=1)
    net = trainer.lightning_module.eval()
    ((drawn,),) = cc.GradCAM(net, preprocess=preprocess).explain([photo], 2).overlay([photo])
    (pixels,) = files(tmp_path).values()
    assert pixels.shape == (30, 30, 3)
    np.testing.assert_array_equal(pixels, drawn)


def test_the_training_is_the_same_as_without(tmp_path: Path) -> None:
    """Weights, running statistics and the optimizer's state agree to the bit, with dropout and shuffling."""

    def restless(module: nn.Module, **options: Any) -> cc.SmoothGrad:
        torch.rand(1)
        return cc.SmoothGrad(module, **options)

    noisy = cc.callbacks.LightningCallback(SAMPLES, 1, method=restless)
    plain, watched = fit(tmp_path), fit(tmp_path, cc.callbacks.LightningCallback(SAMPLES, 1), noisy)
    for one, other in (
        (plain.lightning_module.state_dict(), watched.lightning_module.state_dict()),
        (plain.optimizers[0].state_dict()["state"], watched.optimizers[0].state_dict()["state"]),
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert len(files(tmp_path)) == 12


def test_modes_and_gradients_are_left_as_found() -> None:
    net = Net()
    net.body[1].eval()
    net(SAMPLES).sum().backward()
    grads = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    callback = cc.callbacks.LightningCallback(SAMPLES)
    trainer = SimpleNamespace(strategy=None, log_dir=".", is_global_zero=True)
    random = torch.get_rng_state()
    callback.on_train_start(trainer, net)
    assert [m.training for m in (net, net.body[1], net.body[3], net.head)] == [True, False, True, True]
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), grads, strict=True))
    with pytest.raises(ZeroDivisionError), _as_found(net):
        torch.rand(1).item() / any(m.training for m in net.modules())
    assert [m.training for m in (net, net.body[1], net.body[3])] == [True, False, True]
    assert torch.equal(random, torch.get_rng_state())


class Wandb(WandbLogger):
    """W&B's logger without W&B."""

    experiment = name = version = None
    save_dir = "."

    def __init__(self) -> None:
        self.logged: list[Any] = []

    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        self.logged.append((key, images, step, kwargs))


class MLFlow(MLFlowLogger):
    """MLflow's logger without MLflow."""

    name = version = None
    run_id, save_dir = "run", "."
    experiment = property(lambda self: self)

    def __init__(self) -> None:
        self.logged: list[Any] = []

    def log_image(self, run_id: str, image: Any, **options: Any) -> None:
        self.logged.append((run_id, image, options))


def test_loggers_of_wandb_and_mlflow_get_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for logger in (Wandb, MLFlow):
        for name in ("finalize", "log_hyperparams", "log_graph", "save"):
            monkeypatch.setattr(logger, name, lambda *_, **__: None, raising=False)
    wandb, mlflow, hand = Wandb(), MLFlow(), ByHand()
    maps = cc.callbacks.LightningCallback(SAMPLES, 1, labels=["a", "b", "c"])
    fit(tmp_path, hand, maps, logger=[wandb, mlflow])
    assert [(key, step) for key, _, step, _ in wandb.logged] == [
        (f"gradcam/{i}", step) for step in (2, 4) for i in range(3)
    ]
    assert [(run, options) for run, _, options in mlflow.logged] == [
        ("run", {"key": f"gradcam/{i}", "step": step}) for step in (2, 4) for i in range(3)
    ]
    drawn = [pixels for of_epoch in hand.drawn for pixels in of_epoch]
    for pixels, (_, (image,), _, kwargs), (_, other, _) in zip(
        drawn, wandb.logged, mlflow.logged, strict=True
    ):
        np.testing.assert_array_equal(image, pixels)
        np.testing.assert_array_equal(other, pixels)
        assert kwargs["caption"][0].startswith("b ")
    assert not files(tmp_path)


def test_clips_are_frames_side_by_side(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv3d(3, 2, 3, padding=1), nn.AdaptiveAvgPool3d(1), nn.Flatten()).eval()
    clips = torch.rand(1, 3, 15, 6, 7)
    callback = cc.callbacks.LightningCallback(clips, 0)
    callback._bind(net)
    (picture,) = callback._pictures(0)
    ((frames,),) = cc.GradCAM(net).explain(clips, 0).overlay(clips)
    np.testing.assert_array_equal(picture.pixels, np.hstack(frames[::2]))


def test_what_does_not_fit_is_told_before_the_first_epoch(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="every_n_epochs is 0; expected a number of epochs, at least 1"):
        cc.callbacks.LightningCallback(SAMPLES, every_n_epochs=0)
    with pytest.raises(InputError, match="no method `gradcamm`; did you mean `gradcam`"):
        cc.callbacks.LightningCallback(SAMPLES, method="gradcamm")
    for samples, targets in ((SAMPLES, 9), (SAMPLES[0], 0), (SAMPLES, "cat")):
        with pytest.raises(ChronocamError) as raised:
            fit(tmp_path, cc.callbacks.LightningCallback(samples, targets))
        assert "\n" not in str(raised.value)
    assert not files(tmp_path)


def test_a_later_failure_is_a_warning(tmp_path: Path) -> None:
    maps = cc.callbacks.LightningCallback(SAMPLES)

    class Breaks(lightning.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            maps.targets = [None, 9][trainer.current_epoch]

    with pytest.warns(UserWarning, match=r"no maps of epoch 1: .*9"):
        trainer = fit(tmp_path, maps, Breaks())
    assert trainer.current_epoch == 2
    assert len(files(tmp_path)) == 3


def test_files_that_cannot_be_written_are_a_warning(tmp_path: Path) -> None:
    (tmp_path / "gradcam").write_text("no folder")
    with pytest.warns(UserWarning, match=r"no maps of epoch 0: cannot write `.*`: .*; choose another place"):
        trainer = fit(tmp_path, cc.callbacks.LightningCallback(SAMPLES))
    assert trainer.current_epoch == 2


def test_the_caption_says_why_a_map_is_blank() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    maps = cc.callbacks.LightningCallback(SAMPLES[:1], cc.targets.Counter(0), labels=["a", "b"])
    maps._bind(net)
    (picture,) = maps._pictures(0)
    assert re.fullmatch(r"against a -\S+ \| sample 0, against a: .* negative: .*", picture.caption)


def test_sharded_modules_are_refused() -> None:
    class FSDPStrategy: ...

    trainer = SimpleNamespace(strategy=FSDPStrategy())
    with pytest.raises(ModelError, match="no process holds the whole module under FSDPStrategy"):
        cc.callbacks.LightningCallback(SAMPLES).on_train_start(trainer, Net())


def test_other_processes_make_no_maps(tmp_path: Path) -> None:
    callback = cc.callbacks.LightningCallback(SAMPLES)
    trainer = SimpleNamespace(strategy=None, log_dir=tmp_path, is_global_zero=False, current_epoch=0)
    callback.on_train_start(trainer, None)
    assert callback._pictures(0) == []


def test_nothing_is_kept_of_a_fast_run(tmp_path: Path) -> None:
    fit(tmp_path, cc.callbacks.LightningCallback(SAMPLES), fast_dev_run=True)
    assert not files(tmp_path)


def test_a_callback_can_be_pickled_as_other_processes_need_it() -> None:
    class_of = type(cc.callbacks.LightningCallback(SAMPLES))
    copy = pickle.loads(pickle.dumps(cc.callbacks.LightningCallback(SAMPLES, every_n_epochs=3)))
    assert type(copy) is class_of
    assert isinstance(copy, (lightning.Callback, cc.callbacks.LightningCallback))
    assert copy.every_n_epochs == 3


def test_the_name_that_was_imported_is_the_one_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_lightning", ModuleType("pytorch_lightning"))
    assert _package() == "lightning.pytorch"
    monkeypatch.delitem(sys.modules, "lightning.pytorch")
    assert _package() == "pytorch_lightning"
